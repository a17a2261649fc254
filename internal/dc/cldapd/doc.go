// Package cldapd answers the netlogon ping, by which clients find out which controller
// of a domain is alive and what it offers ([MS-ADTS] 6.3.3, revision of 2024-11-19):
// over UDP, and, with [Server.Answer], for the LDAP service, which is asked the same
// over TCP.
//
// It is no LDAP server: of CLDAP it knows the search of the rootDSE for the attribute
// Netlogon and nothing else. What it does not understand, and what is meant for another
// domain, gets no answer at all, as from Active Directory. Read [Server.Answer] first.
package cldapd
