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
	"github.com/opengmsa/opengmsa/managedpassword"
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
				return &StandsError{What: joined.Account.DN + " was made, has no password that is known, and could not be deleted", Err: errors.Join(err, undo)}
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
	a, err := d.account(ctx, dn.String())
	return a, stands(err, dn.String(), "made, has no password")
}

// givePassword sets a random password, which it returns in UTF-8.
func (d *desk) givePassword(ctx context.Context, a Account) (secret.Bytes, error) {
	password, err := RandomPassword(d.s.d.cfg.Rand)
	if err != nil {
		return secret.Bytes{}, err
	}
	tgt, err := d.s.TGT(ctx)
	if err == nil {
		err = d.s.d.kerberos.SetPassword(ctx, tgt, krb5.NewName(krb5.NamePrincipal, a.Name), password)
	}
	if err != nil {
		password.Destroy()
		return secret.Bytes{}, fmt.Errorf("set the password of %s: %w", a.Name, err)
	}
	return password, nil
}

// giveKeys sets a random password and derives its keys, with which it then logs
// on: what a keytab holds has worked once.
func (d *desk) giveKeys(ctx context.Context, j *Joined) error {
	password, err := d.givePassword(ctx, j.Account)
	if err != nil {
		return err
	}
	defer password.Destroy()
	principal := krb5.NewName(krb5.NamePrincipal, j.Account.Name)
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

// passwordLength is as many characters as the password of a gMSA has code units, so
// that one form holds both. Windows gives computers 120.
const passwordLength = managedpassword.PasswordSize / 2

// passwordLetters are 64 characters of all four kinds that policies ask for, so
// that a random byte picks one without bias.
const passwordLetters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-+"

// RandomPassword makes a password of 768 bits for an account that no person logs on
// with, in UTF-8. Its first characters are of each kind, which costs 24 of them.
func RandomPassword(rand io.Reader) (secret.Bytes, error) {
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
