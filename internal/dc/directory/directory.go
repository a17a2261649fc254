package directory

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/secret"
)

// Sealer encrypts what must not lie in the store in the clear. A sealed value opens
// only for the object and the name that it was sealed for, so that ciphertexts cannot
// be swapped between accounts.
type Sealer interface {
	// Seal appends the encryption of plain to dst.
	Seal(dst, plain []byte, object dtyp.GUID, name string) ([]byte, error)
	// Open decrypts what Seal made; the secret has memory of its own.
	Open(sealed []byte, object dtyp.GUID, name string) (secret.Bytes, error)
}

// Passwords is what the directory asks of whoever keeps the keys of accounts. It is
// called inside of the transaction that writes the account.
type Passwords interface {
	// Set gives the account of e a password: e may be new and not be in the store yet.
	// It writes the account's private rows, and pwdLastSet into e, which the caller
	// stores afterwards. It fails with an [Error] whose message a client may see, such as
	// that of a password that is too short.
	Set(w *Writer, e *rows.Entry, p NewPassword) error
	// KVNO is msDS-KeyVersionNumber of an account that has stored keys; ok is false
	// where it has none.
	KVNO(r *Reader, e *rows.Entry) (kvno uint32, ok bool, err error)
}

// NewPassword is a password that somebody sets.
type NewPassword struct {
	// Password is UTF-16LE, without quotes.
	Password secret.Bytes
	// Old is the present password, which whoever changes their own must know. Change
	// says that the password is changed and not reset, and that Old is to be checked,
	// unless Proven says that the caller proved it by other means.
	Old            secret.Bytes
	Change, Proven bool
	// Initial says that the account is being made.
	Initial bool
}

// Config is what a [Directory] is made of.
type Config struct {
	// Store keeps everything. Required.
	Store store.Store
	// Schema is the classes and attributes. Required.
	Schema *schema.Schema
	// Seal encrypts private rows. Required.
	Seal Sealer
	// Passwords keeps the keys of accounts. Required.
	Passwords Passwords
	// Audit is told who did what; nil: nobody is.
	Audit audit.Recorder
	// Now is the clock. Required.
	Now func() time.Time
	// Rand gives random bytes. Required.
	Rand io.Reader
}

// Directory is the objects of a domain. It is safe for concurrent use.
type Directory struct {
	cfg    Config
	table  *rows.Table
	domain Domain
	known  attributes

	// changes counts committed updates: what was computed from the directory is as good
	// as new while it stands still.
	changes atomic.Uint64
	// ring is the root keys as the last update left them, cache their seeds.
	ring  atomic.Pointer[kds.Ring]
	cache *gkdi.Cache

	// What searches need of the domain and the schema, and what they keep. All but the
	// last two are immutable.
	domainDN    string
	schemaDN    adproto.DN
	naming      []*schema.Attribute // those that name objects
	operational []*schema.Attribute // what "+" asks for
	cookies     cipher.AEAD
	cached      *cached
	partition   atomic.Pointer[schemaPartition]
}

// ErrInitialized: the store has a domain already.
var ErrInitialized = errors.New("the store has a domain already")

// ErrNotInitialized: the store has no domain yet.
var ErrNotInitialized = errors.New("the store has no domain yet")

// Create begins a directory in an empty store: it has a domain and no object. It fails
// with ErrInitialized.
func Create(ctx context.Context, cfg Config, domain Domain) (*Directory, error) {
	err := cfg.Store.Update(ctx, func(tx store.Tx) error {
		if _, err := rows.Meta(tx, metaDomain); err == nil {
			return ErrInitialized
		} else if !errors.Is(err, rows.ErrNotFound) {
			return err
		}
		return writeDomain(tx, domain)
	})
	if err != nil {
		return nil, fmt.Errorf("create directory: %w", err)
	}
	return Open(ctx, cfg)
}

