package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/opengmsa/opengmsa/internal/lease"
)

// journalVersion is the version of the journal's format. A later version only
// adds operations and fields; what an agent does not know it leaves alone.
const journalVersion = 1

// maxJournalLine bounds one record, in bytes: a lease has at most 128 accounts
// and 64 SPNs.
const maxJournalLine = 256 << 10

// record is one line of the journal.
type record struct {
	// Op is "begin" at the head of a file, "lease" for a lease as it is now,
	// and "end" for one that is gone.
	Op      string       `json:"op"`
	Version int          `json:"version,omitempty"`
	Lease   *lease.Lease `json:"lease,omitempty"`
	ID      lease.ID     `json:"id,omitzero"`
}

// journal is the list of leases that an agent after this one takes over. It
// lies on tmpfs beside the leases and goes with them at a boot; it holds no
// secret. A lease whose directory it does not name was never given out.
type journal struct {
	path string

	mu    sync.Mutex
	file  *os.File
	size  int64 // of complete lines
	lines int
	live  int
}

// openJournal reads the journal at path, which need not exist, and begins a new
// file with the leases that are alive in it. Lines that cannot be read, such as
// one whose writer was killed, are counted and left out.
func openJournal(path string) (j *journal, leases []lease.Lease, unreadable int, err error) {
	leases, unreadable, err = readJournal(path)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("journal of leases: %w", err)
	}
	j = &journal{path: path}
	err = j.rewrite(leases)
	if errors.Is(err, syscall.ENOSPC) && len(leases) > 0 {
		err = j.resume(len(leases))
	}
	if err != nil {
		return nil, nil, 0, fmt.Errorf("journal of leases: %w", err)
	}
	return j, leases, unreadable, nil
}

// resume goes on with the present file, where there is no room for another: a full
// file system must not keep an agent from the leases that it has. A line that was cut
// short at the end is taken away.
func (j *journal) resume(live int) error {
	b, err := os.ReadFile(j.path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	whole := int64(bytes.LastIndexByte(b, '\n') + 1)
	if err := f.Truncate(whole); err != nil {
		return errors.Join(err, f.Close())
	}
	j.file, j.size, j.lines, j.live = f, whole, bytes.Count(b, []byte{'\n'}), live
	return nil
}

// readJournal folds the records of a file, in the order in which the leases
// were made.
func readJournal(path string) (leases []lease.Lease, unreadable int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	index := map[lease.ID]int{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, maxJournalLine)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			unreadable++
			continue
		}
		switch {
		case r.Op == "lease" && r.Lease != nil && len(r.Lease.Accounts) > 0:
			if i, ok := index[r.Lease.ID]; ok {
				leases[i] = *r.Lease
				continue
			}
			index[r.Lease.ID] = len(leases)
			leases = append(leases, *r.Lease)
		case r.Op == "end":
			if i, ok := index[r.ID]; ok {
				leases[i].Accounts = nil
				delete(index, r.ID)
			}
		}
	}
	if err := lines.Err(); err != nil {
		return nil, 0, err
	}
	return slices.DeleteFunc(leases, func(l lease.Lease) bool { return l.Accounts == nil }), unreadable, nil
}

// rewrite puts a file with these leases alone in the place of the present one.
// The caller holds mu, or nobody else has the journal yet.
func (j *journal) rewrite(leases []lease.Lease) error {
	temporary := j.path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	size, err := writeJournal(f, leases)
	if err == nil {
		err = os.Rename(temporary, j.path)
	}
	if err != nil {
		return errors.Join(err, f.Close(), os.Remove(temporary))
	}
	if j.file != nil {
		err = j.file.Close()
	}
	j.file, j.size, j.lines, j.live = f, size, len(leases), len(leases)
	return err
}

func writeJournal(w io.Writer, leases []lease.Lease) (size int64, err error) {
	b := bufio.NewWriter(w)
	put := func(r record) error {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		n, err := b.Write(append(line, '\n'))
		size += int64(n)
		return err
	}
	if err := put(record{Op: "begin", Version: journalVersion}); err != nil {
		return 0, err
	}
	for i := range leases {
		if err := put(record{Op: "lease", Lease: &leases[i]}); err != nil {
			return 0, err
		}
	}
	return size, b.Flush()
}

// put records a lease as it is now.
func (j *journal) put(l lease.Lease, added bool) error {
	live := 0
	if added {
		live = 1
	}
	return j.append(record{Op: "lease", Lease: &l}, live)
}

// end records that a lease is gone.
func (j *journal) end(id lease.ID) error { return j.append(record{Op: "end", ID: id}, -1) }

// append writes one line, whole or not at all.
func (j *journal) append(r record, live int) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(line); err != nil {
		return errors.Join(fmt.Errorf("journal of leases: %w", err), j.file.Truncate(j.size))
	}
	j.size += int64(len(line))
	j.lines++
	j.live += live
	if j.lines > 2*j.live+4096 {
		j.compact()
	}
	return nil
}

// compact leaves out what has ended. It is no loss if there is no room for it.
func (j *journal) compact() {
	leases, _, err := readJournal(j.path)
	if err == nil {
		err = j.rewrite(leases)
	}
	if err != nil {
		j.lines = 0 // not again at once
	}
}

// close closes the file; the journal stays for the next agent.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.file.Close()
}
