package journey

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// The gMSA of Microsoft's example, and the credential spec that names it.
const (
	account = "WebApp01"
	spec    = "contoso_webapp01"
)

// A guard is gmsa agent serve on a host of the domain, which publishes the spec to all
// engines.
type guard struct {
	*testing.T
	dc     *lab.DC
	dir    string // its files
	config string
	hook   string
	host   *lab.Machine // nil for this machine
	daemon daemon

	container lab.Container // the image of all containers
}

// A daemon is the agent's process.
type daemon interface {
	Stop() error
	Kill() error
	PID() int
}

// services are who knows the account by its tickets alone.
type services struct {
	postgres *lab.Postgres
	apache   *lab.Apache
	ssh      *lab.SSH
}

// TestTheJourney goes with every engine of this machine at once, on both controllers.
func TestTheJourney(t *testing.T) {
	lab.Need(t, "users", "podman", "dockerd", "runc", "psql", "curl", "ssh", "klist", "libfaketime")
	t.Run("Samba", func(t *testing.T) {
		dc := lab.Samba(t, lab.SambaConfig{Clock: true})
		t.Run("this machine", func(t *testing.T) { journey(t, dc, nil, engines) })
		t.Run("Debian 13", func(t *testing.T) { journey(t, dc, debian13(t), debian13Engines()) })
	})
	t.Run("gmsa", func(t *testing.T) {
		all := maps.Clone(engines)
		// runc copies what is below a tmpfs by way of the host's /tmp, as root of the namespace.
		all["podman in a user namespace"] = podmanWith("--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536", "--read-only-tmpfs=false")
		journey(t, lab.Own(t, lab.OwnConfig{Clock: true}), nil, all)
	})
}

// journey starts two containers with each of the engines, lets them log in to every
// service, rotates the password beneath them, and removes them.
func journey(t *testing.T, dc *lab.DC, host *lab.Machine, engines map[string]setup) {
	dc.Delete(t, "webapp01$")
	dc.AddGMSA(t, lab.GMSA{Name: account, Readers: []string{"web1$"}, SPNs: []string{"http/webapp01.contoso.com"}})
	s := services{
		postgres: lab.PostgresServer(t, dc),
		apache:   lab.WebServer(t, dc),
		ssh:      lab.SSHServer(t, dc, account+"$"),
	}
	s.postgres.Role(t, account+"$")
	g := newGuard(t, dc, host)
	var all []*container
	for name, setup := range engines {
		e := setup(t, g)
		for _, w := range []workload{{spec: spec, uid: 0}, {spec: spec + ":keytab", uid: 1000, confined: true}} {
			id, err := e.start(w)
			if err != nil {
				t.Fatalf("%s, %+v: %v", name, w, err)
			}
			all = append(all, &container{engine: e, id: id, workload: w, name: fmt.Sprintf("%s, uid %d", name, w.uid)})
		}
	}
	g.lists(all)
	before := map[*container]string{}
	for _, c := range all {
		before[c] = c.logsIn(t, s)
	}
	g.rotate(len(all))
	for _, c := range all {
		if after := c.logsIn(t, s); after == before[c] || after == "" {
			t.Errorf("%s has the ticket of before the rotation: %q", c.name, after)
		}
	}
	for _, c := range all {
		if err := c.remove(c.id); err != nil {
			t.Error(err)
		}
	}
	g.leavesNothing()
}

// newGuard starts the agent, on this machine or on another one.
func newGuard(t *testing.T, dc *lab.DC, host *lab.Machine) *guard {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "gmsa-journey-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	g := &guard{T: t, dc: dc, dir: dir, host: host, config: filepath.Join(dir, "agent.yaml"), hook: lab.BuildHook(t)}
	g.container = dc.Clocked(t, lab.Container{
		Programs: []string{"sh", "env", "sleep", "klist", "psql", "curl", "ssh"},
		UID:      1000, GID: 1000, // the one user beside root in the image
	})
	if host == nil {
		lab.CDIDirectory(t, filepath.Base(devices))
	}
	config := fmt.Sprintf(`domains:
  contoso.com:
    servers: [%s]
    host: {keytab: %s, rotate_password: never}
socket: %[3]s/agent.sock
leases: {directory: %[3]s/leases, allow_swap: true}
credential_specs: [%[3]s/specs]
state_directory: %[3]s/state
event_log: {path: %[3]s/ccg.jsonl, journal: false}
containers:
  hook: %s
  cdi_directory: %s
  rules: [{credential_specs: ["contoso_*"], runtimes: [podman, docker, containerd, cri-o, other], keytab: true, annotations: true}]
`, dc.IP, dc.Keytab(t, "web1"), dir, g.hook, filepath.Dir(devices))
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(dir+"/specs", 0o755), os.WriteFile(g.config, []byte(config), 0o644)); err != nil {
		t.Fatal(err)
	}
	g.writeSpec(spec, fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":%[1]q,"Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":%[1]q,"Scope":"contoso.com"}]}}`, account))
	g.serve()
	lab.Eventually(t, 20*time.Second, func() error {
		_, err := os.Stat(g.devices())
		return err
	})
	return g
}

