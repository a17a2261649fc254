package adproto

// Matching rules of Active Directory: [MS-ADTS] 3.1.1.3.4.4.
const (
	RuleBitAnd  = "1.2.840.113556.1.4.803"  // all bits of the value are set
	RuleBitOr   = "1.2.840.113556.1.4.804"  // any bit of the value is set
	RuleInChain = "1.2.840.113556.1.4.1941" // the link, followed transitively
)

// Extended operations: RFC 4511, Section 4.14; RFC 4532.
const (
	OIDStartTLS            = "1.3.6.1.4.1.1466.20037"
	OIDWhoAmI              = "1.3.6.1.4.1.4203.1.11.3"
	OIDNoticeDisconnection = "1.3.6.1.4.1.1466.20036" // sent by the server alone
)

// Controls: [MS-ADTS] 3.1.1.3.4.1, RFC 2696, RFC 2891, RFC 3296.
const (
	ControlPaged            = "1.2.840.113556.1.4.319"
	ControlSort             = "1.2.840.113556.1.4.473"
	ControlSortResponse     = "1.2.840.113556.1.4.474"
	ControlShowDeleted      = "1.2.840.113556.1.4.417"
	ControlShowRecycled     = "1.2.840.113556.1.4.2064"
	ControlDeactivatedLinks = "1.2.840.113556.1.4.2065"
	ControlExtendedDN       = "1.2.840.113556.1.4.529"
	ControlLazyCommit       = "1.2.840.113556.1.4.619"
	ControlSDFlags          = "1.2.840.113556.1.4.801"
	ControlTreeDelete       = "1.2.840.113556.1.4.805"
	ControlPermissiveModify = "1.2.840.113556.1.4.1413"
	ControlDomainScope      = "1.2.840.113556.1.4.1339"
	ControlManageDsaIT      = "2.16.840.1.113730.3.4.2"
)

// Capabilities of the rootDSE: [MS-ADTS] 3.1.1.3.4.3.
const (
	CapabilityAD       = "1.2.840.113556.1.4.800"  // LDAP_CAP_ACTIVE_DIRECTORY_OID
	CapabilityLDAPInt  = "1.2.840.113556.1.4.1791" // LDAP_CAP_ACTIVE_DIRECTORY_LDAP_INTEG_OID
	CapabilityV51      = "1.2.840.113556.1.4.1670" // Windows Server 2003 and later
	CapabilityV60      = "1.2.840.113556.1.4.1935" // Windows Server 2008 and later
	CapabilityV61R2    = "1.2.840.113556.1.4.2080" // Windows Server 2008 R2 and later
	CapabilityReadOnly = "1.2.840.113556.1.4.1920" // a read-only controller
)

// SDFlags select the parts of a security descriptor that a search returns:
// [MS-ADTS] 3.1.1.3.4.1.11.
const (
	SDOwner = 1
	SDGroup = 2
	SDDACL  = 4
	SDSACL  = 8
)
