package ldapd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/ldapc/protect"
	"github.com/opengmsa/opengmsa/krb5/gss"
)

// The SASL mechanisms: RFC 4752 and [MS-SPNG].
const (
	mechanismGSSAPI = "GSSAPI"
	mechanismSPNEGO = "GSS-SPNEGO"
)

// maxBuffer is the largest SASL frame that a GSSAPI bind announces, in bytes: what AD
// announces. Larger ones are read too, for a GSS-SPNEGO bind announces nothing.
const maxBuffer = 64 << 10

// frameOverhead is more than a token adds to what it protects, in bytes.
const frameOverhead = 256

// saslBind is a Kerberos bind under way:
//
//	GSSAPI:      tokens ──► the layers are offered ──► the client chose ──► done
//	GSS-SPNEGO:  tokens ──► done, with the layer that the context's flags say
type saslBind struct {
	mechanism string
	step      func(token []byte) (out []byte, finished bool, err error)
	context   func() *gss.Context

	gss     *gss.Context     // established, else nil
	who     directory.Caller // whom gss stands for
	offered adproto.SASLLayers
}

// bindSASL answers one step of a SASL bind: RFC 4513, Section 5.2. pending is the bind
// that the step before left, nil for none.
func (c *conn) bindSASL(ctx context.Context, m ldapmsg.Message, q ldapmsg.BindRequest, pending *saslBind) error {
	if q.Mechanism != mechanismGSSAPI && q.Mechanism != mechanismSPNEGO {
		return c.respond(ctx, m, errMethod())
	}
	if c.layered {
		return c.respond(ctx, m, fail(unwillingToPerform, dsUnwilling, "the connection has a SASL layer already"))
	}
	if pending == nil || pending.mechanism != q.Mechanism {
		var err error
		if pending, err = c.newSASLBind(q.Mechanism); err != nil {
			return c.respond(ctx, m, err)
		}
		if len(q.Credentials) == 0 {
			return c.continueBind(ctx, m, pending, nil) // the client lets the server begin
		}
	}
	switch {
	case pending.gss == nil:
		return c.stepToken(ctx, m, pending, q.Credentials)
	case pending.offered == 0:
		return c.offerLayers(ctx, m, pending)
	}
	return c.chooseLayer(ctx, m, pending, q.Credentials)
}

// newSASLBind begins to accept a context, which is bound to the channel where there is
// one.
func (c *conn) newSASLBind(mechanism string) (*saslBind, error) {
	cfg := gss.AcceptorConfig{
		Keys: c.s.cfg.Accounts.ServiceKeys(), Binding: c.s.cfg.ChannelBinding.policy(),
		Now: c.s.cfg.Now, Replay: c.s.cfg.Replay, Rand: c.s.cfg.Rand,
	}
	if c.cert != nil {
		bindings, err := protect.EndPointBinding(c.cert)
		if err != nil && c.s.cfg.ChannelBinding == BindAlways {
			return nil, err
		}
		cfg.ChannelBindings = bindings // nil where the certificate has none
	}
	mech, err := gss.NewAcceptor(cfg)
	if err != nil {
		return nil, err
	}
	b := &saslBind{mechanism: mechanism, step: mech.Step, context: mech.Context}
	if mechanism == mechanismSPNEGO {
		negotiation := gss.NewSPNEGOAcceptor(mech)
		b.step, b.context = negotiation.Step, negotiation.Context
	}
	return b, nil
}

// continueBind asks for the next step.
func (c *conn) continueBind(ctx context.Context, m ldapmsg.Message, b *saslBind, token []byte) error {
	c.sasl = b
	return c.answer(ctx, m, ldapmsg.Result{Code: saslBindInProgress, Credentials: token}, nil)
}

// stepToken gives the client's token to the mechanism, and finds out who came with it
// once the context is established.
func (c *conn) stepToken(ctx context.Context, m ldapmsg.Message, b *saslBind, token []byte) error {
	out, finished, err := b.step(token)
	if err != nil {
		return c.refuseToken(ctx, m, out, err)
	}
	if !finished {
		return c.continueBind(ctx, m, b, out)
	}
	b.gss = b.context()
	b.who, err = c.s.cfg.Accounts.FromTicket(ctx, b.gss.Ticket(), b.gss.Server(), c.caller.From)
	switch {
	case err != nil:
		return c.respond(ctx, m, refusal(err))
	case b.mechanism == mechanismSPNEGO:
		return c.finishBind(ctx, m, b, adproto.SASLNegotiation{Layers: c.layerOf(b.gss.Flags())}, out)
	case len(out) == 0: // the client did not ask us to prove ourselves, and waits for the offer
		return c.offerLayers(ctx, m, b)
	}
	return c.continueBind(ctx, m, b, out)
}

