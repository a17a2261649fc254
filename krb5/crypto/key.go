package crypto

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/opengmsa/opengmsa/secret"
)

// ErrIntegrity is the one error of every decryption and checksum verification
// that fails, whatever the reason: a peer must not learn which check it was.
var ErrIntegrity = errors.New("crypto: integrity check failed")

// Key is a protocol key of RFC 3961 with the keys derived from it for each
// usage. It never changes and is safe for concurrent use: readers of the cache
// take no lock.
//
// Whoever destroys the secret of a key must not use the key afterwards; derived
// keys live until the Key is collected.
type Key struct {
	etype EType
	prof  *profile
	bytes secret.Bytes

	mu     sync.Mutex // held to add to usages
	usages atomic.Pointer[[]*usageKeys]
}

// usageKind says which of the derived keys of RFC 3961, Section 5.3 an entry
// of the cache holds.
type usageKind uint8

const (
	forEncryption usageKind = iota // Ke and Ki
	forChecksum                    // Kc
)

// usageKeys are the keys that one usage number asks for.
type usageKeys struct {
	usage uint32
	kind  usageKind
	suite suite
}

// suite does the work of one encryption type with derived keys at hand. Only
// checksum is called on one made for [forChecksum], only the others on one for
// [forEncryption].
type suite interface {
	// seal encrypts buf, which is confounder and plaintext followed by room for
	// the trailer, in place.
	seal(buf []byte)
	// open checks and decrypts buf in place and returns the part of it after
	// the confounder; on failure the plaintext is wiped.
	open(buf []byte) ([]byte, error)
	// checksum appends the checksum of the parts joined.
	checksum(dst []byte, parts ...[]byte) []byte
}

// NewKey makes a key of its bytes, whose length must be that of the type. It
// shares the memory of key and does not copy it.
func NewKey(e EType, key secret.Bytes, allow ...Allowance) (*Key, error) {
	p, err := check(e, allow)
	if err != nil {
		return nil, err
	}
	if key.Len() != p.keySize {
		return nil, fmt.Errorf("crypto: key of %v has %d bytes, want %d", e, key.Len(), p.keySize)
	}
	return &Key{etype: e, prof: p, bytes: key}, nil
}

// Generate makes a random key.
func Generate(e EType, rand io.Reader, allow ...Allowance) (*Key, error) {
	p, err := check(e, allow)
	if err != nil {
		return nil, err
	}
	b := make([]byte, p.keySize)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, fmt.Errorf("crypto: read random key: %w", err)
	}
	return NewKey(e, secret.New(b), allow...)
}

// EType is the encryption type.
func (k *Key) EType() EType { return k.etype }

// Secret is the key's bytes, not a copy.
func (k *Key) Secret() secret.Bytes { return k.bytes }

// ChecksumType is the number of the checksum that [Key.Checksum] makes.
func (k *Key) ChecksumType() int32 { return k.prof.checksumType }

// Equal compares type and bytes, the latter in constant time.
func (k *Key) Equal(o *Key) bool {
	if k == nil || o == nil {
		return k == o
	}
	return k.etype == o.etype && k.bytes.Equal(o.bytes)
}

// Format prints the type only: the derived keys of the cache are as secret as
// the key.
func (k *Key) Format(f fmt.State, _ rune) {
	if k == nil {
		_, _ = io.WriteString(f, "<nil>")
		return
	}
	_, _ = io.WriteString(f, k.etype.String()+" "+k.bytes.String())
}

// MarshalText refuses, as secret.Bytes does.
func (k *Key) MarshalText() ([]byte, error) { return nil, secret.ErrMarshal }

// Encrypt appends the ciphertext of plain under a usage number to dst: a
// confounder read from rand, plain and the integrity tag. The result is longer
// than plain by [EType.Overhead]. dst and plain must not overlap.
func (k *Key) Encrypt(dst []byte, usage uint32, plain []byte, rand io.Reader) ([]byte, error) {
	return k.EncryptParts(dst, usage, rand, plain)
}

