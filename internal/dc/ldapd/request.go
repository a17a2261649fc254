package ldapd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
)

// request answers one request. An error ends the connection.
func (c *conn) request(ctx context.Context, m ldapmsg.Message) error {
	if !c.expires.IsZero() && c.s.cfg.Now().After(c.expires) {
		return &disconnection{code: strongerAuthRequired, text: "the Kerberos ticket of this connection has expired"}
	}
	switch m.Op {
	case ldapmsg.OpUnbindRequest:
		return errUnbind
	case ldapmsg.OpAbandonRequest:
		return c.abandon(m)
	}
	if _, ok := m.Op.Response(); !ok {
		return &disconnection{code: protocolError, text: fmt.Sprintf("%v is no request", m.Op)}
	}
	if c.isRunning(m.ID) {
		return &disconnection{code: protocolError, text: fmt.Sprintf("message id %d is in use", m.ID)}
	}
	o, err := readControls(m)
	if err != nil {
		return c.respond(ctx, m, err)
	}
	switch m.Op {
	case ldapmsg.OpBindRequest:
		return c.bind(ctx, m)
	case ldapmsg.OpExtendedRequest:
		return c.extended(ctx, m)
	case ldapmsg.OpSearchRequest:
		return c.search(ctx, m, o)
	}
	return c.respond(ctx, m, c.operate(ctx, m, o))
}

// respond answers with the result that err stands for. A failure of our own is in the
// log with its cause, which the client is not told.
func (c *conn) respond(ctx context.Context, m ldapmsg.Message, err error, controls ...ldapmsg.Control) error {
	return c.answer(ctx, m, resultOf(err), err, controls...)
}

func (c *conn) answer(ctx context.Context, m ldapmsg.Message, r ldapmsg.Result, cause error, controls ...ldapmsg.Control) error {
	c.logResult(ctx, m, r, cause)
	op, _ := m.Op.Response()
	buf := buffers.Get().(*buffer)
	defer buf.release()
	buf.b = ldapmsg.AppendResult(buf.b, m.ID, op, r, controls...)
	return c.write(buf.b)
}

// logResult tells the log which request ended how. Names and values stay out of it.
func (c *conn) logResult(ctx context.Context, m ldapmsg.Message, r ldapmsg.Result, cause error) {
	if !c.log.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := []slog.Attr{slog.Int("request", int(m.ID)), slog.String("op", m.Op.String()), slog.Int("code", r.Code)}
	if cause != nil {
		attrs = append(attrs, slog.Any("cause", cause))
	}
	c.log.LogAttrs(ctx, slog.LevelDebug, "LDAP request", attrs...)
}

// beside runs fn beside the reader, so that it can be abandoned and others can be
// asked for meanwhile; ctx ends with the connection and with an abandon. It refuses
// when too many run already.
func (c *conn) beside(ctx context.Context, id int32, fn func(ctx context.Context)) error {
	source := sourceOf(c.caller.From)
	if !c.s.begin(source) {
		return fail(busy, 0x200e, "too many requests of this address are outstanding") // ERROR_DS_BUSY
	}
	ctx, stop := context.WithCancel(ctx)
	c.mu.Lock()
	full := len(c.stops) >= c.s.cfg.Limits.Outstanding
	if !full {
		c.stops[id] = stop
	}
	c.mu.Unlock()
	if full {
		stop()
		c.s.end(source)
		return fail(busy, 0x200e, "too many requests of this connection are outstanding") // ERROR_DS_BUSY
	}
	c.running.Go(func() {
		defer func() {
			c.mu.Lock()
			delete(c.stops, id)
			c.mu.Unlock()
			stop()
			c.s.end(source)
		}()
		fn(ctx)
	})
	return nil
}

// isRunning reports whether a request with that id runs beside the reader.
func (c *conn) isRunning(id int32) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stops[id] != nil
}

// outstanding is how many requests run beside the reader.
func (c *conn) outstanding() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stops)
}

// settle ends all that runs beside the reader: a bind abandons it (RFC 4511, Section
// 4.2.1).
func (c *conn) settle() {
	c.mu.Lock()
	for _, stop := range c.stops {
		stop()
	}
	c.mu.Unlock()
	c.running.Wait()
}

// abandon ends a request; it has no answer, whatever it names: RFC 4511, Section 4.11.
func (c *conn) abandon(m ldapmsg.Message) error {
	id, err := m.Abandon()
	if err != nil {
		return &disconnection{code: protocolError, text: "malformed message", err: err}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if stop := c.stops[id]; stop != nil {
		stop()
	}
	return nil
}

// extended answers an extended request. A password is modified with kpasswd or by
// writing unicodePwd, not by RFC 3062, as in Active Directory.
func (c *conn) extended(ctx context.Context, m ldapmsg.Message) error {
	q, err := m.Extended()
	if err != nil {
		return c.respond(ctx, m, malformed(err))
	}
	switch q.Name {
	case adproto.OIDStartTLS:
		return c.extendedStartTLS(ctx, m)
	case adproto.OIDWhoAmI:
		return c.answer(ctx, m, ldapmsg.Result{Value: c.authorizationID()}, nil)
	}
	return c.respond(ctx, m, fail(protocolError, 0x57, "the extended operation is not supported")) // ERROR_INVALID_PARAMETER
}

// authorizationID is who is bound: RFC 4532, Section 2, empty for nobody.
func (c *conn) authorizationID() []byte {
	if c.caller.Anonymous() {
		return []byte{}
	}
	return []byte("u:" + c.caller.Name)
}

// extendedStartTLS is RFC 4511, Section 4.14. Bytes that came behind the request were
// sent in the clear by whoever sits in between, and must not be taken for the client's.
func (c *conn) extendedStartTLS(ctx context.Context, m ldapmsg.Message) error {
	refuse := func(code int, win32 uint32, text string) error {
		f := fail(code, win32, text)
		f.Name = adproto.OIDStartTLS
		return c.respond(ctx, m, f)
	}
	switch {
	case c.cert != nil || c.layered:
		return refuse(operationsError, 0x2020, "the connection is protected already") // ERROR_DS_OPERATIONS_ERROR
	case c.sasl != nil || c.outstanding() > 0:
		return refuse(operationsError, 0x2020, "other requests are outstanding")
	case c.s.cfg.Certificate == nil:
		return refuse(unavailable, 0, "the controller has no certificate")
	case c.in.buffered():
		return &disconnection{code: protocolError, text: "bytes follow the request for TLS"}
	}
	if err := c.answer(ctx, m, ldapmsg.Result{Name: adproto.OIDStartTLS}, nil); err != nil {
		return err
	}
	return c.startTLS(ctx)
}

// errAnonymous is what an anonymous client is told of all but the rootDSE.
func errAnonymous() error {
	return fail(operationsError, 0x2020, "Operation unavailable without authentication") // ERROR_DS_OPERATIONS_ERROR
}

// abandoned reports whether ctx ended by an abandon, a bind or the end of the
// connection, after which no answer is sent.
func abandoned(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// seconds is a limit of RFC 4511 as a duration.
func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
