//go:build linux

package main

import (
	"fmt"
	"time"

	"github.com/opengmsa/opengmsa/internal/agentapi"
)

// cold measures leases of accounts that the guard knows nothing of.
func cold(r *run) {
	dc := domain(r)
	names := makeAccounts(r, dc, "cold", 40)
	relay := startRelay(r, dc.IP.String())
	g := newGuard(r, dc, relay.address)
	client := g.dial(r)
	defer client.Close()

	first := coldFigures("of a guard just started: host's ticket, bind, password, ticket")
	for i := range 5 {
		if i > 0 {
			g.kill(r)
			g.start(r)
			relay.quiet()
		}
		id := first.measure(r, relay, client, names[i])
		_, err := client.RemoveLease(r.ctx, &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: id}})
		r.must(err)
	}
	first.add(r)
	next := coldFigures("of the next account: password, ticket")
	for i := range 20 {
		next.measure(r, relay, client, names[5+i])
	}
	next.add(r)
	together(r, relay, g, client, names[25:])
}

// coldLease are the figures of one kind of cold lease.
type coldLease struct{ took, domain, ratio figure }

func coldFigures(kind string) *coldLease {
	return &coldLease{
		took:   figure{name: "cold lease " + kind, unit: "ms"},
		domain: figure{name: "  of which the domain's own response times, summed", unit: "ms"},
		ratio:  figure{name: "  the one by the other", aim: atMost(1.2)},
	}
}

func (c *coldLease) add(r *run) {
	r.add(c.took)
	r.add(c.domain)
	r.add(c.ratio)
}

// measure makes one cold lease and returns its id.
func (c *coldLease) measure(r *run, relay *relay, client *agentapi.Client, account string) string {
	relay.quiet()
	begin := time.Now()
	l, err := leaseOf(r.ctx, client, account)
	took := time.Since(begin)
	r.must(err)
	list, _ := relay.take()
	c.took.rounds = append(c.took.rounds, ms(took))
	c.domain.rounds = append(c.domain.rounds, ms(sum(list)))
	c.ratio.rounds = append(c.ratio.rounds, took.Seconds()/sum(list).Seconds())
	c.took.note = fmt.Sprintf("%d requests to the KDC, %d to the directory, %d pings",
		count(list, "Kerberos", ""), count(list, "LDAP", ""), count(list, "ping", ""))
	return l.GetId()
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
