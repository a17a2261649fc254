//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// A guard is a running agent: the program itself, with its leases on a tmpfs of its
// own.
type guard struct {
	dir, leases string
	daemon      *lab.Daemon
	program     string
}

// newGuard builds the program, writes a configuration for the controller at an
// address and starts it.
func newGuard(r *run, dc *lab.DC, address string, more ...string) *guard {
	dir := r.TempDir()
	program, err := r.program.build()
	r.must(err)
	g := &guard{dir: dir, leases: mountTmpfs(r, dir+"/tmpfs") + "/leases", program: program}
	r.must(os.Mkdir(dir+"/specs", 0o755))
	r.must(os.WriteFile(dir+"/agent.yaml", fmt.Appendf(nil, `socket: %[1]s/agent.sock
state_directory: %[1]s/state
leases: {directory: %[2]s, units: %[1]s/units, allow_swap: true}
quotas: {connections: 128, requests: 256, all_leases: 65536}
credential_specs: [%[1]s/specs]
event_log: {path: %[1]s/events.jsonl, journal: false}
domains:
  %[3]s:
    servers: [%[4]s]
    host: {keytab: %[5]s, rotate_password: never}
%[6]s
`, dir, g.leases, lab.DNSDomain, address, dc.Keytab(r, "web1"), strings.Join(more, "\n")), 0o600))
	g.start(r)
	return g
}

// A program is gmsa, built once for all sections.
type program struct {
	once sync.Once
	dir  string
	path string
	err  error
}

// build makes the program as it is shipped and returns its path.
func (p *program) build() (string, error) {
	p.once.Do(func() {
		if p.dir, p.err = os.MkdirTemp("", "gmsa-bench-"); p.err != nil {
			return
		}
		p.path = filepath.Join(p.dir, "gmsa")
		cmd := exec.Command("go", "build", "-o", p.path, "github.com/opengmsa/opengmsa/cmd/gmsa")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			p.err = fmt.Errorf("build gmsa: %w\n%s", err, out)
		}
	})
	return p.path, p.err
}

// remove removes what build has made.
func (p *program) remove() { os.RemoveAll(p.dir) }

// mountTmpfs gives the section a tmpfs that nobody else writes to.
func mountTmpfs(r *run, dir string) string {
	r.must(os.MkdirAll(dir, 0o755))
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=1g"); err != nil {
		r.Fatalf("mount a tmpfs on %s: %v", dir, err)
	}
	r.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// start starts the agent and waits until it answers.
func (g *guard) start(r *run) {
	g.daemon = lab.StartDaemon(r, nil, g.program, "agent", "serve", "--config", g.dir+"/agent.yaml")
	client := g.dial(r)
	defer client.Close()
	lab.Eventually(r, 20*time.Second, func() error {
		if !g.daemon.Alive() {
			r.Fatalf("the agent has ended:\n%s", g.daemon.Log())
		}
		_, err := client.Status(r.ctx, &agentapi.StatusRequest{Summary: true})
		return err
	})
}

// kill ends the agent as a crash would.
func (g *guard) kill(r *run) { r.must(g.daemon.Kill()) }

// dial makes a connection of its own.
func (g *guard) dial(r *run) *agentapi.Client {
	c, err := agentapi.Dial(g.dir + "/agent.sock")
	r.must(err)
	return c
}

// leaseOf asks for one lease of an account that lasts until it is removed.
func leaseOf(ctx context.Context, c *agentapi.Client, account string) (*agentapi.Lease, error) {
	reply, err := c.CreateLease(ctx, &agentapi.CreateLeaseRequest{
		Subject:  &agentapi.CreateLeaseRequest_Account{Account: account},
		Uid:      1000,
		Gid:      1000,
		Workload: &agentapi.CreateLeaseRequest_UntilRemoved{UntilRemoved: true},
	})
	return reply.GetLease(), err
}

// cpu is the processor time of the agent so far.
func (g *guard) cpu(r *run) time.Duration { return cpuOfPID(r, g.daemon.PID()) }

// memory is a line of the agent's /proc/PID/status, in MB.
func (g *guard) memory(r *run, name string) float64 { return memoryOfPID(r, g.daemon.PID(), name) }

// tmpfs is what lies on the guard's tmpfs: bytes and inodes.
func (g *guard) tmpfs(r *run) (bytes, inodes uint64) {
	var s unix.Statfs_t
	r.must(unix.Statfs(filepath.Dir(g.leases), &s))
	return (s.Blocks - s.Bfree) * uint64(s.Bsize), s.Files - s.Ffree
}
