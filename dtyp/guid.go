package dtyp

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// GUIDSize is the number of bytes of a GUID on the wire.
const GUIDSize = 16

// ErrGUID is wrapped by every error about a malformed GUID.
var ErrGUID = errors.New("malformed GUID")

// GUID is a globally unique identifier in the order of the wire, [MS-DTYP]
// 2.3.4.2: its first three fields (4, 2 and 2 bytes) are little endian, the
// last 8 bytes are as they are printed. It is comparable; the zero value is
// the null GUID.
type GUID [GUIDSize]byte

// NewGUID makes a random GUID, version 4 of RFC 9562, of 16 bytes of rand.
func NewGUID(rand io.Reader) (GUID, error) {
	var g GUID
	if _, err := io.ReadFull(rand, g[:]); err != nil {
		return GUID{}, fmt.Errorf("dtyp: random GUID: %w", err)
	}
	g[7] = g[7]&0x0f | 0x40 // version, in the high half of the little-endian third field
	g[8] = g[8]&0x3f | 0x80 // variant
	return g, nil
}

// ParseGUID reads the string form of [MS-DTYP] 2.3.4.3, with or without the
// curly braces, in either case.
func ParseGUID(s string) (GUID, error) {
	text := s
	if len(text) == 38 && text[0] == '{' && text[37] == '}' {
		text = text[1:37]
	}
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return GUID{}, fmt.Errorf("dtyp: %w %q: want 8-4-4-4-12 hexadecimal digits", ErrGUID, clip(s))
	}
	digits := text[0:8] + text[9:13] + text[14:18] + text[19:23] + text[24:36]
	var printed [GUIDSize]byte
	if _, err := hex.Decode(printed[:], []byte(digits)); err != nil {
		return GUID{}, fmt.Errorf("dtyp: %w %q: not hexadecimal", ErrGUID, clip(s))
	}
	return GUID(swapFields(printed)), nil
}

// GUIDFromBytes reads the 16 bytes of the packet form, [MS-DTYP] 2.3.4.2.
func GUIDFromBytes(b []byte) (GUID, error) {
	if len(b) != GUIDSize {
		return GUID{}, fmt.Errorf("dtyp: %w: %d bytes, want %d", ErrGUID, len(b), GUIDSize)
	}
	return GUID(b), nil
}

// IsZero reports whether g is the null GUID.
func (g GUID) IsZero() bool { return g == GUID{} }

// Append appends the packet form.
func (g GUID) Append(dst []byte) []byte { return append(dst, g[:]...) }

// String is the string form in lower case without braces.
func (g GUID) String() string {
	p := swapFields(g)
	b := make([]byte, 0, 36)
	b = hex.AppendEncode(b, p[0:4])
	for _, field := range [][]byte{p[4:6], p[6:8], p[8:10], p[10:16]} {
		b = append(b, '-')
		b = hex.AppendEncode(b, field)
	}
	return string(b)
}

// Braced is the curly braced form of [MS-DTYP] 2.3.4.3, in lower case.
func (g GUID) Braced() string { return "{" + g.String() + "}" }

// MarshalText is [GUID.String] for encoding/json and its like.
func (g GUID) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText is [ParseGUID].
func (g *GUID) UnmarshalText(text []byte) error {
	parsed, err := ParseGUID(string(text))
	if err != nil {
		return err
	}
	*g = parsed
	return nil
}

// swapFields turns the order of the wire into the printed one and back.
func swapFields(b [GUIDSize]byte) [GUIDSize]byte {
	binary.BigEndian.PutUint32(b[0:], binary.LittleEndian.Uint32(b[0:]))
	binary.BigEndian.PutUint16(b[4:], binary.LittleEndian.Uint16(b[4:]))
	binary.BigEndian.PutUint16(b[6:], binary.LittleEndian.Uint16(b[6:]))
	return b
}
