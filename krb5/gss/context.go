package gss

import (
	"bytes"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Context is an established context: it protects messages with the tokens of
// RFC 4121, Section 4.2. One goroutine may send ([Context.Wrap], [Context.GetMIC])
// while another receives ([Context.Unwrap], [Context.VerifyMIC]), for the two
// directions share nothing that changes; two must not do the same.
type Context struct {
	key            *crypto.Key // the acceptor's subkey, else the initiator's, else the session key
	initiator      bool        // we are the initiator
	acceptorSubkey bool        // key is the acceptor's subkey
	flags          Flags
	client, server krb5.Principal
	endTime        time.Time
	bound          bool
	delegated      []byte
	ticket         krb5.EncTicketPart // on the acceptor's side

	rand    io.Reader // sending: confounders
	sendSeq uint64    // sending: the number of the next message
	recv    window    // receiving
}

// Flags are the properties that were agreed on.
func (c *Context) Flags() Flags { return c.flags }

// Client is the initiator's name. An acceptor has it from the ticket.
func (c *Context) Client() krb5.Principal { return c.client }

// Server is the acceptor's name, as the ticket has it.
func (c *Context) Server() krb5.Principal { return c.server }

// EndTime is when the ticket ends. The context does not enforce it.
func (c *Context) EndTime() time.Time { return c.endTime }

// Bound reports whether the acceptor checked that both sides are on the same
// channel. On the initiator's side it is true if bindings were sent and the
// acceptor authenticated itself; whether it looked at them it does not say.
func (c *Context) Bound() bool { return c.bound }

// Delegated is the DER of the KRB-CRED that came with the first token, still
// encrypted in the ticket's session key; nil without [FlagDelegate].
func (c *Context) Delegated() []byte { return c.delegated }

// Ticket is the decrypted part of the ticket, PAC included. It is empty on the
// initiator's side.
func (c *Context) Ticket() krb5.EncTicketPart { return c.ticket }

// Key is the key that protects messages, for protocols that derive others from
// it.
func (c *Context) Key() *crypto.Key { return c.key }

// Token ids and flags of per-message tokens: RFC 4121, Section 4.2.2 and 4.2.6.
const (
	tokenMIC  = 0x0404
	tokenWrap = 0x0504

	sentByAcceptor = 1 << 0
	sealed         = 1 << 1
	acceptorSubkey = 1 << 2

	headerSize = 16
)

// header is the header of a per-message token: RFC 4121, Section 4.2.6.
type header [headerSize]byte

// newHeader makes the header of our next message, with EC and RRC of zero; for
// a MIC token their place holds filler like the rest.
func (c *Context) newHeader(id uint16, flags byte) header {
	if !c.initiator {
		flags |= sentByAcceptor
	}
	if c.acceptorSubkey {
		flags |= acceptorSubkey
	}
	h := header{byte(id >> 8), byte(id), flags, 0xff}
	if id == tokenMIC {
		copy(h[3:8], "\xff\xff\xff\xff\xff")
	}
	binary.BigEndian.PutUint64(h[8:], c.sendSeq)
	c.sendSeq++
	return h
}

func (h *header) flags() byte      { return h[2] }
func (h *header) extra() int       { return int(binary.BigEndian.Uint16(h[4:])) } // EC
func (h *header) rotation() int    { return int(binary.BigEndian.Uint16(h[6:])) } // RRC
func (h *header) sequence() uint64 { return binary.BigEndian.Uint64(h[8:]) }
func (h *header) setExtra(n int)   { binary.BigEndian.PutUint16(h[4:], uint16(n)) }
func (h *header) clearRotation()   { h[6], h[7] = 0, 0 }
func (h *header) withoutExtra() header {
	o := *h
	o[4], o[5], o[6], o[7] = 0, 0, 0, 0
	return o
}

// readHeader reads the header of the peer's message and checks what does not
// need a key.
func (c *Context) readHeader(token []byte, id uint16) (header, error) {
	var h header
	if len(token) < headerSize {
		return h, fmt.Errorf("%w: got %d bytes, want at least %d", ErrToken, len(token), headerSize)
	}
	copy(h[:], token)
	if got := binary.BigEndian.Uint16(h[:]); got != id {
		return h, fmt.Errorf("%w: token id: got %04x, want %04x", ErrToken, got, id)
	}
	if h[3] != 0xff {
		return h, fmt.Errorf("%w: filler at offset 3: got %02x, want ff", ErrToken, h[3])
	}
	if (h.flags()&sentByAcceptor != 0) != c.initiator {
		return h, fmt.Errorf("%w: our own message came back", ErrIntegrity)
	}
	if (h.flags()&acceptorSubkey != 0) != c.acceptorSubkey {
		return h, fmt.Errorf("%w: acceptor subkey flag: got %t, want %t", ErrToken, !c.acceptorSubkey, c.acceptorSubkey)
	}
	return h, nil
}

// Key usage numbers of a side: RFC 4121, Section 2.
func sealUsage(initiator bool) uint32 {
	if initiator {
		return krb5.UsageInitiatorSeal
	}
	return krb5.UsageAcceptorSeal
}

func signUsage(initiator bool) uint32 {
	if initiator {
		return krb5.UsageInitiatorSign
	}
	return krb5.UsageAcceptorSign
}

// Wrap appends a Wrap token around msg to dst: encrypted if conf is set, signed
// otherwise. dst and msg must not overlap. A context without [FlagConf]
// refuses to encrypt, so that nobody is deceived.
func (c *Context) Wrap(dst, msg []byte, conf bool) ([]byte, error) {
	if !conf {
		return c.wrapSigned(dst, msg), nil
	}
	if !c.flags.Has(FlagConf) {
		return nil, fmt.Errorf("%w: confidentiality was not agreed on", ErrState)
	}
	// The plaintext is msg, EC bytes of filler (none) and the header.
	h := c.newHeader(tokenWrap, sealed)
	out, err := c.key.EncryptParts(append(dst, h[:]...), sealUsage(c.initiator), c.rand, msg, h[:])
	if err != nil {
		return nil, fmt.Errorf("gss: wrap: %w", err)
	}
	return out, nil
}

// wrapSigned makes the token without confidentiality: header, msg, and the
// checksum of msg and a header whose EC and RRC are zero. EC is the length of
// the checksum.
func (c *Context) wrapSigned(dst, msg []byte) []byte {
	h := c.newHeader(tokenWrap, 0)
	signed := h
	h.setExtra(c.key.EType().ChecksumSize())
	dst = append(dst, h[:]...)
	dst = append(dst, msg...)
	return c.key.AppendChecksum(dst, sealUsage(c.initiator), msg, signed[:])
}

// Unwrap appends the message of a Wrap token to dst and tells whether it was
// encrypted. Who needs confidentiality must look at conf. dst and token must
// not overlap. After an error the context should not be used any more.
func (c *Context) Unwrap(dst, token []byte) (msg []byte, conf bool, err error) {
	h, err := c.readHeader(token, tokenWrap)
	if err != nil {
		return nil, false, err
	}
	// The sender rotated the body to the right by RRC, and senders differ: MIT
	// does not, Windows does by the length of its trailer.
	body := token[headerSize:]
	if len(body) == 0 {
		return nil, false, fmt.Errorf("%w: body: got 0 bytes", ErrToken)
	}
	by := h.rotation() % len(body)
	start := len(dst)
	dst = append(append(dst, body[by:]...), body[:by]...)
	conf = h.flags()&sealed != 0
	var n int
	if conf {
		n, err = c.openSealed(h, dst[start:])
	} else {
		n, err = c.openSigned(h, dst[start:])
	}
	if err != nil {
		clear(dst[start:])
		return nil, conf, err
	}
	if err := c.recv.accept(h.sequence()); err != nil {
		clear(dst[start:])
		return nil, conf, err
	}
	return dst[:start+n], conf, nil
}

// openSealed decrypts body in place and moves the message to its beginning. The
// plaintext ends with EC bytes of filler and the header, in which RRC is zero.
func (c *Context) openSealed(h header, body []byte) (n int, err error) {
	plain, err := c.key.DecryptInPlace(sealUsage(!c.initiator), body)
	if err != nil {
		return 0, ErrIntegrity
	}
	h.clearRotation()
	n = len(plain) - headerSize - h.extra()
	if n < 0 || !bytes.Equal(plain[len(plain)-headerSize:], h[:]) {
		return 0, ErrIntegrity
	}
	copy(body, plain[:n])
	return n, nil
}

// openSigned verifies the checksum at the end of body.
func (c *Context) openSigned(h header, body []byte) (n int, err error) {
	if h.extra() != c.key.EType().ChecksumSize() || len(body) < h.extra() {
		return 0, fmt.Errorf("%w: checksum: got %d bytes in a body of %d, want %d", ErrToken, h.extra(), len(body), c.key.EType().ChecksumSize())
	}
	n = len(body) - h.extra()
	signed := h.withoutExtra()
	if c.key.VerifyChecksumParts(sealUsage(!c.initiator), body[n:], body[:n], signed[:]) != nil {
		return 0, ErrIntegrity
	}
	return n, nil
}

// GetMIC appends a MIC token for msg to dst: RFC 4121, Section 4.2.6.1.
func (c *Context) GetMIC(dst, msg []byte) []byte {
	h := c.newHeader(tokenMIC, 0)
	return c.key.AppendChecksum(append(dst, h[:]...), signUsage(c.initiator), msg, h[:])
}

// VerifyMIC checks the peer's MIC token for msg.
func (c *Context) VerifyMIC(msg, token []byte) error {
	h, err := c.readHeader(token, tokenMIC)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(h[4:8], []byte("\xff\xff\xff\xff")) != 1 {
		return fmt.Errorf("%w: filler at offset 4: got %x, want ffffffff", ErrToken, h[4:8])
	}
	if c.key.VerifyChecksumParts(signUsage(!c.initiator), token[headerSize:], msg, h[:]) != nil {
		return ErrIntegrity
	}
	return c.recv.accept(h.sequence())
}

// WrapLimit is the largest message, in bytes, whose token has at most max bytes;
// 0 if there is none.
func (c *Context) WrapLimit(max int, conf bool) int {
	overhead := headerSize + c.key.EType().ChecksumSize()
	if conf {
		overhead = 2*headerSize + c.key.EType().Overhead()
	}
	if max < overhead {
		return 0
	}
	return max - overhead
}
