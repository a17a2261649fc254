// Package ldapc is one LDAP connection that is always protected: SASL GSSAPI or
// GSS-SPNEGO with sealing (RFC 4752, [MS-ADTS] 5.1.1.1), or TLS from the first
// byte or by StartTLS with a verified certificate, in which Kerberos binds to
// the channel (RFC 5929, [MS-KILE] 3.2.5.8) or a password is sent.
//
// [Open] does all of that on the bare connection and hands only the protected
// one to the LDAP library, so that no state exists in which a request could
// leave in the clear, and no step leads back. A server that offers less ends the
// attempt with [ErrNotEncrypted].
//
// It finds no controller (internal/locate), fetches no ticket
// (internal/kclient) and knows nothing about what the entries mean
// (internal/ad). Read [Config], [Open] and [Error] first.
package ldapc
