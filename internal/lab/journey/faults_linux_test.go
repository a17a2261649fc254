package journey

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestFaults breaks everything that a container's identity hangs on, with every engine of
// this machine: a container does not start, or it starts with a valid identity. There is
// never a third thing.
func TestFaults(t *testing.T) {
	lab.Need(t, "users", "podman", "dockerd", "runc", "klist")
	dc := lab.Own(t, lab.OwnConfig{})
	t.Run("this machine", func(t *testing.T) { faults(t, dc, nil, engines) })
	t.Run("Debian 13", func(t *testing.T) { faults(t, dc, debian13(t), debian13Engines()) })
}

// startsWithin is how long a start may take that fails.
const startsWithin = 10 * time.Second

// A fault and what is to become of a container.
type fault struct {
	workload
	// refused has the texts of which one says why the container does not start. Without any
	// it starts.
	refused []string
}

// hostile replaces a path of an image by a link.
func hostile(path, target string) func(root string) error {
	return func(root string) error {
		at := filepath.Join(root, path)
		return errors.Join(os.RemoveAll(at), os.MkdirAll(filepath.Dir(at), 0o755), os.Symlink(target, at))
	}
}

func faults(t *testing.T, dc *lab.DC, host *lab.Machine, engines map[string]setup) {
	g := newGuard(t, dc, host)
	g.writeSpec("contoso_broken", "{")
	g.writeSpec("unpublished", "{}")
	outside := t.TempDir()
	table := map[string]fault{
		"nothing":                        {workload{spec: spec}, nil},
		"an unknown spec":                {workload{spec: "contoso_unknown"}, []string{"unresolvable CDI devices", "is not published", "there is no credential spec", "is not a file"}},
		"a spec that does not parse":     {workload{spec: "contoso_broken"}, []string{"unresolvable CDI devices", "credential spec"}},
		"a spec that no rule publishes":  {workload{spec: "unpublished"}, []string{"unresolvable CDI devices", "is not published"}},
		"a link at the mount point":      {workload{spec: spec, prepare: hostile("run/gmsa", "/etc")}, []string{"symbolic link", "not a directory"}},
		"a link above it":                {workload{spec: spec, prepare: hostile("run", outside)}, []string{"symbolic link"}},
		"a link at krb5.conf":            {workload{spec: spec, prepare: hostile("etc/krb5.conf", "/etc/shadow")}, []string{"symbolic link"}},
		"a mount above the mount point":  {workload{spec: spec, volumes: map[string]string{"/run": outside}}, []string{"something is mounted there", "read-only"}},
		"a read-only root, capabilities": {workload{spec: spec, uid: 1000, confined: true}, nil},
	}
	all := fleet{}
	for name, setup := range engines {
		all[name] = setup(t, g)
	}
	all.each(func(name string, e engine) {
		for what, f := range table {
			judge(t, e, name+": "+what, f)
		}
	})
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("outside of the containers: %v, %v", left, err)
	}
	agentFaults(t, g, all)
	for name, e := range all {
		killedWithItsHook(t, g, name, e)
	}
	if host == nil {
		manyAtOnce(t, g)
	}
	reloads(t, g, all)
	g.leavesNothing()
}

// A fleet is all engines, by name.
type fleet map[string]engine

// each calls f for all engines at once.
func (all fleet) each(f func(name string, e engine)) {
	var wg sync.WaitGroup
	for name, e := range all {
		wg.Go(func() { f(name, e) })
	}
	wg.Wait()
}

// judge starts a container and looks at what has become of it.
func judge(t *testing.T, e engine, what string, f fault) {
	t.Helper()
	began := time.Now()
	id, err := e.start(f.workload)
	took := time.Since(began)
	if err == nil {
		hasIdentity(t, e, what, id)
		if len(f.refused) > 0 {
			t.Errorf("%s: the container started", what)
		}
		if err := e.remove(id); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		return
	}
	for _, text := range f.refused {
		if strings.Contains(err.Error(), text) && took < startsWithin {
			return
		}
	}
	t.Errorf("%s: after %v: %v; want one of %q within %v", what, took, err, f.refused, startsWithin)
}

// hasIdentity looks from inside at a container that runs.
func hasIdentity(t *testing.T, e engine, what, id string) {
	t.Helper()
	out, err := e.exec(id, "env", "-u", "KRB5CCNAME", "-u", "KRB5_CONFIG", "/usr/bin/klist")
	if err != nil || !strings.Contains(strings.ToLower(out), "default principal: "+strings.ToLower(account)+"$@contoso.com") {
		t.Errorf("%s: the container runs without a valid identity: %v\n%s", what, err, out)
	}
}

