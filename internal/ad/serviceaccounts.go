package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/secdesc"
)

// DefaultInterval is how many days a gMSA's password lives unless something else is
// asked for.
const DefaultInterval = 30

// maxServiceName is the longest name of a managed service account in characters,
// without its $: what New-ADServiceAccount accepts, and what NetBIOS can carry.
const maxServiceName = 15

// NewServiceAccount describes a managed service account to make.
type NewServiceAccount struct {
	Name        string // the object's name
	SAM         string // sAMAccountName, with or without $; empty means Name
	DNSHostName string
	Description string
	DisplayName string
	Path        string // distinguished name of the container; empty means Managed Service Accounts
	// Standalone makes a standalone managed service account, for one computer;
	// OutboundOnly a group one that needs no DNS host name. A group account
	// without OutboundOnly needs one.
	Standalone, OutboundOnly bool
	// Computer is the one that a standalone account is linked to; may be empty.
	Computer             string
	Disabled             bool
	TrustedForDelegation bool
	Interval             int // days; 0 means DefaultInterval
	SPNs                 []string
	// EncTypes is nil for AES, 128 and 256.
	EncTypes *adproto.EncryptionTypes
	// Readers may retrieve the password, Delegates may act to the account on
	// behalf of others (resource-based constrained delegation).
	Readers, Delegates []string
	// Other are further attributes.
	Other []Change
}

// errors of a description.
var (
	// ErrNameLength: a managed service account's name is too long.
	ErrNameLength = errors.New("the name of a managed service account has 15 characters at most")
	// ErrDNSHostName: a gMSA that others connect to has a DNS host name.
	ErrDNSHostName = errors.New("a gMSA needs a DNS host name unless it only connects to others or belongs to a single computer")
	// ErrIntervalFixed: the interval is set when the account is made.
	ErrIntervalFixed = errors.New("the password interval cannot be changed after the account was made")
)

// check completes n and refuses what no directory should be asked for.
func (n *NewServiceAccount) check() error {
	name, err := adproto.ParseAccountName(orElse(n.SAM, n.Name))
	if err != nil {
		return err
	}
	if name.Form != adproto.FormSAM {
		return fmt.Errorf("%w %q: want a name without a domain", adproto.ErrAccountName, orElse(n.SAM, n.Name))
	}
	n.Name, n.SAM = strings.TrimSuffix(n.Name, "$"), name.SAM()
	if count := utf8.RuneCountInString(name.Bare()); count > maxServiceName {
		return fmt.Errorf("%s has %d characters: %w", name.Bare(), count, ErrNameLength)
	}
	if n.Interval == 0 {
		n.Interval = DefaultInterval
	}
	switch _, err := gkdi.RolloverInterval(int64(n.Interval)); {
	case n.Interval < 1 || err != nil:
		return fmt.Errorf("a password interval of %d days is not possible", n.Interval)
	case n.Standalone && n.OutboundOnly:
		return errors.New("an account is for a single computer or for outbound authentication only, not both")
	case n.DNSHostName == "" && !n.Standalone && !n.OutboundOnly:
		return fmt.Errorf("%s: %w", name.Bare(), ErrDNSHostName)
	case n.Standalone && len(n.Readers) > 0:
		return errors.New("nobody retrieves the password of an account for a single computer: link it to the computer in place")
	}
	return wellFormed(n.SPNs)
}

// wellFormed reports the first of the texts that is no service principal name.
func wellFormed(spns []string) error {
	for _, s := range spns {
		if _, err := adproto.ParseSPN(s); err != nil {
			return err
		}
	}
	return nil
}

// CreateServiceAccount makes a managed service account, ready to be used. Its name
// and service principal names must be free in the whole forest. If it cannot be linked
// to its computer, it is deleted again. notes say what the caller should know although
// it worked.
func (s *Session) CreateServiceAccount(ctx context.Context, n NewServiceAccount) (account Account, notes []string, err error) {
	if err := n.check(); err != nil {
		return Account{}, nil, err
	}
	err = s.at(ctx, locate.GMSA, func(ctx context.Context, d *desk) error {
		if notes, err = d.checkNewName(ctx, n.SAM); err != nil {
			return err
		}
		if err := d.checkSPNs(ctx, "", n.SPNs); err != nil {
			return err
		}
		account, err = d.makeServiceAccount(ctx, n)
		return err
	})
	return account, notes, err
}

