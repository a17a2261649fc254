package rows

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// Insert writes a new entry. It fails with ErrNotFound without its parent, with
// ErrExists where the name or GUID is taken, and with a *Conflict. After an
// error the transaction must not be committed.
func (t *Table) Insert(tx store.Tx, e *Entry) error {
	if _, err := tx.Get(entryKey(e.GUID)); !errors.Is(err, store.ErrNotFound) {
		return errors.Join(fmt.Errorf("object %s: %w", e.GUID, ErrExists), err)
	}
	if err := tx.Put(createdKey(e.GUID), nil); err != nil {
		return err
	}
	return t.write(tx, nil, e)
}

// Replace writes an entry in the place of what is stored of it now. A change of
// name or parent moves it with all that lies below. It fails as Insert does,
// with ErrCycle, and with ErrNotFound if there is no such entry.
func (t *Table) Replace(tx store.Tx, e *Entry) error {
	old, err := t.Get(tx, e.GUID)
	if err != nil {
		return err
	}
	if e.Parent != old.Parent {
		if err := t.checkAbove(tx, e); err != nil {
			return err
		}
	}
	return t.write(tx, old, e)
}

// checkAbove reports ErrCycle if the entry's new parent lies below it.
func (t *Table) checkAbove(r store.Reader, e *Entry) error {
	at := e.Parent
	for range maxDepth {
		if at == e.GUID {
			return fmt.Errorf("object %s: %w", e.GUID, ErrCycle)
		}
		if at.IsZero() {
			return nil
		}
		above, err := t.Get(r, at)
		if err != nil {
			return err
		}
		at = above.Parent
	}
	return fmt.Errorf("%w: %s lies more than %d deep", ErrCorrupt, e.GUID, maxDepth)
}

// write writes the rows in which e differs from old, which is nil for a new
// entry.
func (t *Table) write(tx store.Tx, old, e *Entry) error {
	if !e.Parent.IsZero() {
		if _, err := tx.Get(entryKey(e.Parent)); err != nil {
			return missing(err, "parent %s", e.Parent)
		}
	}
	if err := t.place(tx, old, e); err != nil {
		return err
	}
	if err := t.index(tx, old, e); err != nil {
		return err
	}
	return tx.Put(entryKey(e.GUID), e.encode())
}

// place moves the row by which the entry is found from its old name to its new
// one.
func (t *Table) place(tx store.Tx, old, e *Entry) error {
	key := childKey(e.Parent, e.Name)
	if old != nil {
		was := childKey(old.Parent, old.Name)
		if bytes.Equal(was, key) && old.RDN == e.RDN {
			return nil
		}
		if err := tx.Delete(was); err != nil {
			return err
		}
	}
	if _, err := tx.Get(key); !errors.Is(err, store.ErrNotFound) {
		return errors.Join(fmt.Errorf("%q below %s: %w", e.Name, e.Parent, ErrExists), err)
	}
	return tx.Put(key, append(e.GUID[:], e.RDN.OID...))
}

// indexRow is a row of an index, with the value that it is for. Of a unique one there is
// one for all entries.
type indexRow struct {
	a      *schema.Attribute
	value  []byte
	unique bool
}

// indexRows are the rows that an entry has in indexes, by their keys. Values of
// one key make one row.
func indexRows(e *Entry) (map[string]indexRow, error) {
	rows := map[string]indexRow{}
	if e == nil {
		return rows, nil
	}
	holds := !Deleted(e) && !Replica(e)
	for a, values := range e.Values {
		if !Indexed(a) {
			continue
		}
		for _, v := range values {
			key, err := a.Syntax.Key(v)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", a.Name, err)
			}
			if Unique(a) && holds {
				rows[string(valuePrefix('u', a, key))] = indexRow{a, v, true}
				continue
			}
			rows[string(append(valuePrefix('i', a, key), e.GUID[:]...))] = indexRow{a, v, false}
		}
	}
	// The name is no value and is looked for most: it is found by the attribute that
	// names the entry, whether that has an index or not.
	key := append(valuePrefix('i', e.RDN, schema.Fold([]byte(e.Name))), e.GUID[:]...)
	rows[string(key)] = indexRow{e.RDN, []byte(e.Name), false}
	return rows, nil
}

// index deletes the rows that only old has and writes those that only e has.
// Deleting comes first: it makes no difference to the store, but a value cannot
// conflict with itself.
func (t *Table) index(tx store.Tx, old, e *Entry) error {
	was, err := indexRows(old)
	if err != nil {
		return err
	}
	now, err := indexRows(e)
	if err != nil {
		return err
	}
	for key := range was {
		if _, stays := now[key]; !stays {
			if err := tx.Delete([]byte(key)); err != nil {
				return err
			}
		}
	}
	for key, row := range now {
		if _, stays := was[key]; stays {
			continue
		}
		if err := claim(tx, []byte(key), row, e.GUID); err != nil {
			return err
		}
	}
	return nil
}

// claim writes an index row, unless it is a unique one that another entry has.
func claim(tx store.Tx, key []byte, row indexRow, g dtyp.GUID) error {
	if !row.unique {
		return tx.Put(key, nil)
	}
	held, err := tx.Get(key)
	switch {
	case err == nil:
		holder, err := dtyp.GUIDFromBytes(held.Value)
		if err != nil {
			return fmt.Errorf("%w: index of %s: %w", ErrCorrupt, row.a.Name, err)
		}
		return &Conflict{Attribute: row.a, Value: row.value, Holder: holder}
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return tx.Put(key, g[:])
}

// Delete removes an entry that has no children and no links, with its private rows:
// [Table.Unlink] and [Table.UnlinkAll] come before. It fails with ErrNotFound, ErrHasChildren and
// ErrHasLinks.
func (t *Table) Delete(tx store.Tx, g dtyp.GUID) error {
	e, err := t.Get(tx, g)
	if err != nil {
		return err
	}
	for _, err := range t.Children(tx, g) {
		return errors.Join(fmt.Errorf("object %s: %w", g, ErrHasChildren), err)
	}
	links, err := linkRows(tx, g, 1)
	if err != nil {
		return err
	}
	if len(links) > 0 {
		return fmt.Errorf("object %s: %w", g, ErrHasLinks)
	}
	was, err := indexRows(e)
	if err != nil {
		return err
	}
	keys, err := privateKeys(tx, g)
	if err != nil {
		return err
	}
	keys = append(keys, entryKey(g), createdKey(g), childKey(e.Parent, e.Name))
	for key := range was {
		keys = append(keys, []byte(key))
	}
	for _, key := range keys {
		if err := tx.Delete(key); err != nil {
			return err
		}
	}
	return nil
}
