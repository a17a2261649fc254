// Package dtyp has the three small data types of [MS-DTYP] that every part of
// Active Directory writes into its structures: [SID] (2.4.2), [GUID] (2.3.4)
// and [Filetime] (2.3.3).
//
// All three are comparable values: they are map keys, they are compared with
// ==, and their zero value says "none". Security descriptors, which are made
// of SIDs, are package secdesc.
package dtyp
