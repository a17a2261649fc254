package account

import (
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

// Buffers are the parts of a PAC that are the same in each ticket of an account, as
// bytes: whoever uses them must not change them.
type Buffers struct {
	LogonInfo []byte // KERB_VALIDATION_INFO of a TGT: without domain-local groups
	UPNInfo   []byte // UPN_DNS_INFO with its extension
	Requestor []byte // PAC_REQUESTOR
}

// madeBuffers are buffers with the time that they say the password was set at.
type madeBuffers struct {
	Buffers
	passwordSet dtyp.Filetime
}

// Buffers are made when they are first asked for: an account that only accepts tickets
// needs none. Those of a gMSA are made anew with each of its passwords.
func (a *Account) Buffers(now dtyp.Filetime) Buffers {
	set := a.passwordSet(now)
	if b := a.buffers.Load(); b != nil && b.passwordSet == set {
		return b.Buffers
	}
	upn := pac.UPNInfo{UPN: a.UPN, DNSDomain: a.domain.Realm(), Constructed: a.Constructed, SAMName: a.Name, SID: a.SID}
	b := Buffers{LogonInfo: a.LogonInfo(now).Append(nil), UPNInfo: upn.Append(nil), Requestor: a.SID.Bytes()}
	a.buffers.Store(&madeBuffers{b, set})
	return b
}

// passwordSet is when the password in force at now was set. That of a gMSA is not stored:
// it follows from the timeline, as the attribute pwdLastSet does that the directory shows.
func (a *Account) passwordSet(now dtyp.Filetime) dtyp.Filetime {
	if a.timeline == nil {
		return a.PasswordSet
	}
	p, err := a.timeline.At(now)
	if err != nil {
		return a.PasswordSet
	}
	return max(p.Start, a.created)
}

// LogonInfo is what a TGT says of the account at now: [MS-KILE] 3.3.5.6.4.1.
func (a *Account) LogonInfo(now dtyp.Filetime) pac.LogonInfo {
	set := a.passwordSet(now)
	l := pac.LogonInfo{
		LogoffTime: dtyp.Never, KickOffTime: dtyp.Never,
		PasswordLastSet: set, PasswordCanChange: set, PasswordMustChange: dtyp.Never,
		EffectiveName: a.Name, FullName: a.DisplayName, LogonScript: a.profile.scriptPath,
		ProfilePath: a.profile.path, HomeDirectory: a.profile.homeDirectory, HomeDirectoryDrive: a.profile.homeDrive,
		UserID: a.SID.RID(), PrimaryGroupID: a.PrimaryGroup, UserFlags: pac.ExtraSIDsPresent,
		LogonServer: strings.ToUpper(a.domain.Host), LogonDomainName: a.domain.NetBIOS, LogonDomainID: a.domain.SID,
		UserAccountControl: samControl(a.Control),
		ExtraSIDs:          []pac.SIDAttributes{{SID: dtyp.AuthenticationAuthorityAsserted, Attributes: pac.GroupDefault}},
	}
	if a.Expires != 0 {
		l.LogoffTime, l.KickOffTime = min(a.Expires, dtyp.Never), min(a.Expires, dtyp.Never)
	}
	if set != 0 {
		l.PasswordCanChange = set.Add(a.Policy.MinAge)
	}
	if t := a.PasswordExpires(); !t.IsZero() {
		l.PasswordMustChange = passwordMustChange(set, t)
	}
	for _, rid := range a.Groups {
		l.Groups = append(l.Groups, pac.Group{RID: rid, Attributes: pac.GroupDefault})
	}
	return l
}

// passwordMustChange is 0 where the password must be changed at once: [MS-SAMR]
// 3.1.5.14.4.
func passwordMustChange(set dtyp.Filetime, expires time.Time) dtyp.Filetime {
	if set == 0 {
		return 0
	}
	return dtyp.FiletimeOf(expires)
}

// samFlags are the bits of userAccountControl with those that SAM has for them:
// [MS-SAMR] 3.1.5.14.2, 2.2.1.12.
var samFlags = [...]struct {
	uac adproto.UserAccountControl
	sam uint32
}{
	{adproto.UACAccountDisable, 0x1}, {adproto.UACHomeDirRequired, 0x2}, {adproto.UACPasswordNotRequired, 0x4},
	{adproto.UACTempDuplicate, 0x8}, {adproto.UACNormalAccount, 0x10}, {adproto.UACMNSLogon, 0x20},
	{adproto.UACInterdomainTrust, 0x40}, {adproto.UACWorkstationTrust, 0x80}, {adproto.UACServerTrust, 0x100},
	{adproto.UACDontExpirePassword, 0x200}, {adproto.UACLockout, 0x400}, {adproto.UACEncryptedTextPassword, 0x800},
	{adproto.UACSmartcardRequired, 0x1000}, {adproto.UACTrustedForDelegation, 0x2000},
	{adproto.UACNotDelegated, 0x4000}, {adproto.UACUseDESKeyOnly, 0x8000}, {adproto.UACDontRequirePreauth, 0x10000},
	{adproto.UACPasswordExpired, 0x20000}, {adproto.UACTrustedToAuthDelegation, 0x40000},
	{adproto.UACNoAuthDataRequired, 0x80000}, {adproto.UACPartialSecrets, 0x100000}, {adproto.UACUseAESKeys, 0x200000},
}

func samControl(uac adproto.UserAccountControl) uint32 {
	var sam uint32
	for _, f := range samFlags {
		if uac&f.uac != 0 {
			sam |= f.sam
		}
	}
	return sam
}
