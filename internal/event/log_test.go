package event

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// numberedEvent is an event that carries n in its reason.
func numberedEvent(n int) Event {
	e := FetchFailed(Account{Name: "webapp01", Domain: "contoso.com"}, Keytab, errors.New(strconv.Itoa(n)))
	e.Time = start.Add(time.Duration(n) * time.Second)
	return e
}

func openLog(t *testing.T, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func writeAll(t *testing.T, l *Log, events ...Event) {
	t.Helper()
	for _, e := range events {
		if err := l.Write(e); err != nil {
			t.Fatal(err)
		}
	}
}

// reasons reads a log and returns the reasons of its events, "!" for a line
// that is no event.
func reasons(t *testing.T, path string, f Filter) []string {
	t.Helper()
	var got []string
	for e, err := range Read(path, f) {
		if _, ok := errors.AsType[*LineError](err); ok {
			got = append(got, "!")
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Reason)
	}
	return got
}

func TestRotationKeepsOrderCountAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ccg.jsonl")
	l := openLog(t, Config{Path: path, MaxSize: 1000, MaxFiles: 3})
	const n = 40
	for i := range n {
		writeAll(t, l, numberedEvent(i))
	}
	names, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(names) != 3 {
		t.Fatalf("files %v, %v, want 3", names, err)
	}
	for _, name := range names {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("%s: mode %v, %v, want 0640", name, info.Mode(), err)
		}
	}
	got := reasons(t, path, Filter{})
	if len(got) < 3 || got[len(got)-1] != strconv.Itoa(n-1) {
		t.Fatalf("events read: %v", got)
	}
	first, _ := strconv.Atoi(got[0])
	for i, r := range got {
		if r != strconv.Itoa(first+i) {
			t.Fatalf("out of order at %d: %v", i, got)
		}
	}
}

func TestOneFileOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "made", "ccg.jsonl")
	l := openLog(t, Config{Path: path, MaxSize: 1000, MaxFiles: 1})
	for i := range 20 {
		writeAll(t, l, numberedEvent(i))
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("%d files, want 1", len(entries))
	}
	if info, _ := os.Stat(path); info.Size() > 1000 {
		t.Errorf("%d bytes, want at most 1000", info.Size())
	}
}

