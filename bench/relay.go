//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
)

// A relay stands between the guard and a domain controller, on an address of its own
// with the controller's ports. It measures how long the controller takes for each
// message, counts, and can be switched off.
//
// It takes nothing apart but frames: a Kerberos message and a sealed LDAP message
// have their length in four bytes before them, a plain LDAP message is BER. Samba
// seals all replies to one LDAP request together, so that frames come in pairs.
type relay struct {
	address, behind string

	mu        sync.Mutex
	off       bool
	listeners []net.Listener
	conns     map[net.Conn]bool
	exchanges []exchange
	flying    int // requests that have no answer yet
	most      int // of flying
}

// exchange is one request and its answer.
type exchange struct {
	service    string // Kerberos or LDAP
	what       string // who asks for what, of a Kerberos request
	sent, done time.Time
}

func (e exchange) took() time.Duration { return e.done.Sub(e.sent) }

// startRelay starts a relay before the controller at an address.
func startRelay(r *run, behind string) *relay {
	y := &relay{address: relayAddress(r), behind: behind, conns: map[net.Conn]bool{}}
	y.on(r)
	udp, err := net.ListenPacket("udp", y.address+":389")
	r.must(err)
	go y.pings(udp)
	r.Cleanup(func() {
		y.cut()
		udp.Close()
	})
	return y
}

// services are the ports that the relay serves.
var services = map[string]string{"88": "Kerberos", "389": "LDAP"}

// relayAddress is a loopback address where nobody has the ports.
func relayAddress(r *run) string {
	for i := 1; i < 255; i++ {
		address := fmt.Sprintf("127.78.0.%d", i)
		l, err := net.Listen("tcp", address+":88")
		if err == nil {
			l.Close()
			return address
		}
	}
	r.Fatal("no address for a relay")
	return ""
}

// on lets the controller be reached.
func (y *relay) on(r *run) {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.off = false
	for port, service := range services {
		l, err := net.Listen("tcp", net.JoinHostPort(y.address, port))
		r.must(err)
		y.listeners = append(y.listeners, l)
		go y.serve(l, port, service)
	}
}

// cut switches the controller off: connections end, and new ones are refused.
func (y *relay) cut() {
	y.mu.Lock()
	defer y.mu.Unlock()
	y.off = true
	for _, l := range y.listeners {
		l.Close()
	}
	y.listeners = nil
	for c := range y.conns {
		c.Close()
	}
}

func (y *relay) serve(l net.Listener, port, service string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", net.JoinHostPort(y.behind, port))
		if err != nil {
			client.Close()
			continue
		}
		go y.both(client, server, service)
	}
}

// both carries one connection in both directions.
func (y *relay) both(client, server net.Conn, service string) {
	if !y.enter(client, server) {
		return
	}
	open := &queue{service: service}
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = frames(server, client, func(b []byte) { y.sent(open, b) })
		_ = server.Close()
	})
	wg.Go(func() {
		_ = frames(client, server, func([]byte) { y.answered(open) })
		_ = client.Close()
	})
	wg.Wait()
	y.leave(open, client, server)
}

// queue holds the requests of one connection that have no answer yet, the oldest
// first.
type queue struct {
	service string
	open    []exchange // guarded by relay.mu
}

func (y *relay) enter(client, server net.Conn) bool {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.off {
		client.Close()
		server.Close()
		return false
	}
	y.conns[client], y.conns[server] = true, true
	return true
}

func (y *relay) leave(q *queue, client, server net.Conn) {
	y.mu.Lock()
	defer y.mu.Unlock()
	delete(y.conns, client)
	delete(y.conns, server)
	y.flying -= len(q.open)
	q.open = nil
}

func (y *relay) sent(q *queue, frame []byte) {
	e := exchange{service: q.service, sent: time.Now()}
	if q.service == "Kerberos" {
		e.what = describe(frame[4:])
	}
	y.mu.Lock()
	defer y.mu.Unlock()
	q.open = append(q.open, e)
	y.flying++
	y.most = max(y.most, y.flying)
}

