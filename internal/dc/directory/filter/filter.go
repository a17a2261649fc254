package filter

import (
	"bytes"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// Truth is the outcome of a filter for one entry.
type Truth uint8

// The three values. The zero value says nothing.
const (
	Undefined Truth = iota
	False
	True
)

func truth(b bool) Truth {
	if b {
		return True
	}
	return False
}

// not is the negation of RFC 4511, Section 4.5.1.7: Undefined stays.
func (t Truth) not() Truth {
	switch t {
	case True:
		return False
	case False:
		return True
	}
	return Undefined
}

// Entry is an entry as one caller sees it.
type Entry interface {
	// Values returns the values of an attribute that is not constructed, none if
	// the entry has none; readable is false if the caller may not read it, whether
	// it has any or not. They are only read.
	Values(a *schema.Attribute) (values [][]byte, readable bool)
	// Present reports whether the entry has a value of the attribute, which need not
	// be made for it; readable is as above.
	Present(a *schema.Attribute) (found, readable bool)
	// Linked reports whether a link of attribute a, whose values are plain names, leads
	// from the entry to target; readable is as above.
	Linked(a *schema.Attribute, target adproto.DN) (found, readable bool)
	// InChain reports whether the links of attribute a lead from the entry to
	// target, in any number of steps ([MS-ADTS] 3.1.1.3.4.4.3); readable is as
	// above.
	InChain(a *schema.Attribute, target adproto.DN) (found, readable bool)
}

// Filter is a compiled filter: names resolved and assertion values brought to
// the form in which they compare. It is immutable and safe for concurrent use.
type Filter struct {
	root node
}

// node is one part of a filter.
type node interface {
	eval(e Entry) Truth
	// probes is as Filter.Probes, with the sum of the costs, each of which is counted to
	// limit only.
	probes(cost CostFunc, limit int) (list []Probe, sum int, ok bool)
}

// Context is what a filter is compiled against.
type Context struct {
	Schema *schema.Schema
	// SchemaDN is the name of the schema partition: objectCategory=computer
	// stands for the class's object in it.
	SchemaDN adproto.DN
}

// Compile resolves f. It cannot fail: what is unknown or makes no sense is
// Undefined, so that a client which asks for attributes of a schema that this
// domain has not gets an empty answer and not an error. f is not kept.
func Compile(c Context, f adproto.Filter) *Filter { return &Filter{root: c.compile(f)} }

// Match reports whether the entry belongs to the answer: whether the filter is
// True for it.
func (f *Filter) Match(e Entry) bool { return f.Eval(e) == True }

// Eval is the truth of the filter for the entry.
func (f *Filter) Eval(e Entry) Truth { return f.root.eval(e) }

// Probe is one look into an equality index: the attribute and the key of a
// value, as schema.Syntax.Key has it.
type Probe struct {
	Attribute *schema.Attribute
	Key       []byte
}

// CostFunc says how many entries a probe would find, limit where it is so many or more;
// ok is false where no index answers it.
type CostFunc func(p Probe, limit int) (entries int, ok bool)

// maxCost is how far the entries of a probe are counted: of two that have more, either
// will do.
const maxCost = 256

// Probes are looks into indexes that find, together, every entry that the
// filter can be True for, and some for which it is not: those that cost the least.
// ok is false if there are none such and all entries in scope must be asked; with
// ok and no probe there is no entry at all.
func (f *Filter) Probes(cost CostFunc) (probes []Probe, ok bool) {
	// Most filters have a part that finds one entry or none, which costs nothing to see;
	// only without one is there something to count.
	probes, sum, ok := f.root.probes(cost, 2)
	if ok && sum < 2 {
		return probes, true
	}
	probes, _, ok = f.root.probes(cost, maxCost)
	return probes, ok
}

func (c Context) compile(f adproto.Filter) node {
	switch f.Kind {
	case adproto.FilterAnd:
		return and(c.compileAll(f.Children))
	case adproto.FilterOr:
		return or(c.compileAll(f.Children))
	case adproto.FilterNot:
		return not{c.compile(f.Children[0])}
	}
	if strings.EqualFold(f.Attr, "anr") && (f.Kind == adproto.FilterEqual || f.Kind == adproto.FilterApprox) {
		return c.ambiguousName(f.Value)
	}
	a, ok := c.attribute(f.Attr)
	if !ok {
		return undefined{}
	}
	switch f.Kind {
	case adproto.FilterPresent:
		return present{a}
	case adproto.FilterEqual, adproto.FilterApprox:
		return c.equality(a, f.Value)
	case adproto.FilterGreater, adproto.FilterLess:
		key, ok := c.key(a, f.Value)
		if !ok || !a.Syntax.Ordered() {
			return undefined{}
		}
		return ordering{a, key, f.Kind == adproto.FilterLess}
	case adproto.FilterSubstrings:
		return substringsOf(a, f)
	case adproto.FilterExtensible:
		return c.extensible(a, f)
	}
	return undefined{}
}

func (c Context) compileAll(list []adproto.Filter) []node {
	out := make([]node, len(list))
	for i, f := range list {
		out[i] = c.compile(f)
	}
	return out
}

// attribute finds what a filter may ask about. The option binary says nothing
// about a filter; with any other the description names a subtype that nothing
// has. Constructed attributes do not exist until they are read ([MS-ADTS]
// 3.1.1.4.5), and secret ones are not to be guessed at.
func (c Context) attribute(description string) (*schema.Attribute, bool) {
	name, option, has := strings.Cut(description, ";")
	if has && !strings.EqualFold(option, "binary") {
		return nil, false
	}
	a, ok := c.Schema.Attribute(name)
	return a, ok && !a.Constructed() && !a.Secret()
}

// key is the form in which an assertion value compares with those of a, with
// the liberties that AD allows: the name or OID of a class or attribute where
// OIDs are, the name of a class for its category, the text of a GUID or SID.
func (c Context) key(a *schema.Attribute, value []byte) ([]byte, bool) {
	switch {
	case a.Syntax == schema.OID && a.Name != "attributeID" && a.Name != "governsID": // whose values are the OIDs
		return c.oidKey(value)
	case a.Name == "objectCategory" && !bytes.ContainsRune(value, '='):
		class, ok := c.Schema.Class(string(value))
		if !ok {
			return nil, false
		}
		value = []byte(adproto.NewDN("CN", class.DefaultCategory, c.SchemaDN).String())
	case a.Syntax == schema.OctetString && a.RangeUpper != nil && *a.RangeUpper == dtyp.GUIDSize && len(value) > dtyp.GUIDSize:
		g, err := dtyp.ParseGUID(string(value))
		return g[:], err == nil
	}
	key, err := a.Syntax.Key(value)
	return key, err == nil
}

// oidKey brings the ways to write a class or attribute to its display name,
// which is what entries hold.
func (c Context) oidKey(value []byte) ([]byte, bool) {
	if class, ok := c.Schema.Class(string(value)); ok {
		return schema.Fold([]byte(class.Name)), true
	}
	if a, ok := c.Schema.Attribute(string(value)); ok {
		return schema.Fold([]byte(a.Name)), true
	}
	return nil, false
}

func (c Context) equality(a *schema.Attribute, value []byte) node {
	key, ok := c.key(a, value)
	if !ok {
		return undefined{}
	}
	if a.LinkID >= 0 && a.Syntax == schema.DN {
		if dn, err := adproto.ParseDN(string(value)); err == nil {
			return linked{equal{a, key}, dn}
		}
	}
	return equal{a, key}
}

// extensible is a matching rule of [MS-ADTS] 3.1.1.3.4.4; without a rule it is
// equality. dnAttributes adds nothing: the attributes of a name are attributes
// of its entry.
func (c Context) extensible(a *schema.Attribute, f adproto.Filter) node {
	switch f.Rule {
	case "":
		return c.equality(a, f.Value)
	case adproto.RuleBitAnd, adproto.RuleBitOr:
		mask, err := schema.ParseNumber(f.Value, 64)
		if err != nil || !a.Syntax.IsNumber() {
			return undefined{}
		}
		return bits{a, mask, f.Rule == adproto.RuleBitAnd}
	case adproto.RuleInChain:
		target, err := adproto.ParseDN(string(f.Value))
		if err != nil || len(target) == 0 || !a.Syntax.IsDN() {
			return undefined{}
		}
		return inChain{a, target}
	}
	return undefined{}
}

// ambiguousName is the filter that anr stands for ([MS-ADTS] 3.1.1.3.1.3.2): the
// value begins a value of one of the attributes made for it, or, after "=",
// is one.
func (c Context) ambiguousName(value []byte) node {
	exact := bytes.HasPrefix(value, []byte("="))
	value = bytes.TrimPrefix(value, []byte("="))
	if len(value) == 0 {
		return undefined{}
	}
	var parts or
	for _, a := range c.Schema.Attributes() {
		if a.Search&schema.SearchANR == 0 {
			continue
		}
		if exact {
			parts = append(parts, c.equality(a, value))
			continue
		}
		parts = append(parts, substringsOf(a, adproto.Filter{Initial: value}))
	}
	return parts
}

// and is False if one part is, else Undefined if one is.
type and []node

func (n and) eval(e Entry) Truth {
	result := True
	for _, part := range n {
		switch part.eval(e) {
		case False:
			return False
		case Undefined:
			result = Undefined
		}
	}
	return result
}

// probes takes the part that costs the least: whatever is in all is in it.
func (n and) probes(cost CostFunc, limit int) (best []Probe, sum int, ok bool) {
	for _, part := range n {
		if p, c, can := part.probes(cost, limit); can && (!ok || c < sum) {
			best, sum, ok = p, c, true
		}
	}
	return best, sum, ok
}

// or is True if one part is, else Undefined if one is.
type or []node

func (n or) eval(e Entry) Truth {
	result := False
	for _, part := range n {
		switch part.eval(e) {
		case True:
			return True
		case Undefined:
			result = Undefined
		}
	}
	return result
}

func (n or) probes(cost CostFunc, limit int) (all []Probe, sum int, ok bool) {
	for _, part := range n {
		p, c, ok := part.probes(cost, limit)
		if !ok {
			return nil, 0, false
		}
		all, sum = append(all, p...), sum+c
	}
	return all, sum, true
}

type not struct{ part node }

func (n not) eval(e Entry) Truth { return n.part.eval(e).not() }

// probes finds nothing only for what is never True.
func (n not) probes(CostFunc, int) ([]Probe, int, bool) {
	_, nothing := n.part.(undefined)
	return nil, 0, nothing
}

// undefined is what cannot be evaluated for any entry.
type undefined struct{}

func (undefined) eval(Entry) Truth                          { return Undefined }
func (undefined) probes(CostFunc, int) ([]Probe, int, bool) { return nil, 0, true }

// Items is how many comparisons the filter has, each of which may be made for
// each entry in scope: who answers a search sets a limit.
func (f *Filter) Items() int { return items(f.root) }

func items(n node) int {
	sum := 0
	switch n := n.(type) {
	case and:
		for _, part := range n {
			sum += items(part)
		}
	case or:
		for _, part := range n {
			sum += items(part)
		}
	case not:
		return items(n.part)
	default:
		return 1
	}
	return sum
}
