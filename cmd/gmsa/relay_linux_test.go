package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The ports of a controller that a relay has too.
const (
	kerberosPort = 88
	ldapPort     = 389
)

// A relay stands between an agent and a domain controller, and answers as it
// likes: whoever sits on the network can do as much.
type relay struct {
	ip, target string

	mu     sync.Mutex
	manner map[int]manner // honest where there is none
	open   map[net.Conn]bool
	hits   atomic.Int32 // connections that met with another manner than honest
}

// A manner is how a relay treats one connection.
type manner func(client, server net.Conn)

// newRelay starts a relay on an address of 127.78.0.0/16 of its own.
func newRelay(t *testing.T, target string) *relay {
	t.Helper()
	r := &relay{target: target, manner: map[int]manner{}, open: map[net.Conn]bool{}}
	var closers []io.Closer
	for r.ip == "" {
		ip := fmt.Sprintf("127.78.%d.%d", rand.N(250), 2+rand.N(250))
		first, err := net.Listen("tcp", net.JoinHostPort(ip, "88"))
		if err != nil {
			continue
		}
		r.ip, closers = ip, append(closers, first)
		go r.accept(first, kerberosPort)
	}
	for _, port := range []int{ldapPort, 464, 636} {
		l, err := net.Listen("tcp", net.JoinHostPort(r.ip, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		closers = append(closers, l)
		go r.accept(l, port)
	}
	for _, port := range []int{kerberosPort, ldapPort} {
		c, err := net.ListenPacket("udp", net.JoinHostPort(r.ip, strconv.Itoa(port)))
		if err != nil {
			t.Fatal(err)
		}
		closers = append(closers, c)
		go r.datagrams(c, port)
	}
	t.Cleanup(func() {
		for _, c := range closers {
			_ = c.Close()
		}
		r.cut()
	})
	return r
}

// behave has new connections to a port treated so, and breaks the old ones.
func (r *relay) behave(port int, m manner) {
	r.mu.Lock()
	r.manner[port] = m
	r.mu.Unlock()
	r.cut()
}

// cut breaks all connections.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.open {
		_ = c.Close()
	}
	clear(r.open)
}

func (r *relay) accept(l net.Listener, port int) {
	for {
		client, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go r.serve(client, port)
	}
}

func (r *relay) serve(client net.Conn, port int) {
	defer client.Close()
	server, err := net.Dial("tcp", net.JoinHostPort(r.target, strconv.Itoa(port)))
	if err != nil {
		return
	}
	defer server.Close()
	r.mu.Lock()
	m := r.manner[port]
	r.open[client], r.open[server] = true, true
	r.mu.Unlock()
	if m == nil {
		honest(client, server)
		return
	}
	r.hits.Add(1)
	m(client, server)
}

// datagrams forwards what is asked by datagram. Where a port's connections are
// not treated honestly, its datagrams are lost, but for the pings by which a
// controller is found.
func (r *relay) datagrams(c net.PacketConn, port int) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		r.mu.Lock()
		m := r.manner[port]
		r.mu.Unlock()
		if err != nil || m != nil && port != ldapPort {
			continue
		}
		request := append([]byte(nil), buf[:n]...)
		go func() {
			server, err := net.Dial("udp", net.JoinHostPort(r.target, strconv.Itoa(port)))
			if err != nil {
				return
			}
			defer server.Close()
			_ = server.SetDeadline(time.Now().Add(5 * time.Second))
			answer := make([]byte, 64<<10)
			if _, err = server.Write(request); err != nil {
				return
			}
			if n, err := server.Read(answer); err == nil {
				_, _ = c.WriteTo(answer[:n], from)
			}
		}()
	}
}

// honest forwards both ways.
func honest(client, server net.Conn) { altered(client, server, func(b []byte) []byte { return b }) }

// altered forwards requests as they are and answers as alter makes them; nil
// ends the connection.
func altered(client, server net.Conn, alter func([]byte) []byte) {
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := server.Read(buf)
		if n > 0 {
			out := alter(buf[:n])
			if out == nil {
				return
			}
			if _, err := client.Write(out); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// refused closes the connection at once.
func refused(net.Conn, net.Conn) {}

// silent takes everything and answers nothing.
func silent(client, _ net.Conn) { _, _ = io.Copy(io.Discard, client) }

// garbled answers with other bytes of the same length.
func garbled(client, server net.Conn) {
	noise := rand.NewChaCha8([32]byte{1})
	altered(client, server, func(b []byte) []byte {
		_, _ = noise.Read(b)
		return b
	})
}

// flipped changes a bit in the middle of each answer.
func flipped(client, server net.Conn) {
	altered(client, server, func(b []byte) []byte {
		b[len(b)/2] ^= 0x10
		return b
	})
}

// flippedLater leaves the first answer, which is the bind's, and changes a bit in
// each of the others.
func flippedLater(client, server net.Conn) {
	first := true
	altered(client, server, func(b []byte) []byte {
		if !first {
			b[len(b)/2] ^= 0x10
		}
		first = false
		return b
	})
}

// truncated gives half of an answer and ends.
func truncated(client, server net.Conn) {
	sent := false
	altered(client, server, func(b []byte) []byte {
		if sent {
			return nil
		}
		sent = true
		return b[:len(b)/2]
	})
}

// repeated says everything twice.
func repeated(client, server net.Conn) {
	altered(client, server, func(b []byte) []byte { return append(append([]byte(nil), b...), b...) })
}

// endless begins an answer of 100 MiB, with the header given, and sends it.
func endless(header []byte) manner {
	return func(client, _ net.Conn) {
		if _, err := client.Read(make([]byte, 4096)); err != nil {
			return
		}
		if _, err := client.Write(header); err != nil {
			return
		}
		block := make([]byte, 64<<10)
		for range 100 << 20 / len(block) {
			if _, err := client.Write(block); err != nil {
				return
			}
		}
		_, _ = io.Copy(io.Discard, client)
	}
}

var (
	endlessLDAP = endless([]byte{0x30, 0x84, 0x06, 0x40, 0x00, 0x00})
	endlessKDC  = endless([]byte{0x06, 0x40, 0x00, 0x00})
)

// noTLS answers the first request, which is StartTLS, with an error: protocolError,
// as of a server that does not know it (RFC 4511, Section 4.14.2).
func noTLS(client, server net.Conn) {
	b := make([]byte, 4096)
	n, err := client.Read(b)
	if err != nil || n < 5 {
		return
	}
	id := b[4]
	_, _ = client.Write([]byte{0x30, 0x0c, 0x02, 0x01, id, 0x78, 0x07, 0x0a, 0x01, 0x02, 0x04, 0x00, 0x04, 0x00})
	honest(client, server)
}
