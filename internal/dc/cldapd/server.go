package cldapd

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/pace"
)

// Limits of the service.
const (
	// maxDatagram bounds a question, in bytes: a ping has some 150, with the longest
	// names that its elements may have under 1000.
	maxDatagram = 2048
	// maxAnswer bounds an answer, in bytes: one that every path carries unfragmented.
	maxAnswer = 1232
	// perSecond and burst are for each network of clients ([pace.Limiter]). A client
	// pings a controller every few minutes.
	perSecond = 50
	burst     = 200
)

// Config is what a [Server] is made of.
type Config struct {
	// Directory is the domain. Required.
	Directory *directory.Directory
	// Addresses are those at which clients reach the controller; replies that carry an
	// address name the nearest, and none without any.
	Addresses []netip.Addr
	// Log is told of pings that could not be answered. Required.
	Log *slog.Logger
}

// Server answers netlogon pings. It is safe for concurrent use.
type Server struct {
	cfg   Config
	limit *pace.Limiter
}

// New makes a Server.
func New(cfg Config) *Server { return &Server{cfg: cfg, limit: pace.New(perSecond, burst)} }

// ServePacket answers pings that come on conn until ctx ends or conn fails, and closes
// conn.
func (s *Server) ServePacket(ctx context.Context, conn net.PacketConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	buf := make([]byte, maxDatagram+1)
	for {
		n, peer, err := conn.ReadFrom(buf)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if answer := s.datagram(buf[:n], addressOf(peer)); answer != nil {
			// What cannot be sent is lost, as any datagram may be: the client asks again.
			_, _ = conn.WriteTo(answer, peer)
		}
	}
}

// datagram is the answer to one datagram, nil for none.
func (s *Server) datagram(b []byte, from netip.Addr) []byte {
	if len(b) > maxDatagram || !s.limit.Allow(time.Now(), from) {
		return nil
	}
	q, err := parseQuestion(b)
	if err != nil {
		return nil
	}
	value, ok := s.Answer(q.ping, from)
	if !ok {
		return nil
	}
	answer := q.answer(value)
	if len(answer) > maxAnswer {
		return nil
	}
	return answer
}

// addressOf is the peer's address, the zero value where it has none.
func addressOf(peer net.Addr) netip.Addr {
	if udp, ok := peer.(*net.UDPAddr); ok {
		return udp.AddrPort().Addr()
	}
	return netip.Addr{}
}
