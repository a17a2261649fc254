//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/opengmsa/opengmsa/internal/agentapi"
)

// cold measures leases of accounts that the guard knows nothing of. Two guards take
// turns: the one that is timed speaks to the controller itself, the other by way of a
// relay, which sees how long the controller takes for what the guard asks.
func cold(r *run) {
	const starts, accounts = 5, 20
	dc := domain(r)
	names := makeAccounts(r, dc, "cold", 2*(starts+accounts)+10)
	next := func() string {
		name := names[0]
		names = names[1:]
		return name
	}
	relay := startRelay(r, dc.IP.String())
	timed, seen := newGuard(r, dc, dc.IP.String()), newGuard(r, dc, relay.address)
	client, other := timed.dial(r), seen.dial(r)
	defer client.Close()
	defer other.Close()

	first := coldFigures("of a guard just started: host's ticket, bind, password, ticket")
	for i := range starts {
		if i > 0 {
			timed.kill(r)
			timed.start(r)
			seen.kill(r)
			seen.start(r)
		}
		first.measure(r, client, next(), relay, other, next())
	}
	first.ratio.aim = atMost(1.2)
	first.add(r)
	more := coldFigures("of the next account: password, ticket")
	for range accounts {
		more.measure(r, client, next(), relay, other, next())
	}
	more.add(r)
	together(r, relay, seen, other, names)
}

// coldLease are the figures of one kind of cold lease.
type coldLease struct{ took, domain, ratio figure }

func coldFigures(kind string) *coldLease {
	return &coldLease{
		took:   figure{name: "cold lease " + kind, unit: "ms"},
		domain: figure{name: "  the domain's own response times, summed", unit: "ms"},
		ratio:  figure{name: "  the one by the other"},
	}
}

func (c *coldLease) add(r *run) {
	c.ratio.rounds = sample{c.took.rounds.median() / c.domain.rounds.median()}
	r.add(c.took)
	r.add(c.domain)
	r.add(c.ratio)
}

// measure makes a cold lease by each guard, and removes them: a guard that is started
// again then has nothing to take over.
func (c *coldLease) measure(r *run, client *agentapi.Client, account string, relay *relay, other *agentapi.Client, otherAccount string) {
	for _, x := range []*agentapi.Client{client, other} { // its connection is not what is measured
		_, err := x.Status(r.ctx, &agentapi.StatusRequest{Summary: true})
		r.must(err)
	}
	relay.quiet()
	begin := time.Now()
	one, err := leaseOf(r.ctx, client, account)
	c.took.rounds = append(c.took.rounds, ms(time.Since(begin)))
	r.must(err)
	relay.quiet() // the first guard checks its keys meanwhile
	two, err := leaseOf(r.ctx, other, otherAccount)
	list, _ := relay.take()
	r.must(err)
	c.domain.rounds = append(c.domain.rounds, ms(sum(list)))
	c.took.note = fmt.Sprintf("%d requests to the KDC, %d to the directory, %d pings",
		count(list, "Kerberos", ""), count(list, "LDAP", ""), count(list, "ping", ""))
	for _, x := range []struct {
		c *agentapi.Client
		l *agentapi.Lease
	}{{client, one}, {other, two}} {
		_, err := x.c.RemoveLease(r.ctx, &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: x.l.GetId()}})
		r.must(err)
	}
}

// together has 100 callers want one cold account at once, and counts what the
// domain is asked, beside what one caller causes.
func together(r *run, relay *relay, g *guard, client *agentapi.Client, names []string) {
	const callers = 100
	conns := make([]*agentapi.Client, 20)
	for i := range conns {
		conns[i] = g.dial(r)
		defer conns[i].Close()
	}
	asked := figure{name: "requests to the domain for one cold account, 100 callers"}
	alone := figure{name: "requests to the domain for one cold account, 1 caller"}
	for i := 0; i+1 < len(names) && i < 10; i += 2 {
		relay.quiet()
		_, err := leaseOf(r.ctx, client, names[i])
		r.must(err)
		alone.rounds = append(alone.rounds, float64(len(relay.quiet())))
		failed := make(chan error, callers)
		for c := range callers {
			go func() {
				_, err := leaseOf(r.ctx, conns[c%len(conns)], names[i+1])
				failed <- err
			}()
		}
		for range callers {
			r.must(<-failed)
		}
		asked.rounds = append(asked.rounds, float64(len(relay.quiet())))
	}
	asked.aim = atMost(alone.rounds.median())
	r.add(alone)
	r.add(asked)
}
