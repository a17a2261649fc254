package rows

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

var (
	// ErrNotFound: no such entry or link (noSuchObject, LDAP 32).
	ErrNotFound = errors.New("no such object")
	// ErrExists: the name is taken (entryAlreadyExists, LDAP 68), or the link is
	// there already (attributeOrValueExists, LDAP 20).
	ErrExists = errors.New("already exists")
	// ErrHasChildren: the entry cannot go before those below it
	// (notAllowedOnNonLeaf, LDAP 66).
	ErrHasChildren = errors.New("has children")
	// ErrHasLinks: the entry cannot go before its links, see UnlinkAll.
	ErrHasLinks = errors.New("has links")
	// ErrCycle: an entry cannot come to lie below itself (unwillingToPerform, LDAP
	// 53).
	ErrCycle = errors.New("an object cannot lie below itself")
)

// Conflict is the error of a value that another entry has and no two may have.
type Conflict struct {
	Attribute *schema.Attribute
	Value     []byte
	Holder    dtyp.GUID // the entry that has it
}

// Error names the attribute and value.
func (c *Conflict) Error() string {
	return fmt.Sprintf("%s %q belongs to the object %s", c.Attribute.Name, c.Value, c.Holder)
}

// Table reads and writes entries. It is immutable and holds no entry.
type Table struct {
	// Schema is the attributes; entries with others cannot be read.
	Schema *schema.Schema
	// Domain is the name of the head of the domain, below which everything lies:
	// the configuration and schema partitions too.
	Domain adproto.DN
}

// maxDepth bounds the walk from an entry to the head of the domain.
const maxDepth = 128

// maxKeyPart is how much of a value stands in an index key, in bytes; the rest
// is there as a hash.
const maxKeyPart = 256

// Unique reports whether no two entries may have the same value of a, as AD
// has it for [MS-ADTS] 3.1.1.5.1.3 and 3.1.1.5.2.2.
func Unique(a *schema.Attribute) bool {
	switch a.Name {
	case "objectSid", "sAMAccountName", "servicePrincipalName", "userPrincipalName":
		return true
	}
	return false
}

// Indexed reports whether [Table.Find] knows entries by their values of a. References
// have no index but objectCategory, whose values are names of the schema partition.
func Indexed(a *schema.Attribute) bool {
	return Unique(a) || a.Indexed() && a.LinkID < 0 && !a.Constructed() && !a.Secret() && a.Name != "objectGUID" &&
		(!Refers(a) || a.Name == "objectCategory")
}

// Deleted reports whether an entry is a tombstone, or the container of tombstones,
// which also has isDeleted ([MS-ADTS] 3.1.1.5.5). A tombstone keeps its names and its
// SID without holding them: they are in no index of unique values but in one of
// [Table.FindBuried], so that others can have the names and nobody comes across it by
// them who does not look for tombstones.
func Deleted(e *Entry) bool {
	for a, v := range e.Values {
		if a.Name == "isDeleted" {
			return len(v) == 1 && string(v[0]) == "TRUE"
		}
	}
	return false
}

// Replica reports whether an entry is of another domain of the forest, of which the
// global catalog has a copy that others write: its instanceType is without IT_WRITE
// ([MS-ADTS] 2.2.15). Names of accounts are unique in a domain only, and no account of
// another domain may be taken for one of this: like a tombstone, a replica holds no
// unique values.
func Replica(e *Entry) bool {
	const write = 4
	for a, v := range e.Values {
		if a.Name == "instanceType" && len(v) == 1 {
			n, err := schema.ParseNumber(v[0], 32)
			return err == nil && n&write == 0
		}
	}
	return false
}

func entryKey(g dtyp.GUID) []byte   { return append([]byte{'e'}, g[:]...) }
func createdKey(g dtyp.GUID) []byte { return append([]byte{'c'}, g[:]...) }

func childPrefix(parent dtyp.GUID) []byte { return append([]byte{'d'}, parent[:]...) }

// childKey is where the entry of a name lies: names are compared without regard
// to case, and siblings must differ in them. Deviation: that also refuses two
// siblings whose names differ only in the attribute that names them.
func childKey(parent dtyp.GUID, name string) []byte {
	return append(childPrefix(parent), part(schema.Fold([]byte(name)))...)
}

// part makes a value's key fit into a row's key.
func part(key []byte) []byte {
	if len(key) <= maxKeyPart {
		return append([]byte{0}, key...)
	}
	sum := sha256.Sum256(key)
	return append(append([]byte{1}, key[:maxKeyPart]...), sum[:]...)
}

