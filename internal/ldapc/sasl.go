package ldapc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5/gss"
)

// maxPlain is how much plain text goes into one frame, in bytes; the negotiated
// buffer may make it less.
const maxPlain = 64 << 10

// sealedConn is a connection whose every byte is sealed: RFC 4422, Section 3.7.
// One goroutine reads, one writes.
type sealedConn struct {
	net.Conn
	ctx      *gss.Context
	maxRead  uint32 // bytes of an incoming token
	maxPlain int    // bytes of outgoing plain text in one frame

	rest []byte // opened, not yet read

	mu sync.Mutex // guards the order of Wrap and Write: tokens are numbered
}

// newSealedConn begins sealing. peerMax is the largest token that the server
// takes, 0 where it did not say.
func newSealedConn(conn net.Conn, ctx *gss.Context, maxRead, peerMax uint32) (*sealedConn, error) {
	plain := maxPlain
	if peerMax > 0 {
		plain = min(plain, ctx.WrapLimit(int(peerMax), true))
	}
	if plain < 1 {
		return nil, fmt.Errorf("ldapc: server takes SASL frames of %d bytes, too few for any message", peerMax)
	}
	return &sealedConn{Conn: conn, ctx: ctx, maxRead: maxRead, maxPlain: plain}, nil
}

// Read opens the next frame when the last is used up.
func (s *sealedConn) Read(p []byte) (int, error) {
	if len(s.rest) == 0 {
		if err := s.nextFrame(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.rest)
	clear(s.rest[:n])
	s.rest = s.rest[n:]
	return n, nil
}

// errNotSealed is a frame that is signed only, after sealing was agreed.
var errNotSealed = errors.New("ldapc: server sent a frame that is not sealed")

func (s *sealedConn) nextFrame() error {
	var header [adproto.SASLFrameHeader]byte
	if _, err := io.ReadFull(s.Conn, header[:]); err != nil {
		return err
	}
	size, err := adproto.SASLFrameSize(header, s.maxRead)
	if err != nil {
		return err
	}
	token, err := readGrowing(s.Conn, size)
	if err != nil {
		return endOfMessage(err, true)
	}
	plain, conf, err := s.ctx.Unwrap(nil, token)
	switch {
	case err != nil:
		return fmt.Errorf("ldapc: open SASL frame: %w", err)
	case !conf:
		return errNotSealed
	}
	s.rest = plain
	return nil
}

// readGrowing reads n bytes without trusting n: memory grows with what arrives.
func readGrowing(r io.Reader, n int) ([]byte, error) {
	const step = 64 << 10
	buf := make([]byte, 0, min(n, step))
	for len(buf) < n {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(n, 2*cap(buf)))
			copy(grown, buf)
			buf = grown
		}
		got, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+got]
		if err != nil {
			return nil, err
		}
	}
	return buf, nil
}

// Write seals p in as many frames as it needs.
func (s *sealedConn) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []byte
	for rest := p; len(rest) > 0; {
		n := min(len(rest), s.maxPlain)
		token, err := s.ctx.Wrap(nil, rest[:n], true)
		if err != nil {
			return 0, fmt.Errorf("ldapc: seal SASL frame: %w", err)
		}
		out, rest = adproto.AppendSASLFrame(out, token), rest[n:]
	}
	if _, err := s.Conn.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}
