// Package keytab reads and writes MIT's keytab files: format 0x0502, and
// 0x0501 for reading (doc/formats/keytab_file_format of MIT Kerberos). It turns
// bytes into a [Keytab] and back; where the file lies, who may read it and how
// it is replaced is the caller's business.
//
// Read [Parse] first.
package keytab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/internal/cursor"
	"github.com/opengmsa/opengmsa/secret"
)

// MaxSize is the largest file that [Parse] accepts, in bytes: some 100,000
// entries.
const MaxSize = 16 << 20

// ErrFormat is wrapped by every error of [Parse].
var ErrFormat = errors.New("not a valid keytab")

// Keytab is the contents of a keytab file, in the order of the file.
type Keytab struct {
	Entries []Entry
}

// Entry is one key of one principal.
type Entry struct {
	Principal krb5.Principal
	// Timestamp is when the entry was written, to the second; zero if unknown.
	Timestamp time.Time
	// KVNO is the version number of the key.
	KVNO uint32
	// Key is nil if this package may not or cannot use the type of the key;
	// then Other has it.
	Key *crypto.Key
	// Other is a key that is kept only to be written again: DES, RC4 without
	// an allowance and the like. It is ignored if Key is set.
	Other OtherKey
}

// OtherKey is a key whose type is not supported.
type OtherKey struct {
	EType crypto.EType
	Bytes secret.Bytes
}

// EType is the encryption type of the entry's key, usable or not.
func (e Entry) EType() crypto.EType {
	if e.Key != nil {
		return e.Key.EType()
	}
	return e.Other.EType
}

const (
	magic    = 5 // first byte
	version1 = 1 // second byte: in the byte order of the machine
	version2 = 2 // second byte: in big endian
)

// Parse reads a keytab file. Keys whose type is not supported, or not allowed,
// are kept as [OtherKey]; holes that deleted entries left are skipped.
func Parse(b []byte, allow ...crypto.Allowance) (Keytab, error) {
	if len(b) > MaxSize {
		return Keytab{}, fmt.Errorf("keytab: %w: size %d, want at most %d", ErrFormat, len(b), MaxSize)
	}
	if len(b) < 2 || b[0] != magic {
		return Keytab{}, fmt.Errorf("keytab: %w: magic at offset 0: got %x, want 05", ErrFormat, b[:min(len(b), 2)])
	}
	switch b[1] {
	case version2:
		return parse(b, version2, binary.BigEndian, allow)
	case version1:
		// The byte order is that of the machine that wrote the file. A wrong
		// guess reads the first size as millions and fails at once.
		kt, err := parse(b, version1, binary.LittleEndian, allow)
		if err != nil {
			return parse(b, version1, binary.BigEndian, allow)
		}
		return kt, nil
	}
	return Keytab{}, fmt.Errorf("keytab: %w: version at offset 1: got %d, want 1 or 2", ErrFormat, b[1])
}

// parse reads the records: a size and as many bytes, or minus a size and a hole.
func parse(b []byte, version int, order binary.ByteOrder, allow []crypto.Allowance) (Keytab, error) {
	c := cursor.New("keytab", order, b)
	c.Bytes("magic", 2)
	var kt Keytab
	for c.Len() > 0 {
		size := int32(c.Uint32("record size"))
		// A size of zero ends the file for MIT, whatever follows: so it does here.
		if size == 0 && c.Err() == nil {
			break
		}
		if size == math.MinInt32 {
			c.Fail("record size", "got %d", size)
		}
		if size < 0 {
			c.Bytes("hole", -int(size))
			continue
		}
		start := c.Offset()
		record := c.Bytes("record", int(size))
		if c.Err() != nil {
			break
		}
		e, err := parseEntry(record, version, order, allow)
		if err != nil {
			return Keytab{}, fmt.Errorf("record at offset %d: %w: %w", start, ErrFormat, err)
		}
		kt.Entries = append(kt.Entries, e)
	}
	if c.Err() != nil {
		return Keytab{}, fmt.Errorf("%w: %w", ErrFormat, c.Err())
	}
	return kt, nil
}

// parseEntry reads one record. What follows its known fields is ignored:
// Heimdal writes flags there.
func parseEntry(b []byte, version int, order binary.ByteOrder, allow []crypto.Allowance) (Entry, error) {
	c := cursor.New("keytab", order, b)
	var e Entry
	n := int(c.Uint16("component count"))
	if version == version1 {
		n-- // the realm is counted
	}
	if n < 0 || n > c.Len()/2 {
		c.Fail("component count", "got %d in %d bytes", n, c.Len())
		return e, c.Err()
	}
	e.Principal.Realm = string(c.Counted16("realm"))
	e.Principal.Name.Components = make([]string, n)
	for i := range n {
		e.Principal.Name.Components[i] = string(c.Counted16("component"))
	}
	e.Principal.Name.Type = krb5.NamePrincipal
	if version == version2 {
		e.Principal.Name.Type = krb5.NameType(int32(c.Uint32("name type")))
	}
	e.Timestamp = unix(c.Uint32("timestamp"))
	e.KVNO = uint32(c.Uint8("kvno"))
	etype := crypto.EType(int16(c.Uint16("key type")))
	key := c.Counted16("key")
	if c.Err() != nil {
		return e, c.Err()
	}
	// A version number of 32 bits may follow; zero means that it does not.
	if c.Len() >= 4 {
		if v := c.Uint32("kvno"); v != 0 {
			e.KVNO = v
		}
	}
	return e, e.setKey(etype, secret.Copy(key), allow)
}

