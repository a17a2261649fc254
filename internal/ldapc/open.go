package ldapc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc/protect"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/gss"
	"github.com/opengmsa/opengmsa/secret"
)

// Protection is how a connection is kept secret.
type Protection int

const (
	// Sealed is SASL with sealing on the LDAP port, by Kerberos. It is the
	// default and needs no certificate.
	Sealed Protection = iota
	// LDAPS is TLS from the first byte, on a port of its own.
	LDAPS
	// StartTLS is TLS on the LDAP port.
	StartTLS
)

// String names the protection, as options and logs write it.
func (p Protection) String() string {
	switch p {
	case LDAPS:
		return "ldaps"
	case StartTLS:
		return "starttls"
	}
	return "sealed"
}

// Mechanism is the SASL mechanism of a Kerberos bind.
type Mechanism int

const (
	// SPNEGO is GSS-SPNEGO, one round trip: what Windows' own clients use.
	SPNEGO Mechanism = iota
	// GSSAPI is the mechanism of RFC 4752, three round trips.
	GSSAPI
)

// String is the mechanism's name in SASL.
func (m Mechanism) String() string {
	if m == GSSAPI {
		return "GSSAPI"
	}
	return "GSS-SPNEGO"
}

// Simple is a name and a password for a simple bind, which is made inside TLS
// only.
type Simple struct {
	Name     string // a distinguished name, a UPN or DOMAIN\NAME
	Password secret.Bytes
}

// DefaultMaxMessage is the default limit of one message in bytes: the one of
// Active Directory itself (MaxReceiveBuffer, [MS-ADTS] 3.1.1.3.4.6).
const DefaultMaxMessage = 10 << 20

// Config describes a connection.
type Config struct {
	// ServerName is the controller's DNS name: the certificate must be for it.
	ServerName string
	Protection Protection
	// Mechanism is used with Kerberos, inside TLS too.
	Mechanism Mechanism
	// Kerberos is a ticket for the controller's ldap service. Exactly one of
	// Kerberos and Simple is set.
	Kerberos *krb5.Credential
	Simple   *Simple
	// RootCAs are trusted to sign the controller's certificate; nil means the
	// system's.
	RootCAs *x509.CertPool
	// MaxMessage is the largest message that is read, in bytes; 0 means
	// [DefaultMaxMessage].
	MaxMessage int
	// Timeout is how long one request may take; 0 means 30 seconds.
	Timeout time.Duration
	// Now is the clock of Kerberos and of certificates.
	Now func() time.Time
	// Rand is the source of keys and confounders.
	Rand io.Reader
}

// validate reports what the zero value cannot mean.
func (c *Config) validate() error {
	switch {
	case c.ServerName == "":
		return errors.New("ldapc: no server name")
	case (c.Kerberos == nil) == (c.Simple == nil):
		return errors.New("ldapc: want either a ticket or a password")
	case c.Simple != nil && c.Protection == Sealed:
		return fmt.Errorf("ldapc: a password is sent inside TLS only: %w", ErrNotEncrypted)
	case c.Simple != nil && (c.Simple.Name == "" || c.Simple.Password.IsZero()):
		// An empty password would be an unauthenticated bind that succeeds: RFC
		// 4513, Section 5.1.2.
		return errors.New("ldapc: simple bind without a name or a password")
	case c.Now == nil || c.Rand == nil:
		return errors.New("ldapc: no clock or no randomness")
	}
	return nil
}

// Open protects conn, binds, and returns the connection for requests. It owns
// conn: that is closed when Open fails, and by [Conn.Close]. When ctx ends the
// attempt ends.
func Open(ctx context.Context, conn net.Conn, cfg Config) (*Conn, error) {
	if err := cfg.validate(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if cfg.MaxMessage <= 0 {
		cfg.MaxMessage = DefaultMaxMessage
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, fmt.Errorf("%w: no answer within %v", ErrConnection, cfg.Timeout))
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	o := opening{cfg: &cfg, conn: conn}
	err := o.run(ctx)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
		}
		return nil, fmt.Errorf("LDAP to %s (%v): %w", cfg.ServerName, cfg.Protection, err)
	}
	return newConn(o.conn, &cfg, o.info), nil
}