// devices is where engines look for those that are published.
const devices = "/etc/cdi/gmsa.dev-credentialspec.json"

// devices is where this machine finds the file.
func (g *guard) devices() string {
	if g.host == nil {
		return devices
	}
	return g.host.Path(devices)
}

func (g *guard) writeSpec(name, text string) {
	g.Helper()
	if err := os.WriteFile(filepath.Join(g.dir, "specs", name+".json"), []byte(text), 0o644); err != nil {
		g.Fatal(err)
	}
}

// serve starts the agent, and waits until it answers.
func (g *guard) serve() {
	g.Helper()
	program, env := g.dc.OwnProgram(g)

	if g.host != nil {
		g.daemon = g.host.Service("/var/log/agent", "env", append(env, program, "agent", "serve", "--config", g.config)...)
	} else {
		g.daemon = lab.StartDaemon(g, env, program, "agent", "serve", "--config", g.config)
	}
	lab.Eventually(g, 20*time.Second, func() error {
		_, err := g.tryGMSA("lease", "list")
		return err
	})
}

// tryGMSA runs a command of gmsa on the agent's host.
func (g *guard) tryGMSA(args ...string) (string, error) {
	g.Helper()
	program, env := g.dc.OwnProgram(g)
	if g.host != nil {
		return g.host.Try(env, "", program, g.args(args...)...)
	}
	return lab.Try(env, "", program, g.args(args...)...)
}

func (g *guard) args(args ...string) []string {
	return append([]string{"--socket", g.dir + "/agent.sock"}, args...)
}

// gmsa runs a command of gmsa on the agent.
func (g *guard) gmsa(args ...string) string {
	g.Helper()
	out, err := g.tryGMSA(args...)
	if err != nil {
		g.Fatal(err)
	}
	return out
}

// hooks are the entries of config.json that the manual has.
func (g *guard) hooks(spec string) map[string][]lab.Hook {
	hook := func(stage string, args ...string) []lab.Hook {
		argv := append([]string{"gmsa-hook", stage, "--socket", filepath.Join(g.dir, "hook.sock")}, args...)
		return []lab.Hook{{Path: g.hook, Args: argv, Env: []string{"GOTRACEBACK=none"}, Timeout: 10}}
	}
	return map[string][]lab.Hook{"createRuntime": hook("createRuntime", "--spec", spec), "poststop": hook("poststop")}
}

// lists checks that gmsa lease list has a line for each container, by its name.
func (g *guard) lists(all []*container) {
	g.Helper()
	out := g.gmsa("lease", "list", "-o", "json")
	for _, c := range all {
		if !strings.Contains(out, c.id) {
			g.Errorf("gmsa lease list does not have the container of %s, %s:\n%s", c.name, c.id, out)
		}
	}
}

// rotate lets the password expire: the day of its interval passes for the domain, the
// host and the containers. The agent sees its clock jump, as that of a host that slept, and
// writes all leases again.
func (g *guard) rotate(leases int) {
	g.Helper()
	before := g.dc.KVNO(g, account+"$")
	old := g.caches(leases)
	g.dc.SetClock(g, g.dc.ClockOffset()+36*time.Hour)
	g.gmsa("agent", "reload")
	lab.Eventually(g, 20*time.Second, func() error {
		if now := g.dc.KVNO(g, account+"$"); now == before {
			return fmt.Errorf("the key's version is still %d", now)
		}
		for path, then := range old {
			if now, err := os.ReadFile(path); err != nil || bytes.Equal(now, then) {
				return fmt.Errorf("%s is as it was: %w", path, err)
			}
		}
		return nil
	})
}