// Open opens the directory in a store. It fails with ErrNotInitialized.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	if cfg.Audit == nil {
		cfg.Audit = audit.Discard{}
	}
	d := &Directory{cfg: cfg, cache: gkdi.NewCache(0)}
	var err error
	if d.known, err = findAttributes(cfg.Schema); err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	err = cfg.Store.View(ctx, func(r store.Reader) error {
		d.domain, err = readDomain(r)
		return err
	})
	if errors.Is(err, rows.ErrNotFound) {
		err = ErrNotInitialized
	}
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	d.table = &rows.Table{Schema: cfg.Schema, Domain: d.domain.DN()}
	if err := d.prepareSearches(); err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	if _, err := d.reloadRing(ctx); err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	if err := d.Inherit(ctx); err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	return d, nil
}

// prepareSearches sets what does not change while the directory is open.
func (d *Directory) prepareSearches() (err error) {
	d.domainDN, d.schemaDN = d.domain.DN().String(), d.domain.SchemaDN()
	d.cached = newCached()
	for _, c := range d.cfg.Schema.Classes() {
		if a, ok := d.cfg.Schema.Attribute(c.RDN); ok && !slices.Contains(d.naming, a) {
			d.naming = append(d.naming, a)
		}
	}
	for _, name := range operationalNames() {
		a, ok := d.cfg.Schema.Attribute(name)
		if !ok {
			return fmt.Errorf("the schema has no attribute %s", name)
		}
		d.operational = append(d.operational, a)
	}
	d.cookies, err = newCookieCipher(d.cfg.Rand)
	return err
}

// Domain is the directory's domain.
func (d *Directory) Domain() Domain { return d.domain }

// Schema is the directory's classes and attributes.
func (d *Directory) Schema() *schema.Schema { return d.cfg.Schema }

// Now is the directory's time.
func (d *Directory) Now() time.Time { return d.cfg.Now() }

// Changes counts the updates that were committed since the directory was opened, without
// those that only counted logons (PrivateLogon). What was computed from the directory may
// be kept for as long as the number that was read before stays the same.
func (d *Directory) Changes() uint64 { return d.changes.Load() }

// Ring is the root keys as they are now.
func (d *Directory) Ring() *kds.Ring { return d.ring.Load() }

// View calls fn with one consistent state of the directory, without access control:
// for the controller's own services. fn may run on many goroutines, each with a state
// of its own.
func (d *Directory) View(ctx context.Context, fn func(*Reader) error) error {
	return d.cfg.Store.View(ctx, func(r store.Reader) error { return fn(d.reader(r)) })
}

// Update calls fn and commits what it wrote if it returns nil, without access control.
// fn may run more than once and must have no effect but through its Writer. One Update
// writes at most what a transaction of the store holds.
func (d *Directory) Update(ctx context.Context, fn func(*Writer) error) error {
	var rootKeys, counts bool
	err := d.cfg.Store.Update(ctx, func(tx store.Tx) error {
		w := &Writer{Reader: *d.reader(tx), tx: tx}
		err := fn(w)
		rootKeys, counts = w.rootKeys, w.counts
		return err
	})
	if err != nil {
		return err
	}
	if rootKeys {
		if err := d.rootKeysChanged(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("after a change of root keys: %w", err)
		}
	}
	if counts {
		d.changes.Add(1)
	}
	return nil
}

// reloadRing makes the ring anew from the root keys in the store. It reports whether one
// is gone.
func (d *Directory) reloadRing(ctx context.Context) (gone bool, err error) {
	err = d.View(ctx, func(r *Reader) error {
		keys, err := r.RootKeys()
		if err == nil {
			ring := kds.NewRing(d.cache, keys...)
			gone = d.forget(d.ring.Swap(ring), ring)
		}
		return err
	})
	return gone, err
}

func (d *Directory) reader(r store.Reader) *Reader { return &Reader{Directory: d, r: r} }
