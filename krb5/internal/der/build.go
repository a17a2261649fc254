package der

import (
	"slices"
	"time"
)

// Builder appends DER to a buffer. A constructed element is written by a
// closure, so that the nesting of the code is the nesting of the wire; its
// length is put in afterwards.
type Builder struct {
	b []byte
}

// NewBuilder appends to dst.
func NewBuilder(dst []byte) *Builder { return &Builder{b: dst} }

// Bytes is dst with all that was appended.
func (b *Builder) Bytes() []byte { return b.b }

// Raw appends an element that is already encoded.
func (b *Builder) Raw(element []byte) { b.b = append(b.b, element...) }

// Nest writes tag, and what body appends as its contents.
func (b *Builder) Nest(tag byte, body func()) {
	b.b = append(b.b, tag, 0)
	from := len(b.b)
	body()
	b.patch(from)
}

// patch writes the length of what follows from into the octet before it, and
// makes room first if one octet is not enough.
func (b *Builder) patch(from int) {
	n := len(b.b) - from
	if n < 0x80 {
		b.b[from-1] = byte(n)
		return
	}
	size := lengthOctets(n)
	var room [4]byte
	b.b = slices.Insert(b.b, from, room[:size]...)
	b.b[from-1] = 0x80 | byte(size)
	for i := size - 1; i >= 0; i-- {
		b.b[from+i] = byte(n)
		n >>= 8
	}
}

// lengthOctets is the number of octets that follow the first of a long length.
func lengthOctets(n int) int {
	size := 1
	for n >>= 8; n > 0; n >>= 8 {
		size++
	}
	return size
}

// Sequence writes a SEQUENCE.
func (b *Builder) Sequence(body func()) { b.Nest(TagSequence, body) }

// Explicit writes the explicit tag [n].
func (b *Builder) Explicit(n int, body func()) { b.Nest(Context(n), body) }

// Header writes tag and length for n bytes that the caller appends.
func (b *Builder) Header(tag byte, n int) {
	b.b = append(b.b, tag)
	if n < 0x80 {
		b.b = append(b.b, byte(n))
		return
	}
	size := lengthOctets(n)
	b.b = append(b.b, 0x80|byte(size))
	for i := size - 1; i >= 0; i-- {
		b.b = append(b.b, byte(n>>(8*i)))
	}
}

// headerSize is how much Header writes for n bytes.
func headerSize(n int) int {
	if n < 0x80 {
		return 2
	}
	return 2 + lengthOctets(n)
}

// Int writes an INTEGER.
func (b *Builder) Int(v int64) {
	size := intSize(v)
	b.b = append(b.b, TagInteger, byte(size))
	for i := size - 1; i >= 0; i-- {
		b.b = append(b.b, byte(v>>(8*i)))
	}
}

func intSize(v int64) int {
	size := 1
	for v > 127 || v < -128 {
		v >>= 8
		size++
	}
	return size
}

// Octets writes an OCTET STRING.
func (b *Builder) Octets(p []byte) {
	b.Header(TagOctetString, len(p))
	b.b = append(b.b, p...)
}

// Text writes a GeneralString.
func (b *Builder) Text(s string) {
	b.Header(TagGeneralString, len(s))
	b.b = append(b.b, s...)
}

// OID writes an OBJECT IDENTIFIER of already encoded contents.
func (b *Builder) OID(contents []byte) {
	b.Header(TagOID, len(contents))
	b.b = append(b.b, contents...)
}

// Enumerated writes an ENUMERATED from 0 to 127.
func (b *Builder) Enumerated(v uint8) { b.b = append(b.b, TagEnumerated, 1, v&0x7f) }

// IntField writes [n] INTEGER.
func (b *Builder) IntField(n int, v int64) {
	b.b = append(b.b, Context(n), byte(2+intSize(v)))
	b.Int(v)
}

// OctetsField writes [n] OCTET STRING.
func (b *Builder) OctetsField(n int, p []byte) {
	b.Header(Context(n), headerSize(len(p))+len(p))
	b.Octets(p)
}

// TextField writes [n] GeneralString.
func (b *Builder) TextField(n int, s string) {
	b.Header(Context(n), headerSize(len(s))+len(s))
	b.Text(s)
}

// OptionalText is TextField, left out for the empty string.
func (b *Builder) OptionalText(n int, s string) {
	if s != "" {
		b.TextField(n, s)
	}
}

// BoolField writes [n] BOOLEAN.
func (b *Builder) BoolField(n int, v bool) {
	var c byte
	if v {
		c = 0xff
	}
	b.b = append(b.b, Context(n), 3, TagBoolean, 1, c)
}

// BitsField writes [n] KerberosFlags of 32 bits.
func (b *Builder) BitsField(n int, v uint32) {
	b.b = append(b.b, Context(n), 7, TagBitString, 5, 0, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
}

// RawField writes [n] around an element that is already encoded.
func (b *Builder) RawField(n int, element []byte) {
	b.Header(Context(n), len(element))
	b.b = append(b.b, element...)
}

// TimeField writes [n] KerberosTime; the zero time is written as the epoch.
// Fractions of a second are dropped.
func (b *Builder) TimeField(n int, t time.Time) {
	b.b = append(b.b, Context(n), 17)
	b.Time(t)
}

// OptionalTime is TimeField, left out for the zero time.
func (b *Builder) OptionalTime(n int, t time.Time) {
	if !t.IsZero() {
		b.TimeField(n, t)
	}
}

// Time writes KerberosTime: RFC 4120, Section 5.2.3.
func (b *Builder) Time(t time.Time) {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	t = t.UTC()
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	two := func(n int) { b.b = append(b.b, '0'+byte(n/10%10), '0'+byte(n%10)) }
	b.b = append(b.b, TagGeneralizedTime, 15)
	two(year / 100)
	two(year)
	two(int(month))
	two(day)
	two(hour)
	two(minute)
	two(second)
	b.b = append(b.b, 'Z')
}
