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
// closes l and all connections, and returns when nothing of it runs any more. Connections
// need no keep-alive of TCP: silent ones are closed anyway.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	p := &pool{server: s, conns: make(chan net.Conn), slots: make(chan struct{}, s.cfg.MaxConnections)}
	defer p.wg.Wait()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case err == nil:
			p.give(ctx, conn)
		case errors.Is(err, net.ErrClosed):
			return err
		default:
			// Too many open files, or a connection that was reset: others go on.
			s.cfg.Log.Error("a connection was not accepted", "error", err)
			time.Sleep(acceptPause)
		}
	}
}

// acceptPause lets descriptors become free.
const acceptPause = 10 * time.Millisecond

// pool is the goroutines that serve connections. One whose connection has ended waits a
// moment for the next: a new goroutine would have to grow its stack again, which costs
// more than many a request.
type pool struct {
	server *Server
	conns  chan net.Conn
	slots  chan struct{} // one for each goroutine
	wg     sync.WaitGroup
}

// workerIdle is how long a goroutine waits for a connection.
const workerIdle = 5 * time.Second

// give lets a connection be served, or closes it where there are too many.
func (p *pool) give(ctx context.Context, conn net.Conn) {
	select {
	case p.conns <- conn:
		return
	default:
	}
	select {
	case p.slots <- struct{}{}:
		p.wg.Go(func() { p.work(ctx, conn) })
	default:
		_ = conn.Close()
	}
}

// work serves one connection after the other.
func (p *pool) work(ctx context.Context, conn net.Conn) {
	defer func() { <-p.slots }()
	c := connection{cfg: &p.server.cfg, in: make([]byte, 0, firstBuffer)}
	idle := time.NewTimer(workerIdle)
	defer idle.Stop()
	for {
		c.Conn, c.in, c.deadline = conn, c.in[:0], time.Time{}
		p.server.serveConn(ctx, &c)
		c.Conn = nil
		idle.Reset(workerIdle)
		select {
		case conn = <-p.conns:
		case <-ctx.Done():
			return
		case <-idle.C:
			return
		}
	}
}

// serveConn answers the requests of one connection, one after the other, and closes it.
func (s *Server) serveConn(ctx context.Context, c *connection) {
	conn := c.Conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	from := addrPort(conn.RemoteAddr())
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
	// deadline is when the connection has been silent for too long.
	deadline time.Time
}

// read gives the next message, which holds until release.
func (c *connection) read() ([]byte, error) {
	if err := c.await(); err != nil {
		return nil, err
	}
	if err := c.fill(lengthSize); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(c.in)
	if size > krb5.MaxMessage {
		return nil, errTooLong
	}
	if err := c.fill(lengthSize + int(size)); err != nil {
		return nil, err
	}
	return c.in[lengthSize : lengthSize+size], nil
}

// await puts off the deadline of a connection on which nothing has begun to arrive. That
// takes time, so that it is done only when a quarter of it is over.
func (c *connection) await() error {
	now := time.Now()
	if c.deadline.Sub(now) > c.cfg.IdleTimeout*3/4 {
		return nil
	}
	c.deadline = now.Add(c.cfg.IdleTimeout)
	return c.SetDeadline(c.deadline)
}

// fill reads until at least n bytes are there. Once the first is, the rest of a message
// and its answer must not take longer than RequestTimeout.
func (c *connection) fill(n int) error {
	for len(c.in) < n {
		if len(c.in) == cap(c.in) {
			grown := make([]byte, len(c.in), min(2*cap(c.in), lengthSize+krb5.MaxMessage))
			copy(grown, c.in)
			c.in = grown
		}
		begun := len(c.in) > 0
		if begun && !c.deadline.IsZero() {
			c.deadline = time.Time{}
			if err := c.SetDeadline(time.Now().Add(c.cfg.RequestTimeout)); err != nil {
				return err
			}
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
