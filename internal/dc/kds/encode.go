package kds

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/gkdi"
)

// timelineVersion is the first byte of an encoded timeline.
const timelineVersion = 1

const (
	timelineHeader = 1 + 4 + 2              // version, cycles, count
	entryHeader    = 4 + 1 + 1 + 16 + 4 + 2 // key id, root key, kvno, size of the salt
)

// Append appends the encoding of t for storage, which holds nothing secret. All
// numbers are big endian:
//
//	version 1 | cycles 4 | count 2 | count × (L0 4, L1 1, L2 1, root key 16, kvno 4, size 2, salt)
func (t Timeline) Append(dst []byte) []byte {
	dst = append(dst, timelineVersion)
	dst = binary.BigEndian.AppendUint32(dst, uint32(t.cycles))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(t.entries)))
	for _, e := range t.entries {
		dst = binary.BigEndian.AppendUint32(dst, uint32(e.First.L0))
		dst = append(dst, byte(e.First.L1), byte(e.First.L2))
		dst = append(dst, e.RootKey[:]...)
		dst = binary.BigEndian.AppendUint32(dst, e.KVNO)
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(e.Salt)))
		dst = append(dst, e.Salt...)
	}
	return dst
}

// Parse decodes what [Timeline.Append] wrote, at most MaxEntries entries. Errors wrap
// ErrTimeline.
func Parse(b []byte) (Timeline, error) {
	if len(b) < timelineHeader {
		return Timeline{}, fmt.Errorf("%w: %d bytes, want a header of %d", ErrTimeline, len(b), timelineHeader)
	}
	if b[0] != timelineVersion {
		return Timeline{}, fmt.Errorf("%w: version at offset 0: got %d, want %d", ErrTimeline, b[0], timelineVersion)
	}
	t := Timeline{cycles: int64(binary.BigEndian.Uint32(b[1:]))}
	count := int(binary.BigEndian.Uint16(b[5:]))
	if count > MaxEntries {
		return Timeline{}, fmt.Errorf("%w: count at offset 5: got %d, want at most %d", ErrTimeline, count, MaxEntries)
	}
	rest := b[timelineHeader:]
	for i := range count {
		if len(rest) < entryHeader {
			return Timeline{}, fmt.Errorf("%w: entry %d at offset %d: %d bytes left, want %d",
				ErrTimeline, i, len(b)-len(rest), len(rest), entryHeader)
		}
		e := Entry{
			First: gkdi.KeyID{L0: int32(binary.BigEndian.Uint32(rest)), L1: int32(rest[4]), L2: int32(rest[5])},
			KVNO:  binary.BigEndian.Uint32(rest[22:]),
		}
		copy(e.RootKey[:], rest[6:])
		size := int(binary.BigEndian.Uint16(rest[26:]))
		rest = rest[entryHeader:]
		if size > len(rest) || !utf8.Valid(rest[:min(size, len(rest))]) {
			return Timeline{}, fmt.Errorf("%w: entry %d: salt of %d bytes at offset %d, %d left, or it is not UTF-8",
				ErrTimeline, i, size, len(b)-len(rest), len(rest))
		}
		e.Salt, rest = string(rest[:size]), rest[size:]
		t.entries = append(t.entries, e)
	}
	if len(rest) != 0 {
		return Timeline{}, fmt.Errorf("%w: %d trailing bytes at offset %d", ErrTimeline, len(rest), len(b)-len(rest))
	}
	return t, t.check()
}
