package adproto

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
)

// NtVersion is NETLOGON_NT_VERSION: [MS-ADTS] 6.3.1.1. In a request it says
// which form of reply is understood, in a reply which fields it has.
type NtVersion uint32

// The bits of NtVersion.
const (
	NtVersion1               NtVersion = 0x1 // always set
	NtVersion5               NtVersion = 0x2
	NtVersion5Ex             NtVersion = 0x4
	NtVersion5ExWithIP       NtVersion = 0x8
	NtVersionWithClosestSite NtVersion = 0x10
	NtVersionAvoidNT4Emul    NtVersion = 0x01000000
	NtVersionPDC             NtVersion = 0x10000000
	NtVersionIP              NtVersion = 0x20000000
	NtVersionLocal           NtVersion = 0x40000000
	NtVersionGC              NtVersion = 0x80000000
)

// PingAttribute is the attribute that a ping asks of the rootDSE, and that the
// reply comes in: [MS-ADTS] 6.3.3.
const PingAttribute = "Netlogon"

// Ping is an LDAP or CLDAP ping: [MS-ADTS] 6.3.3.1. Zero fields are not sent.
type Ping struct {
	DNSDomain  string
	Host       string // the client's NetBIOS name
	User       string // an account to ask for; AAC says of which kinds
	DNSHost    string // DnsHostName: the client's DNS name
	DomainSID  dtyp.SID
	DomainGUID dtyp.GUID
	// AAC is a set of account control bits of [MS-SAMR] 2.2.1.12, which narrows
	// the search for User.
	AAC       uint32
	NtVersion NtVersion
}

// Filter is the ping as the filter of a base search of the rootDSE.
func (p Ping) Filter() Filter {
	var list []Filter
	add := func(attr, v string) {
		if v != "" {
			list = append(list, Equal(attr, v))
		}
	}
	add("DnsDomain", p.DNSDomain)
	add("Host", p.Host)
	add("DnsHostName", p.DNSHost)
	add("User", p.User)
	if p.User != "" {
		list = append(list, EqualBytes("AAC", binary.LittleEndian.AppendUint32(nil, p.AAC)))
	}
	if !p.DomainSID.IsZero() {
		list = append(list, EqualBytes("DomainSid", p.DomainSID.Bytes()))
	}
	if p.DomainGUID != (dtyp.GUID{}) {
		list = append(list, EqualBytes("DomainGuid", p.DomainGUID[:]))
	}
	return And(append(list, EqualBytes("NtVer", binary.LittleEndian.AppendUint32(nil, uint32(p.NtVersion))))...)
}

// ParsePing reads the filter of a ping: one comparison, or an "and" of
// comparisons ([MS-ADTS] 6.3.3.2). Clients in use write NtVer and AAC as four
// bytes little endian, as decimal or as 0x… text; all are taken. Unknown
// elements, duplicates and a ping without NtVer are errors.
func ParsePing(f Filter) (Ping, error) {
	list := []Filter{f}
	if f.Kind == FilterAnd {
		list = f.Children
	}
	var p Ping
	seen := map[string]bool{}
	for _, c := range list {
		if c.Kind != FilterEqual {
			return Ping{}, fmt.Errorf("adproto: ping with a filter %v that is no comparison", c)
		}
		name := strings.ToLower(c.Attr)
		if seen[name] {
			return Ping{}, fmt.Errorf("adproto: ping with %s twice", c.Attr)
		}
		seen[name] = true
		if err := p.set(name, c.Value); err != nil {
			return Ping{}, fmt.Errorf("adproto: ping element %s: %w", c.Attr, err)
		}
	}
	if !seen["ntver"] {
		return Ping{}, fmt.Errorf("adproto: ping without NtVer")
	}
	return p, nil
}

// set stores one element of the filter.
func (p *Ping) set(name string, v []byte) (err error) {
	switch name {
	case "dnsdomain":
		p.DNSDomain = strings.TrimSuffix(string(v), ".")
	case "host":
		p.Host = string(v)
	case "dnshostname":
		p.DNSHost = string(v)
	case "user":
		p.User = string(v)
	case "domainsid":
		p.DomainSID, err = dtyp.SIDFromBytes(v)
	case "domainguid":
		if len(v) != len(p.DomainGUID) {
			return fmt.Errorf("%d bytes, want %d", len(v), len(p.DomainGUID))
		}
		copy(p.DomainGUID[:], v)
	case "aac":
		p.AAC, err = pingNumber(v)
	case "ntver":
		var n uint32
		n, err = pingNumber(v)
		p.NtVersion = NtVersion(n)
	default:
		return fmt.Errorf("unknown")
	}
	return err
}

// pingNumber reads four bytes little endian or text.
func pingNumber(v []byte) (uint32, error) {
	if len(v) == 4 && string(v[:2]) != "0x" {
		return binary.LittleEndian.Uint32(v), nil
	}
	n, err := strconv.ParseUint(string(v), 0, 32)
	if err != nil {
		return 0, fmt.Errorf("%d bytes %q, want four bytes or a number", len(v), v)
	}
	return uint32(n), nil
}
