package directory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

// creator is who owns what the caller makes at dn, and its group: the administrators
// for those who belong to them ([MS-ADTS] 6.1.3.4), else the caller.
func (c *change) creator(dn adproto.DN) (owner, group dtyp.SID) {
	admins := c.domain.SID.Child(dtyp.RIDDomainAdmins)
	enterprise := c.domain.SID.Child(dtyp.RIDEnterpriseAdmins)
	switch {
	case dn.Within(c.domain.ConfigurationDN()) && c.caller.has(enterprise):
		return enterprise, enterprise
	case c.caller.Controller || c.caller.has(admins):
		return admins, admins
	}
	return c.caller.SID, c.domain.SID.Child(dtyp.RIDDomainUsers)
}

// mayOwn reports whether the caller may make sid the owner of an object.
func (c *change) mayOwn(sid dtyp.SID) error {
	d := c.domain.SID
	ok := access.MayOwn(c.caller.Token, sid, c.caller.SID, dtyp.BuiltinAdministrators,
		d.Child(dtyp.RIDDomainAdmins), d.Child(dtyp.RIDEnterpriseAdmins))
	return c.require(ok, "the owner of an object is who sets it, or a group of administrators that they are in")
}

// heritage is the descriptor that an object inherits from: nil for the head of a
// naming context.
func (r *Reader) heritage(e *rows.Entry) (*secdesc.SecurityDescriptor, error) {
	instance, _ := r.number(e, "instanceType")
	if e.Parent.IsZero() || instance&instanceTypeHead != 0 {
		return nil, nil
	}
	parent, err := r.Get(e.Parent)
	if err != nil {
		return nil, err
	}
	return r.descriptor(parent), nil
}

// allParts are the parts of a descriptor, adproto.SDOwner and its like.
const allParts = adproto.SDOwner | adproto.SDGroup | adproto.SDDACL | adproto.SDSACL

// writtenParts are the parts of a given descriptor that a request means: all that it
// has, or those of its LDAP_SERVER_SD_FLAGS control ([MS-ADTS] 3.1.1.3.4.1.11).
func writtenParts(given secdesc.SecurityDescriptor, flags int, has bool) int {
	if has && flags&allParts != 0 {
		return flags & allParts
	}
	parts := 0
	for part, there := range map[int]bool{
		adproto.SDOwner: !given.Owner.IsZero(), adproto.SDGroup: !given.Group.IsZero(),
		adproto.SDDACL: given.DACL != nil, adproto.SDSACL: given.SACL != nil,
	} {
		if there {
			parts |= part
		}
	}
	return parts
}

// writeDescriptor changes parts of the object's descriptor to those of a given one:
// its explicit entries, beside which the object inherits what it did ([MS-ADTS]
// 3.1.1.5.3.3, 6.1.3). What stays the same is not written and takes no right.
func (m *modification) writeDescriptor(value []byte) error {
	given, err := secdesc.Parse(value)
	if err != nil {
		return fmt.Errorf("nTSecurityDescriptor: %w: %w", schema.ErrSyntax, err)
	}
	parts := writtenParts(given, m.request.SDFlags, m.request.HasSDFlags)
	if parts&adproto.SDDACL != 0 && given.DACL == nil {
		return constraint("a descriptor without a list grants everything to everybody")
	}
	if parts&adproto.SDOwner != 0 && given.Owner.IsZero() || parts&adproto.SDGroup != 0 && given.Group.IsZero() {
		return constraint("a descriptor needs an owner and a group")
	}
	is := m.descriptor(m.e)
	parent, err := m.heritage(m.e)
	if err != nil {
		return err
	}
	changed := merge(*is, given, parts)
	next := access.Create(access.NewObject{Parent: parent, Class: m.object.Class, Given: &changed, Owner: is.Owner, Group: is.Group})
	// Whoever can neither read nor write a part would learn by trying whether it is so.
	known := m.object.Parts(m.caller.Token, parts) | m.object.WritableParts(m.caller.Token, parts)
	if err := m.require(known == parts, "the descriptor of the object"); err != nil {
		return err
	}
	return m.replaceDescriptor(*is, next)
}