// valuePrefix begins the rows of one value of an attribute. The length stands
// before the value, so that no value's rows lie among those of another that it
// begins.
func valuePrefix(kind byte, a *schema.Attribute, key []byte) []byte {
	p := append([]byte{kind}, a.OID...)
	p = append(p, 0, byte(len(key)>>8), byte(len(key)))
	return append(p, part(key)...)
}

// Get reads an entry. It fails with ErrNotFound.
func (t *Table) Get(r store.Reader, g dtyp.GUID) (*Entry, error) { return t.GetNewer(r, g, 0) }

// GetNewer is Get for whoever has the entry as it was at a revision, 0 for none: it is
// nil where the entry has not changed since.
func (t *Table) GetNewer(r store.Reader, g dtyp.GUID, revision uint64) (*Entry, error) {
	item, err := r.Get(entryKey(g))
	if err != nil {
		return nil, missing(err, "object %s", g)
	}
	if revision != 0 && item.Revision == revision {
		return nil, nil
	}
	e, err := parseEntry(t.Schema, item.Value)
	if err != nil {
		return nil, fmt.Errorf("object %s: %w", g, err)
	}
	e.GUID, e.USNChanged = g, item.Revision
	created, err := r.Get(createdKey(g))
	if err != nil {
		return nil, missing(err, "creation of %s", g)
	}
	e.USNCreated = created.Revision
	return e, nil
}

// Revision is uSNChanged of an entry: what was read of it before holds for as long as
// it is the same. It fails with ErrNotFound.
func (t *Table) Revision(r store.Reader, g dtyp.GUID) (uint64, error) {
	item, err := r.Get(entryKey(g))
	if err != nil {
		return 0, missing(err, "object %s", g)
	}
	return item.Revision, nil
}

// missing gives the store's error for an absent key this package's name. Most callers
// look whether something is there, so that the text is made only for who reads it.
func missing(err error, format string, args ...any) error {
	if errors.Is(err, store.ErrNotFound) {
		return &absent{format, args}
	}
	return fmt.Errorf(format+": %w", append(args, err)...)
}

// absent is an [ErrNotFound] that says of what.
type absent struct {
	format string
	args   []any
}

func (a *absent) Error() string { return fmt.Sprintf(a.format, a.args...) + ": " + ErrNotFound.Error() }
func (a *absent) Unwrap() error { return ErrNotFound }

// Child is the entry with that name below parent; the zero GUID is above the
// head of the domain. It fails with ErrNotFound.
func (t *Table) Child(r store.Reader, parent dtyp.GUID, name string) (dtyp.GUID, error) {
	g, _, err := t.child(r, parent, name)
	return g, err
}

// child is Child with the OID of the attribute that names the entry.
func (t *Table) child(r store.Reader, parent dtyp.GUID, name string) (g dtyp.GUID, oid string, err error) {
	item, err := r.Get(childKey(parent, name))
	if err != nil {
		return g, "", missing(err, "%q below %s", name, parent)
	}
	if len(item.Value) < dtyp.GUIDSize {
		return g, "", fmt.Errorf("%w: name row of %d bytes", ErrCorrupt, len(item.Value))
	}
	return dtyp.GUID(item.Value[:dtyp.GUIDSize]), string(item.Value[dtyp.GUIDSize:]), nil
}

// Children are the entries below parent.
func (t *Table) Children(r store.Reader, parent dtyp.GUID) iter.Seq2[dtyp.GUID, error] {
	return guids(r.Scan(childPrefix(parent), nil), func(it store.Item) []byte {
		return it.Value[:min(dtyp.GUIDSize, len(it.Value))]
	})
}

// ChildrenAfter are the entries below parent that come after the name, which need not
// be that of an entry: so a walk goes on where it stopped, whatever has changed.
func (t *Table) ChildrenAfter(r store.Reader, parent dtyp.GUID, name string) iter.Seq2[dtyp.GUID, error] {
	last := childKey(parent, name)
	return func(yield func(dtyp.GUID, error) bool) {
		for it, err := range r.Scan(childPrefix(parent), last) {
			if err == nil && bytes.Equal(it.Key, last) {
				continue
			}
			var g dtyp.GUID
			if err == nil {
				g, err = dtyp.GUIDFromBytes(it.Value[:min(dtyp.GUIDSize, len(it.Value))])
			}
			if !yield(g, err) || err != nil {
				return
			}
		}
	}
}

