package pac

import (
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
)

// LogonInfo is KERB_VALIDATION_INFO, [MS-PAC] 2.5: the account and its groups.
// Moments that never come are [dtyp.Never], those that never were are 0.
type LogonInfo struct {
	LogonTime, LogoffTime, KickOffTime                     dtyp.Filetime
	PasswordLastSet, PasswordCanChange, PasswordMustChange dtyp.Filetime

	EffectiveName, FullName, LogonScript           string
	ProfilePath, HomeDirectory, HomeDirectoryDrive string

	LogonCount, BadPasswordCount uint16
	// UserID and PrimaryGroupID are relative to LogonDomainID, as are the Groups.
	UserID, PrimaryGroupID uint32
	Groups                 []Group
	UserFlags              UserFlags
	UserSessionKey         [16]byte // 0 in Kerberos
	LogonServer            string   // NetBIOS name of the controller
	LogonDomainName        string   // NetBIOS name
	LogonDomainID          dtyp.SID

	UserAccountControl uint32 // SAM's flags, [MS-SAMR] 2.2.1.12, not those of LDAP
	SubAuthStatus      uint32
	// The interactive logons that the domain has counted, if it does.
	LastSuccessfulLogon, LastFailedLogon dtyp.Filetime
	FailedLogonCount                     uint32

	// ExtraSIDs are groups of other domains and well-known SIDs; UserFlags must
	// have ExtraSIDsPresent.
	ExtraSIDs []SIDAttributes
	// ResourceGroups are domain-local groups of the server's domain, relative to
	// ResourceGroupDomain; UserFlags must have ResourceGroupsPresent.
	ResourceGroupDomain dtyp.SID
	ResourceGroups      []Group
}

// Group is GROUP_MEMBERSHIP, [MS-PAC] 2.2.2.
type Group struct {
	RID        uint32
	Attributes GroupAttributes
}

// SIDAttributes is KERB_SID_AND_ATTRIBUTES, [MS-PAC] 2.2.1.
type SIDAttributes struct {
	SID        dtyp.SID
	Attributes GroupAttributes
}

// GroupAttributes say what a membership counts for: [MS-PAC] 2.2.1.
type GroupAttributes uint32

// The attributes of a membership.
const (
	GroupMandatory        GroupAttributes = 1 << 0
	GroupEnabledByDefault GroupAttributes = 1 << 1
	GroupEnabled          GroupAttributes = 1 << 2
	GroupResource         GroupAttributes = 1 << 29 // domain-local

	// GroupDefault is what a controller gives to an ordinary membership.
	GroupDefault = GroupMandatory | GroupEnabledByDefault | GroupEnabled
)

// UserFlags say which optional parts of a [LogonInfo] count: [MS-PAC] 2.5.
type UserFlags uint32

// The flags that Kerberos uses.
const (
	ExtraSIDsPresent      UserFlags = 0x20
	ResourceGroupsPresent UserFlags = 0x200
)

// UserSID is the account's SID. It is zero if UserID is 0: then the account is the
// first of the ExtraSIDs.
func (l LogonInfo) UserSID() dtyp.SID {
	if l.UserID == 0 {
		return dtyp.SID{}
	}
	return l.LogonDomainID.Child(l.UserID)
}

// SIDs are all SIDs that stand for the account in an access check, its own first,
// [MS-PAC] 4.1.2.2; well-known ones that every logon has are not among them.
func (l LogonInfo) SIDs() []dtyp.SID {
	sids := make([]dtyp.SID, 0, 1+len(l.Groups)+len(l.ExtraSIDs)+len(l.ResourceGroups))
	if sid := l.UserSID(); !sid.IsZero() {
		sids = append(sids, sid)
	}
	for _, g := range l.Groups {
		sids = append(sids, l.LogonDomainID.Child(g.RID))
	}
	if l.UserFlags&ExtraSIDsPresent != 0 {
		for _, s := range l.ExtraSIDs {
			sids = append(sids, s.SID)
		}
	}
	if l.UserFlags&ResourceGroupsPresent != 0 {
		for _, g := range l.ResourceGroups {
			sids = append(sids, l.ResourceGroupDomain.Child(g.RID))
		}
	}
	return sids
}

// LogonInfo opens that buffer.
func (p PAC) LogonInfo() (LogonInfo, error) { return open(p, TypeLogonInfo, ParseLogonInfo) }

// ParseLogonInfo reads a LOGON_INFO buffer that fills b exactly.
func ParseLogonInfo(b []byte) (LogonInfo, error) {
	l, err := parseLogonInfo(b)
	if err != nil {
		return LogonInfo{}, malformed(TypeLogonInfo, err)
	}
	return l, nil
}

