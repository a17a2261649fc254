package managedpassword

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/secret"
)

// PasswordSize is the size in bytes of a gMSA's password: 128 UTF-16LE code
// units, none of them zero, without the terminator.
const PasswordSize = 256

const (
	blobVersion = 1
	headerSize  = 16
	fieldSize   = PasswordSize + 2 // with the terminator
	ticks       = 8                // size of an interval
	maxPadding  = 7                // before a field, to a boundary of 64 bits
	maxBlob     = headerSize + 2*(fieldSize+maxPadding) + 2*(ticks+maxPadding)
)

// ErrMalformed is wrapped by every error of [Parse].
var ErrMalformed = errors.New("malformed msDS-ManagedPassword")

// Blob is MSDS-MANAGEDPASSWORD_BLOB ([MS-ADTS] 2.2.19).
type Blob struct {
	// Current and Previous are PasswordSize bytes; Previous is empty if the
	// controller gave none. In the last five minutes of an interval Current is
	// the next password already, which no KDC accepts yet, and Previous the one
	// in force.
	Current, Previous secret.Bytes

	// QueryInterval is the time until the password should be asked for again,
	// which is its remaining life; UnchangedInterval the time for which the
	// answer certainly stays the same. The wire counts 100 ns.
	QueryInterval, UnchangedInterval time.Duration
}

// Destroy overwrites both passwords.
func (b Blob) Destroy() {
	b.Current.Destroy()
	b.Previous.Destroy()
}

// span is a field of the blob: where it lies.
type span struct {
	name      string
	off, size int
}

// Parse decodes a blob of at most 576 bytes. Fields are found by their
// offsets, may come in any order and may have up to 7 bytes of padding before
// them, but must not overlap, and nothing may lie behind the last. The
// passwords are copied. Errors wrap ErrMalformed.
func Parse(b []byte) (Blob, error) {
	var blob Blob
	if len(b) < headerSize || len(b) > maxBlob {
		return blob, fmt.Errorf("%w: %d bytes, want %d to %d", ErrMalformed, len(b), headerSize, maxBlob)
	}
	u16 := func(off int) int { return int(binary.LittleEndian.Uint16(b[off:])) }
	if v := u16(0); v != blobVersion {
		return blob, fmt.Errorf("%w: version at offset 0: got %d, want %d", ErrMalformed, v, blobVersion)
	}
	if v := u16(2); v != 0 {
		return blob, fmt.Errorf("%w: reserved at offset 2: got %d, want 0", ErrMalformed, v)
	}
	if n := binary.LittleEndian.Uint32(b[4:]); uint64(n) != uint64(len(b)) {
		return blob, fmt.Errorf("%w: length at offset 4: got %d, want %d", ErrMalformed, n, len(b))
	}
	current := span{"CurrentPassword", u16(8), fieldSize}
	previous := span{"PreviousPassword", u16(10), fieldSize}
	query := span{"QueryPasswordInterval", u16(12), ticks}
	unchanged := span{"UnchangedPasswordInterval", u16(14), ticks}
	fields := []span{current, query, unchanged}
	if previous.off != 0 {
		fields = append(fields, previous)
	}
	if err := checkLayout(fields, len(b)); err != nil {
		return blob, err
	}
	var err error
	if blob.QueryInterval, err = interval(b, query); err != nil {
		return Blob{}, err
	}
	if blob.UnchangedInterval, err = interval(b, unchanged); err != nil {
		return Blob{}, err
	}
	if blob.Current, err = password(b, current); err != nil {
		return Blob{}, err
	}
	if previous.off != 0 {
		if blob.Previous, err = password(b, previous); err != nil {
			blob.Current.Destroy()
			return Blob{}, err
		}
	}
	return blob, nil
}

// checkLayout reports fields that overlap each other or the header, lie
// outside of the size bytes, or leave more unused than padding needs.
func checkLayout(fields []span, size int) error {
	slices.SortStableFunc(fields, func(a, b span) int { return a.off - b.off })
	end := headerSize
	for _, f := range fields {
		switch {
		case f.off < end:
			return fmt.Errorf("%w: %s at offset %d overlaps what ends at %d", ErrMalformed, f.name, f.off, end)
		case f.off > end+maxPadding:
			return fmt.Errorf("%w: %s at offset %d: %d unused bytes before it, want at most %d",
				ErrMalformed, f.name, f.off, f.off-end, maxPadding)
		case f.off+f.size > size:
			return fmt.Errorf("%w: %s at offset %d: %d bytes left, want %d",
				ErrMalformed, f.name, f.off, max(0, size-f.off), f.size)
		}
		end = f.off + f.size
	}
	if end != size {
		return fmt.Errorf("%w: %d trailing bytes at offset %d", ErrMalformed, size-end, end)
	}
	return nil
}

// interval reads a span of time in units of 100 ns.
func interval(b []byte, f span) (time.Duration, error) {
	n := binary.LittleEndian.Uint64(b[f.off:])
	if n > math.MaxInt64/100 {
		return 0, fmt.Errorf("%w: %s at offset %d: got %d ticks of 100 ns, want at most %d",
			ErrMalformed, f.name, f.off, n, uint64(math.MaxInt64/100))
	}
	return time.Duration(n) * 100, nil
}

// password reads a password, which ends in its only zero code unit.
func password(b []byte, f span) (secret.Bytes, error) {
	for i := 0; i <= PasswordSize; i += 2 {
		zero := b[f.off+i] == 0 && b[f.off+i+1] == 0
		if last := i == PasswordSize; zero != last {
			return secret.Bytes{}, fmt.Errorf("%w: %s: terminator at offset %d: got %t, want %t",
				ErrMalformed, f.name, f.off+i, zero, last)
		}
	}
	return secret.Copy(b[f.off : f.off+PasswordSize]), nil
}

// Append appends the encoding of b to dst in the layout that Windows uses:
// current password, previous password if there is one, then the intervals,
// without padding; 290 or 548 bytes. Parts of an interval below 100 ns are
// dropped. It panics if a password has another size than PasswordSize or an
// interval is negative.
func (b Blob) Append(dst []byte) []byte {
	if b.Current.Len() != PasswordSize || b.Previous.Len() != PasswordSize && !b.Previous.IsZero() {
		panic("managedpassword: password of another size")
	}
	if b.QueryInterval < 0 || b.UnchangedInterval < 0 {
		panic("managedpassword: negative interval")
	}
	previous, end := 0, headerSize+fieldSize
	if !b.Previous.IsZero() {
		previous, end = end, end+fieldSize
	}
	dst = binary.LittleEndian.AppendUint16(dst, blobVersion)
	dst = binary.LittleEndian.AppendUint16(dst, 0)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(end+2*ticks))
	for _, off := range []int{headerSize, previous, end, end + ticks} {
		dst = binary.LittleEndian.AppendUint16(dst, uint16(off))
	}
	dst = append(append(dst, b.Current.Reveal()...), 0, 0)
	if previous != 0 {
		dst = append(append(dst, b.Previous.Reveal()...), 0, 0)
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(b.QueryInterval/100))
	return binary.LittleEndian.AppendUint64(dst, uint64(b.UnchangedInterval/100))
}
