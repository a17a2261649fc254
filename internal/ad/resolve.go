package ad

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Object is an object of the directory by its names.
type Object struct {
	DN   string
	Kind Kind
	Name string // sAMAccountName; empty for what is no account
	SID  dtyp.SID
	GUID dtyp.GUID
}

// objectAttrs are the attributes of an Object.
var objectAttrs = []string{"objectClass", "sAMAccountName", "objectSid", "objectGUID"}

func parseObject(e *ldap.Entry) (Object, error) {
	r := attrs{e: e}
	o := Object{DN: e.DN, Kind: kindOf(r.strings("objectClass")), Name: r.string("sAMAccountName"), SID: r.sid("objectSid"), GUID: r.guid("objectGUID")}
	if r.err != nil {
		return Object{}, fmt.Errorf("%s: %w", e.DN, r.err)
	}
	return o, nil
}

// kindFilter selects the objects of a kind by their class: a computer is a user
// to the schema, and a gMSA a computer, which the caller's [kindOf] sorts out.
func kindFilter(k Kind) adproto.Filter {
	for _, c := range kindClasses {
		if c.kind == k {
			return adproto.Equal("objectClass", c.class)
		}
	}
	return adproto.Present("objectClass")
}

// Lookup finds one object by anything that names it: NAME with or without $,
// DOMAIN\NAME, a UPN, a SID, a GUID or a distinguished name. All but a bare NAME may be
// those of an object of another domain of the forest.
func (s *Session) Lookup(ctx context.Context, text string) (Object, error) {
	var o Object
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) (err error) {
		o, err = d.lookup(ctx, text)
		return err
	})
	return o, err
}

// lookup is Lookup; kinds narrow it down where a name would be ambiguous.
func (d *desk) lookup(ctx context.Context, text string, kinds ...Kind) (Object, error) {
	o, err := d.here(ctx, text, kinds...)
	if errors.Is(err, ErrNotFound) || isReferral(err) {
		return d.abroad(ctx, text, kinds, err)
	}
	return o, err
}

// here is lookup for an object of this domain.
func (d *desk) here(ctx context.Context, text string, kinds ...Kind) (Object, error) {
	e, err := d.entry(ctx, text, objectAttrs, kinds...)
	if err != nil {
		return Object{}, err
	}
	return parseObject(e)
}

// lookupAll finds each of the objects, or says which are unknown, all at once.
func (d *desk) lookupAll(ctx context.Context, names []string, kinds ...Kind) ([]Object, error) {
	var found []Object
	var errs []error
	for _, name := range names {
		o, err := d.lookup(ctx, name, kinds...)
		if err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrAmbiguous) && !errors.Is(err, adproto.ErrAccountName) {
			return nil, err
		}
		if err != nil {
			errs = append(errs, err)
		}
		found = append(found, o)
	}
	return found, errors.Join(errs...)
}

// entry reads the one entry that text names.
func (d *desk) entry(ctx context.Context, text string, attributes []string, kinds ...Kind) (*ldap.Entry, error) {
	if f, ok := idFilter(text); ok {
		return d.one(ctx, text, f, attributes, nil, kinds)
	}
	name, err := adproto.ParseAccountName(text)
	if err != nil {
		return nil, err
	}
	if name.Form == adproto.FormDN {
		return findEntry(ctx, d.Conn, d.names.Base, name, adproto.Filter{}, attributes)
	}
	if name.Form == adproto.FormNetBIOS && !strings.EqualFold(name.Domain, d.s.d.Name()) && !strings.EqualFold(name.Domain, d.controller.NetBIOSDomain) {
		return nil, fmt.Errorf("%s: %w: the domain here is %s (%s)", text, ErrNotFound, d.s.d.Name(), d.controller.NetBIOSDomain)
	}
	f := name.Filter(d.s.d.Name())
	if strings.HasSuffix(name.Name, "$") && name.Form != adproto.FormUPN {
		// Guides write groups with a $ too: it is taken off where nothing has it.
		f = adproto.Or(f, adproto.Equal("sAMAccountName", name.Bare()))
	}
	return d.one(ctx, text, f, attributes, []string{name.Name, name.SAM(), name.Bare()}, kinds)
}

