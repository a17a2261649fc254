// Package atrest encrypts what a domain controller keeps in its store and nobody may
// read there: keys of accounts, root keys, timelines, counters of logons.
//
//	key-encryption key, 32 bytes, kept outside of the store
//	  └─ wraps data keys, 32 bytes each, in one row of the store
//	       └─ HMAC-SHA-256 over object and name: a key for each value
//	            └─ AES-256-GCM: version 4 | nonce 12 | ciphertext | tag 16
//
// Each value has a key of its own, so that random nonces never come near their limit of
// 2^32 for one key ([SP 800-38D] 8.3), however often counters are written. Object, name
// and the version of the data key are authenticated besides, so that what was sealed
// for one account opens for no other.
//
// Where the key-encryption key comes from is its caller's to know; package keysource
// reads it. Read [Open] first.
package atrest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/secret"
)

// KeySize is the size of all keys here, in bytes.
const KeySize = 32

// MaxDataKeys is how many data keys a store may have.
const MaxDataKeys = 1024

const (
	versionSize = 4
	nonceSize   = 12
	tagSize     = 16
	wrappedSize = versionSize + nonceSize + KeySize + tagSize
)

// metaDataKeys is the row of the wrapped data keys, oldest first.
const metaDataKeys = "dataKeys"

var (
	// ErrKey: the key-encryption key is not the one of this store, or has not 32 bytes.
	ErrKey = errors.New("wrong key-encryption key")
	// ErrSealed: a sealed value was changed, or was sealed for something else.
	ErrSealed = errors.New("sealed value refused")
)

// Keyring is the data keys of a store. It is immutable and safe for concurrent use.
type Keyring struct {
	keys    map[uint32]secret.Bytes
	current uint32
	rand    io.Reader
}

// Create gives an empty store its first data key and returns the keyring. In a store
// that has one it does what [Open] does.
func Create(ctx context.Context, s store.Store, kek secret.Bytes, rand io.Reader) (*Keyring, error) {
	if kek.Len() != KeySize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrKey, kek.Len(), KeySize)
	}
	err := s.Update(ctx, func(tx store.Tx) error {
		if _, err := rows.Meta(tx, metaDataKeys); !errors.Is(err, rows.ErrNotFound) {
			return err
		}
		key, err := newDataKey(1, rand)
		if err != nil {
			return err
		}
		wrapped, err := wrap(nil, kek, key, rand)
		if err != nil {
			return err
		}
		return rows.SetMeta(tx, metaDataKeys, wrapped)
	})
	if err != nil {
		return nil, fmt.Errorf("create data key: %w", err)
	}
	return Open(ctx, s, kek, rand)
}

