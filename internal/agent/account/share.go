package account

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
)

// share are the tickets of one account and profile, and who uses them.
type share struct {
	account  *account
	profile  Profile
	isolated string // its name, if only one handle may use it
	snapshot atomic.Pointer[Snapshot]

	// The worker that runs the account owns these.
	tickets   []krb5.Credential // the ticket-granting ticket first
	issuers   []string          // the controllers that issued them
	goodUntil time.Time
	offset    time.Duration // of the domain's clock, when they came
	refreshAt time.Time     // zero: now
	retryAt   time.Time     // not before
	pressing  bool          // not to be postponed
	triedAt   time.Time
	lastErr   error
	failures  int

	// handles and idleSince are guarded by Pool.mu.
	handles   int
	idleSince time.Time

	mu       sync.Mutex
	serial   uint64
	watchers map[uint64]func(*Snapshot)
	changed  chan struct{} // closed and replaced when attempts rises
	attempts uint64        // that have ended, well or not
	err      error         // of the last attempt
}

func newShare(a *account, p Profile) *share {
	return &share{account: a, profile: p, changed: make(chan struct{})}
}

// due is when the share needs the domain next.
func (s *share) due() time.Time { return later(s.refreshAt, s.retryAt) }

// attempted records how an attempt ended and wakes who waits for it.
func (s *share) attempted(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attempts++
	s.err = err
	close(s.changed)
	s.changed = make(chan struct{})
}

// publish replaces the snapshot and tells the watchers, if it differs.
func (s *share) publish(snap *Snapshot) {
	if snap.same(s.snapshot.Load()) {
		return
	}
	s.snapshot.Store(snap)
	for _, fn := range s.listeners() {
		fn(snap)
	}
}

func (s *share) listeners() []func(*Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fns := make([]func(*Snapshot), 0, len(s.watchers))
	ids := make([]uint64, 0, len(s.watchers))
	for id := range s.watchers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		fns = append(fns, s.watchers[id])
	}
	return fns
}

// Handle is one user's hold on an account: as long as it is open, the account is
// kept ready. It is cheap: no goroutine, no copy of anything.
type Handle struct {
	share *share
	once  sync.Once
	watch uint64
}

// Snapshot is what is known now, nil before the first read. It costs one atomic
// load.
func (h *Handle) Snapshot() *Snapshot { return h.share.snapshot.Load() }

// Outlook is what was known of the account's future after its last turn. It costs
// one atomic load.
func (h *Handle) Outlook() Outlook {
	if o := h.share.account.outlook.Load(); o != nil {
		return *o
	}
	return Outlook{}
}

// Watch calls fn whenever a snapshot replaces another, until the handle is
// closed; a second call replaces fn. fn runs on the worker that made the
// snapshot, one at a time, and must not block nor call the handle.
func (h *Handle) Watch(fn func(*Snapshot)) {
	s := h.share
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.watchers == nil {
		s.watchers = make(map[uint64]func(*Snapshot))
	}
	if h.watch == 0 {
		s.serial++
		h.watch = s.serial
	}
	s.watchers[h.watch] = fn
}

// Wait returns a usable snapshot, the one at hand or the next. It gives up when
// the account has a definite failure, such as [ErrWithheld], in an attempt that
// ended after the call; while no controller answers it waits until ctx is done
// and then returns both reasons.
func (h *Handle) Wait(ctx context.Context) (*Snapshot, error) {
	s := h.share
	pool := s.account.pool
	first, _, _ := s.status()
	pool.demand(s)
	for {
		attempts, changed, err := s.status()
		if snap := s.snapshot.Load(); snap.Usable(pool.cfg.Now()) {
			return snap, nil
		}
		if attempts > first && definite(err) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, waited(context.Cause(ctx), err, s.account.key)
		case <-changed:
		}
	}
}

func waited(cause, err error, key Key) error {
	if err == nil {
		return fmt.Errorf("wait for the credentials of %s: %w", key, cause)
	}
	return fmt.Errorf("wait for the credentials of %s: %w: %w", key, cause, err)
}

// definite reports whether waiting will not help.
func definite(err error) bool {
	return err != nil && !errors.Is(err, ErrNoController) && !errors.Is(err, context.Canceled)
}

func (s *share) status() (attempts uint64, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.attempts, s.changed, s.err
}

// Err is how the last attempt ended; nil if it went well.
func (h *Handle) Err() error {
	_, _, err := h.share.status()
	return err
}

// Close gives the account up. Snapshots stay good. It is idempotent.
func (h *Handle) Close() {
	h.once.Do(func() {
		s := h.share
		s.mu.Lock()
		delete(s.watchers, h.watch)
		s.mu.Unlock()
		s.account.pool.release(s)
	})
}
