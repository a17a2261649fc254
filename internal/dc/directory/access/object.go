package access

import (
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Object is what a decision about an object depends on.
type Object struct {
	SD    *secdesc.SecurityDescriptor
	Class dtyp.GUID // schemaIDGUID of its most specific structural class
	SID   dtyp.SID  // its objectSid, zero for none: entries for PRINCIPAL_SELF mean it
}

// allParts are the parts of a security descriptor.
const allParts = adproto.SDOwner | adproto.SDGroup | adproto.SDDACL | adproto.SDSACL

// Allowed reports whether the caller has all of rights on the attribute: by
// entries for it, for its property set, or for the object as a whole ([MS-ADTS]
// 5.1.3.3.2).
func (o Object) Allowed(caller secdesc.Token, a *schema.Attribute, rights secdesc.Mask) bool {
	tree := []secdesc.Object{{Level: 0, Type: o.Class}}
	if !a.PropertySet.IsZero() {
		tree = append(tree, secdesc.Object{Level: 1, Type: a.PropertySet})
	}
	return o.leaf(caller, append(tree, secdesc.Object{Level: len(tree), Type: a.GUID}), rights)
}

// leaf asks for the last object of a tree that is one branch.
func (o Object) leaf(caller secdesc.Token, tree []secdesc.Object, rights secdesc.Mask) bool {
	caller.Self = o.SID
	granted, err := secdesc.CheckEach(o.SD, caller, rights, tree...)
	if err != nil {
		panic("access: " + err.Error()) // the trees of this package are branches
	}
	return granted[len(tree)-1].Has(rights)
}

// Readable reports whether the caller may read the attribute ([MS-ADTS]
// 3.1.1.4.4): confidential ones take CONTROL_ACCESS too, keys are never read,
// and the security descriptor goes by its own rights, see [Object.Parts].
// msDS-ManagedPassword has a rule of its own beside this one.
func (o Object) Readable(caller secdesc.Token, a *schema.Attribute) bool {
	switch {
	case a.Name == "nTSecurityDescriptor":
		return o.Parts(caller, allParts) != 0
	case a.Secret() && a.Name != "msKds-RootKeyData" && a.Name != "msDS-ManagedPassword":
		return false
	case a.Confidential():
		return o.Allowed(caller, a, secdesc.ReadProperty|secdesc.ControlAccess)
	}
	return o.Allowed(caller, a, secdesc.ReadProperty)
}

// Writable reports whether the caller may write the attribute; what the
// directory alone writes is refused elsewhere. The descriptor goes by
// [Object.WritableParts].
func (o Object) Writable(caller secdesc.Token, a *schema.Attribute) bool {
	if a.Name == "nTSecurityDescriptor" {
		return o.WritableParts(caller, allParts) != 0
	}
	return o.Allowed(caller, a, secdesc.WriteProperty)
}

// Parts are those of the wanted parts of the descriptor that the caller may
// read ([MS-ADTS] 3.1.1.4.4; the bits are adproto.SDOwner and its like).
func (o Object) Parts(caller secdesc.Token, wanted int) int {
	return o.parts(caller, wanted, secdesc.ReadControl, secdesc.ReadControl)
}

// WritableParts are those of the wanted parts of the descriptor that the caller
// may write: owner and group with WRITE_OWNER, the DACL with WRITE_DAC ([MS-ADTS]
// 3.1.1.5.3.3). Who may be made owner is asked of [MayOwn].
func (o Object) WritableParts(caller secdesc.Token, wanted int) int {
	return o.parts(caller, wanted, secdesc.WriteOwner, secdesc.WriteDAC)
}

func (o Object) parts(caller secdesc.Token, wanted int, owner, dacl secdesc.Mask) (parts int) {
	for _, p := range []struct {
		bits  int
		right secdesc.Mask
	}{{adproto.SDOwner | adproto.SDGroup, owner}, {adproto.SDDACL, dacl}, {adproto.SDSACL, secdesc.AccessSystemSecurity}} {
		if wanted&p.bits != 0 && o.whole(caller, p.right) {
			parts |= wanted & p.bits
		}
	}
	return parts
}

// MayOwn reports whether the caller may make sid the owner of an object: itself,
// or a group of its own that is entitled to own. Which groups are is the
// caller's to say in owners ([MS-DTYP] 2.5.3.4; the holder of the restore
// privilege, which nobody holds here, could name anybody).
func MayOwn(caller secdesc.Token, sid dtyp.SID, owners ...dtyp.SID) bool {
	return slices.Contains(caller.SIDs, sid) && slices.Contains(owners, sid)
}

// whole asks for the object as a whole.
func (o Object) whole(caller secdesc.Token, rights secdesc.Mask) bool {
	return o.leaf(caller, []secdesc.Object{{Level: 0, Type: o.Class}}, rights)
}

// Lists reports whether the caller may see the children of the object at all
// ([MS-ADTS] 5.1.3.3.5; list-object mode is off, as in every new domain).
func (o Object) Lists(caller secdesc.Token) bool { return o.whole(caller, secdesc.ListContents) }

// Creates reports whether the caller may make objects of the class below the
// object ([MS-ADTS] 3.1.1.5.2.1).
func (o Object) Creates(caller secdesc.Token, class dtyp.GUID) bool {
	return o.child(caller, class, secdesc.CreateChild)
}

// Deletes reports whether the caller may delete the object: by DELETE on itself
// or DELETE_CHILD for its class on its parent ([MS-ADTS] 3.1.1.5.5.4).
func (o Object) Deletes(caller secdesc.Token, parent Object) bool {
	return o.whole(caller, secdesc.Delete) || parent.child(caller, o.Class, secdesc.DeleteChild)
}

// DeletesTree reports whether the caller may delete the object with all below
// it in one step ([MS-ADTS] 3.1.1.5.5.7.2).
func (o Object) DeletesTree(caller secdesc.Token) bool { return o.whole(caller, secdesc.DeleteTree) }

func (o Object) child(caller secdesc.Token, class dtyp.GUID, right secdesc.Mask) bool {
	return o.leaf(caller, []secdesc.Object{{Level: 0, Type: o.Class}, {Level: 1, Type: class}}, right)
}

// Controls reports whether the caller has a control access right, such as
// User-Force-Change-Password, by its rightsGuid ([MS-ADTS] 5.1.3.3.4).
func (o Object) Controls(caller secdesc.Token, right dtyp.GUID) bool {
	return o.leaf(caller, []secdesc.Object{{Level: 0, Type: o.Class}, {Level: 1, Type: right}}, secdesc.ControlAccess)
}

// Validates reports whether the caller may make a validated write, by its
// rightsGuid ([MS-ADTS] 5.1.3.3.6): such as a machine its own SPNs. What values
// it then may write is the directory's to judge ([MS-ADTS] 3.1.1.5.3.1.1).
func (o Object) Validates(caller secdesc.Token, right dtyp.GUID) bool {
	return o.leaf(caller, []secdesc.Object{{Level: 0, Type: o.Class}, {Level: 1, Type: right}}, secdesc.SelfWrite)
}
