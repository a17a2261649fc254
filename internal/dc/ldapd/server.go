package ldapd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/gss"
	"github.com/opengmsa/opengmsa/krb5/replay"
	"github.com/opengmsa/opengmsa/secret"
)

// Accounts says who somebody is: *account.Accounts. A refused logon is an error with a
// method LDAPData, the code that stands behind "data" in AD's diagnostic message.
type Accounts interface {
	// Bind checks a name (DN, UPN or DOMAIN\name) and a password.
	Bind(ctx context.Context, name string, password secret.Bytes, from netip.AddrPort) (directory.Caller, error)
	// FromTicket makes a caller of a ticket for server that was accepted.
	FromTicket(ctx context.Context, ticket krb5.EncTicketPart, server krb5.Principal, from netip.AddrPort) (directory.Caller, error)
	// ServiceKeys finds the keys of the controller's own services.
	ServiceKeys() gss.KeyFunc
}

// ChannelBinding is what a Kerberos bind inside TLS must prove about the channel:
// Windows' LdapEnforceChannelBinding.
type ChannelBinding int

// The policies.
const (
	// BindWhenSupported refuses wrong bindings, and none from a client that says it can
	// do them ([MS-KILE] 3.4.5). It is the default: adcli and plain OpenLDAP send none.
	BindWhenSupported ChannelBinding = iota
	BindAlways
	BindNever
)

func (b ChannelBinding) policy() gss.BindingPolicy {
	switch b {
	case BindAlways:
		return gss.BindAlways
	case BindNever:
		return gss.BindNever
	}
	return gss.BindWhenSupported
}

// Limits bound what clients can use up. A zero stands for the default.
type Limits struct {
	// Connections is how many there may be, on all listeners together; default 10,000.
	// One idle connection without TLS takes some 5 KiB.
	Connections int
	// PerSource is how many may come from one IPv4 address or IPv6 /64 network; default
	// 1,000.
	PerSource int
	// Outstanding is how many requests of one connection may run at once; default 16.
	Outstanding int
	// OutstandingPerSource is how many may run of all connections from one IPv4 address or
	// IPv6 /64 network; default 256. Each holds up to 256 KiB of an answer that its client
	// is slow to take.
	OutstandingPerSource int
	// Message is the size of a request in bytes; default 10 MiB, MaxReceiveBuffer of
	// [MS-ADTS] 3.1.1.3.4.6. Before a bind it is at most 256 KiB: the largest Kerberos
	// token that gss reads, and room around it.
	Message int
	// Idle is how long a connection may ask nothing; default 15 minutes, MaxConnIdleTime
	// of Active Directory. Before a bind it is at most two minutes, its InitRecvTimeout.
	Idle time.Duration
	// Receive is how long a TLS handshake may take, and one request from its first byte
	// to its last; default 30 seconds.
	Receive time.Duration
	// Send is how long a client may take to accept 32 KiB of an answer; default 60
	// seconds.
	Send time.Duration
}

const (
	maxUnboundMessage = 256 << 10 // bytes
	maxUnboundIdle    = 2 * time.Minute
)

func (l Limits) withDefaults() Limits {
	set := func(n *int, d int) {
		if *n <= 0 {
			*n = d
		}
	}
	wait := func(t *time.Duration, d time.Duration) {
		if *t <= 0 {
			*t = d
		}
	}
	set(&l.Connections, 10_000)
	set(&l.PerSource, 1_000)
	set(&l.Outstanding, 16)
	set(&l.OutstandingPerSource, 256)
	set(&l.Message, 10<<20)
	wait(&l.Idle, 15*time.Minute)
	wait(&l.Receive, 30*time.Second)
	wait(&l.Send, 60*time.Second)
	return l
}

// Config is what a [Server] is made of.
type Config struct {
	// Directory is what is asked. Required.
	Directory *directory.Directory
	// Accounts says who asks. Required.
	Accounts Accounts
	// ChangePassword lets the password of an object be changed by whoever knows the old
	// one, and counts wrong ones as those of binds. Required.
	ChangePassword func(ctx context.Context, object string, from netip.AddrPort, change func() error) error
	// Ping answers a netlogon ping with the value of its attribute; ok is false where
	// the ping is not for this domain. nil: none is answered.
	Ping func(p adproto.Ping, from netip.Addr) (reply []byte, ok bool)
	// Certificate is the controller's as it is now, with its key; it is asked for at each
	// handshake. nil: there is no TLS.
	Certificate func() (*tls.Certificate, error)
	// ChannelBinding is the policy for Kerberos inside TLS.
	ChannelBinding ChannelBinding
	// Limits bound what clients can use up.
	Limits Limits
	// Replay remembers authenticators; nil: a cache of the server's own.
	Replay gss.ReplayCache
	// Log is told of connections and requests at the debug level; nil: nothing is.
	Log *slog.Logger
	// Now is the clock by which tickets are judged. Required.
	Now func() time.Time
	// Rand gives random bytes. Required.
	Rand io.Reader
}

