package cmdlet

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
)

// ErrFilter is wrapped by every error about a filter that cannot be read.
var ErrFilter = errors.New("malformed filter")

// ParseFilter reads a filter of LDAP, which begins with a parenthesis and an
// attribute or operator, or one of PowerShell:
//
//	attribute -operator value        -eq -ne -like -notlike -lt -le -gt -ge -approx -band -bor
//	-not FILTER, FILTER -and FILTER, FILTER -or FILTER, (FILTER)
//
// Nothing and * mean everything.
func ParseFilter(text string) (adproto.Filter, error) {
	text = strings.TrimSpace(text)
	if text == "" || text == "*" {
		return adproto.Present("objectClass"), nil
	}
	if isLDAP(text) {
		f, err := adproto.ParseFilter(text)
		if err != nil {
			return adproto.Filter{}, fmt.Errorf("%w: %w", ErrFilter, err)
		}
		return f, nil
	}
	p := filterParser{}
	if err := p.split(text); err != nil {
		return adproto.Filter{}, err
	}
	f, err := p.or(0)
	if err == nil && p.at < len(p.tokens) {
		err = fmt.Errorf("%w: %q is left over", ErrFilter, p.tokens[p.at].text)
	}
	return f, err
}

// isLDAP tells the two languages apart: PowerShell's has an operator with a dash
// before any of LDAP's.
func isLDAP(text string) bool {
	if !strings.HasPrefix(text, "(") {
		return false
	}
	inner := strings.TrimLeft(text, "( ")
	if inner == "" || strings.ContainsRune("&|!", rune(inner[0])) {
		return true
	}
	end := strings.IndexAny(inner, "=<>~: ")
	return end >= 0 && inner[end] != ' '
}

type filterToken struct {
	text   string
	quoted bool
}

func (t filterToken) is(word string) bool { return !t.quoted && strings.EqualFold(t.text, word) }

type filterParser struct {
	tokens []filterToken
	at     int
}

// split cuts the text into words, quoted values and parentheses.
func (p *filterParser) split(text string) error {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '(' || c == ')':
			p.tokens = append(p.tokens, filterToken{string(c), false})
			i++
		case c == '"' || c == '\'':
			value, n, err := quotedValue(text[i:])
			if err != nil {
				return err
			}
			p.tokens = append(p.tokens, filterToken{value, true})
			i += n
		default:
			end := strings.IndexAny(text[i:], " \t\r\n()\"'")
			if end < 0 {
				end = len(text) - i
			}
			p.tokens = append(p.tokens, filterToken{text[i : i+end], false})
			i += end
		}
	}
	return nil
}

// quotedValue reads a value in quotes, of which two stand for one.
func quotedValue(s string) (value string, n int, err error) {
	quote := s[0]
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != quote {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		return b.String(), i + 1, nil
	}
	return "", 0, fmt.Errorf("%w: the quote %c is never closed", ErrFilter, quote)
}

func (p *filterParser) peek() filterToken {
	if p.at < len(p.tokens) {
		return p.tokens[p.at]
	}
	return filterToken{}
}

func (p *filterParser) next() (filterToken, error) {
	if p.at == len(p.tokens) {
		return filterToken{}, fmt.Errorf("%w: it ends too early", ErrFilter)
	}
	p.at++
	return p.tokens[p.at-1], nil
}

func (p *filterParser) or(depth int) (adproto.Filter, error) {
	return p.chain("-or", adproto.Or, func() (adproto.Filter, error) {
		return p.chain("-and", adproto.And, func() (adproto.Filter, error) { return p.term(depth) })
	})
}

// chain reads operands with one operator between them.
func (p *filterParser) chain(operator string, join func(...adproto.Filter) adproto.Filter, operand func() (adproto.Filter, error)) (adproto.Filter, error) {
	f, err := operand()
	all := []adproto.Filter{f}
	for err == nil && p.peek().is(operator) {
		p.at++
		f, err = operand()
		all = append(all, f)
	}
	if err != nil || len(all) == 1 {
		return all[0], err
	}
	return join(all...), nil
}

func (p *filterParser) term(depth int) (adproto.Filter, error) {
	if depth > adproto.MaxFilterDepth {
		return adproto.Filter{}, fmt.Errorf("%w: nested deeper than %d levels", ErrFilter, adproto.MaxFilterDepth)
	}
	t, err := p.next()
	switch {
	case err != nil:
		return adproto.Filter{}, err
	case t.is("-not") || t.is("!"):
		f, err := p.term(depth + 1)
		return adproto.Not(f), err
	case t.is("("):
		f, err := p.or(depth + 1)
		if err != nil {
			return f, err
		}
		if end, err := p.next(); err != nil || !end.is(")") {
			return f, fmt.Errorf("%w: a parenthesis is never closed", ErrFilter)
		}
		return f, nil
	}
	return p.comparison(t)
}

func (p *filterParser) comparison(attribute filterToken) (adproto.Filter, error) {
	attr := attributeOf(attribute.text)
	if attribute.quoted || !adproto.ValidAttribute(attr) {
		return adproto.Filter{}, fmt.Errorf("%w: %q is not the name of an attribute", ErrFilter, attribute.text)
	}
	op, err := p.next()
	if err != nil {
		return adproto.Filter{}, err
	}
	value, err := p.next()
	if err != nil {
		return adproto.Filter{}, fmt.Errorf("%w: no value after %s", ErrFilter, op.text)
	}
	if !value.quoted && (value.is("(") || value.is(")")) {
		return adproto.Filter{}, fmt.Errorf("%w: no value after %s", ErrFilter, op.text)
	}
	return compare(attr, strings.ToLower(op.text), value.text)
}

