package ldapd

import (
	"errors"
	"io"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// smallBuffer is what a connection keeps to read into while it is idle, in bytes. Most
// requests fit.
const smallBuffer = 512

// reader cuts a stream into messages. Its buffer grows with the bytes that arrive, not
// with the length that a client claims, and is given up after a large message.
type reader struct {
	src        io.Reader
	buf        []byte
	start, end int // of the bytes that no message has used yet
}

// message reads the next message of at most limit bytes. It is good until the next
// call. waiting is called before each read that may take long, with whether a message
// has begun.
func (r *reader) message(limit int, waiting func(begun bool) error) ([]byte, error) {
	for {
		size, err := adproto.MessageSize(r.buf[r.start:r.end], limit)
		if err != nil {
			return nil, &disconnection{code: protocolError, text: "malformed message", err: err}
		}
		if size > 0 && r.end-r.start >= size {
			b := r.buf[r.start : r.start+size]
			r.start += size
			return b, nil
		}
		r.makeRoom(size)
		if err := waiting(r.buffered()); err != nil {
			return nil, err
		}
		n, err := r.src.Read(r.buf[r.end:])
		r.end += n
		if err != nil && n == 0 {
			if errors.Is(err, io.EOF) && r.buffered() {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
}

// buffered reports whether bytes have arrived that no message has used.
func (r *reader) buffered() bool { return r.end > r.start }

// makeRoom makes room behind end for the rest of a message of size bytes; 0 stands for
// a size not known yet.
func (r *reader) makeRoom(size int) {
	have := r.end - r.start
	switch {
	case have == 0 && len(r.buf) != smallBuffer:
		r.buf = make([]byte, smallBuffer)
	case have == len(r.buf):
		grown := make([]byte, 2*have)
		copy(grown, r.buf)
		clear(r.buf) // it may have been a password
		r.buf = grown
	case have > 0 && r.end < len(r.buf) && r.start+size <= len(r.buf):
		return // it fits where it is
	default:
		copy(r.buf, r.buf[r.start:r.end])
	}
	r.start, r.end = 0, have
}
