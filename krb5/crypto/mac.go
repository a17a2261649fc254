package crypto

import (
	"crypto/hmac"
	"crypto/subtle"
	"hash"
	"sync"
)

// maxTrailer is the longest truncated HMAC of this package: RFC 8009 with
// SHA-384.
const maxTrailer = 24

// mac is an HMAC under one key, truncated to size bytes, for concurrent use.
// The states keep the key's two hashed blocks, which otherwise cost as much as
// 128 bytes of data.
type mac struct {
	size   int
	states sync.Pool // of *macState
}

type macState struct {
	hash.Hash
	sum [64]byte
}

func newMAC(newHash func() hash.Hash, key []byte, size int) *mac {
	return &mac{size: size, states: sync.Pool{New: func() any {
		return &macState{Hash: hmac.New(newHash, key)}
	}}}
}

// append appends the truncated HMAC of the joined parts.
func (m *mac) append(dst []byte, parts ...[]byte) []byte {
	s := m.states.Get().(*macState)
	s.Reset()
	for _, p := range parts {
		s.Write(p)
	}
	dst = append(dst, s.Sum(s.sum[:0])[:m.size]...)
	m.states.Put(s)
	return dst
}

// verify compares the truncated HMAC of the joined parts in constant time.
func (m *mac) verify(sum []byte, parts ...[]byte) bool {
	s := m.states.Get().(*macState)
	s.Reset()
	for _, p := range parts {
		s.Write(p)
	}
	ok := equal(s.Sum(s.sum[:0])[:m.size], sum)
	m.states.Put(s)
	return ok
}

// equal compares in time that depends on the lengths alone.
func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }
