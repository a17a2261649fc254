// Package directory is the directory of a domain controller: the objects of a domain,
// who may do what with them, and the operations of LDAP on them ([MS-ADTS] 3.1.1,
// revision of 2024-11-19). It has no sockets and speaks no LDAP; ldapd does.
//
// There are two ways in, and they do not mix:
//
//	clients:    Search, Compare, Add, Modify, Delete, ModifyDN      for a Caller, with access control
//	the controller itself:  View and Update, with a Reader or Writer   without
//
// Below it, schema knows what may stand in an object, rows keeps objects in a store,
// access judges rights, filter matches. Keys of accounts are package account's, which
// stands beside the directory and is called by it through [Passwords]; the passwords of
// gMSAs follow from the timelines that are kept here, by package kds.
//
// Read [Directory] first, then [Caller] and the request types.
package directory
