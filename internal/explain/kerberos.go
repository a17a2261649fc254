package explain

import (
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
)

// What is done in several of the cases below.
const (
	doctorAccount = "gmsa doctor ACCOUNT"
	testAccount   = "gmsa account test ACCOUNT"
	showAccount   = "gmsa account show ACCOUNT"
	verifyDomain  = "gmsa verify DOMAIN"
	agentStatus   = "gmsa agent status"
	enableAccount = "gmsa account set ACCOUNT --enable"
	joinAgain     = "gmsa computer join -U ADMINISTRATOR@DOMAIN"
	duplicateSPNs = "gmsa spn duplicates"
	setTime       = "chronyc makestep"
)

// kerberosAdvice is why a KDC or a service answers so where gMSAs are used.
var kerberosAdvice = map[krb5.ErrorCode]advice{
	krb5.ErrNameExpired: {
		cause: "accountExpires of the account has passed",
		next:  []string{showAccount, "gmsa account set ACCOUNT --clear accountExpires"},
	},
	krb5.ErrServiceExpired: {
		cause: "accountExpires of the account that owns the service has passed",
		next:  []string{"gmsa account set ACCOUNT --clear accountExpires"},
	},
	krb5.ErrBadPVNO: {
		cause: "something else than a KDC answers at port 88, or a client of Kerberos 4 asks",
		next:  []string{"gmsa doctor --domain DOMAIN"},
	},
	krb5.ErrCannotPostdate: {
		cause: "a ticket for later was asked for, which Active Directory does not issue; or this host's clock is ahead",
		next:  []string{setTime},
	},
	krb5.ErrClientNotYet: {
		cause: "the account may log on from a later time on only",
		next:  []string{showAccount},
	},
	krb5.ErrClientUnknown: {
		cause: "the name is misspelt or lacks its $, the account was removed, or the controller that was asked does not have it yet",
		next:  []string{"gmsa object find '(sAMAccountName=ACCOUNT*)'", "gmsa account list"},
	},
	krb5.ErrServerUnknown: {
		cause: "no account has the service principal name that was asked for, two accounts have it, or its domain is another",
		next:  []string{"gmsa object find '(servicePrincipalName=SPN)' --attributes servicePrincipalName", "gmsa spn add ACCOUNT SPN", duplicateSPNs},
	},
	krb5.ErrNotUnique: {
		cause: "two accounts have the name: no ticket is issued until one gives it up",
		next:  []string{duplicateSPNs, "gmsa spn remove ACCOUNT SPN"},
	},
	krb5.ErrNullKey: {
		cause: "the account has no key: a managed account whose password was never made",
		next:  []string{doctorAccount, "gmsa kds list"},
	},
	krb5.ErrNeverValid: {
		cause: "the clock of this host is ahead or behind, or an account's logon hours end before the ticket would",
		next:  []string{setTime, doctorAccount},
	},
	krb5.ErrPolicy: {
		cause: "the account may log on from certain hosts or at certain hours only, is a protected user, or an authentication policy forbids it",
		next:  []string{showAccount, "gmsa object find '(sAMAccountName=ACCOUNT$)' --attributes '*'"},
	},
	krb5.ErrBadOption: {
		cause: "delegation that the account is not trusted for, or a ticket that cannot be renewed or forwarded",
		next:  []string{showAccount, "gmsa account delegate --to SERVICE-ACCOUNT"},
	},
	krb5.ErrETypeNoSupport: {
		cause: "the account and the client have no encryption type in common: msDS-SupportedEncryptionTypes lacks AES, or a policy of the host forbids what is left",
		next:  []string{"gmsa account set ACCOUNT --enctypes AES128,AES256", doctorAccount},
	},
	krb5.ErrPADataTypeNoSupport: {
		cause: "the KDC has no certificate for logons by certificate, or does not know the kind of pre-authentication",
		next:  []string{doctorAccount},
	},
	krb5.ErrClientRevoked: {
		cause: "the account is disabled, expired, locked out, or outside its logon hours; the NTSTATUS beside the code says which",
		next:  []string{showAccount, enableAccount},
	},
	krb5.ErrServiceRevoked: {
		cause: "the account that owns the service is disabled",
		next:  []string{enableAccount},
	},
	krb5.ErrTGTRevoked: {
		cause: "the account was changed or disabled after the ticket was issued, or the keys of krbtgt were changed twice",
		next:  []string{"gmsa klist get krbtgt", "gmsa agent reload"},
	},
	krb5.ErrKeyExpired: {
		cause: "the password has expired: of a portable account, since a gMSA's is changed ahead of its time",
		next:  []string{"gmsa events --id 6,8", doctorAccount},
	},
	krb5.ErrPreauthFailed: {
		cause: "the key is not the account's any more: a keytab older than the password, a host that was joined again, or a rollover that not every controller knows of",
		next:  []string{testAccount, doctorAccount, joinAgain},
	},
	krb5.ErrPreauthRequired: {
		cause: "the first answer of every logon, which the client meets with a second request: an error only where it is the last",
		next:  []string{"gmsa klist get krbtgt"},
	},
	krb5.ErrServiceUnavailable: {
		cause: "the KDC cannot reach what it needs, another controller or its own directory, or too many logons failed from this address",
		next:  []string{verifyDomain, "gmsa doctor --domain DOMAIN"},
	},
	krb5.ErrBadIntegrity: {
		cause: "the service does not have the key that the ticket is made for: an old keytab, or the name belongs to another account",
		next:  []string{duplicateSPNs, "gmsa spn list ACCOUNT", doctorAccount},
	},
	krb5.ErrTicketExpired: {
		cause: "nobody renews the ticket: the agent is not running, or the clocks differ",
		next:  []string{agentStatus, "gmsa klist", setTime},
	},
	krb5.ErrTicketNotYetValid: {
		cause: "the clock of the service is behind that of the controller",
		next:  []string{setTime, "gmsa doctor --domain DOMAIN"},
	},
	krb5.ErrRepeat: {
		cause: "the same request came twice: behind a load balancer that sends it again, or from somebody who recorded it",
		next:  []string{"gmsa klist"},
	},
	krb5.ErrNotUs: {
		cause: "the ticket is for another account than the service runs as",
		next:  []string{"gmsa spn list ACCOUNT", duplicateSPNs},
	},
	krb5.ErrBadMatch: {
		cause: "the ticket belongs to another client than the authenticator: a cache that two accounts write to",
		next:  []string{"gmsa klist"},
	},
	krb5.ErrSkew: {
		cause: "the clocks of this host and the controller differ by more than 5 minutes",
		next:  []string{setTime, "gmsa doctor --domain DOMAIN"},
	},
	krb5.ErrBadAddress: {
		cause: "the ticket is bound to another address: the host's behind a translation of addresses",
		next:  []string{"gmsa klist"},
	},
	krb5.ErrMessageType: {
		cause: "something else than Kerberos answers, or two programs share a connection",
		next:  []string{"gmsa doctor --domain DOMAIN"},
	},
	krb5.ErrBadOrder: {
		cause: "messages overtook each other, or were recorded and sent again",
		next:  []string{verifyDomain},
	},
	krb5.ErrInappropriateChecksum: {
		cause: "the request was signed in a way that the KDC does not take: a client that is old, or somebody in between",
		next:  []string{verifyDomain},
	},
	krb5.ErrModified: {
		cause: "the ticket was made for another key than the service has: the name that clients use belongs to another account, DNS leads to another host, or the keytab is old",
		next:  []string{duplicateSPNs, "gmsa spn list ACCOUNT", "gmsa doctor ACCOUNT --url http://NAME"},
	},
	krb5.ErrBadKeyVersion: {
		cause: "the password was changed and the service has the old keytab only",
		next:  []string{agentStatus, doctorAccount},
	},
	krb5.ErrNoKey: {
		cause: "the service's keytab has no key of this name or encryption type",
		next:  []string{"gmsa spn list ACCOUNT", agentStatus},
	},
	krb5.ErrResponseTooBig: {
		cause: "the ticket does not fit into a datagram: TCP port 88 is closed, or the client may not use it",
		next:  []string{"gmsa doctor --domain DOMAIN"},
	},
	krb5.ErrGeneric: {
		cause: "the KDC failed for a reason of its own: the text and the NTSTATUS beside the code say more, and its log",
		next:  []string{"gmsa doctor --domain DOMAIN", "gmsa dc audit"},
	},
	krb5.ErrFieldTooLong: {
		cause: "the ticket is too large for what carries it: an account in very many groups, or a request over UDP",
		next:  []string{"gmsa object find '(sAMAccountName=ACCOUNT$)' --attributes memberOf"},
	},
	krb5.ErrWrongRealm: {
		cause: "the account is of another domain of the forest",
		next:  []string{"gmsa verify OTHER-DOMAIN", doctorAccount},
	},
	krb5.ErrUser2UserRequired: {
		cause: "the service runs as a user without a service principal name",
		next:  []string{"gmsa spn add ACCOUNT SPN"},
	},
}

