package directory

import (
	"context"
	"errors"
	"slices"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// plain is a filter in which names of objects are distinguished names, where clients
// may write <SID=…> and the other forms of [MS-ADTS] 3.1.1.3.1.2.4: samba-tool asks so
// for the members of a group. A form that leads to nothing stays, and matches nothing.
func (d *Directory) plain(ctx context.Context, f adproto.Filter) (adproto.Filter, error) {
	if !d.hasForms(f) {
		return f, nil
	}
	err := d.View(ctx, func(r *Reader) (err error) {
		f, err = d.replaceForms(r, f)
		return err
	})
	return f, err
}

// hasForms reports whether a part of the filter names an object by another form than
// its distinguished name.
func (d *Directory) hasForms(f adproto.Filter) bool {
	return slices.ContainsFunc(f.Children, d.hasForms) || d.isForm(f)
}

func (d *Directory) isForm(f adproto.Filter) bool {
	if len(f.Value) == 0 || f.Value[0] != '<' {
		return false
	}
	a, ok := d.cfg.Schema.Attribute(f.Attr)
	return ok && a.Syntax.IsDN()
}

func (d *Directory) replaceForms(r *Reader, f adproto.Filter) (_ adproto.Filter, err error) {
	f.Children = slices.Clone(f.Children)
	for i := range f.Children {
		if f.Children[i], err = d.replaceForms(r, f.Children[i]); err != nil {
			return f, err
		}
	}
	if !d.isForm(f) {
		return f, nil
	}
	dn, err := r.distinguishedName(string(f.Value))
	if _, malformed := errors.AsType[*Error](err); malformed || errors.Is(err, rows.ErrNotFound) {
		return f, nil
	}
	f.Value = []byte(dn.String())
	return f, err
}

// distinguishedName is that of the object which has the name.
func (r *Reader) distinguishedName(name string) (adproto.DN, error) {
	g, err := r.ResolveTarget(name)
	if err != nil {
		return nil, err
	}
	e, err := r.Get(g)
	if err != nil {
		return nil, err
	}
	return r.DN(e)
}
