package adproto

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxDNSize bounds the text of a distinguished name, in bytes. Active Directory
// allows 255 characters a component and some dozen components.
const MaxDNSize = 16 << 10

// AVA is one attribute type and value of a relative distinguished name.
type AVA struct {
	Type  string // as written: a short name or an OID
	Value string // unescaped
}

// RDN is a relative distinguished name; all but exotic ones have one AVA.
type RDN []AVA

// DN is a distinguished name, the entry's own RDN first. The zero value is the
// root, whose text is empty.
type DN []RDN

// NewDN makes a name of one AVA below parent.
func NewDN(typ, value string, parent DN) DN {
	return append(DN{{{Type: typ, Value: value}}}, parent...)
}

// DomainDN is the distinguished name of the naming context of a DNS domain:
// contoso.com is DC=contoso,DC=com (RFC 2247).
func DomainDN(dnsName string) DN {
	var dn DN
	for label := range strings.SplitSeq(strings.TrimSuffix(dnsName, "."), ".") {
		dn = append(dn, RDN{{Type: "DC", Value: label}})
	}
	return dn
}

// ParseDN reads the text form of RFC 4514. Like Active Directory it also takes
// spaces around the separators.
func ParseDN(s string) (DN, error) {
	if len(s) > MaxDNSize {
		return nil, fmt.Errorf("adproto: distinguished name of %d bytes, limit %d", len(s), MaxDNSize)
	}
	if strings.Trim(s, " ") == "" {
		return nil, nil
	}
	var dn DN
	rdn := RDN{}
	for rest := s; ; {
		ava, sep, after, err := parseAVA(rest)
		if err != nil {
			return nil, fmt.Errorf("adproto: distinguished name at offset %d: %w", len(s)-len(rest), err)
		}
		rdn = append(rdn, ava)
		if sep != '+' {
			dn, rdn = append(dn, rdn), RDN{}
		}
		if sep == 0 {
			return dn, nil
		}
		rest = after
	}
}

// parseAVA reads type=value up to the separator, which is ',', '+' or 0 at the
// end of the name.
func parseAVA(s string) (ava AVA, sep byte, rest string, err error) {
	typ, s, ok := strings.Cut(s, "=")
	ava.Type = strings.Trim(typ, " ")
	if !ok || !ValidAttribute(ava.Type) || strings.Contains(ava.Type, ";") {
		return ava, 0, "", fmt.Errorf("bad attribute type %q", ava.Type)
	}
	s = strings.TrimLeft(s, " ")
	if strings.HasPrefix(s, "#") {
		return parseHexValue(ava, s)
	}
	ava.Value, sep, rest, err = parseDNValue(s)
	return ava, sep, rest, err
}

// parseHexValue reads "#" and the BER of a value: RFC 4514, Section 2.4.
func parseHexValue(ava AVA, s string) (AVA, byte, string, error) {
	end := strings.IndexAny(s, ",+")
	sep, rest := byte(0), ""
	if end >= 0 {
		sep, s, rest = s[end], s[:end], s[end+1:]
	}
	b, err := hex.DecodeString(strings.Trim(s[1:], " "))
	if err != nil {
		return ava, 0, "", fmt.Errorf("bad hexadecimal value %q", s)
	}
	tag, body, after, err := ReadElement(b)
	if err != nil || len(after) != 0 || tag&constructed != 0 {
		return ava, 0, "", fmt.Errorf("value %q is not the BER of a string", s)
	}
	ava.Value = string(body)
	return ava, sep, rest, nil
}

// parseDNValue reads a string value, whose unescaped trailing spaces belong to
// the separator.
func parseDNValue(s string) (value string, sep byte, rest string, err error) {
	var out []byte
	solid := 0 // length of out up to the last byte that is not a bare space
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ',', '+':
			return string(out[:solid]), c, s[i+1:], nil
		case '\\':
			b, n, err := unescapeDN(s[i:])
			if err != nil {
				return "", 0, "", err
			}
			out, i = append(out, b), i+n-1
			solid = len(out)
		case '"', ';', '<', '>', 0:
			return "", 0, "", fmt.Errorf("%q must be escaped", c)
		default:
			out = append(out, c)
			if c != ' ' {
				solid = len(out)
			}
		}
	}
	return string(out[:solid]), 0, "", nil
}

// unescapeDN resolves the escape that s begins with, of n bytes.
func unescapeDN(s string) (b byte, n int, err error) {
	if len(s) >= 2 && strings.IndexByte(` "#+,;<=>\`, s[1]) >= 0 {
		return s[1], 2, nil
	}
	if len(s) >= 3 {
		if v, err := hex.DecodeString(s[1:3]); err == nil {
			return v[0], 3, nil
		}
	}
	return 0, 0, errors.New("bad escape")
}

// EscapeDN escapes an attribute value for use inside a distinguished name: RFC
// 4514, Section 2.4. Bytes that are not UTF-8 and control characters are
// written as hexadecimal pairs.
func EscapeDN(value string) string {
	var b strings.Builder
	for i := 0; i < len(value); {
		r, size := utf8.DecodeRuneInString(value[i:])
		switch c := value[i]; {
		case r < 0x20 || r == 0x7f || r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\%02X`, c)
		case strings.ContainsRune(`"+,;<=>\`, r),
			r == ' ' && (i == 0 || i == len(value)-1),
			r == '#' && i == 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteString(value[i : i+size])
		}
		i += size
	}
	return b.String()
}

// String is the RDN's text.
func (r RDN) String() string {
	parts := make([]string, len(r))
	for i, a := range r {
		parts[i] = a.Type + "=" + EscapeDN(a.Value)
	}
	return strings.Join(parts, "+")
}

// EqualFold compares as Active Directory does: without regard to case, and to
// the order of the AVAs.
func (r RDN) EqualFold(o RDN) bool {
	if len(r) != len(o) {
		return false
	}
	left := slices.Clone(o)
	for _, a := range r {
		i := slices.IndexFunc(left, func(b AVA) bool {
			return strings.EqualFold(a.Type, b.Type) && strings.EqualFold(a.Value, b.Value)
		})
		if i < 0 {
			return false
		}
		left = slices.Delete(left, i, i+1)
	}
	return true
}

// String is the text form of RFC 4514.
func (d DN) String() string {
	parts := make([]string, len(d))
	for i, r := range d {
		parts[i] = r.String()
	}
	return strings.Join(parts, ",")
}

// EqualFold compares as Active Directory does, without regard to case.
func (d DN) EqualFold(o DN) bool { return slices.EqualFunc(d, o, RDN.EqualFold) }

// Parent is the name of the entry above; the root's is the root.
func (d DN) Parent() DN {
	if len(d) == 0 {
		return d
	}
	return d[1:]
}

// Within reports whether d is ancestor or lies below it.
func (d DN) Within(ancestor DN) bool {
	return len(d) >= len(ancestor) && d[len(d)-len(ancestor):].EqualFold(ancestor)
}

// Name is the value of the entry's own RDN, empty for the root.
func (d DN) Name() string {
	if len(d) == 0 || len(d[0]) == 0 {
		return ""
	}
	return d[0][0].Value
}

// DNSDomain joins the trailing DC components with dots: the DNS name of the
// domain that the entry lies in, empty if it lies in none.
func (d DN) DNSDomain() string {
	var labels []string
	for _, r := range slices.Backward(d) {
		if len(r) != 1 || !strings.EqualFold(r[0].Type, "DC") {
			break
		}
		labels = append(labels, r[0].Value)
	}
	slices.Reverse(labels)
	return strings.Join(labels, ".")
}
