package dnsd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/pace"
)

// Limits of the service.
const (
	// maxUDP bounds a datagram, in bytes: what every path carries unfragmented (DNS Flag
	// Day 2020).
	maxUDP = 1232
	// perSecond and burst are for each network of clients ([pace.Limiter]), over UDP;
	// whoever is beyond them is asked to come over TCP, which has no forged senders.
	perSecond = 1000
	burst     = 2000
	// maxConns are the connections that are open at once, maxQueries the questions on
	// one, and idle how long one may be silent.
	maxConns   = 512
	maxQueries = 128
	idle       = 8 * time.Second
)

// Ports are what the SRV records tell; zero stands for the standard one.
type Ports struct {
	Kerberos uint16 // 88
	Kpasswd  uint16 // 464
	LDAP     uint16 // 389
	GC       uint16 // 3268
}

// Config is what a [Server] is made of.
type Config struct {
	// Directory is the domain. Required.
	Directory *directory.Directory
	// Addresses are the controller's, under its own name and the domain's. Required.
	Addresses []netip.Addr
	// Hosts are more names with their addresses. A name without a dot is one of the
	// domain; one outside of the domain becomes a zone of its own.
	Hosts map[string][]netip.Addr
	// Ports are where the controller's services listen.
	Ports Ports
	// Log is told of questions that failed. Required.
	Log *slog.Logger
}

// Server answers questions. It is safe for concurrent use.
type Server struct {
	cfg   Config
	names *names
	limit *pace.Limiter
}

// New makes a Server.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, names: newNames(cfg), limit: pace.New(perSecond, burst)}
}

// Serve answers questions on connections that l accepts until ctx ends, and closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.run(ctx, &dns.Server{Listener: netutil.LimitListener(l, maxConns), MaxTCPQueries: maxQueries,
		IdleTimeout: func() time.Duration { return idle }})
}

// ServePacket answers questions that come on conn until ctx ends, and closes conn.
func (s *Server) ServePacket(ctx context.Context, conn net.PacketConn) error {
	return s.run(ctx, &dns.Server{PacketConn: conn, UDPSize: maxUDP})
}

func (s *Server) run(ctx context.Context, srv *dns.Server) error {
	srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { s.ServeDNS(ctx, w, q) })
	srv.MsgAcceptFunc = accept
	ended := make(chan struct{})
	var stop func() bool
	srv.NotifyStartedFunc = func() {
		stop = context.AfterFunc(ctx, func() {
			defer close(ended)
			_ = srv.Shutdown() // fails only where the server has ended already
		})
	}
	err := srv.ActivateAndServe()
	if stop != nil && !stop() {
		<-ended
		return nil
	}
	return err
}

// accept lets messages be read that are questions or updates, with what such a message
// may hold; the limits on updates are those of a host that registers itself.
func accept(h dns.Header) dns.MsgAcceptAction {
	const response, opcodeShift, opcodeMask = 1 << 15, 11, 0xf
	if h.Bits&response == 0 && h.Bits>>opcodeShift&opcodeMask == dns.OpcodeUpdate && h.Qdcount == 1 &&
		h.Ancount <= 16 && h.Nscount <= 16 && h.Arcount <= 2 {
		return dns.MsgAccept
	}
	return dns.DefaultMsgAcceptFunc(h)
}
