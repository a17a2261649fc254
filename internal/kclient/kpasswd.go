package kclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
	"github.com/opengmsa/opengmsa/secret"
)

// changepw is the service that changes passwords: RFC 3244, Section 2.
func changepw() krb5.PrincipalName { return krb5.NewName(krb5.NameSrvInst, "kadmin", "changepw") }

// changepwLifetime is that of a ticket for one change.
const changepwLifetime = 5 * time.Minute

// kpasswdDial is how long one controller has to accept the connection.
const kpasswdDial = time.Second

// ChangePassword changes an account's own password: RFC 3244, version 1. It
// works with an expired password too. Errors are *[Error]; a refusal by the
// policy is a kpasswd.Result in it, and [ErrIndeterminate] means that the
// connection broke before the answer came.
func (c *Client) ChangePassword(ctx context.Context, client krb5.PrincipalName, old Secret, password secret.Bytes) error {
	res, err := c.AS(ctx, ASRequest{Client: client, Secret: old, Server: changepw(), Lifetime: changepwLifetime})
	if err != nil {
		return err
	}
	return c.kpasswd(ctx, res.Credential, kpasswd.VersionChange, password.Reveal())
}

// SetPassword sets another account's password, or the client's own, on the
// strength of a TGT: RFC 3244, version 0xff80. The client needs the right to
// reset the target's password.
func (c *Client) SetPassword(ctx context.Context, tgt krb5.Credential, target krb5.PrincipalName, password secret.Bytes) error {
	res, err := c.TGS(ctx, TGSRequest{TGT: tgt, Server: changepw(), Lifetime: changepwLifetime, ExactName: true})
	if err != nil {
		return err
	}
	data := kpasswd.ChangePasswdData{NewPassword: password, TargetName: target, TargetRealm: c.cfg.Realm}.Append(nil)
	defer clear(data)
	return c.kpasswd(ctx, res.Credential, kpasswd.VersionSet, data)
}

func (c *Client) kpasswd(ctx context.Context, ticket krb5.Credential, version uint16, data []byte) error {
	x := &kpasswdExchange{c: c, ticket: ticket, version: version, data: data, offset: c.Offset()}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errNoAnswer)
	defer cancel()
	if err := x.run(ctx); err != nil {
		return &Error{Op: "kpasswd exchange", Client: ticket.Client, Server: ticket.Server, KDC: x.kdc, Kind: kindOf(err), Err: err}
	}
	return nil
}

// kpasswdExchange is one change of a password. Unlike the other exchanges it
// goes to one controller only, over TCP, and is not sent again once it has gone
// out, because it changes something.
type kpasswdExchange struct {
	c       *Client
	ticket  krb5.Credential
	version uint16
	data    []byte
	offset  time.Duration
	skewed  bool

	kdc     KDC
	now     time.Time // of the authenticator
	subkey  *crypto.Key
	seq     uint32
	request kpasswd.Request
}

func (x *kpasswdExchange) run(ctx context.Context) error {
	for {
		conn, err := x.connect(ctx)
		if err != nil {
			return err
		}
		reply, err := x.exchange(ctx, conn)
		if err != nil {
			return err
		}
		if reply.Error == nil {
			return x.accept(reply)
		}
		if err := x.react(reply.Error); err != nil {
			return err
		}
	}
}

// connect finds a controller that accepts.
func (x *kpasswdExchange) connect(ctx context.Context) (net.Conn, error) {
	kdcs, err := x.c.cfg.KDCs.KDCs(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	errs := make([]error, len(kdcs))
	for i, k := range kdcs {
		conn, err := x.dial(ctx, k)
		if err == nil {
			x.kdc = k
			return conn, nil
		}
		errs[i] = err
		if ctx.Err() != nil {
			break
		}
		x.c.cfg.KDCs.Failed(k)
	}
	return nil, &unreachableError{kdcs: kdcs, errs: errs}
}

func (x *kpasswdExchange) dial(ctx context.Context, k KDC) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, kpasswdDial)
	defer cancel()
	return x.c.cfg.Dial(ctx, "tcp", k.Kpasswd)
}

