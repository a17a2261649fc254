package gkdi

import (
	"cmp"
	"errors"
	"fmt"
	"math"

	"github.com/opengmsa/opengmsa/dtyp"
)

const (
	// Cycle is the life of a key in 100 ns ticks: 10 h ([MS-GKDI] 3.1.4.1,
	// KEY_CYCLE_DURATION).
	Cycle dtyp.Filetime = 10 * 60 * 60 * 1e7
	// MaxClockSkew is the tolerance between controllers in 100 ns ticks:
	// 5 min ([MS-GKDI] 3.1.4.1). A password that changes within it is
	// announced beforehand.
	MaxClockSkew dtyp.Filetime = 5 * 60 * 1e7

	// fanOut is how many L1 keys an L0 epoch has, and L2 keys an L1 period.
	fanOut = 32
)

// ErrKeyID is wrapped by every refusal of a key id, a time or an interval
// that lies outside of what [MS-GKDI] allows (STATUS_INVALID_PARAMETER).
var ErrKeyID = errors.New("invalid group key id")

// KeyID names an interval ([MS-GKDI] 3.1.4.1: the L0, L1 and L2 index). The
// zero value is the first interval, the ten hours after 1601-01-01. L1 and L2
// run from 0 to 31; -1 in L2 names the L1 seed, where a function allows it.
type KeyID struct{ L0, L1, L2 int32 }

// KeyIDAt is the interval that t falls into. It is total: the last tick of
// Filetime lies in interval 50039-31-27.
func KeyIDAt(t dtyp.Filetime) KeyID { return keyIDOf(uint64(t / Cycle)) }

// keyIDOf splits a count of cycles since 1601; n is below 2^41.
func keyIDOf(n uint64) KeyID {
	return KeyID{L0: int32(n / (fanOut * fanOut)), L1: int32(n / fanOut % fanOut), L2: int32(n % fanOut)}
}

// Check reports whether k names an interval: L0 from 0, L1 and L2 from 0 to 31.
func (k KeyID) Check() error {
	if k.L0 < 0 || k.L1 < 0 || k.L1 >= fanOut || k.L2 < 0 || k.L2 >= fanOut {
		return fmt.Errorf("%w: %v: want L0 >= 0, L1 and L2 from 0 to 31", ErrKeyID, k)
	}
	return nil
}

// checkSeed is Check that also admits the id of an L1 seed.
func (k KeyID) checkSeed() error {
	if k.L2 == -1 {
		return KeyID{k.L0, k.L1, 0}.Check()
	}
	return k.Check()
}

// Start is the time at which the interval begins. It fails for an id that is
// none, and for one whose start is past the end of Filetime.
func (k KeyID) Start() (dtyp.Filetime, error) {
	if err := k.Check(); err != nil {
		return 0, err
	}
	n := k.cycles()
	if n > math.MaxUint64/uint64(Cycle) {
		return 0, fmt.Errorf("%w: %v starts past the end of FILETIME", ErrKeyID, k)
	}
	return dtyp.Filetime(n) * Cycle, nil
}

// Add is the interval n cycles of 10 h after k, or before it where n is
// negative. It fails below 0-0-0 and beyond the largest L0.
func (k KeyID) Add(n int64) (KeyID, error) {
	if err := k.Check(); err != nil {
		return KeyID{}, err
	}
	const last = math.MaxInt32*fanOut*fanOut + fanOut*fanOut - 1
	at := int64(k.cycles())
	if n < -at || n > last-at {
		return KeyID{}, fmt.Errorf("%w: %v plus %d cycles", ErrKeyID, k, n)
	}
	return keyIDOf(uint64(at + n)), nil
}

// Sub is how many cycles of 10 h lie from o to k; both must pass Check.
func (k KeyID) Sub(o KeyID) int64 { return int64(k.cycles()) - int64(o.cycles()) }

// cycles counts the intervals before k, which passed Check.
func (k KeyID) cycles() uint64 {
	return (uint64(k.L0)*fanOut+uint64(k.L1))*fanOut + uint64(k.L2)
}

// Compare orders key ids by time: -1 if k is before o, 0 if equal, +1 if after.
func (k KeyID) Compare(o KeyID) int {
	return cmp.Or(cmp.Compare(k.L0, o.L0), cmp.Compare(k.L1, o.L1), cmp.Compare(k.L2, o.L2))
}

// String is the three indexes in decimal, joined by hyphens.
func (k KeyID) String() string { return fmt.Sprintf("%d-%d-%d", k.L0, k.L1, k.L2) }

// RolloverCycles is the life of a password in cycles of 10 h, for the days of
// msDS-ManagedPasswordInterval: days*24/10, rounded down, so that 1 day gives
// 2 cycles and 30 days give 72 ([MS-ADTS] 3.1.1.4.5.39). Negative days and
// those that overflow Filetime are refused. Zero days gives zero: a caller
// must not store such an interval.
func RolloverCycles(days int64) (int64, error) {
	const limit = int64(math.MaxUint64 / Cycle * 10 / 24)
	if days < 0 || days > limit {
		return 0, fmt.Errorf("%w: managed password interval of %d days, want 0 to %d", ErrKeyID, days, limit)
	}
	return days * 24 / 10, nil
}

// RolloverInterval is RolloverCycles as a span of 100 ns ticks.
func RolloverInterval(days int64) (dtyp.Filetime, error) {
	n, err := RolloverCycles(days)
	return dtyp.Filetime(n) * Cycle, err
}
