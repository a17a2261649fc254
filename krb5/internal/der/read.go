package der

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// input is one parse: the bytes and the first fault. Readers and values share
// it, so that a message can be read straight through and judged once at the
// end; after a fault every read returns the zero value.
type input struct {
	b   []byte
	err *SyntaxError
}

func (in *input) fail(typ, field string, off int, got, want string) {
	if in.err == nil {
		in.err = &SyntaxError{Type: typ, Field: field, Offset: off, Got: got, Want: want}
	}
}

// header reads tag and length at off within [off, end) and returns where the
// contents lie.
func (in *input) header(off, end int, typ, field string) (tag byte, from, to int, ok bool) {
	if in.err != nil {
		return 0, 0, 0, false
	}
	if end-off < 2 {
		in.fail(typ, field, off, fmt.Sprintf("%d bytes", end-off), "an element of at least 2")
		return 0, 0, 0, false
	}
	tag = in.b[off]
	if tag&0x1f == 0x1f {
		in.fail(typ, field, off, fmt.Sprintf("tag 0x%02x", tag), "a tag of one byte")
		return 0, 0, 0, false
	}
	from, n, ok := in.length(off+1, end, typ, field)
	if !ok {
		return 0, 0, 0, false
	}
	if n > end-from {
		in.fail(typ, field, off, fmt.Sprintf("length %d", n), fmt.Sprintf("at most the %d bytes that are left", end-from))
		return 0, 0, 0, false
	}
	return tag, from, from + n, true
}

// length reads a definite minimal length (X.690, 10.1) of at most four bytes.
func (in *input) length(off, end int, typ, field string) (from, n int, ok bool) {
	first := in.b[off]
	if first < 0x80 {
		return off + 1, int(first), true
	}
	size := int(first & 0x7f)
	if size == 0 || size > 4 || size > end-off-1 {
		in.fail(typ, field, off, fmt.Sprintf("length octet 0x%02x", first), "a definite length of at most 4 octets")
		return 0, 0, false
	}
	var v uint64
	for _, c := range in.b[off+1 : off+1+size] {
		v = v<<8 | uint64(c)
	}
	if v < 0x80 || v>>(8*(size-1)) == 0 {
		in.fail(typ, field, off, fmt.Sprintf("length %d in %d octets", v, size), "the shortest form")
		return 0, 0, false
	}
	if v > 1<<30 {
		in.fail(typ, field, off, fmt.Sprintf("length %d", v), "at most 1 GiB")
		return 0, 0, false
	}
	return off + 1 + size, int(v), true
}

// Parse reads b, which must be one value of at most max bytes with nothing
// behind it, with read. The byte slices of the result alias b.
func Parse[T any](b []byte, max int, typ string, read func(Value) T) (T, error) {
	var zero T
	in := &input{b: b}
	if len(b) > max {
		in.fail(typ, "", 0, fmt.Sprintf("%d bytes", len(b)), fmt.Sprintf("at most %d", max))
		return zero, in.err
	}
	x := read(Value{in: in, end: len(b), typ: typ})
	if in.err != nil {
		return zero, in.err
	}
	return x, nil
}

// Prefix returns the length of the element that b begins with, whatever its
// tag is.
func Prefix(b []byte, typ string) (int, error) {
	in := &input{b: b}
	_, _, to, ok := in.header(0, len(b), typ, "")
	if !ok {
		return 0, in.err
	}
	return to, nil
}

// Value is a place that one element must fill exactly: a whole message, the
// inside of an explicit tag, or an item of a list. The value of an absent
// optional field reads as zero, and its sequences as empty.
type Value struct {
	in         *input
	off, end   int
	typ, field string
	absent     bool
}

// Present reports whether an optional field was there.
func (v Value) Present() bool { return !v.absent && v.in.err == nil }

// Fail records a fault found by the caller, such as a number out of range.
func (v Value) Fail(got, want string) { v.in.fail(v.typ, v.field, v.off, got, want) }

// contents returns what is inside the element, whose tag must be tag.
func (v Value) contents(tag byte) (from, to int, ok bool) {
	if v.absent {
		return 0, 0, false
	}
	got, from, to, ok := v.in.header(v.off, v.end, v.typ, v.field)
	if !ok {
		return 0, 0, false
	}
	if got != tag {
		v.Fail(fmt.Sprintf("tag 0x%02x", got), fmt.Sprintf("tag 0x%02x", tag))
		return 0, 0, false
	}
	if to != v.end {
		v.in.fail(v.typ, v.field, to, fmt.Sprintf("%d more bytes", v.end-to), "the end")
		return 0, 0, false
	}
	return from, to, true
}

// bytes is contents as a slice with no room to grow into the rest of the input.
func (v Value) bytes(tag byte) []byte {
	from, to, ok := v.contents(tag)
	if !ok {
		return nil
	}
	return v.in.b[from:to:to]
}

