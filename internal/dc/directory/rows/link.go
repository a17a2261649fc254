package rows

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// Link is one value of a linked attribute: from Source to Target. Data is what
// stands beside the name in a DN-binary or DN-string value, empty for a plain
// name ([MS-ADTS] 3.1.1.1.6).
type Link struct {
	Source, Target dtyp.GUID
	Data           string
}

// maxLinkData bounds Data, in bytes, so that it fits into a row's key.
const maxLinkData = 512

// linkKey is the row of a link. The GUID that is looked for comes first, so that
// all links of one entry lie together; kind is 'f' with the source first, or
// 'b'.
func linkKey(kind byte, linkID int, first, second dtyp.GUID, data string) []byte {
	key := linkPrefix(kind, first)
	key = append(key, byte(linkID>>8), byte(linkID))
	key = append(key, second[:]...)
	return append(key, data...)
}

// linkPrefix begins all links of an entry, of every attribute.
func linkPrefix(kind byte, first dtyp.GUID) []byte { return append([]byte{kind}, first[:]...) }

const linkHeader = 1 + dtyp.GUIDSize + 2

func forwardID(a *schema.Attribute) int { return a.LinkID &^ 1 }

// Link writes a link of a forward link attribute. It fails with ErrExists, and
// with ErrNotFound if the source or target does not exist.
func (t *Table) Link(tx store.Tx, a *schema.Attribute, l Link) error {
	if !a.ForwardLink() || len(l.Data) > maxLinkData {
		return fmt.Errorf("rows: %s is no forward link, or %d bytes of data are more than %d", a.Name, len(l.Data), maxLinkData)
	}
	for _, g := range []dtyp.GUID{l.Source, l.Target} {
		if _, err := tx.Get(entryKey(g)); err != nil {
			return missing(err, "object %s", g)
		}
	}
	forward := linkKey('f', a.LinkID, l.Source, l.Target, l.Data)
	if _, err := tx.Get(forward); !errors.Is(err, store.ErrNotFound) {
		return errors.Join(fmt.Errorf("%s from %s to %s: %w", a.Name, l.Source, l.Target, ErrExists), err)
	}
	if err := tx.Put(forward, nil); err != nil {
		return err
	}
	return tx.Put(linkKey('b', a.LinkID, l.Target, l.Source, l.Data), nil)
}

// Unlink removes a link. It fails with ErrNotFound.
func (t *Table) Unlink(tx store.Tx, a *schema.Attribute, l Link) error {
	forward := linkKey('f', forwardID(a), l.Source, l.Target, l.Data)
	if _, err := tx.Get(forward); err != nil {
		return missing(err, "%s from %s to %s", a.Name, l.Source, l.Target)
	}
	if err := tx.Delete(forward); err != nil {
		return err
	}
	return tx.Delete(linkKey('b', forwardID(a), l.Target, l.Source, l.Data))
}

// maxUnlinked is how much of a transaction's bytes UnlinkAll takes, for links that have
// Data.
const maxUnlinked = store.MaxBytes / 2

