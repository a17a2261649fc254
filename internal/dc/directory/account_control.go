package directory

import (
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/secret"
)

// Bits of userAccountControl by who decides about them: [MS-SAMR] 3.1.1.8.10,
// [MS-ADTS] 3.1.1.5.3.2.
const (
	accountTypes = adproto.UACNormalAccount | adproto.UACWorkstationTrust | adproto.UACServerTrust |
		adproto.UACInterdomainTrust | adproto.UACTempDuplicate
	// computedControl is what msDS-User-Account-Control-Computed says; written, it means
	// nothing.
	computedControl = adproto.UACLockout | adproto.UACPasswordExpired | adproto.UACPasswordCantChange
	// administratorsControl is what lets an account act for others, or replicate
	// secrets: only administrators give it, as those who have the privilege to in AD.
	administratorsControl = adproto.UACServerTrust | adproto.UACPartialSecrets | adproto.UACInterdomainTrust |
		adproto.UACTrustedForDelegation | adproto.UACTrustedToAuthDelegation
	knownControl = 0x0FFFFFFF
)

// controlRights are the rights on the head of the domain that setting a bit takes
// beside that of writing the attribute: [MS-ADTS] 5.1.3.2.1.
func controlRights() map[adproto.UserAccountControl]dtyp.GUID {
	return map[adproto.UserAccountControl]dtyp.GUID{
		adproto.UACPasswordNotRequired:   rightPasswordNotReq,
		adproto.UACDontExpirePassword:    rightUnexpirePassword,
		adproto.UACEncryptedTextPassword: rightReversible,
	}
}

func (r *Reader) control(e *rows.Entry) adproto.UserAccountControl {
	n, _ := r.number(e, "userAccountControl")
	return adproto.UserAccountControl(uint32(n))
}

// settleAccountControl judges userAccountControl and writes what follows from it:
// sAMAccountType and, for another kind of account, primaryGroupID.
func (d *draft) settleAccountControl() error {
	if !d.isAccount() || !d.changed("userAccountControl") {
		return nil
	}
	control := d.control(d.e) &^ computedControl
	if control&accountTypes == 0 {
		control |= d.defaultControl() & accountTypes
	}
	if err := d.checkAccountType(control); err != nil {
		return err
	}
	var before adproto.UserAccountControl
	if d.old != nil {
		before = d.control(d.old)
	}
	if err := d.mayControl(control &^ before); err != nil {
		return err
	}
	d.setNumber("userAccountControl", int64(int32(control)))
	if control&accountTypes == before&accountTypes {
		return nil
	}
	samType, group := adproto.AccountUser, dtyp.RIDDomainUsers
	switch {
	case control&adproto.UACServerTrust != 0:
		samType, group = adproto.AccountMachine, dtyp.RIDDomainControllers
	case control&adproto.UACWorkstationTrust != 0:
		samType, group = adproto.AccountMachine, dtyp.RIDDomainComputers
	}
	d.setNumber("sAMAccountType", int64(samType))
	d.setNumber("primaryGroupID", int64(group))
	return nil
}

// checkAccountType refuses accounts that are of no kind or of two, and machines that
// are none: what an account is follows from its class, not from a bit that whoever
// writes it chooses (CVE-2021-42278).
func (d *draft) checkAccountType(control adproto.UserAccountControl) error {
	kind := control & accountTypes
	machine := kind == adproto.UACWorkstationTrust || kind == adproto.UACServerTrust
	if control&^knownControl != 0 || !machine && kind != adproto.UACNormalAccount || machine != d.isMachine() {
		return unwilling("userAccountControl %s is none for a %s", control, d.class.Structural().Name)
	}
	if d.isGMSA() && kind != adproto.UACWorkstationTrust {
		return unwilling("a gMSA is no domain controller")
	}
	return nil
}

// mayControl reports whether the caller may set bits that were not set before.
func (d *draft) mayControl(set adproto.UserAccountControl) error {
	if set&administratorsControl != 0 && !d.isAdministrator() {
		return d.require(false, "only administrators set %s", set&administratorsControl)
	}
	var needed []dtyp.GUID
	for bit, right := range controlRights() {
		// A new account is made disabled and without a password by whoever may make it.
		if set&bit != 0 && (d.old != nil || !d.isMachine() && bit != adproto.UACPasswordNotRequired) {
			needed = append(needed, right)
		}
	}
	if len(needed) == 0 {
		return nil
	}
	head, err := d.head()
	if err != nil {
		return err
	}
	domain := d.protected(head)
	for _, right := range needed {
		if err := d.require(domain.Controls(d.caller.Token, right), "a bit of userAccountControl takes the right %s on the domain", right); err != nil {
			return err
		}
	}
	return nil
}