// takeDescriptor is the delete of a descriptor by its value, for the add that follows in
// the same request: of two clients that edit what they read, the second is told so. The
// value is what a search with the same parts gives, and only who can read it may compare.
//
// Deviation: neither the clause of [MS-ADTS] for nTSecurityDescriptor (3.1.1.5.3.3) nor
// Samba has it; there an edit overwrites what others wrote since it was read.
func (m *modification) takeDescriptor(value []byte) error {
	parts := allParts
	if m.request.HasSDFlags && m.request.SDFlags&allParts != 0 {
		parts &= m.request.SDFlags
	}
	readable := m.caller.Controller || m.object.Parts(m.caller.Token, parts) == parts
	if err := m.require(readable, "the right to read the descriptor of the object"); err != nil {
		return err
	}
	is := m.value(m.e, "nTSecurityDescriptor")
	if parts != allParts {
		var err error
		if is, err = partsOf(*m.descriptor(m.e), parts).Append(nil); err != nil {
			return err
		}
	}
	if !bytes.Equal(is, value) {
		return Errorf(NoSuchAttribute, Win32NoSuchAttribute, "the descriptor is another by now")
	}
	m.descriptorTaken = true
	return nil
}

// merge is a descriptor with the parts of another.
func merge(is, given secdesc.SecurityDescriptor, parts int) secdesc.SecurityDescriptor {
	protect := secdesc.Control(0)
	if parts&adproto.SDOwner != 0 {
		is.Owner = given.Owner
	}
	if parts&adproto.SDGroup != 0 {
		is.Group = given.Group
	}
	if parts&adproto.SDDACL != 0 {
		is.DACL, protect = given.DACL, protect|secdesc.DACLProtected
	}
	if parts&adproto.SDSACL != 0 {
		is.SACL, protect = given.SACL, protect|secdesc.SACLProtected
	}
	is.Control = is.Control&^protect | given.Control&protect
	return is
}

// replaceDescriptor writes next in the place of is if the caller may.
func (m *modification) replaceDescriptor(is, next secdesc.SecurityDescriptor) error {
	parts := 0
	if is.Owner != next.Owner {
		parts |= adproto.SDOwner
		if err := m.mayOwn(next.Owner); err != nil {
			return err
		}
	}
	if is.Group != next.Group {
		parts |= adproto.SDGroup
	}
	if !sameList(is.DACL, next.DACL) || (is.Control^next.Control)&secdesc.DACLProtected != 0 {
		parts |= adproto.SDDACL
	}
	if !sameList(is.SACL, next.SACL) || (is.Control^next.Control)&secdesc.SACLProtected != 0 {
		parts |= adproto.SDSACL
	}
	if parts == 0 {
		return nil
	}
	may := m.object.WritableParts(m.caller.Token, parts)
	if err := m.require(may == parts, "the descriptor of the object"); err != nil {
		return err
	}
	if parts&(adproto.SDOwner|adproto.SDDACL) != 0 {
		m.noteReaders()
	}
	b, err := next.Append(nil)
	if err != nil {
		return &Error{Code: ConstraintViolation, Win32: Win32Constraint, Message: "the descriptor is too large", Err: err}
	}
	m.set(m.e, "nTSecurityDescriptor", b)
	return m.inheritLater(m.e.GUID)
}

func sameList(a, b *secdesc.ACL) bool {
	if a == nil || b == nil {
		return a == b
	}
	return slices.EqualFunc(a.ACEs, b.ACEs, secdesc.ACE.Equal)
}

// metaInherit is the name of the row with the objects whose descriptor changed and
// below which not everything has inherited that yet: their GUIDs, one after the other.
const metaInherit = "inherit"

// heirsPerUpdate is how many descriptors one transaction rewrites: one row each, and
// 16 KiB of a descriptor for each fit into its megabyte.
const heirsPerUpdate = 48

// inheritLater notes that what lies below an object is to inherit its descriptor
// anew: see [Directory.Inherit].
func (w *Writer) inheritLater(g dtyp.GUID) error {
	below, err := first(w.Children(g))
	if err != nil || below.IsZero() {
		return err
	}
	w.heirs = true
	pending, err := w.pending()
	if err != nil || slices.Contains(pending, g) {
		return err
	}
	return rows.SetMeta(w.tx, metaInherit, appendGUIDs(nil, append(pending, g)))
}

func appendGUIDs(dst []byte, guids []dtyp.GUID) []byte {
	for _, g := range guids {
		dst = g.Append(dst)
	}
	return dst
}

// pending are the objects of the row metaInherit.
func (r *Reader) pending() (guids []dtyp.GUID, err error) {
	b, err := rows.Meta(r.r, metaInherit)
	if errors.Is(err, rows.ErrNotFound) {
		return nil, nil
	}
	for part := range slices.Chunk(b, dtyp.GUIDSize) {
		g, err := dtyp.GUIDFromBytes(part)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", rows.ErrCorrupt, metaInherit, err)
		}
		guids = append(guids, g)
	}
	return guids, err
}

