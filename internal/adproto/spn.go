package adproto

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// SPN is a service principal name, [MS-ADTS] 5.1.1.4 and [MS-KILE] 3.1.5.11:
//
//	class/host
//	class/host:port
//	class/host:instance
//	class/host/service
//	class/host:port/service
//
// Active Directory compares them without regard to case.
type SPN struct {
	Class string // "http", "MSSQLSvc"
	// Host is a DNS or NetBIOS name or an IPv6 address without its brackets; it
	// may hold any name where the class demands it, such as a GUID.
	Host string
	// Port is 0 where there is none.
	Port uint16
	// Instance is what follows the colon if that is not a port number: the
	// instance name of SQL Server.
	Instance string
	// Service is the third part, such as the domain in ldap/dc1.d/d; often
	// empty.
	Service string
}

// MaxSPNSize bounds the text of an SPN, in bytes; the attribute's own upper
// bound in Active Directory's schema is 2 KiB less.
const MaxSPNSize = 4 << 10

// ParseSPN reads the text form.
func ParseSPN(s string) (SPN, error) {
	var p SPN
	if len(s) > MaxSPNSize {
		return p, fmt.Errorf("adproto: SPN of %d bytes, limit %d", len(s), MaxSPNSize)
	}
	for _, c := range []byte(s) {
		if c <= ' ' || c == 0x7f || c == '\\' || c == '@' {
			return p, fmt.Errorf("adproto: SPN %q holds the character %q", s, c)
		}
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return p, fmt.Errorf("adproto: SPN %q has %d parts, want class/host or class/host/service", s, len(parts))
	}
	if slices.Contains(parts, "") {
		return p, fmt.Errorf("adproto: SPN %q has an empty part", s)
	}
	p.Class = parts[0]
	if len(parts) == 3 {
		p.Service = parts[2]
	}
	if err := p.parseHost(parts[1]); err != nil {
		return SPN{}, fmt.Errorf("adproto: SPN %q: %w", s, err)
	}
	return p, nil
}

// parseHost splits host, [host]:port, host:port or host:instance.
func (p *SPN) parseHost(s string) error {
	var tail string
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 || !strings.Contains(s[:end], ":") {
			return fmt.Errorf("bad address %q", s)
		}
		p.Host, tail = s[1:end], s[end+1:]
		if tail != "" && tail[0] != ':' {
			return fmt.Errorf("%q after the address", tail)
		}
	} else {
		colon := strings.IndexByte(s, ':')
		if colon < 0 {
			colon = len(s)
		}
		p.Host, tail = s[:colon], s[colon:]
	}
	if p.Host == "" || strings.ContainsAny(p.Host, "[]") {
		return fmt.Errorf("bad host %q", s)
	}
	if tail == "" {
		return nil
	}
	tail = tail[1:]
	if tail == "" || strings.ContainsAny(tail, ":[]") {
		return fmt.Errorf("bad port or instance %q", tail)
	}
	if n, err := strconv.ParseUint(tail, 10, 16); err == nil && n > 0 && strconv.FormatUint(n, 10) == tail {
		p.Port = uint16(n)
		return nil
	}
	p.Instance = tail
	return nil
}

// String is the text form, as it was parsed.
func (p SPN) String() string {
	var b strings.Builder
	b.WriteString(p.Class + "/")
	if strings.Contains(p.Host, ":") {
		b.WriteString("[" + p.Host + "]")
	} else {
		b.WriteString(p.Host)
	}
	switch {
	case p.Port != 0:
		fmt.Fprintf(&b, ":%d", p.Port)
	case p.Instance != "":
		b.WriteString(":" + p.Instance)
	}
	if p.Service != "" {
		b.WriteString("/" + p.Service)
	}
	return b.String()
}

// Normal is the form for indexes: lower case, without the root's dot after the
// host. Two SPNs are the same to a domain exactly if their normal forms are.
func (p SPN) Normal() SPN {
	return SPN{
		Class:    strings.ToLower(p.Class),
		Host:     strings.TrimSuffix(strings.ToLower(p.Host), "."),
		Port:     p.Port,
		Instance: strings.ToLower(p.Instance),
		Service:  strings.ToLower(p.Service),
	}
}

// EqualFold compares the normal forms.
func (p SPN) EqualFold(o SPN) bool { return p.Normal() == o.Normal() }
