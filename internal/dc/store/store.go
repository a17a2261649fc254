// Package store is the contract between the directory and what keeps its bytes:
// an ordered map from keys to values, read and changed in transactions that are
// closures. The engines are below it: bolt, a file of one controller, and
// memory, for tests and demonstrations. storetest is the suite that every
// engine passes.
//
// The contract is made for an engine that several controllers share over a
// network and that detects conflicts when a transaction commits, although the
// engines here take one writer at a time. That is why a transaction has limits,
// why its closure may run twice, and why an item carries the revision at which
// it was last written instead of a counter that the writer would have to know
// in advance. Read [Store] first.
package store

import (
	"context"
	"errors"
	"iter"
)

// The limits of one transaction, the same in every engine, so that what works on one
// controller works on five. They are those of an etcd that was told to take so many
// operations (--max-txn-ops) and otherwise has its defaults: docs/decisions/0004.
const (
	// MaxOps is the number of Put and Delete calls on different keys: the 5,000 links,
	// of two rows each, that Active Directory takes in one operation, and 240 rows for
	// what they are links of.
	MaxOps = 10_240
	// MaxBytes is the size of all keys and values written, in bytes.
	MaxBytes = 1 << 20
	// MaxKey is the size of a key, in bytes.
	MaxKey = 1024
)

var (
	// ErrNotFound: no item has that key.
	ErrNotFound = errors.New("store: no such key")
	// ErrTooLarge: a transaction exceeds MaxOps, MaxBytes or MaxKey. Nothing of it
	// was written.
	ErrTooLarge = errors.New("store: transaction too large")
	// ErrScanning: a write while a scan of the same transaction is under way.
	// Collect what is to be written and write it after the scan.
	ErrScanning = errors.New("store: write during a scan")
	// ErrClosed: the store was closed, or the transaction has ended.
	ErrClosed = errors.New("store: closed")
	// ErrNewer: the data was written by a later version of the program, which may
	// mean something by it that this one does not know.
	ErrNewer = errors.New("store: written by a newer version")
)

// Item is a key with its value. Its bytes belong to the store and hold for the
// transaction that returned them: clone what is to be kept.
type Item struct {
	Key, Value []byte
	// Revision is that of the Update which wrote the item last. Revisions rise by
	// at least one with each Update that writes, and all items of one Update have
	// the same.
	Revision uint64
}

// Reader reads one consistent state.
type Reader interface {
	// Get returns the item of a key, or ErrNotFound.
	Get(key []byte) (Item, error)
	// Scan yields the items whose keys begin with prefix and are not less than
	// from, in ascending order of bytes; nil from is the prefix's beginning. The
	// caller may stop at any item. An error ends the sequence and is yielded with
	// a zero Item.
	Scan(prefix, from []byte) iter.Seq2[Item, error]
	// Revision is that of the last Update which the state contains; 0 for an empty
	// store.
	Revision() uint64
}

// Tx reads and writes. It sees its own writes, with revision 0, because theirs
// is not decided before the commit. Keys and values that were passed in may be
// changed by the caller afterwards.
type Tx interface {
	Reader
	// Put sets the value of a key. The empty key is refused with ErrTooLarge.
	Put(key, value []byte) error
	// Delete removes a key; that there was none is no error.
	Delete(key []byte) error
}

// Store keeps items. All methods may be called at once from any goroutine, but
// not from inside a transaction of the same store.
type Store interface {
	// View calls fn once with the state that the last finished Update left, or a
	// later one. fn's error is returned as it is.
	View(ctx context.Context, fn func(Reader) error) error

	// Update calls fn, and commits what it wrote when it returns nil: all of it,
	// durably, before Update returns. Otherwise nothing happens and fn's error is
	// returned as it is. Updates are serialisable, scans included. fn may run more
	// than once: it must have no effect but through its Tx.
	Update(ctx context.Context, fn func(Tx) error) error

	// Close waits for transactions that run and releases the store. It is
	// idempotent; other calls return ErrClosed afterwards.
	Close() error
}
