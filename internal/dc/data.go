package dc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/auditlog"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/keysource"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/bolt"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/secret"
)

// The files of a data directory.
const (
	storeFile   = "store.db"
	keyFile     = "store.key"
	caFile      = "ca.pem"
	krb5File    = "krb5.conf"
	auditFile   = "audit.jsonl"
	eventFile   = "events.jsonl"
	controlFile = "control"
)

// ErrOwner: the data directory belongs to another user.
var ErrOwner = errors.New("the data directory belongs to another user")

// Data is a data directory.
type Data struct {
	// Dir is its path. Required.
	Dir string
	// Key is where the key-encryption key is kept. Its zero value is a file beside the
	// store, so that whoever copies the whole directory has both.
	Key keysource.Source
	// Getenv is os.Getenv or its like. Required.
	Getenv func(string) string
}

func (d Data) path(name string) string { return filepath.Join(d.Dir, name) }

// CAPath is the file with the certificate that clients trust.
func (d Data) CAPath() string { return d.path(caFile) }

// Krb5ConfPath is the file that tells clients of this machine where the controller is.
func (d Data) Krb5ConfPath() string { return d.path(krb5File) }

// AuditPath is the audit log.
func (d Data) AuditPath() string { return d.path(auditFile) }

// EventPath is the log of the Key Distribution Service: event 4004.
func (d Data) EventPath() string { return d.path(eventFile) }

// KeySource is where the key-encryption key is kept.
func (d Data) KeySource() keysource.Source {
	if d.Key == (keysource.Source{}) {
		return keysource.Source{File: d.path(keyFile)}
	}
	return d.Key
}

// Init makes a domain in the data directory, which it makes too. Where the key is to come
// from a file that does not exist it makes that. Until it returns there is no domain: what
// a process that was killed meanwhile has left, the next Init replaces. It fails with
// directory.ErrInitialized where there is a domain already.
func (d Data) Init(ctx context.Context, cfg DomainConfig) (Created, error) {
	made, err := d.initialize(ctx, cfg)
	if err != nil {
		return made, fmt.Errorf("make domain in %s: %w", d.Dir, err)
	}
	return made, nil
}

func (d Data) initialize(ctx context.Context, cfg DomainConfig) (made Created, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return made, err
	}
	// Others may pass through, to the files that are theirs to read, and not list.
	if err := os.MkdirAll(d.Dir, 0o711); err != nil {
		return made, err
	}
	if err := checkOwner(d.Dir); err != nil {
		return made, err
	}
	if _, err := os.Lstat(d.path(storeFile)); err == nil {
		return made, directory.ErrInitialized
	}
	key, err := d.newOrKeptKey(ctx, cfg.Rand)
	if err != nil {
		return made, err
	}
	err = bolt.Create(d.path(storeFile), 0o600, func(s store.Store) (err error) {
		if made, err = Create(ctx, s, key, cfg); err != nil {
			return err
		}
		return errors.Join(writeFile(d.CAPath(), made.CA, 0o644), d.tellRootKey(made.RootKey, cfg.Now))
	})
	if errors.Is(err, fs.ErrExist) {
		err = directory.ErrInitialized
	}
	return made, err
}

// tellRootKey writes event 4004 for the domain's first root key, if it has one.
func (d Data) tellRootKey(id dtyp.GUID, now func() time.Time) error {
	if id.IsZero() {
		return nil
	}
	log, err := event.Open(event.Config{Path: d.EventPath(), Now: now})
	if err != nil {
		return err
	}
	return errors.Join(log.Write(event.RootKeyCreated(id)), log.Close())
}

// newOrKeptKey reads the key, after making its file where there is none.
func (d Data) newOrKeptKey(ctx context.Context, rand io.Reader) (secret.Bytes, error) {
	source := d.KeySource()
	if source.File != "" {
		if err := keysource.CreateFile(source.File, rand); err != nil && !errors.Is(err, fs.ErrExist) {
			return secret.Bytes{}, err
		}
	}
	return source.Read(ctx, d.Getenv)
}

