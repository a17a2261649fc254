package dtyp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits of a SID, [MS-DTYP] 2.4.2.2.
const (
	// MaxSubAuthorities is the largest number of sub-authorities.
	MaxSubAuthorities = 15
	// MaxSIDSize is the size in bytes of the largest SID on the wire.
	MaxSIDSize = sidHeader + 4*MaxSubAuthorities

	sidHeader    = 8         // bytes: revision, count, 6 bytes of authority
	sidRevision  = 1         // the only revision there is
	maxAuthority = 1<<48 - 1 // the identifier authority has 6 bytes
)

// ErrSID is wrapped by every error about a malformed SID.
var ErrSID = errors.New("malformed SID")

// SID is a security identifier, [MS-DTYP] 2.4.2: an identifier authority and 1
// to 15 sub-authorities, the last of which is called the relative identifier.
// It is comparable. The zero value is no SID; it prints as the empty string.
type SID struct {
	authority uint64 // 48 bits
	count     uint8
	sub       [MaxSubAuthorities]uint32 // those from count on are zero, so that == compares
}

// NewSID makes a SID of its parts. It panics where a constant of the program
// would be wrong: an authority of more than 48 bits, no sub-authority or more
// than 15. Data from elsewhere goes through [ParseSID] or [SIDFromBytes].
func NewSID(authority uint64, subAuthorities ...uint32) SID {
	if authority > maxAuthority || len(subAuthorities) == 0 || len(subAuthorities) > MaxSubAuthorities {
		panic("dtyp: SID out of range")
	}
	s := SID{authority: authority, count: uint8(len(subAuthorities))}
	copy(s.sub[:], subAuthorities)
	return s
}

// ParseSID reads the string form of [MS-DTYP] 2.4.2.1, "S-1-5-21-1-2-3-1104".
//
// A SID has one accepted spelling, up to the case of its letters: numbers have
// no leading zeros, and the authority is in hexadecimal ("0x" and 12 digits)
// exactly when it does not fit in 32 bits. Deviation: the grammar of the
// specification, and Windows, also take leading zeros; nobody writes them, and
// one spelling lets callers compare, index and log SIDs as strings.
func ParseSID(s string) (SID, error) {
	sid, err := parseSID(s)
	if err != nil {
		return SID{}, fmt.Errorf("dtyp: %w %q: %w", ErrSID, clip(s), err)
	}
	return sid, nil
}

func parseSID(s string) (SID, error) {
	if len(s) < 4 || !strings.EqualFold(s[:4], "S-1-") {
		return SID{}, errors.New(`does not begin with "S-1-"`)
	}
	text, rest, _ := strings.Cut(s[4:], "-")
	authority, err := parseAuthority(text)
	if err != nil {
		return SID{}, err
	}
	sid := SID{authority: authority}
	for more := true; more; sid.count++ {
		if sid.count == MaxSubAuthorities {
			return SID{}, fmt.Errorf("more than %d sub-authorities", MaxSubAuthorities)
		}
		text, rest, more = strings.Cut(rest, "-")
		n, err := parseDecimal(text)
		if err != nil {
			return SID{}, fmt.Errorf("sub-authority %d: %w", sid.count+1, err)
		}
		sid.sub[sid.count] = n
	}
	return sid, nil
}

func parseAuthority(s string) (uint64, error) {
	if len(s) < 2 || !strings.EqualFold(s[:2], "0x") {
		n, err := parseDecimal(s)
		if err != nil {
			return 0, fmt.Errorf("identifier authority: %w", err)
		}
		return uint64(n), nil
	}
	n, err := strconv.ParseUint(s[2:], 16, 48)
	if err != nil || len(s) != len("0x")+12 || n <= math.MaxUint32 {
		return 0, errors.New("identifier authority: hexadecimal form needs 12 digits and a value of 2^32 or more")
	}
	return n, nil
}

// parseDecimal reads 1 to 10 digits without sign or leading zero.
func parseDecimal(s string) (uint32, error) {
	if s == "" {
		return 0, errors.New("no digits")
	}
	if s[0] == '0' && s != "0" {
		return 0, errors.New("leading zero")
	}
	if s[0] < '0' || s[0] > '9' {
		return 0, errors.New("not a decimal number")
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, errors.New("not a decimal number of 32 bits")
	}
	return uint32(n), nil
}

// SIDFromBytes reads a SID that fills b exactly, [MS-DTYP] 2.4.2.2.
func SIDFromBytes(b []byte) (SID, error) {
	sid, n, err := DecodeSID(b)
	if err != nil {
		return SID{}, err
	}
	if n != len(b) {
		return SID{}, fmt.Errorf("dtyp: %w: %d bytes follow its %d", ErrSID, len(b)-n, n)
	}
	return sid, nil
}