func parseLogonInfo(b []byte) (LogonInfo, error) {
	if len(b) > MaxSize {
		return LogonInfo{}, fmt.Errorf("%d bytes, want at most %d", len(b), MaxSize)
	}
	r := newReader("KERB_VALIDATION_INFO", b)
	r.header()
	var l LogonInfo
	for _, t := range l.times() {
		*t = r.filetime("time")
	}
	var names [6]stringHeader
	for i := range names {
		names[i] = r.stringHeader("name")
	}
	l.LogonCount, l.BadPasswordCount = r.Uint16("LogonCount"), r.Uint16("BadPasswordCount")
	l.UserID, l.PrimaryGroupID = r.Uint32("UserId"), r.Uint32("PrimaryGroupId")
	groups := r.arrayHeader("GroupIds")
	l.UserFlags = UserFlags(r.Uint32("UserFlags"))
	copy(l.UserSessionKey[:], r.Bytes("UserSessionKey", len(l.UserSessionKey)))
	server, domain := r.stringHeader("LogonServer"), r.stringHeader("LogonDomainName")
	domainID := r.pointer("LogonDomainId")
	r.Bytes("Reserved1", 8) // ignored on receipt
	l.UserAccountControl, l.SubAuthStatus = r.Uint32("UserAccountControl"), r.Uint32("SubAuthStatus")
	l.LastSuccessfulLogon, l.LastFailedLogon = r.filetime("LastSuccessfulILogon"), r.filetime("LastFailedILogon")
	l.FailedLogonCount = r.Uint32("FailedILogonCount")
	r.Bytes("Reserved3", 4) // ignored on receipt
	extra := r.arrayHeader("ExtraSids")
	resourceDomain := r.pointer("ResourceGroupDomainSid")
	resources := r.arrayHeader("ResourceGroupIds")

	for i, s := range l.names() {
		*s = r.string("name", names[i])
	}
	l.Groups = r.groups("GroupIds", groups)
	l.LogonServer, l.LogonDomainName = r.string("LogonServer", server), r.string("LogonDomainName", domain)
	l.LogonDomainID = r.sid("LogonDomainId", domainID)
	l.ExtraSIDs = r.sids("ExtraSids", extra)
	l.ResourceGroupDomain = r.sid("ResourceGroupDomainSid", resourceDomain)
	l.ResourceGroups = r.groups("ResourceGroupIds", resources)
	r.end()
	if err := r.Err(); err != nil {
		return LogonInfo{}, err
	}
	return l, l.check()
}

// check refuses what has no SIDs where it needs some.
func (l *LogonInfo) check() error {
	if !fitsRIDs(l.LogonDomainID, 1) {
		return fmt.Errorf("field LogonDomainId: got %q, want the SID of a domain", l.LogonDomainID)
	}
	if !fitsRIDs(l.ResourceGroupDomain, len(l.ResourceGroups)) {
		return fmt.Errorf("field ResourceGroupDomainSid: got %q, want the SID of a domain", l.ResourceGroupDomain)
	}
	return nil
}

// fitsRIDs says whether n relative identifiers can be put behind a SID.
func fitsRIDs(domain dtyp.SID, n int) bool {
	return n == 0 || !domain.IsZero() && len(domain.SubAuthorities()) < dtyp.MaxSubAuthorities
}

// times are the moments at the head of the structure, in its order.
func (l *LogonInfo) times() [6]*dtyp.Filetime {
	return [6]*dtyp.Filetime{&l.LogonTime, &l.LogoffTime, &l.KickOffTime,
		&l.PasswordLastSet, &l.PasswordCanChange, &l.PasswordMustChange}
}

// names are the six strings that follow them.
func (l *LogonInfo) names() [6]*string {
	return [6]*string{&l.EffectiveName, &l.FullName, &l.LogonScript,
		&l.ProfilePath, &l.HomeDirectory, &l.HomeDirectoryDrive}
}

// Append appends the buffer's bytes. Names are at most 32,766 UTF-16 units long;
// what is longer is cut there.
func (l LogonInfo) Append(dst []byte) []byte {
	w := newWriter(dst)
	for _, t := range l.times() {
		w.filetime(*t)
	}
	var names [6][]uint16
	for i, s := range l.names() {
		names[i] = units(*s)
		w.stringHeader(names[i], 0)
	}
	w.uint16(l.LogonCount)
	w.uint16(l.BadPasswordCount)
	w.uint32(l.UserID)
	w.uint32(l.PrimaryGroupID)
	w.arrayHeader(len(l.Groups))
	w.uint32(uint32(l.UserFlags))
	w.bytes(l.UserSessionKey[:])
	server, domain := units(l.LogonServer), units(l.LogonDomainName)
	w.stringHeader(server, 1)
	w.stringHeader(domain, 1)
	w.pointer(!l.LogonDomainID.IsZero())
	w.bytes(make([]byte, 8)) // Reserved1
	w.uint32(l.UserAccountControl)
	w.uint32(l.SubAuthStatus)
	w.filetime(l.LastSuccessfulLogon)
	w.filetime(l.LastFailedLogon)
	w.uint32(l.FailedLogonCount)
	w.uint32(0) // Reserved3
	w.arrayHeader(len(l.ExtraSIDs))
	w.pointer(!l.ResourceGroupDomain.IsZero())
	w.arrayHeader(len(l.ResourceGroups))

	for _, n := range names {
		w.string(n, 0)
	}
	w.groups(l.Groups)
	w.string(server, 1)
	w.string(domain, 1)
	w.sid(l.LogonDomainID)
	w.sids(l.ExtraSIDs)
	w.sid(l.ResourceGroupDomain)
	w.groups(l.ResourceGroups)
	return w.finish()
}
