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

// short is what is left of n days, or of n of something else, where time is short: a
// sixth, but enough for some rollovers under trouble.
func short(n int) int {
	if testing.Short() {
		return min(n, max(4, n/6))
	}
	return n
}

// faults lets days of a domain with a one-day interval pass under trouble.
func faults(t *testing.T, seed uint64, days int, trouble func(context.Context, *model, []*simHost)) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, seed, 1, 0, 3*time.Minute+20*time.Second)
		m.pass(time.Duration(short(days))*24*time.Hour, 3, func(ctx context.Context, hosts []*simHost) { trouble(ctx, m, hosts) })
	})
}

func (m *model) locked(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
}

// One controller after the other is down for up to an interval, across
// rollovers, never both; when it returns it issues tickets under the old key
// until it has caught up. Nothing may be noticed.
func TestOneControllerDown(t *testing.T) {
	faults(t, 11, 120, func(ctx context.Context, m *model, _ []*simHost) {
		for i := 0; sleep(ctx, 6*time.Hour+m.random(6*time.Hour)); i++ {
			c := m.controllers[i%2]
			m.locked(func() { c.down = true })
			long := sleep(ctx, m.random(20*time.Hour))
			m.locked(func() {
				c.down = false
				if left := time.Duration(c.expiry()-min(c.now(), c.expiry())) * dtyp.Tick; left < lead {
					m.excuse(lead, "a controller whose clock nobody knew is back just before it goes on")
				}
			})
			if !long {
				return
			}
		}
	})
}

// Both controllers are down, over one rollover or several. When they return, all
// hosts know the new key within a minute.
func TestAllControllersDown(t *testing.T) {
	if testing.Short() {
		t.Skip("probes of simulated days take some seconds")
	}
	faults(t, 12, 8, func(ctx context.Context, m *model, _ []*simHost) {
		for sleep(ctx, 6*time.Hour+m.random(30*time.Hour)) {
			m.locked(func() {
				m.excuse(200*time.Hour, "all controllers are down")
				for _, c := range m.controllers {
					c.down = true
				}
			})
			sleep(ctx, m.random(70*time.Hour))
			m.locked(func() {
				for _, c := range m.controllers {
					c.down = false
				}
				m.excuses = nil
				m.excuse(time.Minute, "the controllers have returned")
			})
		}
	})
}

// Agents are killed at random and start again within a minute, with what their
// leases' keytabs hold: the old key of an account younger than an interval comes
// from nowhere else. Tickets stay good, so nothing may be noticed.
func TestRestarts(t *testing.T) {
	for seed := range uint64(short(8)) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newModel(t, seed+20, 1, 0, -2*time.Minute)
				ctx, cancel := context.WithTimeout(context.Background(), 15*24*time.Hour)
				defer cancel()
				var wg sync.WaitGroup
				for range 3 {
					h := m.host(0)
					wg.Go(func() { h.runs(ctx) })
				}
				for _, c := range m.controllers {
					wg.Go(func() { c.traffic(ctx) })
				}
				wg.Wait()
				time.Sleep(time.Hour)
				m.report(m.hosts)
			})
		})
	}
}

// runs runs one agent after the other.
func (h *simHost) runs(ctx context.Context) {
	for ctx.Err() == nil {
		life, cancel := context.WithTimeout(ctx, time.Minute+h.m.random(3*time.Hour))
		var restore []KeySet
		var salt KnownSalt
		h.m.locked(func() {
			if h.snap != nil {
				restore = h.snap.Acceptor
			}
			salt = h.knows()
		})
		h.run(life, restore, salt)
		cancel()
		sleep(ctx, h.m.random(time.Minute))
	}
}

// Somebody rotates the password out of turn, by a new root key. The old one is
// refused 5 minutes later at the most; every host notices within the hour, and
// none is ever without a ticket.
func TestForcedRotation(t *testing.T) {
	faults(t, 14, 120, func(ctx context.Context, m *model, _ []*simHost) {
		for sleep(ctx, 20*time.Hour+m.random(60*time.Hour)) {
			m.locked(func() {
				c := m.controllers[m.rng.IntN(2)]
				if c.nearRollover() {
					return // two writes at once have one number: nobody can tell them apart
				}
				m.addRoot(0)
				rec := c.rec
				old := rec.id
				rec.id = passwordID{len(m.roots) - 1, old.key}
				rec.history, rec.formerID, rec.formerS = &old, &old, rec.salt
				rec.version++
				rec.written = time.Now()
				m.excuse(recheck+recheck/4+2*time.Minute, "the password was rotated out of turn")
				c.write(rec)
			})
		}
	})
}

// nearRollover reports whether the controllers may disagree about the period.
func (c *controller) nearRollover() bool {
	const near = 20 * time.Minute
	left := time.Duration(c.expiry()-min(c.now(), c.expiry())) * dtyp.Tick
	since := time.Duration(c.now()-min(startOf(c.rec.id), c.now())) * dtyp.Tick
	return left < near || since < near
}

// The account is renamed now and then: its salt changes with the next password.
// Agents start anew at any time, without what an earlier one knew but the salt: of a
// journal that a rename has made obsolete no key may be refused twice.
func TestRename(t *testing.T) {
	faults(t, 15, 120, func(ctx context.Context, m *model, hosts []*simHost) {
		var salt KnownSalt
		for i := 0; sleep(ctx, time.Hour+m.random(20*time.Hour)); i++ {
			m.locked(func() {
				if !m.controllers[0].nearRollover() {
					m.name = fmt.Sprintf("WebApp%02d$", i)
				}
			})
			late, cancel := context.WithTimeout(ctx, 30*time.Hour)
			h := m.host(0)
			h.since = time.Now()
			h.run(late, nil, salt)
			cancel()
			m.locked(func() { salt, h.snap = h.knows(), nil })
		}
	})
}

// A host's clock is wrong by minutes, and is set while the agent runs; the
// machine sleeps. Within a minute and a half of it everything is as it should be.
func TestClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newModel(t, 16, 1, 0, time.Minute)
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(short(60))*24*time.Hour)
		defer cancel()
		var wg sync.WaitGroup
		for i := range 3 {
			h := m.host(time.Duration(i-1) * 4 * time.Minute)
			h.jumpy = true
			wg.Go(func() { h.run(ctx, nil, KnownSalt{}) })
			wg.Go(func() { h.watch(ctx) })
			wg.Go(func() {
				for sleep(ctx, m.random(20*time.Hour)) {
					m.locked(func() {
						h.skew.Store(m.rng.Int64N(int64(24*time.Hour)) - int64(12*time.Hour))
						m.excuse(90*time.Second, "a clock was set")
					})
				}
			})
		}
		for _, c := range m.controllers {
			wg.Go(func() { c.traffic(ctx) })
		}
		wg.Wait()
		time.Sleep(time.Hour)
		m.report(m.hosts)
	})
}
