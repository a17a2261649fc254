// Package kdc is the Key Distribution Center of a domain: the AS and TGS exchanges of
// RFC 4120 as Active Directory has them ([MS-KILE], [MS-PAC]), over UDP and
// TCP.
//
//	AS-REQ  ─► account, its state ─► PA-ENC-TIMESTAMP ─► TGT with a PAC
//	TGS-REQ ─► TGT, authenticator ─► PAC, account     ─► service ticket
//
// It knows no password and writes nothing: who somebody is, with which keys, and whether
// they may log on is package account's, as are the counters of a logon.
//
// What is not here is refused by name in refuseExtensions: S4U2Self and S4U2Proxy
// ([MS-SFU]). FAST (RFC 6113) and PKINIT (RFC 4556) are not offered, and padata of theirs
// is passed over, which their clients expect of a KDC that is older than they are.
//
// Read [Server] first, then asExchange and tgsExchange, each of which is the list of its
// steps.
package kdc