// libraryCode is a code of MIT Kerberos' own, not of the protocol.
type libraryCode struct {
	name string
	advice
}

// libraryCodes are those that are met where a gMSA is used, by their place in the error
// table krb5_err.et.
var libraryCodes = map[uint32]libraryCode{
	141: {"KRB5_CC_NOTFOUND", advice{
		meaning: "the credential cache has no ticket for this service", cause: "the cache has no ticket-granting ticket of the realm either",
		next: []string{"gmsa klist", "gmsa klist get SPN"},
	}},
	144: {"KRB5KRB_AP_WRONG_PRINC", advice{
		meaning: "the keytab has other principals than the one that was asked for", cause: "clients use a name that is none of the account's",
		next: []string{"gmsa spn list ACCOUNT", "gmsa spn add ACCOUNT SPN"},
	}},
	148: {"KRB5_KDCREP_SKEW", advice{
		meaning: "the clock of the KDC is too far from this host's", cause: "the clocks differ by more than 5 minutes",
		next: []string{setTime},
	}},
	150: {"KRB5_PROG_ETYPE_NOSUPP", advice{
		meaning: "the program does not know the encryption type", cause: "RC4 is all that the account has, and the program refuses it",
		next: []string{"gmsa account set ACCOUNT --enctypes AES128,AES256"},
	}},
	154: {"KRB5_REALM_UNKNOWN", advice{
		meaning: "no KDC of the realm is known", cause: "DNS has no SRV records for it, or KRB5_CONFIG names another file than the lease's krb5.conf",
		next: []string{"gmsa doctor --domain DOMAIN", "echo $KRB5_CONFIG"},
	}},
	156: {"KRB5_KDC_UNREACH", advice{
		meaning: "no KDC of the realm answers", cause: "port 88 is blocked, or the container's network does not lead to the controllers",
		next: []string{verifyDomain, "gmsa doctor --domain DOMAIN"},
	}},
	181: {"KRB5_KT_NOTFOUND", advice{
		meaning: "the keytab has no key of this name", cause: "the lease has no keytab, or the service asks for a name that the account does not have",
		next: []string{"gmsa lease list", "gmsa spn list ACCOUNT"},
	}},
	194: {"KRB5_FCC_PERM", advice{
		meaning: "the credential cache may not be read", cause: "the program runs as another user than the one that the lease belongs to",
		next: []string{"gmsa lease list", "gmsa doctor --lease ID"},
	}},
	195: {"KRB5_FCC_NOFILE", advice{
		meaning: "there is no credential cache", cause: "the container has no lease, or KRB5CCNAME was set to something else in its image",
		next: []string{"echo $KRB5CCNAME", "gmsa lease list", "gmsa lint Dockerfile"},
	}},
	210: {"KRB5_PREAUTH_FAILED", advice{
		meaning: "no kind of pre-authentication worked", cause: "the keytab has no key of a type that the KDC takes",
		next: []string{doctorAccount},
	}},
	217: {"KRB5_ERR_HOST_REALM_UNKNOWN", advice{
		meaning: "the realm of the host name is unknown", cause: "krb5.conf maps no realm to the name's domain",
		next: []string{"echo $KRB5_CONFIG"},
	}},
	220: {"KRB5_REALM_CANT_RESOLVE", advice{
		meaning: "the names of the KDCs have no address", cause: "the host's or container's name servers do not know the domain",
		next: []string{"gmsa doctor --domain DOMAIN"},
	}},
	224: {"KRB5_CONFIG_NODEFREALM", advice{
		meaning: "krb5.conf names no default realm", cause: "KRB5_CONFIG names another file than the lease's",
		next: []string{"echo $KRB5_CONFIG"},
	}},
	230: {"KRB5_KT_KVNONOTFOUND", advice{
		meaning: "the keytab has other versions of the key", cause: "the password was changed, and the service has read its keytab before that",
		next: []string{agentStatus, "gmsa lease list"},
	}},
	236: {"KRB5_NOPERM_ETYPE", advice{
		meaning: "krb5.conf or a policy forbids the encryption type", cause: "RC4 is all that the account has",
		next: []string{"gmsa account set ACCOUNT --enctypes AES128,AES256"},
	}},
}

