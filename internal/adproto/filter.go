package adproto

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Limits of a filter. A filter is hostile input to a controller: depth bounds
// the recursion, the size everything else; the number of parts keeps a filter of
// many small ones from taking a hundred times its size in memory.
const (
	MaxFilterDepth = 64
	MaxFilterSize  = 1 << 20 // bytes of text or BER
	MaxFilterParts = 1 << 13 // comparisons, operators and parts of substrings in BER
)

// FilterKind is the choice of RFC 4511, Section 4.5.1.7; the values are the
// context tags.
type FilterKind uint8

// The kinds of filter.
const (
	FilterAnd        FilterKind = 0
	FilterOr         FilterKind = 1
	FilterNot        FilterKind = 2
	FilterEqual      FilterKind = 3
	FilterSubstrings FilterKind = 4
	FilterGreater    FilterKind = 5 // >=
	FilterLess       FilterKind = 6 // <=
	FilterPresent    FilterKind = 7
	FilterApprox     FilterKind = 8
	FilterExtensible FilterKind = 9
)

// Filter is a search filter. The zero value is the empty "and", which every
// entry satisfies (RFC 4526).
type Filter struct {
	Kind FilterKind
	// Children are the operands of and and or; not has exactly one.
	Children []Filter
	// Attr is the attribute description; empty in an extensible match without
	// one.
	Attr string
	// Value is the assertion value, unescaped.
	Value []byte
	// Initial, Any and Final are the parts of a substrings filter, at least one
	// of them set; nil means absent.
	Initial []byte
	Any     [][]byte
	Final   []byte
	// Rule is the matching rule's OID of an extensible match, or empty.
	Rule string
	// DNAttrs extends an extensible match to the DN's own attributes.
	DNAttrs bool
}

// And is satisfied where all of f are.
func And(f ...Filter) Filter { return Filter{Kind: FilterAnd, Children: f} }

// Or is satisfied where one of f is.
func Or(f ...Filter) Filter { return Filter{Kind: FilterOr, Children: f} }

// Not is satisfied where f evaluates to false.
func Not(f Filter) Filter { return Filter{Kind: FilterNot, Children: []Filter{f}} }

// Equal compares one attribute; value may hold any bytes.
func Equal(attr, value string) Filter {
	return Filter{Kind: FilterEqual, Attr: attr, Value: []byte(value)}
}

// EqualBytes is [Equal] for a binary value, such as a SID or a GUID.
func EqualBytes(attr string, value []byte) Filter {
	return Filter{Kind: FilterEqual, Attr: attr, Value: value}
}

// Present is satisfied where the entry has the attribute.
func Present(attr string) Filter { return Filter{Kind: FilterPresent, Attr: attr} }

// BitsSet is satisfied where all bits of mask are set in attr: the rule
// [RuleBitAnd].
func BitsSet(attr string, mask uint32) Filter {
	return Filter{Kind: FilterExtensible, Attr: attr, Rule: RuleBitAnd, Value: fmt.Append(nil, mask)}
}

// InChain follows attr, a link to other entries, transitively until it reaches
// dn: the rule [RuleInChain].
func InChain(attr string, dn DN) Filter {
	return Filter{Kind: FilterExtensible, Attr: attr, Rule: RuleInChain, Value: []byte(dn.String())}
}

// EscapeFilter escapes s for use as a value inside a filter's text: RFC 4515,
// Section 3. Bytes outside printable ASCII are escaped too.
func EscapeFilter(s string) string { return string(appendEscaped(nil, []byte(s))) }

