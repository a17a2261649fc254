package rows

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// ErrCorrupt: a row cannot be what this program or an older one wrote.
var ErrCorrupt = errors.New("corrupt row")

// Entry is an object without its links.
type Entry struct {
	GUID   dtyp.GUID // objectGUID
	Parent dtyp.GUID // zero for the head of the domain
	// RDN is the attribute that names the entry among its siblings, and Name its
	// value.
	RDN  *schema.Attribute
	Name string
	// WhenCreated and WhenChanged are the controller's own times.
	WhenCreated, WhenChanged dtyp.Filetime
	// Values holds the stored values in the form that LDAP carries, or as references
	// ([Refers]), in the order in which they were given; links, constructed attributes and the fields
	// above are not in it. A missing attribute has no key.
	Values map[*schema.Attribute][][]byte
	// USNCreated and USNChanged are read from the store and not written. They are
	// 0 for what the same transaction wrote.
	USNCreated, USNChanged uint64
}

// Clone is a copy whose Values can be changed; the values themselves are
// shared, and nobody changes those.
func (e *Entry) Clone() *Entry {
	c := *e
	c.Values = make(map[*schema.Attribute][][]byte, len(e.Values))
	for a, v := range e.Values {
		c.Values[a] = slices.Clone(v)
	}
	return &c
}

// entryVersion is the first byte of an encoded entry.
const entryVersion = 1

// encode is the entry in bytes. Attributes are in the order of their OIDs, so that
// equal entries have equal bytes. Numbers are big endian, lengths are varints:
//
//	version 1 | parent 16 | created 8 | changed 8 | RDN's OID | name |
//	count × (OID, count × value)
func (e *Entry) encode() []byte {
	dst := []byte{entryVersion}
	dst = append(dst, e.Parent[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.WhenCreated))
	dst = binary.BigEndian.AppendUint64(dst, uint64(e.WhenChanged))
	dst = appendBytes(dst, []byte(e.RDN.OID))
	dst = appendBytes(dst, []byte(e.Name))
	attributes := make([]*schema.Attribute, 0, len(e.Values))
	for a, values := range e.Values {
		if len(values) > 0 {
			attributes = append(attributes, a)
		}
	}
	slices.SortFunc(attributes, func(a, b *schema.Attribute) int { return strings.Compare(a.OID, b.OID) })
	dst = binary.AppendUvarint(dst, uint64(len(attributes)))
	for _, a := range attributes {
		dst = appendBytes(dst, []byte(a.OID))
		dst = binary.AppendUvarint(dst, uint64(len(e.Values[a])))
		for _, v := range e.Values[a] {
			dst = appendBytes(dst, v)
		}
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(b))), b...)
}

// parseEntry decodes what encode wrote, and copies it: the store's bytes do not
// outlive the transaction. Errors wrap ErrCorrupt.
func parseEntry(s *schema.Schema, b []byte) (*Entry, error) {
	d := decoder{rest: append([]byte(nil), b...)}
	if v := d.take(1); d.err == nil && v[0] != entryVersion {
		return nil, fmt.Errorf("%w: entry of version %d, want %d", ErrCorrupt, v[0], entryVersion)
	}
	e := &Entry{}
	copy(e.Parent[:], d.take(dtyp.GUIDSize))
	e.WhenCreated, e.WhenChanged = d.time(), d.time()
	e.RDN = d.attribute(s)
	e.Name = string(d.bytes())
	attributes := d.count()
	e.Values = make(map[*schema.Attribute][][]byte, attributes)
	for range attributes {
		a := d.attribute(s)
		n := d.count()
		values := make([][]byte, 0, n)
		for range n {
			values = append(values, d.bytes())
		}
		if d.err != nil {
			return nil, d.err
		}
		if _, twice := e.Values[a]; twice || len(values) == 0 {
			return nil, fmt.Errorf("%w: attribute %s twice or without a value", ErrCorrupt, a.Name)
		}
		e.Values[a] = values
	}
	if d.err == nil && len(d.rest) != 0 {
		d.fail("%d trailing bytes", len(d.rest))
	}
	if d.err != nil {
		return nil, d.err
	}
	return e, nil
}

// decoder reads parts of a row and keeps the first error; after it all parts are
// empty.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrCorrupt}, args...)...)
	}
	d.rest = nil
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n > len(d.rest) {
		d.fail("%d bytes left, want %d", len(d.rest), n)
		return nil
	}
	out := d.rest[:n:n]
	d.rest = d.rest[n:]
	return out
}

func (d *decoder) time() dtyp.Filetime {
	b := d.take(8)
	if d.err != nil {
		return 0
	}
	return dtyp.Filetime(binary.BigEndian.Uint64(b))
}

// count reads a number of parts, each of which takes a byte at least.
func (d *decoder) count() int {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 || n > uint64(len(d.rest)-size) {
		d.fail("a count of %d with %d bytes left", n, len(d.rest))
		return 0
	}
	d.rest = d.rest[size:]
	return int(n)
}

func (d *decoder) bytes() []byte { return d.take(d.count()) }

func (d *decoder) attribute(s *schema.Schema) *schema.Attribute {
	oid := d.bytes()
	a, ok := s.ByOID(oid)
	if !ok {
		d.fail("attribute %.64q is not in the schema", oid)
	}
	return a
}
