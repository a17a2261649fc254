// Package kclient speaks to the KDCs of one realm: the AS exchange for a ticket
// from a password or keys, the TGS exchange for service tickets, renewal and
// forwarding (RFC 4120, RFC 6806, [MS-KILE]), and the password change protocol
// (RFC 3244).
//
// It keeps no tickets: what it gets it returns as [krb5.Credential]. Which
// controllers there are is what [KDCs] says, usually internal/locate. It follows
// no referral to another realm.
//
// # What is believed
//
// Whoever sits on the network can answer in a KDC's place. Therefore nothing
// outside the encrypted part of a reply changes what a ticket is taken for: the
// reply must repeat the nonce, name the client and server that were asked for,
// use encryption types that were offered, lie within the clock skew, and where
// the KDC knows RFC 6806 prove that it answers this very request. Errors are not
// authenticated. They can make a request fail or be asked once more in another
// way, and the clock offset they suggest counts for that one request, until an
// encrypted reply confirms it: see [Client.Offset].
//
// Read [Config], [Client.AS] and [Client.TGS] first.
package kclient
