package kclient

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// TGSRequest asks for a ticket on the strength of another one: RFC 4120, Section
// 3.3.
type TGSRequest struct {
	// TGT is the ticket-granting ticket of the client's realm.
	TGT krb5.Credential
	// Server is the service. [krb5.NameSrvHst] or NameSrvInst for a service
	// principal name, NamePrincipal for an account: the KDC takes the type as a
	// hint, but Heimdal-like ones resolve names differently by it.
	Server krb5.PrincipalName
	// Options are forwardable, forwarded and the like.
	Options krb5.KDCOptions
	// Lifetime is wished for; 0 asks for the TGT's end.
	Lifetime time.Duration
	// ETypes are the types to offer for the session key; nil means the client's.
	ETypes []crypto.EType
	// ExactName asks the KDC to leave the server's name as it is, and not to
	// answer with a referral.
	ExactName bool
	// AdditionalTicket is the DER of the TGT of a user-to-user server.
	AdditionalTicket []byte
}

// TGS gets a service ticket. Errors are *[Error].
func (c *Client) TGS(ctx context.Context, req TGSRequest) (Result, error) {
	return c.tgs(ctx, req, "TGS exchange")
}

// Renew exchanges a renewable ticket for a fresh one with a new session key, at
// most until its RenewTill: RFC 4120, Section 3.3.1. It does not refresh the
// authorization data.
func (c *Client) Renew(ctx context.Context, ticket krb5.Credential) (Result, error) {
	options := krb5.OptRenew | krb5.OptRenewable | krb5.KDCOptions(ticket.Flags&(krb5.FlagForwardable|krb5.FlagForwarded|krb5.FlagProxiable))
	return c.tgs(ctx, TGSRequest{TGT: ticket, Server: ticket.Server.Name, Options: options, ExactName: true}, "renewal")
}

// Forward gets a ticket-granting ticket to give away: RFC 4120, Section 2.6. The
// TGT must be forwardable.
func (c *Client) Forward(ctx context.Context, tgt krb5.Credential) (Result, error) {
	return c.tgs(ctx, TGSRequest{
		TGT: tgt, Server: krb5.NewName(krb5.NameSrvInst, "krbtgt", c.cfg.Realm),
		Options: krb5.OptForwarded | krb5.OptForwardable, ExactName: true,
	}, "forwarding")
}

func (c *Client) tgs(ctx context.Context, req TGSRequest, op string) (Result, error) {
	if req.ETypes == nil {
		req.ETypes = c.cfg.ETypes
	}
	x := &tgsExchange{c: c, req: req, offset: c.Offset()}
	res, err := x.run(ctx)
	if err != nil {
		return Result{}, &Error{
			Op: op, Client: req.TGT.Client, Server: krb5.Principal{Realm: c.cfg.Realm, Name: req.Server},
			KDC: x.kdc, Kind: kindOf(err), Err: err,
		}
	}
	return res, nil
}

// tgsExchange is the state of one exchange.
type tgsExchange struct {
	c      *Client
	req    TGSRequest
	offset time.Duration
	// skewed and repeated say that the request was sent once more for that
	// reason.
	skewed, repeated bool

	body   krb5.KDCReqBody
	subkey *crypto.Key
	kdc    KDC
}

func (x *tgsExchange) run(ctx context.Context) (Result, error) {
	if x.req.TGT.SessionKey == nil || len(x.req.TGT.Ticket) == 0 {
		return Result{}, errors.New("no ticket-granting ticket was given")
	}
	if len(x.req.Server.Components) == 0 {
		return Result{}, errors.New("no server is named")
	}
	for {
		request, err := x.build()
		if err != nil {
			return Result{}, err
		}
		var reply []byte
		if reply, x.kdc, err = x.c.send(ctx, "", request); err != nil {
			return Result{}, err
		}
		if t, ok := krb5.TypeOf(reply); ok && t == krb5.MsgTGSRep {
			res, err := x.accept(reply)
			if err == nil { // what a Result has of the reply is a copy
				x.c.recycle(reply)
			}
			return res, err
		}
		e, err := parseError(reply)
		if err != nil {
			return Result{}, err
		}
		if err := x.react(e); err != nil {
			return Result{}, err
		}
	}
}

// react decides after an error whether to ask again; each way is gone once.
func (x *tgsExchange) react(e *krb5.KRBError) (err error) {
	switch {
	case e.Code == krb5.ErrSkew && !x.skewed:
		x.skewed = true
		x.offset, err = x.c.suggested(e)
		return err
	case e.Code == krb5.ErrRepeat && !x.repeated:
		// Our own request, sent twice to a controller that was slow.
		x.repeated = true
		return nil
	}
	return e
}

