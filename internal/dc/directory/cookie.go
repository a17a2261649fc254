package directory

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/opengmsa/opengmsa/dtyp"
)

// A cookie is the position of a search in pages, which the client keeps: the controller
// keeps nothing. It is encrypted under a key of this process, for the client's own SID
// and the very search that it came from. Nothing depends on its secrecy, because what
// the client may read is judged anew on every page; but a client that could make
// cookies could make the directory begin anywhere.

// maxCookie bounds a cookie, in bytes: a path of names is the longest that it holds.
const maxCookie = 16 << 10

// newCookieCipher makes the cipher of this process's cookies.
func newCookieCipher(rand io.Reader) (cipher.AEAD, error) {
	key := make([]byte, 16)
	if _, err := io.ReadFull(rand, key); err != nil {
		return nil, fmt.Errorf("key for cookies: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// cookie is the position of the search for its client.
func (s *search) cookie() ([]byte, error) {
	nonce := make([]byte, s.cookies.NonceSize(), 128)
	if _, err := io.ReadFull(s.cfg.Rand, nonce); err != nil {
		return nil, AsError(fmt.Errorf("nonce of a cookie: %w", err))
	}
	return s.cookies.Seal(nonce, nonce, s.pos.encode(), s.fingerprint()), nil
}

// resume sets the position that a cookie holds; the search has no state of the
// directory yet. A cookie of another search, or of a
// process before this one, is refused as RFC 2696, Section 3 has it.
func (s *search) resume(cookies cipher.AEAD, cookie []byte) error {
	refused := func(cause error) error {
		return &Error{Code: UnwillingToPerform, Win32: Win32InvalidParameter,
			Message: "the cookie is not of this search: begin it anew", Err: cause}
	}
	n := cookies.NonceSize()
	if len(cookie) < n || len(cookie) > maxCookie {
		return refused(fmt.Errorf("a cookie of %d bytes", len(cookie)))
	}
	plain, err := cookies.Open(nil, cookie[:n], cookie[n:], s.fingerprint())
	if err != nil {
		return refused(err)
	}
	if s.pos, err = parsePosition(plain); err != nil {
		return refused(err)
	}
	return nil
}

// fingerprint is what must stay the same from page to page: whose search it is, where,
// and for what. What is shown of entries and how many at a time may change.
func (s *search) fingerprint() []byte {
	h := sha256.New()
	part := func(b []byte) {
		_ = binary.Write(h, binary.BigEndian, uint32(len(b))) // a hash takes everything
		h.Write(b)
	}
	part(s.caller.SID.Append(nil))
	part([]byte(s.q.Base))
	part(s.q.Filter.Append(nil))
	part([]byte(s.q.Sort))
	part(fmt.Appendf(nil, "%d %t %t %t", s.q.Scope, s.q.Reverse, s.showDeleted, s.globalCatalog))
	return h.Sum(nil)
}

// encode is a position in bytes: its kind in one, then what the kind has.
func (p position) encode() []byte {
	dst := []byte{byte(p.kind)}
	switch p.kind {
	case atWalk:
		for _, name := range p.path {
			dst = binary.AppendUvarint(dst, uint64(len(name)))
			dst = append(dst, name...)
		}
	case atIndex:
		dst = append(dst, p.guid[:]...)
	case atSchema:
		dst = binary.AppendUvarint(dst, uint64(p.next))
	case atSorted:
		dst = append(dst, p.sorted.guid[:]...)
		if !p.sorted.absent {
			dst = append(append(dst, 1), p.sorted.key...)
		}
	}
	return dst
}

// errPosition: a cookie that is authentic and yet none, which would be our own fault.
var errPosition = errors.New("malformed position")

func parsePosition(b []byte) (p position, err error) {
	if len(b) == 0 {
		return p, errPosition
	}
	p.kind, b = place(b[0]), b[1:]
	switch p.kind {
	case atWalk:
		for len(b) > 0 {
			n, size := binary.Uvarint(b)
			if size <= 0 || n > uint64(len(b)-size) || len(p.path) == maxDepth {
				return p, errPosition
			}
			p.path = append(p.path, string(b[size:size+int(n)]))
			b = b[size+int(n):]
		}
		return p, nil
	case atIndex:
		p.guid, err = dtyp.GUIDFromBytes(b)
		return p, err
	case atSchema:
		n, size := binary.Uvarint(b)
		if size <= 0 || size != len(b) || n > 1<<20 {
			return p, errPosition
		}
		p.next = int(n)
		return p, nil
	case atSorted:
		return p, p.sorted.parse(b)
	}
	return p, errPosition
}

func (x *sortable) parse(b []byte) (err error) {
	if len(b) < dtyp.GUIDSize {
		return errPosition
	}
	if x.guid, err = dtyp.GUIDFromBytes(b[:dtyp.GUIDSize]); err != nil {
		return err
	}
	rest := b[dtyp.GUIDSize:]
	x.absent = len(rest) == 0
	if !x.absent {
		if rest[0] != 1 {
			return errPosition
		}
		x.key = rest[1:]
	}
	return nil
}
