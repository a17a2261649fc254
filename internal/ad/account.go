package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Kind is what sort of object an account is.
type Kind int

// The kinds, the most special class first.
const (
	KindOther    Kind = iota
	KindGMSA          // msDS-GroupManagedServiceAccount
	KindSMSA          // msDS-ManagedServiceAccount
	KindComputer      // computer
	KindUser          // user
	KindGroup         // group
)

// String is the kind in words.
func (k Kind) String() string {
	return [...]string{"object", "group managed service account", "standalone managed service account", "computer", "user", "group"}[k]
}

// kindClasses are tried in this order: each class is a subclass of a later one.
var kindClasses = []struct {
	class string
	kind  Kind
}{
	{"msDS-GroupManagedServiceAccount", KindGMSA},
	{"msDS-ManagedServiceAccount", KindSMSA},
	{"computer", KindComputer},
	{"user", KindUser},
	{"group", KindGroup},
}

// Account is an account or group of the directory. Fields of attributes that
// are absent, or that the identity may not read, are zero.
type Account struct {
	DN          string
	Kind        Kind
	Name        string // sAMAccountName, with its $
	SID         dtyp.SID
	GUID        dtyp.GUID
	UPN         string
	DNSHostName string
	Description string
	SPNs        []string
	Control     adproto.UserAccountControl
	EncTypes    adproto.EncryptionTypes // 0: not set, the domain's default
	KVNO        uint32                  // msDS-KeyVersionNumber
	WhenCreated time.Time
	// PasswordSet is pwdLastSet; zero where never.
	PasswordSet time.Time
	// MSA is set for a group managed service account alone.
	MSA *GMSA
}

// GMSA is what only a group managed service account has.
type GMSA struct {
	// Interval is msDS-ManagedPasswordInterval, in days.
	Interval int
	// ID and PreviousID are msDS-ManagedPasswordId and its predecessor: nil
	// where unreadable, or where no password has been made yet.
	ID, PreviousID *managedpassword.ID
	// Ends is when the password in force does, by msDS-UserPasswordExpiryTimeComputed:
	// zero but at our own controller, for others have no such thing.
	Ends time.Time
	// Readers is msDS-GroupMSAMembership; nil where unreadable. Who is granted
	// ReadProperty in it may retrieve the password.
	Readers *secdesc.SecurityDescriptor
	readers string // as it was read: what an edit takes the place of
}

// accountAttrs are the attributes of an Account. None of them makes the
// directory generate a password.
var accountAttrs = []string{
	"objectClass", "sAMAccountName", "objectSid", "objectGUID", "userPrincipalName", "dNSHostName", "description", "servicePrincipalName",
	"userAccountControl", "msDS-SupportedEncryptionTypes", "msDS-KeyVersionNumber", "whenCreated", "pwdLastSet",
	"msDS-ManagedPasswordInterval", "msDS-ManagedPasswordId", "msDS-ManagedPasswordPreviousId", "msDS-GroupMSAMembership",
	"msDS-UserPasswordExpiryTimeComputed",
}

// Find returns the account with the name, of whatever kind.
func (s *Session) Find(ctx context.Context, name adproto.AccountName) (Account, error) {
	return s.find(ctx, name, name.Filter(s.d.Name()))
}

// FindService returns the computer or managed service account with the name,
// written with or without its $.
func (s *Session) FindService(ctx context.Context, name adproto.AccountName) (Account, error) {
	return s.find(ctx, name, name.ServiceFilter(s.d.Name()))
}

func (s *Session) find(ctx context.Context, name adproto.AccountName, f adproto.Filter) (Account, error) {
	return read(ctx, s, locate.Any, Hint{}, func(ctx context.Context, conn *ldapc.Conn, _ locate.Controller) (Account, error) {
		e, err := findEntry(ctx, conn, s.d.BaseDN(), name, f, accountAttrs)
		if err != nil {
			return Account{}, err
		}
		return parseAccount(e)
	})
}

// findEntry reads the one entry that a name stands for.
func findEntry(ctx context.Context, conn *ldapc.Conn, base adproto.DN, name adproto.AccountName, f adproto.Filter, attrs []string) (*ldap.Entry, error) {
	if name.Form == adproto.FormDN {
		e, err := conn.Read(ctx, name.DN.String(), attrs...)
		if errors.Is(err, ldapc.ErrNoSuchObject) {
			return nil, fmt.Errorf("%s: %w: %w", name, ErrNotFound, err)
		}
		return e, err
	}
	entries, err := conn.Search(ctx, ldapc.Search{Base: base.String(), Scope: ldapc.Subtree, Filter: f, Attrs: attrs, Limit: 2})
	switch {
	case err != nil:
		return nil, err
	case len(entries) == 0:
		return nil, fmt.Errorf("%s: %w in %s", name, ErrNotFound, base.DNSDomain())
	case len(entries) > 1:
		return nil, fmt.Errorf("%s: %w: %q and %q", name, ErrAmbiguous, entries[0].DN, entries[1].DN)
	}
	return entries[0], nil
}

