package kds

import (
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/managedpassword"
)

// Reading is what msDS-ManagedPassword says at one time ([MS-ADTS]
// 3.1.1.4.5.39), before derivation.
type Reading struct {
	// Current is the period of the password that a reader is to use from now on.
	Current Period
	// Previous is the one before Current; HasPrevious says whether it is given.
	Previous    Period
	HasPrevious bool
	// Query is the time until the password in force expires, Unchanged the time
	// for which the answer certainly stays the same.
	Query, Unchanged time.Duration
}

// Read is the reading of an account that was made at whenCreated:
//
//	        │◄─────────────── period n ────────────────►│◄── period n+1
//	current │ n                            │ n+1        │ n+1
//	previous│ n-1                          │ n          │ n
//	query   │ to the end of n ───────────────────────► 0│ to the end of n+1
//	                                        ◄── 5 min ──►
//
// An account younger than one password interval has no previous password
// outside of the last five minutes, although its first period, which began with
// the key cycle before its creation, may be over: so AD and Samba, and so here,
// that readings compare equal. A period that was cut short, which AD does not
// have, hides nothing: its tickets are out there.
func (t Timeline) Read(whenCreated, now dtyp.Filetime) (Reading, error) {
	p, err := t.At(now)
	if err != nil {
		return Reading{}, err
	}
	now = max(now, p.Start) // before the first period: as at its start
	r := Reading{Current: p, Query: span(p.End - now)}
	if t.announces(p, now) {
		next, err := t.Next(p)
		if err != nil {
			return Reading{}, err
		}
		r.Current, r.Previous, r.HasPrevious = next, p, true
	} else if previous, ok := t.Previous(p); ok {
		age := now - min(whenCreated, now)
		cut := previous.End-previous.Start < t.Interval()
		if cut || age >= t.Interval() {
			r.Previous, r.HasPrevious = previous, true
		}
	}
	r.Unchanged = max(0, span(r.Current.End-now)-span(gkdi.MaxClockSkew))
	return r, nil
}

// announces reports whether at now, in p, the next password is given out
// already.
func (t Timeline) announces(p Period, now dtyp.Filetime) bool {
	return p.End-now <= gkdi.MaxClockSkew
}

// Accepted are the periods whose keys the KDC accepts at now: first the one in
// force, under which it encrypts, then the previous one for five minutes more
// and the next one for five minutes before, which is as long as readers are told
// it. Deviation: Samba refuses the next password until the last second, so that
// a reader must try two; accepting it a little early is what a clock five
// minutes ahead would do, and keeps clients alive that do not know to.
func (t Timeline) Accepted(now dtyp.Filetime) ([]Period, error) {
	p, err := t.At(now)
	if err != nil {
		return nil, err
	}
	now = max(now, p.Start)
	accepted := []Period{p}
	if previous, ok := t.Previous(p); ok && now-p.Start < gkdi.MaxClockSkew {
		accepted = append(accepted, previous)
	}
	if t.announces(p, now) {
		next, err := t.Next(p)
		if err != nil {
			return nil, err
		}
		accepted = append(accepted, next)
	}
	return accepted, nil
}

// Blob derives the passwords of a reading for the account sid. It fails with
// gkdi.ErrNoRootKey if the current password's root key was removed; a previous
// password that can no longer be derived is left out.
func (r Reading) Blob(ring *Ring, sid dtyp.SID) (managedpassword.Blob, error) {
	current, err := ring.Password(sid, r.Current)
	if err != nil {
		return managedpassword.Blob{}, err
	}
	blob := managedpassword.Blob{Current: current, QueryInterval: r.Query, UnchangedInterval: r.Unchanged}
	if !r.HasPrevious {
		return blob, nil
	}
	if previous, err := ring.Password(sid, r.Previous); err == nil {
		blob.Previous = previous
	}
	return blob, nil
}

// PasswordID is msDS-ManagedPasswordId of the password of p, for the DNS names
// of domain and forest.
func (p Period) PasswordID(domain, forest string) managedpassword.ID {
	return managedpassword.NewID(p.RootKey, p.KeyID, domain, forest)
}

// span is a length of time, which is at most maxCycles long: a Duration holds
// 292 years, and what is longer is cut to it.
func span(d dtyp.Filetime) time.Duration { return d.Sub(0) }
