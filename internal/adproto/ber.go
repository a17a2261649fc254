package adproto

import (
	"errors"
	"fmt"
)

// MaxMessageDepth bounds how deeply the elements of one LDAP message may nest.
// The deepest message of RFC 4511 is a search request, whose filter has its own
// limit of [MaxFilterDepth]; eight more levels hold everything around it.
const MaxMessageDepth = MaxFilterDepth + 8

// ErrTruncated says that the bytes end before the element that they begin.
var ErrTruncated = errors.New("adproto: truncated element")

// MessageSize reads the header of an LDAP message, RFC 4511, Section 5.1, and
// returns the whole size in bytes, header included. It returns 0 and no error
// when prefix is too short to tell: six bytes always suffice. Lengths are
// definite; more octets than needed are accepted, because Active Directory
// writes every length in five. A size above limit is an error.
func MessageSize(prefix []byte, limit int) (int, error) {
	if len(prefix) == 0 {
		return 0, nil
	}
	if prefix[0] != tagSequence {
		return 0, fmt.Errorf("adproto: LDAP message begins with tag %#02x, want %#02x", prefix[0], tagSequence)
	}
	header, body, err := tlvHeader(prefix)
	switch {
	case errors.Is(err, ErrTruncated):
		return 0, nil
	case err != nil:
		return 0, err
	case body > limit-header:
		return 0, fmt.Errorf("adproto: LDAP message of %d bytes, limit %d", header+body, limit)
	}
	return header + body, nil
}

// CheckMessage reports whether b is one well-formed LDAP message as far as its
// structure goes: definite lengths, elements that fill their parents exactly,
// depth at most [MaxMessageDepth]. Behind it a decoder that trusts lengths
// cannot be made to allocate more than a small multiple of b.
func CheckMessage(b []byte) error {
	tag, body, rest, err := ReadElement(b)
	switch {
	case err != nil:
		return err
	case tag != tagSequence:
		return fmt.Errorf("adproto: LDAP message begins with tag %#02x, want %#02x", tag, tagSequence)
	case len(rest) != 0:
		return fmt.Errorf("adproto: %d bytes after the LDAP message", len(rest))
	}
	return checkElements(body, 1)
}

// checkElements walks the elements that fill b.
func checkElements(b []byte, depth int) error {
	if depth > MaxMessageDepth {
		return fmt.Errorf("adproto: LDAP message nests deeper than %d", MaxMessageDepth)
	}
	for len(b) > 0 {
		tag, body, rest, err := ReadElement(b)
		if err != nil {
			return err
		}
		if tag&constructed != 0 {
			if err := checkElements(body, depth+1); err != nil {
				return err
			}
		}
		b = rest
	}
	return nil
}

// Tags of RFC 4511 and X.690 that this package reads and writes.
const (
	tagBoolean     = 0x01
	tagOctetString = 0x04
	tagSequence    = 0x30
	constructed    = 0x20
	contextClass   = 0x80
)

// tlvHeader reads tag and length: RFC 4511, Section 5.1 allows the definite
// form only, and LDAP has no tag number above 30.
func tlvHeader(b []byte) (header, body int, err error) {
	if len(b) < 2 {
		return 0, 0, ErrTruncated
	}
	if b[0]&0x1f == 0x1f {
		return 0, 0, fmt.Errorf("adproto: tag %#02x, want one byte", b[0])
	}
	if b[1] < 0x80 {
		return 2, int(b[1]), nil
	}
	n := int(b[1] & 0x7f)
	if n == 0 {
		return 0, 0, errors.New("adproto: indefinite length")
	}
	if n > 4 {
		return 0, 0, fmt.Errorf("adproto: length of %d octets, limit 4", n)
	}
	if len(b) < 2+n {
		return 0, 0, ErrTruncated
	}
	length := 0
	for _, c := range b[2 : 2+n] {
		length = length<<8 | int(c)
	}
	if int64(length) >= 1<<31 || length < 0 {
		return 0, 0, fmt.Errorf("adproto: length %d, limit %d", uint32(length), 1<<31-1)
	}
	return 2 + n, length, nil
}

// ReadElement splits the first element off b: its tag, its content, and what follows
// it. Lengths are definite and in at most four octets; tags are one octet.
func ReadElement(b []byte) (tag byte, body, rest []byte, err error) {
	header, length, err := tlvHeader(b)
	if err != nil {
		return 0, nil, nil, err
	}
	if length > len(b)-header {
		return 0, nil, nil, ErrTruncated
	}
	return b[0], b[header : header+length], b[header+length:], nil
}

// AppendElement writes an element with the shortest length.
func AppendElement(dst []byte, tag byte, body []byte) []byte {
	dst = append(dst, tag)
	n := len(body)
	switch {
	case n < 0x80:
		dst = append(dst, byte(n))
	case n < 1<<8:
		dst = append(dst, 0x81, byte(n))
	case n < 1<<16:
		dst = append(dst, 0x82, byte(n>>8), byte(n))
	case n < 1<<24:
		dst = append(dst, 0x83, byte(n>>16), byte(n>>8), byte(n))
	default:
		dst = append(dst, 0x84, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(dst, body...)
}