func (d *desk) makeServiceAccount(ctx context.Context, n NewServiceAccount) (Account, error) {
	attributes, err := d.newAccount(ctx, n)
	if err != nil {
		return Account{}, err
	}
	parent, err := d.container(ctx, serviceContainer, n.Path)
	if err != nil {
		return Account{}, err
	}
	var host Account
	if n.Computer != "" {
		if host, err = d.computer(ctx, n.Computer); err != nil {
			return Account{}, err
		}
	}
	dn := adproto.NewDN("CN", n.Name, parent)
	if err := d.add(ctx, dn, attributes); err != nil {
		return Account{}, d.whyNotMade(ctx, err, n, parent)
	}
	a, err := d.account(ctx, dn.String())
	switch {
	case n.Computer == "":
		return a, stands(err, dn.String(), "made")
	case err != nil:
		return Account{}, stands(err, dn.String(), "made, is not linked to "+host.DN)
	}
	return a, d.linkNew(ctx, host, a)
}

// linkNew links an account that was made for a computer to it, or deletes it again.
func (d *desk) linkNew(ctx context.Context, host, a Account) error {
	err := d.link(ctx, host, Change{Op: AddValues, Attr: hostServiceAttr, Values: []string{a.DN}})
	if err == nil {
		return nil
	}
	if undo := d.remove(ctx, a.DN); undo != nil {
		return &StandsError{What: a.DN + " was made, could not be linked to " + host.DN + " for certain, and could not be deleted", Err: errors.Join(err, undo)}
	}
	return fmt.Errorf("%s was not made: %w", a.Name, err)
}

// checkNewName refuses a name that another account of the forest has, and notes an
// unrelated account whose name differs by the $ alone, which confuses whoever
// looks an account up by its name.
func (d *desk) checkNewName(ctx context.Context, sam string) (notes []string, err error) {
	bare := strings.TrimSuffix(sam, "$")
	found, err := d.forest(ctx, adproto.Or(adproto.Equal("sAMAccountName", sam), adproto.Equal("sAMAccountName", bare)), "sAMAccountName")
	if err != nil {
		return nil, err
	}
	for _, e := range found {
		if strings.EqualFold(e.GetEqualFoldAttributeValue("sAMAccountName"), sam) {
			return nil, &TakenError{"the name", sam, e.DN}
		}
		notes = append(notes, fmt.Sprintf("%s is called %s: programs that look for %s may find it in place of the new account", e.DN, bare, bare))
	}
	return notes, nil
}

// newAccount are the attributes of a new account.
func (d *desk) newAccount(ctx context.Context, n NewServiceAccount) ([]Change, error) {
	class, control := "msDS-GroupManagedServiceAccount", adproto.UACWorkstationTrust
	if n.Standalone {
		class = "msDS-ManagedServiceAccount"
	}
	if n.Disabled {
		control |= adproto.UACAccountDisable
	}
	if n.TrustedForDelegation {
		control |= adproto.UACTrustedForDelegation
	}
	types := adproto.EncDefaultAccounts
	if n.EncTypes != nil {
		types = *n.EncTypes
	}
	attributes := []Change{
		{Attr: "objectClass", Values: []string{class}}, {Attr: "sAMAccountName", Values: []string{n.SAM}},
		{Attr: "dNSHostName", Values: []string{n.DNSHostName}}, {Attr: "servicePrincipalName", Values: n.SPNs},
		{Attr: "userAccountControl", Values: []string{decimal(control)}}, {Attr: "msDS-SupportedEncryptionTypes", Values: []string{decimal(types)}},
		{Attr: "description", Values: []string{n.Description}}, {Attr: "displayName", Values: []string{n.DisplayName}},
	}
	if !n.Standalone {
		sids, err := d.sids(ctx, n.Readers)
		if err != nil {
			return nil, err
		}
		sd, err := membership(sids)
		if err != nil {
			return nil, err
		}
		attributes = append(attributes, Change{Attr: "msDS-ManagedPasswordInterval", Values: []string{strconv.Itoa(n.Interval)}},
			Change{Attr: "msDS-GroupMSAMembership", Values: []string{sd}})
	}
	if len(n.Delegates) > 0 {
		sids, err := d.sids(ctx, n.Delegates)
		if err != nil {
			return nil, err
		}
		sd, err := actOnBehalf(sids)
		if err != nil {
			return nil, err
		}
		attributes = append(attributes, Change{Attr: actOnBehalfAttr, Values: []string{sd}})
	}
	return append(attributes, n.Other...), nil
}

