package store

import (
	"fmt"
	"iter"
)

// Budget counts what a transaction writes, for engines. The zero value is a new
// transaction's.
type Budget struct {
	keys  map[string]int // bytes charged for each key
	bytes int
	scans int
}

// Guard returns seq such that Charge fails with ErrScanning while it runs: an
// engine's cursor does not survive a write below it.
func (b *Budget) Guard(seq iter.Seq2[Item, error]) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		b.scans++
		defer func() { b.scans-- }()
		seq(yield)
	}
}

// Charge accounts for one write of a key; for a deletion value is nil. It
// returns ErrScanning, or ErrTooLarge with the limit that the transaction would
// exceed.
func (b *Budget) Charge(key, value []byte) error {
	if b.scans > 0 {
		return ErrScanning
	}
	if len(key) == 0 || len(key) > MaxKey {
		return fmt.Errorf("%w: key of %d bytes, want 1 to %d", ErrTooLarge, len(key), MaxKey)
	}
	cost := len(key) + len(value)
	old, again := b.keys[string(key)]
	if !again && len(b.keys) == MaxOps {
		return fmt.Errorf("%w: more than %d keys", ErrTooLarge, MaxOps)
	}
	if b.bytes+cost-old > MaxBytes {
		return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxBytes)
	}
	if b.keys == nil {
		b.keys = map[string]int{}
	}
	b.keys[string(key)] = cost
	b.bytes += cost - old
	return nil
}

// Writes reports whether anything was charged.
func (b *Budget) Writes() bool { return len(b.keys) > 0 }
