package gkdi

import (
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// TestCacheAgreesInAnyOrder asks a cache that is too small for what it is
// asked, upwards, downwards and at random, and compares with the function.
func TestCacheAgreesInAnyOrder(t *testing.T) {
	root, account := load(t).Password.root(t), sid(t, "S-1-5-21-1-2-3-1000")
	c := NewCache(3)
	at := KeyID{362, 0, 0}
	for i, step := range []int64{0, 5, 31, -1, 64, -40, 700, -3, 300, -999, 1, 1, 1, -1, 33, 32, 31, -31, 2000} {
		var err error
		if at, err = at.Add(step); err != nil {
			t.Fatal(err)
		}
		want, err := Password(root, account, at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Password(root, account, at)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(want) {
			t.Errorf("step %d: the cache disagrees about %v", i, at)
		}
		if len(c.rows) > 3 {
			t.Fatalf("%s after step %d", c, i)
		}
	}
}

func TestCacheNoticesAnotherKeyOfTheSameID(t *testing.T) {
	a := load(t).Password.root(t)
	b := a
	b.Key = secret.New(make([]byte, KeySize))
	other := a
	other.Hash = SHA256
	c, id := NewCache(0), KeyID{362, 3, 3}
	for _, root := range []RootKey{a, b, a, other} {
		want, err := Password(root, dtyp.SID{}, id)
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.Password(root, dtyp.SID{}, id)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(want) {
			t.Error("the cache answered for another root key")
		}
	}
}

func TestCacheForgets(t *testing.T) {
	v := load(t)
	c := NewCache(0)
	a, b := v.Password.root(t), v.SeedKeys.Vectors[3].root(t)
	for _, root := range []RootKey{a, b} {
		if _, err := c.Password(root, dtyp.SID{}, KeyID{1, 1, 1}); err != nil {
			t.Fatal(err)
		}
	}
	var kept []*row
	for _, r := range c.rows {
		kept = append(kept, r)
	}
	c.Forget(a.ID)
	if got := c.String(); got != "gkdi.Cache(2 of 64 rows)" {
		t.Errorf("after Forget: %s", got)
	}
	if a.Key.Reveal()[0] != 0x98 {
		t.Error("Forget destroyed the caller's root key")
	}
	c.Destroy()
	if len(c.rows) != 0 {
		t.Errorf("after Destroy: %s", c)
	}
	for _, r := range kept {
		if r.seeds != [fanOut]seed{} || !r.root.Equal(secret.New(make([]byte, KeySize))) {
			t.Error("a dropped row still holds key material")
		}
	}
}

func TestCacheIsSafeForConcurrentUse(t *testing.T) {
	root := load(t).Password.root(t)
	c := NewCache(2)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range int32(20) {
				id := KeyID{362, (i + int32(g)) % fanOut, i}
				want, _ := Password(root, dtyp.SID{}, id)
				if got, err := c.Password(root, dtyp.SID{}, id); err != nil || !got.Equal(want) {
					t.Errorf("%v: %v", id, err)
				}
			}
		})
	}
	wg.Wait()
}

func BenchmarkPassword(b *testing.B) {
	root, account := load(b).Password.root(b), sid(b, "S-1-5-21-1-2-3-1000")
	run := func(f func() (secret.Bytes, error)) func(*testing.B) {
		return func(b *testing.B) {
			for b.Loop() {
				if _, err := f(); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	worst := KeyID{362, 0, 0}
	b.Run("worst chain", run(func() (secret.Bytes, error) { return Password(root, account, worst) }))
	cache := NewCache(0)
	b.Run("cached L2", run(func() (secret.Bytes, error) { return cache.Password(root, account, worst) }))
	for name, h := range map[string]Hash{"SHA1": SHA1, "SHA256": SHA256} {
		r := root
		r.Hash = h
		b.Run("worst chain "+name, run(func() (secret.Bytes, error) { return Password(r, account, worst) }))
	}
}