// refuseToken is what a client is told of a token that Kerberos refused: the same for
// every cause (security 22), but for a wrong channel, and the error message of
// Kerberos itself, which has the code alone.
func (c *conn) refuseToken(ctx context.Context, m ldapmsg.Message, token []byte, err error) error {
	win32, data := uint32(secInvalidToken), uint32(logonFailureData)
	if errors.Is(err, gss.ErrBindings) {
		win32, data = secBadBindings, secBadBindings
	}
	f := fail(invalidCredentials, win32, comment(0x0C0903A9, "AcceptSecurityContext error", data))
	f.err = err
	if len(token) > 0 {
		f.Credentials = token
	}
	return c.respond(ctx, m, f)
}

// layerOf is the layer that the flags of a GSS-SPNEGO context stand for. Inside TLS
// clients set the flag for integrity without meaning a layer.
func (c *conn) layerOf(flags gss.Flags) adproto.SASLLayers {
	switch {
	case flags.Has(gss.FlagConf):
		return adproto.SASLPrivacy
	case flags.Has(gss.FlagInteg) && c.cert == nil:
		return adproto.SASLIntegrity
	}
	return adproto.SASLNone
}

// offerLayers offers what the context can do: RFC 4752, Section 3.1.
func (c *conn) offerLayers(ctx context.Context, m ldapmsg.Message, b *saslBind) error {
	b.offered = adproto.SASLNone
	if b.gss.Flags().Has(gss.FlagInteg) {
		b.offered |= adproto.SASLIntegrity
	}
	if b.gss.Flags().Has(gss.FlagConf) {
		b.offered |= adproto.SASLPrivacy
	}
	offer := adproto.SASLNegotiation{Layers: b.offered}
	if b.offered != adproto.SASLNone {
		offer.MaxBuffer = maxBuffer
	}
	token, err := b.gss.Wrap(nil, offer.Append(nil), false)
	if err != nil {
		return c.respond(ctx, m, err)
	}
	return c.continueBind(ctx, m, b, token)
}

// chooseLayer reads what the client took of the offer: RFC 4752, Section 3.1. Nobody
// acts for somebody else, so that an authorization identity must be the client's own.
func (c *conn) chooseLayer(ctx context.Context, m ldapmsg.Message, b *saslBind, token []byte) error {
	plain, _, err := b.gss.Unwrap(nil, token)
	if err != nil {
		return c.refuseToken(ctx, m, nil, err)
	}
	choice, err := adproto.ParseSASLChoice(plain, b.offered)
	if err != nil {
		return c.refuseToken(ctx, m, nil, err)
	}
	if id := strings.TrimPrefix(choice.AuthzID, "u:"); id != "" && !strings.EqualFold(id, b.gss.Client().String()) {
		return c.refuseToken(ctx, m, nil, fmt.Errorf("%v asks to act as somebody else", b.gss.Client()))
	}
	return c.finishBind(ctx, m, b, choice, nil)
}

// finishBind makes the connection the client's, and begins the layer behind the
// response, which is the last message without it.
func (c *conn) finishBind(ctx context.Context, m ldapmsg.Message, b *saslBind, choice adproto.SASLNegotiation, token []byte) error {
	if err := c.checkLayer(b.mechanism, choice.Layers); err != nil {
		return c.respond(ctx, m, err)
	}
	if choice.Layers != adproto.SASLNone && c.in.buffered() {
		return &disconnection{code: protocolError, text: "bytes follow the last step of the bind"}
	}
	c.become(b.who)
	c.expires = b.gss.EndTime().Add(gss.DefaultSkew)
	if err := c.answer(ctx, m, ldapmsg.Result{Credentials: token}, nil); err != nil {
		return err
	}
	if choice.Layers == adproto.SASLNone {
		return nil
	}
	return c.beginLayer(b.gss, choice)
}

// checkLayer requires one protection and one only: [MS-ADTS] 5.1.1.1.2. The texts are
// Samba's and Active Directory's.
func (c *conn) checkLayer(mechanism string, layer adproto.SASLLayers) error {
	switch {
	case c.cert == nil && layer == adproto.SASLNone:
		return fail(strongerAuthRequired, 0, "SASL:["+mechanism+"]: Sign or Seal are required.")
	case c.cert != nil && layer != adproto.SASLNone:
		return fail(inappropriateAuthentication, dsInappropriate, comment(0x0C0904E0, "Cannot start kerberos signing/sealing when using TLS/SSL", 0))
	}
	return nil
}

// beginLayer signs or seals from here on.
func (c *conn) beginLayer(g *gss.Context, choice adproto.SASLNegotiation) error {
	seal := choice.Layers == adproto.SASLPrivacy
	layer, err := protect.NewConn(c.sock, protect.Config{
		Context: g, Seal: seal, PeerMax: choice.MaxBuffer,
		MaxRead: uint32(min(c.s.cfg.Limits.Message+frameOverhead, adproto.MaxSASLBuffer)),
	})
	if err != nil {
		return &disconnection{code: protocolError, text: "no SASL layer", err: err}
	}
	c.layered = true
	c.caller.Encrypted = seal
	c.wrap(layer)
	return nil
}
