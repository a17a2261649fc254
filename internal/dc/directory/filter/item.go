package filter

import (
	"bytes"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// anyValue is the truth of a test of single values for an entry: Undefined where
// the attribute cannot be read, False where it is absent. A value whose key
// cannot be made equals nothing.
func anyValue(e Entry, a *schema.Attribute, test func(key []byte) bool) Truth {
	values, readable := e.Values(a)
	if !readable {
		return Undefined
	}
	for _, v := range values {
		if key, err := a.Syntax.Key(v); err == nil && test(key) {
			return True
		}
	}
	return False
}

type present struct{ a *schema.Attribute }

func (n present) eval(e Entry) Truth {
	found, readable := e.Present(n.a)
	if !readable {
		return Undefined
	}
	return truth(found)
}

func (present) probes(CostFunc, int) ([]Probe, int, bool) { return nil, 0, false }

type equal struct {
	a   *schema.Attribute
	key []byte
}

func (n equal) eval(e Entry) Truth {
	return anyValue(e, n.a, func(key []byte) bool { return bytes.Equal(key, n.key) })
}

func (n equal) probes(cost CostFunc, limit int) ([]Probe, int, bool) {
	p := Probe{n.a, n.key}
	entries, ok := cost(p, limit)
	if !ok {
		return nil, 0, false
	}
	return []Probe{p}, entries, true
}

// linked is equality for a link: it is looked up, so that nobody has to name all
// members of a group to find that somebody is one.
type linked struct {
	equal
	target adproto.DN
}

func (n linked) eval(e Entry) Truth {
	found, readable := e.Linked(n.a, n.target)
	if !readable {
		return Undefined
	}
	return truth(found)
}

type ordering struct {
	a    *schema.Attribute
	key  []byte
	less bool // or equal; else greater or equal
}

func (n ordering) eval(e Entry) Truth {
	return anyValue(e, n.a, func(key []byte) bool {
		c := bytes.Compare(key, n.key)
		return c == 0 || (c < 0) == n.less
	})
}

func (ordering) probes(CostFunc, int) ([]Probe, int, bool) { return nil, 0, false }

type bits struct {
	a    *schema.Attribute
	mask int64
	all  bool // LDAP_MATCHING_RULE_BIT_AND; else any of them
}

func (n bits) eval(e Entry) Truth {
	values, readable := e.Values(n.a)
	if !readable {
		return Undefined
	}
	for _, v := range values {
		// A mask of 32 bits may be written unsigned: -2147483648 has the bit
		// 0x80000000 too.
		if i, err := schema.ParseNumber(v, 64); err == nil {
			if n.all && i&n.mask == n.mask || !n.all && i&n.mask != 0 {
				return True
			}
		}
	}
	return False
}

func (bits) probes(CostFunc, int) ([]Probe, int, bool) { return nil, 0, false }

type inChain struct {
	a      *schema.Attribute
	target adproto.DN
}

func (n inChain) eval(e Entry) Truth {
	found, readable := e.InChain(n.a, n.target)
	if !readable {
		return Undefined
	}
	return truth(found)
}

func (inChain) probes(CostFunc, int) ([]Probe, int, bool) { return nil, 0, false }

// substrings holds the parts as their keys.
type substrings struct {
	a       *schema.Attribute
	initial []byte
	middle  [][]byte
	final   []byte
}

// substringsOf compiles the parts of f. Bytes can be searched as strings can.
func substringsOf(a *schema.Attribute, f adproto.Filter) node {
	if !a.Syntax.Text() && a.Syntax != schema.CaseIgnore && a.Syntax != schema.OctetString {
		return undefined{}
	}
	n := substrings{a: a}
	ok := true
	key := func(part []byte) []byte {
		k, err := a.Syntax.Key(part)
		ok = ok && err == nil
		return k
	}
	n.initial, n.final = key(f.Initial), key(f.Final)
	for _, part := range f.Any {
		n.middle = append(n.middle, key(part))
	}
	if !ok {
		return undefined{}
	}
	return n
}

func (n substrings) eval(e Entry) Truth {
	return anyValue(e, n.a, n.in)
}

// in takes each part where it first occurs, which leaves the most for the next:
// one pass over the value.
func (n substrings) in(key []byte) bool {
	if len(key) < len(n.initial)+len(n.final) || !bytes.HasPrefix(key, n.initial) || !bytes.HasSuffix(key, n.final) {
		return false
	}
	rest := key[len(n.initial) : len(key)-len(n.final)]
	for _, part := range n.middle {
		i := bytes.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return true
}

func (substrings) probes(CostFunc, int) ([]Probe, int, bool) { return nil, 0, false }