// Tag is the tag of the element, or 0 if there is none.
func (v Value) Tag() byte {
	if v.absent || v.in.err != nil || v.off >= v.end {
		return 0
	}
	return v.in.b[v.off]
}

// Raw is the whole element, tag and length included, whose tag must be tag.
func (v Value) Raw(tag byte) []byte {
	if _, _, ok := v.contents(tag); !ok {
		return nil
	}
	return v.in.b[v.off:v.end:v.end]
}

// Inner enters a tag that wraps exactly one element, as [APPLICATION n] does.
func (v Value) Inner(tag byte) Value {
	from, to, ok := v.contents(tag)
	return Value{in: v.in, off: from, end: to, typ: v.typ, field: v.field, absent: !ok}
}

// Sequence enters a SEQUENCE of named fields.
func (v Value) Sequence(typ string) Reader {
	from, to, ok := v.contents(TagSequence)
	if !ok && v.absent {
		return Reader{in: v.in, typ: typ, absent: true}
	}
	return Reader{in: v.in, off: from, end: to, typ: typ}
}

// Int64 reads an INTEGER of at most eight bytes.
func (v Value) Int64() int64 { return v.integer(TagInteger) }

func (v Value) integer(tag byte) int64 {
	b := v.bytes(tag)
	if b == nil && (v.absent || v.in.err != nil) {
		return 0
	}
	if len(b) == 0 || len(b) > 8 {
		v.Fail(fmt.Sprintf("an integer of %d bytes", len(b)), "1 to 8")
		return 0
	}
	if len(b) > 1 && (b[0] == 0 && b[1] < 0x80 || b[0] == 0xff && b[1] >= 0x80) {
		v.Fail("an integer with a superfluous leading byte", "the shortest form")
		return 0
	}
	n := int64(int8(b[0]))
	for _, c := range b[1:] {
		n = n<<8 | int64(c)
	}
	return n
}

// Int32 reads Int32 of RFC 4120, Section 5.2.4.
func (v Value) Int32() int32 {
	return int32(v.between(v.Int64(), -1<<31, 1<<31-1))
}

// Uint32 reads UInt32 of RFC 4120, Section 5.2.4.
//
// Deviation: numbers from -2^31 to -1 are read as their two's complement,
// because implementations write nonces and sequence numbers as signed (RFC 4120,
// Section 5.2.4 warns of them), and so do read-only controllers of AD with key
// version numbers, whose upper half is the number of the controller.
func (v Value) Uint32() uint32 {
	return uint32(v.between(v.Int64(), -1<<31, 1<<32-1))
}

// Range reads an INTEGER from lo to hi.
func (v Value) Range(lo, hi int64) int64 { return v.between(v.Int64(), lo, hi) }

// Enumerated reads an ENUMERATED from lo to hi.
func (v Value) Enumerated(lo, hi int64) int64 { return v.between(v.integer(TagEnumerated), lo, hi) }

func (v Value) between(n, lo, hi int64) int64 {
	if v.absent || v.in.err != nil {
		return 0
	}
	if n < lo || n > hi {
		v.Fail(fmt.Sprint(n), fmt.Sprintf("%d to %d", lo, hi))
		return 0
	}
	return n
}

// Bool reads a BOOLEAN: X.690, 11.1 knows 0x00 and 0xff.
//
// Deviation: any other non-zero byte is true, as BER has it, because libraries
// that claim DER and write 0x01 are in use (older pyasn1, for PA-PAC-REQUEST).
func (v Value) Bool() bool {
	b := v.bytes(TagBoolean)
	if v.absent || v.in.err != nil {
		return false
	}
	if len(b) != 1 {
		v.Fail(fmt.Sprintf("a boolean of %d bytes", len(b)), "1")
		return false
	}
	return b[0] != 0
}

// Octets reads an OCTET STRING; it is not nil if the field is present.
func (v Value) Octets() []byte { return v.bytes(TagOctetString) }

// OID returns the contents of an OBJECT IDENTIFIER.
func (v Value) OID() []byte { return v.bytes(TagOID) }

// Text reads KerberosString (RFC 4120, Section 5.2.1) as UTF-8 without NUL.
//
// Deviation: the RFC wants IA5; Active Directory writes UTF-8 ([MS-KILE]
// 3.1.5.2).
func (v Value) Text() string {
	s := string(v.bytes(TagGeneralString))
	if !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0 {
		v.Fail(fmt.Sprintf("the string %.64q", s), "UTF-8 without NUL")
		return ""
	}
	return s
}

// LooseText reads a KerberosString that is only shown to people: bytes that are
// not UTF-8 are replaced.
//
// Deviation: older MIT KDCs end e-text with a NUL, which is dropped.
func (v Value) LooseText() string {
	s := strings.TrimRight(string(v.bytes(TagGeneralString)), "\x00")
	return strings.ToValidUTF8(s, "\ufffd")
}

