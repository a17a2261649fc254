// Package pace limits how often each source is answered, so that a datagram with a
// forged sender cannot make a service flood the one it names, and so that one source
// cannot keep the others waiting.
//
// It has no clock and no goroutine, and its memory does not grow: sources share a table
// of buckets by a keyed hash. Read [Limiter.Allow] first.
package pace

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// buckets is the size of a table, 128 KiB. Two sources that fall into one bucket share
// its allowance; which do, nobody outside knows.
const buckets = 1 << 14

// Prefixes that count as one source, in bits: whoever may forge one address of a
// network may forge its neighbours.
const (
	bits4 = 24
	bits6 = 56
)

// Limiter is an allowance for each source. It is safe for concurrent use.
//
// A bucket is one number: the time up to which its source has used its allowance,
// which each answer moves on by the interval of the rate (the generic cell rate
// algorithm of ITU-T I.371).
type Limiter struct {
	interval int64 // ns between two answers at the allowed rate
	ahead    int64 // ns that a burst may use in advance
	seed     maphash.Seed
	used     []atomic.Int64 // Unix time, ns
}

// New makes a limiter that allows perSecond answers a second to each source, and
// burst at once.
func New(perSecond, burst int) *Limiter {
	interval := int64(time.Second) / int64(perSecond)
	return &Limiter{interval: interval, ahead: interval * int64(burst), seed: maphash.MakeSeed(), used: make([]atomic.Int64, buckets)}
}

// Allow reports whether the source may be answered now, and counts it if so. This
// machine's own addresses always may, for they flood nobody else, and so may a peer
// that has none, on a socket that is no network's.
func (l *Limiter) Allow(now time.Time, source netip.Addr) bool {
	if source = source.Unmap(); source.IsLoopback() || !source.IsValid() {
		return true
	}
	bits := bits6
	if source.Is4() {
		bits = bits4
	}
	network := netip.PrefixFrom(source.WithZone(""), bits).Masked()
	used := &l.used[maphash.Comparable(l.seed, network)%buckets]
	at := now.UnixNano()
	for {
		old := used.Load()
		from := max(old, at)
		if from > at+l.ahead { // the clock went back
			from = at
		}
		next := from + l.interval
		if next > at+l.ahead {
			return false
		}
		if used.CompareAndSwap(old, next) {
			return true
		}
	}
}
