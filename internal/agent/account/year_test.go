package account

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
)

// TestYear lets a year of a domain pass for three hosts and two controllers a few
// minutes apart. At no instant may a host hold acceptor keys that do not open a
// live ticket, send a key that was refused before, or be without a ticket of its
// own.
func TestYear(t *testing.T) {
	year := 365 * 24 * time.Hour
	if testing.Short() {
		year /= 6
	}
	for _, tt := range []struct {
		days  int64
		apart time.Duration // the second controller's clock from the first's
	}{
		{1, 0}, {1, 100 * time.Second}, {1, -4*time.Minute - 55*time.Second},
		{7, -4*time.Minute - 55*time.Second}, {30, 100 * time.Second},
	} {
		t.Run(fmt.Sprintf("%dd, %s apart", tt.days, tt.apart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				seed := uint64(tt.days)*1000 + uint64(tt.apart.Abs()/time.Second)
				m := newModel(t, seed, tt.days, 0, tt.apart)
				m.tgsTouches = tt.apart == 0
				m.pass(year, 3, nil)
			})
		})
	}
}

// pass runs hosts and clients for a time. trouble, if any, makes trouble
// meanwhile, until its context is done.
func (m *model) pass(span time.Duration, hosts int, trouble func(context.Context, []*simHost)) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	var all []*simHost
	for range hosts {
		h := m.host(0)
		all = append(all, h)
		wg.Go(func() { h.run(ctx, nil, KnownSalt{}) })
		wg.Go(func() { h.watch(ctx) })
		time.Sleep(m.random(20 * time.Minute))
	}
	for _, c := range m.controllers {
		wg.Go(func() { c.traffic(ctx) })
	}
	if trouble != nil {
		wg.Go(func() { trouble(ctx, all) })
	}
	time.Sleep(span)
	cancel()
	wg.Wait()
	time.Sleep(time.Hour) // what is on its way between controllers arrives
	m.report(all)
}

func (m *model) random(d time.Duration) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Duration(m.rng.Int64N(int64(d)))
}

func (m *model) report(hosts []*simHost) {
	if m.issuedCount == 0 || m.rollovers == 0 {
		m.t.Errorf("seed %d: %d tickets and %d rollovers: nothing was tested", m.seed, m.issuedCount, m.rollovers)
	}
	for _, h := range hosts {
		m.t.Logf("seed %d: %s: %d reads, %d AS exchanges, %d keys refused once", m.seed, h.name, h.reads, h.auths, len(h.refusals))
	}
	m.t.Logf("seed %d: %d rollovers, %d tickets, %d failures", m.seed, m.rollovers, m.issuedCount, m.failures)
}

// sleep is time.Sleep that ends with ctx, which it reports.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// traffic makes a controller issue tickets to the account: now and then, and
// every 20 s around an expiry by any controller's clock; and touch it as the
// logons of other hosts do.
func (c *controller) traffic(ctx context.Context) {
	for sleep(ctx, c.pause()) {
		c.m.mu.Lock()
		if !c.down {
			if c.m.rng.IntN(8) == 0 {
				c.touch()
			}
			c.issue()
		}
		c.m.mu.Unlock()
	}
}

func (c *controller) pause() time.Duration {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	toExpiry := time.Duration(c.expiry()-min(c.now(), c.expiry())) * dtyp.Tick
	sinceStart := time.Duration(c.now()-min(startOf(c.rec.id), c.now())) * dtyp.Tick
	if toExpiry < 12*time.Minute || sinceStart < 12*time.Minute {
		return time.Duration(c.m.rng.Int64N(int64(40 * time.Second)))
	}
	return min(time.Duration(c.m.rng.Int64N(int64(4*time.Hour))), toExpiry-11*time.Minute)
}

// leases opens a lease of its own at a random moment around every rollover, when
// a ticket must be had although the controllers do not agree on a key.
func (h *simHost) leases(ctx context.Context, pool *Pool) {
	const around = 8 * time.Minute
	for sleep(ctx, h.untilRollover(around)+h.m.random(2*around)) {
		lease := pool.Open(Request{Key: h.key(), Domain: h, Isolated: true})
		patience, cancel := context.WithTimeout(ctx, 20*time.Second)
		_, err := lease.Wait(patience)
		cancel()
		lease.Close()
		h.m.locked(func() {
			if err != nil && ctx.Err() == nil && !h.m.excused() {
				h.m.failf("%s: lease around a rollover: %v", h.name, err)
			}
		})
		if !sleep(ctx, 2*around) {
			return
		}
	}
}

// untilRollover is how long it is until a span before the next expiry.
func (h *simHost) untilRollover(before time.Duration) time.Duration {
	h.m.mu.Lock()
	defer h.m.mu.Unlock()
	for _, c := range h.m.controllers {
		if left := time.Duration(c.expiry()-min(c.now(), c.expiry())) * dtyp.Tick; left > before {
			return left - before
		}
	}
	return before
}

// watch checks at random instants that the host's leases have a live ticket, and
// that a client which starts from the client keytab alone can log on: with a
// controller that has not been told by another one, ahead of its own clock, to
// go on to the next key, every controller accepts it.
func (h *simHost) watch(ctx context.Context) {
	if !sleep(ctx, 10*time.Minute) {
		return
	}
	for sleep(ctx, h.m.random(2*time.Hour)) {
		h.m.mu.Lock()
		h.check()
		h.m.mu.Unlock()
	}
}

func (h *simHost) check() {
	if !h.snap.Usable(h.now()) {
		if !h.m.excused() {
			h.m.failf("%s: no live ticket", h.name)
		}
		return
	}
	accepted, refused := 0, 0
	for _, c := range h.m.controllers {
		switch {
		case c.down:
		case c.accepts(h.snap.Initiator.Keys[0]):
			accepted++
		default:
			refused++
		}
	}
	if refused > 0 && accepted == 0 && !h.m.excused() {
		h.m.failf("%s: the client keytab's key, kvno %d, is refused everywhere", h.name, h.snap.Initiator.KVNO)
	}
}
