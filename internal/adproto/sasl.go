package adproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// SASLLayers is the set of security layers of RFC 4752, Section 3.3.
type SASLLayers uint8

// The security layers.
const (
	SASLNone      SASLLayers = 1 // no protection
	SASLIntegrity SASLLayers = 2 // signing
	SASLPrivacy   SASLLayers = 4 // signing and sealing
)

// String names the layers.
func (l SASLLayers) String() string {
	var names []string
	for i, n := range []string{"none", "sign", "seal"} {
		if l&(1<<i) != 0 {
			names = append(names, n)
		}
	}
	if len(names) == 0 {
		return "no layer"
	}
	return strings.Join(names, "|")
}

// MaxSASLBuffer is the largest buffer the negotiation can name, in bytes: its
// field has 24 bits.
const MaxSASLBuffer = 1<<24 - 1

// SASLNegotiation is the message that closes a GSSAPI bind: RFC 4752, Sections
// 3.1 and 3.2. The server offers a set of layers; the client answers with one
// of them, and may add an authorization identity.
type SASLNegotiation struct {
	Layers SASLLayers
	// MaxBuffer is the largest wrapped frame that the sender can receive, in
	// bytes; 0 with no layer.
	MaxBuffer uint32
	// AuthzID is sent by the client alone; empty means the authenticated
	// identity itself.
	AuthzID string
}

// Append writes the message, which the caller then wraps without
// confidentiality.
func (n SASLNegotiation) Append(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(n.Layers)<<24|min(n.MaxBuffer, MaxSASLBuffer))
	return append(dst, n.AuthzID...)
}

// ParseSASLOffer reads the server's message, unwrapped: exactly four bytes. A
// server that offers nothing but "none" must name no buffer; Samba's 64 KiB
// there are ignored.
func ParseSASLOffer(b []byte) (SASLNegotiation, error) {
	if len(b) != 4 {
		return SASLNegotiation{}, fmt.Errorf("adproto: SASL offer of %d bytes, want 4", len(b))
	}
	n := parseSASL(b)
	if n.Layers == 0 || n.Layers > SASLNone|SASLIntegrity|SASLPrivacy {
		return SASLNegotiation{}, fmt.Errorf("adproto: SASL offer of layers %#02x", uint8(n.Layers))
	}
	return n, nil
}

// ParseSASLChoice reads the client's message, unwrapped: one layer out of
// offered.
func ParseSASLChoice(b []byte, offered SASLLayers) (SASLNegotiation, error) {
	if len(b) < 4 {
		return SASLNegotiation{}, fmt.Errorf("adproto: SASL choice of %d bytes, want at least 4", len(b))
	}
	n := parseSASL(b)
	switch n.Layers {
	case SASLNone, SASLIntegrity, SASLPrivacy:
	default:
		return SASLNegotiation{}, fmt.Errorf("adproto: SASL choice of layers %#02x, want one", uint8(n.Layers))
	}
	if n.Layers&offered == 0 {
		return SASLNegotiation{}, fmt.Errorf("adproto: SASL choice of %v, offered %v", n.Layers, offered)
	}
	if n.Layers == SASLNone && n.MaxBuffer != 0 {
		return SASLNegotiation{}, fmt.Errorf("adproto: SASL choice of no layer with a buffer of %d bytes", n.MaxBuffer)
	}
	return n, nil
}

func parseSASL(b []byte) SASLNegotiation {
	v := binary.BigEndian.Uint32(b)
	return SASLNegotiation{Layers: SASLLayers(v >> 24), MaxBuffer: v & MaxSASLBuffer, AuthzID: string(b[4:])}
}

// SASLFrameHeader is the size of a frame's length field: RFC 4422, Section 3.7.
const SASLFrameHeader = 4

// ErrEmptyFrame is a frame without content, which no GSS token can be.
var ErrEmptyFrame = errors.New("adproto: empty SASL frame")

// SASLFrameSize reads a frame's length field and returns the number of bytes
// that follow it. More than limit, the MaxBuffer that this side announced, is
// an error: RFC 4422, Section 3.7 has the connection closed then.
func SASLFrameSize(header [SASLFrameHeader]byte, limit uint32) (int, error) {
	n := binary.BigEndian.Uint32(header[:])
	switch {
	case n == 0:
		return 0, ErrEmptyFrame
	case n > limit:
		return 0, fmt.Errorf("adproto: SASL frame of %d bytes, limit %d", n, limit)
	}
	return int(n), nil
}

// AppendSASLFrame writes the length field and the wrapped token.
func AppendSASLFrame(dst, token []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(token))), token...)
}
