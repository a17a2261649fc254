package krb5

import (
	"fmt"
	"io"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/internal/der"
	"github.com/opengmsa/opengmsa/secret"
)

// EncryptedData is a part that was encrypted with a key of type EType: RFC 4120,
// Section 5.2.9.
type EncryptedData struct {
	EType crypto.EType
	// KVNO is the version of a long-term key; 0 stands for absent.
	KVNO   uint32
	Cipher []byte
}

// Seal encrypts plain; rand gives the confounder.
func Seal(key *crypto.Key, usage uint32, plain []byte, rand io.Reader) (EncryptedData, error) {
	cipher, err := key.Encrypt(nil, usage, plain, rand)
	if err != nil {
		return EncryptedData{}, err
	}
	return EncryptedData{EType: key.EType(), Cipher: cipher}, nil
}

// Open decrypts e. The error is [crypto.ErrIntegrity] if the key is not the one
// e was encrypted with, or of another type.
func (e EncryptedData) Open(key *crypto.Key, usage uint32) ([]byte, error) {
	if e.EType != key.EType() {
		return nil, fmt.Errorf("%w: encrypted with %v, the key is for %v", crypto.ErrIntegrity, e.EType, key.EType())
	}
	return key.Decrypt(usage, e.Cipher)
}

// ParseEncryptedData reads EncryptedData, as it stands alone in the value of
// PA-ENC-TIMESTAMP.
func ParseEncryptedData(b []byte) (EncryptedData, error) {
	return der.Parse(b, MaxMessage, "EncryptedData", readEncryptedData)
}

// Append appends the DER of e.
func (e EncryptedData) Append(dst []byte) []byte { return build(dst, e.build) }

func (e EncryptedData) build(b *der.Builder) {
	b.Sequence(func() {
		b.IntField(0, int64(e.EType))
		if e.KVNO != 0 {
			b.IntField(1, int64(e.KVNO))
		}
		b.OctetsField(2, e.Cipher)
	})
}

func readEncryptedData(v der.Value) EncryptedData {
	s := v.Sequence("EncryptedData")
	e := EncryptedData{
		EType:  crypto.EType(s.Field(0, "etype").Int32()),
		KVNO:   s.Optional(1, "kvno").Uint32(),
		Cipher: s.Field(2, "cipher").Octets(),
	}
	s.End()
	return e
}

// EncryptionKey is a key as a message carries it: RFC 4120, Section 5.2.9. The
// zero value stands for an absent one.
type EncryptionKey struct {
	EType crypto.EType
	Value secret.Bytes
}

// KeyOf is the wire form of k, which may be nil for none.
func KeyOf(k *crypto.Key) EncryptionKey {
	if k == nil {
		return EncryptionKey{}
	}
	return EncryptionKey{EType: k.EType(), Value: k.Secret()}
}

// Key makes a key that works; it fails for a type that is not supported or not
// allowed, and for a wrong size.
func (k EncryptionKey) Key(allow ...crypto.Allowance) (*crypto.Key, error) {
	return crypto.NewKey(k.EType, k.Value, allow...)
}

// IsZero reports whether the key is absent.
func (k EncryptionKey) IsZero() bool { return k.EType == 0 && k.Value.IsZero() }

func (k EncryptionKey) build(b *der.Builder) {
	b.Sequence(func() {
		b.IntField(0, int64(k.EType))
		b.OctetsField(1, k.Value.Reveal())
	})
}

// readEncryptionKey copies the key out of the message, so that the plain text
// of the message can be overwritten.
func readEncryptionKey(v der.Value) EncryptionKey {
	s := v.Sequence("EncryptionKey")
	k := EncryptionKey{
		EType: crypto.EType(s.Field(0, "keytype").Int32()),
		Value: secret.Copy(s.Field(1, "keyvalue").Octets()),
	}
	s.End()
	return k
}

// optionalKey writes [n] EncryptionKey unless k is absent.
func optionalKey(b *der.Builder, n int, k EncryptionKey) {
	if !k.IsZero() {
		b.Explicit(n, func() { k.build(b) })
	}
}

// Checksum is RFC 4120, Section 5.2.9. The zero value stands for an absent one.
type Checksum struct {
	Type int32
	Sum  []byte
}

// IsZero reports whether the checksum is absent.
func (c Checksum) IsZero() bool { return c.Type == 0 && len(c.Sum) == 0 }

// ParseChecksum reads a Checksum, as it stands alone in the value of
// PA-REQ-ENC-PA-REP.
func ParseChecksum(b []byte) (Checksum, error) {
	return der.Parse(b, MaxMessage, "Checksum", readChecksum)
}

// Append appends the DER of c.
func (c Checksum) Append(dst []byte) []byte { return build(dst, c.build) }

func (c Checksum) build(b *der.Builder) {
	b.Sequence(func() {
		b.IntField(0, int64(c.Type))
		b.OctetsField(1, c.Sum)
	})
}

func readChecksum(v der.Value) Checksum {
	s := v.Sequence("Checksum")
	c := Checksum{Type: s.Field(0, "cksumtype").Int32(), Sum: s.Field(1, "checksum").Octets()}
	s.End()
	return c
}

// build runs f on a builder that appends to dst.
func build(dst []byte, f func(*der.Builder)) []byte {
	b := der.NewBuilder(dst)
	f(b)
	return b.Bytes()
}
