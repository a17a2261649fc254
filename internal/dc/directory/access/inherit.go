package access

import (
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

// NewObject is what the descriptor of an object that is being made follows
// from.
type NewObject struct {
	Parent *secdesc.SecurityDescriptor // nil for the head of the forest
	Class  dtyp.GUID                   // schemaIDGUID of the most specific structural class
	// Given is what the creator passed as nTSecurityDescriptor, nil for nothing;
	// Default is the class's own, which counts without it.
	Given   *secdesc.SecurityDescriptor
	Default secdesc.SecurityDescriptor
	// Owner and Group are the creator's, where Given names none.
	Owner, Group dtyp.SID
}

// Default is the descriptor that a class gives its objects in a domain; empty for a class
// that has none.
func Default(class *schema.Class, domain dtyp.SID) (secdesc.SecurityDescriptor, error) {
	if class.SDDL == "" {
		return secdesc.SecurityDescriptor{}, nil
	}
	sd, err := secdesc.ParseSDDL(class.SDDL, domain, domain)
	if err != nil {
		return sd, fmt.Errorf("default descriptor of %s: %w", class.Name, err)
	}
	return sd, nil
}

// Create computes the descriptor of a new object ([MS-DTYP] 2.5.3.4.1, with the
// flags of [MS-ADTS] 6.1.3): the explicit entries of what the creator gave, or
// of the class's default, then, unless that is protected, what the object
// inherits.
func Create(n NewObject) secdesc.SecurityDescriptor {
	from := n.Default
	if n.Given != nil {
		from = *n.Given
	}
	sd := secdesc.SecurityDescriptor{Owner: n.Owner, Group: n.Group}
	if n.Given != nil && !n.Given.Owner.IsZero() {
		sd.Owner = n.Given.Owner
	}
	if n.Given != nil && !n.Given.Group.IsZero() {
		sd.Group = n.Given.Group
	}
	// A descriptor without a DACL is one that the creator said nothing of: the
	// default's entries count.
	if from.DACL == nil {
		from.DACL = n.Default.DACL
		from.Control &^= secdesc.DACLProtected
	}
	sd.Control = secdesc.SelfRelative | from.Control&(secdesc.DACLProtected|secdesc.SACLProtected)
	sd.DACL, sd.SACL = explicit(from.DACL, sd), explicit(from.SACL, sd)
	return Reinherit(sd, n.Parent, n.Class)
}

// Reinherit computes the descriptor of an object after that of its parent, or
// its own, changed: its explicit entries in their order, then what it inherits
// now. parent is nil for the head of a naming context that inherits nothing. sd
// is not changed.
func Reinherit(sd secdesc.SecurityDescriptor, parent *secdesc.SecurityDescriptor, class dtyp.GUID) secdesc.SecurityDescriptor {
	out := sd
	h := heir{class: class, owner: sd.Owner, group: sd.Group}
	var dacl, sacl *secdesc.ACL
	if parent != nil && sd.Control&secdesc.DACLProtected == 0 {
		dacl = parent.DACL
	}
	if parent != nil && sd.Control&secdesc.SACLProtected == 0 {
		sacl = parent.SACL
	}
	out.DACL, out.SACL = h.join(sd.DACL, dacl), h.join(sd.SACL, sacl)
	if out.DACL == nil {
		out.DACL = &secdesc.ACL{Revision: secdesc.RevisionDS} // nobody, rather than everybody
	}
	out.Control |= secdesc.SelfRelative | secdesc.DACLPresent | secdesc.DACLAutoInherited
	if out.SACL != nil {
		out.Control |= secdesc.SACLPresent | secdesc.SACLAutoInherited
	}
	return out
}

// explicit is the list with its creators named and without what was inherited,
// which says nothing about a new place.
func explicit(l *secdesc.ACL, sd secdesc.SecurityDescriptor) *secdesc.ACL {
	if l == nil {
		return nil
	}
	h := heir{owner: sd.Owner, group: sd.Group}
	out := &secdesc.ACL{Revision: secdesc.RevisionDS}
	for _, a := range l.ACEs {
		if a.Flags&secdesc.Inherited != 0 {
			continue
		}
		out.ACEs = append(out.ACEs, h.split(a)...)
	}
	return out
}

// heir is the object that inherits.
type heir struct {
	class        dtyp.GUID
	owner, group dtyp.SID
}

// join is the explicit entries of own and what is inherited from parent; nil if
// both lists are.
func (h heir) join(own, parent *secdesc.ACL) *secdesc.ACL {
	if own == nil && parent == nil {
		return nil
	}
	out := &secdesc.ACL{Revision: secdesc.RevisionDS}
	if own != nil {
		for _, a := range own.ACEs {
			if a.Flags&secdesc.Inherited == 0 {
				out.ACEs = append(out.ACEs, a)
			}
		}
	}
	if parent != nil {
		for _, a := range parent.ACEs {
			out.ACEs = append(out.ACEs, h.inherit(a)...)
		}
	}
	return out
}

// inherit is what becomes of an entry of the parent ([MS-DTYP] 2.5.3.4.4). All
// objects of the directory are containers, so that CI decides. An entry for
// another class passes through as inherit-only, so that it reaches those below.
func (h heir) inherit(a secdesc.ACE) []secdesc.ACE {
	if a.Flags&secdesc.ContainerInherit == 0 {
		return nil
	}
	mine := a.InheritedObjectType == nil || *a.InheritedObjectType == h.class
	further := a.Flags&secdesc.NoPropagateInherit == 0
	a.Flags |= secdesc.Inherited
	switch {
	case mine && further:
		a.Flags &^= secdesc.InheritOnly
	case mine:
		a.Flags &^= secdesc.InheritOnly | secdesc.ContainerInherit | secdesc.ObjectInherit | secdesc.NoPropagateInherit
	case further:
		a.Flags |= secdesc.InheritOnly
	default:
		return nil
	}
	return h.split(a)
}

// split resolves what an entry leaves open: CREATOR OWNER and CREATOR GROUP
// stand for the object's own, and generic rights for those of the directory. An
// entry that is also inherited further keeps both open for the heirs, in a
// second, inherit-only entry ([MS-DTYP] 2.5.3.4.3 and 2.5.3.4.4).
func (h heir) split(a secdesc.ACE) []secdesc.ACE {
	if a.Flags&secdesc.InheritOnly != 0 {
		return []secdesc.ACE{a}
	}
	effective := a
	effective.Mask = secdesc.MapGeneric(a.Mask)
	switch a.SID {
	case dtyp.CreatorOwner:
		effective.SID = h.owner
	case dtyp.CreatorGroup:
		effective.SID = h.group
	}
	if effective.Equal(a) || a.Flags&secdesc.ContainerInherit == 0 {
		return []secdesc.ACE{effective}
	}
	effective.Flags &^= secdesc.ContainerInherit | secdesc.ObjectInherit | secdesc.NoPropagateInherit
	a.Flags |= secdesc.InheritOnly
	return []secdesc.ACE{effective, a}
}
