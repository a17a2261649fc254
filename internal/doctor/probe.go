package doctor

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
)

const (
	// probeTime is how long a port has to answer. A datagram is sent again every
	// probeRepeat, because one may be lost.
	probeTime   = 1500 * time.Millisecond
	probeRepeat = 400 * time.Millisecond
	// maxProbe bounds an answer, in bytes.
	maxProbe = 64 << 10
)

// errSilent is a service that takes a connection and says nothing.
var errSilent = errors.New("the connection is accepted and nothing answers: the service hangs")

// dialed is an error of connecting, as opposed to one of what came after.
type dialed struct{ err error }

func (e dialed) Error() string { return e.err.Error() }
func (e dialed) Unwrap() error { return e.err }

// blocked says in words what a probe's error means.
func blocked(err error) string {
	_, connecting := errors.AsType[dialed](err)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused: nothing listens there, or a firewall rejects it"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no route to it"
	case errors.Is(err, errSilent):
		return errSilent.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		if connecting {
			return "no answer: a firewall drops it, or the host is down"
		}
		return "no answer: a firewall drops it, or the service hangs"
	}
	return err.Error()
}

func isTimeout(err error) bool {
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// connect dials and lets the connection's reads and writes end with ctx.
func connect(ctx context.Context, dial locate.DialFunc, network, address string) (net.Conn, error) {
	conn, err := dial(ctx, network, address)
	if err != nil {
		return nil, dialed{err}
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	return conn, nil
}

// datagrams sends a request until an answer comes that accept takes.
func datagrams(ctx context.Context, dial locate.DialFunc, address string, request []byte, accept func([]byte) bool) error {
	conn, err := connect(ctx, dial, "udp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, maxProbe)
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err != nil {
			return err
		}
		_ = conn.SetReadDeadline(time.Now().Add(probeRepeat))
		n, err := conn.Read(buf)
		switch {
		case err == nil && accept(buf[:n]):
			return nil
		case err != nil && !isTimeout(err):
			return err
		}
	}
	return context.Cause(ctx)
}

// framed sends a request with its length before it, as Kerberos does over TCP (RFC
// 4120, Section 7.2.2), and returns the answer.
func framed(ctx context.Context, dial locate.DialFunc, address string, request []byte) ([]byte, error) {
	conn, err := connect(ctx, dial, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(request))), request...)); err != nil {
		return nil, err
	}
	var head [4]byte
	if _, err := io.ReadFull(conn, head[:]); err != nil {
		return nil, silent(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size == 0 || size > maxProbe {
		return nil, fmt.Errorf("an answer of %d bytes is none of Kerberos", size)
	}
	b := make([]byte, size)
	_, err = io.ReadFull(conn, b)
	return b, silent(err)
}

// silent turns a read that came to nothing on an open connection into errSilent.
func silent(err error) error {
	if err != nil && isTimeout(err) {
		return errSilent
	}
	return err
}

// asRequest asks for a ticket without proving anything, so that the KDC answers with
// an error in which its clock stands: RFC 4120, Section 5.9.1. No attempt is counted
// against any account: the client is the realm's own krbtgt.
func asRequest(realm string, now time.Time) []byte {
	krbtgt := krb5.NewName(krb5.NameSrvInst, "krbtgt", realm)
	return krb5.KDCReq{Type: krb5.MsgASReq, Body: krb5.KDCReqBody{
		CName: krb5.NewName(krb5.NamePrincipal, "krbtgt"), Realm: realm, SName: krbtgt,
		Till: now.Add(time.Hour).Truncate(time.Second), Nonce: uint32(now.UnixNano())&(1<<31-1) | 1,
		ETypes: []crypto.EType{crypto.AES256SHA1, crypto.AES128SHA1},
	}}.Append(nil)
}

// kerberosTime asks a KDC what time it is there.
func (p *placeFacts) kerberosTime(ctx context.Context, network, address, realm string, now func() time.Time) (skew time.Duration, err error) {
	before := now()
	request := asRequest(realm, before)
	var answer []byte
	if network == "udp" {
		err = datagrams(ctx, p.Dial, address, request, func(b []byte) bool {
			answer = append([]byte(nil), b...)
			return true
		})
	} else {
		answer, err = framed(ctx, p.Dial, address, request)
	}
	if err != nil {
		return 0, err
	}
	e, err := krb5.ParseKRBError(answer)
	if err != nil {
		return 0, fmt.Errorf("what answers is no KDC: %w", err)
	}
	middle := before.Add(now().Sub(before) / 2)
	return e.ServerTime().Sub(middle), nil
}

// passwordPort sends the password service something that it must refuse: a request
// whose ticket is none (RFC 3244, Section 2). Any answer of Kerberos will do.
func (p *placeFacts) passwordPort(ctx context.Context, network, address, realm string) error {
	ticket := krb5.KRBError{Code: krb5.ErrGeneric, Realm: realm}.Append(nil) // not an AP-REQ
	request := kpasswd.Request{Version: kpasswd.VersionChange, APReq: ticket, Priv: ticket}.Append(nil)
	if network == "udp" {
		return datagrams(ctx, p.Dial, address, request, func(b []byte) bool { return len(b) > 0 })
	}
	_, err := framed(ctx, p.Dial, address, request)
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return nil // it read the request and hung up: that is an answer
	}
	return err
}

// handshake connects by TLS and returns what the peer shows, which the caller judges.
func (p *placeFacts) handshake(ctx context.Context, address, name string) (*tls.ConnectionState, error) {
	conn, err := connect(ctx, p.Dial, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	c := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) // nothing is sent, and the caller judges the chain
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, silent(err)
	}
	state := c.ConnectionState()
	return &state, nil
}

// question asks one name server one thing over one network.
func (p *placeFacts) question(ctx context.Context, network, server, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(1232, false)
	if network == "tcp" {
		conn, err := connect(ctx, p.Dial, "tcp", server)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		c := &dns.Conn{Conn: conn}
		if err := c.WriteMsg(q); err != nil {
			return nil, err
		}
		m, err := c.ReadMsg()
		return m, silent(err)
	}
	request, err := q.Pack()
	if err != nil {
		return nil, err
	}
	answer := new(dns.Msg)
	err = datagrams(ctx, p.Dial, server, request, func(b []byte) bool {
		return answer.Unpack(b) == nil && answer.Response && answer.Id == q.Id
	})
	return answer, err
}

// ping asks a controller what it is.
func (p *placeFacts) ping(ctx context.Context, network, address, domain string) (adproto.PingReply, error) {
	r, err := locate.Ping(ctx, p.Dial, network, address, domain)
	if err != nil && network == "tcp" && (isTimeout(err) || ctx.Err() != nil) && !strings.Contains(err.Error(), "dial") {
		err = errSilent
	}
	return r, err
}
