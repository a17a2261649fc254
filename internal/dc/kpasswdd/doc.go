// Package kpasswdd changes and sets passwords over Kerberos: RFC 3244 on port 464, over
// UDP and TCP.
//
//	version 1       the caller's own password, with a ticket that its present one got
//	version 0xff80  another account's, for whoever has the right to reset it
//
// Who the caller is, package account says by the ticket; what it may do and whether a
// password is good enough, the directory. The answers' texts are those that MIT's and
// Heimdal's kpasswd show as they are. Read [Server.answer] first.
package kpasswdd
