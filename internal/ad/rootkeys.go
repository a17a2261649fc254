package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// DefaultRootKeyDelay is how long after its creation a root key is used unless
// something else is asked for: what Add-KdsRootKey does.
const DefaultRootKeyDelay = 10 * 24 * time.Hour

// RootKey is a KDS root key as the directory shows it.
type RootKey struct {
	ID       dtyp.GUID
	DN       string
	Created  time.Time // msKds-CreateTime
	UseStart time.Time // msKds-UseStartTime
	// DomainID is the controller's computer account on which the key was made.
	DomainID string
	// KDF, Agreement and the lengths in bits are what Windows writes beside it.
	KDF, Agreement                string
	PrivateKeyBits, PublicKeyBits uint32
	Version                       int
	// Hash is of the key derivation; empty where it cannot be read.
	Hash string
	// Key is complete where the identity may read the secret; the caller
	// destroys it.
	Key *gkdi.ProvRootKey
}

// FirstUse is when the key can first make passwords: at the beginning of the
// first key cycle of 10 hours that its use time allows, [MS-GKDI] 3.1.4.1.1.
func (k RootKey) FirstUse() time.Time { return firstUse(k.UseStart) }

func firstUse(use time.Time) time.Time {
	t := dtyp.FiletimeOf(use)
	id := gkdi.KeyIDAt(t)
	start, err := id.Start()
	if err != nil || start >= t {
		return use
	}
	return (start + gkdi.Cycle).Time()
}

// rootKeyClass is the class of root keys.
const rootKeyClass = "msKds-ProvRootKey"

// rootKeyContainer is where the forest's root keys lie.
func (d *desk) rootKeyContainer() adproto.DN {
	dn := d.names.Config
	for _, name := range []string{"Services", "Group Key Distribution Service", "Master Root Keys"} {
		dn = adproto.NewDN("CN", name, dn)
	}
	return dn
}

var rootKeyAttrs = []string{
	"cn", "msKds-Version", "msKds-CreateTime", "msKds-UseStartTime", "msKds-DomainID", "msKds-KDFAlgorithmID", "msKds-KDFParam",
	"msKds-SecretAgreementAlgorithmID", "msKds-SecretAgreementParam", "msKds-PrivateKeyLength", "msKds-PublicKeyLength",
}

// RootKeys lists the forest's root keys, the oldest first. With secrets it also
// reads the keys themselves, where the identity may; whoever has them knows the
// password of every gMSA for ever.
func (s *Session) RootKeys(ctx context.Context, secrets bool) ([]RootKey, error) {
	var keys []RootKey
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		keys, err = d.rootKeys(ctx, secrets)
		return err
	})
	return keys, err
}

func (d *desk) rootKeys(ctx context.Context, secrets bool) ([]RootKey, error) {
	attributes := rootKeyAttrs
	if secrets {
		attributes = append(slices.Clone(attributes), "msKds-RootKeyData")
	}
	entries, err := d.Search(ctx, ldapc.Search{
		Base: d.rootKeyContainer().String(), Scope: ldapc.OneLevel, Attrs: attributes,
		Filter: adproto.Equal("objectClass", rootKeyClass),
	})
	if err != nil {
		return nil, fmt.Errorf("root keys: %w", err)
	}
	var keys []RootKey
	for _, e := range entries {
		k, err := parseRootKey(e)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b RootKey) int { return a.Created.Compare(b.Created) })
	return keys, nil
}

