package gkdi

import (
	"fmt"
	"sync"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

// DefaultCacheRows is how many rows a Cache keeps where none are asked for:
// of L2 seeds a row spans 13 days, so that a few root keys and every interval
// in use fit.
const DefaultCacheRows = 64

// Cache keeps the seeds of gMSA passwords that were derived before, so that a
// password costs one KDF and not a chain of up to 67. It is safe for
// concurrent use. It holds key material equal in worth to the root keys:
// Destroy it when they go.
//
// A row is a part of a chain: the L1 seeds of one root key and epoch, or the
// L2 seeds of one L1 seed. A row is filled downwards as far as was asked for.
type Cache struct {
	limit int // immutable; rows

	mu   sync.Mutex
	tick uint64 // of the last use; guarded by mu
	rows map[rowKey]*row
}

// rowKey names a row; l1 is -1 for the row of L1 seeds.
type rowKey struct {
	root   dtyp.GUID
	l0, l1 int32
}

// row holds the seeds of indexes filled to 31; filled is 32 when it is empty.
type row struct {
	hash   Hash
	root   secret.Bytes // an own copy: the row is void for another key of the same id
	filled int32
	used   uint64
	seeds  [fanOut]seed
}

// NewCache makes a cache of at most rows rows of 2 KiB each; 0 means
// DefaultCacheRows. At least 2 are kept, one of each level.
func NewCache(rows int) *Cache {
	if rows == 0 {
		rows = DefaultCacheRows
	}
	return &Cache{limit: max(rows, 2), rows: make(map[rowKey]*row)}
}

// Password is the function [Password] with the seeds kept.
func (c *Cache) Password(root RootKey, sid dtyp.SID, id KeyID) (secret.Bytes, error) {
	if err := root.Check(); err != nil {
		return secret.Bytes{}, err
	}
	if err := id.Check(); err != nil {
		return secret.Bytes{}, err
	}
	s := c.seed(root, id)
	defer clear(s[:])
	return passwordFrom(root.Hash, s[:], sid), nil
}

// Forget drops and overwrites the seeds of one root key, and all with the
// zero id.
func (c *Cache) Forget(root dtyp.GUID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.rows {
		if k.root == root || root == (dtyp.GUID{}) {
			c.drop(k)
		}
	}
}

// Destroy drops and overwrites all seeds. The cache stays usable.
func (c *Cache) Destroy() { c.Forget(dtyp.GUID{}) }

// String says how much is kept, and nothing of what.
func (c *Cache) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("gkdi.Cache(%d of %d rows)", len(c.rows), c.limit)
}

// seed returns a copy of the L2 seed of id. It holds the lock while it
// derives: at most 67 steps of about 1.5 us.
func (c *Cache) seed(root RootKey, id KeyID) seed {
	c.mu.Lock()
	defer c.mu.Unlock()
	ch := chain{root.Hash, root.ID}
	l2 := c.row(root, rowKey{root.ID, id.L0, id.L1})
	if id.L2 >= l2.filled {
		return l2.seeds[id.L2]
	}
	if l2.filled == fanOut {
		// The L1 row may evict another one; l2 is the youngest and stays.
		l1 := c.row(root, rowKey{root.ID, id.L0, -1})
		if l1.filled == fanOut {
			l1.filled--
			l1.seeds[l1.filled] = ch.top(root.Key.Reveal(), []byte(gmsaTargetSD), id.L0)
		}
		for ; l1.filled > id.L1; l1.filled-- {
			n := l1.filled - 1
			ch.step(&l1.seeds[n], l1.seeds[n+1][:], KeyID{id.L0, n, -1}, nil)
		}
		l2.filled--
		ch.step(&l2.seeds[l2.filled], l1.seeds[id.L1][:], KeyID{id.L0, id.L1, l2.filled}, nil)
	}
	for ; l2.filled > id.L2; l2.filled-- {
		n := l2.filled - 1
		ch.step(&l2.seeds[n], l2.seeds[n+1][:], KeyID{id.L0, id.L1, n}, nil)
	}
	return l2.seeds[id.L2]
}

// row finds or makes the row of k for root and marks it as used. c.mu is held.
func (c *Cache) row(root RootKey, k rowKey) *row {
	c.tick++
	r := c.rows[k]
	if r != nil && r.hash == root.Hash && r.root.Equal(root.Key) {
		r.used = c.tick
		return r
	}
	c.drop(k)
	if len(c.rows) >= c.limit {
		c.dropOldest()
	}
	r = &row{hash: root.Hash, root: root.Key.Clone(), filled: fanOut, used: c.tick}
	c.rows[k] = r
	return r
}

// dropOldest drops the row whose last use is the longest ago. c.mu is held.
func (c *Cache) dropOldest() {
	var oldest rowKey
	found := false
	for k, r := range c.rows {
		if !found || r.used < c.rows[oldest].used {
			oldest, found = k, true
		}
	}
	c.drop(oldest)
}

// drop overwrites and forgets the row of k, if there is one. c.mu is held.
func (c *Cache) drop(k rowKey) {
	if r := c.rows[k]; r != nil {
		clear(r.seeds[:])
		r.root.Destroy()
		delete(c.rows, k)
	}
}