// decimal is how the directory writes an Integer: signed, of 32 bits.
func decimal[T ~uint32](v T) string { return strconv.Itoa(int(int32(v))) }

// sids resolves principals: all of them, or an error that names the unknown ones.
// A SID need not be of this domain.
func (d *desk) sids(ctx context.Context, principals []string) ([]dtyp.SID, error) {
	var sids []dtyp.SID
	var errs []error
	for _, p := range principals {
		sid, err := d.sid(ctx, p)
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrAmbiguous) && !errors.Is(err, adproto.ErrAccountName) {
			return nil, err
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("principal %w", err))
		}
		sids = append(sids, sid)
	}
	return sids, errors.Join(errs...)
}

func (d *desk) sid(ctx context.Context, principal string) (dtyp.SID, error) {
	if sid, err := dtyp.ParseSID(principal); err == nil {
		return sid, nil
	}
	o, err := d.lookup(ctx, principal)
	if err == nil && o.SID.IsZero() {
		err = fmt.Errorf("%s has no SID: %w", o.DN, ErrNotFound)
	}
	return o.SID, err
}

// membership is a new value of msDS-GroupMSAMembership.
func membership(readers []dtyp.SID) (string, error) {
	sd := secdesc.GroupMSAMembership(readers...)
	b, err := sd.Append(nil)
	return string(b), err
}

// actOnBehalfAttr holds who may act to the account on behalf of others: [MS-ADTS]
// 2.286, PrincipalsAllowedToDelegateToAccount.
const actOnBehalfAttr = "msDS-AllowedToActOnBehalfOfOtherIdentity"

func actOnBehalf(delegates []dtyp.SID) (string, error) {
	sd := secdesc.SecurityDescriptor{Control: secdesc.SelfRelative, Owner: dtyp.BuiltinAdministrators, DACL: &secdesc.ACL{Revision: secdesc.RevisionDS}}
	for _, sid := range delegates {
		sd.DACL.Allow(sid, secdesc.FullControl)
	}
	b, err := sd.Append(nil)
	return string(b), err
}

// whyNotMade explains a refusal to make an account.
func (d *desk) whyNotMade(ctx context.Context, err error, n NewServiceAccount, parent adproto.DN) error {
	class := "msDS-GroupManagedServiceAccount"
	if n.Standalone {
		class = "msDS-ManagedServiceAccount"
	}
	if errors.Is(err, ldapc.ErrAccess) {
		return &AccessError{
			Right: "create " + class + " objects", Object: parent.String(), Err: err,
			Grant: "an administrator grants it: gmsa account delegate --to " + strings.ReplaceAll(d.s.id.String(), `\@`, "@"),
		}
	}
	e, ok := errors.AsType[*ldapc.Error](err)
	if !ok || n.Standalone || e.Win32 != nteNoKey {
		return d.whySPNs(ctx, err, "", n.SPNs)
	}
	keys, listErr := d.rootKeys(ctx, false)
	switch {
	case listErr != nil:
		return fmt.Errorf("%w: %w", ErrNoRootKey, err)
	case len(keys) == 0:
		return &NoRootKeyError{Err: err}
	}
	first := slices.MinFunc(keys, func(a, b RootKey) int { return a.UseStart.Compare(b.UseStart) })
	use := first.FirstUse()
	switch now := d.s.d.kerberos.Now(); {
	case use.After(now):
	case strings.EqualFold(d.names.Vendor, ownVendor):
		use = firstUse(first.Created) // no key but a domain's first is used before it was made
	default:
		use = first.UseStart.Add(sambaRootKeyDelay)
	}
	return &NoRootKeyError{Keys: len(keys), FirstUse: use, Err: err}
}

