// Package replay remembers authenticators, so that none is taken twice: RFC
// 4120, Section 3.2.3. A [Cache] is a value that its caller owns; it lives in
// memory, and has no clock and no goroutine of its own. Read [Cache.Seen] first.
//
// It is not shared between processes: a service with several needs one place
// that accepts, or mutual authentication in each (an AP-REP proves nothing to
// who replays).
package replay

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// ErrFull is returned when more authenticators came within the window than the
// cache holds. The one at hand must be refused: whether it is new is not known.
var ErrFull = errors.New("replay: the cache is full")

// The default window is twice the clock skew of 5 minutes that Kerberos allows:
// an authenticator is good from its time minus the skew to its time plus the
// skew. The default size takes at most 64 MiB.
const (
	DefaultWindow  = 10 * time.Minute
	DefaultEntries = 1 << 20
)

// shards keeps threads from waiting for each other; a power of two.
const shards = 16

// Entry identifies an authenticator.
type Entry struct {
	Client, Server string
	CTime          time.Time
	CUsec          int
	// Authenticator is its ciphertext. With it, two requests of one client in the
	// same microsecond are told apart, as MIT does.
	Authenticator []byte
}

// key is the first half of a SHA-256: nobody finds two entries with one key.
type key [16]byte

func (e Entry) key() key {
	h := sha256.New()
	var n [8]byte
	part := func(p []byte) {
		binary.BigEndian.PutUint64(n[:], uint64(len(p)))
		h.Write(n[:])
		h.Write(p)
	}
	part([]byte(e.Client))
	part([]byte(e.Server))
	binary.BigEndian.PutUint64(n[:], uint64(e.CTime.Unix())*1_000_000+uint64(e.CUsec))
	h.Write(n[:])
	h.Write(e.Authenticator)
	var sum [sha256.Size]byte
	return key(h.Sum(sum[:0])[:16])
}

// Cache is a replay cache, safe for concurrent use.
//
// It keeps two generations. Each lives one window as the young one, which takes
// what is new, and one more as the old one, which is only asked: so an entry is
// remembered for at least one window and at most two, and forgetting costs
// nothing per entry. Of what it has forgotten it knows the latest time, and takes
// no authenticator that is as old. While a clock runs forward, none that is in time
// is; but when it jumped ahead and was set right, what came before the jump is in
// time again.
type Cache struct {
	window time.Duration
	max    int // entries of one generation of one shard
	shard  [shards]shard
}

type shard struct {
	mu sync.Mutex
	// All are guarded by mu.
	since      time.Time // when the young generation began
	young, old generation
	forgotten  time.Time // the latest of the authenticators that were forgotten
}

// generation is what came within one window.
type generation struct {
	seen   map[key]struct{}
	latest time.Time // of the authenticators
}

// New makes a cache that remembers for at least window, and at most about
// entries authenticators within one; zero stands for the defaults.
func New(window time.Duration, entries int) *Cache {
	if window <= 0 {
		window = DefaultWindow
	}
	if entries <= 0 {
		entries = DefaultEntries
	}
	return &Cache{window: window, max: max(1, entries/shards)}
}

// Seen reports whether e was seen before, and remembers it. Call it after the
// authenticator was decrypted and its time judged; otherwise anyone could fill
// the cache. The error is [ErrFull].
func (c *Cache) Seen(now time.Time, e Entry) (bool, error) {
	k := e.key()
	s := &c.shard[k[0]%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.age(now, c.window)
	if _, ok := s.young.seen[k]; ok {
		return true, nil
	}
	if _, ok := s.old.seen[k]; ok {
		return true, nil
	}
	at := e.CTime.Add(time.Duration(e.CUsec) * time.Microsecond)
	if !at.After(s.forgotten) {
		return true, nil
	}
	if len(s.young.seen) >= c.max {
		return false, ErrFull
	}
	s.young.add(k, at)
	return false, nil
}

func (g *generation) add(k key, at time.Time) {
	if g.seen == nil {
		g.seen = map[key]struct{}{}
	}
	g.seen[k] = struct{}{}
	if at.After(g.latest) {
		g.latest = at
	}
}

// age turns generations over. A clock that was set back keeps all entries, so
// that nothing seen is forgotten, and begins a new window.
func (s *shard) age(now time.Time, window time.Duration) {
	switch elapsed := now.Sub(s.since); {
	case elapsed < 0:
	case elapsed < window:
		return
	case s.old.inTime(now, window) || elapsed >= 2*window && s.young.inTime(now, window):
	case elapsed >= 2*window:
		s.forget(&s.young, now)
		s.forget(&s.old, now)
	default:
		s.forget(&s.old, now)
		s.young, s.old = s.old, s.young
	}
	s.since = now
}

// inTime reports whether a generation that would be forgotten has authenticators that
// are still in time, or soon will be: they came while the clock was a little ahead.
// What came while it was far ahead is not waited for.
func (g *generation) inTime(now time.Time, window time.Duration) bool {
	return g.latest.After(now.Add(-window/2)) && !g.latest.After(now.Add(2*window))
}

// forget empties a generation.
func (s *shard) forget(g *generation, now time.Time) {
	if g.latest.After(s.forgotten) && !g.latest.After(now) {
		s.forgotten = g.latest
	}
	clear(g.seen)
	g.latest = time.Time{}
}
