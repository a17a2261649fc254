package lab

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Mortal is the way to a controller that dies at a message: before it arrives, or when
// it was answered and nobody hears the answer. From then on nothing is there.
type Mortal struct {
	heard bool // the last message arrives

	mu       sync.Mutex
	left     int // messages until then
	dead     bool
	conns    []net.Conn
	answered chan struct{}
}

var errDead = errors.New("connection refused")

// NewMortal lets that many messages through. The one after them arrives if heard is set.
func NewMortal(left int, heard bool) *Mortal {
	return &Mortal{left: left, heard: heard, answered: make(chan struct{}, 1)}
}

// Dial is a net.Dialer's.
func (m *Mortal) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return nil, errDead
	}
	c, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	m.conns = append(m.conns, c)
	return mortalConn{c, m}, nil
}

// Left is how many messages are still let through.
func (m *Mortal) Left() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.left
}

// next counts a message; last says that it is the one to die at.
func (m *Mortal) next() (last bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return false, errDead
	}
	m.left--
	m.dead = m.left < 0
	return m.dead, nil
}

func (m *Mortal) isDead() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead
}

type mortalConn struct {
	net.Conn
	m *Mortal
}

func (c mortalConn) Write(b []byte) (int, error) {
	last, err := c.m.next()
	if err != nil {
		return 0, err
	}
	if !last {
		return c.Conn.Write(b)
	}
	if c.m.heard {
		if _, err := c.Conn.Write(b); err == nil {
			select { // so that what was asked for is done before anybody looks
			case <-c.m.answered:
			case <-time.After(2 * time.Second):
			}
		}
	}
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for _, conn := range c.m.conns {
		_ = conn.Close()
	}
	return 0, errDead
}

func (c mortalConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.m.isDead() {
		return n, err
	}
	select {
	case c.m.answered <- struct{}{}:
	default:
	}
	return 0, errDead
}