// agentFaults hangs, kills and ends the agent beneath a container of each engine, and
// starts others.
func agentFaults(t *testing.T, g *guard, all fleet) {
	t.Helper()
	valid := workload{spec: spec, uid: 1000}
	running := map[string]string{}
	for name, e := range all {
		id, err := e.start(valid)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		running[name] = id
	}
	start := func(what string, refused ...string) {
		all.each(func(name string, e engine) { judge(t, e, name+": "+what, fault{valid, refused}) })
	}
	still := func(what string) {
		all.each(func(name string, e engine) { hasIdentity(t, e, name+": "+what, running[name]) })
	}
	pause(t, g, syscall.SIGSTOP)
	start("an agent that hangs", "the agent does not answer in time")
	pause(t, g, syscall.SIGCONT)
	if err := g.daemon.Kill(); err != nil {
		t.Fatal(err)
	}
	start("an agent that was killed", "no agent answers on")
	still("while there is no agent")
	g.serve()
	still("when the agent is back")
	start("an agent that is back")
	if err := g.daemon.Stop(); err != nil {
		t.Fatal(err)
	}
	// As at a boot: the containers are gone, their leases are not.
	all.each(func(name string, e engine) {
		if err := e.remove(running[name]); err != nil {
			t.Errorf("%s: removal without an agent: %v", name, err)
		}
	})
	if left := g.leases(); len(left) != len(all) {
		t.Errorf("leases of an agent that has ended: %v", left)
	}
	g.serve()
	g.leavesNothing()
}

// leases are the directories of all.
func (g *guard) leases() []string {
	g.Helper()
	list, err := filepath.Glob(g.dir + "/leases/[0-9a-f]*")
	if err != nil {
		g.Fatal(err)
	}
	return list
}

// pause signals the agent.
func pause(t *testing.T, g *guard, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(g.daemon.PID(), sig); err != nil {
		t.Fatal(err)
	}
}

// killedWithItsHook kills a container's first process while its hook waits for the agent.
func killedWithItsHook(t *testing.T, g *guard, name string, e engine) {
	t.Helper()
	pause(t, g, syscall.SIGSTOP)
	var wg sync.WaitGroup
	wg.Go(func() {
		judge(t, e, name+": a container that was killed with its hook running", fault{workload{spec: spec}, []string{"hook", "exit", "process"}})
	})
	lab.Eventually(t, 15*time.Second, func() error {
		pid, err := g.waiting()
		if err == nil {
			err = syscall.Kill(pid, syscall.SIGKILL)
		}
		return err
	})
	pause(t, g, syscall.SIGCONT)
	wg.Wait()
	g.leavesNothing()
}

// waiting is the first process of the container whose hook waits: the hook has its pidfd.
func (g *guard) waiting() (int, error) {
	hooks, err := g.hookProcesses()
	if err != nil {
		return 0, err
	}
	for _, hook := range hooks {
		infos, err := filepath.Glob(hook + "/fdinfo/*")
		if err != nil {
			return 0, err
		}
		for _, info := range infos {
			b, err := os.ReadFile(info)
			if err != nil {
				continue
			}
			if _, text, ok := strings.Cut(string(b), "\nPid:\t"); ok {
				line, _, _ := strings.Cut(text, "\n")
				return strconv.Atoi(line)
			}
		}
	}
	return 0, errors.New("no hook holds a container's process")
}

// manyAtOnce starts 200 containers, 16 at a time, each of which ends at once.
func manyAtOnce(t *testing.T, g *guard) {
	t.Helper()
	c := g.container
	c.Args = []string{"klist"}
	c.Hooks = g.hooks(spec)
	r := lab.NewRunc(t)
	bundle := c.Bundle(t)
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for n := range numbers {
				out, err := r.Run("run", "--bundle", bundle, fmt.Sprintf("gmsa-many-%d-%d", os.Getpid(), n))
				if err != nil || !strings.Contains(strings.ToLower(out), "default principal: "+strings.ToLower(account)+"$@") {
					t.Errorf("container %d: %v\n%s", n, err, out)
				}
			}
		})
	}
	for n := range 200 {
		numbers <- n
	}
	close(numbers)
	wg.Wait()
}

// reloads changes the configuration beneath the agent: rules for the next container, and
// what it says that only a restart changes.
func reloads(t *testing.T, g *guard, all fleet) {
	t.Helper()
	before, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	reload := func(old, next string) string {
		t.Helper()
		text := strings.Replace(string(before), old, next, 1)
		if err := os.WriteFile(g.config, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return g.gmsa("agent", "reload")
	}
	const cdi = "  cdi_directory: /etc/cdi"
	for _, next := range []string{"  cdi_directory: none", "  hook: /usr/bin/false\n" + cdi, "  hook_socket: /run/other.s\n" + cdi, "  nri_socket: none\n" + cdi} {
		old := cdi
		if strings.Contains(next, "hook:") {
			old = "  hook: " + g.hook + "\n" + cdi
		}
		if out := reload(old, next); !strings.Contains(out, "containers.hook_socket, hook, cdi_directory and nri_socket changes with a restart of the agent only") {
			t.Errorf("%s: gmsa agent reload says:\n%s", next, out)
		}
		all.each(func(name string, e engine) {
			if name == "docker" { // its runtime reads the configuration for each container
				return
			}
			judge(t, e, name+": "+next, fault{workload{spec: spec}, nil})
		})
	}
	reload(`"contoso_*"`, "nothing")
	all.each(func(name string, e engine) {
		judge(t, e, name+": a rule that was taken back", fault{workload{spec: spec}, []string{"unresolvable CDI devices", "is not published"}})
	})
	if _, err := os.Stat(g.devices()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("devices of no rule: %v", err)
	}
}
