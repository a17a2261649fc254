package ldapd

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
)

// client is the other side of a connection, byte by byte.
type client struct {
	net.Conn
	t testing.TB
}

func dial(t testing.TB, address string) *client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{conn, t}
}

// answer is a response as the tests look at it.
type answer struct {
	id    int64
	op    ldapmsg.Op
	code  int
	text  string
	parts []*ber.Packet // of the operation
}

// next reads a message; its op is 0 at the end of the connection.
func (c *client) next() (a answer) {
	c.t.Helper()
	p, err := ber.ReadPacket(c)
	if err != nil {
		return answer{}
	}
	op := p.Children[1]
	a = answer{id: p.Children[0].Value.(int64), op: ldapmsg.Op(byte(op.ClassType) | byte(op.TagType) | byte(op.Tag)), parts: op.Children}
	if code, ok := op.Children[0].Value.(int64); ok {
		a.code, a.text = int(code), string(op.Children[2].ByteValue)
	}
	return a
}

func (c *client) send(messages ...[]byte) {
	c.t.Helper()
	if _, err := c.Write(bytes.Join(messages, nil)); err != nil {
		c.t.Error(err)
	}
}

// request is a message, of the parts of its operation and with controls' elements.
func request(id byte, op ldapmsg.Op, body []byte, controls ...[]byte) []byte {
	b := adproto.AppendElement([]byte{2, 1, id}, byte(op), body)
	if len(controls) > 0 {
		b = adproto.AppendElement(b, 0xa0, bytes.Join(controls, nil))
	}
	return adproto.AppendElement(nil, 0x30, b)
}

func octets(s string) []byte { return adproto.AppendElement(nil, 4, []byte(s)) }

// search is a search request's body.
func searchBody(base string, scope byte, filter string, attributes ...string) []byte {
	f, err := adproto.ParseFilter(filter)
	if err != nil {
		panic(err)
	}
	var list []byte
	for _, a := range attributes {
		list = append(list, octets(a)...)
	}
	return slices.Concat(octets(base), []byte{10, 1, scope, 10, 1, 0, 2, 1, 0, 2, 1, 0, 1, 1, 0}, f.Append(nil), adproto.AppendElement(nil, 0x30, list))
}

func bindBody(name string, auth byte, content []byte) []byte {
	return slices.Concat([]byte{2, 1, 3}, octets(name), adproto.AppendElement(nil, auth, content))
}

var rootSearch = searchBody("", 0, "(objectClass=*)", "currentTime")

func extended(name string) []byte { return adproto.AppendElement(nil, 0x80, []byte(name)) }

// wantNotice reads a notice of disconnection and the end.
func (c *client) wantNotice(what string, code int) {
	c.t.Helper()
	a := c.next()
	if a.id != 0 || a.op != ldapmsg.OpExtendedResponse || a.code != code {
		c.t.Errorf("%s: %+v, want a notice of disconnection with %d", what, a, code)
	}
	c.wantEnd(what)
}

func (c *client) wantEnd(what string) {
	c.t.Helper()
	if n, err := io.Copy(io.Discard, c); n > 0 || err != nil && !strings.Contains(err.Error(), "reset") {
		c.t.Errorf("%s: %d bytes and %v, want the end of the connection", what, n, err)
	}
}

func TestRequestsThatEndAConnection(t *testing.T) {
	f := start(t)
	for name, b := range map[string][]byte{
		"no LDAP":                  []byte("GET / HTTP/1.1\r\n\r\n"),
		"larger than allowed":      {0x30, 0x84, 0x7f, 0xff, 0xff, 0xff},
		"larger before a bind":     {0x30, 0x83, 0x04, 0x00, 0x01},
		"indefinite length":        {0x30, 0x80, 2, 1, 1},
		"message id 0":             request(0, ldapmsg.OpSearchRequest, rootSearch),
		"an answer":                request(1, ldapmsg.OpSearchDone, nil),
		"an unknown operation":     request(1, 0x7e, nil),
		"a hundred levels":         bytes.Repeat([]byte{0x30, 0x82, 0, 0x80}, 100),
		"abandon without a number": request(1, ldapmsg.OpAbandonRequest, nil),
		"bytes behind StartTLS":    slices.Concat(request(1, ldapmsg.OpExtendedRequest, extended(adproto.OIDStartTLS)), request(2, ldapmsg.OpSearchRequest, rootSearch)),
	} {
		c := dial(t, f.plain)
		c.send(b)
		c.wantNotice(name, protocolError)
	}
	c := dial(t, f.plain)
	c.send(request(1, ldapmsg.OpUnbindRequest, nil))
	c.wantEnd("unbind")
}

