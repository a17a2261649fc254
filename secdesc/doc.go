// Package secdesc is the security descriptor of Active Directory: its binary
// form ([MS-DTYP] 2.4.4 to 2.4.6), its string form SDDL (2.5.1), the access
// check (2.5.3.2), and edits of an access control list that leave other
// people's entries as they were.
//
// It does not translate names to SIDs and does not compute inheritance from a
// parent object. Conditional expressions and resource attributes are kept byte
// for byte but neither evaluated nor printed: an access check never grants by
// a condition that it cannot read, and SDDL refuses them by name.
//
// Read [SecurityDescriptor] first, then [Check].
package secdesc
