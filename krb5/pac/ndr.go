package pac

import (
	"encoding/binary"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/krb5/internal/cursor"
)

// What LOGON_INFO needs of NDR, little endian ([MS-RPCE] 2.2.6, C706 chapter 14):
// a structure's fields first, with a referent identifier for each pointer, then what
// the pointers point to, in the order of the pointers. Null is 0; other identifiers
// only have to differ, and writers count them up in fours.
const (
	ndrVersion     = 1
	ndrLittle      = 0x10
	ndrHeader      = 8          // of the common header, which says its own length
	ndrFiller      = 0xcccccccc // ignored on receipt
	ndrHeaders     = 16         // common and private header
	firstReferent  = 0x00020000
	nextReferent   = 4
	maxStringUnits = 32766
)

// reader reads NDR. The first error stays, see [cursor.Cursor].
type reader struct{ *cursor.Cursor }

func newReader(what string, b []byte) reader {
	return reader{cursor.New(what, binary.LittleEndian, b)}
}

// header reads the two headers, [MS-RPCE] 2.2.6.1 and 2.2.6.2, and the pointer to
// the structure.
func (r reader) header() {
	if v := r.Uint8("Version"); v != ndrVersion {
		r.Fail("Version", "got %d, want %d", v, ndrVersion)
	}
	if e := r.Uint8("Endianness"); e != ndrLittle {
		r.Fail("Endianness", "got %#x, want %#x", e, ndrLittle)
	}
	if n := r.Uint16("CommonHeaderLength"); n != ndrHeader {
		r.Fail("CommonHeaderLength", "got %d, want %d", n, ndrHeader)
	}
	r.Bytes("Filler", 4)
	n := r.Uint32("ObjectBufferLength")
	r.Bytes("Filler", 4)
	if int64(n) != int64(r.Len()) || n%alignment != 0 {
		r.Fail("ObjectBufferLength", "got %d, want %d, a multiple of %d", n, r.Len(), alignment)
	}
	if !r.pointer("structure") {
		r.Fail("structure", "got a null pointer")
	}
}

// align skips to a multiple of n bytes.
func (r reader) align(n int) { r.zeros(roundUp(r.Offset(), n) - r.Offset()) }

func (r reader) zeros(n int) {
	for _, b := range r.Bytes("padding", n) {
		if b != 0 {
			r.Fail("padding", "got %#02x, want 0", b)
			return
		}
	}
}

// end demands that nothing is left but padding.
func (r reader) end() {
	if n := r.Len(); n >= alignment {
		r.Fail("end", "%d bytes left", n)
	}
	r.zeros(r.Len())
}

func (r reader) pointer(field string) bool { return r.Uint32(field) != 0 }

// filetime is two 32-bit numbers, and aligned as such.
func (r reader) filetime(field string) dtyp.Filetime {
	low, high := r.Uint32(field), r.Uint32(field)
	return dtyp.Filetime(high)<<32 | dtyp.Filetime(low)
}

// stringHeader is RPC_UNICODE_STRING, [MS-DTYP] 2.3.10; lengths are in bytes.
type stringHeader struct {
	length, maximum uint16
	present         bool
}

func (r reader) stringHeader(field string) stringHeader {
	h := stringHeader{length: r.Uint16(field), maximum: r.Uint16(field)}
	h.present = r.pointer(field)
	if h.length%2 != 0 || h.maximum%2 != 0 || h.length > h.maximum || !h.present && h.length != 0 {
		r.Fail(field, "got %d of %d bytes, pointer %t", h.length, h.maximum, h.present)
	}
	return h
}

// string is the conformant and varying array of 16-bit units of a string.
func (r reader) string(field string, h stringHeader) string {
	if !h.present {
		return ""
	}
	r.align(4)
	maximum, offset, actual := r.Uint32(field), r.Uint32(field), r.Uint32(field)
	if maximum != uint32(h.maximum/2) || offset != 0 || actual != uint32(h.length/2) {
		r.Fail(field, "got %d of %d units from %d, want %d of %d", actual, maximum, offset, h.length/2, h.maximum/2)
	}
	return r.text(field, int(h.length))
}

// text reads n bytes of UTF-16, which must be well-formed.
func (r reader) text(field string, n int) string {
	s, ok := decodeText(r.Bytes(field, n))
	if !ok {
		r.Fail(field, "not UTF-16")
	}
	return s
}

// arrayHeader is a counted array: the number of its elements and the pointer.
type arrayHeader struct {
	count   uint32
	present bool
}

func (r reader) arrayHeader(field string) arrayHeader {
	h := arrayHeader{count: r.Uint32(field), present: r.pointer(field)}
	if !h.present && h.count != 0 {
		r.Fail(field, "got %d elements behind a null pointer", h.count)
	}
	return h
}

// array reads an array's conformance; each element has size bytes at least.
func (r reader) array(field string, h arrayHeader, size int) int {
	if !h.present {
		return 0
	}
	r.align(4)
	n := r.Count32(field, size)
	if uint32(n) != h.count {
		r.Fail(field, "got %d elements, want %d", n, h.count)
		return 0
	}
	return n
}

func (r reader) groups(field string, h arrayHeader) []Group {
	n := r.array(field, h, 8)
	if n == 0 {
		return nil
	}
	groups := make([]Group, n)
	for i := range groups {
		groups[i] = Group{RID: r.Uint32(field), Attributes: GroupAttributes(r.Uint32(field))}
	}
	return groups
}

