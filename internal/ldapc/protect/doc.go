// Package protect is what both sides of an LDAP connection do to keep it secret by
// Kerberos: the layer of SASL that signs or seals every byte (RFC 4422, Section 3.7;
// RFC 4752), and the binding of a bind to the TLS channel around it (RFC 5929).
//
// It negotiates nothing: a client does in ldapc, a controller in dc/ldapd. Read [Conn].
package protect
