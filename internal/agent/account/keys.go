package account

import (
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// expiry is the earliest and the latest instant at which a controller goes on
// from the password in force, as far as controllers were heard lately; zero if
// none was. What a controller said long before the last observation may have
// been corrected since.
func (r Ring) expiry() (earliest, latest time.Time) {
	id := r.inForceID()
	for _, s := range r.sightings {
		if s.inForce != id || r.last.Sub(s.at) > 2*recheck {
			continue
		}
		if earliest.IsZero() || s.expires.Before(earliest) {
			earliest = s.expires
		}
		if s.expires.After(latest) {
			latest = s.expires
		}
	}
	return earliest, latest
}

// next is the index of the announced password, or -1. Of several the latest
// announcement counts; what an earlier run left is good to accept with only.
func (r Ring) next() int {
	if n := len(r.held) - 1; n > r.current && r.held[n].told {
		return n
	}
	return -1
}

// expected is the index of the password that is in force at now as far as can
// be told without asking: the announced one once the last controller that was
// heard has reached its hour.
func (r Ring) expected(now time.Time) int {
	n := r.next()
	if _, latest := r.expiry(); n >= 0 && !latest.IsZero() && !now.Before(latest) {
		return n
	}
	return r.current
}

// Settled reports whether all controllers are sure to agree at now on the
// password in force. Where they are not, it should be read before it is used.
func (r Ring) Settled(now time.Time) bool {
	if r.Empty() || now.Before(r.unsettled) {
		return false
	}
	earliest, latest := r.expiry()
	if earliest.IsZero() {
		return false
	}
	return now.Before(earliest.Add(-ClockSkew)) ||
		r.next() >= 0 && now.After(latest.Add(ClockSkew))
}

// InitiatorKeys are the keys in force at now, one set; false if none is known.
func (r Ring) InitiatorKeys(now time.Time) (KeySet, bool) {
	if r.last.IsZero() {
		return KeySet{}, false
	}
	i := r.expected(now)
	h := r.held[i]
	return KeySet{KVNO: r.number(i), Salt: h.Salt, Keys: h.Keys, Proven: h.proven, Since: h.since}, true
}

// number is the version of the password at i: proven, or else counted from its
// neighbour, since consecutive rollovers count by one. 0 if nothing is known.
func (r Ring) number(i int) uint32 {
	if v := r.held[i].versions; len(v) > 0 {
		return v[0].number
	}
	switch {
	case i > r.current:
		if n := r.number(r.current); n > 0 {
			return n + 1
		}
	case i < r.current:
		if n := r.number(i + 1); n > 1 {
			return n - 1
		}
	default:
		if i > 0 && len(r.held[i-1].versions) > 0 {
			return r.held[i-1].versions[0].number + 1
		}
	}
	return 0
}

// AcceptorKeys are all keys under which a live ticket may have been issued or may
// be from now on, the newest first. Where two passwords claim one
// version, the better proof comes first and the other one last.
func (r Ring) AcceptorKeys() []KeySet {
	type claim struct {
		KeySet
		seen time.Time // zero for a number that was counted
	}
	var first, last []claim
	for i, h := range slices.Backward(r.held) {
		vs := h.versions
		if len(vs) == 0 {
			vs = []version{{number: r.number(i)}}
		}
		for _, v := range vs {
			c := claim{KeySet{KVNO: v.number, Salt: h.Salt, Keys: h.Keys, Since: h.since}, v.seen}
			j := slices.IndexFunc(first, func(f claim) bool { return f.KVNO == c.KVNO })
			if j >= 0 && c.seen.After(first[j].seen) {
				first[j], c = c, first[j]
			}
			if j >= 0 {
				last = append(last, c)
			} else {
				first = append(first, c)
			}
		}
	}
	sets := make([]KeySet, 0, len(first)+len(last))
	for _, c := range append(first, last...) {
		sets = append(sets, c.KeySet)
	}
	return sets
}

// Candidate is a password worth an AS exchange.
type Candidate struct {
	Password
	id     uint32
	Proven bool // a KDC accepted it before
}

// Candidates are the passwords to try at a controller ("" for any), the likely
// one first: what the controller said is in force, what should be, and its
// neighbour in time while controllers may disagree. None of them was refused
// before, unless the controller has called it in force since.
func (r Ring) Candidates(now time.Time, controller string) []Candidate {
	if r.last.IsZero() {
		return nil
	}
	var order []int
	add := func(i int) {
		if i >= 0 && !slices.Contains(order, i) {
			order = append(order, i)
		}
	}
	if s, ok := r.sighting(controller); ok && now.Sub(s.at) < ClockSkew && now.Before(s.expires) {
		add(indexOf(r.held, s.inForce))
	}
	add(r.expected(now))
	if earliest, _ := r.expiry(); !now.Before(earliest.Add(-ClockSkew)) {
		add(r.next())
	}
	add(r.current)
	for j := r.current - 1; j >= 0; j-- {
		if r.held[j].used && now.Before(r.held[j].until.Add(r.retention())) {
			add(j)
			break
		}
	}
	var out []Candidate
	for _, i := range order {
		if h := r.held[i]; r.allowed(h, now, controller) {
			out = append(out, Candidate{h.Password, h.id, h.proven})
		}
	}
	return out
}

func (r Ring) sighting(controller string) (sighting, bool) {
	i := slices.IndexFunc(r.sightings, func(s sighting) bool { return s.controller == controller })
	if i < 0 {
		return sighting{}, false
	}
	return r.sightings[i], true
}

// lastHeard is the controller that answered last, if that is so fresh that what
// it said still holds.
func (r Ring) lastHeard(now time.Time) string {
	if n := len(r.sightings); n > 0 && now.Sub(r.last) < ClockSkew {
		return r.sightings[n-1].controller
	}
	return ""
}

// knows reports whether a version is that of a password in the ring (0 says
// nothing).
func (r Ring) knows(kvno uint32) bool {
	if kvno == 0 {
		return true
	}
	for i := range r.held {
		if r.number(i) == kvno {
			return true
		}
	}
	return false
}

// allowed reports whether the keys of h may be tried at a controller: a refused
// key only where the controller has called it in force since, and if it refused
// in spite of that, not before coolDown has passed.
func (r Ring) allowed(h held, now time.Time, controller string) bool {
	s, heard := r.sighting(controller)
	for _, f := range h.refusals {
		if !heard || s.inForce != h.id || !s.at.After(f.at) {
			return false
		}
		if f.asserted && f.controller == controller && now.Before(f.at.Add(coolDown)) {
			return false
		}
	}
	return true
}

// Refused records that a controller refused a candidate's keys.
func (r Ring) Refused(c Candidate, controller string, at time.Time) Ring {
	i := indexOf(r.held, c.id)
	if i < 0 {
		return r
	}
	r = r.clone()
	s, heard := r.sighting(controller)
	h := &r.held[i]
	h.refusals = append(slices.Clone(h.refusals), refusal{
		controller: controller, at: at,
		asserted: heard && s.inForce == h.id,
	})
	if n := len(h.refusals) - maxRefusals; n > 0 {
		h.refusals = slices.Delete(h.refusals, 0, n)
	}
	return r
}

// Accepted records that a KDC accepted a candidate's keys.
func (r Ring) Accepted(c Candidate) Ring {
	i := indexOf(r.held, c.id)
	if i < 0 || r.held[i].proven {
		return r
	}
	r = r.clone()
	r.held[i].proven = true
	return r
}

// Resalt replaces the keys of a password whose salt the KDC knows better; told
// says that it spoke of this very password. They are other keys: what was
// refused before does not count against them.
func (r Ring) Resalt(p Password, told bool) Ring {
	i := r.find(Password{Print: p.Print})
	if i < 0 {
		return r
	}
	r = r.clone()
	h := &r.held[i]
	h.Salt, h.Keys, h.refusals, h.proven = p.Salt, p.Keys, nil, told
	return r
}

// Unproven are the fingerprints of passwords whose salt no KDC has confirmed.
func (r Ring) Unproven() []Fingerprint {
	var prints []Fingerprint
	for _, h := range r.held {
		if !h.proven && h.Print != (Fingerprint{}) {
			prints = append(prints, h.Print)
		}
	}
	return prints
}

// Ticketed folds in that a KDC issued a ticket for the account itself which
// states kvno and which the key opens, nil if none of the ring does. It reports
// whether the ring explains the ticket; if not, the password must be read.
func (r Ring) Ticketed(kvno uint32, opened *crypto.Key, at time.Time) (Ring, bool) {
	if opened == nil {
		return r, false
	}
	i := r.find(Password{Keys: []*crypto.Key{opened}})
	if i < 0 {
		return r, false
	}
	r = r.clone()
	r.held[i].prove(kvno, at)
	r.held[i].prefer(kvno)
	r.held[i].proven = true
	return r, true
}
