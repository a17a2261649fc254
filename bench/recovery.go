//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lab"
)

const (
	// realAccounts are in the Samba domain, and modelAccounts in the model of it:
	// to make 10,000 takes Samba minutes.
	realAccounts  = 300
	modelAccounts = 10000
	// shortLife makes all tickets end during a short outage.
	shortLife = 30 * time.Second
)

// recovery measures how long it takes until all accounts have tickets again after
// their controller was away.
func recovery(r *run) {
	dc := domain(r)
	names := makeAccounts(r, dc, "many", realAccounts)
	relay := startRelay(r, dc.IP.String())
	g := newGuard(r, dc, relay.address, fmt.Sprintf("tickets: {lifetime: %v}", shortLife))
	conns := make([]*agentapi.Client, 32)
	for i := range conns {
		conns[i] = g.dial(r)
		defer conns[i].Close()
	}
	begin := time.Now()
	each(r, conns, len(names), func(c *agentapi.Client, i int) error {
		_, err := leaseOf(r.ctx, c, names[i])
		return err
	})
	r.add(figure{name: fmt.Sprintf("%d cold leases of as many accounts, 32 callers", len(names)), unit: "s", rounds: sample{time.Since(begin).Seconds()}})

	outage(r, g, relay, conns[0], "all tickets had ended", func() { time.Sleep(shortLife + time.Second) })
	outage(r, g, relay, conns[0], "the guard was killed meanwhile", func() {
		g.kill(r)
		g.start(r)
		time.Sleep(5 * time.Second)
	})
	costs := serviceTimes(r, dc, relay, conns[0])
	modelled(r, costs)
}

// outage switches the controller off, waits, and measures from its return until the
// guard has tickets for all accounts.
func outage(r *run, g *guard, relay *relay, client *agentapi.Client, kind string, wait func()) {
	relay.cut()
	wait()
	relay.take()
	relay.on(r)
	begin := time.Now()
	before := g.cpu(r)
	recovered := map[string]bool{}
	lab.Eventually(r, 3*time.Minute, func() error {
		addRecovered(r, client, begin, recovered)
		if n := len(recovered); n < realAccounts {
			return fmt.Errorf("%d of %d accounts have new tickets", n, realAccounts)
		}
		return nil
	})
	took := time.Since(begin).Seconds()
	list, most := relay.take()
	what := fmt.Sprintf("%d accounts of Samba, ", realAccounts) + kind
	r.add(figure{name: what + ": until all have tickets", unit: "s", rounds: sample{took}, aim: atMost(60),
		note: fmt.Sprintf("%d requests for tickets to the domain, %d to the account itself, %d to the directory, %s ms of processor time of the guard for an account",
			count(list, "Kerberos", "AS-REQ"), count(list, "Kerberos", "TGS-REQ"), count(list, "LDAP", ""), number(ms(g.cpu(r)-before)/realAccounts))})
	r.add(figure{name: "  requests in flight, the most", rounds: sample{float64(most)}, aim: atMost(32)})
}

// addRecovered adds the accounts with a ticket that was issued after the controller's
// return: none can have been issued in the seconds before.
func addRecovered(r *run, client *agentapi.Client, begin time.Time, recovered map[string]bool) {
	status, err := client.Status(r.ctx, &agentapi.StatusRequest{})
	r.must(err)
	for _, a := range status.GetAccounts() {
		if a.GetTicketExpires().AsTime().After(begin.Add(shortLife - 3*time.Second)) {
			recovered[a.GetName()] = true
		}
	}
}

// costs are what an operation costs a controller.
type costs struct{ Read, FirstAS, AS, TGS time.Duration }

// serviceTimes measures the processor time that Samba takes for each operation, which
// is how long it takes on a core of its own: it works in one process.
func serviceTimes(r *run, dc *lab.DC, relay *relay, client *agentapi.Client) costs {
	names := makeAccounts(r, dc, "priced", 60)
	relay.quiet()
	pid := sambaPID(r, dc)
	before := cpuOfPID(r, pid)
	for _, name := range names {
		_, err := leaseOf(r.ctx, client, name)
		r.must(err)
	}
	list := relay.quiet()
	used := cpuOfPID(r, pid) - before
	// Of the whole, each kind gets the share that it has of the time at the relay.
	whole := sum(list)
	share := func(kind func(exchange) bool) time.Duration {
		var d time.Duration
		for _, e := range list {
			if kind(e) {
				d += e.took()
			}
		}
		return time.Duration(float64(used) * d.Seconds() / whole.Seconds() / float64(len(names)))
	}
	isAS := func(e exchange) bool { return strings.HasPrefix(e.what, "AS-REQ") }
	c := costs{
		Read:    share(func(e exchange) bool { return e.service == "LDAP" }),
		FirstAS: share(isAS),
		TGS:     share(func(e exchange) bool { return strings.HasPrefix(e.what, "TGS-REQ") }),
	}
	// Half of the AS exchanges of a new account are the question for its salt.
	asked := map[string]time.Duration{}
	var second, all time.Duration
	for _, e := range list {
		if !isAS(e) {
			continue
		}
		all += e.took()
		if asked[e.what] > 0 {
			second += e.took()
		}
		asked[e.what] += e.took()
	}
	c.AS = time.Duration(float64(c.FirstAS) * second.Seconds() / all.Seconds())
	return c
}

// sambaPID is the process of the controller.
func sambaPID(r *run, dc *lab.DC) int {
	b, err := os.ReadFile(dc.Dir + "/run/samba.pid")
	r.must(err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	r.must(err)
	return pid
}

// modelEnv names the file with the order and, afterwards, the results of
// TestManyAccountsRecover: simulated time is for tests alone.
const modelEnv = "GMSA_BENCH_MODEL"

// modelOrder is what the simulation is told and what it answers.
type modelOrder struct {
	Costs   costs
	Results []modelResult
}

// modelResult is one outage of the simulation.
type modelResult struct {
	Restart bool
	Took    time.Duration
	Most    int64
}

// modelled has the guard's own pool of accounts recover 10,000 accounts from a model
// of the controller with Samba's costs.
func modelled(r *run, c costs) {
	file := filepath.Join(r.TempDir(), "model")
	b, err := json.Marshal(modelOrder{Costs: c})
	r.must(err)
	r.must(os.WriteFile(file, b, 0o600))
	tool(r, []string{modelEnv + "=" + file}, "", "go", "test", "-count=1", "-run=^TestManyAccountsRecover$", "github.com/opengmsa/opengmsa/bench")
	b, err = os.ReadFile(file)
	r.must(err)
	var out modelOrder
	r.must(json.Unmarshal(b, &out))
	note := fmt.Sprintf("Samba's core is busy for %s ms with a password, %s and %s with a first and a further ticket, %s with one to oneself",
		number(ms(c.Read)), number(ms(c.FirstAS)), number(ms(c.AS)), number(ms(c.TGS)))
	for _, m := range out.Results {
		kind := "all tickets had ended"
		if m.Restart {
			kind = "the guard was killed meanwhile"
		}
		r.add(figure{name: fmt.Sprintf("%d accounts of a model of Samba, %s: until all have tickets", modelAccounts, kind), unit: "s (simulated)",
			rounds: sample{m.Took.Seconds()}, aim: atMost(60), note: note})
		r.add(figure{name: "  requests in flight, the most", rounds: sample{float64(m.Most)}, aim: atMost(32)})
		note = ""
	}
}