// opening is a connection that is being protected. conn is its outermost layer
// so far.
type opening struct {
	cfg  *Config
	conn net.Conn
	info Info
}

func (o *opening) run(ctx context.Context) error {
	if o.cfg.Protection != Sealed {
		if err := o.secure(ctx); err != nil {
			return err
		}
	}
	if o.cfg.Simple != nil {
		return o.bindSimple()
	}
	return o.bindKerberos()
}

// secure puts TLS around the connection and verifies the certificate.
func (o *opening) secure(ctx context.Context) error {
	if o.cfg.Protection == StartTLS {
		if err := (&raw{g: newGuard(o.conn, o.cfg.MaxMessage)}).startTLS(); err != nil {
			return err
		}
	}
	c := tls.Client(o.conn, &tls.Config{
		ServerName: o.cfg.ServerName,
		RootCAs:    o.cfg.RootCAs,
		MinVersion: tls.VersionTLS12,
		Time:       o.cfg.Now,
	})
	if err := c.HandshakeContext(ctx); err != nil {
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			return fmt.Errorf("%w: %w", ErrCertificate, err)
		}
		return fmt.Errorf("TLS: %w", err)
	}
	state := c.ConnectionState()
	o.conn, o.info.TLS = c, &state
	return nil
}

// bindSimple sends name and password: RFC 4513, Section 5.1.3. The caller has
// made sure of TLS.
func (o *opening) bindSimple() error {
	auth := ber.NewString(ber.ClassContext, ber.TypePrimitive, authSimple, string(o.cfg.Simple.Password.Reveal()), "password")
	res, err := (&raw{g: newGuard(o.conn, o.cfg.MaxMessage)}).exchange(bindRequest(o.cfg.Simple.Name, auth), ldap.ApplicationBindResponse)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if res.code != ldap.LDAPResultSuccess {
		return newError("bind", res.code, res.message)
	}
	return nil
}

// initiator is a GSS mechanism's initiator.
type initiator interface {
	Step(token []byte) (out []byte, done bool, err error)
	Context() *gss.Context
}

// bindKerberos runs the SASL bind and, outside TLS, begins sealing.
func (o *opening) bindKerberos() error {
	init, err := o.initiator()
	if err != nil {
		return err
	}
	r := &raw{g: newGuard(o.conn, o.cfg.MaxMessage)}
	offer := adproto.SASLNegotiation{}
	if o.cfg.Mechanism == GSSAPI {
		offer, err = o.bindGSSAPI(r, init)
	} else {
		err = o.bindSPNEGO(r, init)
	}
	if err != nil {
		return err
	}
	gctx := init.Context()
	o.info.Client, o.info.Expires = gctx.Client(), gctx.EndTime()
	if o.cfg.Protection != Sealed {
		return nil
	}
	// Whoever could put plain bytes here could not seal them; but they must not
	// be taken for the beginning of the sealed stream either.
	if r.g.buffered() {
		return fmt.Errorf("bind: %w: bytes follow the answer in plain text", ErrNotEncrypted)
	}
	o.conn, err = protect.NewConn(o.conn, protect.Config{Context: gctx, Seal: true,
		MaxRead: uint32(min(o.cfg.MaxMessage, adproto.MaxSASLBuffer)), PeerMax: offer.MaxBuffer})
	return err
}

