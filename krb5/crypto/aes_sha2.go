package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"encoding/binary"
	"fmt"
)

// aesSHA2 is RFC 8009: the tag is an HMAC of the initial vector and the
// ciphertext, so that it is checked before anything is decrypted.
type aesSHA2 struct {
	block cipher.Block
	mac   *mac
}

// newAESSHA2 derives the keys for a usage: RFC 8009, Section 5.
func newAESSHA2(p *profile, key []byte, usage uint32, kind usageKind) *aesSHA2 {
	if kind == forChecksum {
		return &aesSHA2{mac: newMAC(p.hash, kdfSHA2(p, key, usageConstant(usage, constChecksum), p.macKeySize), p.trailer)}
	}
	return &aesSHA2{
		block: newAES(kdfSHA2(p, key, usageConstant(usage, constEncryption), p.keySize)),
		mac:   newMAC(p.hash, kdfSHA2(p, key, usageConstant(usage, constIntegrity), p.macKeySize), p.trailer),
	}
}

// initialVector is the initial cipher state of RFC 8009, Section 5. It is safe
// because every message begins with a random confounder.
var initialVector = make([]byte, aes.BlockSize)

func (a *aesSHA2) seal(buf []byte) {
	text := buf[:len(buf)-a.mac.size]
	ctsEncrypt(a.block, text)
	a.mac.append(buf[len(text):len(text)], initialVector, text) // buf has the room
}

func (a *aesSHA2) open(buf []byte) ([]byte, error) {
	text, tag := buf[:len(buf)-a.mac.size], buf[len(buf)-a.mac.size:]
	if !a.mac.verify(tag, initialVector, text) {
		return nil, ErrIntegrity
	}
	ctsDecrypt(a.block, text)
	return text[aes.BlockSize:], nil
}

func (a *aesSHA2) checksum(dst []byte, parts ...[]byte) []byte {
	return a.mac.append(dst, parts...)
}

// kdfSHA2 is KDF-HMAC-SHA2 of RFC 8009, Section 3, without a context and with
// an output of at most one hash: HMAC(key, 1 | label | 0 | bits), where both
// numbers are 32 bits in big endian.
func kdfSHA2(p *profile, key, label []byte, size int) []byte {
	h := hmac.New(p.hash, key)
	h.Write([]byte{0, 0, 0, 1})
	h.Write(label)
	h.Write(binary.BigEndian.AppendUint32([]byte{0}, uint32(size)*8))
	return h.Sum(nil)[:size]
}

// stringToKeySHA2 is RFC 8009, Section 4: PBKDF2 over the type's name and the
// salt, then the KDF with the label "kerberos".
func stringToKeySHA2(p *profile, password []byte, salt string, iterations int) ([]byte, error) {
	t, err := pbkdf2.Key(p.hash, string(password), []byte(p.name+"\x00"+salt), iterations, p.keySize)
	if err != nil {
		return nil, fmt.Errorf("crypto: %w", err)
	}
	return kdfSHA2(p, t, []byte("kerberos"), p.keySize), nil
}
