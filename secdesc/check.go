package secdesc

import (
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
)

// ErrDenied is wrapped when an access check grants less than was asked.
var ErrDenied = errors.New("access denied")

// ErrObjectTree is wrapped when the objects of an access check are not a tree.
var ErrObjectTree = errors.New("malformed object tree")

// Privilege is a set of the privileges that count in an access check.
type Privilege uint8

// The privileges, [MS-LSAD] 3.1.1.2.1.
const (
	SeSecurityPrivilege      Privilege = 1 << iota // grants ACCESS_SYSTEM_SECURITY
	SeTakeOwnershipPrivilege                       // grants WRITE_OWNER
)

// Token is who asks, [MS-DTYP] 2.5.2. It is small and copied freely; its
// slices are only read.
type Token struct {
	// SIDs are the caller and all groups it belongs to, in any order.
	SIDs []dtyp.SID
	// DenyOnly are groups that count in entries that deny and in no others.
	DenyOnly []dtyp.SID
	// Self is what PRINCIPAL_SELF stands for: the SID of the object that is
	// asked for, if it is a principal, else the zero SID.
	Self dtyp.SID
	// Privileges are those that the caller holds and has enabled.
	Privileges Privilege
}

// holds is SidInToken of [MS-DTYP] 2.5.3.1.1.
func (t *Token) holds(sid dtyp.SID, owner dtyp.SID) bool {
	switch sid {
	case dtyp.PrincipalSelf:
		sid = t.Self
	case dtyp.OwnerRights:
		sid = owner
	}
	return !sid.IsZero() && slices.Contains(t.SIDs, sid)
}

// denies is holds for entries that deny.
func (t *Token) denies(sid dtyp.SID, owner dtyp.SID) bool {
	if t.holds(sid, owner) {
		return true
	}
	if sid == dtyp.PrincipalSelf {
		sid = t.Self
	}
	return !sid.IsZero() && slices.Contains(t.DenyOnly, sid)
}

// Object is one line of an object type list, [MS-DTYP] 2.5.2 (a tree in depth
// first order). For the directory level 0 is the object's class, level 1 are
// property sets, control rights or validated writes, and level 2 are
// properties: [MS-ADTS] 5.1.3.3.
type Object struct {
	Level int
	Type  dtyp.GUID
}

// Check is the access check of [MS-DTYP] 2.5.3.2: whether sd grants all of
// desired to the token for the objects, or, without objects, for the object as
// a whole. It returns what is granted of desired: with [MaximumAllowed] in
// desired, all that is granted. The error wraps [ErrDenied] when something of
// desired is missing.
//
// Generic rights, in desired and in entries, mean those of the directory.
// Entries with a condition never grant, because the condition is not
// evaluated; those that deny always deny.
func Check(sd *SecurityDescriptor, token Token, desired Mask, objects ...Object) (Mask, error) {
	granted, err := CheckEach(sd, token, desired, objects...)
	if err != nil {
		return 0, err
	}
	wanted := MapGeneric(desired &^ MaximumAllowed)
	if missing := wanted &^ granted[0]; missing != 0 {
		return granted[0], fmt.Errorf("secdesc: %w: of %v it lacks %v", ErrDenied, wanted, missing)
	}
	return granted[0], nil
}

// CheckEach is [Check] with a result for each object: the rights, of those
// desired, that are granted for it. Without objects it has one result. Its
// error is about the objects only.
func CheckEach(sd *SecurityDescriptor, token Token, desired Mask, objects ...Object) ([]Mask, error) {
	tree, err := newTree(objects)
	if err != nil {
		return nil, err
	}
	scope := MapGeneric(desired &^ MaximumAllowed)
	if desired&MaximumAllowed != 0 {
		scope |= FullControl | Synchronize
	}
	tree.grant(0, preGranted(sd, token))
	if sd.DACL == nil {
		tree.grant(0, ^AccessSystemSecurity)
	} else {
		for i := range sd.DACL.ACEs {
			tree.apply(&sd.DACL.ACEs[i], token, sd.Owner)
		}
	}
	granted := make([]Mask, len(tree))
	for i := range tree {
		granted[i] = tree[i].granted & scope
	}
	return granted, nil
}

