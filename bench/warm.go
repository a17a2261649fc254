//go:build linux

package main

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/internal/agentapi"
)

// fetcher is the peer, which Debian has not: with 8 clients it made 7.4.
const fetcher = "credentials-fetcher 1.3.6: 7.6, measured earlier on another machine"

// manyLeases is how many leases the memory is measured with.
const manyLeases = 10000

// warm measures leases of an account that the guard has ready, and what 10,000 of
// them cost.
func warm(r *run) {
	dc := domain(r)
	g := newGuard(r, dc, dc.IP.String())
	client := g.dial(r)
	defer client.Close()
	_, err := leaseOf(r.ctx, client, "webapp01")
	r.must(err)
	warmLeases(r, g, 1, 2000)
	warmLeases(r, g, 16, 4000)
	footprint(r, g)
}

// footprint measures memory and tmpfs with many leases.
func footprint(r *run, g *guard) {
	conns := make([]*agentapi.Client, 16)
	for i := range conns {
		conns[i] = g.dial(r)
		defer conns[i].Close()
	}
	bytes, inodes := g.tmpfs(r)
	idle := g.memory(r, "RssAnon")
	made := makeLeases(r, g, conns, manyLeases)
	after, inodesAfter := g.tmpfs(r)
	what := fmt.Sprintf("%d leases of one account", manyLeases)
	r.add(figure{name: "memory of the guard with " + what, unit: "MB", aim: atMost(60), rounds: sample{g.memory(r, "VmRSS")},
		note: fmt.Sprintf("resident; %s MB of it anonymous, %s before", number(g.memory(r, "RssAnon")), number(idle))})
	r.add(figure{name: "tmpfs for one lease", unit: "KiB", aim: atMost(20), rounds: sample{float64(after-bytes) / manyLeases / 1024},
		note: fmt.Sprintf("%s inodes", number(float64(inodesAfter-inodes)/manyLeases))})
	made.remove(r, conns)
}

// round is what one round of leases showed.
type round struct {
	ids     []string
	latency sample // ms
	took    time.Duration
	cpu     time.Duration // of the guard
}

// warmLeases makes and removes n leases three times with as many clients, each on a
// connection of its own.
func warmLeases(r *run, g *guard, clients, n int) {
	conns := make([]*agentapi.Client, clients)
	for i := range conns {
		conns[i] = g.dial(r)
		defer conns[i].Close()
	}
	who := fmt.Sprintf("%d clients", clients)
	if clients == 1 {
		who = "1 client"
	}
	rate := figure{name: "leases per second, " + who, aim: atLeast(8000), note: fetcher}
	p50 := figure{name: "  time of one, p50", unit: "ms"}
	p99 := figure{name: "  time of one, p99", unit: "ms", aim: atMost(5)}
	own := figure{name: "  processor time of the guard for one", unit: "us"}
	gone := figure{name: "  removals per second, " + who}
	makeLeases(r, g, conns, n/4).remove(r, conns) // connections, code, directories
	for range 3 {
		made := makeLeases(r, g, conns, n)
		rate.rounds = append(rate.rounds, float64(n)/made.took.Seconds())
		p50.rounds = append(p50.rounds, made.latency.quantile(0.5))
		p99.rounds = append(p99.rounds, made.latency.quantile(0.99))
		own.rounds = append(own.rounds, us(made.cpu)/float64(n))
		gone.rounds = append(gone.rounds, float64(n)/made.remove(r, conns).Seconds())
	}
	if clients == 1 { // the aim is one of throughput
		rate.aim = aim{}
	}
	r.add(rate)
	r.add(p50)
	r.add(p99)
	r.add(own)
	r.add(gone)
}

// makeLeases makes n leases, each client one after the other.
func makeLeases(r *run, g *guard, conns []*agentapi.Client, n int) round {
	out := round{ids: make([]string, n), latency: make(sample, n)}
	before, begin := g.cpu(r), time.Now()
	each(r, conns, n, func(c *agentapi.Client, i int) error {
		t := time.Now()
		l, err := leaseOf(r.ctx, c, "webapp01")
		out.ids[i], out.latency[i] = l.GetId(), ms(time.Since(t))
		return err
	})
	out.took, out.cpu = time.Since(begin), g.cpu(r)-before
	return out
}

// remove removes the leases of a round and tells how long it took.
func (o round) remove(r *run, conns []*agentapi.Client) time.Duration {
	begin := time.Now()
	each(r, conns, len(o.ids), func(c *agentapi.Client, i int) error {
		_, err := c.RemoveLease(r.ctx, &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: o.ids[i]}})
		return err
	})
	return time.Since(begin)
}

// each does n things, one at a time on each connection.
func each(r *run, conns []*agentapi.Client, n int, do func(*agentapi.Client, int) error) {
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for _, c := range conns {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && failed.Load() == nil; i = next.Add(1) - 1 {
				if err := do(c, int(i)); err != nil {
					failed.Store(&err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		r.Fatal(*err)
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
