package account

import (
	"context"
	"errors"
	"net/netip"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/krb5"
)

// Attempt is one try to log on, of whatever service: it is begun with [Accounts.Attempt]
// and ends with Succeed or Refuse.
type Attempt struct {
	accounts *Accounts
	name     string
	from     netip.AddrPort
	now      dtyp.Filetime
}

// Attempt begins a logon under a name as the client gave it. It fails with a
// *LogonError for an address that has failed too often.
func (a *Accounts) Attempt(name string, from netip.AddrPort) (Attempt, error) {
	t := Attempt{accounts: a, name: name, from: from, now: a.now()}
	if !a.limiter.allow(t.now.Time(), from.Addr(), name) {
		return t, limited()
	}
	return t, nil
}

// Known says whose name it was. It fails as [Accounts.Attempt] does, for an address that
// has failed too often with that account under whatever name.
func (t *Attempt) Known(acct *Account) error {
	if t.name = acct.Name; !t.accounts.limiter.allow(t.now.Time(), t.from.Addr(), t.name) {
		return limited()
	}
	return nil
}

// Now is when the attempt began, which is when it is judged.
func (t Attempt) Now() dtyp.Filetime { return t.now }

// Succeed counts the logon, and tells of it if wrong passwords came before.
func (t Attempt) Succeed(ctx context.Context, acct *Account) {
	if t.accounts.succeeded(ctx, acct, t.now) > 0 {
		t.accounts.cfg.Audit.Record(t.event(audit.KindLogon, acct))
	}
}

// Refuse tells of a logon that failed; acct is nil where there is none. A name that
// nobody has and a wrong password count against the address, the latter against the
// account too, which it may lock. It returns err, for the caller to answer with.
func (t Attempt) Refuse(ctx context.Context, acct *Account, err error) error {
	e := t.event(audit.KindLogon, acct)
	e.Error = err.Error()
	t.accounts.cfg.Audit.Record(e)
	wrong := isWrongPassword(err)
	if wrong || errors.Is(err, krb5.ErrClientUnknown) {
		t.accounts.limiter.fail(t.now.Time(), t.from.Addr(), t.name)
	}
	if acct != nil && wrong && t.accounts.failed(ctx, acct, t.now) {
		t.accounts.cfg.Audit.Record(t.event(audit.KindLockout, acct))
	}
	return err
}

func isWrongPassword(err error) bool {
	e, ok := errors.AsType[*LogonError](err)
	return ok && e.wrong
}

func (t Attempt) event(kind audit.Kind, acct *Account) audit.Event {
	e := audit.Event{Time: t.now.Time(), Kind: kind, Name: t.name, From: t.from}
	if acct != nil {
		e.SID, e.GUID, e.Name = acct.SID, acct.GUID, acct.NTName()
	}
	return e
}
