package adproto

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits of a compressed name: RFC 1035, Section 3.1.
const (
	maxNameText  = 253 // bytes of text, dots included: 255 on the wire
	maxNameLabel = 63
	pointerBits  = 0xc0
	maxPointer   = 1<<14 - 1 // offset that a pointer can name
)

// nameReader decodes the fields of a netlogon message. Its methods do nothing
// once err is set.
type nameReader struct {
	msg []byte // the message, up to the part that is read here
	off int
	err error
}

// take returns the next n bytes.
func (d *nameReader) take(field string, n int) []byte {
	if d.err != nil {
		return nil
	}
	if n > len(d.msg)-d.off {
		d.err = fmt.Errorf("%s at offset %d: %d bytes, want %d: %w", field, d.off, len(d.msg)-d.off, n, ErrTruncated)
		return nil
	}
	b := d.msg[d.off : d.off+n]
	d.off += n
	return b
}

func (d *nameReader) uint32(field string) uint32 {
	b := d.take(field, 4)
	if b == nil {
		return 0
	}
	return binary.LittleEndian.Uint32(b)
}

// name reads a name compressed as RFC 1035, Section 4.1.4, in UTF-8. Each
// pointer must lead to before the place where the current run of labels began,
// so that decoding ends; together with maxNameText this bounds its work.
func (d *nameReader) name(field string) string {
	if d.err != nil {
		return ""
	}
	var text []byte
	off, runStart, end := d.off, d.off, -1
	for {
		if off >= len(d.msg) {
			d.err = fmt.Errorf("%s at offset %d: %w", field, off, ErrTruncated)
			return ""
		}
		switch c := int(d.msg[off]); {
		case c == 0:
			if end < 0 {
				end = off + 1
			}
			d.off = end
			return string(text)
		case c&pointerBits == pointerBits:
			if off+2 > len(d.msg) {
				d.err = fmt.Errorf("%s at offset %d: %w", field, off, ErrTruncated)
				return ""
			}
			target := (c&^pointerBits)<<8 | int(d.msg[off+1])
			if target >= runStart {
				d.err = fmt.Errorf("%s at offset %d: pointer to %d does not lead backwards", field, off, target)
				return ""
			}
			if end < 0 {
				end = off + 2
			}
			off, runStart = target, target
		case c > maxNameLabel:
			d.err = fmt.Errorf("%s at offset %d: label type %#02x", field, off, c)
			return ""
		default:
			if off+1+c > len(d.msg) {
				d.err = fmt.Errorf("%s at offset %d: label of %d bytes: %w", field, off, c, ErrTruncated)
				return ""
			}
			if text, d.err = appendLabel(text, d.msg[off+1:off+1+c]); d.err != nil {
				d.err = fmt.Errorf("%s at offset %d: %w", field, off, d.err)
				return ""
			}
			off += 1 + c
		}
	}
}

// appendLabel adds a label and its dot to the text of a name.
func appendLabel(text, label []byte) ([]byte, error) {
	if len(text) > 0 {
		text = append(text, '.')
	}
	if len(text)+len(label) > maxNameText {
		return nil, fmt.Errorf("name over %d bytes", maxNameText)
	}
	if !utf8.Valid(label) || bytes.ContainsFunc(label, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '.' }) {
		return nil, fmt.Errorf("label %q", label)
	}
	return append(text, label...), nil
}

// unicode reads a UTF-16LE string with its terminator.
func (d *nameReader) unicode(field string) string {
	var units []uint16
	for d.err == nil {
		b := d.take(field, 2)
		if b == nil {
			break
		}
		u := binary.LittleEndian.Uint16(b)
		if u == 0 {
			return string(utf16.Decode(units))
		}
		if units = append(units, u); len(units) > maxUnicodeName {
			d.err = fmt.Errorf("%s: name over %d units", field, maxUnicodeName)
		}
	}
	return ""
}

// oem reads a string of one byte a character with its terminator.
func (d *nameReader) oem(field string) string {
	if d.err != nil {
		return ""
	}
	n := bytes.IndexByte(d.msg[d.off:], 0)
	if n < 0 || n > maxUnicodeName {
		d.err = fmt.Errorf("%s at offset %d: no terminator within %d bytes: %w", field, d.off, maxUnicodeName, ErrTruncated)
		return ""
	}
	return string(d.take(field, n+1)[:n])
}

// nameWriter encodes what nameReader decodes, and compresses names as Samba and
// Windows do: a name's longest tail that was written before becomes a pointer.
type nameWriter struct {
	buf  []byte
	base int // where the message begins in buf: pointers count from there
	// tails holds the offset of each tail of a name written so far.
	tails map[string]int
	err   error
}

func (w *nameWriter) name(s string) {
	if len(s) > maxNameText {
		w.err = fmt.Errorf("adproto: name of %d bytes, limit %d", len(s), maxNameText)
		return
	}
	if w.tails == nil {
		w.tails = map[string]int{}
	}
	for s = strings.TrimSuffix(s, "."); s != ""; {
		if at, ok := w.tails[s]; ok {
			w.buf = append(w.buf, byte(pointerBits|at>>8), byte(at))
			return
		}
		label, rest, _ := strings.Cut(s, ".")
		if len(label) == 0 || len(label) > maxNameLabel {
			w.err = fmt.Errorf("adproto: label of %d bytes, limit %d", len(label), maxNameLabel)
			return
		}
		if _, err := appendLabel(nil, []byte(label)); err != nil {
			w.err = fmt.Errorf("adproto: %w", err)
			return
		}
		if at := len(w.buf) - w.base; at <= maxPointer {
			w.tails[s] = at
		}
		w.buf = append(append(w.buf, byte(len(label))), label...)
		s = rest
	}
	w.buf = append(w.buf, 0)
}

func (w *nameWriter) unicode(s string) {
	units := utf16.Encode([]rune(s))
	if len(units) > maxUnicodeName || strings.ContainsRune(s, 0) {
		w.err = fmt.Errorf("adproto: name of %d units or with a NUL, limit %d", len(units), maxUnicodeName)
		return
	}
	for _, u := range units {
		w.buf = binary.LittleEndian.AppendUint16(w.buf, u)
	}
	w.buf = append(w.buf, 0, 0)
}

// oem writes one byte a character; what is not ASCII becomes '?'.
func (w *nameWriter) oem(s string) {
	for _, r := range s {
		if r == 0 || r > 0x7e {
			r = '?'
		}
		w.buf = append(w.buf, byte(r))
	}
	w.buf = append(w.buf, 0)
}
