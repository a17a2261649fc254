package account

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// logons are the counters in memory. Those of an account come from its row when it
// first does something, and stay.
type logons struct {
	mu   sync.Mutex
	seen map[dtyp.GUID]*logon // guarded by mu, as all that it holds
}

// logon is the counters of one account.
type logon struct {
	directory.Logons
	dirty bool // the row is behind
	// lockedAt is when these counters locked the account, 0 if they did not; pending says
	// that lockoutTime of the object does not show it yet. Once it does, the object
	// decides: an administrator unlocks by setting it to 0.
	lockedAt dtyp.Filetime
	pending  bool
}

// locked reports whether the account is locked out at now.
func (l *logons) locked(acct *Account, now dtyp.Filetime) bool {
	at := acct.LockoutTime
	l.mu.Lock()
	if s := l.seen[acct.GUID]; s != nil && s.pending {
		at = s.lockedAt
	}
	l.mu.Unlock()
	return at != 0 && acct.lockable() && (acct.Policy.LockoutDuration == 0 || now < at.Add(acct.Policy.LockoutDuration))
}

// lockable reports whether wrong passwords can lock the account. A machine's cannot, be
// it a host's or a gMSA's (measured on Samba: TestWhomSambaLocksOut): its password is
// random, so that guessing is idle and locking would only serve whoever wants the service
// to stop. The account Administrator can only where the domain says so: [MS-SAMR]
// 2.2.3.1 (DOMAIN_LOCKOUT_ADMINS).
func (a *Account) lockable() bool {
	switch {
	case a.Kind == GroupManagedService, trust(a.Control):
		return false
	case a.SID.RID() == dtyp.RIDAdministrator:
		return a.Policy.Properties&PasswordLockAdmins != 0
	}
	return true
}

// of is the counters of an account. The caller holds mu; load reads the row.
func (l *logons) of(acct *Account, load func() directory.Logons) *logon {
	s := l.seen[acct.GUID]
	if s == nil {
		if l.seen == nil {
			l.seen = map[dtyp.GUID]*logon{}
		}
		s = &logon{Logons: load()}
		l.seen[acct.GUID] = s
	}
	if s.lockedAt != 0 && !s.pending && acct.LockoutTime == 0 {
		s.lockedAt, s.BadPwdCount = 0, 0 // somebody unlocked it
	}
	return s
}

// succeed counts a logon and forgets wrong passwords. It reports how many there were.
func (l *logons) succeed(acct *Account, now dtyp.Filetime, load func() directory.Logons) (wrong uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(acct, load)
	wrong = s.BadPwdCount
	s.BadPwdCount, s.LastLogon, s.dirty = 0, now, true
	s.LogonCount++
	if s.lockedAt != 0 || acct.LockoutTime != 0 {
		s.lockedAt, s.pending = 0, true // the object is still to be told
	}
	return wrong
}

// fail counts a wrong password and reports whether it locked the account.
func (l *logons) fail(acct *Account, now dtyp.Filetime, load func() directory.Logons) (locked bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(acct, load)
	if now > s.BadPasswordTime.Add(acct.Policy.LockoutWindow) {
		s.BadPwdCount = 0
	}
	s.BadPwdCount++
	s.BadPasswordTime, s.dirty = now, true
	threshold := acct.Policy.LockoutThreshold
	if threshold == 0 || !acct.lockable() || s.BadPwdCount < uint32(threshold) {
		return false
	}
	s.lockedAt, s.pending = now, true
	return true
}

// succeeded counts a logon of the account at now.
func (a *Accounts) succeeded(ctx context.Context, acct *Account, now dtyp.Filetime) (wrongBefore uint32) {
	return a.logons.succeed(acct, now, func() directory.Logons { return a.readLogons(ctx, acct.GUID) })
}

// failed counts a wrong password of the account at now.
func (a *Accounts) failed(ctx context.Context, acct *Account, now dtyp.Filetime) (locked bool) {
	locked = a.logons.fail(acct, now, func() directory.Logons { return a.readLogons(ctx, acct.GUID) })
	if locked {
		select {
		case a.lockedOut <- struct{}{}:
		default: // it is asked already
		}
	}
	return locked
}

