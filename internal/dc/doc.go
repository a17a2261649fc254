// Package dc is a domain controller, put together: this is the one place where store,
// encryption at rest, directory, accounts and services meet.
//
//	Init          makes a domain in a data directory
//	OpenDirectory opens the controller of a data directory; Open that of any store
//	Controller    Run serves until its context ends, in the order that is written there
//
// A data directory holds
//
//	store.db     the directory (bolt), secrets in it encrypted
//	store.key    the key-encryption key, unless it is kept elsewhere
//	ca.pem       the certificate of the domain's authority, for clients
//	krb5.conf    how clients of this machine find the running controller
//	audit.jsonl  who did what; older files have numbers
//	control      the socket through which the commands of its owner reach it
//
// The services themselves, and all that they decide, are in the packages below. Read
// [Controller.Run] first.
package dc
