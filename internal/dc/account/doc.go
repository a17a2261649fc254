// Package account is who somebody is to the domain: which account a name means, with
// which keys it proves itself, whether it may log on now, and which groups it brings.
// KDC, LDAP and kpasswd ask here, so that lockout, hours and error codes are the same
// everywhere.
//
//	[Passwords]  called by the directory when a password is set: writes keys
//	[Accounts]   asked by services: Find, Check, Bind, FromTicket, ServiceKeys
//	[Account]    one account at one state of the directory, immutable
//
// Keys come from two sources with one face: those of users, computers and sMSAs are
// stored in the private row "keys"; those of a gMSA follow from its timeline and the
// root keys (package kds), and only they are kept, in memory, once derived.
//
// Nothing is written while somebody logs on: counters stand in memory and
// [Accounts.Flush] brings them to the private row "logon". Specifications: [MS-KILE],
// [MS-SAMR], [MS-ADTS].
//
// Read [Account] first, then [Accounts.Find].
package account