func (y *relay) answered(q *queue) {
	y.mu.Lock()
	defer y.mu.Unlock()
	if len(q.open) == 0 {
		return // a notice of disconnection
	}
	e := q.open[0]
	q.open = q.open[1:]
	e.done = time.Now()
	y.flying--
	y.exchanges = append(y.exchanges, e)
}

// describe names a Kerberos request: its client, and its server.
func describe(b []byte) string {
	req, err := krb5.ParseKDCReq(b)
	if err != nil {
		return "?"
	}
	return req.Type.String() + " " + req.Body.CName.String() + " for " + req.Body.SName.String()
}

// maxFrame bounds a frame, in bytes.
const maxFrame = 1 << 20

// frames copies frame by frame, and tells of each before it goes on.
func frames(to io.Writer, from io.Reader, tell func([]byte)) error {
	var buf []byte
	for {
		var err error
		if buf, err = frame(buf[:0], from); err != nil {
			return err
		}
		tell(buf)
		if _, err := to.Write(buf); err != nil {
			return err
		}
	}
}

// frame reads one frame, its header included.
func frame(buf []byte, from io.Reader) ([]byte, error) {
	more := func(n int) error {
		if n < 0 || n > maxFrame {
			return fmt.Errorf("a frame of %d bytes", n)
		}
		at := len(buf)
		buf = slices.Grow(buf, n)[:at+n]
		_, err := io.ReadFull(from, buf[at:])
		return err
	}
	if err := more(2); err != nil {
		return buf, err
	}
	if buf[0] == 0x30 { // LDAPMessage
		if buf[1] < 0x80 {
			return buf, more(int(buf[1]))
		}
		n := int(buf[1] & 0x7f)
		if n == 0 || n > 4 {
			return buf, errors.New("a length that is no length")
		}
		if err := more(n); err != nil {
			return buf, err
		}
		var length int
		for _, b := range buf[2:] {
			length = length<<8 | int(b)
		}
		return buf, more(length)
	}
	if err := more(2); err != nil {
		return buf, err
	}
	return buf, more(int(binary.BigEndian.Uint32(buf)))
}

// pings carries LDAP pings, one at a time.
func (y *relay) pings(front net.PacketConn) {
	buf := make([]byte, 1<<16)
	for {
		n, from, err := front.ReadFrom(buf)
		if err != nil {
			return
		}
		y.mu.Lock()
		off := y.off
		y.mu.Unlock()
		if off {
			continue
		}
		server, err := net.Dial("udp", net.JoinHostPort(y.behind, "389"))
		if err != nil {
			continue
		}
		e := exchange{service: "ping", sent: time.Now()}
		_, _ = server.Write(buf[:n])
		_ = server.SetReadDeadline(time.Now().Add(time.Second))
		if n, err := server.Read(buf); err == nil {
			e.done = time.Now()
			_, _ = front.WriteTo(buf[:n], from)
			y.mu.Lock()
			y.exchanges = append(y.exchanges, e)
			y.mu.Unlock()
		}
		server.Close()
	}
}

// take gives the exchanges since the last call, and the most that were under way at
// once.
func (y *relay) take() (list []exchange, most int) {
	y.mu.Lock()
	defer y.mu.Unlock()
	list, most = y.exchanges, y.most
	y.exchanges, y.most = nil, y.flying
	return list, most
}

// quiet waits until nothing has been asked for a moment: after a lease is given out,
// the guard goes on to check its keys. It gives what was asked until then.
func (y *relay) quiet() (list []exchange) {
	for {
		time.Sleep(150 * time.Millisecond)
		more, most := y.take()
		if list = append(list, more...); len(more) == 0 && most == 0 {
			return list
		}
	}
}

// sum is how long the controller took for all of them.
func sum(list []exchange) (d time.Duration) {
	for _, e := range list {
		d += e.took()
	}
	return d
}

// count tells how many there are of a service whose description has the text.
func count(list []exchange, service, text string) (n int) {
	for _, e := range list {
		if e.service == service && strings.Contains(e.what, text) {
			n++
		}
	}
	return n
}
