package dtyp

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestFiletime(t *testing.T) {
	for name, c := range map[string]struct {
		filetime Filetime
		time     time.Time
		printed  string
	}{
		"the epoch":               {0, time.Date(1601, 1, 1, 0, 0, 0, 0, time.UTC), "unset"},
		"one tick":                {1, time.Date(1601, 1, 1, 0, 0, 0, 100, time.UTC), "1601-01-01T00:00:00.0000001Z"},
		"the Unix epoch":          {116444736000000000, time.Unix(0, 0).UTC(), "1970-01-01T00:00:00.0000000Z"},
		"a moment of a KDS key":   {133524411756072082, time.Date(2024, 2, 15, 3, 26, 15, 607208200, time.UTC), "2024-02-15T03:26:15.6072082Z"},
		"just before Unix' epoch": {116444735999999999, time.Unix(-1, 999999900).UTC(), "1969-12-31T23:59:59.9999999Z"},
		"never":                   {Never, time.Date(30828, 9, 14, 2, 48, 5, 477580700, time.UTC), "never"},
		"the last one":            {MaxFiletime, time.Date(60056, 5, 28, 5, 36, 10, 955161500, time.UTC), "never"},
	} {
		if got := c.filetime.Time(); !got.Equal(c.time) {
			t.Errorf("%s: Time() = %v, want %v", name, got, c.time)
		}
		if got := FiletimeOf(c.time); got != c.filetime {
			t.Errorf("%s: FiletimeOf = %d, want %d", name, uint64(got), uint64(c.filetime))
		}
		if got := c.filetime.String(); got != c.printed {
			t.Errorf("%s: prints as %s, want %s", name, got, c.printed)
		}
	}
}

func TestFiletimeEdges(t *testing.T) {
	if got := FiletimeOf(time.Date(1600, 12, 31, 23, 59, 59, 999999999, time.UTC)); got != 0 {
		t.Errorf("before 1601: %d", uint64(got))
	}
	if got := FiletimeOf(time.Date(70000, 1, 1, 0, 0, 0, 0, time.UTC)); got != MaxFiletime {
		t.Errorf("after the range: %d", uint64(got))
	}
	if got := FiletimeOf(time.Date(1601, 1, 1, 0, 0, 0, 199, time.UTC)); got != 1 {
		t.Errorf("199 ns: %d ticks, want 1", uint64(got))
	}
	if got := Filetime(5).Add(-time.Second); got != 0 {
		t.Errorf("Add below 0: %d", uint64(got))
	}
	if got := MaxFiletime.Add(time.Second); got != MaxFiletime {
		t.Errorf("Add above the range: %d", uint64(got))
	}
	if got := Filetime(20_000_000).Add(-time.Second).Add(10 * time.Hour); got != 360_010_000_000 {
		t.Errorf("Add: %d", uint64(got))
	}
	if got := Filetime(10).Sub(30); got != -2*time.Microsecond {
		t.Errorf("Sub: %v", got)
	}
	if got := MaxFiletime.Sub(0); got != math.MaxInt64 {
		t.Errorf("Sub over the range: %v", got)
	}
	if Never-1 >= Never || (Never - 1).IsNever() || !Never.IsNever() || !Filetime(0).IsZero() {
		t.Error("IsNever, IsZero")
	}
}

func TestFiletimeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := Filetime(rapid.Uint64().Draw(t, "filetime"))
		if got := FiletimeOf(f.Time()); got != f {
			t.Fatalf("got %d, want %d", uint64(got), uint64(f))
		}
	})
}