// parseRootKey reads what can be read of a root key's object.
func parseRootKey(e *ldap.Entry) (RootKey, error) {
	r := attrs{e: e}
	k := RootKey{
		DN: e.DN, Created: r.filetime("msKds-CreateTime"), UseStart: r.filetime("msKds-UseStartTime"), DomainID: r.string("msKds-DomainID"),
		KDF: r.string("msKds-KDFAlgorithmID"), Agreement: r.string("msKds-SecretAgreementAlgorithmID"),
		PrivateKeyBits: r.number("msKds-PrivateKeyLength"), PublicKeyBits: r.number("msKds-PublicKeyLength"), Version: int(r.number("msKds-Version")),
	}
	r.parse("cn", func(b []byte) (err error) {
		k.ID, err = dtyp.ParseGUID(string(b))
		return err
	})
	if h, err := gkdi.ParseKDFParameters(r.bytes("msKds-KDFParam")); err == nil {
		k.Hash = h.String()
	}
	if r.err != nil {
		return RootKey{}, fmt.Errorf("%s: %w", e.DN, r.err)
	}
	if len(r.bytes("msKds-RootKeyData")) == 0 {
		return k, nil
	}
	full, err := gkdi.ParseProvRootKey(e.GetEqualFoldRawAttributeValues)
	if err != nil {
		return RootKey{}, fmt.Errorf("%s: %w", e.DN, err)
	}
	k.Key = &full
	return k, nil
}

// ErrNoRootKeyWithID: no root key has that id.
var ErrNoRootKeyWithID = errors.New("no such KDS root key")

// rootKey is the one with the id.
func (d *desk) rootKey(ctx context.Context, id dtyp.GUID, secrets bool) (RootKey, error) {
	keys, err := d.rootKeys(ctx, secrets)
	if err != nil {
		return RootKey{}, err
	}
	for _, k := range keys {
		if k.ID == id {
			return k, nil
		}
	}
	if len(keys) == 0 {
		return RootKey{}, fmt.Errorf("%w: %v; none can be seen, for there is none or it takes an administrator of the domain to see them", ErrNoRootKeyWithID, id)
	}
	return RootKey{}, fmt.Errorf("%w: %v among %d", ErrNoRootKeyWithID, id, len(keys))
}

// RootKey reads one root key.
func (s *Session) RootKey(ctx context.Context, id dtyp.GUID, secrets bool) (RootKey, error) {
	var k RootKey
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		k, err = d.rootKey(ctx, id, secrets)
		return err
	})
	return k, err
}

// AddRootKey makes a root key that is used from useStart on; zero means
// [DefaultRootKeyDelay] from now. others are the keys that were there before.
func (s *Session) AddRootKey(ctx context.Context, useStart time.Time) (key RootKey, others []RootKey, err error) {
	now := s.d.kerberos.Now()
	if useStart.IsZero() {
		useStart = now.Add(DefaultRootKeyDelay)
	}
	err = s.at(ctx, locate.GMSA, func(ctx context.Context, d *desk) error {
		if others, err = d.rootKeys(ctx, false); err != nil {
			return err
		}
		secretKey, err := gkdi.NewRootKey(s.d.cfg.Rand, dtyp.FiletimeOf(now), dtyp.FiletimeOf(useStart))
		if err != nil {
			return err
		}
		defer secretKey.Key.Destroy()
		dn := adproto.NewDN("CN", secretKey.ID.String(), d.rootKeyContainer())
		attributes := []Change{{Attr: "objectClass", Values: []string{rootKeyClass}}}
		for _, a := range gkdi.NewProvRootKey(secretKey, d.computerAccount(ctx)).Attributes() {
			attributes = append(attributes, Change{Attr: a.Name, Values: []string{string(a.Value)}})
		}
		if err := denied(d.add(ctx, dn, attributes), "create "+rootKeyClass+" objects", d.rootKeyContainer().String()); err != nil {
			return err
		}
		key, err = d.rootKey(ctx, secretKey.ID, false)
		return stands(err, dn.String(), "made")
	})
	return key, others, err
}

// computerAccount is the controller's computer account, which a root key notes
// as its maker: serverReference of its server object, [MS-ADTS] 6.1.1.2.2.1.2.
func (d *desk) computerAccount(ctx context.Context) string {
	if e, err := d.Read(ctx, d.names.Account, "serverReference"); err == nil {
		if ref := e.GetEqualFoldAttributeValue("serverReference"); ref != "" {
			return ref
		}
	}
	host, _, _ := strings.Cut(d.names.Host, ".")
	return adproto.NewDN("CN", host, adproto.NewDN("OU", "Domain Controllers", d.names.Base)).String()
}

