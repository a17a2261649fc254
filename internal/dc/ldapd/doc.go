// Package ldapd is the LDAP server of a domain controller: RFC 4511 with what [MS-ADTS]
// 3.1.1.3 and 5.1.1 (revision of 2024-11-19) add, over TCP. It frames, protects and
// authenticates; what objects there are and who may see them is package directory's,
// who somebody is package account's.
//
// A connection is made secret in one of two ways and in no other: by TLS (from the
// first byte, or by StartTLS), or by a SASL layer that the Kerberos bind agreed on. A
// password is taken inside TLS alone, a Kerberos bind without a layer likewise. There
// is no NTLM, Sicily, DIGEST-MD5 or EXTERNAL bind.
//
// It is not the connectionless ping (cldapd), and it writes no message format itself
// (adproto/ldapmsg). Read [Config], then [Server], then conn.
package ldapd