// preGranted is what does not depend on the entries: privileges, and the
// owner's right to read and change the DACL unless entries for OWNER RIGHTS
// say what the owner has.
func preGranted(sd *SecurityDescriptor, token Token) Mask {
	var m Mask
	if token.Privileges&SeSecurityPrivilege != 0 {
		m |= AccessSystemSecurity
	}
	if token.Privileges&SeTakeOwnershipPrivilege != 0 {
		m |= WriteOwner
	}
	if token.holds(sd.Owner, sd.Owner) && !hasOwnerRights(sd.DACL) {
		m |= ReadControl | WriteDAC
	}
	return m
}

func hasOwnerRights(dacl *ACL) bool {
	return dacl != nil && slices.ContainsFunc(dacl.ACEs, func(a ACE) bool {
		return a.SID == dtyp.OwnerRights && a.Flags&InheritOnly == 0
	})
}

// node is one object of the tree. Each right is granted or denied by the
// first entry that says something about it.
type node struct {
	Object
	parent          int // index, -1 at the root
	end             int // index after the last descendant
	granted, denied Mask
}

type tree []node

func newTree(objects []Object) (tree, error) {
	if len(objects) == 0 {
		return tree{{parent: -1, end: 1}}, nil
	}
	t := make(tree, len(objects))
	for i, o := range objects {
		parent := i - 1
		for parent >= 0 && t[parent].Level >= o.Level {
			t[parent].end = i
			parent = t[parent].parent
		}
		if (parent < 0) != (i == 0) || i == 0 && o.Level != 0 || i > 0 && o.Level != t[parent].Level+1 {
			return nil, fmt.Errorf("secdesc: %w: object %d (%v) at level %d", ErrObjectTree, i, o.Type, o.Level)
		}
		t[i] = node{Object: o, parent: parent}
	}
	for i := range t {
		if t[i].end == 0 {
			t[i].end = len(t)
		}
	}
	return t, nil
}

func (t tree) find(g dtyp.GUID) int {
	return slices.IndexFunc(t, func(n node) bool { return n.Type == g })
}

// apply is the loop body of [MS-DTYP] 2.5.3.2.
func (t tree) apply(a *ACE, token Token, owner dtyp.SID) {
	if a.Flags&InheritOnly != 0 {
		return
	}
	at := 0
	if a.Type.IsObject() && a.ObjectType != nil {
		if at = t.find(*a.ObjectType); at < 0 {
			return
		}
	}
	switch {
	case a.Type.IsDeny():
		if token.denies(a.SID, owner) {
			t.deny(at, MapGeneric(a.Mask))
		}
	case a.Type.IsAllow() && !a.Type.isConditional():
		if token.holds(a.SID, owner) {
			t.grant(at, MapGeneric(a.Mask))
		}
	}
}

// grant gives m to the object at i and all below it, and to the objects above
// it what all their children have by now.
func (t tree) grant(i int, m Mask) {
	for j := i; j < t[i].end; j++ {
		t[j].granted |= m &^ t[j].denied
	}
	for p := t[i].parent; p >= 0; p = t[p].parent {
		common := ^Mask(0)
		for c := p + 1; c < t[p].end; c = t[c].end {
			common &= t[c].granted
		}
		t[p].granted |= common &^ t[p].denied
	}
}

// deny takes m from the object at i, all below it and all above it: an object
// is accessible as a whole only if all its parts are.
func (t tree) deny(i int, m Mask) {
	for j := i; j < t[i].end; j++ {
		t[j].denied |= m &^ t[j].granted
	}
	for p := t[i].parent; p >= 0; p = t[p].parent {
		t[p].denied |= m &^ t[p].granted
	}
}
