package pac

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/dtyp"
)

// ClientInfo is PAC_CLIENT_INFO, [MS-PAC] 2.7: it ties the PAC to a ticket.
type ClientInfo struct {
	ID   dtyp.Filetime // authtime of the TGT, whole seconds
	Name string        // the ticket's client without its realm
}

// ClientInfo opens that buffer.
func (p PAC) ClientInfo() (ClientInfo, error) { return open(p, TypeClientInfo, ParseClientInfo) }

// ParseClientInfo reads a CLIENT_INFO buffer that fills b exactly.
func ParseClientInfo(b []byte) (ClientInfo, error) {
	r := newReader("PAC_CLIENT_INFO", b)
	c := ClientInfo{ID: r.filetime("ClientId")}
	c.Name = r.text("Name", int(r.Uint16("NameLength")))
	r.nothing()
	if err := r.Err(); err != nil {
		return ClientInfo{}, malformed(TypeClientInfo, err)
	}
	return c, nil
}

// Append appends the buffer's bytes.
func (c ClientInfo) Append(dst []byte) []byte {
	w := &writer{buf: dst}
	w.filetime(c.ID)
	name := units(c.Name)
	w.uint16(uint16(2 * len(name)))
	w.text(name)
	return w.buf
}

// UPNInfo is UPN_DNS_INFO, [MS-PAC] 2.10.
type UPNInfo struct {
	UPN       string
	DNSDomain string // upper case in Samba, lower case in Windows
	// Constructed says that the account has no userPrincipalName: the UPN is made
	// of its name and its domain. Flag U.
	Constructed bool
	// SAMName and SID are the account's; the zero SID leaves both out. Flag S.
	SAMName string
	SID     dtyp.SID
}

const (
	upnConstructed = 1
	upnExtended    = 2
	upnHeader      = 12 // bytes, without the extension
	upnExtension   = 8
)

// UPNInfo opens that buffer.
func (p PAC) UPNInfo() (UPNInfo, error) { return open(p, TypeUPNInfo, ParseUPNInfo) }

// ParseUPNInfo reads a UPN_DNS_INFO buffer.
func ParseUPNInfo(b []byte) (UPNInfo, error) {
	u, err := parseUPNInfo(b)
	if err != nil {
		return UPNInfo{}, malformed(TypeUPNInfo, err)
	}
	return u, nil
}

// span is where a field lies in the buffer.
type span struct{ length, offset int }

func (r reader) span(field string) span {
	return span{length: int(r.Uint16(field)), offset: int(r.Uint16(field))}
}

func parseUPNInfo(b []byte) (UPNInfo, error) {
	r := newReader("UPN_DNS_INFO", b)
	upn, dns := r.span("Upn"), r.span("DnsDomainName")
	flags := r.Uint32("Flags")
	if flags&^uint32(upnConstructed|upnExtended) != 0 {
		r.Fail("Flags", "got %#x, want at most %#x", flags, upnConstructed|upnExtended)
	}
	u := UPNInfo{Constructed: flags&upnConstructed != 0}
	spans := []span{upn, dns}
	extended := flags&upnExtended != 0
	if extended {
		spans = append(spans, r.span("SamName"), r.span("Sid"))
	}
	if err := r.Err(); err != nil {
		return UPNInfo{}, err
	}
	parts, err := cut(b, r.Offset(), spans)
	if err != nil {
		return UPNInfo{}, err
	}
	var ok1, ok2, ok3 bool
	u.UPN, ok1 = decodeText(parts[0])
	u.DNSDomain, ok2 = decodeText(parts[1])
	ok3 = true
	if extended {
		u.SAMName, ok3 = decodeText(parts[2])
		if u.SID, err = dtyp.SIDFromBytes(parts[3]); err != nil {
			return UPNInfo{}, fmt.Errorf("field Sid: %w", err)
		}
	}
	if !ok1 || !ok2 || !ok3 {
		return UPNInfo{}, errors.New("a name is not UTF-16")
	}
	return u, nil
}