// kpasswdAdvice is why a password could not be changed.
var kpasswdAdvice = map[kpasswd.ResultCode]advice{
	kpasswd.ResultSuccess: {cause: "nothing is wrong"},
	kpasswd.ResultMalformed: {
		cause: "client and controller do not understand each other", next: []string{verifyDomain},
	},
	kpasswd.ResultHardError: {
		cause: "the account is protected or does not exist; nobody can set the password of a gMSA", next: []string{showAccount},
	},
	kpasswd.ResultAuthError: {
		cause: "the ticket is older than the password, or the clocks differ", next: []string{"gmsa klist get krbtgt"},
	},
	kpasswd.ResultSoftError: {
		cause: "the password is too short, too simple, too young, or was used before", next: []string{"gmsa object find '(objectClass=domain)' --attributes minPwdLength,minPwdAge,pwdHistoryLength"},
	},
	kpasswd.ResultAccessDenied: {
		cause: "the caller lacks the right to reset this password", next: []string{"gmsa computer show NAME"},
	},
	kpasswd.ResultBadVersion: {
		cause: "the server does not know how to set the password of others (RFC 3244)", next: []string{verifyDomain},
	},
	kpasswd.ResultInitialFlagNeeded: {
		cause: "one's own password is changed with a ticket that the password itself gave", next: []string{"gmsa klist get krbtgt"},
	},
}