// sambaRootKeyDelay is how long after its use time Samba takes a root key for a new
// account: a key cycle and the clock skew that controllers may have.
const sambaRootKeyDelay = 10*time.Hour + 5*time.Minute

// NoRootKeyError is an account that cannot be made for want of a root key; it is an
// [ErrNoRootKey].
type NoRootKeyError struct {
	Keys     int       // root keys that are there, not usable yet
	FirstUse time.Time // of the first of them
	// Err is the directory's answer, which says less.
	Err error
}

// Error says whether there is none, or none yet.
func (e *NoRootKeyError) Error() string {
	if e.Keys == 0 {
		return "the domain has no KDS root key, from which passwords are made"
	}
	return fmt.Sprintf("no KDS root key can be used yet: the first of %d at %s", e.Keys, e.FirstUse.Local().Format(time.DateTime))
}

// Is lets errors.Is find [ErrNoRootKey].
func (e *NoRootKeyError) Is(target error) bool { return target == ErrNoRootKey }

// Hint is the next thing to do.
func (e *NoRootKeyError) Hint() string {
	if e.Keys == 0 {
		return "make one: gmsa kds add --effective-immediately"
	}
	return "wait until then; in a test domain with a single controller: gmsa kds add --effective-time -11h"
}

// serviceKinds are the kinds of managed service accounts.
var serviceKinds = []Kind{KindGMSA, KindSMSA}

// serviceFilter selects managed service accounts of both kinds.
func serviceFilter() adproto.Filter { return adproto.Or(kindFilter(KindGMSA), kindFilter(KindSMSA)) }

// ServiceAccount reads a managed service account by anything that names it.
func (s *Session) ServiceAccount(ctx context.Context, name string) (Account, error) {
	var a Account
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		a, err = d.serviceAccount(ctx, name)
		return err
	})
	return a, err
}

func (d *desk) serviceAccount(ctx context.Context, name string) (Account, error) {
	a, err := d.account(ctx, name, serviceKinds...)
	if err == nil && !slices.Contains(serviceKinds, a.Kind) { // a distinguished name says nothing about the kind
		err = fmt.Errorf("%s is a %v: %w", a.DN, a.Kind, ErrNotGMSA)
	}
	return a, err
}

// ServiceAccounts lists the managed service accounts that satisfy the filter, below
// base if it is given.
func (s *Session) ServiceAccounts(ctx context.Context, f adproto.Filter, base string) ([]Account, error) {
	var list []Account
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		list, err = d.accounts(ctx, adproto.And(serviceFilter(), f), base)
		return err
	})
	return list, err
}

// accounts searches for accounts, in pages.
func (d *desk) accounts(ctx context.Context, f adproto.Filter, base string) ([]Account, error) {
	entries, err := d.Search(ctx, ldapc.Search{Base: orElse(base, d.names.Base.String()), Scope: ldapc.Subtree, Filter: f, Attrs: accountAttrs})
	if err != nil {
		return nil, err
	}
	list := make([]Account, 0, len(entries))
	for _, e := range entries {
		a, err := parseAccount(e)
		if err != nil {
			return nil, err
		}
		list = append(list, a)
	}
	return list, nil
}

// NextRollover is when the account's password in force ends; zero where that is not
// known.
func (a Account) NextRollover() time.Time {
	if a.Rotating() {
		return a.MSA.Ends
	}
	return a.fullTerm()
}

// Rotating reports whether the password in force ends before its interval does, because
// a rotation was asked for. Only our own controller has that.
func (a Account) Rotating() bool {
	return a.MSA != nil && !a.MSA.Ends.IsZero() && a.MSA.Ends.Before(a.fullTerm())
}

// fullTerm is when the interval of the password in force ends.
func (a Account) fullTerm() time.Time {
	if a.MSA == nil || a.MSA.Interval == 0 {
		return time.Time{}
	}
	length, err := gkdi.RolloverInterval(int64(a.MSA.Interval))
	if err != nil {
		return time.Time{}
	}
	if a.MSA.ID == nil {
		if a.PasswordSet.IsZero() {
			return time.Time{}
		}
		return (dtyp.FiletimeOf(a.PasswordSet) + length).Time()
	}
	start, err := a.MSA.ID.KeyID.Start()
	if err != nil {
		return time.Time{}
	}
	return (start + length).Time()
}

