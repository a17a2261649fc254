package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lease"
)

func numbered(n byte) lease.Lease {
	return lease.Lease{ID: lease.ID{n}, Accounts: []lease.Account{{Name: "a", Domain: "b.c"}}, Owner: lease.Owner{Mode: 0o400}}
}

func openTestJournal(t *testing.T, path string) (*journal, string) {
	t.Helper()
	j, leases, unreadable, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.close() })
	var ids []string
	for _, l := range leases {
		ids = append(ids, fmt.Sprint(l.ID[0], l.Spec))
	}
	return j, fmt.Sprint(ids, unreadable)
}

func TestJournalGivesBackWhatIsAlive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, got := openTestJournal(t, path)
	if got != "[] 0" {
		t.Errorf("new journal: %s", got)
	}
	changed := numbered(2)
	changed.Spec = "x"
	for _, err := range []error{
		j.put(numbered(1), true), j.put(numbered(2), true), j.put(numbered(3), true),
		j.end(lease.ID{1}), j.put(changed, false), j.end(lease.ID{9}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	// A killed writer's line, and an operation of a later version.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"op":"lease","lease":{"id":"04`+"\n"+`{"op":"later","id":"03000000000000000000000000000000","x":1}`+"\n"+`{"op":"end","i`)
	f.Close()
	if _, got := openTestJournal(t, path); got != "[2x 3] 2" {
		t.Errorf("taken over: %s, want 2 as it was changed, 3, and two unreadable lines", got)
	}
	// The new file has no trace of what was unreadable.
	if _, got := openTestJournal(t, path); got != "[2x 3] 0" {
		t.Errorf("once more: %s", got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestJournalStaysSmall(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := openTestJournal(t, path)
	if err := j.put(numbered(1), true); err != nil {
		t.Fatal(err)
	}
	for range 10000 {
		if err := j.put(numbered(2), true); err != nil {
			t.Fatal(err)
		}
		if err := j.end(lease.ID{2}); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(b), "\n"); n > 10000 {
		t.Errorf("%d lines for one lease", n)
	}
	if _, got := openTestJournal(t, path); got != "[1] 0" {
		t.Errorf("taken over: %s", got)
	}
}

// Where there is no room for another file the present one goes on, without the line
// that its writer could not finish.
func TestJournalResumesWithoutRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, _ := openTestJournal(t, path)
	if err := j.put(numbered(1), true); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(f, `{"op":"end","i`)
	f.Close()
	resumed := &journal{path: path}
	if err := resumed.resume(1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resumed.close() })
	if err := resumed.put(numbered(2), true); err != nil {
		t.Fatal(err)
	}
	if _, got := openTestJournal(t, path); got != "[1 2] 0" {
		t.Errorf("taken over: %s", got)
	}
}
