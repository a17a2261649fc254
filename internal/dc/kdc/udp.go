package kdc

import (
	"context"
	"crypto/sha256"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Sizes of datagrams, in bytes.
const (
	// maxDatagram bounds a request: what is longer does not come by UDP.
	maxDatagram = 16 << 10
	// maxDatagramReply bounds an answer; a longer one is error 52. It is AD's own limit
	// (MaxDatagramReplySize), which fits into an Ethernet frame.
	maxDatagramReply = 1465
)

// ServePacket answers datagrams on conn, one after the other, until ctx ends or conn
// fails, and closes conn. One goroutine does it: to hand datagrams to others costs more
// than to answer them, and answers with a PAC go by TCP. Whoever needs more lets several
// sockets share the port.
func (s *Server) ServePacket(ctx context.Context, conn net.PacketConn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close()
	in, out := make([]byte, maxDatagram+1), make([]byte, 0, maxDatagramReply)
	udp, _ := conn.(*net.UDPConn)
	for {
		var n int
		var peer netip.AddrPort
		var addr net.Addr
		var err error
		if udp != nil {
			n, peer, err = udp.ReadFromUDPAddrPort(in)
		} else {
			n, addr, err = conn.ReadFrom(in)
			peer = addrPort(addr)
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil || n > maxDatagram {
			continue // what the kernel says of a datagram that we sent concerns no other
		}
		// Only who proved itself gets an answer much larger than its request: a forged
		// sender is not worth much, and pace bounds the rest.
		if !s.pace.Allow(time.Now(), peer.Addr()) {
			continue
		}
		if out = s.handle(ctx, out[:0], in[:n], peer, datagram); len(out) == 0 {
			continue
		}
		// What cannot be sent is lost, as any datagram may be: the client asks again.
		if udp != nil {
			_, _ = udp.WriteToUDPAddrPort(out, peer)
		} else {
			_, _ = conn.WriteTo(out, addr)
		}
	}
}

// lookaside keeps the last answers to TGS requests over UDP for a moment: a client that
// sends the same request once more, because the answer was lost or was too large for a
// datagram, would be told that it repeats itself.
type lookaside struct {
	mu sync.Mutex
	// All are guarded by mu. next is the oldest.
	answers [lookasideSize]storedAnswer
	next    int
	index   map[requestKey]int
}

type requestKey [sha256.Size]byte

type storedAnswer struct {
	key  requestKey
	at   time.Time
	data []byte
}

// Limits of a lookaside: 256 answers, 10 s, and 8 KiB for one.
const (
	lookasideSize   = 256
	lookasideAge    = 10 * time.Second
	lookasideAnswer = 8 << 10
)

func newLookaside() *lookaside { return &lookaside{index: map[requestKey]int{}} }

// find is the answer to the same request.
func (l *lookaside) find(now time.Time, request []byte) ([]byte, bool) {
	key := requestKey(sha256.Sum256(request))
	l.mu.Lock()
	defer l.mu.Unlock()
	i, ok := l.index[key]
	if !ok || now.Sub(l.answers[i].at) > lookasideAge {
		return nil, false
	}
	return l.answers[i].data, true
}

func (l *lookaside) keep(now time.Time, request, answer []byte) {
	if len(answer) > lookasideAnswer {
		return
	}
	key := requestKey(sha256.Sum256(request))
	// A new slice: the old one may be on its way to its client.
	kept := storedAnswer{key: key, at: now, data: append([]byte(nil), answer...)}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.index, l.answers[l.next].key)
	l.answers[l.next], l.index[key] = kept, l.next
	l.next = (l.next + 1) % lookasideSize
}
