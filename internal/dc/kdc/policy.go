package kdc

import (
	"errors"
	"fmt"
	"time"
)

// Policy is what AD has in the Kerberos part of its domain policy, and switches for what
// is too dangerous to be its default. All controllers of a domain should have the same.
type Policy struct {
	// MaxTicketAge is the life of a ticket, of a TGT and any other; 0 stands for 10 h,
	// the default domain policy of AD (MaxTicketAge, MaxServiceAge).
	MaxTicketAge time.Duration
	// MaxRenewAge is how long after its first issue a ticket can be renewed; 0 stands for
	// 7 days (MaxRenewAge).
	MaxRenewAge time.Duration
	// Skew is how far the clocks of clients may be off; 0 stands for 5 min (MaxClockSkew).
	Skew time.Duration

	// AllowNoPreauth gives accounts with the flag DONT_REQ_PREAUTH a reply without proof.
	// The risk: anybody can ask for one, and guess the account's password at leisure
	// ("AS-REP roasting"). Without it the flag is passed over.
	AllowNoPreauth bool
	// AllowMissingChecksum takes TGS requests whose authenticator has no checksum of the
	// request, which some tools send. The risk: whoever stands between client and KDC can
	// change what is asked for.
	AllowMissingChecksum bool
}

// Bounds of a policy. They are ours, to catch what cannot be meant: a ticket that ends
// before a client whose clock is off has used it, or one that outlives every password.
const (
	minTicketAge = 10 * time.Minute
	maxAge       = 366 * 24 * time.Hour
	maxSkew      = time.Hour
)

// Validate reports all that is wrong with a policy.
func (p Policy) Validate() error {
	p = p.withDefaults()
	var faults []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			faults = append(faults, fmt.Errorf(format, args...))
		}
	}
	check(p.MaxTicketAge >= minTicketAge && p.MaxTicketAge <= maxAge, "life of a ticket %v: want %v to %v", p.MaxTicketAge, minTicketAge, maxAge)
	check(p.MaxRenewAge >= p.MaxTicketAge && p.MaxRenewAge <= maxAge, "time for renewals %v: want %v, the life of a ticket, to %v", p.MaxRenewAge, p.MaxTicketAge, maxAge)
	check(p.Skew > 0 && p.Skew <= maxSkew, "clocks that are off by %v: want up to %v", p.Skew, maxSkew)
	return errors.Join(faults...)
}

// TicketLifetime is MaxTicketAge, or what it stands for.
func (p Policy) TicketLifetime() time.Duration { return p.withDefaults().MaxTicketAge }

func (p Policy) withDefaults() Policy {
	orDuration(&p.MaxTicketAge, 10*time.Hour)
	orDuration(&p.MaxRenewAge, max(7*24*time.Hour, p.MaxTicketAge))
	orDuration(&p.Skew, 5*time.Minute)
	return p
}

func orDuration(d *time.Duration, v time.Duration) {
	if *d == 0 {
		*d = v
	}
}