// readLogons reads a row of counters. One that is missing or cannot be read counts
// nothing yet: counters are not worth refusing a logon.
func (a *Accounts) readLogons(ctx context.Context, g dtyp.GUID) (l directory.Logons) {
	err := a.cfg.Directory.View(ctx, func(r *directory.Reader) (err error) {
		l, err = r.Logons(g)
		return err
	})
	if err != nil && !errors.Is(err, rows.ErrNotFound) {
		a.cfg.Log.Error("counters of logons cannot be read", "object", g, "error", err)
	}
	return l
}

// flushBatch is how many accounts one transaction writes: two rows or three of each.
const flushBatch = 32

// Flush writes the counters that have changed.
func (a *Accounts) Flush(ctx context.Context) error {
	for {
		batch := a.logons.take(flushBatch)
		if len(batch) == 0 {
			return nil
		}
		err := a.cfg.Directory.Update(ctx, func(w *directory.Writer) error {
			for g, s := range batch {
				if err := a.writeLogon(w, g, s); err != nil {
					return fmt.Errorf("counters of %s: %w", g, err)
				}
			}
			return nil
		})
		if err != nil {
			a.logons.putBack(batch)
			return err
		}
		a.logons.written(batch)
	}
}

// writeLogon writes the counters of one account, and into its object what stands there:
// lockoutTime where it changed, lastLogonTimestamp where that is old. An account that was
// deleted has none any more.
func (a *Accounts) writeLogon(w *directory.Writer, g dtyp.GUID, s logon) error {
	e, err := w.Get(g)
	if errors.Is(err, rows.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	locked := s.pending && filetime(e, a.known.lockoutTime) != s.lockedAt
	if locked {
		setNumber(e, a.known.lockoutTime, int64(s.lockedAt))
	}
	stamped, err := a.stamp(w, e, s.LastLogon)
	if err != nil {
		return err
	}
	if locked || stamped {
		if err := w.Replace(e); err != nil {
			return err
		}
	}
	return w.SetLogons(g, s.Logons)
}

// Which logons lastLogonTimestamp shows: [MS-ADTS] 3.1.1.1.9 (msDS-LogonTimeSyncInterval).
const (
	stampInterval = 14 // days between two of them, unless the domain says otherwise
	stampSpread   = 5  // days, by chance up to which the interval is shorter
)

// stamp sets lastLogonTimestamp where it is older than the domain's interval less some
// days by chance, so that accounts that began together do not stay so. Unlike lastLogon
// it is an attribute that controllers replicate, and that filters find by an index.
func (a *Accounts) stamp(w *directory.Writer, e *rows.Entry, logon dtyp.Filetime) (bool, error) {
	head, err := w.Get(a.domain.GUID)
	if err != nil {
		return false, err
	}
	days, ok := number(head, a.known.logonTimeSync)
	if !ok {
		days = stampInterval
	}
	if days <= 0 || logon == 0 { // 0 switches it off
		return false, nil
	}
	age := time.Duration(days) * day
	if days >= stampSpread {
		age -= rand.N(stampSpread * day)
	}
	if was := filetime(e, a.known.lastLogonTimestamp); was != 0 && logon < was.Add(age) {
		return false, nil
	}
	setNumber(e, a.known.lastLogonTimestamp, int64(logon))
	return true, nil
}

// take is copies of at most n counters to write.
func (l *logons) take(n int) map[dtyp.GUID]logon {
	l.mu.Lock()
	defer l.mu.Unlock()
	batch := map[dtyp.GUID]logon{}
	for g, s := range l.seen {
		if len(batch) == n {
			break
		}
		if s.dirty {
			batch[g], s.dirty = *s, false
		}
	}
	return batch
}

// putBack says that a batch was not written.
func (l *logons) putBack(batch map[dtyp.GUID]logon) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for g := range batch {
		l.seen[g].dirty = true
	}
}

// written says that the objects show what the batch has of lockouts.
func (l *logons) written(batch map[dtyp.GUID]logon) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for g, was := range batch {
		if s := l.seen[g]; s.lockedAt == was.lockedAt {
			s.pending = false
		}
	}
}