// EncryptParts is [Key.Encrypt] for a plaintext in several parts, which need not
// be joined before.
func (k *Key) EncryptParts(dst []byte, usage uint32, rand io.Reader, parts ...[]byte) ([]byte, error) {
	total := k.prof.confounder + k.prof.trailer
	for _, p := range parts {
		total += len(p)
	}
	start := len(dst)
	dst = grow(dst, total)
	buf := dst[start:]
	if _, err := io.ReadFull(rand, buf[:k.prof.confounder]); err != nil {
		return nil, fmt.Errorf("crypto: read confounder: %w", err)
	}
	at := k.prof.confounder
	for _, p := range parts {
		at += copy(buf[at:], p)
	}
	k.derived(usage, forEncryption).seal(buf)
	return dst, nil
}

// Decrypt returns the plaintext of a ciphertext in memory of its own. Every
// failure is [ErrIntegrity].
func (k *Key) Decrypt(usage uint32, cipher []byte) ([]byte, error) {
	buf := make([]byte, len(cipher))
	copy(buf, cipher)
	return k.DecryptInPlace(usage, buf)
}

// DecryptInPlace is [Key.Decrypt] without an allocation: the plaintext that it
// returns lies inside cipher, which is overwritten even if it fails.
func (k *Key) DecryptInPlace(usage uint32, cipher []byte) ([]byte, error) {
	if len(cipher) < k.prof.confounder+k.prof.trailer {
		return nil, ErrIntegrity
	}
	return k.derived(usage, forEncryption).open(cipher)
}

// Checksum is the mandatory checksum of data under a usage number.
func (k *Key) Checksum(usage uint32, data []byte) []byte {
	return k.AppendChecksum(make([]byte, 0, k.prof.trailer), usage, data)
}

// AppendChecksum appends the checksum of the joined parts to dst, without
// joining them in memory.
func (k *Key) AppendChecksum(dst []byte, usage uint32, parts ...[]byte) []byte {
	return k.derived(usage, forChecksum).checksum(dst, parts...)
}

// VerifyChecksum compares in constant time; a sum of another length or value is
// [ErrIntegrity]. That the sum's type is [Key.ChecksumType] is the caller's to
// see to.
func (k *Key) VerifyChecksum(usage uint32, data, sum []byte) error {
	return k.VerifyChecksumParts(usage, sum, data)
}

// VerifyChecksumParts is [Key.VerifyChecksum] for data in several parts.
func (k *Key) VerifyChecksumParts(usage uint32, sum []byte, parts ...[]byte) error {
	var room [maxTrailer]byte
	if !equal(k.AppendChecksum(room[:0], usage, parts...), sum) {
		return ErrIntegrity
	}
	return nil
}

// derived returns the keys for a usage, from the cache if they are there. The
// cache is a list that is copied to be extended: a key has few usages, and
// they come from the program, not from a peer.
func (k *Key) derived(usage uint32, kind usageKind) suite {
	if list := k.usages.Load(); list != nil {
		for _, u := range *list {
			if u.usage == usage && u.kind == kind {
				return u.suite
			}
		}
	}
	return k.derive(usage, kind)
}

// derive computes the keys for a usage and puts them into the cache. Two
// goroutines that come at the same time may both compute; one entry stays.
func (k *Key) derive(usage uint32, kind usageKind) suite {
	made := &usageKeys{usage: usage, kind: kind, suite: newSuite(k.prof, k.bytes.Reveal(), usage, kind)}
	k.mu.Lock()
	defer k.mu.Unlock()
	var next []*usageKeys
	if list := k.usages.Load(); list != nil {
		for _, u := range *list {
			if u.usage == usage && u.kind == kind {
				return u.suite
			}
		}
		next = append(next, *list...)
	}
	next = append(next, made)
	k.usages.Store(&next)
	return made.suite
}

// newSuite derives the keys for a usage.
func newSuite(p *profile, key []byte, usage uint32, kind usageKind) suite {
	switch {
	case p == &rc4HMAC:
		return newRC4(key, usage)
	case p.sha2:
		return newAESSHA2(p, key, usage, kind)
	default:
		return newAESSHA1(p, key, usage, kind)
	}
}

// grow makes room for n more bytes behind dst.
func grow(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst[:len(dst)+n]
	}
	bigger := make([]byte, len(dst)+n)
	copy(bigger, dst)
	return bigger
}
