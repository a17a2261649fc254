package adproto

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
)

// Opcode is the first field of a netlogon message: [MS-ADTS] 6.3.1.3.
type Opcode uint16

// The operation codes of replies.
const (
	OpPrimaryResponse    Opcode = 12 // LOGON_PRIMARY_RESPONSE
	OpSamLogonResponse   Opcode = 19 // LOGON_SAM_LOGON_RESPONSE
	OpSamPauseResponse   Opcode = 20 // the controller is not ready
	OpSamUserUnknown     Opcode = 21
	OpSamLogonResponseEx Opcode = 23
	OpSamPauseResponseEx Opcode = 24
	OpSamUserUnknownEx   Opcode = 25
)

// Sizes and constants of the replies.
const (
	maxPingReply                    = 4 << 10 // bytes; a full reply has some 300
	netlogonToken            uint16 = 0xffff  // LmNtToken and Lm20Token
	sockaddrSize                    = 16      // DcSockAddr, a struct sockaddr_in
	addressFamilyInet        uint16 = 2
	maxUnicodeName                  = 256 // UTF-16 units of a name in the older replies
	samLogonTail                    = 8   // NtVersion and the two tokens, bytes
	primaryResponseAlignment        = 2
)

// DSFlags say what a controller is and offers: DS_FLAG, [MS-ADTS] 6.3.1.2.
type DSFlags uint32

// The bits of DSFlags.
const (
	DSPDC            DSFlags = 0x1
	DSGC             DSFlags = 0x4
	DSLDAP           DSFlags = 0x8
	DSDS             DSFlags = 0x10
	DSKDC            DSFlags = 0x20
	DSTimeServ       DSFlags = 0x40
	DSClosest        DSFlags = 0x80 // it is in the client's site
	DSWritable       DSFlags = 0x100
	DSGoodTimeServ   DSFlags = 0x200
	DSNDNC           DSFlags = 0x400 // serves an application partition only
	DSSelectSecret   DSFlags = 0x800 // read-only, of 2008 or later
	DSFullSecret     DSFlags = 0x1000
	DSWebService     DSFlags = 0x2000  // Active Directory Web Services
	DSLevel2012      DSFlags = 0x4000  // FLAG DS_8: runs 2012 or later
	DSLevel2012R2    DSFlags = 0x8000  // DS_9
	DSLevel2016      DSFlags = 0x10000 // DS_10
	DSKeyList        DSFlags = 0x20000
	DSLevel2025      DSFlags = 0x40000 // DS_13
	DSDNSController  DSFlags = 0x20000000
	DSDNSDomain      DSFlags = 0x40000000
	DSDNSForest      DSFlags = 0x80000000
	dsLevel2012Later         = DSLevel2012 | DSLevel2012R2 | DSLevel2016 | DSLevel2025
)

var dsNames = []flagName[DSFlags]{
	{DSPDC, "PDC"},
	{DSGC, "GC"},
	{DSLDAP, "LDAP"},
	{DSDS, "DS"},
	{DSKDC, "KDC"},
	{DSTimeServ, "TIMESERV"},
	{DSClosest, "CLOSE_SITE"},
	{DSWritable, "WRITABLE"},
	{DSGoodTimeServ, "GTIMESERV"},
	{DSNDNC, "NDNC"},
	{DSSelectSecret, "PARTIAL_SECRET"},
	{DSFullSecret, "FULL_SECRET"},
	{DSWebService, "WS"},
	{DSLevel2012, "DS_8"},
	{DSLevel2012R2, "DS_9"},
	{DSLevel2016, "DS_10"},
	{DSKeyList, "KEYLIST"},
	{DSLevel2025, "DS_13"},
	{DSDNSController, "DNS_DC"},
	{DSDNSDomain, "DNS_DOMAIN"},
	{DSDNSForest, "DNS_FOREST"},
}

// String names the bits in nltest's words.
func (f DSFlags) String() string { return flagText(f, dsNames) }

// Writable reports whether the controller takes writes, and so can answer for a
// gMSA's password.
func (f DSFlags) Writable() bool { return f&DSWritable != 0 }

// AtLeast2012 reports whether the controller knows group managed service
// accounts: Windows Server 2012 or a later level.
func (f DSFlags) AtLeast2012() bool { return f&dsLevel2012Later != 0 }

