package ldapd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// conn is one connection. Its protection only ever rises, and who is bound may change
// at any time:
//
//	plain ──StartTLS──► TLS          anonymous ◄──► bound
//	  └─────SASL bind with a layer──► signed or sealed, bound for good
//
// One goroutine reads requests and answers them, one after another; searches that may
// take long run beside it, at most Limits.Outstanding of them. Binds and changes of
// protection wait until nothing runs beside them.
type conn struct {
	s    *Server
	at   endpoint
	sock net.Conn // the socket itself, which has the deadlines
	log  *slog.Logger

	// What follows belongs to the goroutine that reads.

	in      reader
	caller  directory.Caller
	expires time.Time         // of the ticket that the caller came with; zero for none
	sasl    *saslBind         // a bind between two of its steps, or nil
	cert    *x509.Certificate // of TLS, or nil
	layered bool              // a SASL layer is in force

	running sync.WaitGroup // requests beside the reader

	mu sync.Mutex
	// stops ends the requests beside the reader, by message id; guarded by mu.
	stops map[int32]context.CancelFunc

	// writing guards out, the outermost layer, and keeps messages whole.
	writing sync.Mutex
	out     net.Conn
}

func newConn(s *Server, sock net.Conn, from netip.AddrPort, at endpoint) *conn {
	return &conn{
		s: s, at: at, sock: sock, out: sock, in: reader{src: sock},
		log:    s.cfg.Log.With("conn", s.last.Add(1)),
		caller: directory.Caller{From: from},
		stops:  map[int32]context.CancelFunc{},
	}
}

// disconnection ends a connection, and says why to a client that can still hear it:
// the notice of disconnection of RFC 4511, Section 4.4.1.
type disconnection struct {
	code int
	text string // for the client
	err  error  // for our own log; may be nil
}

func (d *disconnection) Error() string {
	if d.err == nil {
		return d.text
	}
	return d.text + ": " + d.err.Error()
}

func (d *disconnection) Unwrap() error { return d.err }

// errUnbind is the client's own end of the connection.
var errUnbind = errors.New("unbind")

// run serves the connection until one side ends it.
func (c *conn) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	// A read that waits ends with ctx; see waiting.
	stop := context.AfterFunc(ctx, func() {
		_ = c.sock.SetReadDeadline(time.Unix(1, 0))
		_ = c.sock.SetWriteDeadline(time.Now().Add(goodbyeTime))
	})
	c.log.Debug("LDAP connection", "from", c.caller.From)
	err := c.requests(ctx)
	stop()
	cancel()
	c.running.Wait()
	c.goodbye(err)
	_ = c.out.Close()
	c.log.Debug("LDAP connection ended", "cause", err)
}

// requests reads requests and answers them; it returns why it stopped.
func (c *conn) requests(ctx context.Context) error {
	if c.at.tls {
		if err := c.startTLS(ctx); err != nil {
			return err
		}
	}
	for {
		limit := c.s.cfg.Limits.Message
		if c.caller.Anonymous() {
			limit = min(limit, maxUnboundMessage)
		}
		b, err := c.in.message(limit, func(begun bool) error { return c.waiting(ctx, begun) })
		if err != nil {
			if ctx.Err() != nil {
				return &disconnection{code: unavailable, text: "the server shuts down"}
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if c.outstanding() > 0 && !c.in.buffered() {
					continue // it waits for us
				}
				return &disconnection{code: unavailable, text: "idle for too long, or too slow"}
			}
			return err
		}
		m, err := ldapmsg.Parse(b)
		if err != nil {
			return &disconnection{code: protocolError, text: "malformed message", err: err}
		}
		if err := c.request(ctx, m); err != nil {
			return err
		}
	}
}

// waiting sets the deadline of the read that follows: the time to be idle, or to send
// what has begun. A deadline that passes while searches run is set anew.
func (c *conn) waiting(ctx context.Context, begun bool) error {
	l := &c.s.cfg.Limits
	wait := l.Idle
	switch {
	case begun:
		wait = l.Receive
	case c.caller.Anonymous():
		wait = min(wait, maxUnboundIdle)
	}
	if err := c.sock.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	// Whatever ends ctx from here on sets a deadline in the past after this one.
	return ctx.Err()
}

// startTLS puts TLS around the socket.
func (c *conn) startTLS(ctx context.Context) error {
	cert, err := c.s.certificate()
	if err != nil {
		return &disconnection{code: unavailable, text: "no TLS here", err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, c.s.cfg.Limits.Receive)
	defer cancel()
	layer := tls.Server(c.sock, &tls.Config{
		Certificates: []tls.Certificate{*cert},
		MinVersion:   tls.VersionTLS12,
		// A resumed session would be bound to the certificate that it began with, which
		// may not be the one at hand; and a client that keeps its connection, as those of
		// LDAP do, gains nothing from tickets.
		SessionTicketsDisabled: true,
	})
	if err := layer.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.cert = cert.Leaf
	c.caller.Encrypted = true
	c.wrap(layer)
	return nil
}

// certificate is the controller's certificate, with its leaf parsed.
func (s *Server) certificate() (*tls.Certificate, error) {
	if s.cfg.Certificate == nil {
		return nil, errors.New("no certificate is configured")
	}
	cert, err := s.cfg.Certificate()
	if err != nil || cert.Leaf != nil {
		return cert, err
	}
	parsed := *cert
	if len(parsed.Certificate) == 0 {
		return nil, errors.New("the certificate is empty")
	}
	parsed.Leaf, err = x509.ParseCertificate(parsed.Certificate[0])
	return &parsed, err
}

// wrap makes layer the way to read and write from here on.
func (c *conn) wrap(layer net.Conn) {
	c.in = reader{src: layer}
	c.writing.Lock()
	defer c.writing.Unlock()
	c.out = layer
}

// write sends whole messages. A client that does not take them in time loses its
// connection: memory for answers is bounded by that.
func (c *conn) write(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.sock.SetWriteDeadline(time.Now().Add(c.s.cfg.Limits.Send)); err != nil {
		return err
	}
	_, err := c.out.Write(b)
	if err != nil {
		_ = c.sock.Close() // ends the reader too
	}
	return err
}

// goodbye sends the notice of disconnection that err stands for, if it is one.
func (c *conn) goodbye(err error) {
	d, ok := errors.AsType[*disconnection](err)
	if !ok {
		return
	}
	notice := ldapmsg.Result{Code: d.code, Diagnostic: d.text, Name: adproto.OIDNoticeDisconnection}
	_ = c.sock.SetWriteDeadline(time.Now().Add(goodbyeTime))
	c.writing.Lock()
	defer c.writing.Unlock()
	_, _ = c.out.Write(ldapmsg.AppendResult(nil, 0, ldapmsg.OpExtendedResponse, notice))
}

// goodbyeTime bounds what the end of a connection may wait for its client.
const goodbyeTime = time.Second
