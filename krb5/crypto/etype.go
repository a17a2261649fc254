package crypto

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
)

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

// Checksum type numbers of the IANA registry "Kerberos Checksum Type Numbers":
// the mandatory checksum of each encryption type.
const (
	ChecksumAES128SHA1 int32 = 15   // hmac-sha1-96-aes128, RFC 3962, 12 bytes
	ChecksumAES256SHA1 int32 = 16   // hmac-sha1-96-aes256, RFC 3962, 12 bytes
	ChecksumAES128SHA2 int32 = 19   // hmac-sha256-128-aes128, RFC 8009, 16 bytes
	ChecksumAES256SHA2 int32 = 20   // hmac-sha384-192-aes256, RFC 8009, 24 bytes
	ChecksumHMACMD5    int32 = -138 // KERB_CHECKSUM_HMAC_MD5, RFC 4757, 16 bytes
)

// Allowance admits what is refused by default.
type Allowance int

// AllowRC4 admits [RC4HMAC], whose keys are unsalted MD4 hashes of passwords
// and therefore worth as little as the password.
const AllowRC4 Allowance = 1

// ErrEType is returned for an encryption type that this package does not have,
// or that needs an [Allowance] which the caller did not give.
var ErrEType = errors.New("crypto: encryption type not supported or not allowed")

// profile is what RFC 3961, Section 3 calls the encryption algorithm profile.
// All sizes are in bytes.
type profile struct {
	name         string // MIT's and the RFC's name
	windows      string // the name klist of Windows prints
	keySize      int
	confounder   int
	trailer      int   // length of the truncated HMAC, also of the checksum
	macKeySize   int   // length of Ki and Kc
	iterations   int   // PBKDF2 default, the only count accepted
	checksumType int32 // mandatory checksum
	hash         func() hash.Hash
	sha2         bool // RFC 8009 rather than RFC 3962
}

// profileOf returns the profile of e, or nil for a number that is not one of
// this package's.
func profileOf(e EType) *profile {
	switch e {
	case AES128SHA1:
		return &aes128SHA1
	case AES256SHA1:
		return &aes256SHA1
	case AES128SHA2:
		return &aes128SHA2
	case AES256SHA2:
		return &aes256SHA2
	case RC4HMAC:
		return &rc4HMAC
	}
	return nil
}

// The profiles are never written to.
var (
	aes128SHA1 = profile{
		name: "aes128-cts-hmac-sha1-96", windows: "AES-128-CTS-HMAC-SHA1-96",
		keySize: 16, confounder: 16, trailer: 12, macKeySize: 16, iterations: 4096,
		checksumType: ChecksumAES128SHA1, hash: sha1.New,
	}
	aes256SHA1 = profile{
		name: "aes256-cts-hmac-sha1-96", windows: "AES-256-CTS-HMAC-SHA1-96",
		keySize: 32, confounder: 16, trailer: 12, macKeySize: 32, iterations: 4096,
		checksumType: ChecksumAES256SHA1, hash: sha1.New,
	}
	aes128SHA2 = profile{
		name: "aes128-cts-hmac-sha256-128", windows: "AES-128-CTS-HMAC-SHA256-128",
		keySize: 16, confounder: 16, trailer: 16, macKeySize: 16, iterations: 32768,
		checksumType: ChecksumAES128SHA2, hash: sha256.New, sha2: true,
	}
	aes256SHA2 = profile{
		name: "aes256-cts-hmac-sha384-192", windows: "AES-256-CTS-HMAC-SHA384-192",
		keySize: 32, confounder: 16, trailer: 24, macKeySize: 24, iterations: 32768,
		checksumType: ChecksumAES256SHA2, hash: sha512.New384, sha2: true,
	}
	rc4HMAC = profile{
		name: "rc4-hmac", windows: "RSADSI RC4-HMAC(NT)",
		keySize: 16, confounder: 8, trailer: 16, macKeySize: 16,
		checksumType: ChecksumHMACMD5,
	}
)

// check returns the profile of e if it may be used under allow.
func check(e EType, allow []Allowance) (*profile, error) {
	p := profileOf(e)
	if p == nil || !e.Allowed(allow...) {
		return nil, fmt.Errorf("%w: %v", ErrEType, e)
	}
	return p, nil
}

// Allowed reports whether e is implemented and may be used: RC4 needs
// [AllowRC4], the others nothing.
func (e EType) Allowed(allow ...Allowance) bool {
	if e != RC4HMAC {
		return profileOf(e) != nil
	}
	return slices.Contains(allow, AllowRC4)
}

// String is the name in MIT's spelling and that of the RFCs, such as
// "aes256-cts-hmac-sha1-96"; "etype 3" for a number that is not one of this
// package's.
func (e EType) String() string {
	if p := profileOf(e); p != nil {
		return p.name
	}
	return "etype " + strconv.Itoa(int(e))
}

// WindowsName is the name that klist of Windows prints, such as
// "AES-256-CTS-HMAC-SHA1-96"; for a number that is not one of this package's
// it is what [EType.String] says.
func (e EType) WindowsName() string {
	if p := profileOf(e); p != nil {
		return p.windows
	}
	return e.String()
}

// KeySize is the length of a protocol key in bytes, 0 for an unknown type.
func (e EType) KeySize() int {
	if p := profileOf(e); p != nil {
		return p.keySize
	}
	return 0
}

// ConfounderSize is the number of random bytes before the plaintext, 0 for an
// unknown type.
func (e EType) ConfounderSize() int {
	if p := profileOf(e); p != nil {
		return p.confounder
	}
	return 0
}

// ChecksumSize is the length in bytes of the mandatory checksum, which is also
// that of the integrity tag of a ciphertext; 0 for an unknown type.
func (e EType) ChecksumSize() int {
	if p := profileOf(e); p != nil {
		return p.trailer
	}
	return 0
}

// Overhead is by how many bytes a ciphertext is longer than its plaintext.
func (e EType) Overhead() int { return e.ConfounderSize() + e.ChecksumSize() }

// ChecksumType is the number of the mandatory checksum, 0 for an unknown type.
func (e EType) ChecksumType() int32 {
	if p := profileOf(e); p != nil {
		return p.checksumType
	}
	return 0
}

// ParseEType reads an encryption type: its number, the name that
// [EType.String] or [EType.WindowsName] gives, or one of MIT's aliases, without
// regard to case. It knows RC4 by name too; whether it may be used is decided
// elsewhere.
func ParseEType(s string) (EType, error) {
	name := strings.ToLower(strings.TrimSpace(s))
	for _, e := range []EType{AES256SHA1, AES128SHA1, AES256SHA2, AES128SHA2, RC4HMAC} {
		p := profileOf(e)
		if name == p.name || name == strings.ToLower(p.windows) || name == strconv.Itoa(int(e)) {
			return e, nil
		}
	}
	switch name {
	case "aes256-cts", "aes256-sha1":
		return AES256SHA1, nil
	case "aes128-cts", "aes128-sha1":
		return AES128SHA1, nil
	case "aes256-sha2":
		return AES256SHA2, nil
	case "aes128-sha2":
		return AES128SHA2, nil
	case "rc4", "arcfour-hmac", "arcfour-hmac-md5":
		return RC4HMAC, nil
	}
	return 0, fmt.Errorf("%w: %q", ErrEType, s)
}