func (r reader) sids(field string, h arrayHeader) []SIDAttributes {
	n := r.array(field, h, 8)
	if n == 0 {
		return nil
	}
	sids := make([]SIDAttributes, n)
	for i := range sids {
		if !r.pointer(field) {
			r.Fail(field, "got a null pointer")
		}
		sids[i].Attributes = GroupAttributes(r.Uint32(field))
	}
	for i := range sids {
		sids[i].SID = r.sid(field, true)
	}
	return sids
}

// sid reads RPC_SID, [MS-DTYP] 2.4.2.3: its conformance, then a SID.
func (r reader) sid(field string, present bool) dtyp.SID {
	if !present || r.Err() != nil {
		return dtyp.SID{}
	}
	r.align(4)
	n := r.Uint32(field)
	if n < 1 || n > dtyp.MaxSubAuthorities {
		r.Fail(field, "got %d sub-authorities, want 1 to %d", n, dtyp.MaxSubAuthorities)
		return dtyp.SID{}
	}
	b := r.Bytes(field, 8+4*int(n))
	if b == nil {
		return dtyp.SID{}
	}
	sid, err := dtyp.SIDFromBytes(b)
	if err != nil {
		r.Fail(field, "%v", err)
	}
	return sid
}

// writer writes NDR behind what is in buf already.
type writer struct {
	buf      []byte
	start    int // of the structure's headers
	referent uint32
}

func newWriter(dst []byte) *writer {
	w := &writer{buf: dst, start: len(dst), referent: firstReferent}
	w.bytes([]byte{ndrVersion, ndrLittle, ndrHeader, 0})
	w.uint32(ndrFiller)
	w.bytes(make([]byte, 8)) // ObjectBufferLength, filled in by finish, and Filler
	w.pointer(true)
	return w
}

func (w *writer) bytes(b []byte)  { w.buf = append(w.buf, b...) }
func (w *writer) uint16(v uint16) { w.buf = binary.LittleEndian.AppendUint16(w.buf, v) }
func (w *writer) uint32(v uint32) { w.buf = binary.LittleEndian.AppendUint32(w.buf, v) }

func (w *writer) filetime(t dtyp.Filetime) {
	w.uint32(uint32(t))
	w.uint32(uint32(t >> 32))
}

func (w *writer) align(n int) {
	have := len(w.buf) - w.start
	w.bytes(make([]byte, roundUp(have, n)-have))
}

func (w *writer) pointer(present bool) {
	if !present {
		w.uint32(0)
		return
	}
	w.uint32(w.referent)
	w.referent += nextReferent
}

// stringHeader announces a string with room for spare more units: Windows and Samba
// leave one behind the names of the server and the domain.
func (w *writer) stringHeader(s []uint16, spare int) {
	w.uint16(uint16(2 * len(s)))
	w.uint16(uint16(2 * (len(s) + spare)))
	w.pointer(true)
}

func (w *writer) string(s []uint16, spare int) {
	w.align(4)
	w.uint32(uint32(len(s) + spare))
	w.uint32(0)
	w.uint32(uint32(len(s)))
	w.text(s)
}

func (w *writer) text(s []uint16) {
	for _, u := range s {
		w.uint16(u)
	}
}

func (w *writer) arrayHeader(n int) {
	w.uint32(uint32(n))
	w.pointer(n > 0)
}

func (w *writer) groups(groups []Group) {
	if len(groups) == 0 {
		return
	}
	w.align(4)
	w.uint32(uint32(len(groups)))
	for _, g := range groups {
		w.uint32(g.RID)
		w.uint32(uint32(g.Attributes))
	}
}

func (w *writer) sids(sids []SIDAttributes) {
	if len(sids) == 0 {
		return
	}
	w.align(4)
	w.uint32(uint32(len(sids)))
	for _, s := range sids {
		w.pointer(true)
		w.uint32(uint32(s.Attributes))
	}
	for _, s := range sids {
		w.sid(s.SID)
	}
}

func (w *writer) sid(sid dtyp.SID) {
	if sid.IsZero() {
		return
	}
	w.align(4)
	w.uint32(uint32(len(sid.SubAuthorities())))
	w.buf = sid.Append(w.buf)
}

// finish pads the structure and fills in its length.
func (w *writer) finish() []byte {
	w.align(alignment)
	length := len(w.buf) - w.start - ndrHeaders
	binary.LittleEndian.PutUint32(w.buf[w.start+ndrHeader:], uint32(length))
	return w.buf
}

// units are the UTF-16 of a string, at most as much as an RPC_UNICODE_STRING takes.
func units(s string) []uint16 {
	u := utf16.Encode([]rune(s))
	return u[:min(len(u), maxStringUnits)]
}

// decodeText reads UTF-16 without unpaired surrogates.
func decodeText(b []byte) (string, bool) {
	u := make([]uint16, len(b)/2)
	for i := range u {
		u[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	s := string(utf16.Decode(u))
	back := units(s)
	if len(back) != len(u) {
		return "", false
	}
	for i := range u {
		if back[i] != u[i] {
			return "", false
		}
	}
	return s, len(b)%2 == 0
}
