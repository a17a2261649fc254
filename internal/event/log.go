package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
)

// The bounds of a log where its [Config] gives none.
const (
	DefaultMaxSize  = 4 << 20 // bytes of one file
	DefaultMaxFiles = 5       // the file in use and four older ones
)

// fileMode lets a group of auditors read the log, and nobody else.
const fileMode = 0o640

// Config says where a [Log] writes.
type Config struct {
	// Path is the file in use; older ones lie beside it as Path.1 (the newest)
	// and up. Empty writes no file.
	Path string
	// MaxSize is the size in bytes after which a file is rotated away, and
	// MaxFiles how many files there are in all. Zero means the defaults.
	MaxSize  int64
	MaxFiles int
	// Journal writes to the systemd journal too, where there is one.
	Journal bool
	// Now gives the time of an event that has none; nil means time.Now.
	Now func() time.Time
}

// Log appends events to a file and to the journal. Several processes may write
// to the same file: each entry is one append under the file's lock, and whoever
// fills the file rotates it. It is safe for concurrent use.
type Log struct {
	cfg     Config
	journal bool

	mu   sync.Mutex
	file *os.File // nil without a path, and after Close
}

// Open opens the log, and creates its file with mode 0640 and its directory, of
// which only the last element may be missing, with mode 0755.
func Open(cfg Config) (*Log, error) {
	if cfg.MaxSize <= 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	if cfg.MaxFiles <= 0 {
		cfg.MaxFiles = DefaultMaxFiles
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Log{cfg: cfg, journal: cfg.Journal && journal.Enabled()}
	if cfg.Path == "" {
		return l, nil
	}
	if err := os.Mkdir(filepath.Dir(cfg.Path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("directory of the event log: %w", err)
	}
	f, err := openForAppend(cfg.Path)
	if err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	l.file = f
	return l, nil
}

// Close closes the file. A closed log drops what it is given.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

// Write appends e. An event that could reach only one of file and journal is
// in that one, and the error says what became of the other.
func (l *Log) Write(e Event) error {
	if e.Time.IsZero() {
		e.Time = l.cfg.Now()
	}
	e.Time = e.Time.UTC()
	var errs []error
	if l.journal {
		errs = append(errs, sendToJournal(e))
	}
	line, err := json.Marshal(e)
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("encode event %d: %w", e.ID, err))...)
	}
	if err := l.append(append(line, '\n')); err != nil {
		errs = append(errs, fmt.Errorf("write event %d to %s: %w", e.ID, l.cfg.Path, err))
	}
	return errors.Join(errs...)
}

// append writes one line under the file's lock and rotates a file that is full.
func (l *Log) append(line []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	size, err := l.lockCurrent()
	if err != nil {
		return err
	}
	defer unlockFile(l.file)
	if size > 0 && !endsWithNewline(l.file, size) {
		// A writer was killed, or the disk was full, in the middle of a line.
		line = append([]byte{'\n'}, line...)
	}
	if _, err := l.file.Write(line); err != nil {
		return err
	}
	if size+int64(len(line)) >= l.cfg.MaxSize {
		return l.rotate()
	}
	return nil
}

// lockCurrent locks the file that has the log's name at this moment, which
// another process may have rotated since, and returns its size.
func (l *Log) lockCurrent() (size int64, err error) {
	for {
		if err := lockFile(l.file); err != nil {
			return 0, fmt.Errorf("lock: %w", err)
		}
		mine, err := l.file.Stat()
		if err != nil {
			unlockFile(l.file)
			return 0, err
		}
		named, err := os.Stat(l.cfg.Path)
		if err == nil && os.SameFile(mine, named) {
			return mine.Size(), nil
		}
		unlockFile(l.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, err
		}
		next, err := openForAppend(l.cfg.Path)
		if err != nil {
			return 0, err
		}
		_ = l.file.Close()
		l.file = next
	}
}

// rotate moves the full file to Path.1 and puts an empty one in its place, so
// that a file of the log's name exists at every moment. The caller holds the
// file's lock; writers that wait for it then find another file at the name.
func (l *Log) rotate() error {
	path := l.cfg.Path
	if l.cfg.MaxFiles == 1 {
		return l.file.Truncate(0)
	}
	fresh, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer fresh.Close()
	err = errors.Join(fresh.Chmod(fileMode), sameOwner(fresh, l.file))
	if err == nil {
		err = l.shift()
	}
	if err == nil {
		err = os.Rename(fresh.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(fresh.Name()))
	}
	return nil
}

// shift gives each older file the next number, dropping the last, and the file
// in use the name Path.1 beside its own. A rotation that was killed after that
// step is recognised by the two names, and not done twice.
func (l *Log) shift() error {
	path, first := l.cfg.Path, numbered(l.cfg.Path, 1)
	current, err := os.Stat(path)
	if err != nil {
		return err
	}
	if older, err := os.Stat(first); err == nil && os.SameFile(current, older) {
		return nil
	}
	for i := l.cfg.MaxFiles - 2; i >= 1; i-- {
		if err := os.Rename(numbered(path, i), numbered(path, i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(first); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(path, first)
}

// numbered is the name of the i-th older file.
func numbered(path string, i int) string { return path + "." + strconv.Itoa(i) }

// openForAppend opens or creates the file; reading is for endsWithNewline.
func openForAppend(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_RDWR, fileMode)
}

// endsWithNewline reports whether the last of size bytes ends a line; it takes
// an unreadable byte for one that does.
func endsWithNewline(f *os.File, size int64) bool {
	var last [1]byte
	_, err := f.ReadAt(last[:], size-1)
	return err != nil || last[0] == '\n'
}

// sendToJournal writes e with its arguments as fields, so that
// `journalctl CCG_EVENT_ID=8` finds it.
func sendToJournal(e Event) error {
	priority := journal.PriInfo
	if e.Level == Error {
		priority = journal.PriErr
	}
	fields := map[string]string{
		"SYSLOG_IDENTIFIER": "gmsa",
		"CCG_EVENT_ID":      strconv.Itoa(int(e.ID)),
		"CCG_CHANNEL":       e.Channel,
	}
	for name, value := range map[string]string{
		"CCG_ACCOUNT": e.Account, "CCG_PLUGIN": e.Plugin, "CCG_ROOT_KEY": e.RootKey, "CCG_REASON": e.Reason,
	} {
		if value != "" {
			fields[name] = value
		}
	}
	if err := journal.Send(e.Message, priority, fields); err != nil {
		return fmt.Errorf("write event %d to the journal: %w", e.ID, err)
	}
	return nil
}
