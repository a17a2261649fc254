package account

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

const (
	// ClockSkew is what two clocks of a domain may differ by, 5 min: the
	// domain's Kerberos policy (MaxClockSkew) and the lead of the next
	// password ([MS-GKDI] 3.1.4.1, [MS-ADTS] 3.1.1.4.5.39).
	ClockSkew = 5 * time.Minute

	// DefaultTicketLife is the longest that a ticket lives unless the domain's
	// Kerberos policy was changed: 10 h (MaxTicketAge and MaxServiceAge of the
	// Default Domain Policy).
	DefaultTicketLife = 10 * time.Hour

	// replication is how long controllers may disagree about a password after
	// one of them changed it. Within a site it takes seconds; the guard keeps
	// asking which key is in force for that long, and accepts longer anyway.
	replication = 15 * time.Minute

	// coolDown is the least time between two refusals of one key by one
	// controller that calls the key in force: AD forgets bad passwords after 30
	// min (lockoutObservationWindow), so that no account is ever locked by it.
	coolDown = time.Hour
)

// Bounds of a ring: far above what a domain does, so that a hostile controller
// cannot make it grow.
const (
	maxHeld      = 16
	maxSightings = 16
	maxVersions  = 3 // kvno of one password; 2 if it was written twice
	maxRefusals  = 8
)

// Fingerprint identifies a password without holding it: its SHA-256. The
// passwords are 256 random bytes, so that it discloses nothing.
type Fingerprint [sha256.Size]byte

// FingerprintOf is the fingerprint of a password's bytes.
func FingerprintOf(password secret.Bytes) Fingerprint { return sha256.Sum256(password.Reveal()) }

// Password is one password of the account, as keys.
type Password struct {
	// Print is zero for a password that is known from a keytab only.
	Print Fingerprint
	// Salt is what Keys were made with.
	Salt string
	// Keys are the keys, at most one for each encryption type, the preferred
	// first.
	Keys []*crypto.Key
	// Starts is the beginning of the period that msDS-ManagedPasswordId names,
	// by the domain's calendar; zero if unknown. It orders passwords.
	Starts time.Time
}

// same reports whether p and o are one password: by the fingerprint or, where
// one of them comes from a keytab, by a key.
func (p Password) same(o Password) bool {
	if p.Print != (Fingerprint{}) && o.Print != (Fingerprint{}) {
		return subtle.ConstantTimeCompare(p.Print[:], o.Print[:]) == 1
	}
	return slices.ContainsFunc(p.Keys, func(k *crypto.Key) bool {
		return slices.ContainsFunc(o.Keys, k.Equal)
	})
}

// Observation is what one controller said of the account's passwords.
type Observation struct {
	Controller string
	At         time.Time // when the answer came, by the host's clock, as all times here
	// InForce is the password that the controller's KDC uses, Upcoming the one
	// that follows it, if announced, Former the one before it, if given.
	InForce          Password
	Upcoming, Former *Password
	// KVNO is the version of InForce; 0 if unknown.
	KVNO uint32
	// Expires is when this controller goes on to the next password, unless
	// another one makes it do so earlier by replication.
	Expires time.Time
}

// Change says what an observation brought.
type Change uint8

// The changes of an observation.
const (
	NewInForce  Change = 1 << iota // another password than before is in force
	NewPassword                    // a password was not known before
	NewVersion                     // the kvno in force was not known before
)

// KeySet are the keys of one password under one version number.
type KeySet struct {
	KVNO uint32
	Salt string
	Keys []*crypto.Key
	// Proven says that a KDC took keys with this salt; it is known of the keys to
	// initiate with only.
	Proven bool
	// Since is when the guard learnt of the password, which is the time of the
	// keys in a keytab.
	Since time.Time
}

// Ring holds the passwords of an account as keys, with what is known of when
// the domain uses each. It is a value: methods return what they change. The
// zero Ring is empty and ready; [NewRing] sets another life of tickets.
//
// Each password goes one way, unless a controller lags:
//
//	announced ──► in force ──► superseded ──► forgotten, when no ticket under
//	    │  (at most one is)        ▲          it lives and another one that
//	    └──────────────────────────┘          was in force has followed it
//	       its period was slept through
type Ring struct {
	life      time.Duration
	held      []held // in the order of use, oldest first
	current   int    // index in held of the newest password seen in force
	serial    uint32 // the last held.id given out
	sightings []sighting
	last      time.Time // of the last observation
	explored  time.Time // when the last round of all controllers was complete
	unsettled time.Time // until then controllers may disagree
}

// held is a password in the ring.
type held struct {
	Password
	id       uint32
	versions []version // proven kvno, the latest first
	used     bool      // it was in force, here or in an earlier run
	told     bool      // a controller announced it in this run
	proven   bool      // a KDC accepted its keys: the salt is right
	since    time.Time // when it came to be known
	until    time.Time // last instant at which a controller may use it; zero: open
	refusals []refusal
}

