// Package krb5 encodes and decodes the messages of Kerberos 5 as RFC 4120, RFC
// 6806 and [MS-KILE] write them, in strict DER, without reflection. It has no
// socket, no clock and no randomness of its own: who sends a message and when is
// the business of internal/kclient and internal/dc/kdc. The PAC within a ticket
// is not opened here.
//
// Each message X has ParseX and Append. A parser takes exactly one message, names
// field and offset in a [SyntaxError], and refuses what DER forbids; where a peer
// of this world is known to deviate, it is let through with a comment that begins
// "Deviation:". Byte slices in a parsed message alias the input; strings and keys
// are copies. An optional field that is absent is the zero value, and the zero
// value is written as absent.
//
// Read [Principal], [Credential] and [KDCReq] first; then [KRBError] for what
// goes wrong.
package krb5
