// Package managedpassword reads and writes what a domain controller says of
// the password of a group Managed Service Account: the constructed attribute
// msDS-ManagedPassword ([MS-ADTS] 2.2.19, revision of 2024-11-19) and
// msDS-ManagedPasswordId, and turns a password into Kerberos keys.
//
// It neither asks a domain controller (internal/ad does) nor derives a
// password from a root key (gkdi does), and it caches nothing: a key costs a
// PBKDF2 of 1.7 ms (etypes 17 and 18) or 13 ms (19 and 20), so callers derive each
// once for a password.
//
// Read [Parse] first, then [Key].
package managedpassword
