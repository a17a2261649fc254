package crypto

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/subtle"
)

// ctsEncrypt encrypts buf in place in CBC mode with ciphertext stealing and an
// initial vector of zeros, in the variant of RFC 3962, Section 5: the last two
// blocks are always swapped, except that one single block is not. The zero
// vector is safe because every message begins with a random confounder. buf
// must have at least one block.
func ctsEncrypt(b cipher.Block, buf []byte) {
	last := lastBlock(len(buf))
	b.Encrypt(buf, buf)
	for i := aes.BlockSize; i < last; i += aes.BlockSize {
		c := buf[i : i+aes.BlockSize]
		subtle.XORBytes(c, c, buf[i-aes.BlockSize:i])
		b.Encrypt(c, c)
	}
	if last == 0 {
		return
	}
	// prev is C[n-1]; tail is P[n], perhaps short. Afterwards prev is C[n] and
	// tail the beginning of C[n-1].
	prev, tail := buf[last-aes.BlockSize:last], buf[last:]
	for i := range tail {
		prev[i], tail[i] = prev[i]^tail[i], prev[i]
	}
	b.Encrypt(prev, prev)
}

// ctsDecrypt undoes [ctsEncrypt], in place.
func ctsDecrypt(b cipher.Block, buf []byte) {
	last := lastBlock(len(buf))
	if last > 0 {
		// prev is C[n]; decrypted it is P[n], padded with zeros, XOR C[n-1], so
		// that its end is the part of C[n-1] that was not sent.
		prev, tail := buf[last-aes.BlockSize:last], buf[last:]
		b.Decrypt(prev, prev)
		for i := range tail {
			prev[i], tail[i] = tail[i], prev[i]^tail[i]
		}
	}
	for i := max(last, aes.BlockSize) - aes.BlockSize; i > 0; i -= aes.BlockSize {
		c := buf[i : i+aes.BlockSize]
		b.Decrypt(c, c)
		subtle.XORBytes(c, c, buf[i-aes.BlockSize:i])
	}
	b.Decrypt(buf, buf)
}

// lastBlock is the offset of the last, perhaps partial, block of n bytes.
func lastBlock(n int) int { return (n - 1) / aes.BlockSize * aes.BlockSize }

// newAES never fails: the profiles have valid key sizes only.
func newAES(key []byte) cipher.Block {
	b, err := aes.NewCipher(key)
	if err != nil {
		panic("crypto: " + err.Error())
	}
	return b
}
