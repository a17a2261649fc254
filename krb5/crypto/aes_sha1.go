package crypto

import (
	"crypto/cipher"
	"crypto/pbkdf2"
	"encoding/binary"
	"fmt"
)

// aesSHA1 is the simplified profile of RFC 3961, Section 5.3 with the AES of
// RFC 3962: the tag is an HMAC of confounder and plaintext, appended to the
// ciphertext.
type aesSHA1 struct {
	block cipher.Block
	mac   *mac
}

// The last byte of the derivation constants, RFC 3961, Section 5.3.
const (
	constChecksum   = 0x99 // Kc
	constEncryption = 0xAA // Ke
	constIntegrity  = 0x55 // Ki
)

// newAESSHA1 derives the keys for a usage: RFC 3961, Section 5.3.
func newAESSHA1(p *profile, key []byte, usage uint32, kind usageKind) *aesSHA1 {
	base := newAES(key)
	if kind == forChecksum {
		return &aesSHA1{mac: newMAC(p.hash, dk(base, p.keySize, usageConstant(usage, constChecksum)), p.trailer)}
	}
	return &aesSHA1{
		block: newAES(dk(base, p.keySize, usageConstant(usage, constEncryption))),
		mac:   newMAC(p.hash, dk(base, p.keySize, usageConstant(usage, constIntegrity)), p.trailer),
	}
}

func (a *aesSHA1) seal(buf []byte) {
	text := buf[:len(buf)-a.mac.size]
	a.mac.append(buf[len(text):len(text)], text) // buf has the room
	ctsEncrypt(a.block, text)
}

func (a *aesSHA1) open(buf []byte) ([]byte, error) {
	text, tag := buf[:len(buf)-a.mac.size], buf[len(buf)-a.mac.size:]
	ctsDecrypt(a.block, text)
	if !a.mac.verify(tag, text) {
		clear(text)
		return nil, ErrIntegrity
	}
	return text[a.block.BlockSize():], nil
}

func (a *aesSHA1) checksum(dst []byte, parts ...[]byte) []byte {
	return a.mac.append(dst, parts...)
}

// usageConstant is the well-known constant of a derived key: the usage number
// in big endian and a byte for its purpose.
func usageConstant(usage uint32, purpose byte) []byte {
	return append(binary.BigEndian.AppendUint32(make([]byte, 0, 5), usage), purpose)
}

// dk is the key derivation DK of RFC 3961, Section 5.1, for AES, whose
// random-to-key is the identity: the key base encrypts the folded constant,
// and each block the one before it, until there are size bytes.
func dk(base cipher.Block, size int, constant []byte) []byte {
	n := base.BlockSize()
	out := make([]byte, (size+n-1)/n*n)
	nfold(out[:n], constant)
	for i := 0; i < len(out); i += n {
		base.Encrypt(out[i:i+n], out[max(i-n, 0):])
	}
	return out[:size]
}

// nfold stretches or shrinks in to fill out: RFC 3961, Section 5.1. Copies of
// in, each rotated right by 13 bits more than the one before, are laid end to
// end up to the least common multiple of the two lengths, and the pieces of
// out's length are added in ones' complement.
func nfold(out, in []byte) {
	clear(out)
	total := len(in) * len(out) / gcd(len(in), len(out))
	bits := len(in) * 8
	carry := 0
	// From the least significant byte, so that carries run on.
	for i := total - 1; i >= 0; i-- {
		// Byte i of the long string is byte i mod len(in) of in, rotated right
		// by 13 bits times the number of the copy: its first bit is bit at of in.
		at := (i%len(in))*8 - 13*(i/len(in))
		at = (at%bits + bits) % bits
		hi, lo := in[at/8], in[(at/8+1)%len(in)]
		b := byte((uint16(hi)<<8 | uint16(lo)) >> (8 - at%8))
		carry += int(out[i%len(out)]) + int(b)
		out[i%len(out)] = byte(carry)
		carry >>= 8
	}
	for i := len(out) - 1; carry != 0; i-- {
		if i < 0 {
			i = len(out) - 1
		}
		carry += int(out[i])
		out[i] = byte(carry)
		carry >>= 8
	}
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// stringToKeySHA1 is RFC 3962, Section 4: PBKDF2 with HMAC-SHA-1, then DK with
// the constant "kerberos".
func stringToKeySHA1(p *profile, password []byte, salt string, iterations int) ([]byte, error) {
	t, err := stretchSHA1(p, password, salt, iterations)
	if err != nil {
		return nil, err
	}
	defer clear(t)
	return finishSHA1(p, t), nil
}

func stretchSHA1(p *profile, password []byte, salt string, iterations int) ([]byte, error) {
	t, err := pbkdf2.Key(p.hash, string(password), []byte(salt), iterations, p.keySize)
	if err != nil {
		return nil, fmt.Errorf("crypto: %w", err)
	}
	return t, nil
}

func finishSHA1(p *profile, t []byte) []byte { return dk(newAES(t), p.keySize, []byte("kerberos")) }
