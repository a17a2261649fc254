package krb5

import "strconv"

// ErrorCode is error-code of a KRB-ERROR. It is an error, so that
// errors.Is(err, ErrPreauthFailed) holds for a [KRBError] with that code.
type ErrorCode int32

// The error codes: RFC 4120, Section 7.5.9; 62 to 81 also RFC 4556, Section
// 3.1.3; 68 RFC 6806; 90 to 93 RFC 6113, Section 5.3; 100 RFC 8636.
const (
	ErrNone                            ErrorCode = 0
	ErrNameExpired                     ErrorCode = 1
	ErrServiceExpired                  ErrorCode = 2
	ErrBadPVNO                         ErrorCode = 3
	ErrClientOldMasterKVNO             ErrorCode = 4
	ErrServerOldMasterKVNO             ErrorCode = 5
	ErrClientUnknown                   ErrorCode = 6
	ErrServerUnknown                   ErrorCode = 7
	ErrNotUnique                       ErrorCode = 8
	ErrNullKey                         ErrorCode = 9
	ErrCannotPostdate                  ErrorCode = 10
	ErrNeverValid                      ErrorCode = 11
	ErrPolicy                          ErrorCode = 12
	ErrBadOption                       ErrorCode = 13
	ErrETypeNoSupport                  ErrorCode = 14
	ErrSumTypeNoSupport                ErrorCode = 15
	ErrPADataTypeNoSupport             ErrorCode = 16
	ErrTransitedTypeNoSupport          ErrorCode = 17
	ErrClientRevoked                   ErrorCode = 18
	ErrServiceRevoked                  ErrorCode = 19
	ErrTGTRevoked                      ErrorCode = 20
	ErrClientNotYet                    ErrorCode = 21
	ErrServiceNotYet                   ErrorCode = 22
	ErrKeyExpired                      ErrorCode = 23
	ErrPreauthFailed                   ErrorCode = 24
	ErrPreauthRequired                 ErrorCode = 25
	ErrServerNoMatch                   ErrorCode = 26
	ErrMustUseUser2User                ErrorCode = 27
	ErrPathNotAccepted                 ErrorCode = 28
	ErrServiceUnavailable              ErrorCode = 29
	ErrBadIntegrity                    ErrorCode = 31
	ErrTicketExpired                   ErrorCode = 32
	ErrTicketNotYetValid               ErrorCode = 33
	ErrRepeat                          ErrorCode = 34
	ErrNotUs                           ErrorCode = 35
	ErrBadMatch                        ErrorCode = 36
	ErrSkew                            ErrorCode = 37
	ErrBadAddress                      ErrorCode = 38
	ErrBadVersion                      ErrorCode = 39
	ErrMessageType                     ErrorCode = 40
	ErrModified                        ErrorCode = 41
	ErrBadOrder                        ErrorCode = 42
	ErrBadKeyVersion                   ErrorCode = 44
	ErrNoKey                           ErrorCode = 45
	ErrMutualFailed                    ErrorCode = 46
	ErrBadDirection                    ErrorCode = 47
	ErrMethod                          ErrorCode = 48
	ErrBadSequence                     ErrorCode = 49
	ErrInappropriateChecksum           ErrorCode = 50
	ErrAPPathNotAccepted               ErrorCode = 51
	ErrResponseTooBig                  ErrorCode = 52
	ErrGeneric                         ErrorCode = 60
	ErrFieldTooLong                    ErrorCode = 61
	ErrClientNotTrusted                ErrorCode = 62
	ErrKDCNotTrusted                   ErrorCode = 63
	ErrInvalidSignature                ErrorCode = 64
	ErrKeyTooWeak                      ErrorCode = 65
	ErrCertificateMismatch             ErrorCode = 66
	ErrNoTGT                           ErrorCode = 67
	ErrWrongRealm                      ErrorCode = 68
	ErrUser2UserRequired               ErrorCode = 69
	ErrCantVerifyCertificate           ErrorCode = 70
	ErrInvalidCertificate              ErrorCode = 71
	ErrRevokedCertificate              ErrorCode = 72
	ErrRevocationStatusUnknown         ErrorCode = 73
	ErrRevocationStatusUnavailable     ErrorCode = 74
	ErrClientNameMismatch              ErrorCode = 75
	ErrKDCNameMismatch                 ErrorCode = 76
	ErrInconsistentKeyPurpose          ErrorCode = 77
	ErrDigestInCertNotAccepted         ErrorCode = 78
	ErrPAChecksumRequired              ErrorCode = 79
	ErrDigestInSignedDataNotAccepted   ErrorCode = 80
	ErrPublicKeyEncryptionNotSupported ErrorCode = 81
	ErrPreauthExpired                  ErrorCode = 90
	ErrMorePreauthRequired             ErrorCode = 91
	ErrBadAuthenticationSet            ErrorCode = 92
	ErrUnknownFASTOptions              ErrorCode = 93
	ErrNoAcceptableKDF                 ErrorCode = 100
)

