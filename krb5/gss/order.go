package gss

// window tells replayed and misplaced messages from good ones: RFC 2743,
// Section 1.2.3. Deviation: where that RFC delivers such a message with a
// remark, here it is refused, for every user of this package runs over a
// stream, on which the remark can only mean an attack.
type window struct {
	replay, sequence bool   // what was negotiated
	next             uint64 // the number expected next
	first            uint64 // the number that the peer began with
	seen             uint64 // bit i is set if next-1-i was seen
}

// windowSize is how many numbers back a replay is told from a late message.
const windowSize = 64

// accept judges a message that was proven to be the peer's and remembers it.
func (w *window) accept(n uint64) error {
	if !w.replay && !w.sequence {
		return nil
	}
	if ahead := n - w.next; int64(ahead) >= 0 {
		if ahead > 0 && w.sequence {
			return ErrOrder
		}
		w.advance(ahead + 1)
		return nil
	}
	back := w.next - 1 - n
	switch {
	case n-w.first > w.next-w.first:
		return ErrOrder // before the first
	case back >= windowSize, w.seen>>back&1 == 1:
		return ErrReplay
	case w.sequence:
		return ErrOrder
	}
	w.seen |= 1 << back
	return nil
}

// advance moves on by n numbers, the last of which was seen.
func (w *window) advance(n uint64) {
	w.next += n
	if n < windowSize {
		w.seen = w.seen<<n | 1
	} else {
		w.seen = 1
	}
}
