package secdesc

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
)

// ErrNoSDDL is wrapped when a descriptor, or a string, has what this package
// does not write in SDDL or read from it: conditions, resource attributes and
// kinds of entries that are not known.
var ErrNoSDDL = errors.New("not expressible in SDDL here")

// SDDL is the string form of [MS-DTYP] 2.5.1, as Windows writes it. SIDs that
// are the same in every domain are written as aliases, others in full; see
// [SecurityDescriptor.SDDLIn].
func (sd SecurityDescriptor) SDDL() (string, error) {
	return sd.SDDLIn(dtyp.SID{}, dtyp.SID{})
}

// SDDLIn is [SecurityDescriptor.SDDL] with the aliases of a domain (DA, DC, …)
// and of its forest's root domain (EA, SA, …) as well.
//
// SDDL has no words for some control flags, the resource manager's byte and
// the revision of a list: they are lost, as they are everywhere.
func (sd SecurityDescriptor) SDDLIn(domain, root dtyp.SID) (string, error) {
	f := formatter{domain: domain, root: root}
	if !sd.Owner.IsZero() {
		f.text("O:", f.sid(sd.Owner))
	}
	if !sd.Group.IsZero() {
		f.text("G:", f.sid(sd.Group))
	}
	if err := f.acl("D:", sd.DACL, sd.Control, DACLPresent, daclFlagNames); err != nil {
		return "", fmt.Errorf("secdesc: DACL: %w", err)
	}
	if err := f.acl("S:", sd.SACL, sd.Control, SACLPresent, saclFlagNames); err != nil {
		return "", fmt.Errorf("secdesc: SACL: %w", err)
	}
	return f.b.String(), nil
}

// SDDL is the entry alone, in its parentheses.
func (a ACE) SDDL() (string, error) {
	var f formatter
	if err := f.ace(a); err != nil {
		return "", fmt.Errorf("secdesc: %w", err)
	}
	return f.b.String(), nil
}

type formatter struct {
	b            strings.Builder
	domain, root dtyp.SID
}

func (f *formatter) text(parts ...string) {
	for _, p := range parts {
		f.b.WriteString(p)
	}
}

func (f *formatter) sid(s dtyp.SID) string {
	for _, a := range sidAliases {
		if a.resolve(f.domain, f.root) == s {
			return a.text
		}
	}
	return s.String()
}

func (f *formatter) acl(prefix string, l *ACL, control, present Control, names []name[Control]) error {
	flags, _ := formatBits(control, names)
	if l == nil {
		if control&present != 0 {
			f.text(prefix, flags, nullACL)
		}
		return nil
	}
	f.text(prefix, flags)
	for i, a := range l.ACEs {
		if err := f.ace(a); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

func (f *formatter) ace(a ACE) error {
	kind := ""
	for _, n := range aceTypeNames {
		if n.kind == a.Type {
			kind = n.text
		}
	}
	if kind == "" {
		return fmt.Errorf("%w: kind %#02x", ErrNoSDDL, uint8(a.Type))
	}
	if a.Type.isConditional() || a.Type == ResourceAttribute || len(a.Data) > 0 {
		return fmt.Errorf("%w: kind %s with a condition or claim of %d bytes", ErrNoSDDL, kind, len(a.Data))
	}
	flags, _ := formatBits(a.Flags, aceFlagNames)
	names := rightNames
	if a.Type == MandatoryLabel {
		names = labelRightNames
	}
	f.text("(", kind, ";", flags, ";", formatRights(a.Mask, names), ";", guidText(a.ObjectType), ";",
		guidText(a.InheritedObjectType), ";", f.sid(a.SID), ")")
	return nil
}

// formatRights is m by names if they have all its bits, by the name of a file
// right that is just that, else in hexadecimal. No right at all is the empty
// string, which reads as none.
func formatRights(m Mask, names []name[Mask]) string {
	if s, ok := formatBits(m, names); ok {
		return s
	}
	for _, n := range fileRightNames {
		if n.bits == m {
			return n.text
		}
	}
	return fmt.Sprintf("0x%x", uint32(m))
}

func guidText(g *dtyp.GUID) string {
	if g == nil {
		return ""
	}
	return g.String()
}