// Open reads the data keys of a store. It fails with ErrKey, and with rows.ErrNotFound
// in a store that has none.
func Open(ctx context.Context, s store.Store, kek secret.Bytes, rand io.Reader) (*Keyring, error) {
	k := &Keyring{keys: map[uint32]secret.Bytes{}, rand: rand}
	err := s.View(ctx, func(r store.Reader) error {
		keys, err := readDataKeys(r, kek)
		for _, d := range keys {
			k.keys[d.version], k.current = d.key, max(k.current, d.version)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open data keys: %w", err)
	}
	return k, nil
}

// readDataKeys are the data keys of a store, oldest first.
func readDataKeys(r store.Reader, kek secret.Bytes) (keys []dataKey, err error) {
	b, err := rows.Meta(r, metaDataKeys)
	if err != nil {
		return nil, err
	}
	if len(b) == 0 || len(b)%wrappedSize != 0 || len(b) > MaxDataKeys*wrappedSize {
		return nil, fmt.Errorf("%w: %s of %d bytes", rows.ErrCorrupt, metaDataKeys, len(b))
	}
	for ; len(b) > 0; b = b[wrappedSize:] {
		version, key, err := unwrap(b[:wrappedSize], kek)
		if err != nil {
			return nil, err
		}
		keys = append(keys, dataKey{version, key})
	}
	return keys, nil
}

// Rewrap encrypts the data keys of a store under another key-encryption key. What was
// sealed with them stays as it is. It fails with ErrKey where old is not the present one.
func Rewrap(ctx context.Context, s store.Store, old, next secret.Bytes, rand io.Reader) error {
	if next.Len() != KeySize {
		return fmt.Errorf("change key-encryption key: %w: %d bytes, want %d", ErrKey, next.Len(), KeySize)
	}
	err := s.Update(ctx, func(tx store.Tx) error {
		keys, err := readDataKeys(tx, old)
		if err != nil {
			return err
		}
		var wrapped []byte
		for _, k := range keys {
			if wrapped, err = wrap(wrapped, next, k, rand); err != nil {
				return err
			}
		}
		return rows.SetMeta(tx, metaDataKeys, wrapped)
	})
	if err != nil {
		return fmt.Errorf("change key-encryption key: %w", err)
	}
	return nil
}

// dataKey is a data key with its version.
type dataKey struct {
	version uint32
	key     secret.Bytes
}

// wrapContext is authenticated with a wrapped data key.
func wrapContext(version []byte) []byte { return append([]byte("OpenGMSA data key "), version...) }

// newDataKey makes a data key.
func newDataKey(version uint32, rand io.Reader) (dataKey, error) {
	key := make([]byte, KeySize)
	if _, err := io.ReadFull(rand, key); err != nil {
		return dataKey{}, err
	}
	return dataKey{version, secret.New(key)}, nil
}

// wrap appends a data key to dst, encrypted under kek.
func wrap(dst []byte, kek secret.Bytes, k dataKey, rand io.Reader) ([]byte, error) {
	aead, err := newGCM(kek.Reveal())
	if err != nil {
		return nil, err
	}
	var nonce [nonceSize]byte
	if _, err := io.ReadFull(rand, nonce[:]); err != nil {
		return nil, err
	}
	head := binary.BigEndian.AppendUint32(nil, k.version)
	dst = append(append(dst, head...), nonce[:]...)
	return aead.Seal(dst, nonce[:], k.key.Reveal(), wrapContext(head)), nil
}

func unwrap(b []byte, kek secret.Bytes) (version uint32, key secret.Bytes, err error) {
	if kek.Len() != KeySize {
		return 0, key, fmt.Errorf("%w: %d bytes, want %d", ErrKey, kek.Len(), KeySize)
	}
	aead, err := newGCM(kek.Reveal())
	if err != nil {
		return 0, key, err
	}
	plain, err := aead.Open(nil, b[versionSize:versionSize+nonceSize], b[versionSize+nonceSize:], wrapContext(b[:versionSize]))
	if err != nil {
		return 0, key, ErrKey
	}
	return binary.BigEndian.Uint32(b), secret.New(plain), nil
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// valueCipher is the cipher of one value, and what is authenticated with it.
func (k *Keyring) valueCipher(version uint32, object dtyp.GUID, name string) (cipher.AEAD, []byte, error) {
	key, ok := k.keys[version]
	if !ok {
		return nil, nil, fmt.Errorf("%w: there is no data key %d", ErrSealed, version)
	}
	bound := binary.BigEndian.AppendUint32(nil, version)
	bound = append(append(bound, object[:]...), name...)
	mac := hmac.New(sha256.New, key.Reveal())
	mac.Write(bound)
	derived := mac.Sum(nil)
	defer clear(derived)
	aead, err := newGCM(derived)
	return aead, bound, err
}

// Seal appends the encryption of plain to dst, bound to the object and the name. It
// fails only if there is no randomness.
func (k *Keyring) Seal(dst, plain []byte, object dtyp.GUID, name string) ([]byte, error) {
	aead, bound, err := k.valueCipher(k.current, object, name)
	if err != nil {
		return nil, err
	}
	var nonce [nonceSize]byte
	if _, err := io.ReadFull(k.rand, nonce[:]); err != nil {
		return nil, err
	}
	dst = append(binary.BigEndian.AppendUint32(dst, k.current), nonce[:]...)
	return aead.Seal(dst, nonce[:], plain, bound), nil
}

// Open decrypts what Seal made for the same object and name. Errors wrap ErrSealed.
func (k *Keyring) Open(sealed []byte, object dtyp.GUID, name string) (secret.Bytes, error) {
	if len(sealed) < versionSize+nonceSize+tagSize {
		return secret.Bytes{}, fmt.Errorf("%w: %d bytes", ErrSealed, len(sealed))
	}
	aead, bound, err := k.valueCipher(binary.BigEndian.Uint32(sealed), object, name)
	if err != nil {
		return secret.Bytes{}, err
	}
	plain, err := aead.Open(nil, sealed[versionSize:versionSize+nonceSize], sealed[versionSize+nonceSize:], bound)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("%w: it was changed, or sealed for something else", ErrSealed)
	}
	return secret.New(plain), nil
}
