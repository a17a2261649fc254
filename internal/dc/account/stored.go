package account

import (
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// PrivateKeys is the private row of an account's stored keys.
const PrivateKeys = "keys"

// ErrKeys is wrapped when a row of keys cannot be read.
var ErrKeys = errors.New("malformed row of keys")

// generation is the keys of one password.
type generation struct {
	kvno uint32
	salt string
	keys []*crypto.Key // strongest first
}

// stored is the row "keys" of an account. It is immutable once it is read.
type stored struct {
	// verify is the key of the verifiers of this account, which makes them worth
	// nothing elsewhere: see verifier.
	verify secret.Bytes
	// current is the password in force, previous the one before it, whose kvno is 0
	// where there is none: tickets for a service outlive the password that they were
	// issued under.
	current, previous generation
	// password verifies the password in force; empty where the keys are random.
	password verifier
	// history verifies those before, newest first.
	history []verifier
}

// Limits of a row of keys.
const (
	storedVersion = 1
	maxKeys       = 8    // of one generation
	maxStoredSalt = 1024 // bytes
	maxHistory    = 1024 // the most that pwdHistoryLength can be, [MS-SAMR] 3.1.1.6
)

// encode is the row in bytes; numbers are big endian:
//
//	version 1 | verifier key 32 | current | previous | verifier | count 2 × verifier
//
//	generation: kvno 4 | length 2, salt | count 1 × (etype 1, length 1, key)
//	verifier:   length 1 | mac
func (s *stored) encode() []byte {
	dst := append([]byte{storedVersion}, s.verify.Reveal()...)
	dst = s.previous.append(s.current.append(dst))
	dst = append(append(dst, byte(len(s.password))), s.password...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s.history)))
	for _, v := range s.history {
		dst = append(append(dst, byte(len(v))), v...)
	}
	return dst
}

func (g generation) append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, g.kvno)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(g.salt)))
	dst = append(dst, g.salt...)
	dst = append(dst, byte(len(g.keys)))
	for _, k := range g.keys {
		dst = append(dst, byte(k.EType()), byte(k.Secret().Len()))
		dst = append(dst, k.Secret().Reveal()...)
	}
	return dst
}

// same reports whether two rows say the same; nil, which is no row, is the same as none.
func (s *stored) same(o *stored) bool {
	if s == nil || o == nil {
		return false
	}
	a, b := s.encode(), o.encode()
	defer clear(a)
	defer clear(b)
	return subtle.ConstantTimeCompare(a, b) == 1
}

// parseStored reads what encode wrote. Errors wrap ErrKeys.
func parseStored(row secret.Bytes) (*stored, error) {
	d := keyDecoder{rest: row.Reveal()}
	if v := d.number(1); d.err == nil && v != storedVersion {
		d.fail("version %d, want %d", v, storedVersion)
	}
	s := &stored{verify: secret.Copy(d.take(verifierKeySize))}
	s.current, s.previous = d.generation(), d.generation()
	s.password = d.verifier()
	n := d.number(2)
	if n > maxHistory {
		d.fail("%d old passwords, limit %d", n, maxHistory)
	}
	for i := 0; i < n && d.err == nil; i++ {
		s.history = append(s.history, d.verifier())
	}
	if d.err == nil && len(d.rest) > 0 {
		d.fail("%d trailing bytes", len(d.rest))
	}
	if d.err == nil && (s.current.kvno == 0 || len(s.current.keys) == 0) {
		d.fail("no current key")
	}
	if d.err != nil {
		return nil, d.err
	}
	return s, nil
}

// keyDecoder reads parts of the row and keeps the first error; after it all parts are
// empty.
type keyDecoder struct {
	rest []byte
	err  error
}

func (d *keyDecoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrKeys}, args...)...)
	}
	d.rest = nil
}

func (d *keyDecoder) take(n int) []byte {
	if d.err != nil || n > len(d.rest) {
		d.fail("%d bytes left, want %d", len(d.rest), n)
		return nil
	}
	out := d.rest[:n]
	d.rest = d.rest[n:]
	return out
}

// number reads a number of so many bytes.
func (d *keyDecoder) number(size int) int {
	n := 0
	for _, b := range d.take(size) {
		n = n<<8 | int(b)
	}
	return n
}

func (d *keyDecoder) generation() generation {
	g := generation{kvno: uint32(d.number(4))}
	size := d.number(2)
	if size > maxStoredSalt {
		d.fail("salt of %d bytes, limit %d", size, maxStoredSalt)
	}
	g.salt = string(d.take(size))
	n := d.number(1)
	if n > maxKeys {
		d.fail("%d keys, limit %d", n, maxKeys)
	}
	for i := 0; i < n && d.err == nil; i++ {
		etype := crypto.EType(d.number(1))
		key, err := crypto.NewKey(etype, secret.Copy(d.take(d.number(1))), crypto.AllowRC4)
		if err != nil {
			d.fail("key %d: %w", i, err)
			break
		}
		g.keys = append(g.keys, key)
	}
	return g
}

func (d *keyDecoder) verifier() verifier {
	n := d.number(1)
	if n != 0 && n != verifierSize {
		d.fail("verifier of %d bytes, want %d", n, verifierSize)
	}
	return verifier(append([]byte(nil), d.take(n)...))
}