// settleDelegation judges msDS-AllowedToDelegateTo: to let an account act for others
// takes an administrator, as the bits of userAccountControl for it do.
func (d *draft) settleDelegation() error {
	return d.require(!d.changed("msDS-AllowedToDelegateTo") || d.isAdministrator(), "only administrators write msDS-AllowedToDelegateTo")
}

// checkEnabled refuses to enable a user that has no password and needs one, as AD does.
func (d *draft) checkEnabled() error {
	control := d.control(d.e)
	free := adproto.UACAccountDisable | adproto.UACPasswordNotRequired | adproto.UACSmartcardRequired
	if !d.isAccount() || d.isMachine() || !d.changed("userAccountControl") || control&free != 0 {
		return nil
	}
	_, has, err := d.cfg.Passwords.KVNO(&d.Reader, d.e)
	if err != nil || has {
		return err
	}
	return Errorf(UnwillingToPerform, Win32PasswordRestriction, "the account has no password yet")
}

// settlePrimaryGroup judges primaryGroupID: a security group of the domain that the
// account is in already. Being in a primary group is not written as a link: the link
// to the new one goes, and one to the old one comes ([MS-SAMR] 3.1.1.8.2).
func (d *draft) settlePrimaryGroup() error {
	if d.old == nil || !d.changed("primaryGroupID") {
		return nil
	}
	if d.control(d.old)&accountTypes != d.control(d.e)&accountTypes {
		return nil // it follows from the kind of account
	}
	was, _ := d.number(d.old, "primaryGroupID")
	is, _ := d.number(d.e, "primaryGroupID")
	group, err := d.groupOf(is)
	if err != nil {
		return err
	}
	member := d.mustAttribute("member")
	if err := d.Unlink(member, rows.Link{Source: group.GUID, Target: d.e.GUID}); err != nil {
		return Errorf(UnwillingToPerform, Win32NotMember, "the account is not a member of the group %d", is)
	}
	old, err := d.groupOf(was)
	if err != nil {
		return err
	}
	return d.Link(member, rows.Link{Source: old.GUID, Target: d.e.GUID})
}

// groupOf is the group of the domain with a RID.
func (d *draft) groupOf(rid int64) (*rows.Entry, error) {
	if rid <= 0 || rid >= 1<<30 {
		return nil, constraint("primaryGroupID %d is none", rid)
	}
	g, err := d.Lookup(d.mustAttribute("objectSid"), d.domain.SID.Child(uint32(rid)).Bytes())
	if err != nil {
		return nil, Errorf(UnwillingToPerform, Win32NotMember, "there is no group %d", rid)
	}
	if t := d.groupType(g); t&adproto.GroupSecurity == 0 || t&adproto.GroupDomainLocal != 0 {
		return nil, unwilling("primaryGroupID names no global or universal security group")
	}
	return g, nil
}

// settlePasswordTime judges pwdLastSet: 0 makes the user change the password at the
// next logon, -1 takes that back ([MS-SAMR] 3.1.1.8.8). On a gMSA 0 ends the password
// in force; see [Directory.Rotate].
func (d *draft) settlePasswordTime() error {
	if d.old == nil || !d.changed("pwdLastSet") {
		return nil
	}
	n, _ := d.number(d.e, "pwdLastSet")
	switch {
	case n == 0 && d.isGMSA():
		d.setNumber("pwdLastSet", int64(d.now))
		d.kinds = append(d.kinds, audit.KindRotate)
		return d.rotate()
	case n == -1:
		d.setNumber("pwdLastSet", int64(d.now))
	case n != 0:
		return unwilling("pwdLastSet is set to 0 or -1")
	}
	return nil
}

// settleLockout judges lockoutTime: 0 unlocks the account, and forgets the failures
// that locked it.
func (d *draft) settleLockout() error {
	if d.old == nil || !d.changed("lockoutTime") {
		return nil
	}
	if n, ok := d.number(d.e, "lockoutTime"); ok && n != 0 {
		return unwilling("lockoutTime is set to 0")
	}
	d.setNumber("badPwdCount", 0)
	return d.SetPrivate(d.e.GUID, PrivateLogon, secret.Bytes{})
}

// machineName is the host name that a machine's account stands for: its name without
// the "$".
func (r *Reader) machineName(e *rows.Entry) string {
	return strings.TrimSuffix(string(r.value(e, "sAMAccountName")), "$")
}
