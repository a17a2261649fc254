package secdesc

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
)

// ErrSDDL is wrapped by every error about a string that is not SDDL.
var ErrSDDL = errors.New("malformed SDDL")

// maxSDDL is the longest string that ParseSDDL reads, in bytes: an entry of
// the smallest binary size, 20 bytes, rarely has more than 80 characters, and
// two lists have at most 131,064 bytes.
const maxSDDL = 1 << 20

// ParseSDDL reads the string form of [MS-DTYP] 2.5.1. The aliases of a domain
// (DA, DC, …) stand for accounts of domain, those of a forest (EA, SA, …) for
// accounts of rootDomain; either may be the zero SID, and then such an alias
// is an error.
//
// The parts may come in any order, each at most once, as Windows takes them.
// White space is taken between parts and around entries only. Names are in
// capitals, as the specification has them.
func ParseSDDL(s string, domain, rootDomain dtyp.SID) (SecurityDescriptor, error) {
	p := parser{rest: s, domain: domain, root: rootDomain}
	sd, err := p.descriptor()
	if err != nil {
		return SecurityDescriptor{}, fmt.Errorf("secdesc: %w at offset %d: %w", ErrSDDL, len(s)-len(p.rest), err)
	}
	return sd, nil
}

// ParseSID reads a SID or an alias of [MS-DTYP] 2.5.1.1; see [ParseSDDL] for
// the domains.
func ParseSID(s string, domain, rootDomain dtyp.SID) (dtyp.SID, error) {
	p := parser{rest: s, domain: domain, root: rootDomain}
	sid, err := p.sid(s)
	if err != nil {
		return dtyp.SID{}, fmt.Errorf("secdesc: %w: %w", ErrSDDL, err)
	}
	return sid, nil
}

// parser consumes rest from its start.
type parser struct {
	rest         string
	domain, root dtyp.SID
}

func (p *parser) descriptor() (sd SecurityDescriptor, err error) {
	if len(p.rest) > maxSDDL {
		return sd, fmt.Errorf("%d bytes, want at most %d", len(p.rest), maxSDDL)
	}
	sd.Control = SelfRelative
	seen := ""
	for p.space(); p.rest != ""; p.space() {
		if len(p.rest) < 2 || p.rest[1] != ':' || !strings.Contains("OGDS", p.rest[:1]) {
			return sd, errors.New(`want "O:", "G:", "D:" or "S:"`)
		}
		part := p.rest[:1]
		if strings.Contains(seen, part) {
			return sd, fmt.Errorf("%q a second time", part+":")
		}
		seen += part
		p.rest = p.rest[2:]
		switch part {
		case "O":
			sd.Owner, err = p.principal()
		case "G":
			sd.Group, err = p.principal()
		case "D":
			sd.Control |= DACLPresent
			sd.DACL, err = p.acl(&sd.Control, daclFlagNames)
		case "S":
			sd.Control |= SACLPresent
			sd.SACL, err = p.acl(&sd.Control, saclFlagNames)
		}
		if err != nil {
			return sd, err
		}
	}
	return sd, nil
}

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// principal reads the SID behind "O:" or "G:", which ends where the next part
// begins or the string does.
func (p *parser) principal() (dtyp.SID, error) {
	n := len(p.rest)
	if i := strings.IndexByte(p.rest, ':'); i > 0 {
		n = i - 1
	}
	sid, err := p.sid(strings.TrimRight(p.rest[:n], " \t\r\n"))
	if err == nil {
		p.rest = p.rest[n:]
	}
	return sid, err
}

func (p *parser) sid(s string) (dtyp.SID, error) {
	if strings.HasPrefix(s, "S-") {
		return dtyp.ParseSID(s)
	}
	for _, a := range sidAliases {
		if a.text != s {
			continue
		}
		sid := a.resolve(p.domain, p.root)
		if sid.IsZero() {
			return sid, fmt.Errorf("alias %s needs to know the domain", s)
		}
		return sid, nil
	}
	return dtyp.SID{}, fmt.Errorf("%q is neither a SID nor an alias", clip(s))
}