// TestRequestsThatAreRefused holds security 24 among others: no NTLM, no Sicily bind.
func TestRequestsThatAreRefused(t *testing.T) {
	f := start(t)
	critical := func(oid string) []byte {
		return adproto.AppendElement(nil, 0x30, append(octets(oid), 1, 1, 0xff))
	}
	harmless := adproto.AppendElement(nil, 0x30, octets("1.2.3"))
	sasl := func(mechanism string) []byte {
		return bindBody("", 0xa3, slices.Concat(octets(mechanism), octets("x")))
	}
	for name, c := range map[string]struct {
		op       ldapmsg.Op
		body     []byte
		controls [][]byte
		code     int
		text     string
	}{
		"an unknown critical control":             {ldapmsg.OpSearchRequest, rootSearch, [][]byte{critical("1.2.3")}, 12, "1.2.3"},
		"a critical control of another operation": {ldapmsg.OpSearchRequest, rootSearch, [][]byte{critical(adproto.ControlTreeDelete)}, 12, ""},
		"a control without its value":             {ldapmsg.OpSearchRequest, rootSearch, [][]byte{critical(adproto.ControlPaged)}, 2, ""},
		"a malformed search":                      {ldapmsg.OpSearchRequest, rootSearch[:9], nil, 2, "malformed"},
		"a search without a bind":                 {ldapmsg.OpSearchRequest, searchBody("DC=contoso,DC=com", 2, "(cn=*)"), nil, 1, "00002020: Operation unavailable without authentication"},
		"a modification without a bind":           {ldapmsg.OpModifyRequest, slices.Concat(octets("CN=x"), []byte{0x30, 0}), nil, 1, "00002020"},
		"an unknown extended operation":           {ldapmsg.OpExtendedRequest, extended("1.3.6.1.4.1.4203.1.11.1"), nil, 2, "not supported"},
		"a password in the clear":                 {ldapmsg.OpBindRequest, bindBody("alice", 0x80, []byte("correct horse")), nil, 8, "00002028: LdapErr: DSID-0C090202, comment: The server requires binds to turn on integrity checking"},
		"a name and no password":                  {ldapmsg.OpBindRequest, bindBody("alice", 0x80, nil), nil, 53, "password is empty"},
		"LDAP version 2":                          {ldapmsg.OpBindRequest, slices.Concat([]byte{2, 1, 2}, octets(""), []byte{0x80, 0}), nil, 2, "version 3"},
		"EXTERNAL":                                {ldapmsg.OpBindRequest, sasl("EXTERNAL"), nil, 7, "00002027: "},
		"DIGEST-MD5":                              {ldapmsg.OpBindRequest, sasl("DIGEST-MD5"), nil, 7, "00002027: "},
		"NTLM":                                    {ldapmsg.OpBindRequest, sasl("NTLM"), nil, 7, "Invalid Authentication method"},
		"Sicily, package discovery":               {ldapmsg.OpBindRequest, bindBody("", 0x89, nil), nil, 7, "Invalid Authentication method"},
		"Sicily, negotiate":                       {ldapmsg.OpBindRequest, bindBody("alice", 0x8a, []byte("NTLMSSP\x00")), nil, 7, "Invalid Authentication method"},
	} {
		conn := dial(t, f.plain)
		conn.send(request(1, c.op, c.body, c.controls...), request(2, ldapmsg.OpSearchRequest, rootSearch, harmless))
		if a := conn.next(); a.id != 1 || a.code != c.code || !strings.Contains(a.text, c.text) {
			t.Errorf("%s: %+v, want %d %q", name, a, c.code, c.text)
		}
		if a := conn.next(); a.id != 2 || a.op != ldapmsg.OpSearchEntry {
			t.Errorf("%s: the connection serves no more: %+v", name, a)
		}
	}
}

// A TLS connection is one already, and nothing behind the request is taken for the
// handshake.
func TestStartTLSTwice(t *testing.T) {
	f := start(t)
	c := dial(t, f.plain)
	startTLS := request(1, ldapmsg.OpExtendedRequest, extended(adproto.OIDStartTLS))
	c.send(startTLS)
	if a := c.next(); a.code != success {
		t.Fatalf("%+v", a)
	}
	inside := tls.Client(c.Conn, &tls.Config{ServerName: hostName, RootCAs: f.roots})
	c.Conn = inside
	c.send(startTLS)
	if a := c.next(); a.code != operationsError {
		t.Errorf("again: %+v", a)
	}
	c.send(request(2, ldapmsg.OpSearchRequest, rootSearch))
	if a := c.next(); a.op != ldapmsg.OpSearchEntry {
		t.Errorf("inside: %+v", a)
	}
	f = start(t, func(cfg *Config) { cfg.Certificate = nil })
	c = dial(t, f.plain)
	c.send(startTLS)
	if a := c.next(); a.code != unavailable {
		t.Errorf("without a certificate: %+v", a)
	}
	c = dial(t, f.tls)
	c.wantNotice("the TLS port without a certificate", unavailable)
}

