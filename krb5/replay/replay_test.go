package replay

import (
	"errors"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var start = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)

func entry(n int) Entry {
	return Entry{Client: "web1$@R", Server: "ldap/dc1@R", CTime: start, CUsec: 7, Authenticator: []byte(strconv.Itoa(n))}
}

func seen(t *testing.T, c *Cache, now time.Time, e Entry) bool {
	t.Helper()
	s, err := c.Seen(now, e)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeenForAWindowAtLeast(t *testing.T) {
	c := New(10*time.Minute, 0)
	for i := range 100 {
		at := start.Add(time.Duration(i) * 7 * time.Second)
		if seen(t, c, at, entry(i)) {
			t.Fatalf("entry %d is new", i)
		}
	}
	for i := range 100 {
		at := start.Add(time.Duration(i)*7*time.Second + 10*time.Minute)
		if at.Before(start.Add(99 * 7 * time.Second)) {
			continue
		}
		if !seen(t, c, at, entry(i)) {
			t.Errorf("entry %d was forgotten within the window", i)
		}
	}
	later := entry(3)
	later.CTime = start.Add(time.Hour)
	s := &c.shard[later.key()[0]%shards]
	if seen(t, c, later.CTime, later) || len(s.young.seen) != 1 || len(s.old.seen) != 0 {
		t.Errorf("an hour later %d and %d entries are remembered", len(s.young.seen), len(s.old.seen))
	}
}

func TestEveryFieldCounts(t *testing.T) {
	c := New(0, 0)
	e := entry(1)
	seen(t, c, start, e)
	for name, change := range map[string]func(*Entry){
		"client":        func(e *Entry) { e.Client = "web2$@R" },
		"server":        func(e *Entry) { e.Server = "host/dc1@R" },
		"time":          func(e *Entry) { e.CTime = e.CTime.Add(time.Second) },
		"microseconds":  func(e *Entry) { e.CUsec++ },
		"authenticator": func(e *Entry) { e.Authenticator = []byte("other") },
		"the border of client and server": func(e *Entry) {
			e.Client, e.Server = e.Client+e.Server[:1], e.Server[1:]
		},
	} {
		other := e
		change(&other)
		if seen(t, c, start, other) {
			t.Errorf("%s does not count", name)
		}
	}
	if !seen(t, c, start, e) {
		t.Error("the entry itself was forgotten")
	}
}

func TestClockSetBackForgetsNothing(t *testing.T) {
	c := New(time.Minute, 0)
	seen(t, c, start, entry(1))
	if !seen(t, c, start.Add(-24*time.Hour), entry(1)) {
		t.Error("forgotten when the clock was set back")
	}
	if !seen(t, c, start.Add(-24*time.Hour+90*time.Second), entry(1)) {
		t.Error("forgotten in the window after")
	}
	if seen(t, c, start.Add(-23*time.Hour), entry(1)) {
		t.Error("remembered for an hour")
	}
}

// TestClockThatJumpedAhead: what was seen before a jump, and forgotten in it, is not taken
// for new when the clock is set right and it is in time again. Others are.
func TestClockThatJumpedAhead(t *testing.T) {
	const window = 10 * time.Minute
	for _, jump := range []time.Duration{window + time.Second, 2*window + time.Second, 365 * 24 * time.Hour} {
		c := New(window, 0)
		at := func(at time.Time, n int) Entry {
			e := entry(n)
			e.CTime = at
			return e
		}
		seen(t, c, start, at(start, 1))
		for _, ahead := range []time.Time{start.Add(jump), start.Add(jump + window)} {
			for n := range 1000 { // in every shard
				if seen(t, c, ahead, at(ahead, n)) {
					t.Fatalf("%v ahead: a new one is refused", ahead.Sub(start))
				}
			}
		}
		back := start.Add(time.Minute)
		if !seen(t, c, back, at(start, 1)) {
			t.Errorf("%v ahead and back: a replay is taken", jump)
		}
		for n := range 1000 {
			if later := back.Add(time.Duration(n) * time.Minute); seen(t, c, later, at(later, n)) {
				t.Fatalf("%v ahead and back: %v later a new one is refused", jump, later.Sub(back))
			}
		}
	}
}

// TestNoneThatIsNewIsRefused while the clock runs forward, however far the clocks of clients
// may be off.
func TestNoneThatIsNewIsRefused(t *testing.T) {
	const window = 10 * time.Minute
	c := New(window, 0)
	r := rand.New(rand.NewPCG(1, 2))
	now := start
	for n := range 200_000 {
		e := entry(n)
		e.CTime = now.Add(time.Duration(r.Int64N(int64(window))) - window/2)
		if seen(t, c, now, e) {
			t.Fatalf("%v after the start: one of %v ago is refused", now.Sub(start), now.Sub(e.CTime))
		}
		now = now.Add(time.Duration(r.Int64N(int64(time.Second))))
		if n%1000 == 0 {
			now = now.Add(time.Duration(r.Int64N(int64(3 * window))))
		}
	}
}

func TestFull(t *testing.T) {
	c := New(time.Minute, 1000)
	var err error
	n := 0
	for ; err == nil && n < 10_000; n++ {
		_, err = c.Seen(start, entry(n))
	}
	if !errors.Is(err, ErrFull) || n < 500 || n > 1001 {
		t.Errorf("after %d entries: %v", n, err)
	}
	if !seen(t, c, start, entry(0)) {
		t.Error("a full cache no longer knows what it holds")
	}
	if seen(t, c, start.Add(time.Minute), entry(20_000)) {
		t.Error("a new entry after the window")
	}
}

func TestConcurrentlySeenOnce(t *testing.T) {
	c := New(0, 0)
	var news atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 1000 {
				if s, err := c.Seen(start, entry(i)); err == nil && !s {
					news.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if news.Load() != 1000 {
		t.Errorf("%d were new, want 1000", news.Load())
	}
}

func BenchmarkSeen(b *testing.B) {
	c := New(0, 1<<24)
	var n atomic.Int64
	auth := make([]byte, 200)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		e := entry(0)
		e.Authenticator = auth
		for p.Next() {
			e.CUsec = int(n.Add(1))
			if s, err := c.Seen(start, e); s || err != nil {
				b.Fatal(s, err)
			}
		}
	})
}
