package account

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// Config says what [Accounts] work with.
type Config struct {
	// Directory has the accounts. Required.
	Directory *directory.Directory
	// Audit is told of logons that failed and of lockouts; nil: nobody is.
	Audit audit.Recorder
	// Log is told when counters could not be written; nil: nobody is.
	Log *slog.Logger
	// MaxCached bounds the accounts kept in memory; 0 stands for 4,096. One with its keys
	// takes about 8 KiB.
	MaxCached int
	// FlushInterval is how often counters of logons are written; 0 stands for 15 s. What
	// was counted since is lost when the machine fails.
	FlushInterval time.Duration
	// Limits bound guessing; the zero value has its defaults.
	Limits Limits
}

// Accounts is the accounts of a domain. It is safe for concurrent use.
type Accounts struct {
	cfg    Config
	known  *attributes
	domain directory.Domain

	// cache is what was read at one state of the directory.
	cache   atomic.Pointer[cache]
	derived derivedKeys
	logons  logons
	limiter limiter
	// lockedOut asks Run to write at once: who was locked out is to be seen, and unlocked.
	lockedOut chan struct{}
}

// New makes the accounts of a directory. It panics if the directory's schema lacks an
// attribute that accounts are made of: the schema is part of the program.
func New(cfg Config) *Accounts {
	known, err := findAttributes(cfg.Directory.Schema())
	if err != nil {
		panic("account: " + err.Error())
	}
	if cfg.Audit == nil {
		cfg.Audit = audit.Discard{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.MaxCached == 0 {
		cfg.MaxCached = 4096
	}
	if cfg.FlushInterval == 0 {
		cfg.FlushInterval = 15 * time.Second
	}
	a := &Accounts{cfg: cfg, known: known, domain: cfg.Directory.Domain()}
	a.lockedOut = make(chan struct{}, 1)
	a.limiter.limits = cfg.Limits.withDefaults()
	a.cache.Store(newCache(cfg.Directory.Changes(), cfg.MaxCached))
	return a
}

// Domain is the domain whose accounts these are.
func (a *Accounts) Domain() directory.Domain { return a.domain }

// Run writes the counters of logons from time to time, and when an account is locked out,
// until ctx ends, and once more then.
func (a *Accounts) Run(ctx context.Context) error {
	ticker := time.NewTicker(a.cfg.FlushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return a.Flush(context.WithoutCancel(ctx))
		case <-ticker.C:
		case <-a.lockedOut:
		}
		if err := a.Flush(ctx); err != nil && ctx.Err() == nil {
			a.cfg.Log.Error("counters of logons were not written", "error", err)
		}
	}
}

// Now is the directory's time, by which all logons are judged.
func (a *Accounts) Now() time.Time { return a.cfg.Directory.Now() }

func (a *Accounts) now() dtyp.Filetime { return dtyp.FiletimeOf(a.cfg.Directory.Now()) }

// cache is accounts as they are at one state of the directory, by the names that they
// were asked for. It is safe for concurrent use.
type cache struct {
	changes uint64
	max     int
	// before is the keys of accounts as the cache before had them. Keys that are the same
	// are kept, with what was derived from them.
	before map[dtyp.GUID]*stored

	mu sync.RWMutex
	// All are guarded by mu.
	names   map[string]*Account
	sids    map[dtyp.SID]*Account
	guids   map[dtyp.GUID]*Account
	service map[string][]byte // LOGON_INFO of a TGT to that of its service tickets
	tokens  map[string][]dtyp.SID
	aliases map[string]bool // classes that host/ covers; nil before they were read
}

func newCache(changes uint64, max int) *cache {
	return &cache{changes: changes, max: max, names: map[string]*Account{}, sids: map[dtyp.SID]*Account{},
		guids: map[dtyp.GUID]*Account{}, service: map[string][]byte{}, tokens: map[string][]dtyp.SID{}}
}

// current is the cache of the directory's present state.
func (a *Accounts) current() *cache {
	changes := a.cfg.Directory.Changes()
	c := a.cache.Load()
	if c.changes == changes {
		return c
	}
	fresh := newCache(changes, a.cfg.MaxCached)
	fresh.before = c.keys()
	if a.cache.CompareAndSwap(c, fresh) {
		return fresh
	}
	return a.cache.Load()
}

// keys are the stored keys of the accounts in the cache.
func (c *cache) keys() map[dtyp.GUID]*stored {
	c.mu.RLock()
	defer c.mu.RUnlock()
	keys := make(map[dtyp.GUID]*stored, len(c.guids))
	for g, acct := range c.guids {
		if acct.stored != nil {
			keys[g] = acct.stored
		}
	}
	return keys
}

func cached[K comparable, V any](c *cache, m map[K]V, k K) (V, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	v, ok := m[k]
	return v, ok
}

// keep adds an entry. A map that is full is emptied: what is in use comes back.
func keep[K comparable, V any](c *cache, m map[K]V, k K, v V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(m) >= c.max {
		clear(m)
	}
	m[k] = v
}

// BySID finds an account. It fails with ErrUnknown.
func (a *Accounts) BySID(ctx context.Context, sid dtyp.SID) (*Account, error) {
	c := a.current()
	if acct, ok := cached(c, c.sids, sid); ok {
		return acct, nil
	}
	var acct *Account
	err := a.cfg.Directory.View(ctx, func(r *directory.Reader) (err error) {
		acct, err = a.lookup(r, c, a.known.objectSID, sid.Bytes())
		return err
	})
	if err != nil {
		return nil, err
	}
	keep(c, c.sids, sid, acct)
	return acct, nil
}

// loaded is the account of an entry, from the cache if it is there.
func (a *Accounts) loaded(r *directory.Reader, c *cache, e *rows.Entry) (*Account, error) {
	if acct, ok := cached(c, c.guids, e.GUID); ok {
		return acct, nil
	}
	acct, err := a.load(r, c, e)
	if err != nil {
		return nil, err
	}
	keep(c, c.guids, e.GUID, acct)
	return acct, nil
}

// unknown is the error for a name that no account has.
func unknown(name string) error { return fmt.Errorf("%w: %q", ErrUnknown, name) }
