// Package bolt keeps a store in one file, on bbolt. It is the engine of a
// controller that is alone in its domain.
//
// The file has two buckets: "items" holds each value behind the eight bytes of
// its revision, big endian, and "meta" the revision of the last transaction and
// the version of the format. Read [Open] and [Create] first.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// formatVersion is what this program writes and the newest it reads.
const formatVersion = 1

// lockTimeout is how long Open waits for another process that has the file.
const lockTimeout = time.Second

// revisionSize is the length of the revision before each value, in bytes.
const revisionSize = 8

// initialMap is how much of the address space the file is mapped into at first,
// in bytes. bbolt maps a file that outgrows its map anew, and an update that
// does so waits for all views: the larger the map, the rarer. It costs no memory.
const initialMap = 1 << 30

// ErrInUse: another process has the file open.
var ErrInUse = errors.New("the store is in use by another process")

// buckets returns the names of the two buckets.
func buckets() (items, meta []byte) { return []byte("items"), []byte("meta") }

type boltStore struct {
	db *bbolt.DB
}

var _ store.Store = (*boltStore)(nil)

// Open opens the file, or makes it with the mode; a new file is complete before
// Open returns. Errors are ErrInUse, store.ErrNewer, and those of the file system.
func Open(path string, mode fs.FileMode) (store.Store, error) {
	s, err := open(path, mode, true)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return s, nil
}

func open(path string, mode fs.FileMode, sync bool) (*boltStore, error) {
	db, err := bbolt.Open(path, mode, &bbolt.Options{Timeout: lockTimeout, FreelistType: bbolt.FreelistMapType,
		InitialMmapSize: initialMap, NoSync: !sync, NoGrowSync: !sync})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrInUse
	}
	if err != nil {
		return nil, err
	}
	if err := db.Update(prepare); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &boltStore{db: db}, nil
}

// Create makes a file that fill gives its first content. The file gets its name when all
// of that is on the disk, with one sync: a process that ends before leaves no store, and
// one that fill fails for. It fails with fs.ErrExist where there is a file already.
func Create(path string, mode fs.FileMode, fill func(store.Store) error) error {
	if err := create(path, mode, fill); err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	return nil
}

func create(path string, mode fs.FileMode, fill func(store.Store) error) error {
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s, err := open(temporary, mode, false)
	if err != nil {
		return err
	}
	err = fill(s)
	if err == nil {
		err = s.db.Sync()
	}
	err = errors.Join(err, s.Close())
	if err == nil {
		// A link, and not a rename, because it replaces nothing.
		err = os.Link(temporary, path)
	}
	return errors.Join(err, os.Remove(temporary), syncDirectory(filepath.Dir(path)))
}

// syncDirectory makes the names of files in a directory last.
func syncDirectory(path string) error {
	if runtime.GOOS == "windows" {
		return nil // directories cannot be opened there, and names last by themselves
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// prepare makes the buckets of a new file and checks the version of an old one.
func prepare(tx *bbolt.Tx) error {
	items, meta := buckets()
	if _, err := tx.CreateBucketIfNotExists(items); err != nil {
		return err
	}
	m, err := tx.CreateBucketIfNotExists(meta)
	if err != nil {
		return err
	}
	switch v := m.Get([]byte("version")); {
	case v == nil:
		return m.Put([]byte("version"), binary.BigEndian.AppendUint64(nil, formatVersion))
	case len(v) != 8:
		return fmt.Errorf("version: got %d bytes, want 8", len(v))
	case binary.BigEndian.Uint64(v) > formatVersion:
		return fmt.Errorf("%w: format %d, this program knows %d", store.ErrNewer, binary.BigEndian.Uint64(v), formatVersion)
	}
	return nil
}

// View implements store.Store.
func (s *boltStore) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return closed(s.db.View(func(tx *bbolt.Tx) error { return fn(newReader(tx)) }))
}

// Update implements store.Store. bbolt has one writer at a time and syncs the
// file before it returns.
func (s *boltStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return closed(s.db.Update(func(tx *bbolt.Tx) error {
		w := &writer{reader: newReader(tx)}
		if err := fn(w); err != nil {
			return err
		}
		return w.commit()
	}))
}

// Close implements store.Store.
func (s *boltStore) Close() error { return s.db.Close() }

// closed gives bbolt's own errors the contract's name.
func closed(err error) error {
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) || errors.Is(err, bolterrors.ErrTxClosed) {
		return store.ErrClosed
	}
	return err
}

type reader struct {
	items, meta *bbolt.Bucket
	revision    uint64
}

func newReader(tx *bbolt.Tx) reader {
	items, meta := buckets()
	r := reader{items: tx.Bucket(items), meta: tx.Bucket(meta)}
	if v := r.meta.Get([]byte("revision")); len(v) == 8 {
		r.revision = binary.BigEndian.Uint64(v)
	}
	return r
}

func (r reader) Revision() uint64 { return r.revision }

func (r reader) Get(key []byte) (store.Item, error) {
	// bbolt takes the empty key for none, and so do we.
	v := r.items.Get(key)
	if v == nil {
		return store.Item{}, store.ErrNotFound
	}
	return item(key, v)
}

func (r reader) Scan(prefix, from []byte) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		start := prefix
		if bytes.Compare(from, start) > 0 {
			start = from
		}
		c := r.items.Cursor()
		for k, v := c.Seek(start); k != nil && bytes.HasPrefix(k, prefix); k, v = c.Next() {
			it, err := item(k, v)
			if !yield(it, err) || err != nil {
				return
			}
		}
	}
}

func item(key, v []byte) (store.Item, error) {
	if len(v) < revisionSize {
		return store.Item{}, fmt.Errorf("store: value of key %q: got %d bytes, want at least %d", key, len(v), revisionSize)
	}
	return store.Item{Key: key, Value: v[revisionSize:], Revision: binary.BigEndian.Uint64(v)}, nil
}

// writer collects what a transaction writes in the bucket itself, with revision
// 0, and stamps it at the commit: bbolt's transaction makes both one step.
type writer struct {
	reader
	budget  store.Budget
	written [][]byte
}

func (w *writer) Scan(prefix, from []byte) iter.Seq2[store.Item, error] {
	return w.budget.Guard(w.reader.Scan(prefix, from))
}

func (w *writer) Put(key, value []byte) error {
	if err := w.budget.Charge(key, value); err != nil {
		return err
	}
	return w.put(key, value, 0)
}

func (w *writer) put(key, value []byte, revision uint64) error {
	v := make([]byte, revisionSize, revisionSize+len(value))
	binary.BigEndian.PutUint64(v, revision)
	if revision == 0 {
		w.written = append(w.written, bytes.Clone(key))
	}
	return w.items.Put(bytes.Clone(key), append(v, value...))
}

func (w *writer) Delete(key []byte) error {
	if err := w.budget.Charge(key, nil); err != nil {
		return err
	}
	return w.items.Delete(key)
}

func (w *writer) commit() error {
	if !w.budget.Writes() {
		return nil
	}
	next := w.revision + 1
	for _, k := range w.written {
		// A key that was put and then deleted is gone; one that was put twice is
		// stamped twice, with the same outcome.
		if it, err := w.Get(k); err == nil {
			if err := w.put(k, bytes.Clone(it.Value), next); err != nil {
				return err
			}
		}
	}
	return w.meta.Put([]byte("revision"), binary.BigEndian.AppendUint64(nil, next))
}