// UnlinkAll removes links to and from an entry, at most limit of them, and
// reports whether there are more: the links of a large group do not fit into one
// transaction, so that its deletion takes several. A link takes two rows.
func (t *Table) UnlinkAll(tx store.Tx, g dtyp.GUID, limit int) (more bool, err error) {
	found, err := linkRows(tx, g, limit+1)
	if err != nil {
		return false, err
	}
	size := 0
	for i, l := range found {
		size += 2 * (linkHeader + dtyp.GUIDSize + len(l.Data))
		if i == limit || size > maxUnlinked {
			return true, nil
		}
		for _, key := range [][]byte{
			linkKey('f', l.linkID, l.Source, l.Target, l.Data),
			linkKey('b', l.linkID, l.Target, l.Source, l.Data),
		} {
			if err := tx.Delete(key); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}

// linkRow is a link of whatever attribute.
type linkRow struct {
	linkID int
	Link
}

// linkRows are at most limit links to and from an entry. One to itself is found
// twice.
func linkRows(r store.Reader, g dtyp.GUID, limit int) ([]linkRow, error) {
	var out []linkRow
	for _, kind := range []byte{'f', 'b'} {
		for it, err := range r.Scan(linkPrefix(kind, g), nil) {
			if err != nil {
				return nil, err
			}
			l, err := parseLink(it.Key)
			if err != nil {
				return nil, err
			}
			if out = append(out, l); len(out) >= limit {
				return out, nil
			}
		}
	}
	return out, nil
}

// parseLink reads the key of either row.
func parseLink(key []byte) (linkRow, error) {
	if len(key) < linkHeader+dtyp.GUIDSize {
		return linkRow{}, fmt.Errorf("%w: link row of %d bytes", ErrCorrupt, len(key))
	}
	first := dtyp.GUID(key[1 : 1+dtyp.GUIDSize])
	second := dtyp.GUID(key[linkHeader : linkHeader+dtyp.GUIDSize])
	l := linkRow{linkID: int(key[linkHeader-2])<<8 | int(key[linkHeader-1])}
	l.Data = string(key[linkHeader+dtyp.GUIDSize:])
	l.Source, l.Target = first, second
	if key[0] == 'b' {
		l.Source, l.Target = second, first
	}
	return l, nil
}

// Links yields the links of an entry by attribute a: those from it for a forward
// link, those to it for a back link; by the GUID at the other end, so that
// ranges of values are stable.
func (t *Table) Links(r store.Reader, a *schema.Attribute, g dtyp.GUID) iter.Seq2[Link, error] {
	return linksAfter(r, linkKind(a), forwardID(a), g, dtyp.GUID{})
}

// LinkingAfter yields the links of attribute a that end at g, whose other ends have
// greater GUIDs than after: the entries that have g among their values of a.
func (t *Table) LinkingAfter(r store.Reader, a *schema.Attribute, g, after dtyp.GUID) iter.Seq2[Link, error] {
	return linksAfter(r, 'f'+'b'-linkKind(a), forwardID(a), g, after)
}

// Linked reports whether an entry has target among its values of a, which are plain
// names.
func (t *Table) Linked(r store.Reader, a *schema.Attribute, g, target dtyp.GUID) (bool, error) {
	_, err := r.Get(linkKey(linkKind(a), forwardID(a), g, target, ""))
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// LinkIDs are those of the link attributes, forward and back, of which an entry has
// values, ascending on each side.
func (t *Table) LinkIDs(r store.Reader, g dtyp.GUID) (ids []int, err error) {
	for _, kind := range []byte{'f', 'b'} {
		prefix := linkPrefix(kind, g)
		for from, more := []byte(nil), true; more; {
			more = false
			for it, err := range r.Scan(prefix, from) {
				var l linkRow
				if err == nil {
					l, err = parseLink(it.Key)
				}
				if err != nil {
					return nil, err
				}
				id := l.linkID
				from = append(slices.Clip(prefix), byte((id+1)>>8), byte(id+1))
				if kind == 'b' {
					id |= 1
				}
				ids, more = append(ids, id), true
				break
			}
		}
	}
	return ids, nil
}

// linkKind begins the rows of an entry's own values of a.
func linkKind(a *schema.Attribute) byte {
	if a.BackLink() {
		return 'b'
	}
	return 'f'
}

func linksAfter(r store.Reader, kind byte, id int, g, after dtyp.GUID) iter.Seq2[Link, error] {
	prefix := append(linkPrefix(kind, g), byte(id>>8), byte(id))
	from := append(slices.Clip(prefix), after[:]...)
	return func(yield func(Link, error) bool) {
		for it, err := range r.Scan(prefix, from) {
			if err == nil && !after.IsZero() && bytes.HasPrefix(it.Key, from) {
				continue
			}
			var l linkRow
			if err == nil {
				l, err = parseLink(it.Key)
			}
			if !yield(l.Link, err) || err != nil {
				return
			}
		}
	}
}

// ErrTooWide: a chain of links passes through more entries than a search may
// visit (adminLimitExceeded, LDAP 11).
var ErrTooWide = errors.New("chain of links is too wide")

// Reachable is every entry that the links of a lead to from g in one step or
// more, in the order in which they are found, each once; loops are no harm. It
// fails with ErrTooWide after limit entries.
func (t *Table) Reachable(r store.Reader, a *schema.Attribute, g dtyp.GUID, limit int) ([]dtyp.GUID, error) {
	seen := map[dtyp.GUID]bool{}
	var found []dtyp.GUID
	for next := []dtyp.GUID{g}; len(next) > 0; {
		at := next[0]
		next = next[1:]
		for l, err := range t.Links(r, a, at) {
			if err != nil {
				return nil, err
			}
			other := l.Target
			if a.BackLink() {
				other = l.Source
			}
			if seen[other] {
				continue
			}
			if len(found) == limit {
				return nil, fmt.Errorf("%s from %s: %w: more than %d objects", a.Name, g, ErrTooWide, limit)
			}
			seen[other] = true
			found, next = append(found, other), append(next, other)
		}
	}
	return found, nil
}