// cut gives the parts of b, which lie behind the header in their order, with less
// than eight zeros before each and behind the last. So every byte is accounted for.
func cut(b []byte, header int, spans []span) ([][]byte, error) {
	parts := make([][]byte, len(spans))
	end := header
	gap := func(to int) error {
		if to < end || to-end >= alignment {
			return fmt.Errorf("a field at offset %d, want it behind the one that ends at %d", to, end)
		}
		for i, x := range b[end:to] {
			if x != 0 {
				return fmt.Errorf("padding at offset %d: got %#02x, want 0", end+i, x)
			}
		}
		return nil
	}
	for i, s := range spans {
		if s.offset+s.length > len(b) {
			return nil, fmt.Errorf("a field of %d bytes at offset %d, of %d in all", s.length, s.offset, len(b))
		}
		if err := gap(s.offset); err != nil {
			return nil, err
		}
		end = s.offset + s.length
		parts[i] = b[s.offset:end]
	}
	return parts, gap(len(b))
}

// Append appends the buffer's bytes, laid out as Samba does: names begin at
// multiples of eight bytes, the SID directly behind the last, padding at the end.
func (u UPNInfo) Append(dst []byte) []byte {
	var flags uint32
	if u.Constructed {
		flags |= upnConstructed
	}
	header := upnHeader
	extended := !u.SID.IsZero()
	if extended {
		flags |= upnExtended
		header += upnExtension
	}
	body := &writer{start: -roundUp(header, alignment)}
	place := func(add func()) span {
		s := span{offset: len(body.buf) - body.start}
		add()
		s.length = len(body.buf) - body.start - s.offset
		return s
	}
	text := func(s string) func() { return func() { body.text(units(s)) } }
	spans := make([]span, 0, 4)
	spans = append(spans, place(text(u.UPN)))
	body.align(alignment)
	spans = append(spans, place(text(u.DNSDomain)))
	if extended {
		body.align(alignment)
		spans = append(spans, place(text(u.SAMName)), place(func() { body.bytes(u.SID.Bytes()) }))
	}
	body.align(alignment)

	w := &writer{buf: dst, start: len(dst)}
	for i, s := range spans {
		if i == 2 {
			w.uint32(flags)
		}
		w.uint16(uint16(s.length))
		w.uint16(uint16(s.offset))
	}
	if !extended {
		w.uint32(flags)
	}
	w.align(alignment)
	w.bytes(body.buf)
	return w.buf
}

// Attributes is PAC_ATTRIBUTES_INFO, [MS-PAC] 2.14: why the TGT has a PAC.
type Attributes uint32

// The attributes; the rest of the 32 bits is reserved.
const (
	Requested       Attributes = 1 // the client asked for a PAC
	GivenImplicitly Attributes = 2 // it said nothing, and got one
	attributeBits              = 2
)

// Attributes opens that buffer.
func (p PAC) Attributes() (Attributes, error) { return open(p, TypeAttributes, ParseAttributes) }

// ParseAttributes reads an ATTRIBUTES_INFO buffer: a number of bits and as many
// bits, in whole 32-bit words.
func ParseAttributes(b []byte) (Attributes, error) {
	if len(b) != 8 {
		return 0, malformed(TypeAttributes, fmt.Errorf("%d bytes, want 8", len(b)))
	}
	if n := binary.LittleEndian.Uint32(b); n < 1 || n > 32 {
		return 0, malformed(TypeAttributes, fmt.Errorf("%d flags, want 1 to 32", n))
	}
	return Attributes(binary.LittleEndian.Uint32(b[4:])), nil
}

// Append appends the buffer's bytes.
func (a Attributes) Append(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, attributeBits)
	return binary.LittleEndian.AppendUint32(dst, uint32(a))
}

// Requestor is the SID of the account that the TGT was given to: PAC_REQUESTOR,
// [MS-PAC] 2.15. Whoever grants a ticket compares it with the directory, lest a
// renamed account passes for another (CVE-2021-42287).
func (p PAC) Requestor() (dtyp.SID, error) {
	return open(p, TypeRequestor, func(b []byte) (dtyp.SID, error) {
		sid, err := dtyp.SIDFromBytes(b)
		if err != nil {
			return dtyp.SID{}, malformed(TypeRequestor, err)
		}
		return sid, nil
	})
}

// nothing demands that the input has ended.
func (r reader) nothing() {
	if n := r.Len(); n > 0 {
		r.Fail("end", "%d bytes left", n)
	}
}