// caches are the contents of the leases' caches.
func (g *guard) caches(leases int) map[string][]byte {
	g.Helper()
	paths, err := filepath.Glob(g.dir + "/leases/*/ccache")
	if err != nil || len(paths) != leases {
		g.Fatalf("caches %v, %v; want %d", paths, err, leases)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		if all[path], err = os.ReadFile(path); err != nil {
			g.Fatal(err)
		}
	}
	return all
}

// leavesNothing waits until there is no lease, no mount of one in any process, and no
// hook.
func (g *guard) leavesNothing() {
	g.Helper()
	lab.Eventually(g, 10*time.Second, func() error {
		if leases := g.leases(); len(leases) > 0 {
			return fmt.Errorf("leases are left: %v", leases)
		}
		hooks, err := g.hookProcesses()
		if len(hooks) > 0 {
			err = fmt.Errorf("hooks run on: %v", hooks)
		}
		return errors.Join(err, g.mountsLeft())
	})
}

// mountsLeft looks at every process's mounts for one of a lease.
func (g *guard) mountsLeft() error {
	files, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	for _, file := range files {
		// The source of a mount is its path on its file system, which is /dev/shm.
		if b, readErr := os.ReadFile(file); readErr == nil && strings.Contains(string(b), "/"+filepath.Base(g.dir)+"/leases/") {
			err = errors.Join(err, fmt.Errorf("a lease is mounted by %s", file))
		}
	}
	return err
}

// hookProcesses are the hooks that run, as directories of /proc.
func (g *guard) hookProcesses() ([]string, error) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	var dirs []string
	for _, link := range links {
		if program, readErr := os.Readlink(link); readErr == nil && program == g.hook {
			dirs = append(dirs, filepath.Dir(link))
		}
	}
	return dirs, err
}

// A container runs.
type container struct {
	engine
	workload
	id, name string
}

// logsIn logs in to every service from inside of the container, and looks at its
// identity without a variable of the environment. It gives the line of klist for the TGT.
func (c *container) logsIn(t *testing.T, s services) (ticket string) {
	t.Helper()
	client := account + "$@" + lab.Realm
	steps := []struct {
		argv []string
		want string
	}{
		{[]string{"env", "-u", "KRB5CCNAME", "-u", "KRB5_CONFIG", "/usr/bin/klist"}, "Default principal: " + client},
		{[]string{"psql", "-AtX", s.postgres.ConnInfo(account + "$"), "-c", lab.GSSQuery}, "t|" + client + "|t|" + account + "$"},
		{append([]string{"curl"}, s.apache.CurlArgs()...), "X-Remote-User: " + client},
		{append([]string{"ssh"}, s.ssh.Args(account+"$", "echo I am $USER")...), "I am " + account + "$"},
		{[]string{"sh", "-c", "for f in krb5.conf ccache x; do { echo >/run/gmsa/$f || echo cannot write; } 2>&1; done"}, "cannot write\n"},
	}
	// Engines take their time to run a program, and the container does not.
	var script strings.Builder
	for i, step := range steps {
		fmt.Fprintf(&script, "echo step %d; %s || echo step %[1]d failed\n", i, quoted(step.argv))
	}
	out, err := c.exec(c.id, "sh", "-c", script.String())
	if err != nil {
		t.Fatalf("%s: %v\n%s", c.name, err, out)
	}
	for i, step := range steps {
		_, part, _ := strings.Cut(out, fmt.Sprintf("step %d\n", i))
		part, _, _ = strings.Cut(part, fmt.Sprintf("step %d\n", i+1))
		if !strings.Contains(part, step.want) || strings.Contains(part, "failed\n") {
			t.Errorf("%s: %s: want %q in:\n%s", c.name, step.argv[0], step.want, part)
		}
		for line := range strings.Lines(part) {
			if strings.Contains(line, " krbtgt/"+lab.Realm) {
				ticket = line
			}
		}
	}
	return ticket
}

// quoted is a command for a shell.
func quoted(argv []string) string {
	var b strings.Builder
	for _, a := range argv {
		b.WriteString("'" + strings.ReplaceAll(a, "'", `'\''`) + "' ")
	}
	return b.String()
}
