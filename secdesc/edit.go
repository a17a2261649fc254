package secdesc

import (
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
)

// ReadManagedPassword is the right that msDS-GroupMSAMembership must grant to
// whoever may read the password of a gMSA: [MS-ADTS] 3.1.1.4.5.39.
const ReadManagedPassword = ReadProperty

// GroupMSAMembership makes a value of msDS-GroupMSAMembership: a descriptor
// owned by the system by which each reader, and nobody else, may read the
// password.
func GroupMSAMembership(readers ...dtyp.SID) SecurityDescriptor {
	sd := SecurityDescriptor{
		Control: SelfRelative | DACLPresent,
		Owner:   dtyp.LocalSystem,
		DACL:    &ACL{Revision: RevisionDS},
	}
	for _, sid := range readers {
		sd.DACL.Allow(sid, ReadManagedPassword)
	}
	return sd
}

// Trustees are the SIDs that the DACL grants all of want for the object as a
// whole, each once, in order of appearance; Everyone when there is no DACL. A
// SID that an earlier entry denies is left out, but membership is not known
// here: a member of a denied group may be denied although it is in a group
// that is returned.
func (sd *SecurityDescriptor) Trustees(want Mask) []dtyp.SID {
	if sd.DACL == nil {
		return []dtyp.SID{dtyp.Everyone}
	}
	want = MapGeneric(want)
	var trustees []dtyp.SID
	for _, a := range sd.DACL.ACEs {
		if !a.Type.IsAllow() || slices.Contains(trustees, a.SID) {
			continue
		}
		granted, err := CheckEach(sd, Token{SIDs: []dtyp.SID{a.SID}}, want)
		if err == nil && granted[0].Has(want) {
			trustees = append(trustees, a.SID)
		}
	}
	return trustees
}

// Allow grants the rights to sid with an entry of its own, and reports whether
// the list changed. An explicit entry for sid gets the rights added; a new one
// goes where canonical order has it. All others stay as they are.
func (l *ACL) Allow(sid dtyp.SID, rights Mask) bool {
	for i := range l.ACEs {
		a := &l.ACEs[i]
		if a.Type == Allow && a.Flags == 0 && a.SID == sid && len(a.Data) == 0 {
			changed := !a.Mask.Has(rights)
			a.Mask |= rights
			return changed
		}
	}
	l.insert(ACE{Type: Allow, Mask: rights, SID: sid})
	return true
}

// Insert adds an entry where canonical order has it, unless an equal one is there,
// and reports whether the list changed. All others stay as they are.
func (l *ACL) Insert(a ACE) bool {
	if slices.ContainsFunc(l.ACEs, a.Equal) {
		return false
	}
	l.insert(a)
	return true
}

// insert puts a before the first entry that canonical order has after it.
func (l *ACL) insert(a ACE) {
	at := slices.IndexFunc(l.ACEs, func(b ACE) bool { return b.rank() > a.rank() })
	if at < 0 {
		at = len(l.ACEs)
	}
	l.ACEs = slices.Insert(l.ACEs, at, a)
	if a.Type.IsObject() && l.Revision != 0 {
		l.Revision = RevisionDS
	}
}

// Revoke takes the rights from every explicit entry that grants them to sid,
// removes the entries that are left without a right, and reports whether the
// list changed. Entries that deny, are inherited or belong to others stay. With
// [FullControl] it removes whatever the directory understands.
func (l *ACL) Revoke(sid dtyp.SID, rights Mask) bool {
	changed := false
	kept := l.ACEs[:0]
	for _, a := range l.ACEs {
		if a.SID == sid && a.Type.IsAllow() && a.Flags&Inherited == 0 && MapGeneric(a.Mask)&rights != 0 {
			changed = true
			if a.Mask = MapGeneric(a.Mask) &^ rights; a.Mask == 0 {
				continue
			}
		}
		kept = append(kept, a)
	}
	clear(l.ACEs[len(kept):])
	l.ACEs = kept
	return changed
}

// rank is the place of an entry in canonical order: what denies before what
// grants, entries for the whole object before those for a part, explicit
// before inherited. Inherited ones keep the order in which they came, nearest
// ancestor first.
func (a ACE) rank() int {
	switch {
	case a.Flags&Inherited != 0:
		return 4
	case a.Type.IsDeny() && a.ObjectType == nil:
		return 0
	case a.Type.IsDeny():
		return 1
	case a.ObjectType == nil:
		return 2
	}
	return 3
}

// IsCanonical reports whether the entries are in the order that Windows keeps
// ([MS-DTYP] 2.4.5 leaves it to convention): explicit entries before inherited
// ones, and among the explicit those that deny before those that grant.
func (l *ACL) IsCanonical() bool {
	place := -1
	for _, a := range l.ACEs {
		group := a.rank() / 2 // parts of an object do not matter
		if group < place {
			return false
		}
		place = group
	}
	return true
}

// Canonicalise puts the entries in canonical order, and otherwise keeps them.
func (l *ACL) Canonicalise() {
	slices.SortStableFunc(l.ACEs, func(a, b ACE) int { return a.rank() - b.rank() })
}
