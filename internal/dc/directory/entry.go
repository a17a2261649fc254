package directory

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

// maxValues is how many values of one attribute an entry has in an answer: MaxValRange
// of [MS-ADTS] 3.1.1.3.4.6. For more the client must ask, by ranges.
const maxValues = 1500

// entry renders an object as the search asked for it.
func (s *search) entry(o *object) (SearchEntry, error) {
	s.extended = s.q.ExtendedDN
	defer func() { s.extended = PlainDN }()
	dn, err := s.shownName(o)
	if err != nil {
		return SearchEntry{}, err
	}
	e := SearchEntry{DN: dn, Attributes: make([]Attribute, 0, len(s.want.list))}
	v := s.look(o)
	add := func(w wanted) error {
		a, ok, err := s.attribute(v, w)
		if err != nil {
			return err
		}
		if ok {
			if s.q.TypesOnly {
				a.Values = nil
			}
			e.Attributes = append(e.Attributes, a)
		}
		return nil
	}
	for _, w := range s.want.list {
		if err := add(w); err != nil {
			return e, err
		}
	}
	if !s.want.user && !s.want.operational {
		return e, nil
	}
	all, err := s.unnamed(o)
	if err != nil {
		return e, err
	}
	for _, a := range all {
		if s.want.names(a) {
			continue
		}
		if err := add(wanted{Attribute: a, name: a.Name}); err != nil {
			return e, err
		}
	}
	return e, nil
}

// unnamed are the attributes of an object that are given without being named: by "*"
// all but those that are secret, confidential or computed, and the descriptor only for
// whoever says which parts ([MS-ADTS] 3.1.1.3.4.1.11); by "+" those that are computed
// at little cost.
func (s *search) unnamed(o *object) (all []*schema.Attribute, err error) {
	if s.want.operational {
		all = append(all, s.operational...)
	}
	if !s.want.user {
		return all, nil
	}
	k := &s.known
	all = append(all, k.objectClass, o.RDN, k.distinguishedName, k.name, k.objectGUID,
		k.whenCreated, k.whenChanged, k.usnCreated, k.usnChanged)
	if !o.virtual {
		if all, err = s.linked(all, o); err != nil {
			return nil, err
		}
	}
	if o.is(s.Directory, classGMSA) {
		all = append(all, k.managedPasswordID, k.managedPasswordPreviousID)
	}
	for _, a := range o.stored {
		hidden := a.Secret() || a.Confidential() || a.Constructed() || a == k.securityDescriptor && !s.q.HasSDFlags
		if !hidden && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	return all, nil
}

// linked appends the link attributes of which an object has values.
func (s *session) linked(all []*schema.Attribute, o *object) ([]*schema.Attribute, error) {
	ids, err := s.table.LinkIDs(s.r, o.GUID)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if a, ok := s.cfg.Schema.ByLinkID(id); ok {
			all = append(all, a)
		}
	}
	return all, nil
}

// attribute is one attribute of the object in view, if it has it and the caller may
// read it.
func (s *search) attribute(v *view, w wanted) (a Attribute, ok bool, err error) {
	a.Name = w.name
	switch {
	case w.Attribute == s.known.managedPassword:
		a.Values, err = s.managedPassword(v)
		return a, len(a.Values) > 0, err
	case w.Attribute == s.known.rootKeyData:
		a.Values, err = s.rootKeyData(v)
		return a, len(a.Values) > 0, err
	case w.Secret() || !v.readable(w.Attribute):
		return a, false, nil
	case w.Attribute == s.known.securityDescriptor:
		a.Values, err = s.descriptor(v)
		return a, len(a.Values) > 0, err
	}
	var more bool
	if w.LinkID >= 0 && !v.o.virtual && !w.Constructed() {
		a.Values, more, err = s.links(v.o, w.Attribute, w.low, w.count())
	} else {
		a.Values, err = s.plain(v, w.Attribute)
		a.Values, more = w.cut(a.Values)
	}
	if w.ranged || more {
		a.Name += rangeOption(w.low, len(a.Values), more)
	}
	return a, len(a.Values) > 0, err
}

