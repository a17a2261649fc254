package kds

import (
	"fmt"
	"math"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
)

// Notice is how far in the future an added entry must begin at least: 10 min.
// A controller announces the next password 5 min before it comes into force
// ([MS-GKDI] 3.1.4.1, MAX_CLOCK_SKEW), by a clock that may be 5 min ahead of
// ours; a password that anybody may have been told must not change.
const Notice = 2 * gkdi.MaxClockSkew

// Refresh adds an entry if the next password that can still be decided comes
// from another root key than the one that the ring would choose for it: a key
// became eligible, or the account's was removed. changed is false, and t is
// returned as it is, where there is nothing to add; so it can be called as often
// as one likes, and by every controller. With no eligible key at all it fails
// with gkdi.ErrNoRootKey.
//
// It decides one period ahead: a key that becomes eligible later needs a later
// call, at least one in each period, or comes into use a period late.
func (t Timeline) Refresh(ring *Ring, now dtyp.Filetime) (refreshed Timeline, changed bool, err error) {
	next, err := t.undecided(now)
	if err != nil {
		return t, false, err
	}
	root, err := ring.Select(next.KeyID)
	if err != nil || root == next.RootKey {
		return t, false, err
	}
	refreshed, err = t.add(now, next.KeyID, root, next.Salt)
	return refreshed, err == nil, err
}

// Rotate ends the password in force early, after a compromise: a new one
// follows with the first key cycle that begins after [Notice], so within 10 h
// and 10 min. Readers that were told a longer life before find out when the KDC
// refuses the old password, as with any password that is changed. It fails with
// gkdi.ErrNoRootKey.
func (t Timeline) Rotate(ring *Ring, now dtyp.Filetime) (Timeline, error) {
	id, err := gkdi.KeyIDAt(now + Notice).Add(1)
	if err != nil {
		return t, err
	}
	if id.Compare(t.entries[0].First) <= 0 {
		if id, err = t.entries[0].First.Add(1); err != nil {
			return t, err
		}
	}
	root, err := ring.Select(id)
	if err != nil {
		return t, err
	}
	// What was already decided for a later period, such as the salt of a new
	// name, takes effect with the new password.
	salt := t.entries[len(t.entries)-1].Salt
	return t.add(now, id, root, salt)
}

// Rename gives the account another salt from the next password on that can
// still be decided. The keys in force keep theirs, as in AD, where a salt is
// fixed when a password is set.
func (t Timeline) Rename(now dtyp.Filetime, salt string) (Timeline, error) {
	next, err := t.undecided(now)
	if err != nil || next.Salt == salt {
		return t, err
	}
	return t.add(now, next.KeyID, next.RootKey, salt)
}

// undecided is the first period at now whose password nobody can have been
// told: the next, or the one after it where the next begins within Notice.
func (t Timeline) undecided(now dtyp.Filetime) (Period, error) {
	p, err := t.At(now)
	if err != nil {
		return Period{}, err
	}
	for {
		if p, err = t.Next(p); err != nil || p.Start > now+Notice {
			return p, err
		}
	}
}

// add adds an entry at first, which lies after now and Notice, with the kvno
// that follows the period before it. It drops the entries that were to begin later,
// and those that nothing needs any more.
func (t Timeline) add(now dtyp.Filetime, first gkdi.KeyID, root dtyp.GUID, salt string) (Timeline, error) {
	last, err := first.Add(-1)
	if err != nil {
		return t, err
	}
	before, err := t.containing(last)
	if err != nil {
		return t, err
	}
	if before.KVNO == math.MaxUint32 {
		return t, fmt.Errorf("%w: kvno of %v is past 32 bits", ErrTimeline, first)
	}
	added := Timeline{cycles: t.cycles}
	for _, e := range t.entries[t.needed(now):] {
		if e.First.Compare(first) < 0 {
			added.entries = append(added.entries, e)
		}
	}
	added.entries = append(added.entries, Entry{First: first, RootKey: root, KVNO: before.KVNO + 1, Salt: salt})
	if err := added.check(); err != nil {
		return t, err
	}
	return added, nil
}

// needed is the index of the first entry that may still be asked for: that of
// the period before the previous one, so that a controller whose clock is a
// little behind still knows its own previous period.
func (t Timeline) needed(now dtyp.Filetime) int {
	p, err := t.At(now)
	if err != nil {
		return 0
	}
	for range 2 {
		if previous, ok := t.Previous(p); ok {
			p = previous
		}
	}
	return t.governing(p.KeyID)
}

// UsesRootKey reports whether a password that is accepted or announced at now,
// or the previous one that readers are given, comes from the root key: removing
// it would take a password away from somebody.
func (t Timeline) UsesRootKey(root dtyp.GUID, now dtyp.Filetime) (bool, error) {
	p, err := t.At(now)
	if err != nil {
		return false, err
	}
	used := p.RootKey == root
	if previous, ok := t.Previous(p); ok {
		used = used || previous.RootKey == root
	}
	if p.End <= now+Notice {
		next, err := t.Next(p)
		if err != nil {
			return false, err
		}
		used = used || next.RootKey == root
	}
	return used, nil
}
