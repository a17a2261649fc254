//go:build linux

package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
)

// specPoll is how often the directories of credential specs are looked through
// even if the kernel reports no change: it reports none on network file
// systems, nor where a link points elsewhere.
const specPoll = 15 * time.Second

// spec is one credential spec file as it was read last.
type spec struct {
	name string
	path string
	// parsed is good if err is nil. findings are faults and warnings.
	parsed   credspec.Spec
	findings []credspec.Finding
	err      error

	stamp stamp
}

// warnings are the findings that do not hinder the spec's use.
func (s *spec) warnings() []string {
	var out []string
	for _, f := range s.findings {
		if f.Warning {
			out = append(out, f.String())
		}
	}
	return out
}

// faults say why the spec cannot be used.
func (s *spec) faults() []string {
	var out []string
	for _, f := range s.findings {
		if !f.Warning {
			out = append(out, f.String())
		}
	}
	if len(out) == 0 && s.err != nil {
		out = append(out, s.err.Error())
	}
	return out
}

// stamp tells a file's states apart.
type stamp struct {
	size    int64
	changed time.Time
	id      string // device and inode, where there are any
}

// specStore holds the credential specs of the configured directories.
type specStore struct {
	log *slog.Logger
	// bad is told of each spec that has become unusable.
	bad func(*spec)

	scanning sync.Mutex // held by scan, so that a change is reported once

	mu    sync.Mutex
	dirs  []string
	specs map[string]*spec
}

func newSpecStore(dirs []string, log *slog.Logger, bad func(*spec)) *specStore {
	return &specStore{log: log, bad: bad, dirs: slices.Clone(dirs), specs: map[string]*spec{}}
}

// find returns the spec of that name, nil for none.
func (s *specStore) find(name string) *spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.specs[name]
}

// all lists the specs by name.
func (s *specStore) all() []*spec {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.specs), func(a, b *spec) int { return strings.Compare(a.name, b.name) })
}

// setDirs replaces the directories; scan must follow.
func (s *specStore) setDirs(dirs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs = slices.Clone(dirs)
}

// scan reads what has changed and returns the names of the specs that are new,
// different or gone.
func (s *specStore) scan() []string {
	s.scanning.Lock()
	defer s.scanning.Unlock()
	s.mu.Lock()
	dirs, old := s.dirs, s.specs
	s.mu.Unlock()

	next := map[string]*spec{}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("cannot read a directory of credential specs", slog.String("path", dir), slog.Any("error", err))
		}
		// A file whose name is what another's is escaped to comes before that one.
		slices.SortStableFunc(entries, func(a, b fs.DirEntry) int { return cmp.Compare(escaped(a), escaped(b)) })
		for _, entry := range entries {
			name, err := credspec.NameOfFile(entry.Name())
			if err != nil || next[name] != nil {
				continue
			}
			next[name] = readSpec(name, filepath.Join(dir, entry.Name()), old[name])
		}
	}
	s.mu.Lock()
	s.specs = next
	s.mu.Unlock()
	return s.compare(old, next)
}

// escaped is 1 for a file whose credential spec has another name than it.
func escaped(file fs.DirEntry) int {
	if name, _ := credspec.NameOfFile(file.Name()); strings.HasPrefix(file.Name(), name+".") {
		return 0
	}
	return 1
}

// compare reports what differs, and tells of specs that have become unusable.
func (s *specStore) compare(old, next map[string]*spec) []string {
	var changed []string
	for name, sp := range next {
		if old[name] == sp {
			continue
		}
		changed = append(changed, name)
		if sp.err != nil {
			s.log.Warn("unusable credential spec", slog.String("spec", name), slog.String("path", sp.path), slog.Any("error", sp.err))
			s.bad(sp)
		} else {
			s.log.Info("credential spec", slog.String("spec", name), slog.String("path", sp.path), slog.Any("warnings", sp.warnings()))
		}
	}
	for name := range old {
		if next[name] == nil {
			changed = append(changed, name)
			s.log.Info("credential spec is gone", slog.String("spec", name))
		}
	}
	slices.Sort(changed)
	return changed
}

// readSpec reads a file, unless it is as it was.
func readSpec(name, path string, old *spec) *spec {
	info, err := os.Stat(path)
	if err != nil {
		return unreadable(name, path, err, old)
	}
	st := stamp{size: info.Size(), changed: info.ModTime(), id: fileID(info)}
	if old != nil && old.path == path && old.stamp == st {
		return old
	}
	sp := &spec{name: name, path: path, stamp: st}
	if !info.Mode().IsRegular() {
		sp.err = fmt.Errorf("%s is not a file", path)
		return sp
	}
	b, err := readLimited(path, credspec.MaxSize)
	if err != nil {
		return unreadable(name, path, err, old)
	}
	sp.parsed, sp.findings, sp.err = credspec.Parse(b)
	return sp
}

// unreadable is a spec whose file cannot be read; the same fault is not news.
func unreadable(name, path string, err error, old *spec) *spec {
	if old != nil && old.path == path && old.err != nil && old.err.Error() == err.Error() {
		return old
	}
	return &spec{name: name, path: path, err: err}
}

// readLimited reads a file that must not be larger than limit.
func readLimited(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return b, err
}

// specSettle is how long a change is left to settle: a file that is being
// written is not a malformed spec.
const specSettle = 100 * time.Millisecond

// run scans whenever something may have changed, and hands the names of changed
// specs to changed, until ctx is done.
func (s *specStore) run(ctx context.Context, changed func([]string)) error {
	w := newDirWatch(s.log)
	defer w.close()
	ticker := time.NewTicker(specPoll)
	defer ticker.Stop()
	for {
		s.mu.Lock()
		dirs := slices.Clone(s.dirs)
		s.mu.Unlock()
		w.watch(dirs)
		if names := s.scan(); len(names) > 0 {
			changed(names)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-w.hints:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(specSettle):
			}
		}
	}
}
