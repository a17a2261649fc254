package replay

import (
	"errors"
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
	if seen(t, c, start.Add(time.Hour), entry(3)) {
		t.Error("an entry was remembered for an hour")
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