// Bits32 reads KerberosFlags (RFC 4120, Section 5.2.8); bit 0 of the
// specification is the most significant bit of the result.
//
// Deviation: RFC 4120 wants at least 32 bits, but X.690, 11.2.2 lets a DER
// encoder cut the trailing zeros of a named bit list, and some do: shorter
// strings read as if zeros followed. Bits after the 32nd are ignored, as the RFC
// reserves them. Unused bits that are not zero are cleared.
func (v Value) Bits32() uint32 {
	b := v.bytes(TagBitString)
	if v.absent || v.in.err != nil {
		return 0
	}
	if len(b) == 0 || len(b) > 33 || b[0] > 7 || (len(b) == 1 && b[0] != 0) {
		v.Fail(fmt.Sprintf("a bit string of %d bytes", len(b)), "1 to 33 with at most 7 unused bits")
		return 0
	}
	unused, bits := b[0], b[1:]
	var n uint32
	for i := range 4 {
		n <<= 8
		if i >= len(bits) {
			continue
		}
		c := bits[i]
		if i == len(bits)-1 {
			c &= 0xff << unused
		}
		n |= uint32(c)
	}
	return n
}

// Time reads KerberosTime (RFC 4120, Section 5.2.3): YYYYMMDDHHMMSSZ, without a
// fraction. The epoch, which stands for "no time" in Kerberos, reads as the
// zero time.
func (v Value) Time() time.Time {
	b := v.bytes(TagGeneralizedTime)
	if v.absent || v.in.err != nil {
		return time.Time{}
	}
	t, ok := parseTime(b)
	if !ok {
		v.Fail(fmt.Sprintf("the time %.32q", b), "YYYYMMDDHHMMSSZ")
		return time.Time{}
	}
	if t.Unix() == 0 {
		return time.Time{}
	}
	return t
}

func parseTime(b []byte) (time.Time, bool) {
	if len(b) != 15 || b[14] != 'Z' {
		return time.Time{}, false
	}
	for _, c := range b[:14] {
		if c < '0' || c > '9' {
			return time.Time{}, false
		}
	}
	two := func(i int) int { return int(b[i]-'0')*10 + int(b[i+1]-'0') }
	year, month, day := two(0)*100+two(2), two(4), two(6)
	t := time.Date(year, time.Month(month), day, two(8), two(10), two(12), 0, time.UTC)
	// time.Date carries an impossible day or second over: refuse it.
	if int(t.Month()) != month || t.Day() != day || t.Hour() != two(8) || t.Minute() != two(10) || t.Second() != two(12) {
		return time.Time{}, false
	}
	return t, true
}

// Reader walks the fields of a SEQUENCE in their order; [Reader.End] closes it.
// It is used as a local variable.
type Reader struct {
	in       *input
	off, end int
	typ      string
	absent   bool
}

// Field enters the explicit tag [n], which must come next.
func (r *Reader) Field(n int, name string) Value {
	if r.absent {
		return Value{in: r.in, typ: r.typ, field: name, absent: true}
	}
	tag, from, to, ok := r.in.header(r.off, r.end, r.typ, name)
	if ok && tag != Context(n) {
		r.in.fail(r.typ, name, r.off, fmt.Sprintf("tag 0x%02x", tag), fmt.Sprintf("tag 0x%02x", Context(n)))
		ok = false
	}
	if !ok {
		return Value{in: r.in, typ: r.typ, field: name, absent: true}
	}
	r.off = to
	return Value{in: r.in, off: from, end: to, typ: r.typ, field: name}
}

// Optional is Field for an OPTIONAL field: absent if another tag, or the end,
// comes next.
func (r *Reader) Optional(n int, name string) Value {
	if r.off >= r.end || r.in.err != nil || r.in.b[r.off] != Context(n) {
		return Value{in: r.in, typ: r.typ, field: name, absent: true}
	}
	return r.Field(n, name)
}

// More reports whether another item follows.
func (r *Reader) More() bool { return r.in.err == nil && r.off < r.end }

// Next is the next item of a list, whatever its tag is.
func (r *Reader) Next(name string) Value {
	from := r.off
	_, _, to, ok := r.in.header(r.off, r.end, r.typ, name)
	if !ok {
		return Value{in: r.in, typ: r.typ, field: name, absent: true}
	}
	r.off = to
	return Value{in: r.in, off: from, end: to, typ: r.typ, field: name}
}

// End fails if something follows: an unknown field or one out of order.
func (r *Reader) End() {
	if r.in.err == nil && r.off != r.end {
		r.in.fail(r.typ, "", r.off, fmt.Sprintf("tag 0x%02x", r.in.b[r.off]), "the end")
	}
}

// List reads a SEQUENCE OF with at most max items.
func List[T any](v Value, typ string, max int, read func(Value) T) []T {
	r := v.Sequence(typ)
	var list []T
	for r.More() {
		item := r.Next("item")
		if len(list) == max {
			item.Fail("another item", fmt.Sprintf("at most %d", max))
			return nil
		}
		list = append(list, read(item))
	}
	return list
}
