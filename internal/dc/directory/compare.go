package directory

import (
	"context"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/filter"
)

// Compare reports whether an object has a value (RFC 4511, Section 4.10). It fails with
// NoSuchAttribute where the object has no such attribute, and in the same words where
// the caller may not read it, or nobody may: nothing is told of what is there.
func (d *Directory) Compare(ctx context.Context, c Caller, dn, attribute string, value []byte) (equal bool, err error) {
	if c.Anonymous() {
		return false, Errorf(OperationsError, Win32Operations, "Operation unavailable without authentication")
	}
	f, err := d.plain(ctx, adproto.EqualBytes(attribute, value))
	if err != nil {
		return false, searchError(ctx, err)
	}
	s := d.session(c)
	fc := filter.Context{Schema: d.cfg.Schema, SchemaDN: d.schemaDN}
	assertion := filter.Compile(fc, f)
	present := filter.Compile(fc, adproto.Present(attribute))
	err = d.View(ctx, func(r *Reader) error {
		s.begin(r)
		o, err := s.find(dn)
		if err != nil {
			return err
		}
		if !present.Match(s.look(o)) {
			return Errorf(NoSuchAttribute, Win32NoSuchAttribute, "the object has no attribute %s", attribute)
		}
		truth := assertion.Eval(&s.view)
		if truth == filter.Undefined {
			return Errorf(InvalidAttributeSyntax, Win32InvalidSyntax, "the value cannot be one of %s", attribute)
		}
		equal = truth == filter.True
		return s.err
	})
	if err != nil {
		return false, searchError(ctx, err)
	}
	return equal, nil
}
