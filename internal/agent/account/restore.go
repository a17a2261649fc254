package account

import (
	"cmp"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Restore adds keys that an earlier run of the guard left in a keytab: the
// domain may not give the old ones back. Each is kept as long as a ticket under
// it may live, counted from now; which of them is in force the next observation
// says. It is meant for an empty ring.
func (r Ring) Restore(sets []KeySet, now time.Time) Ring {
	if !r.Empty() {
		return r
	}
	r = r.clone()
	sets = slices.Clone(sets)
	slices.SortStableFunc(sets, func(a, b KeySet) int { return cmp.Compare(a.KVNO, b.KVNO) })
	for _, s := range sets {
		for _, keys := range apart(s.Keys) {
			p := Password{Salt: s.Salt, Keys: keys}
			i := r.find(p)
			if i < 0 {
				i = len(r.held)
				r.insert(i, held{Password: p, used: true, since: sinceOf(s, now), until: now})
			}
			r.held[i].prove(s.KVNO, time.Time{})
			r.current = len(r.held) - 1
		}
	}
	return r
}

// sinceOf is the time that a keytab gives its keys; one that has none, or lies in
// the future, says nothing.
func sinceOf(s KeySet, now time.Time) time.Time {
	if s.Since.Unix() <= 0 || s.Since.After(now) {
		return now
	}
	return s.Since
}

// apart separates the keys of several passwords that a keytab holds under one
// version: each has one key of a type.
func apart(keys []*crypto.Key) [][]*crypto.Key {
	var out [][]*crypto.Key
	seen := make(map[crypto.EType]int)
	for _, k := range keys {
		n := seen[k.EType()]
		if n == len(out) {
			out = append(out, nil)
		}
		out[n] = append(out[n], k)
		seen[k.EType()]++
	}
	return out
}

// Unclocked forgets what depends on the clock, which has jumped: which password
// is in force the next observation says; old ones are kept as if they had been
// in use until now.
func (r Ring) Unclocked(now time.Time) Ring {
	r = r.clone()
	r.sightings = nil
	r.last, r.explored, r.unsettled = time.Time{}, time.Time{}, time.Time{}
	for j := range r.held {
		h := &r.held[j]
		if j < r.current {
			h.until = now
		}
		h.refusals = slices.Clone(h.refusals)
		for i := range h.refusals {
			h.refusals[i].at = now
		}
	}
	return r
}
