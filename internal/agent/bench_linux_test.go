package agent

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/hookapi"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// benchGuard runs without a log, as the figures of a service should.
func benchGuard(b *testing.B) *guard {
	g := newGuard(b, func(c *config.Config) { c.Quotas.AllLeases, c.Quotas.Connections = 1<<20, 32 })
	g.cfg.Log = slog.New(slog.DiscardHandler)
	return g.start(b)
}

// BenchmarkWarmLeases makes and removes leases of one account through the
// socket, with 1 and with 16 clients; p99 is that of CreateLease.
func BenchmarkWarmLeases(b *testing.B) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			g := benchGuard(b)
			warm := g.create(b, mine("webapp01"))
			defer g.remove(b, warm.GetId())
			var wg sync.WaitGroup
			var next atomic.Int64
			times := make([][]time.Duration, clients)
			b.ResetTimer()
			cpu := cpuTime(b)
			for i := range clients {
				client, err := agentapi.Dial(g.cfg.Config.Socket)
				if err != nil {
					b.Fatal(err)
				}
				defer client.Close()
				wg.Go(func() {
					for next.Add(1) <= int64(b.N) {
						start := time.Now()
						reply, err := client.CreateLease(b.Context(), mine("webapp01"))
						times[i] = append(times[i], time.Since(start))
						if err != nil {
							b.Error(err)
							return
						}
						g.remove(b, reply.GetLease().GetId())
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			all := slices.Sorted(slices.Values(slices.Concat(times...)))
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "leases/s")
			b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-us/lease")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-us")
		})
	}
}

// cpuTime is what this process, agent and clients together, has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// remove ends a lease without the socket: the benchmark is of making them.
func (g *guard) remove(b *testing.B, id string) {
	parsed, err := lease.ParseID(id)
	if err != nil || !g.book.remove(g.book.find(parsed), "end of the benchmark") {
		b.Errorf("no lease %s", id)
	}
}

// BenchmarkRewrite is what a new ticket costs for each lease of its account.
func BenchmarkRewrite(b *testing.B) {
	g := benchGuard(b)
	l := g.create(b, mine("webapp01"))
	id, err := lease.ParseID(l.GetId())
	if err != nil {
		b.Fatal(err)
	}
	e := g.book.find(id)
	snap := e.holds[0].handle.Snapshot()
	b.ResetTimer()
	for range b.N {
		next := *snap
		next.Credentials = slices.Clone(snap.Credentials)
		next.Credentials[0].Ticket = fmt.Appendf(nil, "%p", &next)
		r, err := encode(&next)
		if err != nil {
			b.Fatal(err)
		}
		content, _, err := g.book.content(e, []*account.Snapshot{snap})
		if err != nil {
			b.Fatal(err)
		}
		content.Accounts[0].CCache = r.ccache
		if err := e.dir.Write(content); err != nil {
			b.Fatal(err)
		}
	}
}

// TestTenThousandLeases holds 10,000 leases in an agent of its own and looks at
// its memory and at what they cost on tmpfs.
func TestTenThousandLeases(t *testing.T) {
	if base := os.Getenv(crashEnv); base != "" {
		crashChild(base)
	}
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	g := newGuard(t, nil)
	k := &killed{t: t, g: g}
	cmd := exec.Command(os.Args[0], "-test.run=^TestTenThousandLeases$")
	cmd.Env = append(os.Environ(), crashEnv+"="+g.base)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	var err error
	if k.client, err = agentapi.Dial(g.cfg.Config.Socket); err != nil {
		t.Fatal(err)
	}
	defer k.client.Close()
	k.waitForAgent()
	const n = 10000
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(n)
	for range 8 {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				r := mine("webapp01")
				r.Keytab = true
				if _, err := k.client.CreateLease(t.Context(), r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	cost := pages(t, filepath.Join(g.base, "run")) / n
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	rss := field(t, string(status), "RssAnon:")
	t.Logf("%d leases: %d KiB of anonymous memory, %d bytes of tmpfs each, %s", n, rss, cost, runtime.Version())
	if limit := 60 << 10; rss > limit && !raceDetector {
		t.Errorf("%d KiB of memory, want under %d", rss, limit)
	}
	if cost >= 20<<10 {
		t.Errorf("%d bytes of tmpfs a lease, want under 20 KiB", cost)
	}
}

// pages is what the files below a directory of a tmpfs take up, in bytes. Other
// tests write to the same file system, so that its free space says nothing.
func pages(t *testing.T, dir string) int64 {
	t.Helper()
	var sum int64
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(path, &st)
		}
		sum += st.Blocks * 512
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// field reads a line of /proc/PID/status, in KiB.
func field(t *testing.T, status, name string) int {
	t.Helper()
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			var kib int
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatalf("no %s", name)
	return 0
}

// BenchmarkContainers asks for the identity of a container, as its hook does, and throws it
// away.
func BenchmarkContainers(b *testing.B) {
	lab.Need(b, "users", "unshare")
	g := newGuard(b, func(c *config.Config) {
		c.Quotas.AllLeases, c.Quotas.Requests = 1<<20, 1<<10
		c.Containers.Rules = []policy.ContainerRule{{CredentialSpecs: []string{"web"}, Runtimes: []string{policy.OtherRuntime}}}
	})
	g.cfg.Log = slog.New(slog.DiscardHandler)
	g.writeSpec(b, "web", "webapp01")
	g.start(b)
	cmd := exec.Command("sleep", "600")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, PidFD: new(int)}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	container := os.NewFile(uintptr(*cmd.SysProcAttr.PidFD), "pidfd")
	defer container.Close()
	b.ResetTimer()
	cpu := cpuTime(b)
	for range b.N {
		reply, mounts, err := hookapi.Call(b.Context(), g.cfg.Config.Containers.HookSocket, hookapi.Request{Op: hookapi.Attach, Container: "c", CredentialSpec: "web"}, container)
		if err != nil {
			b.Fatal(err)
		}
		closeFiles(mounts)
		g.remove(b, reply.Lease)
	}
	b.ReportMetric(float64((cpuTime(b)-cpu).Microseconds())/float64(b.N), "cpu-us/container")
}
