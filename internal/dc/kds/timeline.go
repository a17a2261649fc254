package kds

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
)

var (
	// ErrInterval: an account cannot have a password interval of that many days.
	ErrInterval = errors.New("unusable managed password interval")
	// ErrTimeline is wrapped by every error about a timeline that is none.
	ErrTimeline = errors.New("malformed timeline")
)

// Limits of a timeline.
const (
	// MaxSalt is the size of a salt, in bytes: a realm of 255 twice, "host", a
	// name and two dots fit.
	MaxSalt = 1024
	// MaxEntries is how many entries a timeline may have. Those that nothing needs
	// any more are dropped when one is added, which leaves half a dozen at most.
	MaxEntries = 32
	// maxCycles bounds the password interval to 1,000 years, in key cycles of 10 h:
	// sums of times then cannot overflow for any time that a clock will show.
	maxCycles = 1000 * 366 * 24 / 10
)

// Entry begins a run of periods with one root key and salt.
type Entry struct {
	First   gkdi.KeyID // interval of 10 h with which the first period begins
	RootKey dtyp.GUID
	KVNO    uint32 // of the first period
	Salt    string // of the Kerberos keys
}

// Timeline is all that an account must remember for its passwords to follow
// from root keys and time. It is an immutable value: what changes one returns
// another. The zero value is no timeline; [Create] and [Parse] make them.
//
// Entries are in the order of their First. The periods of an entry are as long
// as the account's password interval and follow each other from First on; the
// last is cut short where the next entry begins. What has begun never changes,
// because an added entry begins in the future; one that was to begin later
// still gives way to it.
type Timeline struct {
	cycles  int64 // password interval in key cycles of 10 h, at least 1
	entries []Entry
}

// Period is the life of one password.
type Period struct {
	KeyID   gkdi.KeyID // from which the password is derived; the period starts with it
	RootKey dtyp.GUID
	KVNO    uint32
	Salt    string
	// Start is when the password comes into force and End when the next one does.
	Start, End dtyp.Filetime
}

// Create is the timeline of an account that is made at now with a password
// interval in days (msDS-ManagedPasswordInterval). Its first period begins with
// the key cycle that now lies in, so that the first password lives up to 10 h
// less than the others. It fails with ErrInterval, and with gkdi.ErrNoRootKey
// where no root key is eligible yet.
func Create(ring *Ring, now dtyp.Filetime, days int64, salt string) (Timeline, error) {
	cycles, err := gkdi.RolloverCycles(days)
	if err != nil {
		return Timeline{}, fmt.Errorf("%w: %w", ErrInterval, err)
	}
	if cycles < 1 || cycles > maxCycles {
		return Timeline{}, fmt.Errorf("%w: %d days", ErrInterval, days)
	}
	id := gkdi.KeyIDAt(now)
	root, err := ring.Select(id)
	if err != nil {
		return Timeline{}, err
	}
	t := Timeline{cycles: cycles, entries: []Entry{{First: id, RootKey: root, KVNO: 1, Salt: salt}}}
	return t, t.check()
}

// check reports whether t is a timeline that [Timeline.At] can be asked of.
func (t Timeline) check() error {
	if t.cycles < 1 || t.cycles > maxCycles {
		return fmt.Errorf("%w: interval of %d key cycles, want 1 to %d", ErrTimeline, t.cycles, int64(maxCycles))
	}
	if n := len(t.entries); n < 1 || n > MaxEntries {
		return fmt.Errorf("%w: %d entries, want 1 to %d", ErrTimeline, n, MaxEntries)
	}
	for i, e := range t.entries {
		if _, err := e.First.Start(); err != nil {
			return fmt.Errorf("%w: entry %d: %w", ErrTimeline, i, err)
		}
		if i > 0 && e.First.Compare(t.entries[i-1].First) <= 0 {
			return fmt.Errorf("%w: entry %d begins at %v, not after %v", ErrTimeline, i, e.First, t.entries[i-1].First)
		}
		if len(e.Salt) > MaxSalt {
			return fmt.Errorf("%w: entry %d: salt of %d bytes, limit %d", ErrTimeline, i, len(e.Salt), MaxSalt)
		}
	}
	return nil
}

// Entries are the entries, ascending by First; the slice is the caller's.
func (t Timeline) Entries() []Entry { return slices.Clone(t.entries) }

// Interval is the life of a password that nothing cuts short.
func (t Timeline) Interval() dtyp.Filetime { return dtyp.Filetime(t.cycles) * gkdi.Cycle }

// At is the period that contains now. A time before the first period belongs
// to it: a controller whose clock is behind that of the one that made the
// account serves the only password there is. It fails past the end of FILETIME
// and past the last kvno.
func (t Timeline) At(now dtyp.Filetime) (Period, error) { return t.containing(gkdi.KeyIDAt(now)) }

// Next is the period after p, which came from t.
func (t Timeline) Next(p Period) (Period, error) { return t.At(p.End) }

// Previous is the period before p, which came from t; ok is false for the
// first.
func (t Timeline) Previous(p Period) (previous Period, ok bool) {
	if p.KeyID.Compare(t.entries[0].First) <= 0 {
		return Period{}, false
	}
	before, err := p.KeyID.Add(-1)
	if err != nil {
		return Period{}, false
	}
	previous, err = t.containing(before)
	return previous, err == nil
}

// containing is the period that the key cycle id lies in.
func (t Timeline) containing(id gkdi.KeyID) (Period, error) {
	if id.Compare(t.entries[0].First) < 0 {
		id = t.entries[0].First
	}
	i := t.governing(id)
	e := t.entries[i]
	n := id.Sub(e.First) / t.cycles
	if n > int64(math.MaxUint32-e.KVNO) {
		return Period{}, fmt.Errorf("%w: kvno of %v is past 32 bits", ErrTimeline, id)
	}
	first, err := e.First.Add(n * t.cycles)
	if err != nil {
		return Period{}, err
	}
	start, err := first.Start()
	if err != nil {
		return Period{}, err
	}
	p := Period{KeyID: first, RootKey: e.RootKey, KVNO: e.KVNO + uint32(n), Salt: e.Salt, Start: start}
	p.End = p.Start + t.Interval()
	if p.End < p.Start {
		return Period{}, fmt.Errorf("%w: the period of %v ends past the end of FILETIME", ErrTimeline, id)
	}
	if i+1 < len(t.entries) {
		cut, err := t.entries[i+1].First.Start()
		if err != nil {
			return Period{}, err
		}
		p.End = min(p.End, cut)
	}
	return p, nil
}

// governing is the index of the entry in force in the key cycle id, which is
// not before the first entry.
func (t Timeline) governing(id gkdi.KeyID) int {
	for i := len(t.entries) - 1; i > 0; i-- {
		if t.entries[i].First.Compare(id) <= 0 {
			return i
		}
	}
	return 0
}
