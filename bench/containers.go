//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// How many containers are started, and how many at a time.
const (
	manyContainers = 200
	startsAtATime  = 16
)

// containers measures what the identity adds to a container's start, and what the guard
// takes with many of them. runc does nothing but start, so that the difference is the
// hook's and the guard's.
func containers(r *run) {
	dc := domain(r)
	g := newGuard(r, dc, dc.IP.String(), "containers:", "  cdi_directory: none", "  rules: [{credential_specs: [web], runtimes: [other]}]")
	g.writeSpec(r, "web", "webapp01")
	kinds := [3]starter{
		newStarter(r, nil),
		newStarter(r, map[string][]lab.Hook{"createRuntime": {{Path: "/bin/true", Args: []string{"true"}, Env: []string{"LC_ALL=C"}}}}),
		newStarter(r, g.hooks(r, "web")),
	}
	for _, s := range kinds {
		s.create(r, "warm-up")
		s.remove(r, "warm-up")
	}
	compare(r, kinds, 60, 1, atMost(5))
	compare(r, kinds, manyContainers/2, startsAtATime, aim{})
	steady(r, g, kinds[2])
}

// compare starts n containers of each kind in turn, some at a time, so that all have the
// same machine beneath them: without a hook, with one that does nothing, and with ours. It
// does so three times.
func compare(r *run, kinds [3]starter, n, parallel int, median aim) {
	bare := figure{name: fmt.Sprintf("runc create, %d at a time: p50", parallel), unit: "ms"}
	nothing := figure{name: "  added by a hook that runs /bin/true: p50", unit: "ms"}
	nothing99 := figure{name: "    p99", unit: "ms"}
	added := figure{name: "  added by an identity: p50", unit: "ms", aim: median}
	added99 := figure{name: "    p99", unit: "ms", aim: atMost(25)}
	for range 3 {
		var times [3]sample
		for k := range kinds {
			times[k] = make(sample, n)
		}
		inParallel(3*n, parallel, func(i int) { times[i%3][i/3] = ms(kinds[i%3].create(r, fmt.Sprint("c", i))) })
		inParallel(3*n, 2, func(i int) { kinds[i%3].remove(r, fmt.Sprint("c", i)) })
		more := func(k int, q float64) float64 { return times[k].quantile(q) - times[0].quantile(q) }
		bare.rounds = append(bare.rounds, times[0].median())
		nothing.rounds, nothing99.rounds = append(nothing.rounds, more(1, 0.5)), append(nothing99.rounds, more(1, 0.99))
		added.rounds, added99.rounds = append(added.rounds, more(2, 0.5)), append(added99.rounds, more(2, 0.99))
	}
	for _, f := range []figure{bare, nothing, nothing99, added, added99} {
		r.add(f)
	}
}

// steady is what the guard takes with many containers, and for each of their starts.
func steady(r *run, g *guard, hook starter) {
	idle, before, begin := g.memory(r, "RssAnon"), g.cpu(r), time.Now()
	inParallel(manyContainers, startsAtATime, func(i int) { hook.create(r, fmt.Sprint("s", i)) })
	r.add(figure{name: fmt.Sprintf("%d containers with an identity, %d at a time", manyContainers, startsAtATime), unit: "s",
		rounds: sample{time.Since(begin).Seconds()}})
	r.add(figure{name: "  processor time of the guard for one", unit: "us", rounds: sample{us(g.cpu(r)-before) / manyContainers}})
	const watched = 5 * time.Second
	var shares sample
	for range 3 {
		used := g.cpu(r)
		time.Sleep(watched)
		shares = append(shares, 100*float64(g.cpu(r)-used)/float64(watched))
	}
	r.add(figure{name: "  processor that the guard takes from then on", unit: "%", rounds: shares, note: "of one core"})
	r.add(figure{name: "  memory of the guard then", unit: "MB", rounds: sample{g.memory(r, "VmRSS")},
		note: fmt.Sprintf("resident; %s MB of it anonymous, %s before", number(g.memory(r, "RssAnon")), number(idle))})
	inParallel(manyContainers, 2, func(i int) { hook.remove(r, fmt.Sprint("s", i)) })
}

// writeSpec writes a credential spec for an account, and waits until the guard knows it.
func (g *guard) writeSpec(r *run, name, account string) {
	text := fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":%[1]q,"Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":%[1]q,"Scope":"contoso.com"}]}}`, account)
	r.must(os.WriteFile(filepath.Join(g.dir, "specs", name+".json"), []byte(text), 0o644))
	lab.Eventually(r, 10*time.Second, func() error {
		out, err := exec.CommandContext(r.ctx, g.program, "--socket", g.dir+"/agent.sock", "lease", "create", "--until-removed", "--credspec", name).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
}

// hooks are the entries of config.json.
func (g *guard) hooks(r *run, spec string) map[string][]lab.Hook {
	path := lab.BuildHook(r)
	hook := func(stage string, args ...string) []lab.Hook {
		argv := append([]string{"gmsa-hook", stage, "--socket", g.dir + "/hook.sock"}, args...)
		return []lab.Hook{{Path: path, Args: argv, Env: []string{"GOTRACEBACK=none"}, Timeout: 10}}
	}
	return map[string][]lab.Hook{"createRuntime": hook("createRuntime", "--spec", spec), "poststop": hook("poststop")}
}

// A starter makes containers of one bundle.
type starter struct {
	runc, state, bundle string
}

func newStarter(r *run, hooks map[string][]lab.Hook) starter {
	lab.Need(r, "users", "runc")
	path, err := exec.LookPath("runc")
	r.must(err)
	return starter{runc: path, state: r.tmpfs(), bundle: lab.Container{Programs: []string{"sleep"}, Args: []string{"sleep", "600"}, Hooks: hooks}.Bundle(r)}
}

// create makes a container, up to the point at which its program could be started, and
// tells how long that took. The hook runs within.
func (s starter) create(r *run, id string) time.Duration {
	log := filepath.Join(s.state, id+".log")
	cmd := exec.CommandContext(r.ctx, s.runc, "--root", s.state, "--log", log, "create", "--bundle", s.bundle, id)
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	if err != nil {
		text, _ := os.ReadFile(log)
		r.Errorf("runc create: %w\n%s", err, text)
	}
	return took
}

func (s starter) remove(r *run, id string) {
	if out, err := exec.CommandContext(r.ctx, s.runc, "--root", s.state, "delete", "--force", id).CombinedOutput(); err != nil {
		r.Errorf("runc delete: %w\n%s", err, out)
	}
}

// inParallel calls f for n numbers, some at a time.
func inParallel(n, parallel int, f func(int)) {
	numbers := make(chan int)
	var wg sync.WaitGroup
	for range parallel {
		wg.Go(func() {
			for i := range numbers {
				f(i)
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	wg.Wait()
}
