package der

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

// read parses b as T with one method of Value.
func read[T any](t *testing.T, b []byte, f func(Value) T) (T, error) {
	t.Helper()
	return Parse(b, 1<<20, "test", f)
}

func TestIntegers(t *testing.T) {
	for _, n := range []int64{0, 1, -1, 127, 128, -128, -129, 255, 256, 32767, 32768, 1<<31 - 1, 1 << 31, -1 << 31, 1<<32 - 1, math.MaxInt64, math.MinInt64} {
		b := NewBuilder(nil)
		b.Int(n)
		got, err := read(t, b.Bytes(), Value.Int64)
		if err != nil || got != n {
			t.Errorf("%d: got %d, %v", n, got, err)
		}
	}
}

func TestUint32TakesSigned(t *testing.T) {
	got, err := read(t, []byte{2, 4, 0xff, 0xff, 0x00, 0x01}, Value.Uint32)
	if err == nil {
		t.Fatalf("non-minimal -65535 was read as %d", got)
	}
	got, err = read(t, []byte{2, 4, 0x80, 0, 0, 1}, Value.Uint32)
	if err != nil || got != 0x80000001 {
		t.Errorf("got %#x, %v", got, err)
	}
	got, err = read(t, []byte{2, 5, 0, 0x80, 0, 0, 1}, Value.Uint32)
	if err != nil || got != 0x80000001 {
		t.Errorf("got %#x, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	int64Of := func(v Value) any { return v.Int64() }
	octets := func(v Value) any { return v.Octets() }
	text := func(v Value) any { return v.Text() }
	bits := func(v Value) any { return v.Bits32() }
	when := func(v Value) any { return v.Time() }
	boolean := func(v Value) any { return v.Bool() }
	uint32Of := func(v Value) any { return v.Uint32() }
	int32Of := func(v Value) any { return v.Int32() }
	for name, c := range map[string]struct {
		b    []byte
		read func(Value) any
		want string
	}{
		"nothing":                       {nil, int64Of, "an element of at least 2"},
		"a tag alone":                   {[]byte{2}, int64Of, "an element of at least 2"},
		"a tag of two bytes":            {[]byte{0x1f, 0x81, 0x01, 0}, int64Of, "tag of one byte"},
		"an indefinite length":          {[]byte{4, 0x80, 1, 0, 0}, octets, "definite length"},
		"a length of five octets":       {[]byte{4, 0x85, 0, 0, 0, 0, 1, 9}, octets, "definite length"},
		"a length cut short":            {[]byte{4, 0x82, 1}, octets, "definite length"},
		"a long form for a short value": {[]byte{4, 0x81, 1, 9}, octets, "shortest form"},
		"a length with a leading zero":  {append([]byte{4, 0x82, 0, 0x80}, make([]byte, 128)...), octets, "shortest form"},
		"a length of 4 GiB":             {[]byte{4, 0x84, 0xff, 0xff, 0xff, 0xff}, octets, "at most 1 GiB"},
		"a length beyond the end":       {[]byte{4, 3, 1, 2}, octets, "at most the 2 bytes"},
		"a trailing byte":               {[]byte{4, 1, 1, 2}, octets, "the end"},
		"another tag":                   {[]byte{5, 0}, octets, "tag 0x04"},
		"an empty integer":              {[]byte{2, 0}, int64Of, "1 to 8"},
		"an integer of nine bytes":      {[]byte{2, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9}, int64Of, "1 to 8"},
		"a superfluous zero":            {[]byte{2, 2, 0, 1}, int64Of, "shortest form"},
		"a superfluous sign":            {[]byte{2, 2, 0xff, 0x80}, int64Of, "shortest form"},
		"beyond Int32":                  {[]byte{2, 5, 0, 0x80, 0, 0, 0}, int32Of, "-2147483648 to"},
		"beyond UInt32":                 {[]byte{2, 5, 1, 0, 0, 0, 0}, uint32Of, "to 4294967295"},
		"a boolean of no bytes":         {[]byte{1, 0}, boolean, "want 1"},
		"text that is not UTF-8":        {[]byte{0x1b, 1, 0xff}, text, "UTF-8"},
		"text with NUL":                 {[]byte{0x1b, 1, 0}, text, "UTF-8"},
		"bits without the first octet":  {[]byte{3, 0}, bits, "bit string|1 to 33"},
		"eight unused bits":             {[]byte{3, 2, 8, 0}, bits, "unused bits"},
		"unused bits of nothing":        {[]byte{3, 1, 1}, bits, "unused bits"},
		"a time with a fraction":        {[]byte("\x18\x1120260101000000.5Z"), when, "YYYYMMDDHHMMSSZ"},
		"a time without a zone":         {[]byte("\x18\x0e20260101000000"), when, "YYYYMMDDHHMMSSZ"},
		"the 30th of February":          {[]byte("\x18\x0f20260230000000Z"), when, "YYYYMMDDHHMMSSZ"},
		"the 61st second":               {[]byte("\x18\x0f20260101000060Z"), when, "YYYYMMDDHHMMSSZ"},
		"letters in a time":             {[]byte("\x18\x0f2026010100000xZ"), when, "YYYYMMDDHHMMSSZ"},
	} {
		t.Run(name, func(t *testing.T) {
			x, err := read(t, c.b, c.read)
			if err == nil {
				t.Fatalf("accepted as %v", x)
			}
			if _, ok := errors.AsType[*SyntaxError](err); !ok {
				t.Errorf("%T is not a SyntaxError", err)
			}
			for want := range strings.SplitSeq(c.want, "|") {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not say %q", err, want)
				}
			}
		})
	}
}

func TestBits32(t *testing.T) {
	for name, c := range map[string]struct {
		b    []byte
		want uint32
	}{
		"32 bits":                     {[]byte{3, 5, 0, 0x40, 0x81, 0, 0x10}, 0x40810010},
		"none":                        {[]byte{3, 1, 0}, 0},
		"cut to two bits":             {[]byte{3, 2, 6, 0x40}, 0x40000000},
		"unused bits that are set":    {[]byte{3, 2, 6, 0x7f}, 0x40000000},
		"64 bits":                     {[]byte{3, 9, 0, 0x40, 0, 0, 1, 0xff, 0xff, 0xff, 0xff}, 0x40000001},
		"33 bits, the last is unused": {[]byte{3, 6, 7, 0x40, 0, 0, 1, 0x80}, 0x40000001},
	} {
		got, err := read(t, c.b, Value.Bits32)
		if err != nil || got != c.want {
			t.Errorf("%s: got %#x, %v, want %#x", name, got, err, c.want)
		}
	}
}

func TestTime(t *testing.T) {
	want := time.Date(2037, 9, 13, 2, 48, 5, 999, time.FixedZone("", 3600))
	b := NewBuilder(nil)
	b.Time(want)
	if s := string(b.Bytes()[2:]); s != "20370913014805Z" {
		t.Errorf("wrote %s", s)
	}
	got, err := read(t, b.Bytes(), Value.Time)
	if err != nil || !got.Equal(want.Truncate(time.Second)) || got.Location() != time.UTC {
		t.Errorf("got %v, %v", got, err)
	}
	got, err = read(t, []byte("\x18\x0f19700101000000Z"), Value.Time)
	if err != nil || !got.IsZero() {
		t.Errorf("the epoch is %v, %v", got, err)
	}
}

func TestLengthsAtTheEdges(t *testing.T) {
	for _, n := range []int{0, 1, 127, 128, 255, 256, 65535, 65536} {
		p := bytes.Repeat([]byte{7}, n)
		b := NewBuilder([]byte("before"))
		b.Sequence(func() { b.OctetsField(3, p) })
		got, err := read(t, b.Bytes()[len("before"):], func(v Value) []byte {
			s := v.Sequence("s")
			o := s.Field(3, "o").Octets()
			s.End()
			return o
		})
		if err != nil || !bytes.Equal(got, p) {
			t.Errorf("%d bytes: got %d, %v", n, len(got), err)
		}
	}
}

// TestFields holds the rules of a SEQUENCE: order, unknown fields, absence.
func TestFields(t *testing.T) {
	parse := func(b []byte) ([3]int32, error) {
		return read(t, b, func(v Value) [3]int32 {
			s := v.Sequence("s")
			x := [3]int32{s.Field(0, "a").Int32(), s.Optional(1, "b").Int32(), s.Field(2, "c").Int32()}
			s.End()
			return x
		})
	}
	seq := func(fields ...int) []byte {
		b := NewBuilder(nil)
		b.Sequence(func() {
			for _, n := range fields {
				b.IntField(n, int64(n)+1)
			}
		})
		return b.Bytes()
	}
	if x, err := parse(seq(0, 1, 2)); err != nil || x != [3]int32{1, 2, 3} {
		t.Errorf("all: %v, %v", x, err)
	}
	if x, err := parse(seq(0, 2)); err != nil || x != [3]int32{1, 0, 3} {
		t.Errorf("without the optional one: %v, %v", x, err)
	}
	for _, bad := range [][]int{{}, {0}, {2}, {0, 1}, {1, 0, 2}, {0, 2, 1}, {0, 1, 2, 3}, {0, 0, 1, 2}, {0, 1, 1, 2}} {
		if x, err := parse(seq(bad...)); err == nil {
			t.Errorf("fields %v were accepted as %v", bad, x)
		}
	}
}

func TestListLimit(t *testing.T) {
	b := NewBuilder(nil)
	b.Sequence(func() {
		for range 4 {
			b.Int(1)
		}
	})
	list := func(max int) error {
		_, err := read(t, b.Bytes(), func(v Value) []int32 { return List(v, "list", max, Value.Int32) })
		return err
	}
	if err := list(4); err != nil {
		t.Error(err)
	}
	if err := list(3); err == nil || !strings.Contains(err.Error(), "at most 3") {
		t.Errorf("got %v", err)
	}
}

func TestSizeLimit(t *testing.T) {
	if _, err := Parse(make([]byte, 11), 10, "test", Value.Octets); err == nil {
		t.Error("11 bytes were accepted where 10 are allowed")
	}
}