// PingReply is a controller's answer to a [Ping], in any of its forms. The
// older forms leave fields empty.
//
// It comes unauthenticated over UDP or TCP: every name in it is a hint, to be
// confirmed by Kerberos or a certificate.
type PingReply struct {
	Opcode    Opcode
	NtVersion NtVersion // which form; see [NtVersion]
	Flags     DSFlags
	// DomainGUID is the objectGUID of the domain's naming context.
	DomainGUID    dtyp.GUID
	Forest        string // DNS name
	Domain        string // DNS name
	HostName      string // the controller's DNS name
	NetBIOSDomain string
	NetBIOSHost   string // without the leading backslashes
	User          string
	Site          string // the controller's
	ClientSite    string // the asker's, by its address; may be empty
	NextSite      string // the next closest one, where asked for
	// Address is the controller's IPv4 address, in the forms that carry one.
	Address netip.Addr
}

// UserUnknown reports whether the ping named an account that the domain does
// not have.
func (r PingReply) UserUnknown() bool {
	return r.Opcode == OpSamUserUnknown || r.Opcode == OpSamUserUnknownEx
}

// Paused reports whether the controller says of itself that it is not ready.
func (r PingReply) Paused() bool {
	return r.Opcode == OpSamPauseResponse || r.Opcode == OpSamPauseResponseEx
}

// Append writes the form that r.Opcode and r.NtVersion name:
// NETLOGON_SAM_LOGON_RESPONSE_EX for the _EX codes ([MS-ADTS] 6.3.1.9), else
// NETLOGON_SAM_LOGON_RESPONSE with [NtVersion5] and
// NETLOGON_SAM_LOGON_RESPONSE_NT40 without it (6.3.1.8, 6.3.1.7), or
// NETLOGON_PRIMARY_RESPONSE (6.3.1.5). Names that cannot be written are errors.
func (r PingReply) Append(dst []byte) ([]byte, error) {
	w := nameWriter{base: len(dst), buf: binary.LittleEndian.AppendUint16(dst, uint16(r.Opcode))}
	switch r.Opcode {
	case OpSamLogonResponseEx, OpSamPauseResponseEx, OpSamUserUnknownEx:
		r.appendEx(&w)
	case OpSamLogonResponse, OpSamPauseResponse, OpSamUserUnknown:
		r.appendSamLogon(&w)
	case OpPrimaryResponse:
		w.oem(r.NetBIOSHost)
		for (len(w.buf)-w.base)%primaryResponseAlignment != 0 {
			w.buf = append(w.buf, 0)
		}
		w.unicode(r.NetBIOSHost)
		w.unicode(r.NetBIOSDomain)
	default:
		return nil, fmt.Errorf("adproto: ping reply with operation code %d", r.Opcode)
	}
	if w.err != nil {
		return nil, w.err
	}
	b := binary.LittleEndian.AppendUint32(w.buf, uint32(r.NtVersion))
	b = binary.LittleEndian.AppendUint16(b, netlogonToken)
	return binary.LittleEndian.AppendUint16(b, netlogonToken), nil
}

func (r PingReply) appendEx(w *nameWriter) {
	w.buf = append(w.buf, 0, 0) // Sbz
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(r.Flags))
	w.buf = append(w.buf, r.DomainGUID[:]...)
	for _, s := range []string{r.Forest, r.Domain, r.HostName, r.NetBIOSDomain, r.NetBIOSHost, r.User, r.Site, r.ClientSite} {
		w.name(s)
	}
	if r.NtVersion&NtVersion5ExWithIP != 0 {
		w.buf = append(w.buf, sockaddrSize)
		w.buf = binary.LittleEndian.AppendUint16(w.buf, addressFamilyInet)
		w.buf = append(w.buf, 0, 0) // sin_port
		a := v4(r.Address)
		w.buf = append(append(w.buf, a[:]...), make([]byte, 8)...)
	}
	if r.NtVersion&NtVersionWithClosestSite != 0 {
		w.name(r.NextSite)
	}
}

func (r PingReply) appendSamLogon(w *nameWriter) {
	w.unicode(`\\` + r.NetBIOSHost)
	w.unicode(r.User)
	w.unicode(r.NetBIOSDomain)
	if r.NtVersion&NtVersion5 == 0 {
		return
	}
	w.buf = append(w.buf, r.DomainGUID[:]...)
	w.buf = append(w.buf, make([]byte, 16)...) // NullGuid
	w.name(r.Forest)
	w.name(r.Domain)
	w.name(r.HostName)
	a := v4(r.Address)
	// DcIpAddress is a number in little-endian order.
	w.buf = append(w.buf, a[3], a[2], a[1], a[0])
	w.buf = binary.LittleEndian.AppendUint32(w.buf, uint32(r.Flags))
}

// v4 is the address' four bytes; zeros where it has none.
func v4(a netip.Addr) [4]byte {
	if a = a.Unmap(); a.Is4() {
		return a.As4()
	}
	return [4]byte{}
}

// address4 is the inverse of v4.
func address4(b [4]byte) netip.Addr {
	if b == [4]byte{} {
		return netip.Addr{}
	}
	return netip.AddrFrom4(b)
}