// parseAccount reads the attributes of accountAttrs. What cannot be parsed is an
// error that names the attribute: a half-understood account helps nobody.
func parseAccount(e *ldap.Entry) (Account, error) {
	r := attrs{e: e}
	a := Account{
		DN: e.DN, Kind: kindOf(r.strings("objectClass")), Name: r.string("sAMAccountName"),
		SID: r.sid("objectSid"), GUID: r.guid("objectGUID"),
		UPN: r.string("userPrincipalName"), DNSHostName: r.string("dNSHostName"), Description: r.string("description"),
		SPNs:        r.strings("servicePrincipalName"),
		Control:     adproto.UserAccountControl(r.number("userAccountControl")),
		EncTypes:    adproto.EncryptionTypes(r.number("msDS-SupportedEncryptionTypes")),
		KVNO:        r.number("msDS-KeyVersionNumber"),
		WhenCreated: r.time("whenCreated"), PasswordSet: r.filetime("pwdLastSet"),
	}
	if a.Kind == KindGMSA {
		a.MSA = &GMSA{
			Interval: int(r.number("msDS-ManagedPasswordInterval")),
			ID:       r.passwordID("msDS-ManagedPasswordId"), PreviousID: r.passwordID("msDS-ManagedPasswordPreviousId"),
			Ends:    r.filetime("msDS-UserPasswordExpiryTimeComputed"),
			Readers: r.securityDescriptor(readersAttr), readers: r.string(readersAttr),
		}
	}
	if r.err != nil {
		return Account{}, fmt.Errorf("%s: %w", e.DN, r.err)
	}
	return a, nil
}

func kindOf(classes []string) Kind {
	for _, k := range kindClasses {
		if slices.ContainsFunc(classes, func(c string) bool { return strings.EqualFold(c, k.class) }) {
			return k.kind
		}
	}
	return KindOther
}

// attrs reads typed attributes; absent ones are zero. The first error stays.
type attrs struct {
	e   *ldap.Entry
	err error
}

func (r *attrs) bytes(name string) []byte { return r.e.GetEqualFoldRawAttributeValue(name) }

func (r *attrs) string(name string) string { return r.e.GetEqualFoldAttributeValue(name) }

func (r *attrs) strings(name string) []string { return r.e.GetEqualFoldAttributeValues(name) }

// parse runs f on the attribute's first value if there is one.
func (r *attrs) parse(name string, f func(b []byte) error) {
	b := r.bytes(name)
	if len(b) == 0 || r.err != nil {
		return
	}
	if err := f(b); err != nil {
		r.err = fmt.Errorf("attribute %s: %w", name, err)
	}
}

// number reads an Integer, which the directory writes signed.
func (r *attrs) number(name string) (n uint32) {
	r.parse(name, func(b []byte) error {
		v, err := strconv.ParseInt(string(b), 10, 32)
		n = uint32(v)
		return err
	})
	return n
}

func (r *attrs) sid(name string) (sid dtyp.SID) {
	r.parse(name, func(b []byte) (err error) {
		sid, err = dtyp.SIDFromBytes(b)
		return err
	})
	return sid
}

func (r *attrs) guid(name string) (g dtyp.GUID) {
	r.parse(name, func(b []byte) error {
		if len(b) != dtyp.GUIDSize {
			return fmt.Errorf("%d bytes, want %d", len(b), dtyp.GUIDSize)
		}
		g = dtyp.GUID(b)
		return nil
	})
	return g
}

// generalizedTime is how the directory writes times: RFC 4517, Section 3.3.13,
// in UTC with tenths of a second.
const generalizedTime = "20060102150405.0Z"

func (r *attrs) time(name string) (t time.Time) {
	r.parse(name, func(b []byte) (err error) {
		t, err = time.Parse(generalizedTime, string(b))
		return err
	})
	return t
}

// filetime reads an Integer8 that counts from 1601; 0 and "never" are zero.
func (r *attrs) filetime(name string) (t time.Time) {
	r.parse(name, func(b []byte) error {
		v, err := strconv.ParseUint(string(b), 10, 64)
		if err == nil && v != 0 && dtyp.Filetime(v) != dtyp.Never {
			t = dtyp.Filetime(v).Time()
		}
		return err
	})
	return t
}

func (r *attrs) passwordID(name string) (id *managedpassword.ID) {
	r.parse(name, func(b []byte) error {
		v, err := managedpassword.ParseID(b)
		if err == nil {
			id = &v
		}
		return err
	})
	return id
}

func (r *attrs) securityDescriptor(name string) (sd *secdesc.SecurityDescriptor) {
	r.parse(name, func(b []byte) error {
		v, err := secdesc.Parse(b)
		if err == nil {
			sd = &v
		}
		return err
	})
	return sd
}
