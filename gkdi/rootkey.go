package gkdi

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// KeySize is the size in bytes of root keys and of all seeds.
const KeySize = 64

// RootKeyVersion is the only version of a root key there is (msKds-Version).
const RootKeyVersion = 1

// Names that the attributes of a root key hold, in Windows' spelling.
const (
	KDFAlgorithm             = "SP800_108_CTR_HMAC" // msKds-KDFAlgorithmID
	SecretAgreementAlgorithm = "DH"                 // msKds-SecretAgreementAlgorithmID
	PrivateKeyBits           = 512                  // msKds-PrivateKeyLength
	PublicKeyBits            = 2048                 // msKds-PublicKeyLength
)

var (
	// ErrUnsupported is wrapped where a root key has a version, hash or size
	// that nobody can derive from (STATUS_NOT_SUPPORTED).
	ErrUnsupported = errors.New("unsupported root key")
	// ErrNoRootKey is wrapped where no root key may be used for an interval
	// (NTE_NO_KEY, 0x8009000D).
	ErrNoRootKey = errors.New("no usable KDS root key")
)

// Hash is the hash function of a root key's KDF. The zero value is none.
type Hash uint8

// The hash functions of [MS-GKDI] 2.2.1. Windows makes keys with SHA512.
const (
	SHA1 Hash = 1 + iota
	SHA256
	SHA384
	SHA512
)

// ParseHash reads the name of a hash function as KDF parameters spell it.
func ParseHash(name string) (Hash, error) {
	for h := SHA1; h <= SHA512; h++ {
		if h.String() == name {
			return h, nil
		}
	}
	return 0, fmt.Errorf("%w: hash %q, want SHA1, SHA256, SHA384 or SHA512", ErrUnsupported, name)
}

// String is the name in KDF parameters, such as "SHA512".
func (h Hash) String() string {
	switch h {
	case SHA1:
		return "SHA1"
	case SHA256:
		return "SHA256"
	case SHA384:
		return "SHA384"
	case SHA512:
		return "SHA512"
	}
	return fmt.Sprintf("Hash(%d)", uint8(h))
}

// new is the constructor of the hash, which must be one of the four.
func (h Hash) new() func() hash.Hash {
	switch h {
	case SHA1:
		return sha1.New
	case SHA256:
		return sha256.New
	case SHA384:
		return sha512.New384
	case SHA512:
		return sha512.New
	}
	panic("gkdi: derivation with unchecked " + h.String())
}

// RootKey is a KDS root key as far as derivation needs it ([MS-ADTS] class
// msKds-ProvRootKey). It is immutable by convention and safe to copy.
type RootKey struct {
	ID      dtyp.GUID    // cn of the object
	Version int          // msKds-Version: RootKeyVersion
	Hash    Hash         // from msKds-KDFParam
	Key     secret.Bytes // msKds-RootKeyData: KeySize bytes

	UseStart dtyp.Filetime // msKds-UseStartTime: no earlier interval uses the key
	Created  dtyp.Filetime // msKds-CreateTime
}

// NewRootKey makes a root key as Windows does: SHA512, 64 random bytes and a
// random id, both read from rand.
func NewRootKey(rand io.Reader, created, useStart dtyp.Filetime) (RootKey, error) {
	id, err := dtyp.NewGUID(rand)
	if err != nil {
		return RootKey{}, fmt.Errorf("root key id: %w", err)
	}
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(rand, key); err != nil {
		return RootKey{}, fmt.Errorf("root key: %w", err)
	}
	return RootKey{ID: id, Version: RootKeyVersion, Hash: SHA512, Key: secret.New(key),
		UseStart: useStart, Created: created}, nil
}

// Check reports whether keys can be derived from k.
func (k RootKey) Check() error {
	switch {
	case k.Version != RootKeyVersion:
		return fmt.Errorf("%w %s: version %d, want %d", ErrUnsupported, k.ID, k.Version, RootKeyVersion)
	case k.Hash < SHA1 || k.Hash > SHA512:
		return fmt.Errorf("%w %s: hash %v", ErrUnsupported, k.ID, k.Hash)
	case k.Key.Len() != KeySize:
		return fmt.Errorf("%w %s: %d bytes of key, want %d", ErrUnsupported, k.ID, k.Key.Len(), KeySize)
	}
	return nil
}

// SelectRootKey is the root key for the interval id: among keys whose
// UseStart is not after the interval's start, the newest by Created ([MS-GKDI]
// 3.1.4.1.1); of two created in one tick the greater id, so that every
// controller picks the same. It fails with ErrNoRootKey.
func SelectRootKey(keys []RootKey, id KeyID) (RootKey, error) {
	start, err := id.Start()
	if err != nil {
		return RootKey{}, err
	}
	best := -1
	for i, k := range keys {
		if k.UseStart <= start && (best < 0 || k.newerThan(keys[best])) {
			best = i
		}
	}
	if best < 0 {
		return RootKey{}, fmt.Errorf("%w for interval %v among %d", ErrNoRootKey, id, len(keys))
	}
	return keys[best], nil
}

func (k RootKey) newerThan(o RootKey) bool {
	if k.Created != o.Created {
		return k.Created > o.Created
	}
	return bytes.Compare(k.ID[:], o.ID[:]) > 0
}

// kdf fills out with the key derivation function of NIST SP 800-108r1,
// Section 4.1, counter mode with HMAC: a counter of 32 bits before the fixed
// input, a zero byte between label and context, the length in bits as 32 bits
// at the end. label includes its own terminator. Callers pass a few hundred
// bytes at most, so neither counter nor length can overflow.
func kdf(h Hash, out, key, label, context []byte) {
	mac := hmac.New(h.new(), key)
	var word [4]byte
	var sum [sha512.Size]byte
	bits := uint32(len(out) * 8)
	for i := uint32(1); len(out) > 0; i++ {
		mac.Reset()
		binary.BigEndian.PutUint32(word[:], i)
		mac.Write(word[:])
		mac.Write(label)
		mac.Write([]byte{0})
		mac.Write(context)
		binary.BigEndian.PutUint32(word[:], bits)
		mac.Write(word[:])
		out = out[copy(out, mac.Sum(sum[:0])):]
	}
	clear(sum[:])
}
