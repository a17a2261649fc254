package account

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Kind is what kind of account it is.
type Kind int

// The kinds.
const (
	User Kind = iota
	Computer
	ManagedService      // sMSA: msDS-ManagedServiceAccount
	GroupManagedService // gMSA: msDS-GroupManagedServiceAccount
)

// Account is an account at one state of the directory. It is shared, and immutable but for
// the buffers that it keeps.
type Account struct {
	GUID dtyp.GUID
	SID  dtyp.SID
	Kind Kind
	Name string // sAMAccountName
	// UPN is userPrincipalName or, where Constructed says so, what stands for it.
	UPN         string
	Constructed bool
	DisplayName string
	Control     adproto.UserAccountControl
	// Encryption is msDS-SupportedEncryptionTypes, 0 where the domain's default applies.
	Encryption adproto.EncryptionTypes
	// Expires is accountExpires; 0 and [dtyp.Never] mean that it does not.
	Expires dtyp.Filetime
	// PasswordSet is pwdLastSet; 0 means that the password must be changed.
	PasswordSet dtyp.Filetime
	// LockoutTime is as the directory has it; see [Accounts.Check].
	LockoutTime dtyp.Filetime
	// LogonHours has a bit for each hour of a week from Sunday 0 h UTC, or is nil.
	LogonHours []byte
	// Service says that tickets for it are issued: it has an SPN, or it is a machine.
	Service bool
	// PrimaryGroup is a RID; Groups are the RIDs of the universal and global groups,
	// the primary one first, that go into a TGT.
	PrimaryGroup uint32
	Groups       []uint32
	// Policy is the domain's.
	Policy Policy

	domain  *directory.Domain
	profile profile
	// stored is nil for a gMSA and for an account that has no password, timeline for all
	// others.
	stored   *stored
	timeline *kds.Timeline
	// etypes are what ETypes gives.
	etypes []crypto.EType
	// created is whenCreated.
	created dtyp.Filetime

	buffers atomic.Pointer[madeBuffers]
}

// profile is what only the PAC has of an account.
type profile struct{ scriptPath, path, homeDirectory, homeDrive string }

// ErrUnknown: there is no such account.
var ErrUnknown = errors.New("no such account")

// Principal is the name that the KDC writes where it may choose one.
func (a *Account) Principal() krb5.PrincipalName {
	return krb5.NewName(krb5.NamePrincipal, a.Name)
}

// NTName is the NT account name: CONTOSO\alice.
func (a *Account) NTName() string { return a.domain.NetBIOS + `\` + a.Name }

// PasswordExpires is when the password must be changed; the zero time is never. A
// password that must be changed now has expired at the beginning of time.
func (a *Account) PasswordExpires() time.Time {
	if a.mustNotExpire() {
		return time.Time{}
	}
	if a.PasswordSet == 0 {
		return time.Unix(1, 0)
	}
	if a.Policy.MaxAge == 0 {
		return time.Time{}
	}
	return a.PasswordSet.Add(a.Policy.MaxAge).Time()
}

// mustNotExpire: passwords of machines and of gMSAs, and those marked so, stay good
// ([MS-SAMR] 3.1.5.14.4).
func (a *Account) mustNotExpire() bool {
	return a.Kind == GroupManagedService || trust(a.Control) ||
		a.Control&(adproto.UACDontExpirePassword|adproto.UACSmartcardRequired) != 0
}

// load makes an account of its entry. It fails with ErrUnknown for what cannot log on
// and for what was deleted.
func (a *Accounts) load(r *directory.Reader, c *cache, e *rows.Entry) (*Account, error) {
	k := a.known
	kind, ok := kindOfEntry(e, k)
	acct := &Account{
		GUID: e.GUID, SID: sidOf(e, k.objectSID), Kind: kind, Name: text(e, k.samAccountName),
		UPN: text(e, k.userPrincipalName), DisplayName: text(e, k.displayName), Control: uacOf(e, k),
		Expires: filetime(e, k.accountExpires), PasswordSet: filetime(e, k.pwdLastSet),
		LockoutTime: filetime(e, k.lockoutTime), created: e.WhenCreated, domain: &a.domain,
		profile: profile{text(e, k.scriptPath), text(e, k.profilePath), text(e, k.homeDirectory), text(e, k.homeDrive)},
	}
	if !ok || acct.SID.Domain() != a.domain.SID || acct.Name == "" || text(e, k.isDeleted) == "TRUE" {
		return nil, fmt.Errorf("%w: %s is no account", ErrUnknown, e.GUID)
	}
	if acct.UPN == "" {
		acct.UPN, acct.Constructed = acct.Name+"@"+a.domain.DNSName, true
	}
	n, _ := number(e, k.supportedTypes)
	acct.Encryption = adproto.EncryptionTypes(n)
	acct.etypes = spokenTypes(acct.Encryption)
	if h := e.Values[k.logonHours]; len(h) > 0 && len(h[0]) == logonHoursSize {
		acct.LogonHours = h[0]
	}
	acct.Service = trust(acct.Control) || len(e.Values[k.servicePrincipalName]) > 0
	primary, _ := number(e, k.primaryGroupID)
	acct.PrimaryGroup = uint32(primary)
	var err error
	if acct.Groups, err = a.accountGroups(r, acct); err != nil {
		return nil, fmt.Errorf("groups of %s: %w", acct.Name, err)
	}
	if acct.Policy, err = readPolicy(r, k); err != nil {
		return nil, fmt.Errorf("read policy of the domain: %w", err)
	}
	if err := acct.loadKeys(r); err != nil {
		return nil, fmt.Errorf("keys of %s: %w", acct.Name, err)
	}
	if before := c.before[acct.GUID]; before.same(acct.stored) {
		acct.stored = before
	}
	return acct, nil
}

// loadKeys reads the timeline of a gMSA, or the stored keys of any other account. None
// is no error: nobody can log on as it.
func (a *Account) loadKeys(r *directory.Reader) error {
	if a.Kind == GroupManagedService {
		t, err := r.Timeline(a.GUID)
		if err == nil {
			a.timeline = &t
		}
		return ignoreMissing(err)
	}
	s, err := readStored(r, a.GUID)
	a.stored = s
	return ignoreMissing(err)
}

func ignoreMissing(err error) error {
	if errors.Is(err, rows.ErrNotFound) {
		return nil
	}
	return err
}

// kindOfEntry is the kind of an object; ok is false for what is no account.
func kindOfEntry(e *rows.Entry, known *attributes) (kind Kind, ok bool) {
	for _, class := range e.Values[known.objectClass] {
		switch string(class) {
		case "msDS-GroupManagedServiceAccount":
			return GroupManagedService, true
		case "msDS-ManagedServiceAccount":
			return ManagedService, true
		case "computer":
			kind, ok = Computer, true
		case "user":
			ok = true
		}
	}
	return kind, ok
}

// IsKrbtgt reports whether the account is the one whose keys make this a KDC.
func (a *Account) IsKrbtgt() bool { return a.SID.RID() == dtyp.RIDKrbtgt }