func TestSlowAndSilentClients(t *testing.T) {
	f := start(t, func(cfg *Config) {
		cfg.Limits = Limits{Idle: 300 * time.Millisecond, Receive: 100 * time.Millisecond, Send: 100 * time.Millisecond}
	})
	silent := dial(t, f.plain)
	silent.wantNotice("a client that asks nothing", unavailable)

	slow := dial(t, f.plain)
	slow.send(request(1, ldapmsg.OpSearchRequest, rootSearch)[:20])
	slow.wantNotice("a client that stops in a request", unavailable)

	halfOpen := dial(t, f.tls)
	halfOpen.wantEnd("a client that begins no TLS handshake")

	deaf := dial(t, f.plain)
	_ = deaf.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
	ask := bytes.Repeat(request(1, ldapmsg.OpSearchRequest, searchBody("", 0, "(objectClass=*)")), 1000)
	for began := time.Now(); ; {
		if _, err := deaf.Write(ask); err != nil {
			break
		}
		if time.Since(began) > 20*time.Second {
			t.Fatal("a client that reads nothing keeps its connection")
		}
	}
}

func TestShutdownIsTold(t *testing.T) {
	f := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- f.server.Serve(ctx, l) }()
	c := dial(t, l.Addr().String())
	c.send(request(1, ldapmsg.OpSearchRequest, rootSearch))
	c.next()
	c.next()
	cancel()
	c.wantNotice("a server that ends", unavailable)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	f := start(t, func(cfg *Config) { cfg.Limits.PerSource = 3 })
	var open []*client
	for range 3 {
		c := dial(t, f.plain)
		c.send(request(1, ldapmsg.OpSearchRequest, rootSearch))
		if c.next(); c.next().op != ldapmsg.OpSearchDone {
			t.Fatal("no answer")
		}
		open = append(open, c)
	}
	dial(t, f.plain).wantEnd("one connection too many")
	_ = open[0].Close()
	for range 100 {
		c := dial(t, f.plain)
		if _, err := c.Write(request(1, ldapmsg.OpSearchRequest, rootSearch)); err == nil && c.next().op == ldapmsg.OpSearchEntry {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a place that became free is not given away")
}

// The bound: 5,000 idle connections, in bounded memory.
func TestThousandsOfIdleConnections(t *testing.T) {
	const connections, perConnection = 5000, 16 << 10 // bytes; both ends are in this process
	f := start(t, func(cfg *Config) { cfg.Limits.PerSource = connections + 1; cfg.Log = nil })
	used := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	before := used()
	open := make([]net.Conn, 0, connections)
	defer func() {
		for _, c := range open {
			_ = c.Close()
		}
	}()
	for range connections {
		c, err := net.Dial("tcp", f.plain)
		if err != nil {
			t.Fatalf("after %d: %v", len(open), err)
		}
		open = append(open, c)
	}
	ask := request(1, ldapmsg.OpSearchRequest, rootSearch)
	for _, c := range open {
		_, _ = c.Write(ask)
	}
	for _, c := range open {
		w := &client{c, t}
		if w.next(); w.next().op != ldapmsg.OpSearchDone {
			t.Fatal("no answer")
		}
	}
	after := used()
	per := (after - min(before, after)) / connections
	t.Logf("%d bytes a connection, both ends", per)
	if per > perConnection {
		t.Errorf("%d bytes a connection, want at most %d", per, perConnection)
	}
}

// Random and mutated bytes on each port: the server goes on.
func TestGarbageOnEveryPort(t *testing.T) {
	f := start(t, func(cfg *Config) { cfg.Log = nil })
	random := rand.New(rand.NewPCG(1, 2))
	good := slices.Concat(request(1, ldapmsg.OpSearchRequest, rootSearch), request(2, ldapmsg.OpBindRequest, bindBody("x", 0xa3, slices.Concat(octets("GSS-SPNEGO"), octets("\x60\x10")))))
	for i := range 600 {
		b := slices.Clone(good)
		for range 1 + i%7 {
			b[random.IntN(len(b))] = byte(random.Uint32())
		}
		c := dial(t, []string{f.plain, f.tls, f.gc}[i%3])
		_, _ = c.Write(b)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}
	c := dial(t, f.plain)
	c.send(request(1, ldapmsg.OpSearchRequest, rootSearch))
	if a := c.next(); a.op != ldapmsg.OpSearchEntry {
		t.Errorf("after all that: %+v", a)
	}
}
