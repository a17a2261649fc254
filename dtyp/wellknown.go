package dtyp

// Identifier authorities, [MS-DTYP] 2.4.1.1.
const (
	AuthorityNull    = 0
	AuthorityWorld   = 1
	AuthorityLocal   = 2
	AuthorityCreator = 3
	AuthorityNT      = 5
	// AuthorityMandatoryLabel marks integrity levels.
	AuthorityMandatoryLabel = 16
	// AuthorityAuthentication marks how an identity was proved, S-1-18-x.
	AuthorityAuthentication = 18
)

const (
	ntBuiltin   = 32 // first sub-authority of S-1-5-32, BUILTIN
	ntNonUnique = 21 // first sub-authority of a domain's SID
)

// Well-known SIDs, [MS-DTYP] 2.4.2.4. Nothing assigns to these variables.
var (
	Null                        = NewSID(AuthorityNull, 0)
	Everyone                    = NewSID(AuthorityWorld, 0)
	Local                       = NewSID(AuthorityLocal, 0)
	ConsoleLogon                = NewSID(AuthorityLocal, 1)
	CreatorOwner                = NewSID(AuthorityCreator, 0)
	CreatorGroup                = NewSID(AuthorityCreator, 1)
	OwnerServer                 = NewSID(AuthorityCreator, 2)
	GroupServer                 = NewSID(AuthorityCreator, 3)
	OwnerRights                 = NewSID(AuthorityCreator, 4)
	Dialup                      = NewSID(AuthorityNT, 1)
	Network                     = NewSID(AuthorityNT, 2)
	Batch                       = NewSID(AuthorityNT, 3)
	Interactive                 = NewSID(AuthorityNT, 4)
	Service                     = NewSID(AuthorityNT, 6)
	Anonymous                   = NewSID(AuthorityNT, 7)
	Proxy                       = NewSID(AuthorityNT, 8)
	EnterpriseDomainControllers = NewSID(AuthorityNT, 9)
	PrincipalSelf               = NewSID(AuthorityNT, 10)
	AuthenticatedUsers          = NewSID(AuthorityNT, 11)
	RestrictedCode              = NewSID(AuthorityNT, 12)
	TerminalServerUser          = NewSID(AuthorityNT, 13)
	RemoteInteractiveLogon      = NewSID(AuthorityNT, 14)
	ThisOrganization            = NewSID(AuthorityNT, 15)
	IUSR                        = NewSID(AuthorityNT, 17)
	LocalSystem                 = NewSID(AuthorityNT, 18)
	LocalService                = NewSID(AuthorityNT, 19)
	NetworkService              = NewSID(AuthorityNT, 20)
	WriteRestrictedCode         = NewSID(AuthorityNT, 33)
	NTLMAuthentication          = NewSID(AuthorityNT, 64, 10)
	SChannelAuthentication      = NewSID(AuthorityNT, 64, 14)
	DigestAuthentication        = NewSID(AuthorityNT, 64, 21)
	OtherOrganization           = NewSID(AuthorityNT, 1000)
	AllAppPackages              = NewSID(15, 2, 1)
	// AuthenticationAuthorityAsserted is put into a PAC when the client proved
	// a key, ServiceAsserted when a service vouched for it (S4U2Self).
	AuthenticationAuthorityAsserted = NewSID(AuthorityAuthentication, 1)
	ServiceAsserted                 = NewSID(AuthorityAuthentication, 2)
	FreshPublicKeyIdentity          = NewSID(AuthorityAuthentication, 3)
	KeyTrustIdentity                = NewSID(AuthorityAuthentication, 4)

	// Builtin is the domain BUILTIN; its children are the aliases below.
	Builtin                        = NewSID(AuthorityNT, ntBuiltin)
	BuiltinAdministrators          = Builtin.Child(RIDAliasAdministrators)
	BuiltinUsers                   = Builtin.Child(RIDAliasUsers)
	BuiltinGuests                  = Builtin.Child(RIDAliasGuests)
	BuiltinPowerUsers              = Builtin.Child(547)
	BuiltinAccountOperators        = Builtin.Child(RIDAliasAccountOperators)
	BuiltinServerOperators         = Builtin.Child(RIDAliasServerOperators)
	BuiltinPrintOperators          = Builtin.Child(RIDAliasPrintOperators)
	BuiltinBackupOperators         = Builtin.Child(RIDAliasBackupOperators)
	BuiltinReplicator              = Builtin.Child(RIDAliasReplicator)
	BuiltinPreWindows2000          = Builtin.Child(RIDAliasPreWindows2000)
	BuiltinRemoteDesktopUsers      = Builtin.Child(555)
	BuiltinNetworkConfigOperators  = Builtin.Child(556)
	BuiltinIncomingTrustBuilders   = Builtin.Child(557)
	BuiltinPerfMonitorUsers        = Builtin.Child(558)
	BuiltinPerfLogUsers            = Builtin.Child(559)
	BuiltinWindowsAuthorization    = Builtin.Child(560)
	BuiltinTerminalServerLicense   = Builtin.Child(561)
	BuiltinDistributedCOMUsers     = Builtin.Child(562)
	BuiltinIISUsers                = Builtin.Child(568)
	BuiltinCryptographicOperators  = Builtin.Child(569)
	BuiltinEventLogReaders         = Builtin.Child(573)
	BuiltinCertificateDCOMAccess   = Builtin.Child(574)
	BuiltinRDSRemoteAccess         = Builtin.Child(575)
	BuiltinRDSEndpoint             = Builtin.Child(576)
	BuiltinRDSManagement           = Builtin.Child(577)
	BuiltinHyperVAdministrators    = Builtin.Child(578)
	BuiltinAccessControlAssistance = Builtin.Child(579)
	BuiltinRemoteManagementUsers   = Builtin.Child(580)
	BuiltinStorageReplicaAdmins    = Builtin.Child(582)
)

// Relative identifiers of a domain's own accounts and groups, [MS-DTYP]
// 2.4.2.4 and [MS-ADTS] 6.1.1.6: children of the domain's SID.
const (
	RIDAdministrator           = 500
	RIDGuest                   = 501
	RIDKrbtgt                  = 502
	RIDEnterpriseReadOnlyDCs   = 498 // of the root domain
	RIDDomainAdmins            = 512
	RIDDomainUsers             = 513
	RIDDomainGuests            = 514
	RIDDomainComputers         = 515
	RIDDomainControllers       = 516
	RIDCertPublishers          = 517
	RIDSchemaAdmins            = 518 // of the root domain
	RIDEnterpriseAdmins        = 519 // of the root domain
	RIDGroupPolicyCreators     = 520
	RIDReadOnlyDCs             = 521
	RIDCloneableDCs            = 522
	RIDProtectedUsers          = 525
	RIDKeyAdmins               = 526
	RIDEnterpriseKeyAdmins     = 527 // of the root domain
	RIDRASServers              = 553
	RIDAllowedPasswordReplicas = 571
	RIDDeniedPasswordReplicas  = 572
	// RIDFirstAllocated is the first RID that a domain gives to an account
	// that is not well known.
	RIDFirstAllocated = 1000
)

// Relative identifiers of aliases in the domain BUILTIN.
const (
	RIDAliasAdministrators   = 544
	RIDAliasUsers            = 545
	RIDAliasGuests           = 546
	RIDAliasAccountOperators = 548
	RIDAliasServerOperators  = 549
	RIDAliasPrintOperators   = 550
	RIDAliasBackupOperators  = 551
	RIDAliasReplicator       = 552
	RIDAliasPreWindows2000   = 554
)