// ServiceAccountEdit is what is to change of a managed service account. Nil fields
// stay as they are.
type ServiceAccountEdit struct {
	// Changes are changes of attributes, made together with the rest.
	Changes              []Change
	Enabled              *bool
	TrustedForDelegation *bool
	EncTypes             *adproto.EncryptionTypes
	// Readers and Delegates replace who is granted something; entries that deny,
	// that are conditional or that the account did not write itself stay.
	Readers, Delegates *[]string
	// Interval is refused with [ErrIntervalFixed] unless it is what the account
	// has.
	Interval *int
	// SPNs are the changes of service principal names, checked for uniqueness.
	SPNs []Change
}

// SetServiceAccount changes a managed service account in one request.
func (s *Session) SetServiceAccount(ctx context.Context, name string, edit ServiceAccountEdit) (Account, error) {
	var a Account
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) (err error) {
		set := func() error {
			a, err = d.setServiceAccount(ctx, name, edit)
			return err
		}
		if edit.Readers == nil {
			// What the caller's own changes may run into is not for us to repeat.
			return set()
		}
		return unlessChanged(ctx, set)
	})
	return a, err
}

func (d *desk) setServiceAccount(ctx context.Context, name string, edit ServiceAccountEdit) (Account, error) {
	a, err := d.serviceAccount(ctx, name)
	if err != nil {
		return Account{}, err
	}
	changes, err := d.serviceAccountChanges(ctx, a, edit)
	if err != nil {
		return Account{}, err
	}
	var readers swap // of nothing for nothing
	if edit.Readers != nil {
		if readers, err = d.replaceReaders(ctx, a, *edit.Readers); err != nil {
			return Account{}, err
		}
	}
	if err := denied(d.swap(ctx, a.DN, readers, changes...), "write the properties of the account", a.DN); err != nil {
		return Account{}, err
	}
	changed, err := d.account(ctx, a.GUID.String())
	return changed, stands(err, a.DN, "changed")
}

func (d *desk) serviceAccountChanges(ctx context.Context, a Account, edit ServiceAccountEdit) ([]Change, error) {
	changes := slices.Clone(edit.Changes)
	if edit.Interval != nil && (a.MSA == nil || *edit.Interval != a.MSA.Interval) {
		return nil, fmt.Errorf("%s: %w: make a new account with the interval that you want", a.DN, ErrIntervalFixed)
	}
	if control := edit.control(a.Control); control != a.Control {
		changes = append(changes, Replace("userAccountControl", decimal(control)))
	}
	if edit.EncTypes != nil {
		changes = append(changes, Replace("msDS-SupportedEncryptionTypes", decimal(*edit.EncTypes)))
	}
	for _, c := range edit.SPNs {
		if c.Op != RemoveValues {
			if err := d.checkSPNs(ctx, a.DN, c.Values); err != nil {
				return nil, err
			}
		}
	}
	changes = append(changes, edit.SPNs...)
	if edit.Delegates != nil {
		sids, err := d.sids(ctx, *edit.Delegates)
		if err != nil {
			return nil, err
		}
		change := Replace(actOnBehalfAttr)
		if len(sids) > 0 {
			sd, err := actOnBehalf(sids)
			if err != nil {
				return nil, err
			}
			change.Values = []string{sd}
		}
		changes = append(changes, change)
	}
	return changes, nil
}

// control is userAccountControl as the edit wants it.
func (edit ServiceAccountEdit) control(c adproto.UserAccountControl) adproto.UserAccountControl {
	set := func(bit adproto.UserAccountControl, on bool) {
		c &^= bit
		if on {
			c |= bit
		}
	}
	if edit.Enabled != nil {
		set(adproto.UACAccountDisable, !*edit.Enabled)
		if *edit.Enabled {
			// What samba-tool leaves set: the account has a password, always.
			set(adproto.UACPasswordNotRequired, false)
		}
	}
	if edit.TrustedForDelegation != nil {
		set(adproto.UACTrustedForDelegation, *edit.TrustedForDelegation)
	}
	return c
}

// RemoveServiceAccount deletes a managed service account.
func (s *Session) RemoveServiceAccount(ctx context.Context, name string) (Account, error) {
	var a Account
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) (err error) {
		if a, err = d.serviceAccount(ctx, name); err != nil {
			return err
		}
		return d.remove(ctx, a.DN)
	})
	return a, err
}

