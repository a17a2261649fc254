package kdc

import (
	"net/netip"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/krb5"
)

func (x *exchange) filetime() dtyp.Filetime { return dtyp.FiletimeOf(x.now) }

// life is when a ticket is good.
type life struct {
	start, end, renewTill time.Time
	renewable             bool
}

// lifetime is the life of a new ticket: RFC 4120, Section 3.1.3. notAfter bounds it, and
// renewNotAfter the time until which it can be renewed; the zero time bounds neither.
// Nothing is postdated.
func (x *exchange) lifetime(notAfter, renewNotAfter time.Time) (life, error) {
	body := &x.req.Body
	l := life{start: x.now.Truncate(time.Second)}
	if body.Options.Has(krb5.OptPostdated) || body.From.After(x.now.Add(x.cfg.Skew)) {
		return l, refuse(krb5.ErrCannotPostdate, "a ticket from %v on", body.From)
	}
	l.end = earliest(l.start.Add(x.cfg.MaxTicketAge), notAfter, body.Till)
	if !l.end.After(l.start) {
		return l, refuse(krb5.ErrNeverValid, "a ticket until %v", l.end)
	}
	asked := body.Options.Has(krb5.OptRenewable)
	rtime := body.RTime
	if !asked && body.Options.Has(krb5.OptRenewableOK) && body.Till.After(l.end) {
		asked, rtime = true, body.Till
	}
	if !asked {
		return l, nil
	}
	l.renewTill = earliest(l.start.Add(x.cfg.MaxRenewAge), renewNotAfter, rtime)
	l.renewable = l.renewTill.After(l.end)
	if !l.renewable {
		l.renewTill = time.Time{}
	}
	return l, nil
}

// earliest is the earliest of t and those others that are not zero.
func earliest(t time.Time, others ...time.Time) time.Time {
	for _, o := range others {
		if !o.IsZero() && o.Before(t) {
			t = o
		}
	}
	return t
}

// accountEnd is when the account expires, which no ticket of its outlives; the zero time
// is never.
func accountEnd(a *account.Account) time.Time {
	if a.Expires == 0 || a.Expires.IsNever() {
		return time.Time{}
	}
	return a.Expires.Time().Truncate(time.Second)
}

// flags are those of a new ticket that come from what was asked for and may be had:
// have are the flags of the TGT, or what an AS exchange grants.
func (x *exchange) flags(have krb5.TicketFlags, server *account.Account, l life) krb5.TicketFlags {
	options := x.req.Body.Options
	var f krb5.TicketFlags
	if options.Has(krb5.OptForwardable) {
		f |= have & krb5.FlagForwardable
	}
	if options.Has(krb5.OptProxiable) {
		f |= have & krb5.FlagProxiable
	}
	if l.renewable {
		f |= krb5.FlagRenewable
	}
	if server.Control&adproto.UACTrustedForDelegation != 0 {
		f |= krb5.FlagOKAsDelegate
	}
	return f
}

// checkAddresses compares where a request came from with the addresses of the ticket
// that it shows: RFC 4120, Section 3.3.3. A ticket without any, or with names of NetBIOS
// alone, can be used from anywhere.
func (x *exchange) checkAddresses(list []krb5.HostAddress) error {
	bound := false
	for _, h := range list {
		if h.Type != krb5.AddrIPv4 && h.Type != krb5.AddrIPv6 {
			continue
		}
		bound = true
		if a, ok := netip.AddrFromSlice(h.Address); ok && a.Unmap() == x.from.Addr().Unmap().WithZone("") {
			return nil
		}
	}
	if bound {
		return refuse(krb5.ErrBadAddress, "the ticket is for other addresses than %v", x.from)
	}
	return nil
}
