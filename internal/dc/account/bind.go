package account

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/netip"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

// Bind is a simple bind of LDAP with a DN, a user principal name or DOMAIN\name, and a
// password in UTF-8 as the bind carries it. The error is a *LogonError. That the
// connection is protected is the caller's to see to, as is Caller.Encrypted.
//
// What the state of an account is, only whoever knows its password learns; that it is
// locked out is said at once, because its password is not looked at any more.
func (a *Accounts) Bind(ctx context.Context, name string, password secret.Bytes, from netip.AddrPort) (directory.Caller, error) {
	t, err := a.Attempt(name, from)
	if err != nil {
		return directory.Caller{}, err
	}
	acct, err := a.byBindName(ctx, name)
	if errors.Is(err, ErrUnknown) {
		a.waste(password)
		return directory.Caller{}, t.Refuse(ctx, nil, UnknownClient(err))
	}
	if err != nil {
		return directory.Caller{}, fault(err)
	}
	if err := t.Known(acct); err != nil {
		return directory.Caller{}, err
	}
	if a.logons.locked(acct, t.now) {
		return directory.Caller{}, t.Refuse(ctx, acct, &LogonError{Code: krb5.ErrClientRevoked, Status: krb5.StatusAccountLockedOut})
	}
	right, err := a.verify(acct, password, t.now)
	if err != nil {
		return directory.Caller{}, fault(err)
	}
	if !right {
		return directory.Caller{}, t.Refuse(ctx, acct, WrongPassword(errors.New("simple bind")))
	}
	if err := a.checkState(acct, t.now); err != nil {
		return directory.Caller{}, t.Refuse(ctx, acct, err)
	}
	caller, err := a.caller(ctx, acct, acct.sids(), string(acct.GUID[:]), from)
	if err != nil {
		return directory.Caller{}, fault(err)
	}
	t.Succeed(ctx, acct)
	return caller, nil
}

// checkState is all that can be wrong with an account apart from its password.
func (a *Accounts) checkState(acct *Account, now dtyp.Filetime) error {
	if err := a.CheckStanding(acct, now); err != nil {
		return err
	}
	return a.CheckPassword(acct, now)
}

// byBindName finds the account that a bind names.
func (a *Accounts) byBindName(ctx context.Context, name string) (*Account, error) {
	n, err := adproto.ParseAccountName(name)
	if err != nil {
		return nil, unknown(name)
	}
	switch {
	case n.Form == adproto.FormDN:
		return a.byDN(ctx, n.DN)
	case n.Form == adproto.FormNetBIOS && !IsRealm(a.domain, n.Domain):
		return nil, unknown(name)
	case n.Form == adproto.FormNetBIOS:
		name = n.Name
	}
	return a.Client(ctx, krb5.NewName(krb5.NamePrincipal, name))
}

func (a *Accounts) byDN(ctx context.Context, dn adproto.DN) (acct *Account, err error) {
	c := a.current()
	err = a.cfg.Directory.View(ctx, func(r *directory.Reader) error {
		guid, err := r.Resolve(dn)
		if errors.Is(err, rows.ErrNotFound) {
			return unknown(dn.String())
		}
		if err != nil {
			return err
		}
		e, err := r.Get(guid)
		if err != nil {
			return err
		}
		acct, err = a.loaded(r, c, e)
		return err
	})
	return acct, err
}

// verify reports whether a password in UTF-8 is the account's. The empty one is no
// password: RFC 4513, Section 5.1.2 has it mean something else.
func (a *Accounts) verify(acct *Account, password secret.Bytes, now dtyp.Filetime) (bool, error) {
	switch {
	case password.IsZero():
		return false, nil
	case acct.timeline != nil:
		return a.verifyManaged(acct, password, now)
	case acct.stored == nil:
		a.waste(password)
		return false, nil
	}
	return acct.stored.password.equal(newVerifier(acct.stored.verify, password.Reveal())), nil
}

// waste takes as long as a password that is verified, so that time does not tell which
// names exist.
func (a *Accounts) waste(password secret.Bytes) {
	_ = verifier{}.equal(newVerifier(secret.Bytes{}, password.Reveal()))
}

// verifyManaged compares with the passwords of a gMSA that are accepted now.
func (a *Accounts) verifyManaged(acct *Account, password secret.Bytes, now dtyp.Filetime) (bool, error) {
	periods, err := acct.timeline.Accepted(now)
	if err != nil {
		return false, err
	}
	right := 0
	for _, p := range periods {
		managed, err := a.cfg.Directory.Ring().Password(acct.SID, p)
		if err != nil {
			return false, err
		}
		text, err := managedpassword.UTF8(managed)
		managed.Destroy()
		if err != nil {
			return false, err
		}
		right |= subtle.ConstantTimeCompare(text.Reveal(), password.Reveal())
		text.Destroy()
	}
	return right == 1, nil
}

// caller is the account as a caller of the directory, with the SIDs given and all that
// follow from them on this controller. key names the SIDs in the cache.
func (a *Accounts) caller(ctx context.Context, acct *Account, sids []dtyp.SID, key string, from netip.AddrPort) (directory.Caller, error) {
	c := a.current()
	token, ok := cached(c, c.tokens, key)
	if !ok {
		err := a.cfg.Directory.View(ctx, func(r *directory.Reader) (err error) {
			token, err = a.token(r, sids)
			return err
		})
		if err != nil {
			return directory.Caller{}, err
		}
		keep(c, c.tokens, key, token)
	}
	return directory.Caller{SID: acct.SID, Token: secdesc.Token{SIDs: token}, Name: acct.NTName(), From: from}, nil
}
