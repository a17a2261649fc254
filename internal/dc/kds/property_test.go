package kds

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/secret"
)

// history is a domain's life as a random test draws it: one account, root keys
// that come with whatever times their makers claim and go again, rotations,
// renames, and a clock that moves on.
type history struct {
	keys     []RootKey
	timeline Timeline
	now      dtyp.Filetime
	born     dtyp.Filetime
	told     []promise
	nextKey  byte
}

// promise is what a reader was told: until when the password of a period is
// certainly the current one, and until when it is in force.
type promise struct {
	period    Period
	unchanged dtyp.Filetime
	expires   dtyp.Filetime
}

func (h *history) ring() *Ring { return NewRing(gkdi.NewCache(0), h.keys...) }

// addKey adds a key whose own times say anything; WhenCreated is the truth.
func (h *history) addKey(t *rapid.T) {
	h.nextKey++
	anytime := func(name string) dtyp.Filetime {
		return h.now.Add(time.Duration(rapid.Int64Range(-2000, 2000).Draw(t, name)) * time.Hour)
	}
	h.keys = append(h.keys, RootKey{
		RootKey: gkdi.RootKey{ID: dtyp.GUID{h.nextKey}, Version: 1, Hash: gkdi.SHA256, Key: secret.New(make([]byte, 64)),
			UseStart: anytime("use"), Created: anytime("created")},
		WhenCreated: h.now,
	})
}

func newHistory(t *rapid.T) *history {
	h := &history{now: day0.Add(time.Duration(rapid.Int64Range(0, 1e6).Draw(t, "born")) * time.Second)}
	h.addKey(t)
	h.keys[0].UseStart, h.keys[0].Founding = 0, true
	h.born = h.now
	days := rapid.Int64Range(1, 40).Draw(t, "days")
	timeline, err := Create(h.ring(), h.now, days, "A")
	if err != nil {
		t.Fatal(err)
	}
	h.timeline = timeline
	return h
}

func samePassword(a, b Period) bool {
	return a.KeyID == b.KeyID && a.RootKey == b.RootKey && a.KVNO == b.KVNO && a.Salt == b.Salt
}

// read reads the account as a controller does whose clock is off by at most the
// tolerance.
func (h *history) read(t *rapid.T) Reading {
	skew := time.Duration(rapid.Int64Range(-300, 300).Draw(t, "skew")) * time.Second
	r, err := h.timeline.Read(h.born, h.now.Add(skew))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestNothingThatARootKeyDoesChangesAPasswordInItsInterval is the promise of the
// whole design: root keys added with arbitrary times, removed, and renames in
// between never change a password that anybody was told, before it expires.
// Every controller refreshes the timeline whenever it likes.
func TestNothingThatARootKeyDoesChangesAPasswordInItsInterval(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				h.addKey(t)
			case 1:
				if len(h.keys) > 1 {
					i := rapid.IntRange(0, len(h.keys)-1).Draw(t, "removed")
					h.keys = slices.Delete(slices.Clone(h.keys), i, i+1)
				}
			case 2:
				h.rename(t)
			default:
				h.promise(t, h.read(t))
			}
			if refreshed, _, err := h.timeline.Refresh(h.ring(), h.now); err == nil {
				h.timeline = refreshed
			}
			h.now = h.now.Add(time.Duration(rapid.Int64Range(0, 30*3600).Draw(t, "passes")) * time.Second)
			h.keep(t)
		}
	})
}

func (h *history) rename(t *rapid.T) {
	renamed, err := h.timeline.Rename(h.now, rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "salt"))
	if err != nil {
		t.Fatal(err)
	}
	h.timeline = renamed
}

func (h *history) promise(t *rapid.T, r Reading) {
	if r.Unchanged < 0 || r.Query < 0 {
		t.Fatalf("negative interval: %+v", r)
	}
	h.told = append(h.told, promise{r.Current, r.Current.End - gkdi.MaxClockSkew, r.Current.End})
}