// Dependent is an account whose password comes from a root key.
type Dependent struct {
	Account  Account
	Current  bool // the password in force
	Previous bool // the one before it
}

// Dependents are the gMSAs of the domain whose current or previous password a root
// key makes: what a leaked key gives away, and what its removal would break.
// whole says that the forest has no other domain, whose accounts this search
// does not see.
func (s *Session) Dependents(ctx context.Context, id dtyp.GUID) (list []Dependent, whole bool, err error) {
	err = s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		if _, err := d.rootKey(ctx, id, false); err != nil {
			return err
		}
		list, whole, err = d.dependents(ctx, id)
		return err
	})
	return list, whole, err
}

func (d *desk) dependents(ctx context.Context, id dtyp.GUID) (list []Dependent, whole bool, err error) {
	accounts, whole, err := d.gmsas(ctx)
	return dependents(accounts, id), whole, err
}

// gmsas are the gMSAs of the domain; whole says that the forest has no other.
func (d *desk) gmsas(ctx context.Context) (list []Account, whole bool, err error) {
	domains, err := d.domains(ctx)
	if err != nil {
		return nil, false, err
	}
	list, err = d.accounts(ctx, adproto.Equal("objectClass", "msDS-GroupManagedServiceAccount"), "")
	return list, len(domains) <= 1, err
}

func dependents(accounts []Account, id dtyp.GUID) (list []Dependent) {
	for _, a := range accounts {
		if a.MSA == nil {
			continue
		}
		x := Dependent{Account: a}
		x.Current = a.MSA.ID != nil && a.MSA.ID.RootKeyID == id
		x.Previous = a.MSA.PreviousID != nil && a.MSA.PreviousID.RootKeyID == id
		if x.Current || x.Previous {
			list = append(list, x)
		}
	}
	return list
}

// rootKeyNotice is how long before the end of a key cycle of 10 hours passwords of the next
// are decided: controllers tell hosts the next password five minutes before it is in force
// ([MS-ADTS] 3.1.1.4.5.39), by clocks that may be five minutes ahead.
const rootKeyNotice = 10 * time.Minute

// toldUntil is when the passwords come into force that hosts may have been told already and
// that come from the root key id; zero at most times, and for all keys but the newest that
// can be used then.
func toldUntil(keys []RootKey, id dtyp.GUID, now time.Time) time.Time {
	ends := firstUse(now)
	if ends.Sub(now) > rootKeyNotice {
		return time.Time{}
	}
	var newest RootKey
	for _, k := range keys { // the oldest first
		if !k.FirstUse().After(ends) {
			newest = k
		}
	}
	if newest.ID != id {
		return time.Time{}
	}
	return ends
}

// RootKeyInUseError refuses the removal of a root key.
type RootKeyInUseError struct {
	ID         dtyp.GUID
	Dependents []Dependent
	Whole      bool // no other domain could need the key too
	// Told is when passwords of the key come into force that hosts may have been told
	// already; zero for none.
	Told time.Time
}

// Error names the accounts.
func (e *RootKeyInUseError) Error() string {
	if len(e.Dependents) == 0 && !e.Told.IsZero() {
		return fmt.Sprintf("root key %v: hosts may have been told passwords already that come from it and are in force from %s on", e.ID, e.Told.Local().Format(time.DateTime))
	}
	if len(e.Dependents) == 0 {
		return fmt.Sprintf("root key %v: the forest has other domains, whose accounts cannot be seen from here", e.ID)
	}
	names := make([]string, len(e.Dependents))
	for i, d := range e.Dependents {
		names[i] = d.Account.Name
	}
	return fmt.Sprintf("root key %v makes the passwords of %d accounts: %s", e.ID, len(names), strings.Join(names, ", "))
}

// Hint says what to do instead.
func (e *RootKeyInUseError) Hint() string {
	if len(e.Dependents) == 0 && !e.Told.IsZero() {
		return "ask again after that, when it can be seen which accounts have them: gmsa kds reach " + e.ID.String()
	}
	return "add a new root key and wait until each account has rolled over twice (gmsa kds reach " + e.ID.String() + "), or lose them: --force"
}

