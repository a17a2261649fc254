package kdc

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
)

// lengthSize is the length in front of each message over TCP: RFC 4120, Section 7.2.2.
const lengthSize = 4

// Sizes of a connection's buffer for requests, in bytes. A TGS-REQ with a PAC fits into
// the first one; it grows as bytes arrive, not as they are announced, and what has grown
// past the second is not kept.
const (
	firstBuffer = 2 << 10
	keptBuffer  = 16 << 10
)

// Serve answers requests on the connections that l accepts until ctx ends or l fails. It
// closes l and all connections, and returns when nothing of it runs any more.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	slots := make(chan struct{}, s.cfg.MaxConnections)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			cancel()
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				cancel()
				return err
			}
			// Too many open files, or a connection that was reset: others go on.
			s.cfg.Log.Error("a connection was not accepted", "err", err)
			time.Sleep(acceptPause)
			continue
		}
		select {
		case slots <- struct{}{}:
			wg.Go(func() {
				defer func() { <-slots }()
				s.serveConn(ctx, conn)
			})
		default:
			_ = conn.Close()
		}
	}
}

// acceptPause lets descriptors become free.
const acceptPause = 10 * time.Millisecond

// serveConn answers the requests of one connection, one after the other.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	from := addrPort(conn.RemoteAddr())
	c := connection{Conn: conn, cfg: &s.cfg, in: make([]byte, 0, firstBuffer)}
	for ctx.Err() == nil {
		message, err := c.read()
		if err != nil {
			if errors.Is(err, errTooLong) {
				_ = c.write(s.tooLong(c.start()))
			}
			return
		}
		answer := s.handle(ctx, c.start(), message, from, stream)
		if len(answer) == lengthSize || c.write(answer) != nil {
			return
		}
		c.release(message)
	}
}

// errTooLong: a message is announced that is longer than any.
var errTooLong = errors.New("message too long")

// tooLong is the answer to a length that nobody will read: RFC 5021, Section 3 for its
// highest bit, which asks for an extension that there is none of.
func (s *Server) tooLong(dst []byte) []byte {
	x := exchange{Server: s, now: s.cfg.Accounts.Now()}
	return x.appendError(dst, refuse(krb5.ErrFieldTooLong, "a message of more than %d bytes", krb5.MaxMessage))
}

// connection frames messages.
type connection struct {
	net.Conn
	cfg *Config
	in  []byte // what was read and not yet answered
	out []byte
}

// read gives the next message, which holds until release.
func (c *connection) read() ([]byte, error) {
	if err := c.fill(lengthSize, c.cfg.IdleTimeout); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(c.in)
	if size > krb5.MaxMessage {
		return nil, errTooLong
	}
	if err := c.fill(lengthSize+int(size), c.cfg.RequestTimeout); err != nil {
		return nil, err
	}
	return c.in[lengthSize : lengthSize+size], nil
}

// fill reads until at least n bytes are there. The whole of it must arrive in time.
func (c *connection) fill(n int, limit time.Duration) error {
	if len(c.in) >= n {
		return nil
	}
	if err := c.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	for len(c.in) < n {
		if len(c.in) == cap(c.in) {
			grown := make([]byte, len(c.in), min(2*cap(c.in), lengthSize+krb5.MaxMessage))
			copy(grown, c.in)
			c.in = grown
		}
		got, err := c.Read(c.in[len(c.in):cap(c.in)])
		c.in = c.in[:len(c.in)+got]
		if err != nil && len(c.in) < n {
			return err
		}
		if got == 0 && err == nil {
			return io.ErrNoProgress
		}
	}
	return nil
}

// release drops a message that was answered, and what it took of memory if it was large.
func (c *connection) release(message []byte) {
	rest := c.in[lengthSize+len(message):]
	if cap(c.in) > keptBuffer {
		c.in = append(make([]byte, 0, max(firstBuffer, len(rest))), rest...)
		return
	}
	c.in = c.in[:copy(c.in, rest)]
}

// start is an empty answer with room for its length.
func (c *connection) start() []byte {
	c.out = append(c.out[:0], 0, 0, 0, 0)
	return c.out
}

// write sends an answer that begins with room for its length.
func (c *connection) write(answer []byte) error {
	c.out = answer
	binary.BigEndian.PutUint32(answer, uint32(len(answer)-lengthSize))
	if err := c.SetWriteDeadline(time.Now().Add(c.cfg.RequestTimeout)); err != nil {
		return err
	}
	_, err := c.Write(answer)
	if cap(c.out) > keptBuffer {
		c.out = nil
	}
	return err
}

// addrPort is the address of a peer, the zero value where it has none.
func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort()
	case *net.UDPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
