package account

import (
	"slices"
	"time"
)

const (
	// recheck is how often the password is read though nothing is expected: a
	// rotation that somebody forced, or a rename, is noticed within it.
	recheck = time.Hour

	// lead is how long before an expiry the guard looks around: a controller
	// that it has not heard yet may be ClockSkew ahead of the earliest one, and
	// announces the next password another ClockSkew before.
	lead = 2 * ClockSkew

	// Within these spans hosts and accounts spread their reads, so that a fleet
	// does not come at once: well inside the 5 minutes of the announcement, with
	// time left for another attempt.
	spreadLook     = 30 * time.Second
	spreadAnnounce = 2 * time.Minute
	spreadConfirm  = 2 * time.Minute

	// margin is added where an instant of a controller's clock must have come.
	margin = 2 * time.Second

	// lookGap, againGap and silentGap are the pauses between two reads of one
	// account: while one controller after the other is heard, as a rule, and
	// where a controller should say something and does not: the next password
	// shortly before an expiry, or the version of the one in force.
	lookGap   = 5 * time.Second
	againGap  = 15 * time.Second
	silentGap = time.Minute
)

// Plan is the next read of the password.
type Plan struct {
	At    time.Time // zero: now
	Avoid []string  // controllers that should not answer; see [ReadHint]
}

// NextRead says when the password should be read next, and from whom. spread, in
// [0,1), is the host's and account's place in the spread.
//
// In quiet times that is once an hour. Before the password expires the guard
// asks each controller once, to learn its clock; then the one that is ahead as
// soon as it announces the next password, since acceptors need that before any
// KDC uses it; and once after the expiry, to learn the new kvno.
func (r Ring) NextRead(spread float64) Plan {
	if r.last.IsZero() {
		return Plan{}
	}
	if len(r.held[r.current].versions) == 0 {
		return Plan{At: r.last.Add(silentGap)}
	}
	usual := Plan{At: r.last.Add(recheck + within(spread, recheck/4))}
	earliest, latest := r.expiry()
	if earliest.IsZero() {
		return usual
	}
	p := r.announcement(spread)
	if r.next() >= 0 {
		p = Plan{At: later(latest.Add(margin+within(spread, spreadConfirm)), r.last.Add(againGap))}
	}
	if usual.At.Before(p.At) {
		return usual
	}
	return p
}

// announcement plans the read that brings the next password: first the round of
// all controllers, then the controller whose clock is ahead.
func (r Ring) announcement(spread float64) Plan {
	from := r.approach()
	var heard []string
	var ahead sighting
	for _, s := range r.sightings {
		if s.inForce != r.inForceID() || s.at.Before(from) {
			continue
		}
		heard = append(heard, s.controller)
		if ahead.controller == "" || s.expires.Before(ahead.expires) {
			ahead = s
		}
	}
	if r.explored.Before(from) {
		return Plan{At: later(from.Add(within(spread, spreadLook)), r.last.Add(lookGap)), Avoid: heard}
	}
	gap := againGap
	if ahead.expires.Sub(ahead.at) <= ClockSkew {
		gap = silentGap
	}
	at := ahead.expires.Add(-ClockSkew + margin + within(spread, spreadAnnounce))
	others := slices.DeleteFunc(heard, func(c string) bool { return c == ahead.controller })
	return Plan{At: later(at, r.last.Add(gap)), Avoid: others}
}

// approach is the instant at which the guard begins to look for the successor of
// the password in force.
func (r Ring) approach() time.Time {
	earliest, _ := r.expiry()
	return earliest.Add(-lead)
}

// Urgent reports whether the successor of the password in force may be used soon
// or already and is not known: a failed read must be repeated soon.
func (r Ring) Urgent(now time.Time) bool {
	return r.last.IsZero() || r.next() < 0 && !now.Before(r.approach())
}

// Quiet reports whether the password in force is known with its version and no other is
// near: what [Ring.NextRead] plans is only to look whether that is still so.
func (r Ring) Quiet(now time.Time) bool {
	if r.last.IsZero() || len(r.held[r.current].versions) == 0 || !r.Settled(now) || r.next() >= 0 {
		return false
	}
	earliest, _ := r.expiry()
	return earliest.IsZero() || now.Before(r.approach())
}

// NextSwitch is the instant at which initiators go on to the announced password
// without any further observation; zero if there is none after now.
func (r Ring) NextSwitch(now time.Time) time.Time {
	if _, latest := r.expiry(); r.next() >= 0 && latest.After(now) {
		return latest
	}
	return time.Time{}
}

// within is the point at spread of a span.
func within(spread float64, span time.Duration) time.Duration {
	return time.Duration(spread * float64(span))
}

func later(t, o time.Time) time.Time {
	if t.Before(o) {
		return o
	}
	return t
}