// idFilter recognises a SID or a GUID.
func idFilter(text string) (adproto.Filter, bool) {
	if sid, err := dtyp.ParseSID(text); err == nil {
		return adproto.EqualBytes("objectSid", sid.Bytes()), true
	}
	if g, err := dtyp.ParseGUID(text); err == nil {
		return adproto.EqualBytes("objectGUID", g[:]), true
	}
	return adproto.Filter{}, false
}

// one searches for one entry of the kinds. Of several, the one whose
// sAMAccountName comes first in prefer is meant.
func (d *desk) one(ctx context.Context, text string, f adproto.Filter, attributes, prefer []string, kinds []Kind) (*ldap.Entry, error) {
	need := []string{"objectClass", "sAMAccountName"}
	for _, a := range need {
		if !slices.Contains(attributes, a) && !slices.Contains(attributes, "*") {
			attributes = append(slices.Clone(attributes), a)
		}
	}
	entries, err := d.Search(ctx, ldapc.Search{Base: d.names.Base.String(), Scope: ldapc.Subtree, Filter: f, Attrs: attributes, Limit: 20})
	if err != nil {
		return nil, err
	}
	return choose(text, d.s.d.Name(), entries, prefer, kinds)
}

// choose is the one of the entries that is meant, of those that are of the kinds.
func choose(text, where string, entries []*ldap.Entry, prefer []string, kinds []Kind) (*ldap.Entry, error) {
	if len(kinds) > 0 {
		entries = slices.DeleteFunc(entries, func(e *ldap.Entry) bool {
			return !slices.Contains(kinds, kindOf(e.GetEqualFoldAttributeValues("objectClass")))
		})
	}
	rank := func(e *ldap.Entry) int {
		name := e.GetEqualFoldAttributeValue("sAMAccountName")
		i := slices.IndexFunc(prefer, func(p string) bool { return strings.EqualFold(p, name) })
		if i < 0 {
			return len(prefer)
		}
		return i
	}
	slices.SortStableFunc(entries, func(a, b *ldap.Entry) int { return cmp.Compare(rank(a), rank(b)) })
	switch {
	case len(entries) == 0:
		return nil, fmt.Errorf("%s: %w in %s", text, ErrNotFound, where)
	case len(entries) > 1 && rank(entries[0]) == rank(entries[1]):
		return nil, fmt.Errorf("%s: %w: %q and %q", text, ErrAmbiguous, entries[0].DN, entries[1].DN)
	}
	return entries[0], nil
}

// account reads the account of the kinds that text names.
func (d *desk) account(ctx context.Context, text string, kinds ...Kind) (Account, error) {
	e, err := d.entry(ctx, text, accountAttrs, kinds...)
	if err != nil {
		return Account{}, err
	}
	return parseAccount(e)
}

// Names of well-known containers, [MS-ADTS] 6.1.1.4, and where they lie unless
// somebody moved them.
var (
	computersContainer = container{"AA312825768811D1ADED00C04FD8D5CD", "Computers"}
	usersContainer     = container{"A9D1CA15768811D1ADED00C04FD8D5CD", "Users"}
	serviceContainer   = container{"1EB93889E40C45DF9F0C64D23BBB6237", "Managed Service Accounts"}
)

type container struct{ guid, name string }

// container is the distinguished name of a well-known container, or of path
// where one is given.
func (d *desk) container(ctx context.Context, c container, path string) (adproto.DN, error) {
	if path != "" {
		dn, err := adproto.ParseDN(path)
		if err != nil {
			return nil, err
		}
		if _, err := d.Read(ctx, path, "objectClass"); err != nil {
			return nil, fmt.Errorf("path %s: %w", path, err)
		}
		return dn, nil
	}
	e, err := d.Read(ctx, "<WKGUID="+c.guid+","+d.names.Base.String()+">", "objectClass")
	if err != nil {
		return adproto.NewDN("CN", c.name, d.names.Base), nil //nolint:nilerr // then it is where it always is, or the next step says that it is not
	}
	return adproto.ParseDN(e.DN)
}
