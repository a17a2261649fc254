package rows

import (
	"errors"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// Private rows hold what belongs to an entry and is none of its attributes: keys,
// counters, the timeline of a gMSA's passwords. They are rows of their own so that
// no search, filter or copy of an entry can come across them, and so that writing
// one changes neither uSNChanged nor whenChanged. What stands in them, and whether it
// is encrypted, is their writer's to know.

func privateKey(g dtyp.GUID, name string) []byte { return append(privatePrefix(g), name...) }

func privatePrefix(g dtyp.GUID) []byte { return append([]byte{'p'}, g[:]...) }

// Private reads a private row. The bytes hold for the transaction. It fails with
// ErrNotFound.
func (t *Table) Private(r store.Reader, g dtyp.GUID, name string) ([]byte, error) {
	item, err := r.Get(privateKey(g, name))
	if err != nil {
		return nil, missing(err, "%s of %s", name, g)
	}
	return item.Value, nil
}

// SetPrivate writes a private row of an entry, or removes it where value is nil. It
// does not ask whether there is such an entry: a row may be written before the entry
// is.
func (t *Table) SetPrivate(tx store.Tx, g dtyp.GUID, name string, value []byte) error {
	if value == nil {
		return tx.Delete(privateKey(g, name))
	}
	return tx.Put(privateKey(g, name), value)
}

// ClearPrivate removes all private rows of an entry.
func (t *Table) ClearPrivate(tx store.Tx, g dtyp.GUID) error {
	keys, err := privateKeys(tx, g)
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// privateKeys are the keys of all private rows of an entry.
func privateKeys(r store.Reader, g dtyp.GUID) (keys [][]byte, err error) {
	for it, err := range r.Scan(privatePrefix(g), nil) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, append([]byte(nil), it.Key...))
	}
	return keys, nil
}

// Meta reads a fact about the whole directory by its name. The bytes hold for the
// transaction. It fails with ErrNotFound.
func Meta(r store.Reader, name string) ([]byte, error) {
	item, err := r.Get(metaKey(name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing(err, "%s", name)
	}
	return item.Value, err
}

// SetMeta writes a fact about the whole directory.
func SetMeta(tx store.Tx, name string, value []byte) error { return tx.Put(metaKey(name), value) }

func metaKey(name string) []byte { return append([]byte{'m'}, name...) }
