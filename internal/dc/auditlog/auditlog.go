// Package auditlog keeps the events of package audit in a file of JSON lines, which is
// rotated, and tells the log of the Key Distribution Service of new root keys (event 4004).
//
// An event is in the file within a moment, but whoever causes it does not wait for that: a
// controller that is killed can lose those of its last milliseconds. Read [Open] first, and
// [Read] for the other direction.
package auditlog

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/event/linelog"
)

// Limits of the log.
const (
	// MaxFiles is how many files there are, the one in use among them, of
	// linelog.DefaultMaxSize bytes each.
	MaxFiles = 10
	// maxWaiting is how many events may wait for the file: from then on whoever records one
	// writes them itself, so that a flood slows down who causes it and fills no memory.
	maxWaiting = 1024
	// maxText bounds each text of an event in the file, in bytes: names come from clients.
	maxText = 2048
	// maxLine bounds a line that is read, in bytes.
	maxLine = 64 << 10
)

// Config is what a [Log] is made of.
type Config struct {
	// Path is the file in use. Required.
	Path string
	// Events is told of new root keys; nil: nobody is.
	Events *event.Log
	// Log is told of a file that cannot be written. Required.
	Log *slog.Logger
}

// Log is an audit.Recorder that writes a file. It is safe for concurrent use.
type Log struct {
	cfg  Config
	file *linelog.File
	wake chan struct{}

	mu      sync.Mutex // guards waiting, and is held while it is written, which keeps the order
	waiting []audit.Event
}

// Open opens the log.
func Open(cfg Config) (*Log, error) {
	f, err := linelog.Open(linelog.Config{Path: cfg.Path, MaxFiles: MaxFiles})
	if err != nil {
		return nil, fmt.Errorf("open audit log: %w", err)
	}
	return &Log{cfg: cfg, file: f, wake: make(chan struct{}, 1)}, nil
}

// Record implements audit.Recorder. It waits for the file only where many events wait.
func (l *Log) Record(e audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = append(l.waiting, e)
	if len(l.waiting) >= maxWaiting {
		l.write()
		return
	}
	select {
	case l.wake <- struct{}{}:
	default: // somebody is awake already
	}
}

// gather is how long the first event waits for others, so that a controller that is busy
// does not pay for a write to the file with every password that somebody reads.
const gather = 20 * time.Millisecond

// Run writes events soon after they come, until ctx is done.
func (l *Log) Run(ctx context.Context) {
	soon := time.NewTimer(0)
	defer soon.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		}
		soon.Reset(gather)
		select {
		case <-ctx.Done():
			return
		case <-soon.C:
			l.flush()
		}
	}
}

// Close writes what waits and closes the file. Nothing may be recorded afterwards.
func (l *Log) Close() error {
	l.flush()
	return l.file.Close()
}

func (l *Log) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.write()
}

// write writes what waits. A file that cannot be written loses it: the controller does not
// stop for that, and says so.
func (l *Log) write() {
	if len(l.waiting) == 0 {
		return
	}
	var lines []byte
	for i, e := range l.waiting {
		if i > 0 {
			lines = append(lines, '\n')
		}
		lines = append(lines, encode(e)...)
		if e.Kind == audit.KindRootKeyCreated && e.Error == "" && l.cfg.Events != nil {
			if err := l.cfg.Events.Write(event.RootKeyCreated(e.GUID)); err != nil {
				l.cfg.Log.Error("event 4004 is not in the log", slog.Any("error", err))
			}
		}
	}
	if err := l.file.Append(lines); err != nil {
		l.cfg.Log.Error("audit events are lost", slog.Int("count", len(l.waiting)), slog.Any("error", err))
	}
	l.waiting = l.waiting[:0]
}

// Line is an event as it stands in the file. Fields are only ever added to it.
type Line struct {
	Time       time.Time  `json:"time"`
	Kind       audit.Kind `json:"kind"`
	SID        string     `json:"sid,omitempty"`
	Name       string     `json:"name,omitempty"`
	From       string     `json:"from,omitempty"`
	Object     string     `json:"object,omitempty"`
	GUID       string     `json:"guid,omitempty"`
	Attributes []string   `json:"attributes,omitempty"`
	Error      string     `json:"error,omitempty"`
}

func newLine(e audit.Event) Line {
	l := Line{Time: e.Time.UTC(), Kind: e.Kind, Name: clip(e.Name), Object: clip(e.Object), Error: clip(e.Error)}
	if !e.SID.IsZero() {
		l.SID = e.SID.String()
	}
	if e.From.IsValid() {
		l.From = e.From.String()
	}
	if !e.GUID.IsZero() {
		l.GUID = e.GUID.String()
	}
	for _, a := range e.Attributes {
		l.Attributes = append(l.Attributes, clip(a))
	}
	return l
}

// Lines are events in the form of the file, for programs.
func Lines(events []audit.Event) []Line {
	lines := make([]Line, len(events))
	for i, e := range events {
		lines[i] = newLine(e)
	}
	return lines
}

func encode(e audit.Event) []byte {
	b, err := json.Marshal(newLine(e))
	if err != nil {
		panic("auditlog: " + err.Error()) // nothing but texts and a time
	}
	return b
}

func clip(s string) string {
	if len(s) > maxText {
		s = s[:maxText] + "…"
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}

// Read yields the events of the log at path, the oldest first. A log that does not exist
// yet has none. A line that is no event, whose writer was killed, is an error that does not
// end the sequence.
func Read(path string) iter.Seq2[audit.Event, error] {
	return func(yield func(audit.Event, error) bool) {
		names := []string{path}
		for i := range MaxFiles - 1 {
			names = append(names, linelog.Older(path, i+1))
		}
		for _, name := range slices.Backward(names) {
			if !readFile(name, yield) {
				return
			}
		}
	}
}

// readFile yields the events of one file; it is false if the consumer has enough.
func readFile(name string, yield func(audit.Event, error) bool) bool {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true
	}
	if err != nil {
		return yield(audit.Event{}, err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, maxLine)
	for n := 1; s.Scan(); n++ {
		e, err := decode(s.Bytes())
		if err != nil {
			err = fmt.Errorf("%s:%d: %w", name, n, err)
		}
		if !yield(e, err) {
			return false
		}
	}
	if err := s.Err(); err != nil {
		return yield(audit.Event{}, fmt.Errorf("%s: %w", name, err))
	}
	return true
}

// decode reads a line. Fields that a later version added are ignored.
func decode(b []byte) (audit.Event, error) {
	var l Line
	if err := json.Unmarshal(b, &l); err != nil {
		return audit.Event{}, fmt.Errorf("no event: %w", err)
	}
	e := audit.Event{Time: l.Time, Kind: l.Kind, Name: l.Name, Object: l.Object, Attributes: l.Attributes, Error: l.Error}
	var errs [3]error
	if l.SID != "" {
		e.SID, errs[0] = dtyp.ParseSID(l.SID)
	}
	if l.GUID != "" {
		e.GUID, errs[1] = dtyp.ParseGUID(l.GUID)
	}
	if l.From != "" {
		e.From, errs[2] = netip.ParseAddrPort(l.From)
	}
	return e, errors.Join(errs[:]...)
}