// build makes the request with a new subkey and authenticator.
func (x *tgsExchange) build() ([]byte, error) {
	nonce, err := x.c.nonce()
	if err != nil {
		return nil, err
	}
	now := x.c.cfg.Now().Add(x.offset)
	x.body = krb5.KDCReqBody{
		Options: x.req.Options, Realm: x.c.cfg.Realm, SName: x.req.Server,
		Till: until(now, x.req.Lifetime), Nonce: nonce, ETypes: x.req.ETypes,
	}
	if !x.req.ExactName {
		x.body.Options |= krb5.OptCanonicalize
	}
	if x.req.AdditionalTicket != nil {
		x.body.Options |= krb5.OptEncTktInSkey
		x.body.AdditionalTickets = [][]byte{x.req.AdditionalTicket}
	}
	body := x.body.Append(make([]byte, 0, 256))
	key := x.req.TGT.SessionKey
	if x.subkey, err = crypto.Generate(key.EType(), x.c.cfg.Rand, x.c.cfg.Allow...); err != nil {
		return nil, fmt.Errorf("make a subkey: %w", err)
	}
	ap, err := x.c.apReq(x.req.TGT, authenticator{
		usage: krb5.UsageTGSReqAuthenticator, subkey: x.subkey, now: now,
		checksum: krb5.Checksum{Type: key.ChecksumType(), Sum: key.Checksum(krb5.UsageTGSReqChecksum, body)},
	})
	if err != nil {
		return nil, err
	}
	q := krb5.KDCReq{Type: krb5.MsgTGSReq, RawBody: body, PAData: []krb5.PAData{{Type: krb5.PATGSReq, Value: ap}}}
	return q.Append(make([]byte, 0, len(body)+len(ap)+64)), nil
}

// authenticator is what differs between the uses of apReq.
type authenticator struct {
	usage    uint32
	subkey   *crypto.Key
	now      time.Time
	checksum krb5.Checksum
	seq      uint32
	options  krb5.APOptions
}

// apReq shows a ticket: RFC 4120, Section 3.2.2.
func (c *Client) apReq(cred krb5.Credential, a authenticator) ([]byte, error) {
	plain := krb5.Authenticator{
		CRealm: cred.Client.Realm, CName: cred.Client.Name, Checksum: a.checksum,
		CTime: a.now, CUsec: a.now.Nanosecond() / 1000, Subkey: krb5.KeyOf(a.subkey), SeqNumber: a.seq,
	}.Append(make([]byte, 0, 256))
	defer clear(plain)
	e, err := krb5.Seal(cred.SessionKey, a.usage, plain, c.cfg.Rand)
	if err != nil {
		return nil, err
	}
	ap := krb5.APReq{Options: a.options, Ticket: cred.Ticket, Authenticator: e}
	return ap.Append(make([]byte, 0, len(cred.Ticket)+len(e.Cipher)+128)), nil
}

// accept judges a TGS-REP: RFC 4120, Section 3.3.4.
func (x *tgsExchange) accept(reply []byte) (Result, error) {
	at := x.c.cfg.Now()
	rep, err := krb5.ParseKDCRep(reply)
	if err != nil {
		return Result{}, badReply("read the TGS-REP: %w", err)
	}
	plain, err := rep.EncPart.Open(x.subkey, krb5.UsageTGSRepSubkey)
	if err != nil {
		return Result{}, badReply("open the TGS-REP with the subkey: %w", err)
	}
	defer clear(plain)
	part, err := krb5.ParseEncKDCRepPart(plain)
	if err != nil {
		return Result{}, badReply("read the encrypted part: %w", err)
	}
	tgt := x.req.TGT
	if !strings.EqualFold(rep.CRealm, tgt.Client.Realm) || !rep.CName.EqualFold(tgt.Client.Name) {
		return Result{}, badReply("the ticket is for the client %v@%s, not %v", rep.CName, rep.CRealm, tgt.Client)
	}
	if realm, ok := referredTo(x.req.Server, part.SName); ok && part.Nonce == x.body.Nonce {
		return Result{}, referral(x.req.Server, realm)
	}
	check := replyCheck{c: x.c, body: x.body, at: at, kdcTime: at.Add(x.offset), renamed: x.renames()}
	if x.skewed && !part.StartTime.IsZero() {
		// The ticket begins when it was issued, which proves the suggested time.
		check.kdcTime = part.StartTime
	}
	cred, err := check.credential(rep, part)
	if err != nil {
		return Result{}, err
	}
	return Result{Credential: cred, KDC: x.kdc, Offset: x.c.Offset()}, nil
}

// renames reports whether the KDC may answer with another name of the server:
// only where the name asked for is not one that a ticket can bear.
func (x *tgsExchange) renames() bool {
	return !x.req.ExactName && x.req.Server.Type == krb5.NameEnterprise
}
