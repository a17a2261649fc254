package ad

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// Join describes a host account to make, or to give new keys.
type Join struct {
	Name        string // without $, 15 characters at most
	DNSHostName string // empty means NAME.domain
	Description string
	Path        string // distinguished name of the container; empty means Computers
	SPNs        []string
	// OperatingSystem is what the directory shows of the host; may be empty.
	OperatingSystem string
}

// Joined is a host account with its keys, which are the caller's.
type Joined struct {
	Account Account
	Keys    []*crypto.Key
	KVNO    uint32
	// Made says that the account was not there before.
	Made bool
}

// hostKeyTypes are the types of a host's keys, and of its account.
var hostKeyTypes = []crypto.EType{crypto.AES256SHA1, crypto.AES128SHA1}

// JoinComputer makes a host account, or takes one that is there, and sets a new
// random password by Kerberos (RFC 3244). If the password cannot be set, an account
// that was made for it is removed again. It may be run again, after which the old
// keys are void.
func (s *Session) JoinComputer(ctx context.Context, j Join) (Joined, error) {
	name, err := adproto.ParseAccountName(j.Name)
	if err != nil {
		return Joined{}, err
	}
	if n := utf8.RuneCountInString(name.Bare()); name.Form != adproto.FormSAM || n > maxServiceName {
		return Joined{}, fmt.Errorf("%w %q: a host has a name of 15 characters at most, without a domain", adproto.ErrAccountName, j.Name)
	}
	if j.DNSHostName == "" {
		j.DNSHostName = strings.ToLower(name.Bare()) + "." + s.d.Name()
	}
	var joined Joined
	err = s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) error {
		if joined.Account, err = d.account(ctx, name.SAM(), KindComputer); errors.Is(err, ErrNotFound) {
			joined.Made = true
			joined.Account, err = d.makeComputer(ctx, name, j)
		}
		if err != nil {
			return err
		}
		if err = d.giveKeys(ctx, &joined); err != nil && joined.Made {
			if undo := d.remove(ctx, joined.Account.DN); undo != nil {
				return fmt.Errorf("%w; and the account %s stands, without a password: %w", err, joined.Account.DN, undo)
			}
		}
		return err
	})
	return joined, err
}

func (d *desk) makeComputer(ctx context.Context, name adproto.AccountName, j Join) (Account, error) {
	if err := d.free(ctx, name.SAM()); err != nil {
		return Account{}, err
	}
	spns := j.SPNs
	if len(spns) == 0 {
		for _, class := range []string{"HOST", "RestrictedKrbHost"} {
			spns = append(spns, class+"/"+name.Bare(), class+"/"+j.DNSHostName)
		}
	}
	if err := d.checkSPNs(ctx, "", spns); err != nil {
		return Account{}, err
	}
	parent, err := d.container(ctx, computersContainer, j.Path)
	if err != nil {
		return Account{}, err
	}
	dn := adproto.NewDN("CN", name.Bare(), parent)
	err = d.add(ctx, dn, []Change{
		{Attr: "objectClass", Values: []string{"computer"}}, {Attr: "sAMAccountName", Values: []string{name.SAM()}},
		{Attr: "userAccountControl", Values: []string{decimal(adproto.UACWorkstationTrust)}},
		{Attr: "dNSHostName", Values: []string{j.DNSHostName}}, {Attr: spnAttr, Values: spns},
		{Attr: "msDS-SupportedEncryptionTypes", Values: []string{decimal(adproto.EncryptionTypesOf(hostKeyTypes...))}},
		{Attr: "description", Values: []string{j.Description}}, {Attr: "operatingSystem", Values: []string{j.OperatingSystem}},
	})
	if err != nil {
		return Account{}, denied(err, "create computer objects", parent.String())
	}
	return d.account(ctx, dn.String())
}

// giveKeys sets a random password and derives its keys, with which it then logs
// on: what a keytab holds has worked once.
func (d *desk) giveKeys(ctx context.Context, j *Joined) error {
	password, err := randomPassword(d.s.d.cfg.Rand)
	if err != nil {
		return err
	}
	defer password.Destroy()
	tgt, err := d.s.TGT(ctx)
	if err != nil {
		return err
	}
	principal := krb5.NewName(krb5.NamePrincipal, j.Account.Name)
	if err := d.s.d.kerberos.SetPassword(ctx, tgt, principal, password); err != nil {
		return fmt.Errorf("set the password of %s: %w", j.Account.Name, err)
	}
	account, err := d.account(ctx, j.Account.DN)
	if err != nil {
		return err
	}
	j.Account, j.KVNO = account, account.KVNO
	salt, err := d.s.d.kerberos.Salt(ctx, principal, "", hostKeyTypes...)
	if err != nil {
		return err
	}
	if j.Keys, err = crypto.StringToKeys(hostKeyTypes, password.Reveal(), salt); err != nil {
		return err
	}
	if _, err := d.s.d.kerberos.AS(ctx, kclient.ASRequest{Client: principal, Secret: kclient.Keys(j.Keys...)}); err != nil {
		return fmt.Errorf("log on as %s with its new keys: %w", j.Account.Name, err)
	}
	return nil
}

// passwordLength is what Windows gives computers: 120 characters.
const passwordLength = 120

// passwordLetters are 64 characters of all four kinds that policies ask for, so
// that a random byte picks one without bias.
const passwordLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-+"

// randomPassword makes a password of 720 bits; its first characters are of each
// kind, which costs 24 of them.
func randomPassword(rand io.Reader) (secret.Bytes, error) {
	b := make([]byte, passwordLength)
	if _, err := io.ReadFull(rand, b); err != nil {
		return secret.Bytes{}, fmt.Errorf("random password: %w", err)
	}
	for i := range b {
		b[i] = passwordLetters[b[i]%64]
	}
	copy(b, "aA0-")
	return secret.New(b), nil
}

// computerFilter selects hosts, without the gMSAs and sMSAs, whose classes are
// computers too.
func computerFilter() adproto.Filter {
	return adproto.And(kindFilter(KindComputer), adproto.Not(serviceFilter()))
}

// Computers lists the host accounts that satisfy the filter, below base if it is
// given.
func (s *Session) Computers(ctx context.Context, f adproto.Filter, base string) ([]Account, error) {
	var list []Account
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		list, err = d.accounts(ctx, adproto.And(computerFilter(), f), base)
		return err
	})
	return list, err
}

// ErrNotComputer: the account is no host's.
var ErrNotComputer = errors.New("not a computer")

// Computer reads a host account by anything that names it.
func (s *Session) Computer(ctx context.Context, name string) (Account, error) {
	var a Account
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		a, err = d.computer(ctx, name)
		return err
	})
	return a, err
}

func (d *desk) computer(ctx context.Context, name string) (Account, error) {
	a, err := d.account(ctx, name, KindComputer)
	if err == nil && a.Kind != KindComputer {
		err = fmt.Errorf("%s is a %v: %w", a.DN, a.Kind, ErrNotComputer)
	}
	return a, err
}

// RemoveComputer deletes a host account.
func (s *Session) RemoveComputer(ctx context.Context, name string) (Account, error) {
	var a Account
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) (err error) {
		if a, err = d.computer(ctx, name); err != nil {
			return err
		}
		if a.Control&(adproto.UACServerTrust|adproto.UACPartialSecrets) != 0 {
			return fmt.Errorf("%s is a domain controller, which must be demoted, not deleted", a.DN)
		}
		return d.remove(ctx, a.DN)
	})
	return a, err
}

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
		return denied(d.modify(ctx, host.DN, []Change{change}), "write "+hostServiceAttr, host.DN)
	})
	return changed, err
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
