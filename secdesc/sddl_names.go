package secdesc

import (
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
)

// name is one token of SDDL and the bits it stands for.
type name[T ~uint8 | ~uint16 | ~uint32] struct {
	text string
	bits T
}

// rightNames are the rights of [MS-DTYP] 2.5.1.1 in the order in which Windows
// prints them.
var rightNames = []name[Mask]{
	{"CC", CreateChild}, {"DC", DeleteChild}, {"LC", ListContents}, {"SW", SelfWrite},
	{"RP", ReadProperty}, {"WP", WriteProperty}, {"DT", DeleteTree}, {"LO", ListObject}, {"CR", ControlAccess},
	{"SD", Delete}, {"RC", ReadControl}, {"WD", WriteDAC}, {"WO", WriteOwner},
	{"GA", GenericAll}, {"GX", GenericExecute}, {"GW", GenericWrite}, {"GR", GenericRead},
}

// fileRightNames are printed where a mask is just one of them; read they may be
// combined.
var fileRightNames = []name[Mask]{
	{"FA", 0x1f01ff}, {"FR", 0x120089}, {"FW", 0x120116}, {"FX", 0x1200a0},
}

// keyRightNames are read only: their bits print as rightNames.
var keyRightNames = []name[Mask]{
	{"KA", 0xf003f}, {"KR", 0x20019}, {"KW", 0x20006}, {"KX", 0x20019},
}

// labelRightNames are the policies of a mandatory label.
var labelRightNames = []name[Mask]{{"NW", 1}, {"NR", 2}, {"NX", 4}}

var aceFlagNames = []name[ACEFlags]{
	{"OI", ObjectInherit}, {"CI", ContainerInherit}, {"NP", NoPropagateInherit}, {"IO", InheritOnly},
	{"ID", Inherited}, {"CR", Critical}, {"SA", AuditSuccess}, {"FA", AuditFailure},
}

var daclFlagNames = []name[Control]{{"P", DACLProtected}, {"AR", DACLInheritReq}, {"AI", DACLAutoInherited}}
var saclFlagNames = []name[Control]{{"P", SACLProtected}, {"AR", SACLInheritReq}, {"AI", SACLAutoInherited}}

// aceTypeNames are the kinds of entries that SDDL has a name for.
var aceTypeNames = []struct {
	text string
	kind ACEType
}{
	{"A", Allow}, {"D", Deny}, {"AU", Audit}, {"AL", Alarm},
	{"OA", AllowObject}, {"OD", DenyObject}, {"OU", AuditObject}, {"OL", AlarmObject},
	{"XA", AllowCallback}, {"XD", DenyCallback}, {"ZA", AllowCallbackObject}, {"XU", AuditCallback},
	{"ML", MandatoryLabel}, {"RA", ResourceAttribute}, {"SP", ScopedPolicyID},
}

// nullACL is how SDDL writes a list that is present and null.
const nullACL = "NO_ACCESS_CONTROL"

// scope says what an alias is relative to.
type scope uint8

const (
	universal scope = iota // the SID itself
	domainRID              // a RID in the domain
	rootRID                // a RID in the forest's root domain
	integrity              // a mandatory label
)

// sidAlias is a two-letter name for a SID, [MS-DTYP] 2.5.1.1 (sid-token).
type sidAlias struct {
	text  string
	scope scope
	sid   dtyp.SID // universal
	rid   uint32   // otherwise
}

