package nrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/dtyp"
)

// ErrProtocol is wrapped where an answer is none of RPC's.
var ErrProtocol = errors.New("not an answer of RPC")

// syntax is an interface or transfer syntax with its version, the minor one in the upper
// half.
type syntax struct {
	uuid    dtyp.GUID
	version uint32
}

var (
	// 12345678-1234-abcd-ef00-01234567cffb, [MS-NRPC] 1.9.
	netlogonInterface = syntax{dtyp.GUID{0x78, 0x56, 0x34, 0x12, 0x34, 0x12, 0xcd, 0xab, 0xef, 0, 0x01, 0x23, 0x45, 0x67, 0xcf, 0xfb}, 1}
	// e1af8308-5d1f-11c9-91a4-08002b14a0fa, C706 appendix O.
	mapperInterface = syntax{dtyp.GUID{0x08, 0x83, 0xaf, 0xe1, 0x1f, 0x5d, 0xc9, 0x11, 0x91, 0xa4, 0x08, 0, 0x2b, 0x14, 0xa0, 0xfa}, 3}
	// 8a885d04-1ceb-11c9-9fe8-08002b104860, C706 appendix I.
	ndr = syntax{dtyp.GUID{0x04, 0x5d, 0x88, 0x8a, 0xeb, 0x1c, 0xc9, 0x11, 0x9f, 0xe8, 0x08, 0, 0x2b, 0x10, 0x48, 0x60}, 2}
)

// Types of PDUs, C706 12.6.4.
const (
	pduRequest  = 0
	pduResponse = 2
	pduFault    = 3
	pduBind     = 11
	pduBindAck  = 12
)

// headerSize and maxFragment are in bytes. Every request and answer here is one fragment.
const (
	headerSize  = 16
	maxFragment = 4280
)

// conn is a connection that is bound to one interface.
type conn struct {
	net.Conn
	id uint32 // of the last call
}

// bind connects and binds without authentication.
func bind(ctx context.Context, to netip.AddrPort, i syntax) (*conn, error) {
	nc, err := dial(ctx, to)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc}
	body := binary.LittleEndian.AppendUint16(nil, maxFragment)
	body = binary.LittleEndian.AppendUint16(body, maxFragment)
	body = append(body, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0) // a new group; one context, 0, with one transfer syntax
	for _, s := range []syntax{i, ndr} {
		body = binary.LittleEndian.AppendUint32(append(body, s.uuid[:]...), s.version)
	}
	ack, err := c.exchange(pduBind, pduBindAck, body)
	if err == nil {
		err = accepted(ack)
	}
	if err != nil {
		return nil, errors.Join(err, nc.Close())
	}
	return c, nil
}

// accepted reads the result of the one context of a bind_ack.
func accepted(b []byte) error {
	r := reader{b: b}
	r.take(8) // sizes and group
	r.take(int(r.uint16raw()))
	r.align(4)
	if n := r.take(4); len(n) < 4 || n[0] != 1 {
		return fmt.Errorf("%w: a bind_ack without a result", ErrProtocol)
	}
	if result := r.uint16raw(); r.short || result != 0 {
		return fmt.Errorf("%w: it does not know the interface (result %d)", ErrNotOffered, result)
	}
	return nil
}

// operation is a call by its name and number.
type operation struct {
	name  string
	opnum uint16
}

// call makes one call and returns its answer's stub.
func (c *conn) call(op operation, in []byte) ([]byte, error) {
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(in)))
	body = append(body, 0, 0) // context
	body = binary.LittleEndian.AppendUint16(body, op.opnum)
	out, err := c.exchange(pduRequest, pduResponse, append(body, in...))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op.name, err)
	}
	if len(out) < 8 {
		return nil, fmt.Errorf("%s: %w: %d bytes", op.name, ErrProtocol, len(out))
	}
	return out[8:], nil
}

// exchange sends a PDU and returns the body of the one that answers it.
func (c *conn) exchange(kind, want byte, body []byte) ([]byte, error) {
	c.id++
	pdu := []byte{5, 0, kind, 3, 0x10, 0, 0, 0} // version 5.0; the first and last fragment; little endian
	pdu = binary.LittleEndian.AppendUint16(pdu, uint16(headerSize+len(body)))
	pdu = append(pdu, 0, 0) // no authentication
	pdu = binary.LittleEndian.AppendUint32(pdu, c.id)
	if _, err := c.Write(append(pdu, body...)); err != nil {
		return nil, err
	}
	return readPDU(c, want, c.id)
}

// readPDU reads one fragment.
func readPDU(r io.Reader, want byte, id uint32) ([]byte, error) {
	var h [headerSize]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	size := int(binary.LittleEndian.Uint16(h[8:]))
	switch {
	case h[0] != 5 || h[4] != 0x10 || size < headerSize || size > maxFragment || binary.LittleEndian.Uint32(h[12:]) != id:
		return nil, fmt.Errorf("%w: header % x", ErrProtocol, h)
	case h[3]&3 != 3 || binary.LittleEndian.Uint16(h[10:]) != 0:
		return nil, fmt.Errorf("%w: fragmented or authenticated", ErrProtocol)
	}
	body := make([]byte, size-headerSize)
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if h[2] == pduFault && len(body) >= 12 {
		return nil, fmt.Errorf("%w: fault 0x%08x", ErrProtocol, binary.LittleEndian.Uint32(body[8:]))
	}
	if h[2] != want {
		return nil, fmt.Errorf("%w: a PDU of type %d, want %d", ErrProtocol, h[2], want)
	}
	return body, nil
}

// stub is the input of a call in NDR, C706 chapter 14.
type stub struct {
	b       []byte
	pointer uint32 // the last referent
}

func (s *stub) align(n int) {
	for len(s.b)%n != 0 {
		s.b = append(s.b, 0)
	}
}

func (s *stub) uint32(v uint32) { s.align(4); s.b = binary.LittleEndian.AppendUint32(s.b, v) }
func (s *stub) uint16(v uint16) { s.align(2); s.b = binary.LittleEndian.AppendUint16(s.b, v) }

// uniqueString is a [unique, string] wchar_t *.
func (s *stub) uniqueString(v string) {
	s.pointer += 4
	s.uint32(0x20000 + s.pointer)
	s.string(v)
}

// string is a [string] wchar_t *: conformant and varying, zero-terminated.
func (s *stub) string(v string) {
	units := append(utf16.Encode([]rune(v)), 0)
	for _, n := range []int{len(units), 0, len(units)} {
		s.uint32(uint32(n))
	}
	for _, u := range units {
		s.b = binary.LittleEndian.AppendUint16(s.b, u)
	}
}

// reader reads an answer. What is missing reads as zero, and short stays true.
type reader struct {
	b     []byte
	at    int
	short bool
}

func (r *reader) align(n int) {
	if gap := -r.at & (n - 1); gap > 0 {
		r.take(gap)
	}
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b)-r.at {
		r.short, r.at = true, len(r.b)
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *reader) uint32() uint32 {
	r.align(4)
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// uint16raw is one that is not aligned.
func (r *reader) uint16raw() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// status reads the NTSTATUS that ends an answer.
func (r *reader) status(call string) error {
	status := r.uint32()
	switch {
	case r.short:
		return fmt.Errorf("%s: %w: an answer of %d bytes", call, ErrProtocol, len(r.b))
	case status != 0:
		return &StatusError{call, status}
	}
	return nil
}
