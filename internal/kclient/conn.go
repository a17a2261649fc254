package kclient

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
)

const (
	// maxUDP is the largest request, in bytes, that goes out as a datagram:
	// beyond it the network may have to fragment. MIT's default.
	maxUDP = 1465
	// udpSends and udpWait: a datagram is sent again after a second, and TCP is
	// tried when that second has passed too.
	udpSends = 2
	udpWait  = time.Second
	// maxIdle is how many connections are kept for one address.
	maxIdle = 32
	// keptWait is how long an answer may take on a connection that was kept: a
	// router may have forgotten it, and nobody says so.
	keptWait = 2 * time.Second
	// firstRead holds a usual reply: with a PAC about 1,700 bytes.
	firstRead = 4096
)

// past is a deadline that has passed, in a test's clock too.
var past = time.Unix(1, 0)

// errFraming is a length that cannot be a reply's.
var errFraming = errors.New("malformed frame")

// tcp sends the request over a kept connection or a new one: RFC 4120, Section
// 7.2.2.
func (c *Client) tcp(ctx context.Context, address string, request []byte) ([]byte, error) {
	if conn := c.conns.get(address); conn != nil {
		// A deadline is cheaper than a context with another timer. It stays until
		// the connection is used again, which sets the next one.
		_ = conn.SetReadDeadline(time.Now().Add(keptWait))
		reply, err := c.overTCP(ctx, address, conn, request)
		if err == nil || ctx.Err() != nil || errors.Is(err, errFraming) {
			return reply, err
		}
		// It was closed meanwhile, or is dead, and the others probably too.
		c.conns.drop(address)
	}
	conn, err := c.cfg.Dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return c.overTCP(ctx, address, conn, request)
}

// overTCP is one exchange on conn, which is kept if it went well and closed
// otherwise.
func (c *Client) overTCP(ctx context.Context, address string, conn net.Conn, request []byte) ([]byte, error) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	reply, err := c.roundTrip(conn, request)
	if !stop() || err != nil {
		_ = conn.Close()
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("no answer: %w", context.Cause(ctx))
		}
		return reply, err
	}
	c.conns.put(address, conn)
	return reply, nil
}

// roundTrip writes the request and reads the reply, both with their length in
// four bytes before them.
func (c *Client) roundTrip(conn net.Conn, request []byte) ([]byte, error) {
	b := c.buffer()
	frame := binary.BigEndian.AppendUint32(b[:0], uint32(len(request)))
	if _, err := conn.Write(append(frame, request...)); err != nil {
		return nil, err
	}
	n, err := io.ReadAtLeast(conn, b, 4)
	if err != nil {
		return nil, fmt.Errorf("read the answer's length: %w", err)
	}
	size := int(binary.BigEndian.Uint32(b))
	if size == 0 || size > krb5.MaxMessage || n > 4+size {
		return nil, fmt.Errorf("%w: an answer of %d bytes, of which %d came", errFraming, size, n-4)
	}
	if 4+size > len(b) {
		b = append(make([]byte, 0, 4+size), b[:n]...)
	}
	if _, err := io.ReadFull(conn, b[n:4+size]); err != nil {
		return nil, fmt.Errorf("read an answer of %d bytes: %w", size, err)
	}
	copy(b, b[4:4+size])
	return b[:size], nil
}

// buffer is room for a message and its reply.
func (c *Client) buffer() []byte {
	if b, ok := c.buffers.Get().(*[firstRead]byte); ok {
		return b[:]
	}
	return make([]byte, firstRead)
}

// recycle gives back the buffer of a reply, to which nothing may point any more.
func (c *Client) recycle(reply []byte) {
	if cap(reply) == firstRead {
		c.buffers.Put((*[firstRead]byte)(reply[:firstRead]))
	}
}

// udp sends the request as a datagram. The error is a timeout if nothing came.
func (c *Client) udp(ctx context.Context, address string, request []byte) ([]byte, error) {
	conn, err := c.cfg.Dial(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer stop()
	b := make([]byte, 1<<16)
	for range udpSends {
		if _, err = conn.Write(request); err != nil {
			return nil, err
		}
		deadline := time.Now().Add(udpWait)
		if ctx.Err() == nil {
			_ = conn.SetReadDeadline(deadline)
		}
		var n int
		if n, err = conn.Read(b); err == nil {
			return b[:n], nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if t, ok := errors.AsType[net.Error](err); !ok || !t.Timeout() {
			return nil, err
		}
	}
	return nil, err
}

// pool keeps connections that are not in use.
type pool struct {
	keep time.Duration

	mu sync.Mutex
	// All are guarded by mu.
	idle   map[string][]idleConn
	timer  *time.Timer // sweeps; nil while nothing is kept
	closed bool
}

type idleConn struct {
	net.Conn
	since time.Time
}

// get takes the connection that was used last.
func (p *pool) get(address string) net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := p.idle[address]
	if len(list) == 0 {
		return nil
	}
	last := list[len(list)-1]
	p.idle[address] = list[:len(list)-1]
	if time.Since(last.since) > p.keep {
		_ = last.Close()
		return nil
	}
	return last.Conn
}

// put keeps a connection, or closes it.
func (p *pool) put(address string, conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.keep < 0 || len(p.idle[address]) >= maxIdle {
		_ = conn.Close()
		return
	}
	if p.idle == nil {
		p.idle = map[string][]idleConn{}
	}
	p.idle[address] = append(p.idle[address], idleConn{conn, time.Now()})
	if p.timer == nil {
		p.timer = time.AfterFunc(p.keep, p.sweep)
	}
}

// sweep closes what was not used for long.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = nil
	for address, list := range p.idle {
		n := 0
		for n < len(list) && time.Since(list[n].since) >= p.keep {
			_ = list[n].Close()
			n++
		}
		p.idle[address] = list[n:]
		if n == len(list) {
			delete(p.idle, address)
		}
	}
	if len(p.idle) > 0 && !p.closed {
		p.timer = time.AfterFunc(p.keep, p.sweep)
	}
}

// drop closes what is kept for one address.
func (p *pool) drop(address string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.idle[address] {
		_ = conn.Close()
	}
	delete(p.idle, address)
}

// close closes everything that is kept, now and later.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, list := range p.idle {
		for _, conn := range list {
			_ = conn.Close()
		}
	}
	p.idle = nil
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
}