// appendEscaped writes one assertion value.
func appendEscaped(dst, v []byte) []byte {
	const digits = "0123456789abcdef"
	for _, c := range v {
		if c < 0x20 || c >= 0x7f || strings.IndexByte(`()*\`, c) >= 0 {
			dst = append(dst, '\\', digits[c>>4], digits[c&15])
			continue
		}
		dst = append(dst, c)
	}
	return dst
}

// String writes the filter as RFC 4515 does.
func (f Filter) String() string { return string(f.appendText(nil)) }

func (f Filter) appendText(dst []byte) []byte {
	dst = append(dst, '(')
	switch f.Kind {
	case FilterAnd, FilterOr, FilterNot:
		dst = append(dst, "&|!"[f.Kind])
		for _, c := range f.Children {
			dst = c.appendText(dst)
		}
	case FilterPresent:
		dst = append(append(dst, f.Attr...), "=*"...)
	case FilterSubstrings:
		dst = f.appendSubstrings(append(append(dst, f.Attr...), '='))
	case FilterExtensible:
		dst = append(dst, f.Attr...)
		if f.DNAttrs {
			dst = append(dst, ":dn"...)
		}
		if f.Rule != "" {
			dst = append(append(dst, ':'), f.Rule...)
		}
		dst = appendEscaped(append(dst, ":="...), f.Value)
	default:
		dst = append(append(dst, f.Attr...), comparisonText[f.Kind]...)
		dst = appendEscaped(dst, f.Value)
	}
	return append(dst, ')')
}

// comparisonText is how RFC 4515 writes the simple comparisons.
var comparisonText = map[FilterKind]string{FilterEqual: "=", FilterGreater: ">=", FilterLess: "<=", FilterApprox: "~="}

func (f Filter) appendSubstrings(dst []byte) []byte {
	dst = append(appendEscaped(dst, f.Initial), '*')
	for _, a := range f.Any {
		dst = append(appendEscaped(dst, a), '*')
	}
	return appendEscaped(dst, f.Final)
}

// ParseFilter reads the text form of RFC 4515. The outer parentheses are
// required; spaces between the parts of a list are not accepted.
func ParseFilter(s string) (Filter, error) {
	if len(s) > MaxFilterSize {
		return Filter{}, fmt.Errorf("adproto: filter of %d bytes, limit %d", len(s), MaxFilterSize)
	}
	f, rest, err := parseFilterText(s, 1)
	if err != nil {
		return Filter{}, fmt.Errorf("adproto: filter at offset %d: %w", len(s)-len(rest), err)
	}
	if rest != "" {
		return Filter{}, fmt.Errorf("adproto: filter at offset %d: %d bytes after its end", len(s)-len(rest), len(rest))
	}
	return f, nil
}

// parseFilterText reads one parenthesised filter. On an error rest is where it
// was found.
func parseFilterText(s string, depth int) (f Filter, rest string, err error) {
	if depth > MaxFilterDepth {
		return f, s, fmt.Errorf("deeper than %d", MaxFilterDepth)
	}
	if len(s) < 2 || s[0] != '(' {
		return f, s, errors.New("want '('")
	}
	switch body := s[1:]; body[0] {
	case '&', '|', '!':
		f.Kind = FilterKind(strings.IndexByte("&|!", body[0]))
		if f.Children, rest, err = parseFilterList(body[1:], depth); err != nil {
			return f, rest, err
		}
		if f.Kind == FilterNot && len(f.Children) != 1 {
			return f, s, fmt.Errorf("not has %d operands, want 1", len(f.Children))
		}
	default:
		// Parentheses inside values are escaped, so the next one ends the item.
		end := strings.IndexByte(body, ')')
		if end < 0 {
			return f, s, errors.New("no ')'")
		}
		if f, err = parseItem(body[:end]); err != nil {
			return f, s, err
		}
		rest = body[end:]
	}
	if rest == "" || rest[0] != ')' {
		return f, rest, errors.New("want ')'")
	}
	return f, rest[1:], nil
}

func parseFilterList(s string, depth int) (list []Filter, rest string, err error) {
	for s != "" && s[0] == '(' {
		var f Filter
		if f, s, err = parseFilterText(s, depth+1); err != nil {
			return nil, s, err
		}
		list = append(list, f)
	}
	return list, s, nil
}

// parseItem reads what stands between the parentheses of a comparison.
func parseItem(s string) (Filter, error) {
	eq := strings.IndexByte(s, '=')
	if eq < 1 {
		return Filter{}, errors.New("want attribute and '='")
	}
	left, value := s[:eq], s[eq+1:]
	kind := FilterEqual
	switch left[len(left)-1] {
	case '>':
		kind, left = FilterGreater, left[:eq-1]
	case '<':
		kind, left = FilterLess, left[:eq-1]
	case '~':
		kind, left = FilterApprox, left[:eq-1]
	case ':':
		return parseExtensible(left[:eq-1], value)
	}
	if !ValidAttribute(left) {
		return Filter{}, fmt.Errorf("bad attribute description %q", left)
	}
	if kind == FilterEqual && strings.Contains(value, "*") {
		return parseSubstrings(left, value)
	}
	v, err := unescape(value)
	return Filter{Kind: kind, Attr: left, Value: v}, err
}

// parseSubstrings reads a value that holds at least one '*'.
func parseSubstrings(attr, value string) (Filter, error) {
	if value == "*" {
		return Present(attr), nil
	}
	f := Filter{Kind: FilterSubstrings, Attr: attr}
	parts := strings.Split(value, "*")
	for i, p := range parts {
		v, err := unescape(p)
		if err != nil {
			return Filter{}, err
		}
		switch {
		case len(v) == 0 && (i == 0 || i == len(parts)-1):
		case len(v) == 0:
			return Filter{}, errors.New("two '*' side by side")
		case i == 0:
			f.Initial = v
		case i == len(parts)-1:
			f.Final = v
		default:
			f.Any = append(f.Any, v)
		}
	}
	return f, nil
}

// parseExtensible reads [attr][:dn][:rule] and the value.
func parseExtensible(left, value string) (Filter, error) {
	f := Filter{Kind: FilterExtensible}
	parts := strings.Split(left, ":")
	f.Attr, parts = parts[0], parts[1:]
	if len(parts) > 0 && strings.EqualFold(parts[0], "dn") {
		f.DNAttrs, parts = true, parts[1:]
	}
	if len(parts) > 0 {
		f.Rule, parts = parts[0], parts[1:]
		if !ValidAttribute(f.Rule) {
			return Filter{}, fmt.Errorf("bad matching rule %q", f.Rule)
		}
	}
	if len(parts) > 0 || f.Attr == "" && f.Rule == "" || f.Attr != "" && !ValidAttribute(f.Attr) {
		return Filter{}, fmt.Errorf("bad extensible match %q", left)
	}
	var err error
	f.Value, err = unescape(value)
	return f, err
}

// ValidAttribute accepts an attribute description or an OID with options: RFC 4512,
// Section 2.5.
func ValidAttribute(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-.;_", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}

// unescape resolves the \XX pairs of a value.
func unescape(s string) ([]byte, error) {
	out := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case 0, '(', ')', '*':
			return nil, fmt.Errorf("%q in a value must be escaped", s[i])
		case '\\':
			if len(s)-i < 3 {
				return nil, errors.New("escape without two digits")
			}
			b, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return nil, fmt.Errorf("escape %q: want two hexadecimal digits", s[i:i+3])
			}
			out = append(out, b[0])
			i += 2
		default:
			out = append(out, s[i])
		}
	}
	return out, nil
}