func (p *parser) acl(control *Control, names []name[Control]) (*ACL, error) {
	flags, rest := parseBits(p.rest, names)
	p.rest = rest
	*control |= flags
	if rest, ok := strings.CutPrefix(p.rest, nullACL); ok {
		p.rest = rest
		return nil, nil
	}
	acl := new(ACL)
	for p.space(); strings.HasPrefix(p.rest, "("); p.space() {
		end := strings.IndexByte(p.rest, ')')
		if end < 0 {
			return nil, errors.New("entry without its closing parenthesis")
		}
		ace, err := p.ace(p.rest[1:end])
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", len(acl.ACEs), err)
		}
		acl.ACEs = append(acl.ACEs, ace)
		p.rest = p.rest[end+1:]
	}
	acl.Revision = acl.revision()
	if acl.size() > maxACLSize {
		return nil, fmt.Errorf("%d entries do not fit in an ACL of %d bytes", len(acl.ACEs), maxACLSize)
	}
	return acl, nil
}

// ace reads what is between the parentheses:
// type;flags;rights;object;inherited-object;trustee
func (p *parser) ace(s string) (ACE, error) {
	fields := strings.Split(s, ";")
	a, err := parseACEType(fields[0])
	if err != nil {
		return ACE{}, err
	}
	if len(fields) != 6 {
		return ACE{}, fmt.Errorf("%d fields, want 6", len(fields))
	}
	for i, f := range fields {
		fields[i] = strings.Trim(f, " \t\r\n")
	}
	if a.Flags, s = parseBits(fields[1], aceFlagNames); s != "" {
		return ACE{}, fmt.Errorf("flag %q is not known", clip(s))
	}
	if a.Mask, err = parseRights(fields[2], a.Type); err != nil {
		return ACE{}, err
	}
	if a.ObjectType, err = parseObjectType(fields[3], a.Type); err != nil {
		return ACE{}, fmt.Errorf("object type: %w", err)
	}
	if a.InheritedObjectType, err = parseObjectType(fields[4], a.Type); err != nil {
		return ACE{}, fmt.Errorf("inherited object type: %w", err)
	}
	if a.SID, err = p.sid(fields[5]); err != nil {
		return ACE{}, fmt.Errorf("trustee: %w", err)
	}
	return a, nil
}

func parseACEType(s string) (ACE, error) {
	for _, n := range aceTypeNames {
		if n.text != s {
			continue
		}
		if n.kind.isConditional() || n.kind == ResourceAttribute {
			return ACE{}, fmt.Errorf("%w: kind %s has a condition or claim", ErrNoSDDL, s)
		}
		return ACE{Type: n.kind}, nil
	}
	return ACE{}, fmt.Errorf("kind %q is not known", clip(s))
}

func parseRights(s string, kind ACEType) (Mask, error) {
	if s != "" && s[0] >= '0' && s[0] <= '9' {
		n, err := strconv.ParseUint(s, 0, 32)
		if err != nil || strings.Contains(s, "_") {
			return 0, fmt.Errorf("rights %q are not a number of 32 bits", clip(s))
		}
		return Mask(n), nil
	}
	tables := [][]name[Mask]{rightNames, fileRightNames, keyRightNames}
	if kind == MandatoryLabel {
		tables = [][]name[Mask]{labelRightNames}
	}
	var m Mask
	for s != "" {
		before := s
		for _, names := range tables {
			var v Mask
			v, s = parseBits(s, names)
			m |= v
		}
		if s == before {
			return 0, fmt.Errorf("right %q is not known", clip(s))
		}
	}
	return m, nil
}

func parseObjectType(s string, kind ACEType) (*dtyp.GUID, error) {
	if s == "" {
		return nil, nil
	}
	if !kind.IsObject() {
		return nil, errors.New("in a kind that has none")
	}
	g, err := dtyp.ParseGUID(s)
	if err != nil {
		return nil, err
	}
	return &g, nil
}

// clip keeps error messages short whatever the input.
func clip(s string) string {
	const limit = 60
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}