// errorTexts has the specification's name and a plain sentence for each code.
var errorTexts = map[ErrorCode]struct{ name, text string }{
	ErrNone:                            {"KDC_ERR_NONE", "no error"},
	ErrNameExpired:                     {"KDC_ERR_NAME_EXP", "the client's entry in the database has expired"},
	ErrServiceExpired:                  {"KDC_ERR_SERVICE_EXP", "the server's entry in the database has expired"},
	ErrBadPVNO:                         {"KDC_ERR_BAD_PVNO", "the protocol version is not supported"},
	ErrClientOldMasterKVNO:             {"KDC_ERR_C_OLD_MAST_KVNO", "the client's key is encrypted in an old master key"},
	ErrServerOldMasterKVNO:             {"KDC_ERR_S_OLD_MAST_KVNO", "the server's key is encrypted in an old master key"},
	ErrClientUnknown:                   {"KDC_ERR_C_PRINCIPAL_UNKNOWN", "the client is not in the database"},
	ErrServerUnknown:                   {"KDC_ERR_S_PRINCIPAL_UNKNOWN", "the server is not in the database"},
	ErrNotUnique:                       {"KDC_ERR_PRINCIPAL_NOT_UNIQUE", "more than one account has this name"},
	ErrNullKey:                         {"KDC_ERR_NULL_KEY", "the client or the server has no key"},
	ErrCannotPostdate:                  {"KDC_ERR_CANNOT_POSTDATE", "the ticket may not be postdated"},
	ErrNeverValid:                      {"KDC_ERR_NEVER_VALID", "the requested start time is later than the end time"},
	ErrPolicy:                          {"KDC_ERR_POLICY", "the policy of the domain refuses the request"},
	ErrBadOption:                       {"KDC_ERR_BADOPTION", "the KDC cannot do what was asked"},
	ErrETypeNoSupport:                  {"KDC_ERR_ETYPE_NOSUPP", "the KDC has no key of an encryption type that was offered"},
	ErrSumTypeNoSupport:                {"KDC_ERR_SUMTYPE_NOSUPP", "the KDC does not support the checksum type"},
	ErrPADataTypeNoSupport:             {"KDC_ERR_PADATA_TYPE_NOSUPP", "the KDC does not support the pre-authentication type"},
	ErrTransitedTypeNoSupport:          {"KDC_ERR_TRTYPE_NOSUPP", "the KDC does not support the transited type"},
	ErrClientRevoked:                   {"KDC_ERR_CLIENT_REVOKED", "the account is disabled, expired, locked out, or outside its logon hours"},
	ErrServiceRevoked:                  {"KDC_ERR_SERVICE_REVOKED", "the credentials of the server have been revoked"},
	ErrTGTRevoked:                      {"KDC_ERR_TGT_REVOKED", "the ticket-granting ticket has been revoked"},
	ErrClientNotYet:                    {"KDC_ERR_CLIENT_NOTYET", "the client is not yet valid"},
	ErrServiceNotYet:                   {"KDC_ERR_SERVICE_NOTYET", "the server is not yet valid"},
	ErrKeyExpired:                      {"KDC_ERR_KEY_EXPIRED", "the password has expired or must be changed"},
	ErrPreauthFailed:                   {"KDC_ERR_PREAUTH_FAILED", "the password or key is wrong"},
	ErrPreauthRequired:                 {"KDC_ERR_PREAUTH_REQUIRED", "pre-authentication is required"},
	ErrServerNoMatch:                   {"KDC_ERR_SERVER_NOMATCH", "the ticket is not for the requested server"},
	ErrMustUseUser2User:                {"KDC_ERR_MUST_USE_USER2USER", "the server takes user-to-user tickets only"},
	ErrPathNotAccepted:                 {"KDC_ERR_PATH_NOT_ACCEPTED", "the KDC does not accept the path of realms"},
	ErrServiceUnavailable:              {"KDC_ERR_SVC_UNAVAILABLE", "a service that the KDC needs is not available"},
	ErrBadIntegrity:                    {"KRB_AP_ERR_BAD_INTEGRITY", "decryption failed: the key is not the one it was encrypted with"},
	ErrTicketExpired:                   {"KRB_AP_ERR_TKT_EXPIRED", "the ticket has expired"},
	ErrTicketNotYetValid:               {"KRB_AP_ERR_TKT_NYV", "the ticket is not yet valid"},
	ErrRepeat:                          {"KRB_AP_ERR_REPEAT", "the request is a replay"},
	ErrNotUs:                           {"KRB_AP_ERR_NOT_US", "the ticket is not for this server"},
	ErrBadMatch:                        {"KRB_AP_ERR_BADMATCH", "ticket and authenticator do not match"},
	ErrSkew:                            {"KRB_AP_ERR_SKEW", "the clocks of client and server are too far apart"},
	ErrBadAddress:                      {"KRB_AP_ERR_BADADDR", "the network address is not one of the ticket's"},
	ErrBadVersion:                      {"KRB_AP_ERR_BADVERSION", "the protocol version does not match"},
	ErrMessageType:                     {"KRB_AP_ERR_MSG_TYPE", "the message type is invalid here"},
	ErrModified:                        {"KRB_AP_ERR_MODIFIED", "the message was changed on its way, or is for another key"},
	ErrBadOrder:                        {"KRB_AP_ERR_BADORDER", "the message is out of order"},
	ErrBadKeyVersion:                   {"KRB_AP_ERR_BADKEYVER", "the server does not have the version of the key"},
	ErrNoKey:                           {"KRB_AP_ERR_NOKEY", "the server does not have the key"},
	ErrMutualFailed:                    {"KRB_AP_ERR_MUT_FAIL", "mutual authentication failed"},
	ErrBadDirection:                    {"KRB_AP_ERR_BADDIRECTION", "the message goes in the wrong direction"},
	ErrMethod:                          {"KRB_AP_ERR_METHOD", "another authentication method is required"},
	ErrBadSequence:                     {"KRB_AP_ERR_BADSEQ", "the sequence number is wrong"},
	ErrInappropriateChecksum:           {"KRB_AP_ERR_INAPP_CKSUM", "the checksum is missing or of an unsuitable type"},
	ErrAPPathNotAccepted:               {"KRB_AP_PATH_NOT_ACCEPTED", "the server does not accept the path of realms"},
	ErrResponseTooBig:                  {"KRB_ERR_RESPONSE_TOO_BIG", "the answer does not fit into UDP: ask over TCP"},
	ErrGeneric:                         {"KRB_ERR_GENERIC", "an error without a code of its own"},
	ErrFieldTooLong:                    {"KRB_ERR_FIELD_TOOLONG", "a field is too long for this implementation"},
	ErrClientNotTrusted:                {"KDC_ERR_CLIENT_NOT_TRUSTED", "the client's certificate is not trusted"},
	ErrKDCNotTrusted:                   {"KDC_ERR_KDC_NOT_TRUSTED", "the KDC's certificate is not trusted"},
	ErrInvalidSignature:                {"KDC_ERR_INVALID_SIG", "the signature is invalid"},
	ErrKeyTooWeak:                      {"KDC_ERR_KEY_TOO_WEAK", "the Diffie-Hellman parameters are not accepted"},
	ErrCertificateMismatch:             {"KDC_ERR_CERTIFICATE_MISMATCH", "the certificate is not the client's"},
	ErrNoTGT:                           {"KRB_AP_ERR_NO_TGT", "the server has no ticket-granting ticket for user-to-user"},
	ErrWrongRealm:                      {"KDC_ERR_WRONG_REALM", "the client belongs to another realm"},
	ErrUser2UserRequired:               {"KRB_AP_ERR_USER_TO_USER_REQUIRED", "the server wants a user-to-user ticket"},
	ErrCantVerifyCertificate:           {"KDC_ERR_CANT_VERIFY_CERTIFICATE", "the certificate cannot be verified"},
	ErrInvalidCertificate:              {"KDC_ERR_INVALID_CERTIFICATE", "the certificate is invalid"},
	ErrRevokedCertificate:              {"KDC_ERR_REVOKED_CERTIFICATE", "the certificate has been revoked"},
	ErrRevocationStatusUnknown:         {"KDC_ERR_REVOCATION_STATUS_UNKNOWN", "whether the certificate was revoked is unknown"},
	ErrRevocationStatusUnavailable:     {"KDC_ERR_REVOCATION_STATUS_UNAVAILABLE", "the revocation list cannot be reached"},
	ErrClientNameMismatch:              {"KDC_ERR_CLIENT_NAME_MISMATCH", "the client's name is not in its certificate"},
	ErrKDCNameMismatch:                 {"KDC_ERR_KDC_NAME_MISMATCH", "the KDC's name is not in its certificate"},
	ErrInconsistentKeyPurpose:          {"KDC_ERR_INCONSISTENT_KEY_PURPOSE", "the certificate is for another purpose"},
	ErrDigestInCertNotAccepted:         {"KDC_ERR_DIGEST_IN_CERT_NOT_ACCEPTED", "the digest of the certificate is not accepted"},
	ErrPAChecksumRequired:              {"KDC_ERR_PA_CHECKSUM_MUST_BE_INCLUDED", "the PKINIT request lacks its checksum"},
	ErrDigestInSignedDataNotAccepted:   {"KDC_ERR_DIGEST_IN_SIGNED_DATA_NOT_ACCEPTED", "the digest of the signed data is not accepted"},
	ErrPublicKeyEncryptionNotSupported: {"KDC_ERR_PUBLIC_KEY_ENCRYPTION_NOT_SUPPORTED", "public key encryption is not supported"},
	ErrPreauthExpired:                  {"KDC_ERR_PREAUTH_EXPIRED", "the pre-authentication took too long: begin again"},
	ErrMorePreauthRequired:             {"KDC_ERR_MORE_PREAUTH_DATA_REQUIRED", "more pre-authentication is required"},
	ErrBadAuthenticationSet:            {"KDC_ERR_PREAUTH_BAD_AUTHENTICATION_SET", "the set of pre-authentication types is not acceptable"},
	ErrUnknownFASTOptions:              {"KDC_ERR_UNKNOWN_CRITICAL_FAST_OPTIONS", "a critical FAST option is unknown to the KDC"},
	ErrNoAcceptableKDF:                 {"KDC_ERR_NO_ACCEPTABLE_KDF", "no key derivation function is common to both"},
}

// String is the name in the specification, "KDC_ERR_PREAUTH_FAILED", or
// "KRB_ERR_43" for a code that has none.
func (c ErrorCode) String() string {
	if e, ok := errorTexts[c]; ok {
		return e.name
	}
	return "KRB_ERR_" + strconv.Itoa(int(c))
}

// Text says in plain words what the code means; empty if it is unknown.
func (c ErrorCode) Text() string { return errorTexts[c].text }

// Error is "24 KDC_ERR_PREAUTH_FAILED: the password or key is wrong".
func (c ErrorCode) Error() string {
	s := strconv.Itoa(int(c)) + " " + c.String()
	if t := c.Text(); t != "" {
		s += ": " + t
	}
	return s
}