type version struct {
	number uint32
	seen   time.Time
}

// refusal records that a controller refused the keys of a password.
type refusal struct {
	controller string
	at         time.Time
	asserted   bool // the same controller had called the password in force
}

// sighting is what a controller said last.
type sighting struct {
	controller string
	at         time.Time
	inForce    uint32 // held.id
	expires    time.Time
}

// NewRing makes an empty ring for a domain whose tickets live for up to life; 0
// means DefaultTicketLife.
func NewRing(life time.Duration) Ring { return Ring{life: life} }

// Empty reports whether no password is known.
func (r Ring) Empty() bool { return len(r.held) == 0 }

// retention is how long keys are kept after the last instant at which a
// controller may have used them: as long as a ticket issued then is good, by
// the clock of an acceptor that is late.
func (r Ring) retention() time.Duration {
	if r.life == 0 {
		return DefaultTicketLife + ClockSkew
	}
	return r.life + ClockSkew
}

// clone copies what methods change in place.
func (r Ring) clone() Ring {
	r.held = slices.Clone(r.held)
	r.sightings = slices.Clone(r.sightings)
	return r
}

// find is the index of a password, or -1.
func (r Ring) find(p Password) int {
	return slices.IndexFunc(r.held, func(h held) bool { return h.same(p) })
}

// Lookup returns the password with a fingerprint, as keys that need not be
// derived again, with the salt that the domain is known to use for it.
func (r Ring) Lookup(print Fingerprint) (Password, bool) {
	for _, h := range r.held {
		if h.Print == print {
			return h.Password, true
		}
	}
	return Password{}, false
}

// Observe folds an observation into the ring. Observations must come in the
// order of their times.
func (r Ring) Observe(o Observation) (Ring, Change) {
	r = r.clone()
	var change Change
	i := r.find(o.InForce)
	if i < 0 {
		change |= NewPassword
	}
	before := r.inForceID()
	i = r.place(i, o)
	if o.Former != nil && r.follow(*o.Former, i, o.At) {
		i++
		change |= NewPassword
	}
	if o.Upcoming != nil && r.announce(*o.Upcoming, o.At) {
		change |= NewPassword
	}
	if r.inForceID() != before {
		change |= NewInForce
	}
	if r.held[i].prove(o.KVNO, o.At) {
		change |= NewVersion
	}
	r.sight(o, r.held[i].id)
	r.last = o.At
	r.forget(o.At)
	return r, change
}

// inForceID is the id of the newest password seen in force, 0 if there is none.
func (r Ring) inForceID() uint32 {
	if r.Empty() {
		return 0
	}
	return r.held[r.current].id
}

// place puts the password in force, found at i or not at all, where it belongs
// and returns its index then.
func (r *Ring) place(i int, o Observation) int {
	switch {
	case i < 0 && r.olderThanCurrent(o.InForce):
		i = r.current
		r.insert(i, held{Password: o.InForce, since: o.At, until: o.At})
	case i < 0:
		i = len(r.held)
		r.insert(i, held{Password: o.InForce, since: o.At})
	}
	h := &r.held[i]
	h.used = true
	h.learn(o.InForce)
	switch {
	case r.last.IsZero():
		r.begin(i)
	case i > r.current || i < r.current && r.heldBy(o.Controller) == r.inForceID():
		return r.promote(i, o.At) // also back, where the domain was restored
	case i < r.current:
		h.until = o.At // this controller lags behind
	}
	return i
}

// heldBy is the id of the password that a controller last called in force.
func (r Ring) heldBy(controller string) uint32 {
	s, _ := r.sighting(controller)
	return s.inForce
}

// begin makes the password at i the one in force in a ring that no controller
// has been asked for yet: what was restored beside it is older or announced.
func (r *Ring) begin(i int) {
	r.current = i
	for j := i; j < len(r.held); j++ {
		r.held[j].until = time.Time{}
	}
}

// olderThanCurrent reports whether p, which is unknown, belongs to a period
// before that of the password in force: the controller lags behind.
func (r Ring) olderThanCurrent(p Password) bool {
	if r.Empty() || p.Starts.IsZero() {
		return false
	}
	now := r.held[r.current].Starts
	return !now.IsZero() && p.Starts.Before(now)
}

// insert puts h at index i.
func (r *Ring) insert(i int, h held) {
	r.serial++
	h.id = r.serial
	if i <= r.current && len(r.held) > 0 {
		r.current++
	}
	r.held = slices.Insert(r.held, i, h)
}

