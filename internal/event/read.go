package event

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/internal/event/linelog"
)

// maxLine bounds one line of a log that is read, in bytes: three arguments of
// 1 KiB, each twice, and JSON's escapes stay below it.
const maxLine = 64 << 10

// Filter selects events. The zero value selects all.
type Filter struct {
	// IDs are the numbers wanted; none means every number.
	IDs []ID
	// Account is a name in any of the usual forms: NAME, NAME$, DOMAIN\NAME$
	// or NAME@domain; case does not matter.
	Account string
	// Since is the first moment and Until the first moment no longer wanted;
	// zero means no bound.
	Since, Until time.Time
}

// Match reports whether f selects e.
func (f Filter) Match(e Event) bool {
	if len(f.IDs) > 0 && !slices.Contains(f.IDs, e.ID) {
		return false
	}
	if f.Account != "" && !sameAccount(f.Account, e.Account) {
		return false
	}
	if !f.Since.IsZero() && e.Time.Before(f.Since) {
		return false
	}
	return f.Until.IsZero() || e.Time.Before(f.Until)
}

// sameAccount compares a name that a person typed with an event's NAME@domain.
// A NetBIOS domain is not in the event and is taken on trust.
func sameAccount(typed, logged string) bool {
	if _, after, ok := strings.Cut(typed, `\`); ok {
		typed = after
	}
	name, domain, hasDomain := strings.Cut(typed, "@")
	loggedName, loggedDomain, _ := strings.Cut(logged, "@")
	if !strings.EqualFold(strings.TrimSuffix(name, "$"), loggedName) {
		return false
	}
	return !hasDomain || strings.EqualFold(domain, loggedDomain)
}

// A LineError is a line that is no event, such as one whose writer was killed.
// Reading goes on behind it.
type LineError struct {
	Path string
	Line int // from 1
	Err  error
}

func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %v", e.Path, e.Line, e.Err) }

// Unwrap gives the cause.
func (e *LineError) Unwrap() error { return e.Err }

// Read yields the selected events of the log at path, older files first. A log
// that does not exist yet has none. An error that is no [LineError] is the last
// element.
func Read(path string, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		files, err := openAll(path, nil)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer closeAll(files)
		for _, file := range files {
			t := newTail(file)
			if !t.drain(f, yield) || !t.finish(f, yield) {
				return
			}
		}
	}
}

// ReadFile yields the selected events of one file, such as one exported from
// another host; its older siblings are not read, and it must exist.
func ReadFile(path string, f Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		file, err := os.Open(path)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer file.Close()
		t := newTail(file)
		_ = t.drain(f, yield) && t.finish(f, yield)
	}
}

// Follow yields what [Read] does and then each event as it is written, through
// rotations, until ctx is done. It looks for news every interval.
func Follow(ctx context.Context, path string, f Filter, interval time.Duration) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		var t *tail
		defer func() { t.close() }()
		for {
			next, err := advance(path, t, f, yield)
			if err != nil {
				yield(Event{}, err)
				return
			}
			if next == nil {
				return
			}
			t = next
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
		}
	}
}

// advance yields what has come since the last call and returns the reader of
// the newest file, which is t while no rotation took place; nil if the consumer
// has enough.
func advance(path string, t *tail, f Filter, yield func(Event, error) bool) (*tail, error) {
	files, err := openAll(path, t)
	if err != nil {
		return nil, err
	}
	// Nobody writes to a file once it has lost its name, so that what is read
	// of t after the look at the directory is all there will ever be.
	if t != nil && !t.drain(f, yield) {
		closeAll(files)
		return nil, nil
	}
	for i, file := range files {
		if t != nil && t.file != nil && !t.finish(f, yield) {
			closeAll(files[i:])
			return nil, nil
		}
		t.close()
		t = newTail(file)
		if !t.drain(f, yield) {
			t.close()
			closeAll(files[i+1:])
			return nil, nil
		}
	}
	if t == nil {
		t = &tail{}
	}
	return t, nil
}

// openAll opens the files of the log, oldest first, that are newer than the one
// t reads (all without one). It looks at the newest first: a rotation meanwhile
// only moves files towards names still to be opened, and what is then seen
// twice is dropped.
func openAll(path string, t *tail) ([]*os.File, error) {
	names, err := namesOf(path)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	var infos []fs.FileInfo
	for _, name := range names {
		file, err := os.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(files)
			return nil, err
		}
		info, err := file.Stat()
		if err != nil {
			closeAll(append(files, file))
			return nil, err
		}
		if t.reads(info) {
			file.Close()
			break
		}
		if slices.ContainsFunc(infos, func(o fs.FileInfo) bool { return os.SameFile(o, info) }) {
			file.Close()
			continue
		}
		files, infos = append(files, file), append(infos, info)
	}
	slices.Reverse(files)
	return files, nil
}

// namesOf lists path and its numbered siblings, newest first, with two more
// numbers than there are, in case of a rotation meanwhile.
func namesOf(path string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	highest := 0
	for _, entry := range entries {
		suffix, ok := strings.CutPrefix(entry.Name(), filepath.Base(path)+".")
		if n, err := strconv.Atoi(suffix); ok && err == nil && n < 1000 {
			highest = max(highest, n)
		}
	}
	names := []string{path}
	for i := 1; i <= highest+2; i++ {
		names = append(names, linelog.Older(path, i))
	}
	return names, nil
}

func closeAll(files []*os.File) {
	for _, file := range files {
		file.Close()
	}
}

// tail reads the lines of a file that may still grow.
type tail struct {
	file   *os.File // nil while there is no log yet
	offset int64    // bytes read
	line   int      // lines read
	part   []byte   // the last line as far as it is written
	tooBig bool     // part was over maxLine and is thrown away
}

func newTail(file *os.File) *tail { return &tail{file: file} }

func (t *tail) close() {
	if t != nil && t.file != nil {
		t.file.Close()
		t.file = nil
	}
}

// reads reports whether t reads the file of info.
func (t *tail) reads(info fs.FileInfo) bool {
	if t == nil || t.file == nil {
		return false
	}
	mine, err := t.file.Stat()
	return err == nil && os.SameFile(mine, info)
}

// drain yields the complete lines up to the present end of the file. It is
// false if the consumer has enough.
func (t *tail) drain(f Filter, yield func(Event, error) bool) bool {
	if t.file == nil {
		return true
	}
	if info, err := t.file.Stat(); err == nil && info.Size() < t.offset {
		*t = tail{file: t.file} // truncated: a log of one file begins anew
	}
	chunk := make([]byte, 32<<10)
	for {
		n, err := t.file.ReadAt(chunk, t.offset)
		t.offset += int64(n)
		rest := chunk[:n]
		for {
			line, after, ok := bytes.Cut(rest, []byte{'\n'})
			t.extend(line)
			if !ok {
				break
			}
			if !t.emit(f, yield) {
				return false
			}
			rest = after
		}
		if err == io.EOF {
			return true
		}
		if err != nil {
			yield(Event{}, err)
			return false
		}
	}
}

// finish takes what lies behind the last newline for a line: nothing more will
// come.
func (t *tail) finish(f Filter, yield func(Event, error) bool) bool {
	if len(t.part) == 0 && !t.tooBig {
		return true
	}
	return t.emit(f, yield)
}

func (t *tail) extend(b []byte) {
	if t.tooBig || len(t.part)+len(b) > maxLine {
		t.tooBig, t.part = true, t.part[:0]
		return
	}
	t.part = append(t.part, b...)
}

// emit yields the line in t.part, if the filter wants it, and begins the next.
func (t *tail) emit(f Filter, yield func(Event, error) bool) bool {
	t.line++
	e, err := parseLine(t.part, t.tooBig)
	empty := len(t.part) == 0 && !t.tooBig
	t.part, t.tooBig = t.part[:0], false
	switch {
	case empty:
		return true
	case err != nil:
		return yield(Event{}, &LineError{Path: t.file.Name(), Line: t.line, Err: err})
	case f.Match(e):
		return yield(e, nil)
	}
	return true
}

// parseLine reads one line. Fields that a later version added are ignored, and
// a file from another host cannot steer the terminal that shows it.
func parseLine(line []byte, tooBig bool) (Event, error) {
	if tooBig {
		return Event{}, fmt.Errorf("line over %d bytes", maxLine)
	}
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return Event{}, fmt.Errorf("no event: %w", err)
	}
	if e.ID == 0 || e.Message == "" {
		return Event{}, errors.New("no event: id or message missing")
	}
	for _, s := range []*string{&e.Message, &e.Channel, (*string)(&e.Level), &e.Account, &e.Plugin, &e.RootKey, &e.Reason} {
		*s = printable(*s)
	}
	return e, nil
}
