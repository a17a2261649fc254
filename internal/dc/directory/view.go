package directory

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/filter"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// maxChain bounds how many objects a matching rule in a filter may pass through.
const maxChain = 100_000

// view is an object as the caller of a session sees it.
type view struct {
	*session
	o      *object
	rights *rights
}

var _ filter.Entry = (*view)(nil)

// readable reports whether the caller may read the attribute here.
func (v *view) readable(a *schema.Attribute) bool {
	return (!v.globalCatalog || v.inGlobalCatalog(a)) && v.rights.readable(a)
}

// inGlobalCatalog reports whether the global catalog has the attribute: those that the
// schema says, back links where their forward links are in it, and what is computed.
func (d *Directory) inGlobalCatalog(a *schema.Attribute) bool {
	if a.BackLink() {
		forward, ok := d.cfg.Schema.Linked(a)
		return ok && forward.InGC
	}
	return a.InGC || a.Constructed() && !a.Secret()
}

// Values implements filter.Entry. A descriptor has parts with rights of their own, so
// that nobody may look for bytes in it.
func (v *view) Values(a *schema.Attribute) (values [][]byte, readable bool) {
	if a == v.known.securityDescriptor || !v.readable(a) {
		return nil, false
	}
	values, err := v.values(v.o, a)
	if err == nil {
		err = v.spend(size(values) / valueWork)
	}
	if err != nil {
		v.fail(err)
	}
	return values, true
}

// size is that of values, in bytes.
func size(values [][]byte) (n int) {
	for _, v := range values {
		n += len(v)
	}
	return n
}

// Present implements filter.Entry.
func (v *view) Present(a *schema.Attribute) (found, readable bool) {
	if !v.readable(a) {
		return false, false
	}
	switch {
	case a.LinkID >= 0 && !v.o.virtual:
		for _, err := range v.Links(a, v.o.GUID) {
			if err != nil {
				v.fail(err)
			}
			return err == nil, true
		}
		return false, true
	case a == v.known.securityDescriptor:
		return len(v.o.Values[a]) > 0, true
	}
	values, err := v.values(v.o, a)
	if err != nil {
		v.fail(err)
	}
	return len(values) > 0, true
}

// Linked implements filter.Entry.
func (v *view) Linked(a *schema.Attribute, target adproto.DN) (found, readable bool) {
	if !v.readable(a) {
		return false, false
	}
	g, ok := v.target(target)
	if !ok {
		return false, true
	}
	found, err := v.table.Linked(v.r, a, v.o.GUID, g)
	if err != nil {
		v.fail(err)
	}
	return found, true
}

// chain is the objects from which the links of an attribute lead to a target.
type chain struct {
	a       *schema.Attribute
	target  dtyp.GUID
	members map[dtyp.GUID]bool // nil where another state of the directory had others
}

// InChain implements filter.Entry. The chain is followed from the target, once for all
// objects that are asked about, and through no object whose links the caller may not
// read: it would tell of them.
func (v *view) InChain(a *schema.Attribute, target adproto.DN) (found, readable bool) {
	if !v.readable(a) {
		return false, false
	}
	g, ok := v.target(target)
	if !ok || a.LinkID < 0 {
		return false, true
	}
	members, err := v.chain(a, g)
	if err != nil {
		v.fail(err)
	}
	return members[v.o.GUID], true
}

func (s *session) chain(a *schema.Attribute, target dtyp.GUID) (map[dtyp.GUID]bool, error) {
	i := slices.IndexFunc(s.chains, func(c chain) bool { return c.a == a && c.target == target })
	if i >= 0 && s.chains[i].members != nil {
		return s.chains[i].members, nil
	}
	price := linkWork
	if i >= 0 {
		price = 0 // it was paid for, and is followed anew because somebody else changed something
	}
	members, err := s.follow(a, target, price)
	if err != nil {
		return nil, err
	}
	if i < 0 {
		i, s.chains = len(s.chains), append(s.chains, chain{a: a, target: target})
	}
	s.chains[i].members = members
	return members, nil
}

