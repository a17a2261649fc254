package ad

import (
	"context"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// hostServiceAttr links a computer to the sMSAs that are its own; its back link is
// msDS-HostServiceAccountBL: [MS-ADA2] 2.333.
const hostServiceAttr = "msDS-HostServiceAccount"

// LinkServiceAccounts makes sMSAs the computer's own, all or none, and returns those
// that were not. An sMSA has one computer at most.
func (s *Session) LinkServiceAccounts(ctx context.Context, computer string, accounts ...string) ([]Account, error) {
	return s.changeLinks(ctx, AddValues, computer, accounts)
}

// UnlinkServiceAccounts undoes that, and returns those that were linked.
func (s *Session) UnlinkServiceAccounts(ctx context.Context, computer string, accounts ...string) ([]Account, error) {
	return s.changeLinks(ctx, RemoveValues, computer, accounts)
}

// LinkedElsewhereError refuses to link an sMSA to a second computer.
type LinkedElsewhereError struct{ Account, Computer string }

// Error names the computer that has the account.
func (e *LinkedElsewhereError) Error() string {
	return fmt.Sprintf("%s belongs to %s already: a standalone managed service account has one computer", e.Account, e.Computer)
}

// Hint is the next command.
func (e *LinkedElsewhereError) Hint() string {
	return "take it from there first: gmsa account unlink"
}

func (s *Session) changeLinks(ctx context.Context, op ChangeOp, computer string, accounts []string) ([]Account, error) {
	var changed []Account
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) error {
		host, err := d.computer(ctx, computer)
		if err != nil {
			return err
		}
		change := Change{Op: op, Attr: hostServiceAttr}
		for _, name := range accounts {
			a, err := d.serviceAccount(ctx, name)
			if err != nil {
				return err
			}
			owner, err := d.linkedTo(ctx, a)
			if err != nil {
				return err
			}
			mine := strings.EqualFold(owner, host.DN)
			if mine == (op == AddValues) || op == RemoveValues && !mine {
				continue
			}
			if owner != "" && !mine && a.Kind == KindSMSA {
				return &LinkedElsewhereError{a.Name, owner}
			}
			change.Values, changed = append(change.Values, a.DN), append(changed, a)
		}
		if len(changed) == 0 {
			return nil
		}
		return d.link(ctx, host, change)
	})
	return changed, err
}

// link changes the service accounts of a computer.
func (d *desk) link(ctx context.Context, host Account, change Change) error {
	return denied(d.modify(ctx, host.DN, []Change{change}), "write "+hostServiceAttr, host.DN)
}

// linkedTo is the computer that a service account is linked to; empty if none is.
func (d *desk) linkedTo(ctx context.Context, a Account) (string, error) {
	hosts, err := d.objects(ctx, d.names.Base.String(), adproto.Equal(hostServiceAttr, a.DN))
	if err != nil || len(hosts) == 0 {
		return "", err
	}
	return hosts[0].DN, nil
}

// LinkedComputer is the distinguished name of the computer that a service account is
// linked to; empty if none is.
func (s *Session) LinkedComputer(ctx context.Context, a Account) (string, error) {
	var dn string
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		dn, err = d.linkedTo(ctx, a)
		return err
	})
	return dn, err
}

// GiveStandaloneKeys sets a new random password of an sMSA, as a host does for an
// account that is its own, and returns its keys.
func (s *Session) GiveStandaloneKeys(ctx context.Context, name string) (Joined, error) {
	var j Joined
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) (err error) {
		if j.Account, err = d.account(ctx, name, KindSMSA); err != nil {
			return err
		}
		return d.giveKeys(ctx, &j)
	})
	return j, err
}

// GiveStandalonePassword sets a new random password of an sMSA and returns it in
// UTF-16, for the agent of its host to keep.
func (s *Session) GiveStandalonePassword(ctx context.Context, name string) (secret.Bytes, error) {
	var password secret.Bytes
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) error {
		a, err := d.account(ctx, name, KindSMSA)
		if err != nil {
			return err
		}
		text, err := d.givePassword(ctx, a)
		if err != nil {
			return err
		}
		defer text.Destroy()
		password, err = managedpassword.UTF16(text)
		return err
	})
	return password, err
}

// ChangeStandalonePassword changes an sMSA's password as the account itself, which
// needs no other right. Both are in UTF-16.
func (s *Session) ChangeStandalonePassword(ctx context.Context, a Account, old, password secret.Bytes) error {
	before, err := managedpassword.UTF8(old)
	if err != nil {
		return err
	}
	defer before.Destroy()
	after, err := managedpassword.UTF8(password)
	if err != nil {
		return err
	}
	defer after.Destroy()
	return s.d.kerberos.ChangePassword(ctx, krb5.NewName(krb5.NamePrincipal, a.Name), kclient.Password(before), after)
}

// LogOn gets a ticket for a managed service account with a password of it, in UTF-16,
// and drops it: the password is in force.
func (s *Session) LogOn(ctx context.Context, a Account, password secret.Bytes) error {
	etypes := []crypto.EType{crypto.AES256SHA1, crypto.AES128SHA1}
	principal := krb5.NewName(krb5.NamePrincipal, a.Name)
	salt, err := s.d.kerberos.Salt(ctx, principal, "", etypes...)
	if err != nil {
		return err
	}
	keys, err := managedpassword.Keys(password, salt, etypes...)
	if err != nil {
		return err
	}
	_, err = s.d.kerberos.AS(ctx, kclient.ASRequest{Client: principal, Secret: kclient.Keys(keys...)})
	return err
}
