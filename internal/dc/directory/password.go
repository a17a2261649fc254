package directory

import (
	"context"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/secret"
)

// maxQuoted bounds a value of unicodePwd, in bytes; how long a password may be is for
// [Passwords] to say.
const maxQuoted = 4096

// unquote is the password of a value of unicodePwd: in UTF-16LE between quotes
// ([MS-ADTS] 3.1.1.3.1.5.1).
func unquote(v []byte) (secret.Bytes, error) {
	n := len(v)
	if n < 4 || n > maxQuoted || n%2 != 0 || string(v[:2]) != "\"\x00" || string(v[n-2:]) != "\"\x00" {
		return secret.Bytes{}, Errorf(UnwillingToPerform, Win32GeneralFailure, "unicodePwd is a password in quotes, in UTF-16LE")
	}
	return secret.Copy(v[2 : n-2]), nil
}

// checkPassword refuses a password on a connection that others can read, and for an
// object that has none of its own: a gMSA's follows from its root key.
func (d *draft) checkPassword() error {
	if !d.caller.Encrypted && !d.caller.Controller {
		return Errorf(UnwillingToPerform, Win32GeneralFailure, "passwords are written on an encrypted connection only")
	}
	if !d.isAccount() || d.isGMSA() {
		return unwilling("a %s has no password that could be set", d.class.Structural().Name)
	}
	return nil
}

// setPassword gives the account a password.
func (d *draft) setPassword(p NewPassword) error {
	d.kinds = append(d.kinds, audit.KindPassword)
	if err := d.checkPassword(); err != nil {
		return err
	}
	return d.cfg.Passwords.Set(d.Writer, d.e, p)
}

// mayPassword reports whether the caller may set or change the password of an object:
// control access rights and nothing else ([MS-ADTS] 3.1.1.3.1.5.1).
func (d *draft) mayPassword(object access.Object, changing bool) error {
	if changing {
		return d.require(object.Controls(d.caller.Token, rightChangePassword), "the right User-Change-Password")
	}
	return d.require(object.Controls(d.caller.Token, rightResetPassword), "the right User-Force-Change-Password")
}

// SetPassword gives an account another password, in UTF-16LE without quotes. With
// changing it takes the right User-Change-Password and the old password, except where
// old is empty and the caller is the account itself, which proved it by a ticket that
// is fresh; without, the right User-Force-Change-Password. The connection must be
// encrypted, as that of kpasswd is. It fails with what [Passwords] says of the
// password.
func (d *Directory) SetPassword(ctx context.Context, c Caller, object dtyp.GUID, old, password secret.Bytes, changing bool) error {
	event := audit.Event{Kind: audit.KindPassword, GUID: object, Attributes: []string{"unicodePwd"}}
	return d.perform(ctx, c, event, func(ch *change) error { return ch.password(object, old, password, changing) })
}

func (c *change) password(object dtyp.GUID, old, password secret.Bytes, changing bool) error {
	m, err := c.loadGUID(object)
	if err != nil {
		return err
	}
	if err := m.mayPassword(m.object, changing); err != nil {
		return err
	}
	if err := m.checkPassword(); err != nil {
		return err
	}
	proven := old.Len() == 0 && !c.caller.SID.IsZero() && c.caller.SID == m.object.SID
	if changing && old.Len() == 0 && !proven {
		return constraint("the old password is missing")
	}
	if err := c.cfg.Passwords.Set(c.Writer, m.e, NewPassword{Password: password, Old: old, Change: changing, Proven: proven}); err != nil {
		return err
	}
	return m.write()
}
