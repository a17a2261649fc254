package ad

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// ManagedPassword is a gMSA's password as one controller gave it out.
type ManagedPassword struct {
	// Blob holds the passwords and the intervals, which count from ReadAt. Its
	// secrets are the caller's.
	managedpassword.Blob
	// Account describes the gMSA. It was read after the password: the search
	// that makes a controller roll a password over still returns the old key
	// version number and password id.
	Account Account
	// Controller is the name of the controller that answered.
	Controller string
	// ReadAt is when the answer came, by the realm's clock.
	ReadAt time.Time
}

// passwordAttr is returned only when it is asked for by name, and only over an
// encrypted connection: [MS-ADTS] 3.1.1.4.5.39.
const passwordAttr = "msDS-ManagedPassword"

// ManagedPassword reads a gMSA's password from a writable controller of Windows
// Server 2012 or later, over a protected connection.
//
// Where the directory stays silent about it the error is a [*WithheldError]:
// after [Session.Refresh] it is worth asking once more, since the identity's
// groups count as they were when its tickets were issued. Other errors are
// [ErrNotFound], [ErrNotGMSA], [ErrNoRootKey], [ErrInterval] and
// [ldapc.ErrEncryptionRequired].
func (s *Session) ManagedPassword(ctx context.Context, name adproto.AccountName, h Hint) (ManagedPassword, error) {
	return read(ctx, s, locate.GMSA, h, func(ctx context.Context, conn *ldapc.Conn, c locate.Controller) (ManagedPassword, error) {
		for {
			dn, remembered, err := s.resolve(ctx, conn, name)
			if err != nil {
				return ManagedPassword{}, err
			}
			p, err := s.readPassword(ctx, conn, c, dn)
			if remembered && errors.Is(err, ErrNotFound) {
				s.forget(name) // it was moved or made anew
				continue
			}
			return p, err
		}
	})
}

// resolve finds the distinguished name, which it remembers: a base search needs
// it, and a search by filter fails as a whole on an unrelated account without
// msDS-GroupMSAMembership.
func (s *Session) resolve(ctx context.Context, conn *ldapc.Conn, name adproto.AccountName) (dn string, remembered bool, err error) {
	if name.Form == adproto.FormDN {
		return name.DN.String(), false, nil
	}
	key := strings.ToLower(name.String())
	s.mu.Lock()
	dn = s.names[key]
	s.mu.Unlock()
	if dn != "" {
		return dn, true, nil
	}
	e, err := findEntry(ctx, conn, s.d.BaseDN(), name, name.ServiceFilter(s.d.Name()), []string{"objectClass"})
	if err != nil {
		return "", false, err
	}
	if kindOf(e.GetEqualFoldAttributeValues("objectClass")) != KindGMSA {
		return "", false, fmt.Errorf("%s: %w", e.DN, ErrNotGMSA)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[key] = e.DN
	return e.DN, false, nil
}

func (s *Session) forget(name adproto.AccountName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, strings.ToLower(name.String()))
}

// readPassword makes the two searches.
func (s *Session) readPassword(ctx context.Context, conn *ldapc.Conn, c locate.Controller, dn string) (ManagedPassword, error) {
	e, err := conn.Read(ctx, dn, passwordAttr, "objectClass")
	if err != nil {
		return ManagedPassword{}, s.whyNoPassword(ctx, conn, dn, err)
	}
	raw := e.GetEqualFoldRawAttributeValue(passwordAttr)
	defer clear(raw)
	if len(raw) == 0 {
		if kindOf(e.GetEqualFoldAttributeValues("objectClass")) != KindGMSA {
			return ManagedPassword{}, fmt.Errorf("%s: %w", dn, ErrNotGMSA)
		}
		return ManagedPassword{}, &WithheldError{Account: dn, Client: s.id.String(), Controller: c.Name}
	}
	p := ManagedPassword{Controller: c.Name, ReadAt: s.d.kerberos.Now()}
	if p.Blob, err = managedpassword.Parse(raw); err != nil {
		return ManagedPassword{}, fmt.Errorf("%s at %s: %w", dn, c.Name, err)
	}
	e, err = conn.Read(ctx, dn, accountAttrs...)
	if err == nil {
		p.Account, err = parseAccount(e)
	}
	if err != nil {
		p.Blob.Destroy()
		return ManagedPassword{}, err
	}
	return p, nil
}

// nteNoKey is NTE_NO_KEY, [MS-ERREF] 2.1.1. It comes with the result
// noSuchObject.
const nteNoKey = 0x8009000D

// whyNoPassword finds the reason of a failed read of a password. A controller
// that cannot derive one says operationsError and little more.
func (s *Session) whyNoPassword(ctx context.Context, conn *ldapc.Conn, dn string, err error) error {
	e, ok := errors.AsType[*ldapc.Error](err)
	switch {
	case !ok || errors.Is(err, ldapc.ErrEncryptionRequired):
		return err
	case e.Win32 == nteNoKey:
		return fmt.Errorf("%w: %w", ErrNoRootKey, err)
	case errors.Is(err, ldapc.ErrNoSuchObject):
		return fmt.Errorf("%s: %w: %w", dn, ErrNotFound, err)
	case e.Code != ldap.LDAPResultOperationsError:
		return err
	}
	entry, readErr := conn.Read(ctx, dn, "msDS-ManagedPasswordInterval")
	if readErr == nil && entry.GetEqualFoldAttributeValue("msDS-ManagedPasswordInterval") == "0" {
		return fmt.Errorf("%s: %w: %w", dn, ErrInterval, err)
	}
	return fmt.Errorf("%s: %w: %w", dn, ErrNoRootKey, err)
}

// ChangePassword changes the identity's own password by Kerberos (RFC 3244): a
// host's, where the agent keeps it. Both are UTF-8. Errors are
// [*kclient.Error]. The session goes on with the new password once the caller
// has opened another one with it.
func (s *Session) ChangePassword(ctx context.Context, password secret.Bytes) error {
	if s.id.tgt != nil {
		return fmt.Errorf("change own password: %w", ErrNoSecret)
	}
	return s.d.kerberos.ChangePassword(ctx, s.id.principal(s.d.Name()), s.id.secret, password)
}

// WhoAmI is who the directory takes the identity for, such as
// "u:CONTOSO\web1$", and the controller that said so.
func (s *Session) WhoAmI(ctx context.Context) (who, controller string, err error) {
	answer, err := read(ctx, s, locate.Any, Hint{}, func(ctx context.Context, conn *ldapc.Conn, c locate.Controller) ([2]string, error) {
		who, err := conn.WhoAmI(ctx)
		return [2]string{who, c.Name}, err
	})
	return answer[0], answer[1], err
}