func (e *Entry) setKey(etype crypto.EType, b secret.Bytes, allow []crypto.Allowance) error {
	k, err := crypto.NewKey(etype, b, allow...)
	if errors.Is(err, crypto.ErrEType) {
		e.Other = OtherKey{EType: etype, Bytes: b}
		return nil
	}
	e.Key = k
	return err
}

// Append appends the keytab as a file of format 0x0502, without holes. A name
// or key longer than 65,535 bytes cannot be written and is an error.
func (kt Keytab) Append(dst []byte) ([]byte, error) {
	dst = append(dst, magic, version2)
	for i, e := range kt.Entries {
		var err error
		if dst, err = e.Append(dst); err != nil {
			return nil, fmt.Errorf("keytab: entry %d, %v: %w", i, e.Principal, err)
		}
	}
	return dst, nil
}

// Append appends the record of one entry, as it is added to the end of a file
// of format 0x0502.
func (e Entry) Append(dst []byte) ([]byte, error) {
	be := binary.BigEndian
	etype, key := e.Other.EType, e.Other.Bytes
	if e.Key != nil {
		etype, key = e.Key.EType(), e.Key.Secret()
	}
	if etype < math.MinInt16 || etype > math.MaxInt16 {
		return nil, fmt.Errorf("key type %d does not fit into 16 bits", etype)
	}
	if n := len(e.Principal.Name.Components); n > math.MaxUint16 {
		return nil, fmt.Errorf("%d components, want at most %d", n, math.MaxUint16)
	}
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0) // the size, filled in below
	dst = be.AppendUint16(dst, uint16(len(e.Principal.Name.Components)))
	for _, s := range append([]string{e.Principal.Realm}, e.Principal.Name.Components...) {
		if len(s) > math.MaxUint16 {
			return nil, fmt.Errorf("name of %d bytes, want at most %d", len(s), math.MaxUint16)
		}
		dst = be.AppendUint16(dst, uint16(len(s)))
		dst = append(dst, s...)
	}
	dst = be.AppendUint32(dst, uint32(e.Principal.Name.Type))
	dst = be.AppendUint32(dst, seconds(e.Timestamp))
	dst = append(dst, byte(e.KVNO))
	dst = be.AppendUint16(dst, uint16(etype))
	if key.Len() > math.MaxUint16 {
		return nil, fmt.Errorf("key of %d bytes, want at most %d", key.Len(), math.MaxUint16)
	}
	dst = be.AppendUint16(dst, uint16(key.Len()))
	dst = append(dst, key.Reveal()...)
	dst = be.AppendUint32(dst, e.KVNO)
	be.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst, nil
}

// Lookup returns the usable key of a principal with a version number and type.
func (kt Keytab) Lookup(p krb5.Principal, kvno uint32, e crypto.EType) (*crypto.Key, bool) {
	for _, entry := range kt.Entries {
		if entry.Key != nil && entry.KVNO == kvno && entry.Key.EType() == e && entry.Principal.Equal(p) {
			return entry.Key, true
		}
	}
	return nil, false
}

// Newest returns the usable keys of the highest version number of a principal,
// in the order of the file: what an initiator uses.
func (kt Keytab) Newest(p krb5.Principal) []Entry {
	var out []Entry
	for _, e := range kt.Entries {
		switch {
		case e.Key == nil || !e.Principal.Equal(p):
		case len(out) == 0 || e.KVNO == out[0].KVNO:
			out = append(out, e)
		case e.KVNO > out[0].KVNO:
			out = append(out[:0], e)
		}
	}
	return out
}

// Principals returns the principals of the keytab, each once, in the order of
// the file.
func (kt Keytab) Principals() []krb5.Principal {
	var out []krb5.Principal
	for _, e := range kt.Entries {
		if !slices.ContainsFunc(out, e.Principal.Equal) {
			out = append(out, e.Principal)
		}
	}
	return out
}

// unix converts a timestamp; MIT reads it as unsigned, so that it lasts to 2106.
func unix(t uint32) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(int64(t), 0).UTC()
}

func seconds(t time.Time) uint32 {
	if t.IsZero() {
		return 0
	}
	return uint32(min(max(t.Unix(), 0), math.MaxUint32))
}
