// Package crypto is the encryption and checksum profile of Kerberos 5:
// RFC 3961 (framework), RFC 3962 (AES with SHA-1), RFC 8009 (AES with SHA-2)
// and, only where the caller says [AllowRC4], RFC 4757 (RC4).
//
// Read [Key] first. A Key encrypts, decrypts and checks under a key usage
// number; it caches what it derives for each usage, so that a key that is used
// often (a session key, the krbtgt's key) costs its derivations once.
//
// It is not a general library: DES, Camellia and the pseudo-random function of
// RFC 3961 are not here, and the only cipher state is the initial one.
package crypto
