// Package memory keeps a store in memory: the reference engine, for tests and
// for a domain that need not outlive its process.
//
// The items are one immutable sorted slice. A reader takes the slice as it is
// and never waits; an update builds the next one. That makes writes cost as
// much as there are items, which the few thousand of a test's domain do not
// notice, and makes the engine small enough to be believed. Read [New] first.
package memory

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opengmsa/opengmsa/internal/dc/store"
)

type memoryStore struct {
	// state is replaced as a whole; nil after Close.
	state atomic.Pointer[state]

	// mu is held by the one update that runs.
	mu sync.Mutex
}

var _ store.Store = (*memoryStore)(nil)

// state is immutable.
type state struct {
	items    []store.Item // ascending by key
	revision uint64
}

// New returns an empty store.
func New() store.Store {
	s := &memoryStore{}
	s.state.Store(&state{})
	return s
}

// View implements store.Store.
func (s *memoryStore) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st := s.state.Load()
	if st == nil {
		return store.ErrClosed
	}
	return fn(st)
}

// Update implements store.Store.
func (s *memoryStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.state.Load()
	if st == nil {
		return store.ErrClosed
	}
	w := &writer{base: st, writes: map[string][]byte{}}
	if err := fn(w); err != nil {
		return err
	}
	if w.budget.Writes() {
		s.state.Store(w.commit())
	}
	return nil
}

// Close implements store.Store.
func (s *memoryStore) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Store(nil)
	return nil
}

func compareKey(it store.Item, key []byte) int { return bytes.Compare(it.Key, key) }

func (st *state) Revision() uint64 { return st.revision }

func (st *state) Get(key []byte) (store.Item, error) {
	i, ok := slices.BinarySearchFunc(st.items, key, compareKey)
	if !ok {
		return store.Item{}, store.ErrNotFound
	}
	return st.items[i], nil
}

func (st *state) Scan(prefix, from []byte) iter.Seq2[store.Item, error] {
	return func(yield func(store.Item, error) bool) {
		start := prefix
		if bytes.Compare(from, start) > 0 {
			start = from
		}
		i, _ := slices.BinarySearchFunc(st.items, start, compareKey)
		for ; i < len(st.items) && bytes.HasPrefix(st.items[i].Key, prefix); i++ {
			if !yield(st.items[i], nil) {
				return
			}
		}
	}
}

// writer lays what it wrote over the state it began with.
type writer struct {
	base   *state
	budget store.Budget
	// writes holds the new value of each key; nil for a deleted one.
	writes map[string][]byte
}

func (w *writer) Revision() uint64 { return w.base.revision }

func (w *writer) Get(key []byte) (store.Item, error) {
	v, ok := w.writes[string(key)]
	switch {
	case !ok:
		return w.base.Get(key)
	case v == nil:
		return store.Item{}, store.ErrNotFound
	}
	return store.Item{Key: key, Value: v}, nil
}

func (w *writer) Scan(prefix, from []byte) iter.Seq2[store.Item, error] {
	return w.budget.Guard(w.merged(0).Scan(prefix, from))
}

func (w *writer) Put(key, value []byte) error {
	if err := w.budget.Charge(key, value); err != nil {
		return err
	}
	w.writes[string(key)] = append([]byte{}, value...)
	return nil
}

func (w *writer) Delete(key []byte) error {
	if err := w.budget.Charge(key, nil); err != nil {
		return err
	}
	w.writes[string(key)] = nil
	return nil
}

func (w *writer) commit() *state { return w.merged(w.base.revision + 1) }

// merged is the base with the writes, which carry the revision.
func (w *writer) merged(revision uint64) *state {
	keys := slices.Sorted(maps.Keys(w.writes))
	items := make([]store.Item, 0, len(w.base.items)+len(keys))
	rest := w.base.items
	for _, k := range keys {
		i, found := slices.BinarySearchFunc(rest, []byte(k), compareKey)
		items, rest = append(items, rest[:i]...), rest[i:]
		if found {
			rest = rest[1:]
		}
		if v := w.writes[k]; v != nil {
			items = append(items, store.Item{Key: []byte(k), Value: v, Revision: revision})
		}
	}
	return &state{items: append(items, rest...), revision: revision}
}
