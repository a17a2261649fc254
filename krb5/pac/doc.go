// Package pac reads, writes, signs and verifies the Privilege Attribute
// Certificate, which tells a service of Active Directory who the client of a
// ticket is: [MS-PAC], in the encoding of [MS-RPCE] (type serialization
// version 1).
//
// A [PAC] is a list of typed buffers, kept byte for byte, known or not; [LogonInfo],
// [ClientInfo], [UPNInfo], [Attributes] and [Signature] are the buffers opened. It
// grants nothing: what a SID in it may do, and whether the account still is who the
// PAC says, is asked of the directory by whoever reads it.
//
// Controllers read [Seal] and [Open] first, services [PAC.VerifyServer].
package pac
