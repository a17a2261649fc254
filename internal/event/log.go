package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/coreos/go-systemd/v22/journal"

	"github.com/opengmsa/opengmsa/internal/event/linelog"
)

// Config says where a [Log] writes.
type Config struct {
	// Path is the file in use; older ones lie beside it as Path.1 (the newest)
	// and up. Empty writes no file.
	Path string
	// MaxSize is the size in bytes after which a file is rotated away, and
	// MaxFiles how many files there are in all. Zero means linelog's defaults.
	MaxSize  int64
	MaxFiles int
	// Journal writes to the systemd journal too, where there is one.
	Journal bool
	// Now gives the time of an event that has none; nil means time.Now.
	Now func() time.Time
}

// Log appends events to a file and to the journal. Several processes may write
// to the same file. It is safe for concurrent use.
type Log struct {
	cfg     Config
	journal bool
	file    *linelog.File // nil without a path
}

// Open opens the log, and creates its file with mode 0640 and its directory, of
// which only the last element may be missing, with mode 0755.
func Open(cfg Config) (*Log, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	l := &Log{cfg: cfg, journal: cfg.Journal && journal.Enabled()}
	if cfg.Path == "" {
		return l, nil
	}
	f, err := linelog.Open(linelog.Config{Path: cfg.Path, MaxSize: cfg.MaxSize, MaxFiles: cfg.MaxFiles})
	if err != nil {
		return nil, fmt.Errorf("open the event log: %w", err)
	}
	l.file = f
	return l, nil
}

// Close closes the file. A closed log drops what it is given.
func (l *Log) Close() error {
	if l.file == nil {
		return nil
	}
	return l.file.Close()
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
	if l.file == nil {
		return errors.Join(errs...)
	}
	if err := l.file.Append(line); err != nil {
		errs = append(errs, fmt.Errorf("write event %d to %s: %w", e.ID, l.cfg.Path, err))
	}
	return errors.Join(errs...)
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