// attributeOf is the directory's name of a property that the cmdlets call otherwise.
func attributeOf(property string) string {
	if a, ok := propertyAttributes[strings.ToLower(property)]; ok {
		return a
	}
	return property
}

// compare makes one comparison.
func compare(attr, op, value string) (adproto.Filter, error) {
	if strings.EqualFold(attr, "enabled") {
		return compareEnabled(op, value)
	}
	assertion := assertionOf(attr, value)
	switch op {
	case "-eq":
		return adproto.EqualBytes(attr, assertion), nil
	case "-ne":
		return adproto.Not(adproto.EqualBytes(attr, assertion)), nil
	case "-like":
		return like(attr, value), nil
	case "-notlike":
		return adproto.Not(like(attr, value)), nil
	case "-ge":
		return adproto.Filter{Kind: adproto.FilterGreater, Attr: attr, Value: assertion}, nil
	case "-le":
		return adproto.Filter{Kind: adproto.FilterLess, Attr: attr, Value: assertion}, nil
	case "-lt":
		return adproto.Not(adproto.Filter{Kind: adproto.FilterGreater, Attr: attr, Value: assertion}), nil
	case "-gt":
		return adproto.Not(adproto.Filter{Kind: adproto.FilterLess, Attr: attr, Value: assertion}), nil
	case "-approx":
		return adproto.Filter{Kind: adproto.FilterApprox, Attr: attr, Value: assertion}, nil
	case "-band", "-bor":
		n, err := strconv.ParseUint(value, 0, 32)
		if err != nil {
			return adproto.Filter{}, fmt.Errorf("%w: %s wants a number, got %q", ErrFilter, op, value)
		}
		rule := adproto.RuleBitAnd
		if op == "-bor" {
			rule = adproto.RuleBitOr
		}
		return adproto.Filter{Kind: adproto.FilterExtensible, Attr: attr, Rule: rule, Value: strconv.AppendUint(nil, n, 10)}, nil
	}
	return adproto.Filter{}, fmt.Errorf("%w: %q is not an operator", ErrFilter, op)
}

// compareEnabled is the property that the cmdlets make of a bit.
func compareEnabled(op, value string) (adproto.Filter, error) {
	disabled := adproto.BitsSet("userAccountControl", uint32(adproto.UACAccountDisable))
	yes := strings.EqualFold(strings.TrimPrefix(value, "$"), "true")
	switch {
	case op != "-eq" && op != "-ne", !yes && !strings.EqualFold(strings.TrimPrefix(value, "$"), "false"):
		return adproto.Filter{}, fmt.Errorf("%w: Enabled is compared with -eq $true or $false", ErrFilter)
	case yes == (op == "-eq"):
		return adproto.Not(disabled), nil
	}
	return disabled, nil
}

// assertionOf is the value as the directory compares it: SIDs and GUIDs are bytes.
func assertionOf(attr, value string) []byte {
	if sid, err := dtyp.ParseSID(value); err == nil && strings.EqualFold(attr, "objectSid") {
		return sid.Bytes()
	}
	if g, err := dtyp.ParseGUID(value); err == nil && strings.EqualFold(attr, "objectGUID") {
		return g[:]
	}
	return []byte(value)
}

// like makes a comparison with * in it.
func like(attr, pattern string) adproto.Filter {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return adproto.EqualBytes(attr, assertionOf(attr, pattern))
	}
	f := adproto.Filter{Kind: adproto.FilterSubstrings, Attr: attr}
	for i, part := range parts {
		switch {
		case part == "":
		case i == 0:
			f.Initial = []byte(part)
		case i == len(parts)-1:
			f.Final = []byte(part)
		default:
			f.Any = append(f.Any, []byte(part))
		}
	}
	if f.Initial == nil && f.Any == nil && f.Final == nil {
		return adproto.Present(attr)
	}
	return f
}

// encryptionNames are the values of ADKerberosEncryptionType.
var encryptionNames = map[string]adproto.EncryptionTypes{
	"none": 0, "des": adproto.EncDESCBCCRC | adproto.EncDESCBCMD5, "rc4": adproto.EncRC4,
	"aes128": adproto.EncAES128, "aes256": adproto.EncAES256,
}

// ParseEncryptionTypes reads the values of -KerberosEncryptionType. DES is refused:
// no current host has it.
func ParseEncryptionTypes(list []string) (adproto.EncryptionTypes, error) {
	var e adproto.EncryptionTypes
	for _, item := range list {
		for name := range strings.SplitSeq(item, ",") {
			bits, ok := encryptionNames[strings.ToLower(strings.TrimSpace(name))]
			if !ok || bits&adproto.EncDESCBCCRC != 0 {
				return 0, fmt.Errorf("encryption type %q: want None, RC4, AES128 or AES256", name)
			}
			e |= bits
		}
	}
	return e, nil
}

// EncryptionText is the set in those names.
func EncryptionText(e adproto.EncryptionTypes) string {
	var names []string
	for _, n := range []struct {
		bit  adproto.EncryptionTypes
		name string
	}{{adproto.EncDESCBCCRC | adproto.EncDESCBCMD5, "DES"}, {adproto.EncRC4, "RC4"}, {adproto.EncAES128, "AES128"}, {adproto.EncAES256, "AES256"}} {
		if e&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return "None"
	}
	return strings.Join(names, ", ")
}