// Server answers LDAP. It is safe for concurrent use; one serves all ports.
type Server struct {
	cfg  Config
	root rootDSE
	last atomic.Uint64 // the number of the newest connection

	mu      sync.Mutex
	open    int                  // connections; guarded by mu
	sources map[netip.Prefix]int // connections of each source; guarded by mu
	running map[netip.Prefix]int // requests beside the readers of each source; guarded by mu
}

// New makes a server. It panics if a required field of cfg is missing.
func New(cfg Config) *Server {
	if cfg.Directory == nil || cfg.Accounts == nil || cfg.ChangePassword == nil || cfg.Now == nil || cfg.Rand == nil {
		panic("ldapd: Directory, Accounts, ChangePassword, Now and Rand are required")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Replay == nil {
		cfg.Replay = replay.New(0, 0)
	}
	cfg.Limits = cfg.Limits.withDefaults()
	return &Server{cfg: cfg, root: newRootDSE(cfg.Directory.Domain()), sources: map[netip.Prefix]int{}, running: map[netip.Prefix]int{}}
}

// endpoint is what a port is for.
type endpoint struct {
	tls           bool // from the first byte
	globalCatalog bool
}

// Serve answers on l, which is LDAP's port 389, until ctx ends; then it returns nil,
// after all connections were told and closed. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, endpoint{})
}

// ServeTLS is Serve for port 636, where TLS comes first.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, endpoint{tls: true})
}

// ServeGlobalCatalog is Serve for port 3268: the whole forest, to be read only.
func (s *Server) ServeGlobalCatalog(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, endpoint{globalCatalog: true})
}

// ServeGlobalCatalogTLS is Serve for port 3269.
func (s *Server) ServeGlobalCatalogTLS(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, endpoint{tls: true, globalCatalog: true})
}

func (s *Server) serve(ctx context.Context, l net.Listener, at endpoint) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	var wg sync.WaitGroup
	defer func() {
		stop()
		_ = l.Close()
		wg.Wait()
	}()
	for {
		sock, err := accept(ctx, l)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("LDAP on %v: %w", l.Addr(), err)
		}
		from := peer(sock)
		source, ok := s.admit(from)
		if !ok {
			s.cfg.Log.Debug("LDAP connection refused: too many", "from", from)
			_ = sock.Close()
			continue
		}
		wg.Go(func() {
			defer s.release(source)
			newConn(s, sock, from, at).run(ctx)
		})
	}
}

// accept takes the next connection. Faults that pass, such as a process out of file
// descriptors, are waited out: 5 ms at first and a second at most, as net/http does.
func accept(ctx context.Context, l net.Listener) (net.Conn, error) {
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		sock, err := l.Accept()
		if err == nil || ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return sock, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// peer is the address of the other side; invalid where it has none, as a pipe.
func peer(sock net.Conn) netip.AddrPort {
	if a, ok := sock.RemoteAddr().(*net.TCPAddr); ok {
		p := a.AddrPort()
		return netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	}
	return netip.AddrPort{}
}

// sourceOf is what an address counts as.
func sourceOf(from netip.AddrPort) netip.Prefix {
	bits := 32
	if from.Addr().Is6() {
		bits = 64 // what one customer is given
	}
	source, _ := from.Addr().WithZone("").Prefix(bits) // the zero Prefix for a pipe
	return source
}

// admit counts a connection in, or refuses it.
func (s *Server) admit(from netip.AddrPort) (source netip.Prefix, ok bool) {
	source = sourceOf(from)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open >= s.cfg.Limits.Connections || s.sources[source] >= s.cfg.Limits.PerSource {
		return source, false
	}
	s.open++
	s.sources[source]++
	return source, true
}

func (s *Server) release(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open--
	if s.sources[source]--; s.sources[source] == 0 {
		delete(s.sources, source)
	}
}

// begin counts a request in that runs beside a reader, or refuses it.
func (s *Server) begin(source netip.Prefix) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[source] >= s.cfg.Limits.OutstandingPerSource {
		return false
	}
	s.running[source]++
	return true
}

func (s *Server) end(source netip.Prefix) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[source]--; s.running[source] == 0 {
		delete(s.running, source)
	}
}