// ownVendor is the vendorName of our own controller's rootDSE.
const ownVendor = "OpenGMSA"

// ErrRotate: only our own controller rotates a gMSA's password before its time.
var ErrRotate = errors.New("this controller cannot rotate a password before its time")

// RotateError explains it.
type RotateError struct {
	Account Account
	Until   time.Time
}

// Error says until when the old password is good.
func (e *RotateError) Error() string {
	return fmt.Sprintf("%s: %v; the password in force ends at %s", e.Account.Name, ErrRotate, e.Until.Local().Format(time.DateTime))
}

// Unwrap is [ErrRotate].
func (e *RotateError) Unwrap() error { return ErrRotate }

// Hint says what can be done, and what it costs.
func (e *RotateError) Hint() string {
	return "wait until then (a new root key does not shorten it: gmsa kds add counts from the next rollover), or make a new account in its place at once: new SID, so every right that it had must be granted anew"
}

// Rotate has the controller make a new password for a gMSA with the next key cycle, at
// the account's NextRollover: our own controller takes pwdLastSet = 0 for that. Others
// have no such thing: a [*RotateError].
func (s *Session) Rotate(ctx context.Context, name string) (a Account, err error) {
	err = s.at(ctx, locate.GMSA, func(ctx context.Context, d *desk) (err error) {
		if a, err = d.serviceAccount(ctx, name); err != nil {
			return err
		}
		if a.Kind != KindGMSA {
			return fmt.Errorf("%s is a %v: %w", a.DN, a.Kind, ErrNotGMSA)
		}
		if !strings.EqualFold(d.names.Vendor, ownVendor) {
			return &RotateError{a, a.NextRollover()}
		}
		if err := denied(d.modify(ctx, a.DN, []Change{Replace("pwdLastSet", "0")}), "rotate the account's password", a.DN); err != nil {
			return err
		}
		dn := a.DN
		a, err = d.account(ctx, dn)
		return stands(err, dn, "given a new password to come")
	})
	return a, err
}

// Findings say in words what keeps a managed service account from being used, such
// as what samba-tool leaves out when it makes one.
func (a Account) Findings() []string {
	var list []string
	if a.Control.Disabled() {
		list = append(list, "the account is disabled (userAccountControl): gmsa account set --repair")
	}
	if a.Control&adproto.UACWorkstationTrust == 0 {
		list = append(list, "the flag WORKSTATION_TRUST_ACCOUNT is missing (userAccountControl): gmsa account set --repair")
	}
	if a.Kind == KindGMSA && a.EncTypes&adproto.EncDefaultAccounts == 0 {
		list = append(list, "no AES encryption type (msDS-SupportedEncryptionTypes): gmsa account set --repair")
	}
	if a.MSA != nil && a.MSA.Interval == 0 {
		list = append(list, "the password interval is 0, for which there is no password: the account must be made anew")
	}
	return list
}

// otherAccountTypes are cleared when an account becomes a workstation's, by the mask
// that the troubleshooting guide writes as 0x7FFFC5FF.
const otherAccountTypes = adproto.UACNormalAccount | adproto.UACInterdomainTrust | adproto.UACServerTrust

// RepairServiceAccount makes a managed service account as usable as a new one, and
// changes what edit says in the same request.
func (s *Session) RepairServiceAccount(ctx context.Context, name string, edit ServiceAccountEdit) (Account, error) {
	a, err := s.ServiceAccount(ctx, name)
	if err != nil {
		return Account{}, err
	}
	control := (a.Control | adproto.UACWorkstationTrust) &^ (otherAccountTypes | adproto.UACAccountDisable | adproto.UACPasswordNotRequired)
	if control != a.Control {
		edit.Changes = append(edit.Changes, Replace("userAccountControl", decimal(control)))
	}
	if types := a.EncTypes | adproto.EncDefaultAccounts; edit.EncTypes == nil && a.EncTypes&adproto.EncDefaultAccounts == 0 {
		edit.EncTypes = &types
	}
	return s.SetServiceAccount(ctx, a.GUID.String(), edit)
}
