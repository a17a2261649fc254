package kdc

import (
	"context"
	crand "crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/pace"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/replay"
)

// Config is what a [Server] is made of.
type Config struct {
	// Accounts is who there is. Required.
	Accounts *account.Accounts
	// Log is told of faults, and at level debug of refusals; nil: of nothing.
	Log *slog.Logger
	// Rand gives session keys and confounders; nil stands for crypto/rand.
	Rand io.Reader

	Policy

	// MaxConnections bounds connections over TCP; 0 stands for 10,000.
	MaxConnections int
	// IdleTimeout is how long a connection may be silent; 0 stands for 60 s.
	IdleTimeout time.Duration
	// RequestTimeout is how long a request that arrives in pieces may take, with its
	// reply; 0 stands for 10 s.
	RequestTimeout time.Duration
	// UDPRate is how many datagrams a second of one network are answered, as
	// [pace.Limiter] counts; 0 stands for 1,000.
	UDPRate int
}

func (c *Config) setDefaults() {
	c.Policy = c.Policy.withDefaults()
	orDuration(&c.IdleTimeout, time.Minute)
	orDuration(&c.RequestTimeout, 10*time.Second)
	if c.MaxConnections == 0 {
		c.MaxConnections = 10_000
	}
	if c.UDPRate == 0 {
		c.UDPRate = 1000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Rand == nil {
		c.Rand = crand.Reader
	}
}

// Server is a KDC. It is safe for concurrent use.
type Server struct {
	cfg    Config
	domain directory.Domain
	realm  string
	tgs    krb5.PrincipalName // krbtgt/REALM

	replays   *replay.Cache
	pace      *pace.Limiter
	answers   *lookaside
	opened    openedTGTs
	scratches sync.Pool // of *scratch
}

// New makes a Server.
func New(cfg Config) *Server {
	cfg.setDefaults()
	domain := cfg.Accounts.Domain()
	return &Server{
		cfg: cfg, domain: domain, realm: domain.Realm(),
		tgs:       krb5.NewName(krb5.NameSrvInst, "krbtgt", domain.Realm()),
		replays:   replay.New(2*cfg.Skew, 0),
		pace:      pace.New(cfg.UDPRate, 2*cfg.UDPRate),
		answers:   newLookaside(),
		scratches: sync.Pool{New: newScratch},
	}
}

// exchange is one request while it is answered.
type exchange struct {
	*Server
	ctx     context.Context //nolint:containedctx // an exchange lives as long as its context
	from    netip.AddrPort
	now     time.Time
	message []byte // as it came
	req     krb5.KDCReq
	options krb5.PACOptions // that the client asks for
	scratch *scratch        // holds what the reply is made of
	// loggedOn is the client of an AS exchange that succeeded, and attempt its logon.
	attempt  account.Attempt
	loggedOn *account.Account
}

// handle appends the answer to a message to dst. There is none for what is no request of
// a client's to a KDC; what begins like one and is malformed gets an error.
func (s *Server) handle(ctx context.Context, dst, message []byte, from netip.AddrPort, t transport) []byte {
	kind, ok := krb5.TypeOf(message)
	if !ok || kind != krb5.MsgASReq && kind != krb5.MsgTGSReq {
		return dst
	}
	x := exchange{Server: s, ctx: ctx, from: from, now: s.cfg.Accounts.Now(), message: message, scratch: s.scratches.Get().(*scratch)}
	defer x.giveBack()
	start := len(dst)
	rep, err := x.answer(kind)
	if errors.Is(err, krb5.ErrRepeat) {
		if again, ok := s.answers.find(x.now, message); ok {
			dst, err = append(dst, again...), nil
		}
	} else if err == nil {
		dst = rep.Append(dst)
	}
	if err != nil {
		return x.appendError(dst, err)
	}
	size := len(dst) - start
	if t == datagram && kind == krb5.MsgTGSReq {
		s.answers.keep(x.now, message, dst[start:])
	}
	if t == datagram && size > maxDatagramReply {
		return x.appendError(dst[:start], refuse(krb5.ErrResponseTooBig, "an answer of %d bytes", size))
	}
	if x.loggedOn != nil {
		x.attempt.Succeed(ctx, x.loggedOn)
	}
	return dst
}

// giveBack ends an exchange, whose answer is written.
func (x *exchange) giveBack() {
	x.scratch.reset()
	x.scratches.Put(x.scratch)
}

// transport is what a request came by.
type transport int

const (
	stream   transport = iota // TCP
	datagram                  // UDP
)

// answer makes the reply to a request.
func (x *exchange) answer(kind krb5.MessageType) (rep krb5.KDCRep, err error) {
	if x.req, err = krb5.ParseKDCReq(x.message); err != nil {
		return rep, malformed(err)
	}
	if x.options, err = x.pacOptions(); err != nil {
		return rep, malformed(err)
	}
	if kind == krb5.MsgASReq {
		return x.asExchange()
	}
	return x.tgsExchange()
}
