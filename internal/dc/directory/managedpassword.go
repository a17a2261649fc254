package directory

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/secdesc"
)

// The classes of which the directory itself knows something.
const (
	classGMSA    = "msDS-GroupManagedServiceAccount"
	classRootKey = "msKds-ProvRootKey"
	classGroup   = "group"
)

// managedPassword is msDS-ManagedPassword ([MS-ADTS] 3.1.1.4.5.39), for whom the
// account's msDS-GroupMSAMembership allows and nobody else, administrators included;
// for others it is absent. Every reading, and every one in vain, is audited. A search for
// names of attributes alone reads no password: that there is one is all it is told.
func (s *search) managedPassword(v *view) ([][]byte, error) {
	if !v.o.is(s.Directory, classGMSA) || s.globalCatalog {
		return nil, nil
	}
	if !s.caller.Encrypted && !s.caller.Controller {
		return nil, Errorf(OperationsError, Win32Confidentiality, "Viewing msDS-ManagedPassword requires an encrypted connection")
	}
	if !s.mayReadPassword(v) {
		return nil, s.audit(v.o, audit.KindReadManagedPassword, s.known.managedPassword,
			"LDAP 50: msDS-GroupMSAMembership does not let the caller read it")
	}
	if s.q.TypesOnly {
		return unread()
	}
	blob, err := s.blob(v.o)
	if err != nil {
		return nil, errors.Join(err, s.audit(v.o, audit.KindReadManagedPassword, s.known.managedPassword, err.Error()))
	}
	return one(blob), s.audit(v.o, audit.KindReadManagedPassword, s.known.managedPassword, "")
}

// unread stands for the value of an attribute that a search for names alone asks for.
func unread() ([][]byte, error) { return one(nil), nil }

func (s *search) mayReadPassword(v *view) bool {
	if s.caller.Controller {
		return true
	}
	raw := v.o.one(s.known.groupMSA)
	if raw == nil {
		return false
	}
	token := s.caller.Token
	token.Self = v.o.sid
	granted, err := secdesc.CheckEach(s.cached.descriptor(raw), token, secdesc.ReadManagedPassword)
	return err == nil && granted[0].Has(secdesc.ReadManagedPassword)
}

// blob derives what a reader of the password is given now.
func (s *search) blob(o *object) ([]byte, error) {
	t, err := s.Timeline(o.GUID)
	if err != nil {
		return nil, fmt.Errorf("timeline of %s: %w", o.GUID, err)
	}
	reading, err := t.Read(o.WhenCreated, dtyp.FiletimeOf(s.Now()))
	if err != nil {
		return nil, fmt.Errorf("password of %s: %w", o.GUID, err)
	}
	blob, err := reading.Blob(s.Ring(), o.sid)
	if errors.Is(err, gkdi.ErrNoRootKey) {
		return nil, &Error{Code: OperationsError, Win32: Win32Operations,
			Message: "the root key that the password is derived from was removed", Err: err}
	}
	if err != nil {
		return nil, fmt.Errorf("password of %s: %w", o.GUID, err)
	}
	defer blob.Destroy()
	return blob.Append(nil), nil
}

// rootKeyData is msKds-RootKeyData, for Enterprise Admins over an encrypted connection;
// for others it is absent. A search for names of attributes alone reads none.
func (s *search) rootKeyData(v *view) ([][]byte, error) {
	enterprise := slices.Contains(s.caller.Token.SIDs, s.domain.SID.Child(dtyp.RIDEnterpriseAdmins))
	may := s.caller.Controller || s.caller.Encrypted && enterprise && v.readable(s.known.rootKeyData)
	if !may || !v.o.is(s.Directory, classRootKey) {
		return nil, nil
	}
	if s.q.TypesOnly {
		return unread()
	}
	key, err := s.Private(v.o.GUID, PrivateRootKey)
	if errors.Is(err, rows.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return one(key.Reveal()), s.audit(v.o, audit.KindReadRootKey, s.known.rootKeyData, "")
}

func (s *search) audit(o *object, kind audit.Kind, a *schema.Attribute, failure string) error {
	dn, err := s.name(o)
	s.cfg.Audit.Record(audit.Event{Time: s.Now(), Kind: kind, SID: s.caller.SID, Name: s.caller.Name, From: s.caller.From,
		Object: dn, GUID: o.GUID, Attributes: []string{a.Name}, Error: failure})
	return err
}

// passwordID is msDS-ManagedPasswordId or msDS-ManagedPasswordPreviousId: the key that
// is in force, or was before ([MS-ADTS] 2.2.19, [MS-GKDI] 2.2.4).
func (s *session) passwordID(o *object, a *schema.Attribute) ([][]byte, error) {
	p, t, err := s.period(o)
	if err != nil || p == nil {
		return nil, err
	}
	if a == s.known.managedPasswordPreviousID {
		previous, ok := t.Previous(*p)
		if !ok {
			return nil, nil
		}
		p = &previous
	}
	return one(p.PasswordID(s.domain.DNSName, s.domain.DNSName).Append(nil)), nil
}

// inForce is what the timeline of a gMSA says now: several attributes follow from it.
type inForce struct {
	o        *object
	period   *kds.Period
	timeline kds.Timeline
}

// period is that of a gMSA's password in force; nil for every other object.
func (s *session) period(o *object) (*kds.Period, kds.Timeline, error) {
	if o.virtual || !o.is(s.Directory, classGMSA) {
		return nil, kds.Timeline{}, nil
	}
	if s.inForce.o == o {
		return s.inForce.period, s.inForce.timeline, nil
	}
	t, err := s.Timeline(o.GUID)
	if errors.Is(err, rows.ErrNotFound) {
		return nil, t, nil
	}
	if err != nil {
		return nil, t, err
	}
	p, err := t.At(dtyp.FiletimeOf(s.Now()))
	if err == nil {
		s.inForce = inForce{o, &p, t}
	}
	return &p, t, err
}