// Inherit lets what lies below objects whose descriptors changed inherit from them,
// in as many transactions as it takes, from the top down: whoever is made meanwhile
// below an object that is done inherits from it as it is now. What is to be done is
// noted by the transaction that changed the descriptor, so that a crash loses nothing;
// [Open] goes on with it.
//
// A gMSA that inherits other entries than before has other readers, perhaps: the audit is
// told of each.
func (d *Directory) Inherit(ctx context.Context) error {
	return d.inheritFor(ctx, Caller{Controller: true})
}

func (d *Directory) inheritFor(ctx context.Context, c Caller) error {
	var pending []dtyp.GUID
	err := d.View(ctx, func(r *Reader) (err error) { pending, err = r.pending(); return err })
	for _, g := range pending {
		if err == nil {
			err = d.inheritBelow(ctx, c, g)
		}
		if err == nil {
			err = d.Update(ctx, func(w *Writer) error { return w.inherited(g) })
		}
	}
	if err != nil {
		return fmt.Errorf("inherit descriptors: %w", err)
	}
	return nil
}

// inheritNow does what a change of a descriptor has put off, for the client that made
// the change and waits for it.
func (d *Directory) inheritNow(ctx context.Context, c Caller) error {
	if err := d.inheritFor(ctx, c); err != nil {
		return AsError(err)
	}
	return nil
}

// inherited takes an object from the row metaInherit.
func (w *Writer) inherited(g dtyp.GUID) error {
	pending, err := w.pending()
	if err != nil {
		return err
	}
	rest := slices.DeleteFunc(pending, func(p dtyp.GUID) bool { return p == g })
	return rows.SetMeta(w.tx, metaInherit, appendGUIDs(nil, rest))
}

func (d *Directory) inheritBelow(ctx context.Context, c Caller, top dtyp.GUID) error {
	for next := []dtyp.GUID{top}; len(next) > 0; {
		at := next[0]
		next = next[1:]
		var children []dtyp.GUID
		err := d.View(ctx, func(r *Reader) (err error) { children, err = collect(r.Children(at)); return err })
		if err != nil {
			return err
		}
		for batch := range slices.Chunk(children, heirsPerUpdate) {
			var changed []audit.Event
			err := d.Update(ctx, func(w *Writer) (err error) { changed, err = w.reinherit(batch); return err })
			if err != nil {
				return err
			}
			for _, e := range changed {
				d.record(c, &change{event: e}, nil)
			}
		}
		next = append(next, children...)
	}
	return nil
}

// collect is all that a sequence of objects yields.
func collect(seq iter.Seq2[dtyp.GUID, error]) (guids []dtyp.GUID, err error) {
	for g, err := range seq {
		if err != nil {
			return nil, err
		}
		guids = append(guids, g)
	}
	return guids, nil
}

// reinherit computes what objects inherit from where they are now, and gives the events of
// gMSAs whose descriptor is another one.
func (w *Writer) reinherit(heirs []dtyp.GUID) (changed []audit.Event, err error) {
	for _, g := range heirs {
		e, err := w.Get(g)
		if errors.Is(err, rows.ErrNotFound) || err == nil && rows.Deleted(e) {
			continue // it went meanwhile
		}
		if err != nil {
			return nil, err
		}
		class, err := w.classes(e)
		if err != nil {
			return nil, err
		}
		other, err := w.inherit(e, class.Structural().GUID)
		if err != nil {
			return nil, err
		}
		if !other || !class.Has(classGMSA) {
			continue
		}
		dn, err := w.DN(e)
		if err != nil {
			return nil, err
		}
		changed = append(changed, audit.Event{Kind: audit.KindReaders, Object: dn.String(), GUID: g, Attributes: []string{"nTSecurityDescriptor"}})
	}
	return changed, nil
}

// inherit writes the descriptor that an object of the class has now, and reports whether
// it had another.
func (w *Writer) inherit(e *rows.Entry, class dtyp.GUID) (other bool, err error) {
	parent, err := w.heritage(e)
	if err != nil {
		return false, err
	}
	b, err := access.Reinherit(*w.descriptor(e), parent, class).Append(nil)
	if err != nil || bytes.Equal(b, w.value(e, "nTSecurityDescriptor")) {
		return false, err
	}
	changed := e.Clone()
	w.set(changed, "nTSecurityDescriptor", b)
	return true, w.Replace(changed)
}
