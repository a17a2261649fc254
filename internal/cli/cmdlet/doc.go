// Package cmdlet is PowerShell as far as guides about managed service accounts use
// it: the cmdlets of the Active Directory, KDS and CredentialSpec modules by their
// own names and parameters, the small part of the language that their examples are
// written in, and their output as lists.
//
// It is no shell. What it does not know it names; what has no meaning outside of
// Windows it answers with what is done here instead. The work is done by
// internal/ad; a [Host] says how the domain and the machine are reached.
//
// Read [Run] first.
package cmdlet
