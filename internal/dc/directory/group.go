package directory

import (
	"fmt"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// groupScopes are the bits of which a group has exactly one.
const groupScopes = adproto.GroupGlobal | adproto.GroupDomainLocal | adproto.GroupUniversal

func groupTypeText(t adproto.GroupType) string { return fmt.Sprint(int32(t)) }

func (r *Reader) groupType(e *rows.Entry) adproto.GroupType {
	n, _ := r.number(e, "groupType")
	return adproto.GroupType(uint32(n))
}

// settleGroupType judges groupType and writes the sAMAccountType that follows from it.
// A group changes its scope only to or from universal, and only where all it is
// member of and all its members may stay ([MS-ADTS] 3.1.1.5.3.2, [MS-SAMR]
// 3.1.1.8.9).
func (d *draft) settleGroupType() error {
	if !d.isGroup() || !d.changed("groupType") {
		return nil
	}
	is := d.groupType(d.e)
	scope := is & groupScopes
	if is&^(groupScopes|adproto.GroupSecurity) != 0 || scope == 0 || scope&(scope-1) != 0 {
		return Errorf(UnwillingToPerform, Win32GroupType, "a group is global, domain-local or universal")
	}
	samType := adproto.AccountGroup
	if scope == adproto.GroupDomainLocal {
		samType = adproto.AccountAlias
	}
	if is&adproto.GroupSecurity == 0 {
		samType++ // SAM_NON_SECURITY_…_OBJECT, [MS-SAMR] 2.2.1.9
	}
	d.setNumber("sAMAccountType", int64(samType))
	if d.old == nil {
		return nil
	}
	return d.checkConversion(d.groupType(d.old), is)
}

func (d *draft) checkConversion(was, is adproto.GroupType) error {
	if was&adproto.GroupBuiltin != 0 {
		return Errorf(UnwillingToPerform, Win32GroupType, "a built-in group stays what it is")
	}
	if was&groupScopes != is&groupScopes && (was|is)&adproto.GroupUniversal == 0 {
		return Errorf(UnwillingToPerform, Win32GroupType, "a group goes between global and domain-local by way of universal")
	}
	if was&adproto.GroupSecurity != 0 && is&adproto.GroupSecurity == 0 {
		if err := d.checkNoPrimaryMembers(); err != nil {
			return err
		}
	}
	return d.checkNesting(is)
}

// checkNoPrimaryMembers refuses to take the security from a group that is somebody's
// primary one.
func (d *draft) checkNoPrimaryMembers() error {
	rid := fmt.Sprint(d.sid(d.e).RID())
	for _, err := range d.Find(d.mustAttribute("primaryGroupID"), []byte(rid)) {
		if err != nil {
			return err
		}
		return unwilling("the group is the primary group of accounts")
	}
	return nil
}

// checkNesting judges all nesting of the group as if it had the type is.
func (d *draft) checkNesting(is adproto.GroupType) error {
	for _, name := range []string{"member", "memberOf"} {
		for l, err := range d.Links(d.mustAttribute(name), d.e.GUID) {
			if err != nil {
				return err
			}
			other, group, member := l.Target, is, is
			if name == "memberOf" {
				other = l.Source
			}
			e, err := d.Get(other)
			if err != nil {
				return err
			}
			class, err := d.classes(e)
			if err != nil {
				return err
			}
			if !class.Has("group") {
				continue
			}
			if name == "member" {
				member = d.groupType(e)
			} else {
				group = d.groupType(e)
			}
			if err := checkNested(group, member); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkNested reports whether a group of one type may be a member of another: global
// groups hold global ones, universal groups hold all but domain-local ones, and
// domain-local groups hold all ([MS-SAMR] 3.1.1.8.9). The
// directory has one domain.
func checkNested(group, member adproto.GroupType) error {
	local := member&adproto.GroupDomainLocal != 0
	switch {
	case group&adproto.GroupBuiltin == 0 && member&adproto.GroupBuiltin != 0:
		return Errorf(UnwillingToPerform, Win32GroupType, "a built-in group is a member of no other")
	case group&adproto.GroupGlobal != 0 && local:
		return Errorf(UnwillingToPerform, 0x2144, "a global group cannot have a domain-local member") // ERROR_DS_GLOBAL_CANT_HAVE_LOCAL_MEMBER
	case group&adproto.GroupGlobal != 0 && member&adproto.GroupUniversal != 0:
		return Errorf(UnwillingToPerform, 0x2145, "a global group cannot have a universal member") // ERROR_DS_GLOBAL_CANT_HAVE_UNIVERSAL_MEMBER
	case group&adproto.GroupUniversal != 0 && local:
		return Errorf(UnwillingToPerform, 0x2146, "a universal group cannot have a domain-local member") // ERROR_DS_UNIVERSAL_CANT_HAVE_LOCAL_MEMBER
	}
	return nil
}

// checkMember judges a new member of a group: [MS-SAMR] 3.1.1.8.9.
func (d *draft) checkMember(member *rows.Entry) error {
	if !d.isGroup() {
		return nil
	}
	if member.GUID == d.e.GUID {
		return unwilling("a group cannot be its own member")
	}
	class, err := d.classes(member)
	if err != nil {
		return err
	}
	if class.Has("group") {
		return checkNested(d.groupType(d.e), d.groupType(member))
	}
	if rid, ok := d.number(member, "primaryGroupID"); ok && d.sid(d.e) == d.domain.SID.Child(uint32(rid)) {
		return Errorf(EntryAlreadyExists, Win32IsMember, "the group is the primary group of the account")
	}
	return nil
}
