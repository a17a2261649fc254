// Package linelog keeps a log of lines in a file and its older siblings: the event log of
// the guard, the audit log of the controller. What a line says is its writer's to know.
//
// Several processes may write to one log: each line is one append under the file's lock,
// and whoever fills the file rotates it. Read [Open] first.
package linelog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// The bounds of a log where its [Config] gives none.
const (
	DefaultMaxSize  = 4 << 20 // bytes of one file
	DefaultMaxFiles = 5       // the file in use and four older ones
)

// fileMode lets a group of auditors read the log, and nobody else.
const fileMode = 0o640

// Config says where a [File] writes.
type Config struct {
	// Path is the file in use; older ones lie beside it as Path.1 (the newest)
	// and up. Required.
	Path string
	// MaxSize is the size in bytes after which a file is rotated away, and
	// MaxFiles how many files there are in all. Zero means the defaults.
	MaxSize  int64
	MaxFiles int
}

// File appends lines. It is safe for concurrent use.
type File struct {
	cfg Config

	mu   sync.Mutex
	file *os.File // nil after Close
}

// Open opens the log, and creates its file with mode 0640 and its directory, of
// which only the last element may be missing, with mode 0755.
func Open(cfg Config) (*File, error) {
	if cfg.MaxSize <= 0 {
		cfg.MaxSize = DefaultMaxSize
	}
	if cfg.MaxFiles <= 0 {
		cfg.MaxFiles = DefaultMaxFiles
	}
	if err := os.Mkdir(filepath.Dir(cfg.Path), 0o755); err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("directory: %w", err)
	}
	f, err := openForAppend(cfg.Path)
	if err != nil {
		return nil, err
	}
	return &File{cfg: cfg, file: f}, nil
}

// Close closes the file. A closed log drops what it is given.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	f := l.file
	l.file = nil
	return f.Close()
}

// Append writes one line, without its newline, under the file's lock, and rotates a file
// that is full.
func (l *File) Append(line []byte) error {
	line = append(line, '\n')
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
func (l *File) lockCurrent() (size int64, err error) {
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
func (l *File) rotate() error {
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
func (l *File) shift() error {
	path, first := l.cfg.Path, Older(l.cfg.Path, 1)
	current, err := os.Stat(path)
	if err != nil {
		return err
	}
	if older, err := os.Stat(first); err == nil && os.SameFile(current, older) {
		return nil
	}
	for i := l.cfg.MaxFiles - 2; i >= 1; i-- {
		if err := os.Rename(Older(path, i), Older(path, i+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Remove(first); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Link(path, first)
}

// Older is the name of the i-th older file, from 1, of the log at path.
func Older(path string, i int) string { return path + "." + strconv.Itoa(i) }

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