// guids yields the GUID that of takes from each item.
func guids(items iter.Seq2[store.Item, error], of func(store.Item) []byte) iter.Seq2[dtyp.GUID, error] {
	return func(yield func(dtyp.GUID, error) bool) {
		for it, err := range items {
			var g dtyp.GUID
			if err == nil {
				g, err = dtyp.GUIDFromBytes(of(it))
			}
			if !yield(g, err) || err != nil {
				return
			}
		}
	}
}

// Resolve finds an entry by its name. Where there is none it fails with
// ErrNotFound and returns the nearest entry above that does exist, which LDAP
// calls matchedDN, or the zero GUID.
func (t *Table) Resolve(r store.Reader, dn adproto.DN) (dtyp.GUID, error) {
	if !dn.Within(t.Domain) {
		return dtyp.GUID{}, fmt.Errorf("%s: %w", dn, ErrNotFound)
	}
	at, err := t.Child(r, dtyp.GUID{}, t.Domain.Name())
	if err != nil {
		return dtyp.GUID{}, err
	}
	for _, rdn := range slices.Backward(dn[:len(dn)-len(t.Domain)]) {
		if len(rdn) != 1 {
			return at, fmt.Errorf("%s: %w: names have one part", dn, ErrNotFound)
		}
		next, oid, err := t.child(r, at, rdn[0].Value)
		if err != nil {
			return at, err
		}
		if a, ok := t.Schema.Attribute(rdn[0].Type); !ok || a.OID != oid {
			return at, fmt.Errorf("%s: %w: it is not called %s=", dn, ErrNotFound, rdn[0].Type)
		}
		at = next
	}
	return at, nil
}

// DN is the name of an entry.
func (t *Table) DN(r store.Reader, e *Entry) (adproto.DN, error) {
	var dn adproto.DN
	for range maxDepth {
		if e.Parent.IsZero() {
			return append(dn, t.Domain...), nil
		}
		dn = append(dn, adproto.RDN{{Type: rdnType(e.RDN), Value: e.Name}})
		var err error
		if e, err = t.Get(r, e.Parent); err != nil {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w: %s lies more than %d deep", ErrCorrupt, e.GUID, maxDepth)
}

// rdnType is how AD writes a naming attribute: in capitals.
func rdnType(a *schema.Attribute) string { return string(bytes.ToUpper([]byte(a.Name))) }

// Find yields the entries that have a value of an indexed attribute, by its
// key (schema.Syntax.Key), in the order of their GUIDs.
func (t *Table) Find(r store.Reader, a *schema.Attribute, key []byte) iter.Seq2[dtyp.GUID, error] {
	return t.FindAfter(r, a, key, dtyp.GUID{})
}

// FindAfter is Find without the entries whose GUIDs are not greater than after, in the
// order of bytes; the zero GUID is before all.
func (t *Table) FindAfter(r store.Reader, a *schema.Attribute, key []byte, after dtyp.GUID) iter.Seq2[dtyp.GUID, error] {
	if Unique(a) {
		return beyond(holder(r, valuePrefix('u', a, key)), after)
	}
	return findMany(r, a, key, after)
}

// FindBuried is FindAfter for those that have a value of a unique attribute without
// holding it: tombstones and replicas.
func (t *Table) FindBuried(r store.Reader, a *schema.Attribute, key []byte, after dtyp.GUID) iter.Seq2[dtyp.GUID, error] {
	return findMany(r, a, key, after)
}

func findMany(r store.Reader, a *schema.Attribute, key []byte, after dtyp.GUID) iter.Seq2[dtyp.GUID, error] {
	prefix := valuePrefix('i', a, key)
	from := append(slices.Clip(prefix), after[:]...)
	return beyond(guids(r.Scan(prefix, from), func(it store.Item) []byte { return it.Key[len(prefix):] }), after)
}

// holder yields the one entry that has a value of a unique attribute, if there is one.
func holder(r store.Reader, key []byte) iter.Seq2[dtyp.GUID, error] {
	return func(yield func(dtyp.GUID, error) bool) {
		it, err := r.Get(key)
		if errors.Is(err, store.ErrNotFound) {
			return
		}
		var g dtyp.GUID
		if err == nil {
			g, err = dtyp.GUIDFromBytes(it.Value)
		}
		yield(g, err)
	}
}

// beyond leaves out what is not greater than after.
func beyond(seq iter.Seq2[dtyp.GUID, error], after dtyp.GUID) iter.Seq2[dtyp.GUID, error] {
	return func(yield func(dtyp.GUID, error) bool) {
		for g, err := range seq {
			if err == nil && bytes.Compare(g[:], after[:]) <= 0 {
				continue
			}
			if !yield(g, err) {
				return
			}
		}
	}
}