// Open opens the controller of the data directory, with its audit log. Errors wrap
// ErrOwner, bolt.ErrInUse where a controller runs, store.ErrNewer, atrest.ErrKey,
// directory.ErrNotInitialized, and those of keysource and the file system.
func (d Data) Open(ctx context.Context, cfg Config) (*Controller, error) {
	c, err := d.open(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", d.Dir, err)
	}
	return c, nil
}

func (d Data) open(ctx context.Context, cfg Config) (c *Controller, err error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	if cfg.Key, err = d.KeySource().Read(ctx, d.Getenv); err != nil {
		return nil, err
	}
	var opened closers
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	if cfg.Store, err = bolt.Open(d.path(storeFile), 0o600); err != nil {
		return nil, err
	}
	opened = append(opened, cfg.Store)
	events, err := event.Open(event.Config{Path: d.EventPath(), Now: cfg.Now})
	if err != nil {
		return nil, err
	}
	opened = append(opened, events)
	log, err := auditlog.Open(auditlog.Config{Path: d.AuditPath(), Events: events, Log: cfg.Log})
	if err != nil {
		return nil, err
	}
	opened = append(opened, log)
	cfg.Audit = log
	if c, err = Open(ctx, cfg); err != nil {
		return nil, err
	}
	c.data = &openData{Data: d, audit: log, logs: closers{events, log}}
	return c, nil
}

// Rekey encrypts the store under another key-encryption key, whose file is made if it does
// not exist. No controller may run meanwhile.
func (d Data) Rekey(ctx context.Context, next keysource.Source) error {
	if err := d.check(); err != nil {
		return err
	}
	old, err := d.KeySource().Read(ctx, d.Getenv)
	if err != nil {
		return err
	}
	s, err := bolt.Open(d.path(storeFile), 0o600)
	if err != nil {
		return err
	}
	key, err := Data{Dir: d.Dir, Key: next, Getenv: d.Getenv}.newOrKeptKey(ctx, rand.Reader)
	if err == nil {
		err = atrest.Rewrap(ctx, s, old, key, rand.Reader)
	}
	return errors.Join(err, s.Close())
}

// check reports a directory that has no domain or is another user's.
func (d Data) check() error {
	if _, err := os.Lstat(d.path(storeFile)); errors.Is(err, fs.ErrNotExist) {
		return directory.ErrNotInitialized
	} else if err != nil {
		return err
	}
	return checkOwner(d.Dir)
}

// closers are closed in the reverse of the order in which they were opened.
type closers []interface{ Close() error }

func (c closers) close() (err error) {
	for _, opened := range slices.Backward(c) {
		err = errors.Join(err, opened.Close())
	}
	return err
}

// openData is what a controller has open in its data directory beside the store.
type openData struct {
	Data
	audit *auditlog.Log
	logs  closers
}

// announce tells the clients of this machine where the controller is.
func (d *openData) announce(domain directory.Domain, ca []byte, s *Sockets) error {
	return errors.Join(writeFile(d.CAPath(), ca, 0o644), writeFile(d.Krb5ConfPath(), Krb5Conf(domain, s), 0o644))
}

// maxSocketPath is the longest path of a unix socket that every system takes, in bytes: 104
// with its end on BSD and macOS, 108 on Linux and Windows.
const maxSocketPath = 103

// listen opens the control socket. Whoever has the store's lock is alone here, so that one
// that is there was left behind.
func (d *openData) listen(ctx context.Context) (net.Listener, error) {
	path := d.path(controlFile)
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("control socket %s: %d bytes, want at most %d: the path of the data directory is too long, use a shorter or a relative one", path, len(path), maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	l, err := new(net.ListenConfig).Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return l, nil
}

// writeFile replaces a file, so that a reader never sees half of it.
func writeFile(path string, b []byte, mode fs.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