// keep checks every promise at the present time.
func (h *history) keep(t *rapid.T) {
	r, err := h.timeline.Read(h.born, h.now)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := h.timeline.Accepted(h.now)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range h.told {
		if h.now >= p.period.Start && h.now < p.unchanged && !samePassword(r.Current, p.period) {
			t.Fatalf("at %v the current password is %+v; a reader was told %+v until %v", h.now, r.Current, p.period, p.unchanged)
		}
		if h.now+gkdi.MaxClockSkew >= p.period.Start && h.now < p.expires+gkdi.MaxClockSkew &&
			!slices.ContainsFunc(accepted, func(a Period) bool { return samePassword(a, p.period) }) {
			t.Fatalf("at %v the KDC accepts %+v; a reader was told %+v until %v", h.now, accepted, p.period, p.expires)
		}
	}
}

// TestReadersAndTheKDCAgree: at every instant every password that a reader is
// given as current is accepted, what is in force comes first, kvno counts the
// periods without a gap, and the periods cover the time without one; forced
// rotations included.
func TestReadersAndTheKDCAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHistory(t)
		for range rapid.IntRange(0, 6).Draw(t, "changes") {
			h.addKey(t)
			var err error
			if rapid.Bool().Draw(t, "rotate") {
				h.timeline, err = h.timeline.Rotate(h.ring(), h.now)
			} else {
				h.timeline, _, err = h.timeline.Refresh(h.ring(), h.now)
			}
			if err != nil {
				t.Fatal(err)
			}
			h.now = h.now.Add(time.Duration(rapid.Int64Range(0, 100).Draw(t, "hours")) * time.Hour)
		}
		start, err := h.timeline.entries[0].First.Start()
		if err != nil {
			t.Fatal(err)
		}
		p, err := h.timeline.At(start)
		if err != nil {
			t.Fatal(err)
		}
		for range 12 {
			h.checkPeriod(t, p)
			next, err := h.timeline.Next(p)
			if err != nil {
				t.Fatal(err)
			}
			if back, ok := h.timeline.Previous(next); !ok || back != p {
				t.Fatalf("before %+v lies %+v, want %+v", next, back, p)
			}
			if next.KVNO != p.KVNO+1 || next.Start != p.End || next.KeyID.Compare(p.KeyID) <= 0 {
				t.Fatalf("%+v follows %+v", next, p)
			}
			p = next
		}
	})
}

// checkPeriod asks at instants of p, those at its edges above all.
func (h *history) checkPeriod(t *rapid.T, p Period) {
	length := uint64(p.End - p.Start)
	for _, at := range []dtyp.Filetime{p.Start, p.Start + gkdi.MaxClockSkew - 1, p.Start + gkdi.MaxClockSkew,
		p.End - gkdi.MaxClockSkew - 1, p.End - gkdi.MaxClockSkew, p.End - 1,
		p.Start + dtyp.Filetime(rapid.Uint64Range(0, length-1).Draw(t, "at"))} {
		if got, err := h.timeline.At(at); err != nil || got != p {
			t.Fatalf("at %v: %+v, want %+v (%v)", at, got, p, err)
		}
		r, err := h.timeline.Read(h.born, at)
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := h.timeline.Accepted(at)
		if err != nil {
			t.Fatal(err)
		}
		if previous, ok := h.timeline.Previous(p); slices.Contains(accepted, previous) != (ok && at-p.Start < gkdi.MaxClockSkew) {
			t.Fatalf("%v after the start of %+v the KDC accepts %+v", at-p.Start, p, accepted)
		}
		if accepted[0] != p || !slices.Contains(accepted, r.Current) {
			t.Fatalf("at %v the KDC accepts %+v, a reader has %+v", at, accepted, r.Current)
		}
		if r.Current != p && (!r.HasPrevious || r.Previous != p) {
			t.Fatalf("at %v a reader has the next password without the one in force: %+v", at, r)
		}
		if window := p.End-at <= gkdi.MaxClockSkew; (r.Current != p) != window || r.Query != (p.End-at).Sub(0) {
			t.Fatalf("at %v, %v before the end: %+v", at, p.End-at, r)
		}
	}
}
