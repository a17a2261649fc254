package adproto

import (
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// flagText joins the names of the set bits and the rest in hexadecimal.
func flagText[T ~uint32](v T, names []flagName[T]) string {
	var out []string
	for _, n := range names {
		if v&n.bit != 0 {
			out = append(out, n.name)
			v &^= n.bit
		}
	}
	if v != 0 || len(out) == 0 {
		out = append(out, fmt.Sprintf("%#x", uint32(v)))
	}
	return strings.Join(out, "|")
}

type flagName[T ~uint32] struct {
	bit  T
	name string
}

// UserAccountControl is the attribute of that name: [MS-ADTS] 2.2.16.
type UserAccountControl uint32

// The bits of userAccountControl.
const (
	UACScript                  UserAccountControl = 0x1
	UACAccountDisable          UserAccountControl = 0x2
	UACHomeDirRequired         UserAccountControl = 0x8
	UACLockout                 UserAccountControl = 0x10
	UACPasswordNotRequired     UserAccountControl = 0x20
	UACPasswordCantChange      UserAccountControl = 0x40
	UACEncryptedTextPassword   UserAccountControl = 0x80
	UACTempDuplicate           UserAccountControl = 0x100
	UACNormalAccount           UserAccountControl = 0x200
	UACInterdomainTrust        UserAccountControl = 0x800
	UACWorkstationTrust        UserAccountControl = 0x1000 // hosts, gMSAs and sMSAs
	UACServerTrust             UserAccountControl = 0x2000 // domain controllers
	UACDontExpirePassword      UserAccountControl = 0x10000
	UACMNSLogon                UserAccountControl = 0x20000
	UACSmartcardRequired       UserAccountControl = 0x40000
	UACTrustedForDelegation    UserAccountControl = 0x80000
	UACNotDelegated            UserAccountControl = 0x100000
	UACUseDESKeyOnly           UserAccountControl = 0x200000
	UACDontRequirePreauth      UserAccountControl = 0x400000
	UACPasswordExpired         UserAccountControl = 0x800000
	UACTrustedToAuthDelegation UserAccountControl = 0x1000000
	UACNoAuthDataRequired      UserAccountControl = 0x2000000
	UACPartialSecrets          UserAccountControl = 0x4000000 // read-only controllers
	UACUseAESKeys              UserAccountControl = 0x8000000
)

var uacNames = []flagName[UserAccountControl]{
	{UACScript, "SCRIPT"},
	{UACAccountDisable, "ACCOUNTDISABLE"},
	{UACHomeDirRequired, "HOMEDIR_REQUIRED"},
	{UACLockout, "LOCKOUT"},
	{UACPasswordNotRequired, "PASSWD_NOTREQD"},
	{UACPasswordCantChange, "PASSWD_CANT_CHANGE"},
	{UACEncryptedTextPassword, "ENCRYPTED_TEXT_PWD_ALLOWED"},
	{UACTempDuplicate, "TEMP_DUPLICATE_ACCOUNT"},
	{UACNormalAccount, "NORMAL_ACCOUNT"},
	{UACInterdomainTrust, "INTERDOMAIN_TRUST_ACCOUNT"},
	{UACWorkstationTrust, "WORKSTATION_TRUST_ACCOUNT"},
	{UACServerTrust, "SERVER_TRUST_ACCOUNT"},
	{UACDontExpirePassword, "DONT_EXPIRE_PASSWORD"},
	{UACMNSLogon, "MNS_LOGON_ACCOUNT"},
	{UACSmartcardRequired, "SMARTCARD_REQUIRED"},
	{UACTrustedForDelegation, "TRUSTED_FOR_DELEGATION"},
	{UACNotDelegated, "NOT_DELEGATED"},
	{UACUseDESKeyOnly, "USE_DES_KEY_ONLY"},
	{UACDontRequirePreauth, "DONT_REQ_PREAUTH"},
	{UACPasswordExpired, "PASSWORD_EXPIRED"},
	{UACTrustedToAuthDelegation, "TRUSTED_TO_AUTH_FOR_DELEGATION"},
	{UACNoAuthDataRequired, "NO_AUTH_DATA_REQUIRED"},
	{UACPartialSecrets, "PARTIAL_SECRETS_ACCOUNT"},
	{UACUseAESKeys, "USE_AES_KEYS"},
}

// String names the bits, "WORKSTATION_TRUST_ACCOUNT|ACCOUNTDISABLE" like.
func (u UserAccountControl) String() string { return flagText(u, uacNames) }

// Disabled reports whether the account cannot log on.
func (u UserAccountControl) Disabled() bool { return u&UACAccountDisable != 0 }

// EncryptionTypes is msDS-SupportedEncryptionTypes: [MS-KILE] 2.2.7. Zero or an
// absent attribute means that the domain's default applies.
type EncryptionTypes uint32

// The bits of msDS-SupportedEncryptionTypes.
const (
	EncDESCBCCRC       EncryptionTypes = 0x1
	EncDESCBCMD5       EncryptionTypes = 0x2
	EncRC4             EncryptionTypes = 0x4
	EncAES128          EncryptionTypes = 0x8  // etype 17
	EncAES256          EncryptionTypes = 0x10 // etype 18
	EncAES256SK        EncryptionTypes = 0x20 // AES session keys where the long-term key is weaker
	EncAES128SHA256    EncryptionTypes = 0x40 // etype 19
	EncAES256SHA384    EncryptionTypes = 0x80 // etype 20
	EncFAST            EncryptionTypes = 0x10000
	EncCompoundID      EncryptionTypes = 0x20000
	EncClaims          EncryptionTypes = 0x40000
	EncNoSIDCompress   EncryptionTypes = 0x80000
	EncDefaultAccounts EncryptionTypes = EncAES128 | EncAES256 // what this project sets
)

var encNames = []flagName[EncryptionTypes]{
	{EncDESCBCCRC, "DES-CBC-CRC"},
	{EncDESCBCMD5, "DES-CBC-MD5"},
	{EncRC4, "RC4-HMAC"},
	{EncAES128, "AES128-CTS-HMAC-SHA1-96"},
	{EncAES256, "AES256-CTS-HMAC-SHA1-96"},
	{EncAES256SK, "AES256-CTS-HMAC-SHA1-96-SK"},
	{EncAES128SHA256, "AES128-CTS-HMAC-SHA256-128"},
	{EncAES256SHA384, "AES256-CTS-HMAC-SHA384-192"},
	{EncFAST, "FAST-SUPPORTED"},
	{EncCompoundID, "COMPOUND-IDENTITY-SUPPORTED"},
	{EncClaims, "CLAIMS-SUPPORTED"},
	{EncNoSIDCompress, "RESOURCE-SID-COMPRESSION-DISABLED"},
}

// String names the bits.
func (e EncryptionTypes) String() string { return flagText(e, encNames) }

// ETypes lists the Kerberos encryption types of the set, strongest first. DES is
// left out: nothing in this project can use it.
func (e EncryptionTypes) ETypes() []crypto.EType {
	var out []crypto.EType
	for _, t := range encETypes {
		if e&t.bit != 0 {
			out = append(out, t.etype)
		}
	}
	return out
}

// EncryptionTypesOf is the set that holds the given types.
func EncryptionTypesOf(etypes ...crypto.EType) EncryptionTypes {
	var e EncryptionTypes
	for _, et := range etypes {
		for _, t := range encETypes {
			if t.etype == et {
				e |= t.bit
			}
		}
	}
	return e
}

var encETypes = []struct {
	bit   EncryptionTypes
	etype crypto.EType
}{
	{EncAES256SHA384, crypto.AES256SHA2},
	{EncAES256, crypto.AES256SHA1},
	{EncAES128SHA256, crypto.AES128SHA2},
	{EncAES128, crypto.AES128SHA1},
	{EncRC4, crypto.RC4HMAC},
}

// AccountType is the attribute sAMAccountType: [MS-SAMR] 2.2.1.9. It follows from the
// class, userAccountControl and groupType.
type AccountType uint32

// The account types of security principals.
const (
	AccountGroup   AccountType = 0x10000000 // SAM_GROUP_OBJECT: global and universal groups
	AccountAlias   AccountType = 0x20000000 // SAM_ALIAS_OBJECT: domain-local groups
	AccountUser    AccountType = 0x30000000 // SAM_USER_OBJECT
	AccountMachine AccountType = 0x30000001 // SAM_MACHINE_ACCOUNT: hosts, controllers, gMSAs and sMSAs
)

// GroupType is the attribute groupType: [MS-ADTS] 2.2.12.
type GroupType uint32

// The bits of groupType.
const (
	GroupBuiltin     GroupType = 0x1
	GroupGlobal      GroupType = 0x2
	GroupDomainLocal GroupType = 0x4
	GroupUniversal   GroupType = 0x8
	GroupSecurity    GroupType = 0x80000000
)

var groupNames = []flagName[GroupType]{
	{GroupBuiltin, "BUILTIN_LOCAL"},
	{GroupGlobal, "GLOBAL"},
	{GroupDomainLocal, "DOMAIN_LOCAL"},
	{GroupUniversal, "UNIVERSAL"},
	{GroupSecurity, "SECURITY"},
}

// String names the bits.
func (g GroupType) String() string { return flagText(g, groupNames) }

// FunctionalLevel is a domain's, forest's or controller's behaviour version:
// [MS-ADTS] 6.1.4.2.
type FunctionalLevel int

// The functional levels. There is none for Windows Server 2019 and 2022.
const (
	Level2000        FunctionalLevel = 0
	Level2003WithNT4 FunctionalLevel = 1
	Level2003        FunctionalLevel = 2
	Level2008        FunctionalLevel = 3
	Level2008R2      FunctionalLevel = 4
	Level2012        FunctionalLevel = 5 // the first with gMSAs
	Level2012R2      FunctionalLevel = 6
	Level2016        FunctionalLevel = 7
	Level2025        FunctionalLevel = 10
)

// String is the level's name, as Windows' tools write it.
func (l FunctionalLevel) String() string {
	switch l {
	case Level2000:
		return "Windows 2000"
	case Level2003WithNT4:
		return "Windows Server 2003 interim"
	case Level2003:
		return "Windows Server 2003"
	case Level2008:
		return "Windows Server 2008"
	case Level2008R2:
		return "Windows Server 2008 R2"
	case Level2012:
		return "Windows Server 2012"
	case Level2012R2:
		return "Windows Server 2012 R2"
	case Level2016:
		return "Windows Server 2016"
	case Level2025:
		return "Windows Server 2025"
	}
	return fmt.Sprintf("unknown functional level %d", int(l))
}
