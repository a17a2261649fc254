package crypto

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/crypto/md4" //nolint:staticcheck // RFC 4757 is made of it, and needs an Allowance
)

// rc4Suite is RFC 4757: the tag stands before the ciphertext, and the RC4 key
// is an HMAC of the tag.
type rc4Suite struct {
	key   []byte // the protocol key, for checksums
	usage uint32 // as translated by rc4Usage
	k1    []byte // HMAC(key, usage), for encryption
}

// newRC4 derives the key of a usage: RFC 4757, Section 5.
func newRC4(key []byte, usage uint32) *rc4Suite {
	usage = rc4Usage(usage)
	return &rc4Suite{
		key:   key,
		usage: usage,
		k1:    hmacMD5(key, binary.LittleEndian.AppendUint32(nil, usage)),
	}
}

// rc4Usage translates key usage numbers to those of RFC 4757, Section 3.
//
// Deviation: the RFC maps 9, the TGS-REP in a subkey, to 8. An erratum takes
// that back, and MIT Kerberos does not do it.
func rc4Usage(usage uint32) uint32 {
	switch usage {
	case 3:
		return 8
	case 23:
		return 13
	}
	return usage
}

// seal turns confounder | plaintext | room into tag | RC4(confounder | plaintext).
func (r *rc4Suite) seal(buf []byte) {
	text := buf[md5.Size:]
	copy(text, buf[:len(text)])
	tag := hmacMD5(r.k1, text)
	copy(buf, tag)
	r.stream(tag, text)
}

func (r *rc4Suite) open(buf []byte) ([]byte, error) {
	tag, text := buf[:md5.Size], buf[md5.Size:]
	r.stream(tag, text)
	if !equal(hmacMD5(r.k1, text), tag) {
		clear(text)
		return nil, ErrIntegrity
	}
	return text[rc4HMAC.confounder:], nil
}

// stream applies RC4 under the key that belongs to the tag.
func (r *rc4Suite) stream(tag, text []byte) {
	c, err := rc4.NewCipher(hmacMD5(r.k1, tag))
	if err != nil {
		panic("crypto: " + err.Error()) // 16 bytes are a valid length
	}
	c.XORKeyStream(text, text)
}

// checksum is HMAC-MD5 of RFC 4757, Section 4.
func (r *rc4Suite) checksum(dst []byte, parts ...[]byte) []byte {
	h := md5.New()
	h.Write(binary.LittleEndian.AppendUint32(nil, r.usage))
	for _, p := range parts {
		h.Write(p)
	}
	signing := hmacMD5(r.key, []byte("signaturekey\x00"))
	return append(dst, hmacMD5(signing, h.Sum(nil))...)
}

func hmacMD5(key, data []byte) []byte {
	h := hmac.New(md5.New, key)
	h.Write(data)
	return h.Sum(nil)
}

// stringToKeyRC4 is MD4 of the password in UTF-16 little endian, without a
// salt: RFC 4757, Section 2. The password comes in UTF-8.
func stringToKeyRC4(password []byte) []byte {
	h := md4.New()
	for len(password) > 0 {
		r, n := utf8.DecodeRune(password)
		password = password[n:]
		for _, u := range utf16.AppendRune(nil, r) {
			h.Write(binary.LittleEndian.AppendUint16(nil, u))
		}
	}
	return h.Sum(nil)
}