// promote makes the password at i, which was announced or is new, the one in
// force, and returns its new index. What else was announced has been slept
// through: some controller may have used it.
func (r *Ring) promote(i int, at time.Time) int {
	for j := r.current + 1; j < len(r.held); j++ {
		if o := &r.held[j]; j != i && len(o.versions) == 0 {
			o.prove(r.number(j), time.Time{}) // who used it used this number
		}
	}
	h := r.held[i]
	h.until = time.Time{}
	r.held = append(slices.Delete(r.held, i, i+1), h)
	r.unsettled = at.Add(replication)
	r.current = len(r.held) - 1
	for j := range r.current {
		if r.held[j].until.IsZero() {
			r.held[j].until = at
		}
	}
	return r.current
}

// follow takes in the password that was in force before that at i, and reports
// whether it is new, so that i has moved.
func (r *Ring) follow(p Password, i int, at time.Time) bool {
	if j := r.find(p); j >= 0 {
		r.held[j].used = true
		r.held[j].learn(p)
		return false
	}
	r.insert(i, held{Password: p, used: true, since: at, until: at})
	return true
}

// announce takes in a password that will follow the one in force and reports
// whether it is new. The latest announcement stands last.
func (r *Ring) announce(p Password, at time.Time) bool {
	i := r.find(p)
	switch {
	case i < 0:
		r.insert(len(r.held), held{Password: p, told: true, since: at})
	case i > r.current:
		h := r.held[i]
		h.told = true
		h.learn(p)
		r.held = append(slices.Delete(r.held, i, i+1), h)
	}
	return i < 0
}

// learn completes what was known of h by p, the same password: its fingerprint
// and more encryption types. The salt stays until a KDC says otherwise: a rename
// does not change that of a password already set.
func (h *held) learn(p Password) {
	if p.Print != (Fingerprint{}) {
		h.Print = p.Print
	}
	if p.Salt == h.Salt {
		h.Keys = p.Keys
	}
	if !p.Starts.IsZero() {
		h.Starts = p.Starts
	}
}

// prove records that the domain calls h by a version number, and reports whether
// that is news. A number that is not news stays in its place, since the KDC's
// tickets may have put another one before it.
func (h *held) prove(kvno uint32, at time.Time) bool {
	if kvno == 0 {
		return false
	}
	h.versions = slices.Clone(h.versions)
	if i := slices.IndexFunc(h.versions, func(v version) bool { return v.number == kvno }); i >= 0 {
		h.versions[i].seen = at
		return false
	}
	h.versions = slices.Insert(h.versions, 0, version{kvno, at})
	if len(h.versions) > maxVersions {
		h.versions = h.versions[:maxVersions]
	}
	return true
}

// prefer puts a version number first.
func (h *held) prefer(kvno uint32) {
	slices.SortStableFunc(h.versions, func(x, y version) int {
		switch {
		case x.number == kvno && y.number != kvno:
			return -1
		case y.number == kvno && x.number != kvno:
			return 1
		}
		return 0
	})
}

// sight records what a controller said, and whether the round of controllers
// before a rollover is complete.
func (r *Ring) sight(o Observation, id uint32) {
	i := slices.IndexFunc(r.sightings, func(s sighting) bool { return s.controller == o.Controller })
	if i >= 0 {
		if from := r.approach(); !o.At.Before(from) && !r.sightings[i].at.Before(from) {
			r.explored = o.At
		}
		r.sightings = slices.Delete(r.sightings, i, i+1)
	}
	if len(r.sightings) == maxSightings {
		r.sightings = slices.Delete(r.sightings, 0, 1)
	}
	r.sightings = append(r.sightings, sighting{o.Controller, o.At, id, o.Expires})
}

// forget drops passwords under which no ticket lives. A controller that was down
// may issue under the last password but one until it has caught up, so that the
// predecessor of the one in force stays, and the time of a password runs from
// when it ceased to be the predecessor.
func (r *Ring) forget(now time.Time) {
	id := r.held[r.current].id
	followed := now // when the next younger one that was in force was superseded
	kept := make([]held, 0, len(r.held))
	for j, h := range slices.Backward(r.held) {
		last := h.until
		if h.used && j < r.current {
			last, followed = later(followed, h.until), h.until
		}
		if j >= r.current || !now.After(last.Add(r.retention())) {
			kept = append(kept, h)
		}
	}
	slices.Reverse(kept)
	if n := len(kept) - maxHeld; n > 0 {
		kept = slices.Delete(kept, 0, min(n, indexOf(kept, id)))
	}
	if len(kept) > maxHeld {
		kept = kept[:maxHeld]
	}
	r.held, r.current = kept, indexOf(kept, id)
}

func indexOf(hs []held, id uint32) int {
	return slices.IndexFunc(hs, func(h held) bool { return h.id == id })
}