// ParsePingReply reads any of the forms that [PingReply.Append] writes. It
// rejects trailing bytes, compression pointers that do not lead backwards, and
// names over 253 bytes.
func ParsePingReply(b []byte) (PingReply, error) {
	if len(b) > maxPingReply {
		return PingReply{}, fmt.Errorf("adproto: ping reply of %d bytes, limit %d", len(b), maxPingReply)
	}
	if len(b) < 2+samLogonTail {
		return PingReply{}, fmt.Errorf("adproto: ping reply of %d bytes: %w", len(b), ErrTruncated)
	}
	r := PingReply{
		Opcode:    Opcode(binary.LittleEndian.Uint16(b)),
		NtVersion: NtVersion(binary.LittleEndian.Uint32(b[len(b)-samLogonTail:])),
	}
	d := nameReader{msg: b[:len(b)-samLogonTail], off: 2}
	if lm := binary.LittleEndian.Uint32(b[len(b)-4:]); lm != 0xffffffff {
		return PingReply{}, fmt.Errorf("adproto: ping reply ends with tokens %#x, want ffff ffff", lm)
	}
	switch r.Opcode {
	case OpSamLogonResponseEx, OpSamPauseResponseEx, OpSamUserUnknownEx:
		r.parseEx(&d)
	case OpSamLogonResponse, OpSamPauseResponse, OpSamUserUnknown:
		r.parseSamLogon(&d)
	case OpPrimaryResponse:
		d.oem("PrimaryDCName")
		d.take("pad", d.off%primaryResponseAlignment)
		r.NetBIOSHost = d.unicode("UnicodePrimaryDCName")
		r.NetBIOSDomain = d.unicode("UnicodeDomainName")
	default:
		return PingReply{}, fmt.Errorf("adproto: ping reply with operation code %d", r.Opcode)
	}
	if d.err == nil && d.off != len(d.msg) {
		d.err = fmt.Errorf("%d bytes at offset %d that NtVersion %#x does not announce", len(d.msg)-d.off, d.off, uint32(r.NtVersion))
	}
	if d.err != nil {
		return PingReply{}, fmt.Errorf("adproto: ping reply: %w", d.err)
	}
	return r, nil
}

func (r *PingReply) parseEx(d *nameReader) {
	d.take("Sbz", 2)
	r.Flags = DSFlags(d.uint32("Flags"))
	copy(r.DomainGUID[:], d.take("DomainGuid", 16))
	for _, f := range []struct {
		name string
		dst  *string
	}{
		{"DnsForestName", &r.Forest},
		{"DnsDomainName", &r.Domain},
		{"DnsHostName", &r.HostName},
		{"NetbiosDomainName", &r.NetBIOSDomain},
		{"NetbiosComputerName", &r.NetBIOSHost},
		{"UserName", &r.User},
		{"DcSiteName", &r.Site},
		{"ClientSiteName", &r.ClientSite},
	} {
		*f.dst = d.name(f.name)
	}
	r.NetBIOSHost = strings.TrimPrefix(r.NetBIOSHost, `\\`)
	if r.NtVersion&NtVersion5ExWithIP != 0 {
		r.parseSockaddr(d)
	}
	if r.NtVersion&NtVersionWithClosestSite != 0 {
		r.NextSite = d.name("NextClosestSiteName")
	}
}

// parseSockaddr reads DcSockAddrSize and DcSockAddr. An address family other
// than IPv4 leaves Address zero.
func (r *PingReply) parseSockaddr(d *nameReader) {
	size := d.take("DcSockAddrSize", 1)
	if d.err != nil {
		return
	}
	sa := d.take("DcSockAddr", int(size[0]))
	if len(sa) == sockaddrSize && binary.LittleEndian.Uint16(sa) == addressFamilyInet {
		r.Address = address4([4]byte(sa[4:8]))
	}
}

func (r *PingReply) parseSamLogon(d *nameReader) {
	r.NetBIOSHost = strings.TrimPrefix(d.unicode("UnicodeLogonServer"), `\\`)
	r.User = d.unicode("UnicodeUserName")
	r.NetBIOSDomain = d.unicode("UnicodeDomainName")
	if r.NtVersion&NtVersion5 == 0 {
		return
	}
	copy(r.DomainGUID[:], d.take("DomainGuid", 16))
	d.take("NullGuid", 16)
	r.Forest = d.name("DnsForestName")
	r.Domain = d.name("DnsDomainName")
	r.HostName = d.name("DnsHostName")
	if ip := d.take("DcIpAddress", 4); len(ip) == 4 {
		r.Address = address4([4]byte{ip[3], ip[2], ip[1], ip[0]})
	}
	r.Flags = DSFlags(d.uint32("Flags"))
}
