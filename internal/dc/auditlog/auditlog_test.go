package auditlog

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/event"
)

func open(t *testing.T, path string, events *event.Log) *Log {
	t.Helper()
	l, err := Open(Config{Path: path, Events: events, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func read(t *testing.T, path string) (events []audit.Event) {
	t.Helper()
	for e, err := range Read(path) {
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
	return events
}

func TestEventsComeBackAsTheyWere(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	want := []audit.Event{
		{Time: time.Date(2026, 11, 28, 1, 2, 3, 4, time.UTC), Kind: audit.KindReadManagedPassword,
			SID: dtyp.NewSID(dtyp.AuthorityNT, 21, 1, 2, 3, 1001), Name: `CONTOSO\web1$`, From: netip.MustParseAddrPort("[::1]:1234"),
			Object: "CN=webapp01,CN=Managed Service Accounts,DC=contoso,DC=com", GUID: dtyp.GUID{7}},
		{Time: time.Date(2026, 11, 28, 1, 2, 4, 0, time.UTC), Kind: audit.KindLogon, Name: "nobody\n{\"kind\":\"add\"}", Error: "error 6"},
		{Time: time.Date(2026, 11, 28, 1, 2, 5, 0, time.UTC), Kind: audit.KindModify, Attributes: []string{"member", "description"}},
	}
	l := open(t, path, nil)
	for _, e := range want {
		l.Record(e)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, read(t, path), cmpopts.EquateComparable(dtyp.SID{}, netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestNamesOfClientsAreClipped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, path, nil)
	l.Record(audit.Event{Kind: audit.KindLogon, Name: strings.Repeat("\x00", 1<<20) + "\xff"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); len(got) != 1 || len(got[0].Name) > maxText+len("…") {
		t.Errorf("got %d events", len(got))
	}
}

// TestNothingIsLostInAFlood: events of many goroutines, while Run writes too, come out
// each once, and those of one goroutine in their order.
func TestNothingIsLostInAFlood(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, path, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.Run(ctx); close(ended) }()
	const writers, each = 4, 2 * maxWaiting
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				l.Record(audit.Event{Kind: audit.KindAdd, Name: strconv.Itoa(w), Object: strconv.Itoa(i)})
			}
		})
	}
	wg.Wait()
	cancel()
	<-ended
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	next := map[string]int{}
	for _, e := range read(t, path) {
		if e.Object != strconv.Itoa(next[e.Name]) {
			t.Fatalf("writer %s: got %s, want %d", e.Name, e.Object, next[e.Name])
		}
		next[e.Name]++
	}
	for w := range writers {
		if next[strconv.Itoa(w)] != each {
			t.Errorf("writer %d: %d events, want %d", w, next[strconv.Itoa(w)], each)
		}
	}
}

// TestRunWritesAtOnce: nobody has to close the log for an event to be there.
func TestRunWritesAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := open(t, path, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { l.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended; l.Close() }()
	l.Record(audit.Event{Kind: audit.KindAdd})
	for deadline := time.Now().Add(10 * time.Second); len(read(t, path)) == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no event in the file")
		}
	}
}

func TestARootKeyIsEvent4004(t *testing.T) {
	dir := t.TempDir()
	events, err := event.Open(event.Config{Path: filepath.Join(dir, "ccg.jsonl")})
	if err != nil {
		t.Fatal(err)
	}
	defer events.Close()
	l := open(t, filepath.Join(dir, "audit.jsonl"), events)
	made := dtyp.GUID{1}
	l.Record(audit.Event{Kind: audit.KindRootKeyCreated, GUID: made})
	l.Record(audit.Event{Kind: audit.KindRootKeyCreated, GUID: dtyp.GUID{2}, Error: "insufficient access rights (LDAP 50)"})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var got []event.Event
	for e, err := range event.Read(filepath.Join(dir, "ccg.jsonl"), event.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e)
	}
	if len(got) != 1 || got[0].ID != event.IDRootKeyCreated || got[0].RootKey != made.String() {
		t.Errorf("got %+v", got)
	}
}

func TestATornLineIsAnErrorOfItsOwn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	if err := os.WriteFile(path, []byte(`{"time":"2026-03-01T12:00:00Z","kind":"add","na`), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, path, nil)
	l.Record(audit.Event{Kind: audit.KindDelete})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	var kinds []audit.Kind
	var torn int
	for e, err := range Read(path) {
		if err != nil {
			torn++
			continue
		}
		kinds = append(kinds, e.Kind)
	}
	if torn != 1 || len(kinds) != 1 || kinds[0] != audit.KindDelete {
		t.Errorf("%d torn lines and %v", torn, kinds)
	}
}
