package dtyp

import (
	"math"
	"time"
)

// Filetime is a moment as [MS-DTYP] 2.3.3 counts it: ticks of 100 ns since
// 1601-01-01 00:00 UTC. 0 commonly stands for "not set".
type Filetime uint64

const (
	// Never is the largest Filetime that a signed LDAP Integer8 can hold; AD
	// writes it for what does not expire.
	Never Filetime = math.MaxInt64
	// Tick is the unit of a Filetime.
	Tick = 100 * time.Nanosecond
	// TicksPerSecond is the number of ticks in a second.
	TicksPerSecond = uint64(time.Second / Tick)
	// MaxFiletime is the largest Filetime; its year is 60056.
	MaxFiletime Filetime = math.MaxUint64

	// epochSeconds lies between 1601-01-01 and 1970-01-01.
	epochSeconds = 11644473600
)

// FiletimeOf converts t, dropping what is less than a tick. A moment before
// 1601 becomes 0, one after the range [MaxFiletime].
func FiletimeOf(t time.Time) Filetime {
	seconds := t.Unix() // rounds down, so that Nanosecond counts up from it
	if seconds < -epochSeconds {
		return 0
	}
	ticks := uint64(t.Nanosecond()) / uint64(Tick)
	whole := uint64(seconds + epochSeconds)
	if whole > (math.MaxUint64-ticks)/TicksPerSecond {
		return MaxFiletime
	}
	return Filetime(whole*TicksPerSecond + ticks)
}

// Time is f in UTC; that of 0 is 1601-01-01.
func (f Filetime) Time() time.Time {
	seconds := int64(uint64(f) / TicksPerSecond)
	rest := int64(uint64(f) % TicksPerSecond)
	return time.Unix(seconds-epochSeconds, rest*int64(Tick)).UTC()
}

// IsZero reports whether f is 0, "not set".
func (f Filetime) IsZero() bool { return f == 0 }

// IsNever reports whether f means that something does not expire: [Never] and
// all that is later.
func (f Filetime) IsNever() bool { return f >= Never }

// Add moves f by d, saturating at 0 and [MaxFiletime].
func (f Filetime) Add(d time.Duration) Filetime {
	if d < 0 {
		back := Filetime(-(d / Tick))
		if back > f {
			return 0
		}
		return f - back
	}
	sum := f + Filetime(d/Tick)
	if sum < f {
		return MaxFiletime
	}
	return sum
}

// Sub is f - g, saturating at the range of a Duration (292 years).
func (f Filetime) Sub(g Filetime) time.Duration {
	if f < g {
		return -g.Sub(f)
	}
	if f-g > Filetime(math.MaxInt64/Tick) {
		return math.MaxInt64
	}
	return time.Duration(f-g) * Tick
}

// String is f in RFC 3339 with all seven digits of its fraction, "never" or
// "unset". The decimal number that LDAP carries is fmt's %d.
func (f Filetime) String() string {
	switch {
	case f.IsZero():
		return "unset"
	case f.IsNever():
		return "never"
	}
	return f.Time().Format("2006-01-02T15:04:05.0000000Z07:00")
}
