package pac

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// usageSignature is the key usage of all signatures: KERB_NON_KERB_CKSUM_SALT,
// [MS-PAC] 2.8.
const usageSignature = 17

// Signature is PAC_SIGNATURE_DATA, [MS-PAC] 2.8.
type Signature struct {
	Type  int32 // of the checksum, always that of the key
	Value []byte
	// RODC is the number of the read-only controller whose krbtgt has signed;
	// 0, which leaves the field out, for every other controller.
	RODC uint16
}

// checksumSizes has the keyed checksums only: everybody can make the others.
var checksumSizes = map[int32]int{
	crypto.ChecksumAES128SHA1: crypto.AES128SHA1.ChecksumSize(),
	crypto.ChecksumAES256SHA1: crypto.AES256SHA1.ChecksumSize(),
	crypto.ChecksumAES128SHA2: crypto.AES128SHA2.ChecksumSize(),
	crypto.ChecksumAES256SHA2: crypto.AES256SHA2.ChecksumSize(),
	crypto.ChecksumHMACMD5:    crypto.RC4HMAC.ChecksumSize(),
}

// Signature opens the buffer of a signature.
func (p PAC) Signature(t Type) (Signature, error) {
	return open(p, t, func(b []byte) (Signature, error) {
		s, err := ParseSignature(b)
		if err != nil {
			return Signature{}, fmt.Errorf("pac: %v: %w", t, err)
		}
		return s, nil
	})
}

// ParseSignature reads a signature that fills b exactly. A checksum that needs no
// key, or whose type is unknown, is ErrSignature.
func ParseSignature(b []byte) (Signature, error) {
	if len(b) < signatureHeader {
		return Signature{}, fmt.Errorf("%w: %d bytes, want at least %d", ErrMalformed, len(b), signatureHeader)
	}
	s := Signature{Type: int32(binary.LittleEndian.Uint32(b))}
	size, ok := checksumSizes[s.Type]
	if !ok {
		return Signature{}, fmt.Errorf("%w: checksum type %d is not a keyed one", ErrSignature, s.Type)
	}
	switch rest := b[signatureHeader:]; len(rest) {
	case size:
		s.Value = bytes.Clone(rest)
	case size + 2:
		s.Value = bytes.Clone(rest[:size])
		if s.RODC = binary.LittleEndian.Uint16(rest[size:]); s.RODC == 0 {
			return Signature{}, fmt.Errorf("%w: RODCIdentifier is 0", ErrMalformed)
		}
	default:
		return Signature{}, fmt.Errorf("%w: %d bytes of checksum type %d, want %d", ErrMalformed, len(rest), s.Type, size)
	}
	return s, nil
}

// Append appends the signature's bytes.
func (s Signature) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(s.Type))
	dst = append(dst, s.Value...)
	if s.RODC != 0 {
		dst = binary.LittleEndian.AppendUint16(dst, s.RODC)
	}
	return dst
}

// signatureHeader is the size of what stands before a checksum: its type.
const signatureHeader = 4

// blank is a signature of the key's type with zeros in place of the checksum.
func blank(k *crypto.Key) []byte {
	b := make([]byte, signatureHeader+k.EType().ChecksumSize())
	binary.LittleEndian.PutUint32(b, uint32(k.ChecksumType()))
	return b
}

// sign puts the key's signature of data into a blank one.
func sign(blank []byte, k *crypto.Key, data []byte) {
	k.AppendChecksum(blank[:signatureHeader], usageSignature, data)
}

// verify checks the key's signature of data in the buffer of type t.
func (p PAC) verify(t Type, k *crypto.Key, data []byte) error {
	s, err := p.Signature(t)
	if err != nil {
		return err
	}
	if s.Type != k.ChecksumType() {
		return fmt.Errorf("pac: %v: %w: checksum type %d, want %d, that of a key of %v",
			t, ErrSignature, s.Type, k.ChecksumType(), k.EType())
	}
	if err := k.VerifyChecksum(usageSignature, data, s.Value); err != nil {
		return fmt.Errorf("pac: %v: %w: %w", t, ErrSignature, err)
	}
	return nil
}

// with gives the PAC's bytes with zeros in place of the checksums of the types;
// their types and read-only controllers stay.
func (p PAC) with(zeroed ...Type) ([]byte, error) {
	q := p.clone(0)
	for _, t := range zeroed {
		if _, ok := p.Find(t); !ok {
			continue
		}
		s, err := p.Signature(t)
		if err != nil {
			return nil, err
		}
		clear(s.Value)
		q.Set(t, s.Append(nil))
	}
	return q.Append(nil), nil
}

// VerifyServer checks the server's signature, [MS-PAC] 2.8.2. It is all that a
// service can check, which has no other key; it proves that whoever made the PAC
// had the service's key.
func (p PAC) VerifyServer(server *crypto.Key) error {
	data, err := p.with(TypeServerChecksum, TypeKDCChecksum)
	if err != nil {
		return err
	}
	return p.verify(TypeServerChecksum, server, data)
}

// verifyKDC checks the signature of the server's signature, [MS-PAC] 2.8.3.
func (p PAC) verifyKDC(kdc *crypto.Key) error {
	server, err := p.Signature(TypeServerChecksum)
	if err != nil {
		return err
	}
	return p.verify(TypeKDCChecksum, kdc, server.Value)
}

// verifyFull checks the krbtgt's signature of the whole, [MS-PAC] 2.8.4.
func (p PAC) verifyFull(kdc *crypto.Key) error {
	data, err := p.with(TypeServerChecksum, TypeKDCChecksum, TypeFullChecksum)
	if err != nil {
		return err
	}
	return p.verify(TypeFullChecksum, kdc, data)
}
