package pace

import (
	"net/netip"
	"testing"
	"time"
)

func TestASourceHasItsBurstAndThenItsRate(t *testing.T) {
	now := time.Date(2026, 11, 28, 0, 0, 0, 0, time.UTC)
	l := New(10, 5)
	source := netip.MustParseAddr("192.0.2.1")
	count := func(a netip.Addr) (n int) {
		for range 100 {
			if l.Allow(now, a) {
				n++
			}
		}
		return n
	}
	if n := count(source); n != 5 {
		t.Errorf("at once: %d answers, want 5", n)
	}
	if n := count(netip.MustParseAddr("::ffff:192.0.2.200")); n != 0 {
		t.Errorf("a neighbour: %d answers, want 0", n)
	}
	if n := count(netip.MustParseAddr("2001:db8::1")); n != 5 {
		t.Errorf("another source: %d answers, want 5", n)
	}
	now = now.Add(200 * time.Millisecond)
	if n := count(source); n != 2 {
		t.Errorf("after 200 ms: %d answers, want 2", n)
	}
	now = now.Add(24 * time.Hour)
	if n := count(source); n != 5 {
		t.Errorf("after a day: %d answers, want 5", n)
	}
	now = now.Add(-365 * 24 * time.Hour)
	if n := count(source); n == 0 {
		t.Error("a clock that went back shuts a source out")
	}
	for _, a := range []string{"127.9.9.9", "::1"} {
		if n := count(netip.MustParseAddr(a)); n != 100 {
			t.Errorf("%s: %d answers of 100", a, n)
		}
	}
	if n := count(netip.Addr{}); n != 100 {
		t.Errorf("a socket without addresses: %d answers of 100", n)
	}
}