// initiator begins a context that seals, or inside TLS one that is bound to the
// channel and adds no protection of its own: Active Directory refuses both at
// once ([MS-ADTS] 5.1.1.1.2).
func (o *opening) initiator() (initiator, error) {
	cfg := gss.InitiatorConfig{Credential: *o.cfg.Kerberos, Flags: gss.DefaultFlags, Now: o.cfg.Now, Rand: o.cfg.Rand}
	if o.info.TLS != nil {
		var err error
		if cfg.ChannelBindings, err = protect.EndPointBinding(o.info.TLS.PeerCertificates[0]); err != nil {
			return nil, err
		}
		cfg.Flags = gss.FlagMutual
		if o.cfg.Mechanism == GSSAPI {
			cfg.Flags |= gss.FlagInteg // for the negotiation of layers
		}
	}
	mech, err := gss.NewInitiator(cfg)
	if err != nil || o.cfg.Mechanism == GSSAPI {
		return mech, err
	}
	return gss.NewSPNEGOInitiator(mech), nil
}

// establish exchanges tokens until both sides are done, and requires what the
// protection needs of the context.
func (o *opening) establish(r *raw, init initiator) (serverDone bool, err error) {
	mechanism := o.cfg.Mechanism.String()
	token, done, err := init.Step(nil)
	for err == nil {
		if done && len(token) == 0 {
			break
		}
		if serverDone {
			return false, fmt.Errorf("bind (%s): server ended the exchange too early", mechanism)
		}
		var creds []byte
		if creds, serverDone, err = r.saslStep(mechanism, token); err != nil {
			return false, err
		}
		if done {
			break
		}
		token, done, err = init.Step(creds)
	}
	if err != nil {
		return false, fmt.Errorf("bind (%s): %w", mechanism, err)
	}
	if o.cfg.Protection == Sealed && !init.Context().Flags().Has(gss.FlagConf|gss.FlagInteg|gss.FlagMutual) {
		return false, fmt.Errorf("bind (%s): %w: the context has the flags %v", mechanism, ErrNotEncrypted, init.Context().Flags())
	}
	return serverDone, nil
}

// bindSPNEGO is GSS-SPNEGO: the context's flags decide the protection, so there
// is nothing to negotiate after it ([MS-SPNG]).
func (o *opening) bindSPNEGO(r *raw, init initiator) error {
	done, err := o.establish(r, init)
	if err == nil && !done {
		err = errors.New("bind (GSS-SPNEGO): server wants more after the context is complete")
	}
	return err
}

// bindGSSAPI is GSSAPI: RFC 4752, Section 3.1. After the context the server
// offers layers and the client takes one: privacy, or none inside TLS.
func (o *opening) bindGSSAPI(r *raw, init initiator) (offer adproto.SASLNegotiation, err error) {
	fail := func(err error) (adproto.SASLNegotiation, error) {
		return offer, fmt.Errorf("bind (GSSAPI): %w", err)
	}
	done, err := o.establish(r, init)
	if err != nil {
		return offer, err
	}
	if done {
		return fail(errors.New("server ended the exchange without offering a layer"))
	}
	wrapped, done, err := r.saslStep("GSSAPI", nil)
	if err != nil {
		return offer, err
	}
	if done {
		return fail(errors.New("server ended the exchange without offering a layer"))
	}
	gctx := init.Context()
	plain, _, err := gctx.Unwrap(nil, wrapped)
	if err != nil {
		return fail(err)
	}
	if offer, err = adproto.ParseSASLOffer(plain); err != nil {
		return fail(err)
	}
	choice := adproto.SASLNegotiation{Layers: adproto.SASLPrivacy, MaxBuffer: uint32(min(o.cfg.MaxMessage, adproto.MaxSASLBuffer))}
	if o.cfg.Protection != Sealed {
		choice = adproto.SASLNegotiation{Layers: adproto.SASLNone}
	}
	if offer.Layers&choice.Layers == 0 {
		return fail(fmt.Errorf("%w: server offers %v", ErrNotEncrypted, offer.Layers))
	}
	answer, err := gctx.Wrap(nil, choice.Append(nil), false)
	if err != nil {
		return fail(err)
	}
	if _, done, err = r.saslStep("GSSAPI", answer); err == nil && !done {
		err = errors.New("bind (GSSAPI): server wants more after the layer is chosen")
	}
	return offer, err
}