// Several processes append to one log: each is a Log of its own.
func TestConcurrentWritersLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ccg.jsonl")
	var wg sync.WaitGroup
	const writers, each = 4, 100
	for w := range writers {
		l := openLog(t, Config{Path: path, MaxSize: 8 << 10, MaxFiles: 1000})
		wg.Go(func() {
			for i := range each {
				if err := l.Write(numberedEvent(w*each + i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]int{}
	for _, r := range reasons(t, path, Filter{}) {
		seen[r]++
	}
	for i := range writers * each {
		if seen[strconv.Itoa(i)] != 1 {
			t.Errorf("event %d is in the log %d times", i, seen[strconv.Itoa(i)])
		}
	}
}

// A line that was cut short costs that line alone.
func TestTornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ccg.jsonl")
	if err := os.WriteFile(path, []byte(`{"time":"2026-03-01T12:00:00Z","id":8,"mess`), 0o640); err != nil {
		t.Fatal(err)
	}
	writeAll(t, openLog(t, Config{Path: path}), numberedEvent(1))
	if got := reasons(t, path, Filter{}); len(got) != 2 || got[0] != "!" || got[1] != "1" {
		t.Errorf("read %q, want the torn line reported and event 1", got)
	}
}

// A rotation killed between its two steps leaves the file under both names.
func TestRotationKilledHalfway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ccg.jsonl")
	l := openLog(t, Config{Path: path, MaxSize: 1, MaxFiles: 4})
	writeAll(t, l, numberedEvent(0)) // rotated away at once
	if err := os.WriteFile(path, nil, 0o640); err != nil {
		t.Fatal(err)
	}
	quiet := openLog(t, Config{Path: path})
	writeAll(t, quiet, numberedEvent(1))
	if err := errors.Join(os.Rename(path+".1", path+".2"), os.Link(path, path+".1")); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(reasons(t, path, Filter{})); got != "[0 1]" {
		t.Errorf("before: %s, want [0 1]", got)
	}
	writeAll(t, l, numberedEvent(2))
	if got := fmt.Sprint(reasons(t, path, Filter{})); got != "[0 1 2]" {
		t.Errorf("after: %s, want [0 1 2]", got)
	}
}

func TestFilter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ccg.jsonl")
	l := openLog(t, Config{Path: path, Now: func() time.Time { return start.Add(time.Hour) }})
	writeAll(t, l, numberedEvent(0), numberedEvent(1), SpecUnparsable(errors.New("spec")),
		FetchFailed(Account{Name: "webapp01", Domain: "fabrikam.com"}, Keytab, errors.New("other")))
	for name, tt := range map[string]struct {
		filter Filter
		want   string
	}{
		"everything":                {Filter{}, "[0 1 spec other]"},
		"by number":                 {Filter{IDs: []ID{3, 4}}, "[spec]"},
		"by plain name":             {Filter{Account: "WEBAPP01$"}, "[0 1 other]"},
		"by down-level name":        {Filter{Account: `CONTOSO\WebApp01$`}, "[0 1 other]"},
		"by name and domain":        {Filter{Account: "webapp01@Contoso.com"}, "[0 1]"},
		"since a moment, inclusive": {Filter{Since: start.Add(time.Second)}, "[1 spec other]"},
		"until a moment, exclusive": {Filter{Until: start.Add(time.Second)}, "[0]"},
	} {
		if got := fmt.Sprint(reasons(t, path, tt.filter)); got != tt.want {
			t.Errorf("%s: %s, want %s", name, got, tt.want)
		}
	}
}

func TestReadFileOfAnotherHost(t *testing.T) {
	path := filepath.Join(t.TempDir(), "export.jsonl")
	line := `{"time":"2026-03-01T12:00:00Z","channel":"c","id":2,"level":"information","message":"a\u001b[2Jb","later":{"x":1}}`
	if err := os.WriteFile(path, []byte(line+"\n\n"+strings.Repeat("x", maxLine+1)+"\n"+line), 0o600); err != nil {
		t.Fatal(err)
	}
	var events, faults int
	for e, err := range ReadFile(path, Filter{}) {
		if err != nil {
			faults++
			if !strings.Contains(err.Error(), "export.jsonl:3: line over") {
				t.Errorf("fault %v", err)
			}
			continue
		}
		events++
		if strings.Contains(e.Message, "\x1b") {
			t.Errorf("message %q", e.Message)
		}
	}
	if events != 2 || faults != 1 {
		t.Errorf("%d events and %d faults, want 2 and 1", events, faults)
	}
	for _, err := range ReadFile(path+".gone", Filter{}) {
		if !errors.Is(err, os.ErrNotExist) {
			t.Errorf("missing file: %v", err)
		}
	}
	for e, err := range Read(path+".gone", Filter{}) {
		t.Errorf("a log not yet written yields %v, %v", e, err)
	}
}

func TestFollowThroughRotations(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ccg.jsonl")
	const n = 300
	go func() {
		time.Sleep(20 * time.Millisecond) // the follower starts without a log
		l, err := Open(Config{Path: path, MaxSize: 2000, MaxFiles: 100})
		if err != nil {
			t.Error(err)
			return
		}
		defer l.Close()
		for i := range n {
			if err := l.Write(numberedEvent(i)); err != nil {
				t.Error(err)
			}
			if i%50 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
		}
	}()
	next := 0
	for e, err := range Follow(t.Context(), path, Filter{}, time.Millisecond) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Reason != strconv.Itoa(next) {
			t.Fatalf("event %s, want %d", e.Reason, next)
		}
		if next++; next == n {
			break
		}
	}
	if next != n {
		t.Errorf("%d events, want %d", next, n)
	}
}

// TestKilledWriters kills writers at random moments: afterwards each line is an
// event, apart from at most one torn line per kill, and no event is there twice.
func TestKilledWriters(t *testing.T) {
	const child = "EVENT_TEST_WRITER"
	if path := os.Getenv(child); path != "" {
		l, err := Open(Config{Path: path, MaxSize: 4000, MaxFiles: 200})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		pid := os.Getpid() * 1_000_000
		for i := 0; ; i++ {
			if err := l.Write(numberedEvent(pid + i)); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "ccg.jsonl")
	const kills = 8
	for i := range kills {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWriters$")
		cmd.Env = append(os.Environ(), child+"="+path)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		waitForGrowth(t, path)
		time.Sleep(time.Duration(i) * 700 * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); !strings.Contains(fmt.Sprint(err), "killed") {
			t.Fatalf("writer ended by itself: %v\n%s", err, out.String())
		}
	}
	torn := 0
	seen := map[string]bool{}
	for _, r := range reasons(t, path, Filter{}) {
		if r == "!" {
			torn++
		} else if seen[r] {
			t.Errorf("event %s twice", r)
		}
		seen[r] = true
	}
	if torn > kills || len(seen) < kills {
		t.Errorf("%d torn lines, %d events after %d kills", torn, len(seen), kills)
	}
}

// waitForGrowth waits until somebody has written to the log at path.
func waitForGrowth(t *testing.T, path string) {
	t.Helper()
	before, _ := os.Stat(path)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		now, err := os.Stat(path)
		if err == nil && (before == nil || !os.SameFile(before, now) || now.Size() > before.Size()) {
			return
		}
	}
	t.Fatal("no writer writes")
}
