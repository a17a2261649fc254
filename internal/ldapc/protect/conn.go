package protect

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5/gss"
)

// maxFrame is the largest frame that is sent, in bytes: 64 KiB is the default buffer of
// every SASL library known, and a GSS-SPNEGO peer cannot say what it takes.
const maxFrame = 64<<10 - 1

// keep is how much memory a connection keeps between frames, in bytes of each buffer.
const keep = 4 << 10

// Config says how a connection is protected.
type Config struct {
	// Context is an established context.
	Context *gss.Context
	// Seal encrypts; without it messages are signed.
	Seal bool
	// MaxRead is the largest token that is accepted, in bytes. Required.
	MaxRead uint32
	// PeerMax is the largest token that the peer takes; 0 where it did not say.
	PeerMax uint32
}

// Conn is a connection whose every byte is signed or sealed: RFC 4422, Section 3.7.
// One goroutine may read while others write.
type Conn struct {
	net.Conn
	cfg      Config
	maxPlain int // bytes of outgoing plain text in one frame

	// What follows belongs to the reader.
	token []byte
	plain []byte
	rest  []byte // of plain, not yet read

	mu  sync.Mutex // guards the order of Wrap and Write: tokens are numbered
	out []byte
}

// NewConn begins to protect conn.
func NewConn(conn net.Conn, cfg Config) (*Conn, error) {
	frame := maxFrame
	if cfg.PeerMax > 0 {
		frame = int(min(cfg.PeerMax, maxFrame))
	}
	plain := cfg.Context.WrapLimit(frame, cfg.Seal)
	if plain < 1 {
		return nil, fmt.Errorf("protect: peer takes SASL frames of %d bytes, too few for any message", cfg.PeerMax)
	}
	return &Conn{Conn: conn, cfg: cfg, maxPlain: plain}, nil
}

// Read opens the next frame when the last is used up. What was read is cleared.
func (c *Conn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		if err := c.nextFrame(); err != nil {
			return 0, err
		}
	}
	n := copy(p, c.rest)
	clear(c.rest[:n])
	c.rest = c.rest[n:]
	return n, nil
}

// ErrNotSealed is a frame that is signed only, after sealing was agreed.
var ErrNotSealed = errors.New("protect: peer sent a frame that is not sealed")

func (c *Conn) nextFrame() error {
	if cap(c.plain) > keep {
		c.plain = nil
	}
	var header [adproto.SASLFrameHeader]byte
	if _, err := io.ReadFull(c.Conn, header[:]); err != nil {
		return err
	}
	size, err := adproto.SASLFrameSize(header, c.cfg.MaxRead)
	if err != nil {
		return err
	}
	c.token, err = readGrowing(c.Conn, c.token[:0], size)
	if err != nil {
		return err
	}
	plain, conf, err := c.cfg.Context.Unwrap(c.plain[:0], c.token)
	if cap(c.token) > keep {
		c.token = nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("protect: open SASL frame: %w", err)
	case c.cfg.Seal && !conf:
		return ErrNotSealed
	}
	c.plain, c.rest = plain, plain
	return nil
}

// readGrowing reads n bytes into buf without trusting n: memory grows with what
// arrives. The end of the stream within them is io.ErrUnexpectedEOF.
func readGrowing(r io.Reader, buf []byte, n int) ([]byte, error) {
	const step = 64 << 10
	for len(buf) < n {
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(n, max(2*cap(buf), step)))
			copy(grown, buf)
			buf = grown
		}
		have := len(buf)
		got, err := io.ReadFull(r, buf[have:min(n, cap(buf))])
		buf = buf[:have+got]
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return buf, err
		}
	}
	return buf, nil
}

// Write protects p in as many frames as it needs.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out = c.out[:0]
	for rest := p; len(rest) > 0; {
		n := min(len(rest), c.maxPlain)
		if err := c.frame(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	_, err := c.Conn.Write(c.out)
	if cap(c.out) > keep {
		c.out = nil
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

// frame appends one frame to what goes out.
func (c *Conn) frame(plain []byte) error {
	token, err := c.cfg.Context.Wrap(nil, plain, c.cfg.Seal)
	if err != nil {
		return fmt.Errorf("protect: wrap SASL frame: %w", err)
	}
	c.out = adproto.AppendSASLFrame(c.out, token)
	return nil
}
