package ad

import (
	"context"
	"slices"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Attributes are an entry's attributes as they came, by their names in the
// directory's spelling.
type Attributes struct {
	Object
	Order  []string // names, as the directory listed them
	Values map[string][][]byte
}

// Query is a search for objects.
type Query struct {
	Filter adproto.Filter
	Base   string // empty means the domain
	Scope  ldapc.Scope
	// Attrs are the attributes wanted; empty means all that are not constructed.
	Attrs []string
	// Limit is how many the caller can use; 0 means all.
	Limit int
}

// Objects searches for any objects.
func (s *Session) Objects(ctx context.Context, q Query) ([]Attributes, error) {
	var list []Attributes
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		attributes := q.Attrs
		if len(attributes) > 0 {
			attributes = append(slices.Clone(attributes), objectAttrs...)
		}
		entries, err := d.Search(ctx, ldapc.Search{Base: orElse(q.Base, d.names.Base.String()), Scope: q.Scope, Filter: q.Filter, Attrs: attributes, Limit: q.Limit})
		if err != nil {
			return err
		}
		for _, e := range entries {
			a, err := attributesOf(e)
			if err != nil {
				return err
			}
			list = append(list, a)
		}
		return nil
	})
	return list, err
}

// Object reads any object by anything that names it.
func (s *Session) Object(ctx context.Context, name string, attributes ...string) (Attributes, error) {
	var a Attributes
	err := s.at(ctx, locate.Any, func(ctx context.Context, d *desk) error {
		e, err := d.entry(ctx, name, append(slices.Clone(attributes), objectAttrs...))
		if err != nil {
			return err
		}
		a, err = attributesOf(e)
		return err
	})
	return a, err
}

func attributesOf(e *ldap.Entry) (Attributes, error) {
	o, err := parseObject(e)
	a := Attributes{Object: o, Values: map[string][][]byte{}}
	for _, attr := range e.Attributes {
		a.Order = append(a.Order, attr.Name)
		a.Values[attr.Name] = attr.ByteValues
	}
	return a, err
}

// SetObject changes any object in one request.
func (s *Session) SetObject(ctx context.Context, name string, changes ...Change) (Object, error) {
	var o Object
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) (err error) {
		if o, err = d.here(ctx, name); err != nil {
			return err
		}
		for _, c := range changes {
			if c.Attr == spnAttr && c.Op != RemoveValues {
				if err := d.checkSPNs(ctx, o.DN, c.Values); err != nil {
					return err
				}
			}
		}
		return d.modify(ctx, o.DN, changes)
	})
	return o, err
}
