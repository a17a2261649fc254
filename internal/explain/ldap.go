package explain

// ldapCode is a result code of LDAP.
type ldapCode struct {
	code          uint16
	name, meaning string
}

// ldapCodes are those of RFC 4511, Section 4.1.9, with its names.
var ldapCodes = []ldapCode{
	{0, "success", "done"},
	{1, "operationsError", "the server could not do it, or not in this order"},
	{2, "protocolError", "the server does not understand the request"},
	{3, "timeLimitExceeded", "the search took longer than it may"},
	{4, "sizeLimitExceeded", "there are more entries than one answer may have"},
	{5, "compareFalse", "the compared value is another"},
	{6, "compareTrue", "the compared value is the same"},
	{7, "authMethodNotSupported", "the server does not know the way to log on"},
	{8, "strongerAuthRequired", "the server wants a signed, sealed or TLS connection"},
	{10, "referral", "another server has the entry"},
	{11, "adminLimitExceeded", "a limit of the server is reached"},
	{12, "unavailableCriticalExtension", "the server does not know a control that the request depends on"},
	{13, "confidentialityRequired", "the server wants an encrypted connection"},
	{14, "saslBindInProgress", "the logon goes on: not an error"},
	{16, "noSuchAttribute", "the entry does not have the attribute or value"},
	{17, "undefinedAttributeType", "the schema does not have the attribute"},
	{18, "inappropriateMatching", "the attribute cannot be compared in this way"},
	{19, "constraintViolation", "the value breaks a rule of the attribute"},
	{20, "attributeOrValueExists", "the attribute has the value already"},
	{21, "invalidAttributeSyntax", "the value is not of the attribute's form"},
	{32, "noSuchObject", "there is no such entry, or the caller may not see it"},
	{33, "aliasProblem", "an alias leads nowhere"},
	{34, "invalidDNSyntax", "the distinguished name is malformed"},
	{36, "aliasDereferencingProblem", "an alias may not be followed"},
	{48, "inappropriateAuthentication", "this account cannot log on in this way"},
	{49, "invalidCredentials", "the server refuses the logon"},
	{50, "insufficientAccessRights", "the caller may not do that"},
	{51, "busy", "the server is busy: ask again later"},
	{52, "unavailable", "the server is going down or not yet up"},
	{53, "unwillingToPerform", "the server refuses on principle"},
	{54, "loopDetected", "references go in a circle"},
	{64, "namingViolation", "no entry may have this name at this place"},
	{65, "objectClassViolation", "the entry would lack what its class requires, or have what it forbids"},
	{66, "notAllowedOnNonLeaf", "the entry has entries below it"},
	{67, "notAllowedOnRDN", "the value is part of the entry's name"},
	{68, "entryAlreadyExists", "there is an entry of this name"},
	{69, "objectClassModsProhibited", "the class of an entry cannot be changed so"},
	{71, "affectsMultipleDSAs", "the change would concern several servers"},
	{80, "other", "an error without a code of its own"},
}

// ldapAdvice is why a directory answers so where gMSAs are administered and read.
var ldapAdvice = map[uint16]advice{
	1: {
		cause: "with 0000202D: msDS-ManagedPassword was read over a connection that is not sealed; with 000004DC: nobody had logged on",
		next:  []string{testAccount, "gmsa doctor --domain DOMAIN"},
	},
	0:  {cause: "nothing is wrong"},
	3:  {cause: "the filter finds too much, or asks for what has no index", next: []string{"gmsa object find FILTER --limit 100"}},
	4:  {cause: "the directory answers with 1000 entries at most unless it is asked page by page", next: []string{"gmsa object find FILTER --limit 5000"}},
	7:  {cause: "GSSAPI or GSS-SPNEGO is switched off, or a proxy answers in the controller's place", next: []string{"gmsa doctor --domain DOMAIN"}},
	8:  {cause: "the domain's policy wants signing, and another program bound without it; OpenGMSA seals or uses TLS", next: []string{verifyDomain}},
	10: {cause: "the account or host is of another domain of the forest", next: []string{"gmsa object find FILTER --domain OTHER-DOMAIN"}},
	11: {cause: "the search or the attribute is too large, or too many are connected", next: []string{"gmsa object find FILTER --limit 100"}},
	12: {cause: "the controller is older than the request, or is none of a domain", next: []string{"gmsa doctor --domain DOMAIN"}},
	13: {cause: "the directory wants TLS or sealing for this request", next: []string{"gmsa doctor --domain DOMAIN"}},
	16: {cause: "what is to be removed is not there", next: []string{showAccount}},
	17: {cause: "the attribute's name is misspelt, or the schema is older than Windows Server 2012", next: []string{"gmsa doctor --domain DOMAIN"}},
	19: {cause: "the value is not unique, out of range, or may not be written; the code in front of the message says which", next: []string{duplicateSPNs, showAccount}},
	20: {cause: "it was done before", next: []string{showAccount}},
	21: {cause: "a name, number or SID is malformed", next: []string{showAccount}},
	32: {cause: "the name is misspelt, the entry lies elsewhere, or the caller may not read it", next: []string{"gmsa account list", "gmsa object find '(sAMAccountName=ACCOUNT*)'"}},
	34: {cause: "a comma or quote in a name is not escaped, or the domain's part is missing", next: []string{"gmsa account list"}},
	48: {cause: "a managed account has no password to type: it logs on by Kerberos", next: []string{"gmsa run --account ACCOUNT -- COMMAND"}},
	49: {
		cause: "a wrong password or key, or an account that may not log on; the number behind \"data\" says which",
		next:  []string{"gmsa explain --kind ad CODE", testAccount, doctorAccount},
	},
	50: {
		cause: "the caller lacks the right: to create accounts in the container, to write the attribute, or to set principals",
		next:  []string{"gmsa account create ACCOUNT -U ADMINISTRATOR@DOMAIN"},
	},
	51: {cause: "the controller is overloaded", next: []string{"gmsa doctor --domain DOMAIN"}},
	52: {cause: "the controller is starting or stopping", next: []string{verifyDomain}},
	53: {
		cause: "a rule of the controller: a password without encryption, an attribute that only it sets, a controller that is read-only",
		next:  []string{"gmsa doctor --domain DOMAIN"},
	},
	64: {cause: "the container does not take entries of this kind, or the name lacks CN=", next: []string{"gmsa account list"}},
	65: {cause: "the schema is older than the attribute: gMSAs need that of Windows Server 2012", next: []string{"gmsa doctor --domain DOMAIN"}},
	66: {cause: "the object has children, such as a computer's service connection points", next: []string{"gmsa object find '(objectClass=*)' --base DN"}},
	67: {cause: "a name is changed by renaming, not by writing cn", next: []string{showAccount}},
	68: {cause: "an account of this name exists, perhaps in another container", next: []string{"gmsa object find '(sAMAccountName=ACCOUNT*)'"}},
	69: {cause: "an account of another kind is to become a gMSA: make a new one", next: []string{"gmsa account create ACCOUNT"}},
	80: {cause: "the controller failed for a reason of its own: its log says more", next: []string{"gmsa doctor --domain DOMAIN"}},
}
