package pac

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/krb5/internal/cursor"
)

// Errors that callers tell apart.
var (
	// ErrMalformed: the bytes are no PAC, or no such buffer.
	ErrMalformed = errors.New("malformed PAC")
	// ErrMissing: a buffer, or the whole PAC, is not there.
	ErrMissing = errors.New("not in the ticket")
	// ErrSignature: a signature does not fit, or is of a kind that proves nothing.
	ErrSignature = errors.New("PAC signature refused")
	// ErrClient: the PAC is about another client, or made for another ticket.
	ErrClient = errors.New("PAC of another client")
)

// Type is the type of a buffer: ulType of PAC_INFO_BUFFER, [MS-PAC] 2.4.
type Type uint32

// The types of [MS-PAC] 2.4.
const (
	TypeLogonInfo      Type = 1  // [LogonInfo]
	TypeCredentials    Type = 2  // encrypted, for PKINIT
	TypeServerChecksum Type = 6  // [Signature] in the server's key
	TypeKDCChecksum    Type = 7  // [Signature] in the krbtgt's key
	TypeClientInfo     Type = 10 // [ClientInfo]
	TypeDelegation     Type = 11
	TypeUPNInfo        Type = 12 // [UPNInfo]
	TypeClientClaims   Type = 13 // empty where the domain has no claims
	TypeDeviceInfo     Type = 14
	TypeDeviceClaims   Type = 15
	TypeTicketChecksum Type = 16 // [Signature] in the krbtgt's key, of the ticket
	TypeAttributes     Type = 17 // [Attributes]
	TypeRequestor      Type = 18 // a SID
	TypeFullChecksum   Type = 19 // [Signature] in the krbtgt's key, of the whole PAC
)

var typeNames = map[Type]string{
	TypeLogonInfo: "LOGON_INFO", TypeCredentials: "CREDENTIALS_INFO", TypeServerChecksum: "SERVER_CHECKSUM",
	TypeKDCChecksum: "KDC_CHECKSUM", TypeClientInfo: "CLIENT_INFO", TypeDelegation: "DELEGATION_INFO",
	TypeUPNInfo: "UPN_DNS_INFO", TypeClientClaims: "CLIENT_CLAIMS_INFO", TypeDeviceInfo: "DEVICE_INFO",
	TypeDeviceClaims: "DEVICE_CLAIMS_INFO", TypeTicketChecksum: "TICKET_CHECKSUM",
	TypeAttributes: "ATTRIBUTES_INFO", TypeRequestor: "REQUESTER_SID", TypeFullChecksum: "FULL_CHECKSUM",
}

// String is the name that Samba and Wireshark print, without its prefix.
func (t Type) String() string {
	if n, ok := typeNames[t]; ok {
		return n
	}
	return fmt.Sprintf("buffer type %d", uint32(t))
}

// Limits of what [Parse] takes.
const (
	// MaxSize is the size of the largest PAC in bytes. Windows' largest ticket
	// (MaxTokenSize) is 65,535 bytes.
	MaxSize = 128 << 10
	// MaxBuffers is how many buffers it may have.
	MaxBuffers = 64
)

const (
	headerSize = 8  // cBuffers, Version
	infoSize   = 16 // ulType, cbBufferSize, Offset
	alignment  = 8
)

// PAC is a PACTYPE, [MS-PAC] 2.3: buffers in their order, at most one of a type.
type PAC struct{ Buffers []Buffer }

// Buffer is one buffer as it stands on the wire.
type Buffer struct {
	Type Type
	Data []byte
}

// Parse reads a PAC that fills b exactly. The buffers' data must follow each other
// in the order of their headers, each padded with zeros to eight bytes, which is how
// Windows, Samba, Heimdal and MIT write them: so Append gives the same bytes again,
// and no byte is left that the signatures cover and nobody reads. Data is copied.
func Parse(b []byte) (PAC, error) {
	p, err := parse(b)
	if err != nil {
		return PAC{}, fmt.Errorf("pac: %w: %w", ErrMalformed, err)
	}
	return p, nil
}

