package account

import (
	"context"
	"errors"
	"net/netip"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/krb5"
)

// win32LockedOut is ERROR_ACCOUNT_LOCKED_OUT of [MS-ERREF] 2.2.
const win32LockedOut directory.Win32 = 0x775

// ChangePassword lets change be made: of the password of an object that a client names
// in a form of [MS-ADTS] 3.1.1.3.1.2.4, by whoever knows the old one. Everybody may try
// that with a user of AD, so that it is a logon to whoever guesses: a wrong old password
// is audited, counts against the address and the account, and locks the account as a
// wrong one in a bind does. The error is change's, or a *directory.Error.
func (a *Accounts) ChangePassword(ctx context.Context, object string, from netip.AddrPort, change func() error) error {
	acct, err := a.byTarget(ctx, object)
	if err != nil {
		return change() // which has the words for an object that is none, or no account
	}
	t, err := a.Attempt(acct.Name, from)
	if err != nil {
		return &directory.Error{Code: directory.Busy, Win32: directory.Win32Busy, Message: "too many wrong passwords: try again later", Err: err}
	}
	if a.logons.locked(acct, t.now) {
		err := t.Refuse(ctx, acct, &LogonError{Code: krb5.ErrClientRevoked, Status: krb5.StatusAccountLockedOut})
		return &directory.Error{Code: directory.ConstraintViolation, Win32: win32LockedOut, Message: "the account is locked out", Err: err}
	}
	err = change()
	if e, ok := errors.AsType[*directory.Error](err); ok && e.Win32 == win32InvalidPassword {
		_ = t.Refuse(ctx, acct, WrongPassword(err)) // which the client is told in change's own words
	}
	return err
}

// byTarget finds the account of an object that is named as in a request of LDAP.
func (a *Accounts) byTarget(ctx context.Context, object string) (acct *Account, err error) {
	c := a.current()
	err = a.cfg.Directory.View(ctx, func(r *directory.Reader) error {
		guid, err := r.ResolveTarget(object)
		if err != nil {
			return err
		}
		e, err := r.Get(guid)
		if err != nil {
			return err
		}
		if rows.Deleted(e) {
			return unknown(object)
		}
		acct, err = a.loaded(r, c, e)
		return err
	})
	return acct, err
}
