package account

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/gss"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

// ErrTicket is wrapped when a ticket that decrypts is not believed.
var ErrTicket = errors.New("ticket refused")

// FromTicket makes a caller of a ticket that one of the controller's own services
// accepted: all four signatures of its PAC must be ours, its SIDs of this domain, and
// the account must exist and be in good standing. The groups are those of the PAC, as
// they were when the ticket was issued, with the local ones of this controller. The
// error is a *LogonError.
func (a *Accounts) FromTicket(ctx context.Context, ticket krb5.EncTicketPart, server krb5.Principal, from netip.AddrPort) (directory.Caller, error) {
	t := Attempt{accounts: a, name: ticket.CName.String(), from: from, now: a.now()}
	caller, acct, err := a.fromTicket(ctx, t, ticket, server)
	if err != nil {
		return directory.Caller{}, t.Refuse(ctx, acct, err)
	}
	return caller, nil
}

func (a *Accounts) fromTicket(ctx context.Context, t Attempt, ticket krb5.EncTicketPart, server krb5.Principal) (directory.Caller, *Account, error) {
	p, err := a.openServicePAC(ctx, ticket, server, t.now)
	if err != nil {
		return directory.Caller{}, nil, &LogonError{Code: krb5.ErrModified, Err: fmt.Errorf("%w: %w", ErrTicket, err)}
	}
	info, err := p.LogonInfo()
	if err == nil {
		err = CheckSIDs(a.domain, info)
	}
	if err != nil {
		return directory.Caller{}, nil, &LogonError{Code: krb5.ErrModified, Err: fmt.Errorf("%w: %w", ErrTicket, err)}
	}
	acct, err := a.BySID(ctx, info.UserSID())
	if errors.Is(err, ErrUnknown) {
		return directory.Caller{}, nil, &LogonError{Code: krb5.ErrTGTRevoked, Status: krb5.StatusNoSuchUser, Err: err}
	}
	if err != nil {
		return directory.Caller{}, nil, fault(err)
	}
	if err := a.CheckStanding(acct, t.now); err != nil {
		return directory.Caller{}, acct, err
	}
	raw, _ := p.Find(pac.TypeLogonInfo)
	caller, err := a.caller(ctx, acct, info.SIDs(), string(raw), t.from)
	if err != nil {
		return directory.Caller{}, acct, fault(err)
	}
	return caller, acct, nil
}

// openServicePAC verifies the PAC of a service ticket with each key that may have
// signed it.
func (a *Accounts) openServicePAC(ctx context.Context, ticket krb5.EncTicketPart, server krb5.Principal, now dtyp.Filetime) (p pac.PAC, err error) {
	service, err := a.Server(ctx, server.Name)
	if err != nil {
		return p, err
	}
	krbtgt, err := a.Krbtgt(ctx)
	if err != nil {
		return p, err
	}
	return a.OpenServicePAC(ticket, service, krbtgt, now)
}

// OpenServicePAC verifies the PAC of a ticket for service, as [pac.Open] does, with
// each key of the service and of the krbtgt that may have signed it.
func (a *Accounts) OpenServicePAC(ticket krb5.EncTicketPart, service, krbtgt *Account, now dtyp.Filetime) (p pac.PAC, err error) {
	servers, err := a.TicketKeys(service, now)
	if err != nil {
		return p, err
	}
	kdcs, err := a.TicketKeys(krbtgt, now)
	if err != nil {
		return p, err
	}
	err = fmt.Errorf("%s or krbtgt has no key", service.Name)
	for _, kdc := range kdcs {
		for _, set := range servers {
			for _, key := range set.Keys {
				for _, kdcKey := range kdc.Keys {
					if p, err = pac.Open(ticket, pac.Service, pac.Keys{Server: key, KDC: kdcKey}); !errors.Is(err, pac.ErrSignature) {
						return p, err
					}
				}
			}
		}
	}
	return p, err
}

// CheckSIDs refuses a PAC with a SID of another domain: one that was signed here by
// mistake, or by a stolen key, must not make somebody a member of what this domain
// cannot know ([MS-PAC] 4.1.2.2).
func CheckSIDs(d directory.Domain, info pac.LogonInfo) error {
	if info.LogonDomainID != d.SID || info.UserID == 0 {
		return fmt.Errorf("%w: an account of %s, not of %s", ErrTicket, info.LogonDomainID, d.SID)
	}
	if !info.ResourceGroupDomain.IsZero() && info.ResourceGroupDomain != d.SID {
		return fmt.Errorf("%w: resource groups of %s", ErrTicket, info.ResourceGroupDomain)
	}
	for _, extra := range info.ExtraSIDs {
		if extra.SID.Domain() != d.SID && extra.SID != dtyp.AuthenticationAuthorityAsserted && extra.SID != dtyp.ServiceAsserted {
			return fmt.Errorf("%w: it has the SID %s", ErrTicket, extra.SID)
		}
	}
	return nil
}

// ServiceKeys finds the keys of the controller's own services for a gss acceptor, which are
// those of its computer account. kadmin/changepw is not among them: its tickets are given to
// clients that may do nothing else, those whose password has expired for one.
func (a *Accounts) ServiceKeys() gss.KeyFunc {
	return a.keysOf(func(acct *Account, _ krb5.PrincipalName) bool {
		return !acct.IsKrbtgt() && strings.EqualFold(acct.Name, a.domain.Host+"$")
	})
}

// ChangePasswordKeys finds the keys of kadmin/changepw, which are krbtgt's, and of nothing
// else.
func (a *Accounts) ChangePasswordKeys() gss.KeyFunc {
	return a.keysOf(func(acct *Account, name krb5.PrincipalName) bool { return acct.IsKrbtgt() && IsChangePassword(name) })
}

// keysOf finds the keys of the services that own admits.
func (a *Accounts) keysOf(own func(*Account, krb5.PrincipalName) bool) gss.KeyFunc {
	return func(server krb5.Principal, kvno uint32, e crypto.EType) []*crypto.Key {
		acct, err := a.Server(context.Background(), server.Name)
		if err != nil || !IsRealm(a.domain, server.Realm) || !own(acct, server.Name) {
			return nil
		}
		sets, err := a.TicketKeys(acct, a.now())
		if err != nil {
			return nil
		}
		var first, rest []*crypto.Key
		for _, set := range sets {
			key := set.Find(e)
			switch {
			case key == nil:
			case set.KVNO == kvno:
				first = append(first, key)
			default:
				rest = append(rest, key)
			}
		}
		return append(first, rest...)
	}
}