// RemoveRootKey deletes a root key. Unless forced it refuses while a password
// that may be in use, or that a host may have been told, comes from it: a
// [*RootKeyInUseError].
func (s *Session) RemoveRootKey(ctx context.Context, id dtyp.GUID, force bool) ([]Dependent, error) {
	var list []Dependent
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) error {
		k, err := d.rootKey(ctx, id, false)
		if err != nil {
			return err
		}
		inUse, err := d.rootKeyInUse(ctx, id)
		if err != nil {
			return err
		}
		list = inUse.Dependents
		if !force && (len(list) > 0 || !inUse.Whole || !inUse.Told.IsZero()) {
			return &inUse
		}
		return d.remove(ctx, k.DN)
	})
	return list, err
}

// rootKeyInUse says what would be lost with a root key.
func (d *desk) rootKeyInUse(ctx context.Context, id dtyp.GUID) (RootKeyInUseError, error) {
	keys, err := d.rootKeys(ctx, false)
	if err != nil {
		return RootKeyInUseError{}, err
	}
	accounts, whole, err := d.gmsas(ctx)
	e := RootKeyInUseError{ID: id, Dependents: dependents(accounts, id), Whole: whole}
	now := d.s.d.kerberos.Now()
	if slices.ContainsFunc(accounts, func(a Account) bool { return !a.NextRollover().After(now.Add(rootKeyNotice)) }) {
		e.Told = toldUntil(keys, id, now)
	}
	return e, err
}

// RootKeyWarnings are what whoever made a root key should know. others are the keys
// that were there before; reasoned says that another key is wanted on purpose.
func RootKeyWarnings(key RootKey, others []RootKey, now time.Time, reasoned bool) []string {
	var warnings []string
	if key.UseStart.Before(now.Add(-time.Minute)) {
		warnings = append(warnings, "the key is used at once: another controller that has not heard of it yet cannot make its passwords; do this in a test domain with a single controller only")
	} else if first := key.FirstUse(); first.After(now) && first.Before(now.Add(DefaultRootKeyDelay)) {
		warnings = append(warnings, "the key can first be used at "+first.Local().Format(time.DateTime)+", when the next key cycle of 10 hours begins")
	}
	if len(others) > 0 && !reasoned {
		warnings = append(warnings, fmt.Sprintf("the forest had %d root keys already, and one is enough: accounts go over to the new one at their next rollover", len(others)))
	}
	return warnings
}

// ErrSecretWithheld: the directory does not give the identity the root key's secret.
var ErrSecretWithheld = errors.New("the directory withholds the root key's secret: ask as a member of Enterprise Admins")

// TestRootKey reads a root key with its secret and derives a group key. reason says
// why passwords cannot be made from it; nil means that they can.
func (s *Session) TestRootKey(ctx context.Context, id dtyp.GUID) (reason, err error) {
	k, err := s.RootKey(ctx, id, true)
	if errors.Is(err, gkdi.ErrAttribute) || errors.Is(err, gkdi.ErrUnsupported) {
		return err, nil
	}
	if err != nil {
		return nil, err
	}
	if k.Key == nil {
		return nil, fmt.Errorf("root key %v: %w", id, ErrSecretWithheld)
	}
	defer k.Key.Key.Destroy()
	return derives(k.Key.RootKey, s.d.kerberos.Now()), nil
}

// TestNewRootKey makes a root key in memory and derives a group key.
func (s *Session) TestNewRootKey() error {
	now := dtyp.FiletimeOf(s.d.kerberos.Now())
	key, err := gkdi.NewRootKey(s.d.cfg.Rand, now, now)
	if err != nil {
		return err
	}
	defer key.Key.Destroy()
	return derives(key, now.Time())
}

// derives reports whether a group key can be derived from the root key.
func derives(key gkdi.RootKey, at time.Time) error {
	seed, err := gkdi.DeriveSeed(key, gkdi.GMSATargetSD(), gkdi.KeyIDAt(dtyp.FiletimeOf(at)))
	if err == nil {
		seed.Destroy()
	}
	return err
}
