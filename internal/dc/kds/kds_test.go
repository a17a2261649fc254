package kds

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/secret"
)

// day0 is a time inside a key cycle: 7 h 30 min after it began.
var day0 = dtyp.FiletimeOf(time.Date(2026, 11, 20, 13, 30, 0, 0, time.UTC))

const hour = dtyp.Filetime(dtyp.TicksPerSecond * 3600)

// testKey is a root key whose id begins with n, made and usable from since on.
func testKey(n byte, since dtyp.Filetime) RootKey {
	key := gkdi.RootKey{ID: dtyp.GUID{n}, Version: 1, Hash: gkdi.SHA512, Key: secret.New(bytes.Repeat([]byte{n}, 64)),
		UseStart: since, Created: since}
	return RootKey{RootKey: key, WhenCreated: since}
}

func ringOf(keys ...RootKey) *Ring { return NewRing(gkdi.NewCache(0), keys...) }

func mustCreate(t *testing.T, ring *Ring, now dtyp.Filetime, days int64) Timeline {
	t.Helper()
	timeline, err := Create(ring, now, days, "SALT")
	if err != nil {
		t.Fatal(err)
	}
	return timeline
}

func mustAt(t *testing.T, timeline Timeline, now dtyp.Filetime) Period {
	t.Helper()
	p, err := timeline.At(now)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestWhichRootKeyServes(t *testing.T) {
	id := gkdi.KeyIDAt(day0)
	start, _ := id.Start()
	with := func(k RootKey, change func(*RootKey)) RootKey { change(&k); return k }
	for name, c := range map[string]struct {
		keys []RootKey
		want byte // first byte of the id, 0 for none
	}{
		"none":                               {nil, 0},
		"one in use":                         {[]RootKey{testKey(1, start)}, 1},
		"one that begins within the cycle":   {[]RootKey{testKey(1, start+1)}, 0},
		"the newest by creation":             {[]RootKey{testKey(2, start-5), testKey(1, start-9)}, 2},
		"the newest, though used for longer": {[]RootKey{testKey(1, start-5), with(testKey(2, start-9), func(k *RootKey) { k.Created = start - 1 })}, 2},
		"one that claims to be old": {[]RootKey{testKey(1, start-9),
			with(testKey(2, start-5), func(k *RootKey) { k.WhenCreated = day0 })}, 1},
		"the founding key at once":            {[]RootKey{with(testKey(1, start-5), func(k *RootKey) { k.WhenCreated, k.Founding = day0, true })}, 1},
		"the founding key not before its use": {[]RootKey{with(testKey(1, start+1), func(k *RootKey) { k.Founding = true })}, 0},
		"one that nobody can derive from":     {[]RootKey{testKey(1, start-9), with(testKey(2, start-5), func(k *RootKey) { k.Version = 2 })}, 1},
		"two of one tick: the greater id":     {[]RootKey{testKey(2, start-5), testKey(1, start-5)}, 2},
	} {
		got, err := ringOf(c.keys...).Select(id)
		if got != (dtyp.GUID{c.want}) || errors.Is(err, gkdi.ErrNoRootKey) != (c.want == 0) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestIntervalsThatNoAccountCanHave(t *testing.T) {
	ring := ringOf(testKey(1, 0))
	for _, days := range []int64{-1, 0, 366_001, 1 << 62} {
		if _, err := Create(ring, day0, days, ""); !errors.Is(err, ErrInterval) {
			t.Errorf("%d days: %v", days, err)
		}
	}
	timeline := mustCreate(t, ring, day0, 366_000)
	if p := mustAt(t, timeline, day0); p.End.Time().Year() < 3000 {
		t.Errorf("a thousand years end in %v", p.End)
	}
	if _, err := Create(ring, day0, 30, strings.Repeat("x", MaxSalt+1)); !errors.Is(err, ErrTimeline) {
		t.Errorf("a salt without end: %v", err)
	}
}

func TestANewRootKeyServesFromTheNextUndecidedPeriod(t *testing.T) {
	timeline := mustCreate(t, ringOf(testKey(1, 0)), day0, 30)
	p := mustAt(t, timeline, day0)
	for name, c := range map[string]struct {
		now  dtyp.Filetime
		from uint32 // kvno of the first period with the new key
	}{
		"added in the middle":                 {p.Start + 100*hour, 2},
		"added as late as can be":             {p.End - Notice - 1, 2},
		"added when others may have told it":  {p.End - Notice, 3},
		"added while the window is open":      {p.End - 1, 3},
		"added at the first tick of a period": {p.End, 3},
	} {
		both := ringOf(testKey(1, 0), testKey(2, c.now))
		got, changed, err := timeline.Refresh(both, c.now)
		if err != nil || !changed {
			t.Fatalf("%s: changed %t, %v", name, changed, err)
		}
		for kvno, q := uint32(1), mustAt(t, got, day0); kvno < 6; kvno++ {
			want := dtyp.GUID{1}
			if kvno >= c.from {
				want = dtyp.GUID{2}
			}
			if q.KVNO != kvno || q.RootKey != want {
				t.Errorf("%s: period %d: kvno %d from %v, want %v", name, kvno, q.KVNO, q.RootKey, want)
			}
			if q, err = got.Next(q); err != nil {
				t.Fatal(err)
			}
		}
		if again, changed, err := got.Refresh(both, c.now); changed || err != nil || len(again.entries) != 2 {
			t.Errorf("%s: a second call changed %t, %v", name, changed, err)
		}
	}
}

func TestARemovedRootKeyIsReplacedAtTheNextPeriod(t *testing.T) {
	timeline := mustCreate(t, ringOf(testKey(2, 0), testKey(1, 0)), day0, 30)
	left := ringOf(testKey(1, 0))
	got, changed, err := timeline.Refresh(left, day0)
	if err != nil || !changed {
		t.Fatal(changed, err)
	}
	p := mustAt(t, got, day0)
	r, err := got.Read(day0, day0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Blob(left, dtyp.SID{}); !errors.Is(err, gkdi.ErrNoRootKey) {
		t.Errorf("the password of a removed key: %v", err)
	}
	r, err = got.Read(day0, p.End)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := r.Blob(left, dtyp.SID{})
	if err != nil || !blob.Previous.IsZero() || r.Current.RootKey != (dtyp.GUID{1}) {
		t.Errorf("after the rollover: from %v, previous %d bytes, %v", r.Current.RootKey, blob.Previous.Len(), err)
	}
	if _, _, err := timeline.Refresh(ringOf(), day0); !errors.Is(err, gkdi.ErrNoRootKey) {
		t.Errorf("with no key left: %v", err)
	}
}

func TestAForcedRotation(t *testing.T) {
	ring := ringOf(testKey(1, 0))
	timeline := mustCreate(t, ring, day0, 30)
	got, err := timeline.Rotate(ring, day0)
	if err != nil {
		t.Fatal(err)
	}
	before, p := mustAt(t, timeline, day0), mustAt(t, got, day0)
	if p.KeyID != before.KeyID || p.KVNO != 1 || p.End > day0+10*hour+Notice || p.End <= day0+Notice {
		t.Errorf("the password in force: %+v, before %+v", p, before)
	}
	next, err := got.Next(p)
	if err != nil || next.KVNO != 2 || next.End-next.Start != timeline.Interval() || next.KeyID == p.KeyID {
		t.Errorf("the next: %+v, %v", next, err)
	}
	if r, err := got.Read(day0, p.End+hour); err != nil || !r.HasPrevious || r.Previous.KVNO != 1 {
		t.Errorf("a period that was cut short hides its password: %+v, %v", r, err)
	}
	if r, err := got.Read(day0, p.End-1); err != nil || r.Current.KVNO != 2 || r.Previous.KVNO != 1 {
		t.Errorf("the window before it: %+v, %v", r, err)
	}
}

// TestARotationTakesOverWhatWasToBeginLater: an entry for a later period gives
// way, and its salt is not lost.
func TestARotationTakesOverWhatWasToBeginLater(t *testing.T) {
	ring := ringOf(testKey(1, 0))
	renamed, err := mustCreate(t, ring, day0, 30).Rename(day0, "NEWSALT")
	if err != nil {
		t.Fatal(err)
	}
	if p := mustAt(t, renamed, day0); p.Salt != "SALT" {
		t.Errorf("the keys in force have the salt %q", p.Salt)
	}
	if p := mustAt(t, renamed, day0+31*24*hour); p.Salt != "NEWSALT" || p.KVNO != 2 {
		t.Errorf("the next keys: %+v", p)
	}
	rotated, err := renamed.Rotate(ring, day0)
	if err != nil {
		t.Fatal(err)
	}
	if e := rotated.Entries(); len(e) != 2 || e[1].Salt != "NEWSALT" || e[1].KVNO != 2 {
		t.Errorf("entries %+v", e)
	}
	if same, err := renamed.Rename(day0, "NEWSALT"); err != nil || len(same.entries) != 2 {
		t.Errorf("renamed to the same: %+v, %v", same, err)
	}
}

func TestATimelineStaysShort(t *testing.T) {
	ring := ringOf(testKey(1, 0))
	timeline := mustCreate(t, ring, day0, 1)
	now := day0
	for i := range 500 {
		var err error
		if timeline, err = timeline.Rotate(ring, now); err != nil {
			t.Fatalf("rotation %d: %v", i, err)
		}
		if i%3 == 0 {
			now += 9 * hour
		}
		if len(timeline.entries) > 6 {
			t.Fatalf("rotation %d: %d entries", i, len(timeline.entries))
		}
	}
}

func TestTimesOutOfRange(t *testing.T) {
	ring := ringOf(testKey(1, 0))
	timeline := mustCreate(t, ring, day0, 30)
	if p := mustAt(t, timeline, day0-1000*24*hour); p.KVNO != 1 {
		t.Errorf("before the account was made: %+v", p)
	}
	if r, err := timeline.Read(day0, 0); err != nil || r.Current.KVNO != 1 || r.Query != 30*24*time.Hour {
		t.Errorf("a reading at the beginning of time: %+v, %v", r, err)
	}
	if _, err := timeline.At(dtyp.MaxFiletime); err == nil {
		t.Error("a period that ends after FILETIME")
	}
	if _, err := timeline.Rotate(ring, dtyp.MaxFiletime-Notice); err == nil {
		t.Error("a rotation at the end of FILETIME")
	}
	worn := Timeline{cycles: 2, entries: []Entry{{First: gkdi.KeyIDAt(day0), RootKey: dtyp.GUID{1}, KVNO: 1<<32 - 1}}}
	if p := mustAt(t, worn, day0); p.KVNO != 1<<32-1 {
		t.Errorf("the last kvno: %+v", p)
	}
	if _, err := worn.At(day0 + 21*hour); !errors.Is(err, ErrTimeline) {
		t.Errorf("after the last kvno: %v", err)
	}
	if _, err := worn.Rotate(ring, day0); !errors.Is(err, ErrTimeline) {
		t.Errorf("a rotation after the last kvno: %v", err)
	}
}

func TestRemovalIsRefusedWhileAPasswordNeedsTheKey(t *testing.T) {
	timeline := mustCreate(t, ringOf(testKey(1, 0)), day0, 30)
	timeline, _, err := timeline.Refresh(ringOf(testKey(1, 0), testKey(2, day0)), day0)
	if err != nil {
		t.Fatal(err)
	}
	first := mustAt(t, timeline, day0)
	second, err := timeline.Next(first)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		at       dtyp.Filetime
		old, new bool
	}{
		"long before the rollover":     {day0, true, false},
		"when the next one is told":    {first.End - Notice, true, true},
		"while it is the previous one": {second.Start, true, true},
		"an interval later":            {second.End, false, true},
	} {
		for id, want := range map[byte]bool{1: c.old, 2: c.new} {
			if got, err := timeline.UsesRootKey(dtyp.GUID{id}, c.at); err != nil || got != want {
				t.Errorf("%s: key %d used: %t, want %t (%v)", name, id, got, want, err)
			}
		}
	}
}
