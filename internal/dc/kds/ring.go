package kds

import (
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/secret"
)

// RootKey is a root key with what this domain itself knows about it. The
// times inside the key are its maker's and may lie; WhenCreated does not.
type RootKey struct {
	gkdi.RootKey
	// WhenCreated is when a controller of this domain stored the object.
	WhenCreated dtyp.Filetime
	// Founding marks the first key of a domain that had no accounts yet:
	// whoever makes a domain may use it at once.
	Founding bool
}

// eligible reports whether the key may serve the interval that starts at
// start. UseStart is AD's rule ([MS-GKDI] 3.1.4.1.1); WhenCreated is ours, so
// that nobody can give an interval that has begun another password with a key
// that claims to be old.
func (k RootKey) eligible(start dtyp.Filetime) bool {
	return k.UseStart <= start && (k.Founding || k.WhenCreated <= start)
}

// Ring is the root keys of a domain as they are at one moment. It is immutable
// and safe for concurrent use; when a key comes or goes a new ring is made with
// the same cache.
type Ring struct {
	keys  map[dtyp.GUID]RootKey
	cache *gkdi.Cache
}

// NewRing makes a ring. cache holds seeds between rings; whoever removes a key
// must also tell the cache to forget it. Of two keys with one id the later in
// keys counts; the directory allows no such pair.
func NewRing(cache *gkdi.Cache, keys ...RootKey) *Ring {
	r := &Ring{keys: make(map[dtyp.GUID]RootKey, len(keys)), cache: cache}
	for _, k := range keys {
		r.keys[k.ID] = k
	}
	return r
}

// Select is the root key that an entry beginning at id takes: of those eligible
// the newest by its CreateTime, as gkdi.SelectRootKey has it. Keys that nobody
// can derive from are passed over. It fails with gkdi.ErrNoRootKey, or
// gkdi.ErrKeyID for an id that is none.
func (r *Ring) Select(id gkdi.KeyID) (dtyp.GUID, error) {
	start, err := id.Start()
	if err != nil {
		return dtyp.GUID{}, err
	}
	candidates := make([]gkdi.RootKey, 0, len(r.keys))
	for _, k := range r.keys {
		if k.eligible(start) && k.Check() == nil {
			candidates = append(candidates, k.RootKey)
		}
	}
	best, err := gkdi.SelectRootKey(candidates, id)
	return best.ID, err
}

// Password derives the password of the account sid in a period, 256 bytes. It
// fails with gkdi.ErrNoRootKey if the period's root key is gone.
func (r *Ring) Password(sid dtyp.SID, p Period) (secret.Bytes, error) {
	key, ok := r.keys[p.RootKey]
	if !ok {
		return secret.Bytes{}, fmt.Errorf("%w: %s, from which the password of interval %v is derived, was removed",
			gkdi.ErrNoRootKey, p.RootKey, p.KeyID)
	}
	return r.cache.Password(key.RootKey, sid, p.KeyID)
}

// Keys are the root keys, newest by CreateTime first.
func (r *Ring) Keys() []RootKey {
	out := make([]RootKey, 0, len(r.keys))
	for _, k := range r.keys {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b RootKey) int {
		switch {
		case a.Created != b.Created && a.Created > b.Created:
			return -1
		case a.Created != b.Created:
			return 1
		}
		return slices.Compare(b.ID[:], a.ID[:])
	})
	return out
}
