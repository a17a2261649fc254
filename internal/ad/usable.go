package ad

import (
	"context"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Usability is the outcome of [Session.Usable].
type Usability struct {
	Account Account
	OK      bool
	// Warning is what Test-ADServiceAccount warns of when the test fails.
	Warning string
	// Reason is the cause as far as it is known here.
	Reason error
}

// Usable finds out whether the host that asks can use a managed service account: for
// a group one, that it is given the password, and that the account can log on with
// it; for a standalone one, that the account is linked to the host.
func (s *Session) Usable(ctx context.Context, name string) (Usability, error) {
	a, err := s.ServiceAccount(ctx, name)
	if err != nil {
		return Usability{}, err
	}
	u := Usability{Account: a}
	switch a.Kind {
	case KindSMSA:
		u.Warning, u.Reason, err = s.standaloneUsable(ctx, a)
	default:
		if u.Reason = s.groupUsable(ctx, a); u.Reason != nil {
			u.Warning = testFailed(a)
		}
		if isOutage(u.Reason) {
			err = u.Reason
		}
	}
	u.OK = err == nil && u.Reason == nil
	return u, err
}

// isOutage reports whether nothing was found out.
func isOutage(err error) bool {
	return errors.Is(err, locate.ErrNoController) || errors.Is(err, kclient.ErrUnreachable) || errors.Is(err, ErrIdentity)
}

// testFailed is Windows' own warning.
func testFailed(a Account) string {
	return fmt.Sprintf("Test failed for Managed Service Account %s. If standalone Managed Service Account, the account is linked to another "+
		"computer object in the Active Directory. If group Managed Service Account, either this computer does not have permission to use the "+
		"group MSA or this computer does not support all the Kerberos encryption types required for the gMSA. See the MSA operational log for "+
		"more information.", adproto.AccountName{Name: a.Name}.Bare())
}

func (s *Session) standaloneUsable(ctx context.Context, a Account) (warning string, reason, err error) {
	owner, err := s.LinkedComputer(ctx, a)
	if err != nil {
		return "", nil, err
	}
	if owner == "" {
		bare := adproto.AccountName{Name: a.Name}.Bare()
		return fmt.Sprintf("The Managed Service Account %s is not linked with any computer object in the directory.", bare),
			errors.New("gmsa account link COMPUTER " + bare + " links it"), nil
	}
	who, err := s.whoAmI(ctx)
	if err != nil {
		return "", nil, err
	}
	if who.DN != owner {
		return testFailed(a), fmt.Errorf("it is linked to %s, and this is %s", owner, who.DN), nil
	}
	// Without a value the KDC takes the domain's default, of which AES is a part.
	if a.EncTypes != 0 && a.EncTypes&adproto.EncDefaultAccounts == 0 {
		return testFailed(a), fmt.Errorf("its encryption types, %v, are none that this host uses: gmsa account set %s --repair", a.EncTypes, a.Name), nil
	}
	return "", nil, nil
}

// whoAmI is the account that asks.
func (s *Session) whoAmI(ctx context.Context) (Object, error) {
	var o Object
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		who, err := d.WhoAmI(ctx)
		if err != nil {
			return err
		}
		if len(who) > 2 && who[:2] == "u:" {
			who = who[2:]
		}
		o, err = d.lookup(ctx, who)
		return err
	})
	return o, err
}

// groupUsable reads the password and logs on with it. Groups that the host was put
// into lately count: where the password is withheld it asks again with new tickets.
func (s *Session) groupUsable(ctx context.Context, a Account) error {
	dn, err := adproto.ParseAccountName(a.DN)
	if err != nil {
		return err
	}
	p, err := s.ManagedPassword(ctx, dn, Hint{})
	if errors.Is(err, ErrWithheld) {
		s.Refresh()
		p, err = s.ManagedPassword(ctx, dn, Hint{})
	}
	if err != nil {
		return err
	}
	defer p.Destroy()
	err = s.LogOn(ctx, p.Account, p.Current)
	if err != nil && !p.Previous.IsZero() {
		// In the last minutes of an interval the current password is the next one.
		if s.LogOn(ctx, p.Account, p.Previous) == nil {
			err = nil
		}
	}
	return err
}