// exchange sends the request on conn and closes it.
func (x *kpasswdExchange) exchange(ctx context.Context, conn net.Conn) (kpasswd.Reply, error) {
	defer conn.Close()
	if err := x.build(conn.LocalAddr()); err != nil {
		return kpasswd.Reply{}, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer stop()
	b, err := x.c.roundTrip(conn, x.request.Append(nil))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return kpasswd.Reply{}, fmt.Errorf("%w: %w", ErrIndeterminate, err)
	}
	reply, err := kpasswd.ParseReply(b)
	if err != nil {
		return kpasswd.Reply{}, badReply("read the kpasswd reply: %w", err)
	}
	return reply, nil
}

func (x *kpasswdExchange) build(local net.Addr) (err error) {
	if x.subkey, err = crypto.Generate(x.ticket.SessionKey.EType(), x.c.cfg.Rand, x.c.cfg.Allow...); err != nil {
		return fmt.Errorf("make a subkey: %w", err)
	}
	if x.seq, err = x.c.nonce(); err != nil {
		return err
	}
	x.now = x.c.cfg.Now().Add(x.offset).UTC().Truncate(time.Microsecond)
	ap, err := x.c.apReq(x.ticket, authenticator{
		usage: krb5.UsageAPReqAuthenticator, subkey: x.subkey, now: x.now, seq: x.seq, options: krb5.APMutualRequired,
	})
	if err != nil {
		return err
	}
	priv, err := krb5.SealPriv(x.subkey, krb5.MessageBody{UserData: x.data, SeqNumber: x.seq, SAddress: addressOf(local)}, x.c.cfg.Rand)
	if err != nil {
		return err
	}
	x.request = kpasswd.Request{Version: x.version, APReq: ap, Priv: priv.Append(nil)}
	return nil
}

// addressOf is the sender's address, which RFC 3244 wants in the KRB-PRIV. On a
// connection without one it is 0.0.0.0: servers ignore it, because of address
// translation.
func addressOf(a net.Addr) krb5.HostAddress {
	if t, ok := a.(*net.TCPAddr); ok && t.AddrPort().IsValid() {
		return krb5.AddressOf(t.AddrPort().Addr())
	}
	return krb5.HostAddress{Type: krb5.AddrIPv4, Address: make([]byte, 4)}
}

// react reads a KRB-ERROR, and lets the request go out once more with the right
// time: the server has not taken it.
func (x *kpasswdExchange) react(b []byte) error {
	e, err := parseError(b)
	if err != nil {
		return err
	}
	if e.Code == krb5.ErrSkew && !x.skewed {
		x.skewed = true
		x.offset, err = x.c.suggested(e)
		return err
	}
	if r, err := kpasswd.ParseResult(e.EData); err == nil && r.Code != kpasswd.ResultSuccess {
		return fmt.Errorf("%w: %w", e, r)
	}
	return e
}

// accept judges the reply: RFC 3244, Section 2.
func (x *kpasswdExchange) accept(reply kpasswd.Reply) error {
	rep, err := krb5.ParseAPRep(reply.APRep)
	if err != nil {
		return x.doubt(err)
	}
	plain, err := rep.EncPart.Open(x.ticket.SessionKey, krb5.UsageAPRepEncPart)
	if err != nil {
		return x.doubt(fmt.Errorf("open the AP-REP: %w", err))
	}
	defer clear(plain)
	part, err := krb5.ParseEncAPRepPart(plain)
	if err != nil {
		return x.doubt(err)
	}
	if part.CUsec != x.now.Nanosecond()/1000 || part.CTime.Unix() != x.now.Unix() {
		return x.doubt(errors.New("the AP-REP answers another request"))
	}
	// The same key protects both directions: our own message must not pass for
	// the answer.
	if bytes.Equal(reply.Priv, x.request.Priv) {
		return x.doubt(errors.New("our own message came back"))
	}
	priv, err := krb5.ParseKRBPriv(reply.Priv)
	if err != nil {
		return x.doubt(err)
	}
	body, err := priv.Open(x.subkey)
	if err != nil {
		return x.doubt(fmt.Errorf("open the KRB-PRIV: %w", err))
	}
	if part.SeqNumber != 0 && body.SeqNumber != part.SeqNumber {
		return x.doubt(fmt.Errorf("the sequence number is %d, the AP-REP announced %d", body.SeqNumber, part.SeqNumber))
	}
	result, err := kpasswd.ParseResult(body.UserData)
	if err != nil {
		return x.doubt(err)
	}
	return result.Err()
}

// doubt is for a reply that proves nothing: the request went out all the same.
func (x *kpasswdExchange) doubt(err error) error {
	return fmt.Errorf("%w: %w", ErrIndeterminate, badReply("kpasswd: %w", err))
}
