// Package adproto is what an Active Directory client and a domain controller
// both speak and that is not Kerberos: the netlogon ping ([MS-ADTS] 6.3,
// revision of 2024-11-19), names (distinguished names as RFC 4514, filters as RFC 4515, service
// principal names, the ways to write an account's name), the frames of the SASL
// GSSAPI security layer (RFC 4752, RFC 4422, Section 3.7) and the flags that
// accounts and controllers carry.
//
// It is pure: no socket, clock, goroutine or logger. It sends nothing (that is
// internal/locate and internal/ldapc), and it decides nothing about access.
//
// Read [Ping] and [PingReply] for the locator, [Filter] and [DN] for LDAP,
// [AccountName] for what people type.
package adproto