func parse(b []byte) (PAC, error) {
	if len(b) > MaxSize {
		return PAC{}, fmt.Errorf("%d bytes, want at most %d", len(b), MaxSize)
	}
	b = slices.Clone(b)
	c := cursor.New("PACTYPE", binary.LittleEndian, b)
	n := c.Uint32("cBuffers")
	if version := c.Uint32("Version"); version != 0 {
		c.Fail("Version", "got %d, want 0", version)
	}
	if n > MaxBuffers {
		c.Fail("cBuffers", "got %d, want at most %d", n, MaxBuffers)
	}
	if err := c.Err(); err != nil {
		return PAC{}, err
	}
	p := PAC{Buffers: make([]Buffer, 0, min(int(n), len(b)/infoSize))}
	end := headerSize + int(n)*infoSize
	for range n {
		t, size, offset := Type(c.Uint32("ulType")), c.Uint32("cbBufferSize"), c.Uint64("Offset")
		if err := c.Err(); err != nil {
			return PAC{}, err
		}
		if offset != uint64(end) {
			return PAC{}, fmt.Errorf("%v: offset %d, want %d", t, offset, end)
		}
		if end > len(b) || int64(size) > int64(len(b)-end) {
			return PAC{}, fmt.Errorf("%v: %d bytes at offset %d, of %d in all", t, size, end, len(b))
		}
		if _, dup := p.Find(t); dup {
			return PAC{}, fmt.Errorf("%v stands in it twice", t)
		}
		data := b[end : end+int(size) : end+int(size)]
		p.Buffers = append(p.Buffers, Buffer{Type: t, Data: data})
		end += int(size)
		for ; end%alignment != 0; end++ {
			if end >= len(b) || b[end] != 0 {
				return PAC{}, fmt.Errorf("%v: not padded with zeros to %d bytes at offset %d", t, alignment, end)
			}
		}
	}
	if end != len(b) {
		return PAC{}, fmt.Errorf("%d bytes after the last buffer", len(b)-end)
	}
	return p, nil
}

// Append appends the PAC's bytes.
func (p PAC) Append(dst []byte) []byte {
	size := headerSize + len(p.Buffers)*infoSize
	for _, b := range p.Buffers {
		size += roundUp(len(b.Data), alignment)
	}
	dst = slices.Grow(dst, size)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(p.Buffers)))
	dst = binary.LittleEndian.AppendUint32(dst, 0)
	offset := headerSize + len(p.Buffers)*infoSize
	for _, b := range p.Buffers {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(b.Type))
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(b.Data)))
		dst = binary.LittleEndian.AppendUint64(dst, uint64(offset))
		offset += roundUp(len(b.Data), alignment)
	}
	for _, b := range p.Buffers {
		dst = append(dst, b.Data...)
		var zeros [alignment]byte
		dst = append(dst, zeros[:roundUp(len(b.Data), alignment)-len(b.Data)]...)
	}
	return dst
}

// Find is the data of the buffer of type t.
func (p PAC) Find(t Type) (data []byte, ok bool) {
	for _, b := range p.Buffers {
		if b.Type == t {
			return b.Data, true
		}
	}
	return nil, false
}

// Set replaces the data of the buffer of type t where it stands, or puts a new
// buffer at the end.
func (p *PAC) Set(t Type, data []byte) {
	for i := range p.Buffers {
		if p.Buffers[i].Type == t {
			p.Buffers[i].Data = data
			return
		}
	}
	p.Buffers = append(p.Buffers, Buffer{Type: t, Data: data})
}

// Remove takes the buffers of the types out.
func (p *PAC) Remove(types ...Type) {
	p.Buffers = slices.DeleteFunc(p.Buffers, func(b Buffer) bool { return slices.Contains(types, b.Type) })
}

// clone shares no memory that Set or Remove would change, and has room for some more
// buffers.
func (p PAC) clone(more int) PAC {
	return PAC{Buffers: append(make([]Buffer, 0, len(p.Buffers)+more), p.Buffers...)}
}

// open reads the buffer of type t.
func open[T any](p PAC, t Type, read func([]byte) (T, error)) (T, error) {
	data, ok := p.Find(t)
	if !ok {
		var zero T
		return zero, fmt.Errorf("pac: %v: %w", t, ErrMissing)
	}
	return read(data)
}

func malformed(t Type, err error) error { return fmt.Errorf("pac: %v: %w: %w", t, ErrMalformed, err) }

func roundUp(n, to int) int { return (n + to - 1) / to * to }