// DecodeSID reads the SID at the start of b, [MS-DTYP] 2.4.2.2, and returns
// how many bytes it took.
func DecodeSID(b []byte) (sid SID, n int, err error) {
	if len(b) < sidHeader {
		return SID{}, 0, fmt.Errorf("dtyp: %w: %d bytes, want at least %d", ErrSID, len(b), sidHeader)
	}
	if b[0] != sidRevision {
		return SID{}, 0, fmt.Errorf("dtyp: %w: revision %d at offset 0, want %d", ErrSID, b[0], sidRevision)
	}
	count := int(b[1])
	if count == 0 || count > MaxSubAuthorities {
		return SID{}, 0, fmt.Errorf("dtyp: %w: %d sub-authorities at offset 1, want 1 to %d", ErrSID, count, MaxSubAuthorities)
	}
	n = sidHeader + 4*count
	if len(b) < n {
		return SID{}, 0, fmt.Errorf("dtyp: %w: %d bytes, want %d for %d sub-authorities", ErrSID, len(b), n, count)
	}
	sid.count = uint8(count)
	sid.authority = uint64(binary.BigEndian.Uint16(b[2:]))<<32 | uint64(binary.BigEndian.Uint32(b[4:]))
	for i := range count {
		sid.sub[i] = binary.LittleEndian.Uint32(b[sidHeader+4*i:])
	}
	return sid, n, nil
}

// IsZero reports whether s is no SID.
func (s SID) IsZero() bool { return s.count == 0 }

// Size is the number of bytes of s on the wire, 0 for the zero value.
func (s SID) Size() int {
	if s.IsZero() {
		return 0
	}
	return sidHeader + 4*int(s.count)
}

// Append appends the packet form of [MS-DTYP] 2.4.2.2: the authority is big
// endian, the sub-authorities are little endian. The zero value appends nothing.
func (s SID) Append(dst []byte) []byte {
	if s.IsZero() {
		return dst
	}
	dst = append(dst, sidRevision, s.count)
	dst = binary.BigEndian.AppendUint16(dst, uint16(s.authority>>32))
	dst = binary.BigEndian.AppendUint32(dst, uint32(s.authority))
	for _, v := range s.sub[:s.count] {
		dst = binary.LittleEndian.AppendUint32(dst, v)
	}
	return dst
}

// Bytes is the packet form in memory of its own, nil for the zero value.
func (s SID) Bytes() []byte {
	if s.IsZero() {
		return nil
	}
	return s.Append(make([]byte, 0, s.Size()))
}

// String is the string form of [MS-DTYP] 2.4.2.1.
func (s SID) String() string {
	if s.IsZero() {
		return ""
	}
	b := append(make([]byte, 0, 64), "S-1-"...)
	if s.authority > math.MaxUint32 {
		b = fmt.Appendf(b, "0x%012x", s.authority)
	} else {
		b = strconv.AppendUint(b, s.authority, 10)
	}
	for _, v := range s.sub[:s.count] {
		b = append(b, '-')
		b = strconv.AppendUint(b, uint64(v), 10)
	}
	return string(b)
}

// MarshalText is [SID.String] for encoding/json and its like.
func (s SID) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText is [ParseSID]; the empty text is the zero value.
func (s *SID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = SID{}
		return nil
	}
	sid, err := ParseSID(string(text))
	if err != nil {
		return err
	}
	*s = sid
	return nil
}

// Authority is the identifier authority, 48 bits.
func (s SID) Authority() uint64 { return s.authority }

// SubAuthorities returns a copy of the sub-authorities, the RID last.
func (s SID) SubAuthorities() []uint32 {
	return append([]uint32(nil), s.sub[:s.count]...)
}

// RID is the relative identifier, the last sub-authority; 0 for the zero value.
func (s SID) RID() uint32 {
	if s.IsZero() {
		return 0
	}
	return s.sub[s.count-1]
}

// Domain is s without its RID: the SID of the domain of an account. A SID of
// one sub-authority is in no domain; its Domain is the zero value.
func (s SID) Domain() SID {
	if s.count <= 1 {
		return SID{}
	}
	s.count--
	s.sub[s.count] = 0
	return s
}

// Child is the SID of the account rid in the domain s. It panics on the zero
// value and when s has 15 sub-authorities already, which no domain has.
func (s SID) Child(rid uint32) SID {
	if s.IsZero() || s.count == MaxSubAuthorities {
		panic("dtyp: SID cannot have a child")
	}
	s.sub[s.count] = rid
	s.count++
	return s
}

// IsDomain reports whether s has the form of a domain's SID, S-1-5-21-x-y-z.
func (s SID) IsDomain() bool {
	return s.authority == AuthorityNT && s.count == 4 && s.sub[0] == ntNonUnique
}

// clip keeps error messages short whatever the input.
func clip(s string) string {
	const limit = 80
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