var sidAliases = []sidAlias{
	{text: "WD", sid: dtyp.Everyone},
	{text: "CO", sid: dtyp.CreatorOwner},
	{text: "CG", sid: dtyp.CreatorGroup},
	{text: "OW", sid: dtyp.OwnerRights},
	{text: "NU", sid: dtyp.Network},
	{text: "IU", sid: dtyp.Interactive},
	{text: "SU", sid: dtyp.Service},
	{text: "AN", sid: dtyp.Anonymous},
	{text: "ED", sid: dtyp.EnterpriseDomainControllers},
	{text: "PS", sid: dtyp.PrincipalSelf},
	{text: "AU", sid: dtyp.AuthenticatedUsers},
	{text: "RC", sid: dtyp.RestrictedCode},
	{text: "WR", sid: dtyp.WriteRestrictedCode},
	{text: "SY", sid: dtyp.LocalSystem},
	{text: "LS", sid: dtyp.LocalService},
	{text: "NS", sid: dtyp.NetworkService},
	{text: "AC", sid: dtyp.AllAppPackages},
	{text: "AS", sid: dtyp.AuthenticationAuthorityAsserted},
	{text: "SS", sid: dtyp.ServiceAsserted},
	{text: "UD", sid: dtyp.NewSID(dtyp.AuthorityNT, 84, 0, 0, 0, 0, 0)},
	{text: "BA", sid: dtyp.BuiltinAdministrators},
	{text: "BU", sid: dtyp.BuiltinUsers},
	{text: "BG", sid: dtyp.BuiltinGuests},
	{text: "PU", sid: dtyp.BuiltinPowerUsers},
	{text: "AO", sid: dtyp.BuiltinAccountOperators},
	{text: "SO", sid: dtyp.BuiltinServerOperators},
	{text: "PO", sid: dtyp.BuiltinPrintOperators},
	{text: "BO", sid: dtyp.BuiltinBackupOperators},
	{text: "RE", sid: dtyp.BuiltinReplicator},
	{text: "RU", sid: dtyp.BuiltinPreWindows2000},
	{text: "RD", sid: dtyp.BuiltinRemoteDesktopUsers},
	{text: "NO", sid: dtyp.BuiltinNetworkConfigOperators},
	{text: "MU", sid: dtyp.BuiltinPerfMonitorUsers},
	{text: "LU", sid: dtyp.BuiltinPerfLogUsers},
	{text: "IS", sid: dtyp.BuiltinIISUsers},
	{text: "CY", sid: dtyp.BuiltinCryptographicOperators},
	{text: "ER", sid: dtyp.BuiltinEventLogReaders},
	{text: "CD", sid: dtyp.BuiltinCertificateDCOMAccess},
	{text: "RA", sid: dtyp.BuiltinRDSRemoteAccess},
	{text: "ES", sid: dtyp.BuiltinRDSEndpoint},
	{text: "MS", sid: dtyp.BuiltinRDSManagement},
	{text: "HA", sid: dtyp.BuiltinHyperVAdministrators},
	{text: "AA", sid: dtyp.BuiltinAccessControlAssistance},
	{text: "RM", sid: dtyp.BuiltinRemoteManagementUsers},
	{text: "LA", scope: domainRID, rid: dtyp.RIDAdministrator},
	{text: "LG", scope: domainRID, rid: dtyp.RIDGuest},
	{text: "DA", scope: domainRID, rid: dtyp.RIDDomainAdmins},
	{text: "DU", scope: domainRID, rid: dtyp.RIDDomainUsers},
	{text: "DG", scope: domainRID, rid: dtyp.RIDDomainGuests},
	{text: "DC", scope: domainRID, rid: dtyp.RIDDomainComputers},
	{text: "DD", scope: domainRID, rid: dtyp.RIDDomainControllers},
	{text: "CA", scope: domainRID, rid: dtyp.RIDCertPublishers},
	{text: "PA", scope: domainRID, rid: dtyp.RIDGroupPolicyCreators},
	{text: "CN", scope: domainRID, rid: dtyp.RIDCloneableDCs},
	{text: "AP", scope: domainRID, rid: dtyp.RIDProtectedUsers},
	{text: "KA", scope: domainRID, rid: dtyp.RIDKeyAdmins},
	{text: "RS", scope: domainRID, rid: dtyp.RIDRASServers},
	{text: "SA", scope: rootRID, rid: dtyp.RIDSchemaAdmins},
	{text: "EA", scope: rootRID, rid: dtyp.RIDEnterpriseAdmins},
	{text: "EK", scope: rootRID, rid: dtyp.RIDEnterpriseKeyAdmins},
	{text: "RO", scope: rootRID, rid: dtyp.RIDEnterpriseReadOnlyDCs},
	{text: "LW", scope: integrity, rid: 4096},
	{text: "ME", scope: integrity, rid: 8192},
	{text: "MP", scope: integrity, rid: 8448},
	{text: "HI", scope: integrity, rid: 12288},
	{text: "SI", scope: integrity, rid: 16384},
}

// resolve is the SID that the alias stands for; the zero SID when it needs a
// domain that the caller did not give.
func (a sidAlias) resolve(domain, root dtyp.SID) dtyp.SID {
	switch {
	case a.scope == universal:
		return a.sid
	case a.scope == domainRID && !domain.IsZero():
		return domain.Child(a.rid)
	case a.scope == rootRID && !root.IsZero():
		return root.Child(a.rid)
	case a.scope == integrity:
		return dtyp.NewSID(dtyp.AuthorityMandatoryLabel, a.rid)
	}
	return dtyp.SID{}
}

// formatBits writes the names of the bits of v; ok is false when some bit has
// no name.
func formatBits[T ~uint8 | ~uint16 | ~uint32](v T, names []name[T]) (s string, ok bool) {
	var b strings.Builder
	for _, n := range names {
		if v&n.bits == n.bits {
			b.WriteString(n.text)
			v &^= n.bits
		}
	}
	return b.String(), v == 0
}

// parseBits reads a run of names.
func parseBits[T ~uint8 | ~uint16 | ~uint32](s string, names []name[T]) (v T, rest string) {
next:
	for s != "" {
		for _, n := range names {
			if tail, ok := strings.CutPrefix(s, n.text); ok {
				v |= n.bits
				s = tail
				continue next
			}
		}
		break
	}
	return v, s
}
