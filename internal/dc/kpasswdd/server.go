package kpasswdd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/pace"
	"github.com/opengmsa/opengmsa/krb5/ap"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
)

// Limits of the service.
const (
	// maxConns are the connections that are open at once, and patience is how long one
	// may take for a request or be silent.
	maxConns = 256
	patience = 10 * time.Second
	// maxDatagrams are those that are worked on at once; more are dropped, and their
	// clients ask again.
	maxDatagrams = 16
	// perSecond and burst are for each network of clients ([pace.Limiter]), over UDP.
	perSecond = 50
	burst     = 100
)

// Config is what a [Server] is made of.
type Config struct {
	// Directory has the accounts. Required.
	Directory *directory.Directory
	// Accounts says who a ticket is of. Required.
	Accounts *account.Accounts
	// Replay remembers authenticators. Required: a request that comes twice must not set
	// an old password again.
	Replay ap.ReplayCache
	// Log is told of requests that failed by our own fault. Required.
	Log *slog.Logger
	// Rand gives random bytes. Required.
	Rand io.Reader
}

// Server changes passwords. It is safe for concurrent use.
type Server struct {
	cfg      Config
	acceptor ap.Acceptor
	limit    *pace.Limiter
}

// New makes a Server.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, limit: pace.New(perSecond, burst),
		acceptor: ap.Acceptor{Keys: cfg.Accounts.ChangePasswordKeys(), Now: cfg.Directory.Now, Replay: cfg.Replay}}
}

// ServePacket answers requests that come on conn until ctx ends or conn fails, and
// closes conn. It returns when the last answer has been sent.
func (s *Server) ServePacket(ctx context.Context, conn net.PacketConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer conn.Close()
	var working sync.WaitGroup
	defer working.Wait()
	defer stop()
	slots := make(chan struct{}, maxDatagrams)
	buf := make([]byte, kpasswd.MaxMessage)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		udp, ok := peer.(*net.UDPAddr)
		if !ok || !s.limit.Allow(time.Now(), udp.AddrPort().Addr()) {
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			continue
		}
		b := bytes.Clone(buf[:n])
		working.Go(func() {
			defer func() { <-slots }()
			defer clear(b)
			if answer := s.answer(ctx, b, udp.AddrPort(), localFor(conn.LocalAddr(), udp)); answer != nil {
				// An answer that is lost is as good as none.
				_, _ = conn.WriteTo(answer, peer)
			}
		})
	}
}

// localFor is the address that the peer knows this machine by. MIT's client compares
// it with the one in the answer, so that a socket for all addresses asks the system
// which it would send from.
func localFor(local net.Addr, peer *net.UDPAddr) netip.Addr {
	if udp, ok := local.(*net.UDPAddr); ok && !udp.IP.IsUnspecified() {
		return udp.AddrPort().Addr()
	}
	conn, err := net.DialUDP("udp", nil, peer)
	if err != nil {
		return netip.IPv4Unspecified()
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr()
}

// Serve answers requests on connections that l accepts until ctx ends or l fails, and
// closes l. It returns when the last connection is closed.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	l = netutil.LimitListener(l, maxConns)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer l.Close()
	defer stop()
	var working sync.WaitGroup
	defer working.Wait()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
		working.Go(func() { s.serveConn(ctx, conn) })
	}
}

// serveConn answers the requests of one connection.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	// A request under way ends with its answer; one that has not come is not waited for.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	peer, ok := conn.RemoteAddr().(*net.TCPAddr)
	local, ok2 := conn.LocalAddr().(*net.TCPAddr)
	if !ok || !ok2 {
		return
	}
	for ctx.Err() == nil {
		_ = conn.SetDeadline(time.Now().Add(patience))
		b, err := readMessage(conn)
		if err != nil {
			return
		}
		answer := s.answer(ctx, b, peer.AddrPort(), local.AddrPort().Addr())
		clear(b)
		if answer == nil {
			return
		}
		framed := binary.BigEndian.AppendUint32(nil, uint32(len(answer)))
		if _, err := conn.Write(append(framed, answer...)); err != nil {
			return
		}
	}
}

// readMessage reads one message with its length before it: RFC 4120, Section 7.2.2.
func readMessage(r io.Reader) ([]byte, error) {
	var length [4]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n == 0 || n > kpasswd.MaxMessage {
		return nil, fmt.Errorf("a message of %d bytes, want at most %d", n, kpasswd.MaxMessage)
	}
	// What is not there yet is not allocated for: a client may announce 64 KiB and send
	// nothing.
	b, err := io.ReadAll(io.LimitReader(r, int64(n)))
	if err == nil && len(b) < int(n) {
		err = errors.New("a message cut short")
	}
	return b, err
}
