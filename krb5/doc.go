// Package krb5 encodes and decodes the messages of Kerberos 5 as RFC 4120 and
// [MS-KILE] write them, in strict DER, without reflection. It has no socket, no
// clock and no randomness: who sends a message and when is the business of
// internal/kclient and internal/dc/kdc. Read [Principal] and [Credential] first.
package krb5
