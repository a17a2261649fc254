// Package storetest is the suite that every engine of package store passes. An
// engine's own test is one call of [Run].
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/internal/dc/store"
)

// Run runs the whole suite. open returns a new, empty store; the suite closes it.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for name, f := range map[string]func(*testing.T, store.Store){
		"a transaction is all or nothing":       allOrNothing,
		"a transaction sees its own writes":     ownWrites,
		"a scan keeps to its prefix and order":  scanOrder,
		"a write during a scan is refused":      writeDuringScan,
		"revisions rise with writes alone":      revisions,
		"the limits of a transaction hold":      limits,
		"a view does not see later updates":     isolation,
		"concurrent updates do not lose writes": concurrentCounters,
		"concurrent scans see no phantoms":      phantoms,
		"what was passed in may be changed":     ownership,
		"a cancelled context stops the call":    cancelled,
		"a closed store answers ErrClosed":      closedStore,
		"a random history agrees with a map":    model,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			f(t, s)
		})
	}
}

func update(t testing.TB, s store.Store, fn func(store.Tx) error) {
	t.Helper()
	if err := s.Update(context.Background(), fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func put(t testing.TB, s store.Store, key, value string) {
	t.Helper()
	update(t, s, func(tx store.Tx) error { return tx.Put([]byte(key), []byte(value)) })
}

// fataler is what testing.T and rapid.T have in common here.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// contents is everything in the store, and the revision.
func contents(t fataler, s store.Store) (map[string]string, uint64) {
	t.Helper()
	got := map[string]string{}
	var revision uint64
	err := s.View(context.Background(), func(r store.Reader) error {
		revision = r.Revision()
		clear(got)
		for it, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			got[string(it.Key)] = string(it.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("view: %v", err)
	}
	return got, revision
}

func allOrNothing(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	boom := errors.New("boom")
	err := s.Update(t.Context(), func(tx store.Tx) error {
		if err := errors.Join(tx.Put([]byte("a"), []byte("2")), tx.Put([]byte("b"), nil), tx.Delete([]byte("a"))); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Errorf("update = %v, want fn's error", err)
	}
	if got, _ := contents(t, s); !maps.Equal(got, map[string]string{"a": "1"}) {
		t.Errorf("contents = %v", got)
	}
	func() {
		defer func() { _ = recover() }()
		_ = s.Update(t.Context(), func(tx store.Tx) error {
			_ = tx.Put([]byte("p"), nil)
			panic("in a transaction")
		})
	}()
	put(t, s, "c", "3") // A panic has released the store.
	if got, _ := contents(t, s); !maps.Equal(got, map[string]string{"a": "1", "c": "3"}) {
		t.Errorf("contents after a panic = %v", got)
	}
}

func ownWrites(t *testing.T, s store.Store) {
	put(t, s, "k/old", "1")
	update(t, s, func(tx store.Tx) error {
		if err := errors.Join(tx.Put([]byte("k/new"), []byte("2")), tx.Put([]byte("k/old"), []byte("3")), tx.Put([]byte("k/gone"), nil), tx.Delete([]byte("k/gone"))); err != nil {
			return err
		}
		it, err := tx.Get([]byte("k/old"))
		if err != nil || string(it.Value) != "3" || it.Revision != 0 {
			t.Errorf("own write = %+v, %v", it, err)
		}
		if _, err := tx.Get([]byte("k/gone")); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("own deletion: %v", err)
		}
		var keys []string
		for it, err := range tx.Scan([]byte("k/"), nil) {
			if err != nil {
				return err
			}
			keys = append(keys, string(it.Key))
		}
		if !slices.Equal(keys, []string{"k/new", "k/old"}) {
			t.Errorf("scan of own writes = %q", keys)
		}
		return nil
	})
}

func scanOrder(t *testing.T, s store.Store) {
	update(t, s, func(tx store.Tx) error {
		for _, k := range []string{"b", "a/2", "a/1", "a", "a0", "a/\xff", "a/\x00", "a.z", "\xff\xff"} {
			if err := tx.Put([]byte(k), nil); err != nil {
				return err
			}
		}
		return nil
	})
	for _, c := range []struct {
		prefix, from string
		stop         int
		want         []string
	}{
		{"a/", "", 0, []string{"a/\x00", "a/1", "a/2", "a/\xff"}},
		{"a/", "a/2", 0, []string{"a/2", "a/\xff"}},
		{"a/", "a", 0, []string{"a/\x00", "a/1", "a/2", "a/\xff"}},
		{"a/", "b", 0, nil},
		{"a/", "", 2, []string{"a/\x00", "a/1"}},
		{"\xff", "", 0, []string{"\xff\xff"}},
		{"none", "", 0, nil},
	} {
		var got []string
		err := s.View(t.Context(), func(r store.Reader) error {
			for it, err := range r.Scan([]byte(c.prefix), []byte(c.from)) {
				if err != nil {
					return err
				}
				got = append(got, string(it.Key))
				if len(got) == c.stop {
					break
				}
			}
			return nil
		})
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("scan(%q, %q) = %q, %v; want %q", c.prefix, c.from, got, err, c.want)
		}
	}
}

func writeDuringScan(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	update(t, s, func(tx store.Tx) error {
		for range tx.Scan(nil, nil) {
			if err := tx.Put([]byte("b"), nil); !errors.Is(err, store.ErrScanning) {
				t.Errorf("put during a scan: %v", err)
			}
			if err := tx.Delete([]byte("a")); !errors.Is(err, store.ErrScanning) {
				t.Errorf("delete during a scan: %v", err)
			}
			break
		}
		return tx.Put([]byte("c"), nil)
	})
}

func revisions(t *testing.T, s store.Store) {
	if _, r := contents(t, s); r != 0 {
		t.Errorf("revision of an empty store = %d", r)
	}
	update(t, s, func(tx store.Tx) error { return errors.Join(tx.Put([]byte("a"), nil), tx.Put([]byte("b"), nil)) })
	_, first := contents(t, s)
	update(t, s, func(store.Tx) error { return nil })
	if _, r := contents(t, s); r != first || r == 0 {
		t.Errorf("revision = %d after an update that wrote nothing, was %d", r, first)
	}
	put(t, s, "a", "x")
	_, second := contents(t, s)
	err := s.View(t.Context(), func(r store.Reader) error {
		a, errA := r.Get([]byte("a"))
		b, errB := r.Get([]byte("b"))
		if a.Revision != second || b.Revision != first || second <= first {
			t.Errorf("revisions: a %d, b %d; want %d and %d, rising", a.Revision, b.Revision, second, first)
		}
		return errors.Join(errA, errB)
	})
	if err != nil {
		t.Error(err)
	}
}

func limits(t *testing.T, s store.Store) {
	put(t, s, "stays", "1")
	for name, fn := range map[string]func(store.Tx) error{
		"too many keys": func(tx store.Tx) error {
			for i := range store.MaxOps + 1 {
				if err := tx.Put(fmt.Appendf(nil, "k%03d", i), nil); err != nil {
					return err
				}
			}
			return nil
		},
		"too many bytes": func(tx store.Tx) error { return tx.Put([]byte("k"), make([]byte, store.MaxBytes)) },
		"a long key":     func(tx store.Tx) error { return tx.Put(make([]byte, store.MaxKey+1), nil) },
		"the empty key":  func(tx store.Tx) error { return tx.Put(nil, []byte("x")) },
		"no key to delete": func(tx store.Tx) error {
			return tx.Delete(nil)
		},
	} {
		if err := s.Update(t.Context(), fn); !errors.Is(err, store.ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, _ := contents(t, s); len(got) != 1 {
		t.Errorf("a refused transaction left %v", got)
	}
	update(t, s, func(tx store.Tx) error {
		for range 3 { // The same keys again cost nothing more.
			for i := range store.MaxOps - 1 {
				if err := tx.Put(fmt.Appendf(nil, "k%03d", i), make([]byte, store.MaxBytes/store.MaxOps-10)); err != nil {
					return err
				}
			}
		}
		return tx.Put(make([]byte, store.MaxKey), nil)
	})
}

func isolation(t *testing.T, s store.Store) {
	put(t, s, "a", "1")
	inside, written := make(chan bool), make(chan bool)
	go func() {
		<-inside
		put(t, s, "a", "2")
		close(written)
	}()
	err := s.View(t.Context(), func(r store.Reader) error {
		before := r.Revision()
		close(inside)
		<-written
		it, err := r.Get([]byte("a"))
		if err != nil || string(it.Value) != "1" || r.Revision() != before {
			t.Errorf("a view saw %q at revision %d, %v", it.Value, r.Revision(), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if got, _ := contents(t, s); got["a"] != "2" {
		t.Errorf("afterwards: %v", got)
	}
}

// parallel runs f in n goroutines and waits for them.
func parallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

func concurrentCounters(t *testing.T, s store.Store) {
	const workers, rounds = 4, 10
	key := []byte("counter")
	parallel(workers, func(int) {
		for range rounds {
			err := s.Update(t.Context(), func(tx store.Tx) error {
				it, err := tx.Get(key)
				if err != nil && !errors.Is(err, store.ErrNotFound) {
					return err
				}
				return tx.Put(key, append(bytes.Clone(it.Value), 'x'))
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	if got, _ := contents(t, s); len(got["counter"]) != workers*rounds {
		t.Errorf("%d updates were lost", workers*rounds-len(got["counter"]))
	}
}

// phantoms: each worker writes its own key only while the prefix is empty. If
// a scan missed another's commit, two would succeed.
func phantoms(t *testing.T, s store.Store) {
	for round := range 10 {
		prefix := fmt.Appendf(nil, "round%d/", round)
		parallel(4, func(i int) {
			err := s.Update(t.Context(), func(tx store.Tx) error {
				for _, err := range tx.Scan(prefix, nil) {
					return err
				}
				return tx.Put(fmt.Appendf(bytes.Clone(prefix), "%d", i), nil)
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	if got, _ := contents(t, s); len(got) != 10 {
		t.Errorf("%d winners in 10 rounds: %v", len(got), got)
	}
}

func ownership(t *testing.T, s store.Store) {
	k, v := []byte("key"), []byte("value")
	update(t, s, func(tx store.Tx) error {
		err := tx.Put(k, v)
		k[0], v[0] = 'X', 'X'
		return err
	})
	k[1], v[1] = 'X', 'X'
	if got, _ := contents(t, s); !maps.Equal(got, map[string]string{"key": "value"}) {
		t.Errorf("contents = %v", got)
	}
}

func cancelled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.View(ctx, func(store.Reader) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("view: %v", err)
	}
	if err := s.Update(ctx, func(tx store.Tx) error { return tx.Put([]byte("a"), nil) }); !errors.Is(err, context.Canceled) {
		t.Errorf("update: %v", err)
	}
}

func closedStore(t *testing.T, s store.Store) {
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.View(t.Context(), func(store.Reader) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("view: %v", err)
	}
	if err := s.Update(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("update: %v", err)
	}
}

// model runs random transactions, some of which fail, beside a map.
func model(t *testing.T, s store.Store) {
	key := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 'a', 'b', 0xff}), 1, 3)
	want := map[string]string{}
	rapid.Check(t, func(t *rapid.T) {
		next := maps.Clone(want)
		fail := rapid.Bool().Draw(t, "fail")
		errFail := errors.New("as drawn")
		type op struct {
			key   []byte
			value []byte // nil to delete
		}
		ops := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
			o := op{key: key.Draw(t, "key")}
			if rapid.Bool().Draw(t, "put") {
				o.value = append([]byte{}, rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "value")...)
			}
			return o
		}), 0, 6).Draw(t, "ops")
		err := s.Update(context.Background(), func(tx store.Tx) error {
			next = maps.Clone(want)
			for _, o := range ops {
				var err error
				if o.value == nil {
					err = tx.Delete(o.key)
					delete(next, string(o.key))
				} else {
					err = tx.Put(o.key, o.value)
					next[string(o.key)] = string(o.value)
				}
				if err != nil {
					return err
				}
			}
			if fail {
				return errFail
			}
			return nil
		})
		switch {
		case fail && !errors.Is(err, errFail), !fail && err != nil:
			t.Fatalf("update: %v", err)
		case !fail:
			want = next
		}
		got, _ := contents(t, s)
		if !maps.Equal(got, want) {
			t.Fatalf("contents = %q, want %q", got, want)
		}
	})
}
