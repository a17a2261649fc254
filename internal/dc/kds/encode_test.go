package kds

import (
	"bytes"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
)

func sample() Timeline {
	return Timeline{cycles: 72, entries: []Entry{
		{First: gkdi.KeyID{L0: 362, L1: 7, L2: 23}, RootKey: dtyp.GUID{1, 2, 3}, KVNO: 1, Salt: "CONTOSO.COMhostä.contoso.com"},
		{First: gkdi.KeyID{L0: 362, L1: 9, L2: 31}, RootKey: dtyp.GUID{4}, KVNO: 2},
	}}
}

func TestEncodingOfATimeline(t *testing.T) {
	want := sample()
	b := want.Append(nil)
	got, err := Parse(b)
	if err != nil || !cmp.Equal(got, want, cmp.AllowUnexported(Timeline{})) {
		t.Errorf("got %+v, %v", got, err)
	}
	if !bytes.HasPrefix(b, []byte{1, 0, 0, 0, 72, 0, 2, 0, 0, 1, 106, 7, 23, 1, 2, 3}) {
		t.Errorf("the encoding begins with % x", b[:16])
	}
	for n := range b {
		if _, err := Parse(b[:n]); !errors.Is(err, ErrTimeline) {
			t.Errorf("prefix of %d bytes: %v", n, err)
		}
	}
	if _, err := Parse(append(b, 0)); !errors.Is(err, ErrTimeline) {
		t.Errorf("a trailing byte: %v", err)
	}
}

func TestTimelinesThatAreNone(t *testing.T) {
	for name, change := range map[string]func(*Timeline){
		"no interval":            func(t *Timeline) { t.cycles = 0 },
		"an interval of ages":    func(t *Timeline) { t.cycles = maxCycles + 1 },
		"no entry":               func(t *Timeline) { t.entries = nil },
		"too many entries":       func(t *Timeline) { t.entries = make([]Entry, MaxEntries+1) },
		"entries that go back":   func(t *Timeline) { t.entries[1].First.L0-- },
		"two that begin at once": func(t *Timeline) { t.entries[1].First = t.entries[0].First },
		"an L2 index of 32":      func(t *Timeline) { t.entries[1].First.L2 = 32 },
		"a start past FILETIME":  func(t *Timeline) { t.entries[1].First.L0 = 50040 },
		"a salt of Latin-1":      func(t *Timeline) { t.entries[1].Salt = "h\xe4" },
	} {
		timeline := sample()
		change(&timeline)
		if _, err := Parse(timeline.Append(nil)); !errors.Is(err, ErrTimeline) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b := sample().Append(nil)
	b[0] = 2
	if _, err := Parse(b); !errors.Is(err, ErrTimeline) {
		t.Errorf("another version: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sample().Append(nil))
	f.Add([]byte{1, 0, 0, 0, 72, 0, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		timeline, err := Parse(b)
		if err != nil {
			return
		}
		if again := timeline.Append(nil); !bytes.Equal(again, b) {
			t.Errorf("% x encodes as % x", b, again)
		}
		for _, now := range []dtyp.Filetime{0, day0, dtyp.Never, dtyp.MaxFiletime} {
			if r, err := timeline.Read(day0, now); err == nil && r.HasPrevious && r.Previous.KVNO > r.Current.KVNO+1 && len(timeline.entries) == 1 {
				t.Errorf("kvno %d before %d", r.Previous.KVNO, r.Current.KVNO)
			}
		}
	})
}
