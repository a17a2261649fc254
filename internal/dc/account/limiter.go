package account

import (
	"hash/maphash"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Limits bound how often one address may fail to log on: names that do not exist,
// proofs and binds that are wrong. All services count together.
type Limits struct {
	// PerAccount is for one account from one address, in a minute; 0 stands for 30. A
	// client that tries salts or old keytab entries fails a few times and then does not.
	PerAccount int
	// PerSource is for one address, in a minute; 0 stands for 600: an address may be that
	// of many hosts.
	PerSource int
}

func (l Limits) withDefaults() Limits {
	if l.PerAccount == 0 {
		l.PerAccount = 30
	}
	if l.PerSource == 0 {
		l.PerSource = 600
	}
	return l
}

const (
	limiterWindow = time.Minute
	// limiterEntries bounds one window, 12 MiB: when it is full it ends early, so that a
	// sender of forged addresses gets memory and time from nobody.
	limiterEntries = 1 << 18
)

// limiter counts failures in windows of a minute, of which it keeps the last two. It
// is safe for concurrent use.
type limiter struct {
	limits Limits

	mu sync.Mutex
	// All are guarded by mu.
	seed     maphash.Seed
	began    time.Time
	now, old map[uint64]int32
}

// allow reports whether source may try the account of that name.
func (l *limiter) allow(t time.Time, source netip.Addr, name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		return true
	}
	l.turn(t)
	both, one := l.keys(source, name)
	return l.count(one, t) < l.limits.PerSource && l.count(both, t) < l.limits.PerAccount
}

// fail counts a failure.
func (l *limiter) fail(t time.Time, source netip.Addr, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now == nil {
		l.seed, l.began, l.now, l.old = maphash.MakeSeed(), t, map[uint64]int32{}, map[uint64]int32{}
	}
	l.turn(t)
	both, one := l.keys(source, name)
	l.now[both]++
	l.now[one]++
}

// turn begins a new window when the present one is over or full. A clock that was set
// back begins one too.
func (l *limiter) turn(t time.Time) {
	age := t.Sub(l.began)
	if age >= 0 && age < limiterWindow && len(l.now) < limiterEntries {
		return
	}
	l.now, l.old = l.old, l.now
	clear(l.now)
	if age >= 2*limiterWindow {
		clear(l.old)
	}
	l.began = t
}

// count is the failures of the last minute: those of this window, and of the one before
// the part that a sliding minute still covers.
func (l *limiter) count(k uint64, t time.Time) int {
	rest := limiterWindow - t.Sub(l.began)
	return int(l.now[k]) + int(int64(l.old[k])*int64(rest)/int64(limiterWindow))
}

// keys are those of source with the name and of source alone. Addresses of IPv6 count
// by their /64, of which whoever has one has all.
func (l *limiter) keys(source netip.Addr, name string) (both, one uint64) {
	source = source.Unmap()
	if source.Is6() {
		if p, err := source.WithZone("").Prefix(64); err == nil {
			source = p.Addr()
		}
	}
	var h maphash.Hash
	h.SetSeed(l.seed)
	b := source.As16()
	_, _ = h.Write(b[:])
	one = h.Sum64()
	_, _ = h.WriteString(strings.ToLower(name))
	_ = h.WriteByte(0)
	return h.Sum64(), one
}