// follow finds the objects from which links lead to a target; price is what a step costs.
func (s *session) follow(a *schema.Attribute, target dtyp.GUID, price int) (map[dtyp.GUID]bool, error) {
	members := map[dtyp.GUID]bool{}
	for next := []dtyp.GUID{target}; len(next) > 0; {
		at := next[0]
		next = next[1:]
		for l, err := range s.table.LinkingAfter(s.r, a, at, dtyp.GUID{}) {
			if err == nil {
				err = s.spend(price)
			}
			if err != nil {
				return nil, err
			}
			from := near(a, l)
			if members[from] {
				continue
			}
			o, err := s.object(from)
			if err != nil {
				return nil, err
			}
			if !s.rights(o).readable(a) {
				continue
			}
			if len(members) == maxChain {
				return nil, fmt.Errorf("%s to %s: %w: more than %d objects", a.Name, target, rows.ErrTooWide, maxChain)
			}
			members[from] = true
			next = append(next, from)
		}
	}
	return members, nil
}

// near is the end of a link of a at which a has the value, far the end that is the
// value.
func near(a *schema.Attribute, l rows.Link) dtyp.GUID {
	if a.BackLink() {
		return l.Target
	}
	return l.Source
}

func far(a *schema.Attribute, l rows.Link) dtyp.GUID {
	if a.BackLink() {
		return l.Source
	}
	return l.Target
}

// values are those of an attribute that is neither constructed nor secret, without
// access control. They belong to the directory and are only read.
func (s *session) values(o *object, a *schema.Attribute) ([][]byte, error) {
	k := &s.known
	switch a {
	case o.RDN, k.name:
		return one([]byte(o.Name)), nil
	case k.objectGUID:
		return one(o.GUID[:]), nil
	case k.distinguishedName:
		dn, err := s.shownName(o)
		return one([]byte(dn)), err
	case k.whenCreated:
		return one(generalizedTime(o.WhenCreated)), nil
	case k.whenChanged:
		return one(generalizedTime(o.WhenChanged)), nil
	case k.usnCreated:
		return one(strconv.AppendUint(nil, o.USNCreated, 10)), nil
	case k.usnChanged:
		return one(strconv.AppendUint(nil, o.USNChanged, 10)), nil
	case k.managedPasswordID, k.managedPasswordPreviousID:
		return s.passwordID(o, a)
	case k.lastLogon, k.logonCount, k.badPasswordTime, k.badPwdCount:
		return s.counter(o, a)
	case k.pwdLastSet:
		return s.passwordSet(o)
	}
	if a.LinkID >= 0 && !o.virtual {
		values, _, err := s.links(o, a, 0, -1)
		return values, err
	}
	if rows.Refers(a) {
		return s.named(a, o.Values[a])
	}
	return o.Values[a], nil
}

// named are stored values with the names that the objects have now.
func (s *session) named(a *schema.Attribute, stored [][]byte) ([][]byte, error) {
	if !slices.ContainsFunc(stored, func(v []byte) bool { _, _, ok := rows.ParseReference(v); return ok }) {
		return stored, nil
	}
	values := make([][]byte, len(stored))
	for i, v := range stored {
		g, value, ok := rows.ParseReference(v)
		values[i] = value
		if !ok {
			continue
		}
		o, err := s.object(g)
		if errors.Is(err, rows.ErrNotFound) {
			continue // it keeps the name that it had
		}
		if err != nil {
			return nil, err
		}
		data, _, err := nameIn(a, value)
		if err != nil {
			return nil, err
		}
		dn, err := s.name(o)
		if err != nil {
			return nil, err
		}
		values[i] = nameValue(a, data, dn)
	}
	return values, nil
}

func one(v []byte) [][]byte { return [][]byte{v} }

func generalizedTime(t dtyp.Filetime) []byte { return []byte(schema.FormatTime(t.Time())) }

// links are the values of a link attribute from the one numbered low, at most limit of
// them, or all where it is negative; more says that there are others behind.
func (s *session) links(o *object, a *schema.Attribute, low, limit int) (values [][]byte, more bool, err error) {
	n := 0
	for l, err := range s.Links(a, o.GUID) {
		if err != nil {
			return nil, false, err
		}
		if n++; n <= low {
			continue
		}
		if limit >= 0 && len(values) == limit {
			return values, true, nil
		}
		target, err := s.object(far(a, l))
		if err != nil {
			return nil, false, err
		}
		dn, err := s.shownName(target)
		if err != nil {
			return nil, false, err
		}
		values = append(values, nameValue(a, l.Data, dn))
	}
	return values, false, nil
}
