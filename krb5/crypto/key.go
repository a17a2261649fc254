// Package crypto is the encryption and checksum profile of Kerberos 5:
// RFC 3961, RFC 3962 (AES with SHA-1), RFC 8009 (AES with SHA-2) and, only
// where it is enabled, RFC 4757 (RC4).
package crypto

// EType is an encryption type number of the IANA registry "Kerberos Encryption
// Type Numbers".
type EType int32

// The encryption types of this package.
const (
	AES128SHA1 EType = 17 // aes128-cts-hmac-sha1-96, RFC 3962
	AES256SHA1 EType = 18 // aes256-cts-hmac-sha1-96, RFC 3962
	AES128SHA2 EType = 19 // aes128-cts-hmac-sha256-128, RFC 8009
	AES256SHA2 EType = 20 // aes256-cts-hmac-sha384-192, RFC 8009
	RC4HMAC    EType = 23 // rc4-hmac, RFC 4757
)

// Key is a protocol key of RFC 3961, with its usage keys cached.
type Key struct{}