// plain are the values of an attribute that is no link, the names among them in the
// form that the caller wants.
func (s *search) plain(v *view, a *schema.Attribute) ([][]byte, error) {
	var values [][]byte
	var err error
	if a.Constructed() {
		values, err = s.constructed(v, a)
	} else {
		values, err = s.values(v.o, a)
	}
	if err != nil || s.extended == PlainDN || a.Syntax != schema.DN || a == s.known.distinguishedName {
		return values, err
	}
	shown := make([][]byte, len(values))
	for i, value := range values {
		if shown[i], err = s.extend(value); err != nil {
			return nil, err
		}
	}
	return shown, nil
}

// extend puts GUID and SID before a name; a name of nothing that exists stays as it is.
func (s *search) extend(dn []byte) ([]byte, error) {
	g, err := s.resolve(string(dn))
	if err == nil {
		var o *object
		if o, err = s.object(g); err == nil {
			name, err := s.shownName(o)
			return []byte(name), err
		}
	}
	if errors.Is(err, rows.ErrNotFound) {
		return dn, nil
	}
	return nil, err
}

// count is how many values are given of an attribute.
func (w wanted) count() int {
	if w.ranged && w.high >= 0 {
		return min(maxValues, w.high-w.low+1)
	}
	return maxValues
}

// cut leaves the values that were asked for and may be given; more says that there are
// others behind.
func (w wanted) cut(values [][]byte) (part [][]byte, more bool) {
	if w.low >= len(values) {
		return nil, false
	}
	values = values[w.low:]
	if n := w.count(); n < len(values) {
		return values[:n], true
	}
	return values, false
}

// rangeOption is what says which values an answer has.
func rangeOption(low, count int, more bool) string {
	if more {
		return fmt.Sprintf(";range=%d-%d", low, low+count-1)
	}
	return fmt.Sprintf(";range=%d-*", low)
}

// descriptor is nTSecurityDescriptor with the parts that were asked for and may be
// read. Deviation: AD gives nothing where one part may not be read; here it is left
// out, so that clients that do not know the control see what they may.
func (s *search) descriptor(v *view) ([][]byte, error) {
	raw := v.o.one(s.known.securityDescriptor)
	parts := adproto.SDOwner | adproto.SDGroup | adproto.SDDACL | adproto.SDSACL
	if s.q.HasSDFlags && s.q.SDFlags&parts != 0 { // no bit says all: [MS-ADTS] 3.1.1.3.4.1.11
		parts &= s.q.SDFlags
	}
	if !v.rights.all {
		parts = v.rights.object.Parts(v.rights.token, parts)
	}
	if raw == nil || parts == 0 {
		return nil, nil
	}
	if parts == adproto.SDOwner|adproto.SDGroup|adproto.SDDACL|adproto.SDSACL {
		return one(raw), nil
	}
	b, err := partsOf(*v.o.sd, parts).Append(nil)
	return one(b), err
}

// partsOf is a descriptor without the parts that are not among those.
func partsOf(sd secdesc.SecurityDescriptor, parts int) secdesc.SecurityDescriptor {
	if parts&adproto.SDOwner == 0 {
		sd.Owner = dtyp.SID{}
	}
	if parts&adproto.SDGroup == 0 {
		sd.Group = dtyp.SID{}
	}
	if parts&adproto.SDDACL == 0 {
		sd.DACL = nil
		sd.Control &^= secdesc.DACLPresent | secdesc.DACLDefaulted | secdesc.DACLAutoInherited | secdesc.DACLProtected
	}
	if parts&adproto.SDSACL == 0 {
		sd.SACL = nil
		sd.Control &^= secdesc.SACLPresent | secdesc.SACLDefaulted | secdesc.SACLAutoInherited | secdesc.SACLProtected
	}
	return sd
}