// phrases are the words that MIT Kerberos and Heimdal have for codes: all that most
// programs show of them. In lower case.
var phrases = []struct {
	text string
	ref  ref
}{
	{"client not found in kerberos database", ref{Kerberos, 6}},
	{"not found in kerberos database", ref{Kerberos, 7}},
	{"kdc policy rejects request", ref{Kerberos, 12}},
	{"kdc can't fulfill requested option", ref{Kerberos, 13}},
	{"kdc has no support for encryption type", ref{Kerberos, 14}},
	{"credentials have been revoked", ref{Kerberos, 18}},
	{"password has expired", ref{Kerberos, 23}},
	{"preauthentication failed", ref{Kerberos, 24}},
	{"pre-authentication information was invalid", ref{Kerberos, 24}},
	{"decrypt integrity check failed", ref{Kerberos, 31}},
	{"ticket expired", ref{Kerberos, 32}},
	{"request is a replay", ref{Kerberos, 34}},
	{"clock skew too great in kdc reply", ref{Krb5, krb5Base + 148}},
	{"clock skew too great", ref{Kerberos, 37}},
	{"message stream modified", ref{Kerberos, 41}},
	{"key version is not available", ref{Kerberos, 44}},
	{"cannot find kdc for", ref{Krb5, krb5Base + 154}},
	{"cannot contact any kdc", ref{Krb5, krb5Base + 156}},
	{"cannot resolve network address for kdc", ref{Krb5, krb5Base + 220}},
	{"key table entry not found", ref{Krb5, krb5Base + 181}},
	{"no key table entry found", ref{Krb5, krb5Base + 181}},
	{"credentials cache permissions incorrect", ref{Krb5, krb5Base + 194}},
	{"no credentials cache found", ref{Krb5, krb5Base + 195}},
	{"does not specify default realm", ref{Krb5, krb5Base + 224}},
	{"no kerberos credentials available", ref{Krb5, krb5Base + 195}},
	{"matching credential not found", ref{Krb5, krb5Base + 141}},
}
