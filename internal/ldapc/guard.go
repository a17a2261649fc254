package ldapc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// headerSize is how many bytes of a message always tell its length.
const headerSize = 6

// guard is a connection whose reader gets whole, well-formed LDAP messages of a
// limited size and nothing else: the BER library behind it allocates what a
// length field says before it has seen the bytes.
type guard struct {
	net.Conn
	br    *bufio.Reader
	limit int // bytes of one message
	msg   bytes.Buffer
}

func newGuard(conn net.Conn, limit int) *guard {
	return &guard{Conn: conn, br: bufio.NewReader(conn), limit: limit}
}

// Read hands out the current message, and reads the next when it is used up. It
// is called by one goroutine.
func (g *guard) Read(p []byte) (int, error) {
	if g.msg.Len() == 0 {
		if err := g.next(); err != nil {
			return 0, err
		}
	}
	n, err := g.msg.Read(p)
	if g.msg.Len() == 0 {
		wipe(&g.msg)
	}
	return n, err
}

// wipe clears what a message held, since it may have been a password.
func wipe(b *bytes.Buffer) {
	b.Reset()
	buf := b.AvailableBuffer()
	clear(buf[:cap(buf)])
}

// message reads one message; the caller may keep it.
func (g *guard) message() ([]byte, error) {
	if err := g.next(); err != nil {
		return nil, err
	}
	defer wipe(&g.msg)
	return bytes.Clone(g.msg.Bytes()), nil
}

// next fills msg. The buffer grows as bytes arrive, never ahead of them.
func (g *guard) next() error {
	size := 0
	for have := 2; size == 0; have++ {
		head, err := g.br.Peek(have)
		if err != nil {
			return endOfMessage(err, have > 2 || len(head) > 0)
		}
		if size, err = adproto.MessageSize(head, g.limit); err != nil {
			return err
		}
		if have > headerSize {
			return fmt.Errorf("ldapc: message header over %d bytes", headerSize)
		}
	}
	if _, err := io.CopyN(&g.msg, g.br, int64(size)); err != nil {
		wipe(&g.msg)
		return endOfMessage(err, true)
	}
	if err := adproto.CheckMessage(g.msg.Bytes()); err != nil {
		wipe(&g.msg)
		return err
	}
	return nil
}

// endOfMessage turns the end of the stream inside a message into an error.
func endOfMessage(err error, inside bool) error {
	if errors.Is(err, io.EOF) && inside {
		return io.ErrUnexpectedEOF
	}
	return err
}

// buffered reports whether bytes were read that no message has used: before a
// change of protection that is an attempt to inject plain text.
func (g *guard) buffered() bool { return g.br.Buffered() > 0 || g.msg.Len() > 0 }
