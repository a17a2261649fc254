package schema

import (
	_ "embed" // the tables
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
)

// Version is objectVersion of the schema partition's head: Windows Server 2019.
const Version = 88

//go:embed attributes.tsv
var attributeTable string

//go:embed classes.tsv
var classTable string

// SearchFlags is the attribute searchFlags of an attributeSchema object,
// [MS-ADTS] 2.2.9.
type SearchFlags uint32

// The search flags that this directory heeds.
const (
	SearchIndexed          SearchFlags = 0x1   // fATTINDEX
	SearchContainerIndex   SearchFlags = 0x2   // fPDNTATTINDEX
	SearchANR              SearchFlags = 0x4   // fANR
	SearchPreserveOnDelete SearchFlags = 0x8   // fPRESERVEONDELETE: a tombstone keeps it
	SearchCopy             SearchFlags = 0x10  // fCOPY
	SearchConfidential     SearchFlags = 0x80  // fCONFIDENTIAL: reading takes CONTROL_ACCESS too
	SearchNeverAudit       SearchFlags = 0x100 // fNEVERVALUEAUDIT
	SearchRODCFiltered     SearchFlags = 0x200 // fRODCFilteredAttribute
)

// SystemFlags is the attribute systemFlags of an attributeSchema object,
// [MS-ADTS] 2.2.10.
type SystemFlags uint32

// The system flags of attributes.
const (
	SystemNotReplicated SystemFlags = 0x1  // FLAG_ATTR_NOT_REPLICATED
	SystemConstructed   SystemFlags = 0x4  // FLAG_ATTR_IS_CONSTRUCTED
	SystemOperational   SystemFlags = 0x8  // FLAG_ATTR_IS_OPERATIONAL
	SystemBaseSchema    SystemFlags = 0x10 // FLAG_SCHEMA_BASE_OBJECT
	SystemIsRDN         SystemFlags = 0x20 // FLAG_ATTR_IS_RDN
)

// Attribute is an attributeSchema object, [MS-ADTS] 3.1.1.2.3. It is shared and
// immutable.
type Attribute struct {
	Name         string // lDAPDisplayName
	OID          string // attributeID
	CN           string
	Syntax       Syntax
	SingleValued bool
	SystemOnly   bool // only the directory itself writes it
	InGC         bool // isMemberOfPartialAttributeSet
	Search       SearchFlags
	System       SystemFlags
	// LinkID is even for a forward link, odd for its back link, -1 for no link.
	LinkID int
	// RangeLower and RangeUpper bound a value, or its length: in characters for
	// strings, in bytes for octet strings. nil is no bound.
	RangeLower, RangeUpper *int64
	GUID                   dtyp.GUID // schemaIDGUID: what an object ACE names
	PropertySet            dtyp.GUID // attributeSecurityGUID, zero for none
}

// Constructed reports whether the attribute is computed when it is read
// ([MS-ADTS] 3.1.1.4.5); it is not stored and matches no filter.
func (a *Attribute) Constructed() bool { return a.System&SystemConstructed != 0 }

// Confidential reports whether reading takes CONTROL_ACCESS as well as
// READ_PROPERTY ([MS-ADTS] 3.1.1.4.4).
func (a *Attribute) Confidential() bool { return a.Search&SearchConfidential != 0 }

// Indexed reports whether an equality index is kept.
func (a *Attribute) Indexed() bool { return a.Search&SearchIndexed != 0 }

// ForwardLink reports whether values are links that are written here.
func (a *Attribute) ForwardLink() bool { return a.LinkID >= 0 && a.LinkID%2 == 0 }

// BackLink reports whether values follow from the forward links of others.
func (a *Attribute) BackLink() bool { return a.LinkID >= 0 && a.LinkID%2 == 1 }

// Category is objectClassCategory, [MS-ADTS] 3.1.1.2.4.
type Category uint8

// The categories of classes.
const (
	Class88    Category = 0 // of X.500 before 1993: counts as structural
	Structural Category = 1
	Abstract   Category = 2
	Auxiliary  Category = 3
)

// Class is a classSchema object, [MS-ADTS] 3.1.1.2.4, with its own attributes
// only: [Schema] adds what it inherits. It is shared and immutable.
type Class struct {
	Name, OID, CN string
	Category      Category
	SystemOnly    bool // only the directory itself makes objects of it
	Hidden        bool // defaultHidingValue: objects get showInAdvancedViewOnly
	SubClassOf    string
	Auxiliary     []string // classes that come with it
	Must, May     []string
	Superiors     []string // classes of objects that may be its parent
	RDN           string   // rDNAttID; empty: inherited
	GUID          dtyp.GUID
	// DefaultCategory is the cn of the class that objects get as objectCategory.
	DefaultCategory string
	// SDDL is defaultSecurityDescriptor; empty for none.
	SDDL string
}

// Schema is the attributes and classes. It is immutable and safe for
// concurrent use. Names are found without regard to case.
type Schema struct {
	attributes map[string]*Attribute // by lower name, and by OID
	classes    map[string]*Class
	byGUID     map[dtyp.GUID]*Attribute
	links      map[int]*Attribute
	names      []string // of attributes, sorted
	classNames []string // of classes, sorted
}

// Load reads the tables. It fails only if they are damaged: a name that is
// used and not defined, or anything defined twice.
func Load() (*Schema, error) {
	s := &Schema{attributes: map[string]*Attribute{}, classes: map[string]*Class{},
		byGUID: map[dtyp.GUID]*Attribute{}, links: map[int]*Attribute{}}
	for row := range rows(attributeTable) {
		a, err := parseAttribute(row)
		if err != nil {
			return nil, fmt.Errorf("attribute table: %w", err)
		}
		if err := s.addAttribute(a); err != nil {
			return nil, fmt.Errorf("attribute table: %w", err)
		}
	}
	for row := range rows(classTable) {
		c, err := parseClass(row)
		if err != nil {
			return nil, fmt.Errorf("class table: %w", err)
		}
		if s.classes[strings.ToLower(c.Name)] != nil || s.classes[c.OID] != nil {
			return nil, fmt.Errorf("class table: %s twice", c.Name)
		}
		s.classes[strings.ToLower(c.Name)], s.classes[c.OID] = c, c
		s.classNames = append(s.classNames, c.Name)
	}
	return s, s.checkReferences()
}

func rows(table string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(table) {
			line = strings.TrimSuffix(line, "\n")
			if line != "" && line[0] != '#' && !yield(strings.Split(line, "\t")) {
				return
			}
		}
	}
}

// parseAttribute reads: name, oid, cn, syntax (the last arc below 2.5.5),
// oMSyntax, flags, searchFlags, systemFlags, linkID, rangeLower, rangeUpper,
// schemaIDGUID, attributeSecurityGUID. The flags are S single-valued, Y
// systemOnly, G in the global catalog; "-" stands for none.
func parseAttribute(f []string) (*Attribute, error) {
	if len(f) != 13 {
		return nil, fmt.Errorf("%s: %d fields, want 13", f[0], len(f))
	}
	p := fieldParser{name: f[0]}
	a := &Attribute{Name: f[0], OID: f[1], CN: f[2],
		SingleValued: strings.Contains(f[5], "S"), SystemOnly: strings.Contains(f[5], "Y"), InGC: strings.Contains(f[5], "G"),
		Search: SearchFlags(p.number(f[6])), System: SystemFlags(p.number(f[7])),
		LinkID: -1, RangeLower: p.optional(f[9]), RangeUpper: p.optional(f[10]), GUID: p.guid(f[11])}
	a.Syntax = p.syntax(f[3], f[4])
	if link := p.optional(f[8]); link != nil {
		a.LinkID = int(*link)
	}
	if f[12] != "-" {
		a.PropertySet = p.guid(f[12])
	}
	return a, p.err
}

// parseClass reads: name, oid, cn, category, flags (Y systemOnly, H hidden),
// subClassOf, auxiliary classes, must, may, superiors, rDNAttID, schemaIDGUID,
// defaultObjectCategory, defaultSecurityDescriptor.
func parseClass(f []string) (*Class, error) {
	if len(f) != 14 {
		return nil, fmt.Errorf("%s: %d fields, want 14", f[0], len(f))
	}
	category := slices.Index([]string{"88", "structural", "abstract", "auxiliary"}, f[3])
	if category < 0 {
		return nil, fmt.Errorf("%s: category %q", f[0], f[3])
	}
	p := fieldParser{name: f[0]}
	c := &Class{Name: f[0], OID: f[1], CN: f[2], Category: Category(category),
		SystemOnly: strings.Contains(f[4], "Y"), Hidden: strings.Contains(f[4], "H"),
		SubClassOf: f[5], Auxiliary: list(f[6]), Must: list(f[7]), May: list(f[8]), Superiors: list(f[9]),
		GUID: p.guid(f[11]), DefaultCategory: f[12]}
	if f[10] != "-" {
		c.RDN = f[10]
	}
	if f[13] != "-" {
		c.SDDL = f[13]
	}
	return c, p.err
}

func list(s string) []string {
	if s == "-" {
		return nil
	}
	return strings.Split(s, ",")
}

// fieldParser keeps the first error of a row.
type fieldParser struct {
	name string
	err  error
}

func (p *fieldParser) fail(err error) {
	if p.err == nil && err != nil {
		p.err = fmt.Errorf("%s: %w", p.name, err)
	}
}

func (p *fieldParser) number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	p.fail(err)
	return n
}

func (p *fieldParser) optional(s string) *int64 {
	if s == "-" {
		return nil
	}
	n := p.number(s)
	return &n
}

func (p *fieldParser) guid(s string) dtyp.GUID {
	g, err := dtyp.ParseGUID(s)
	p.fail(err)
	return g
}

func (p *fieldParser) syntax(arc, om string) Syntax {
	s, err := SyntaxOf("2.5.5."+arc, int(p.number(om)))
	p.fail(err)
	return s
}

func (s *Schema) addAttribute(a *Attribute) error {
	name := strings.ToLower(a.Name)
	if s.attributes[name] != nil || s.attributes[a.OID] != nil || s.byGUID[a.GUID] != nil {
		return fmt.Errorf("%s: its name, OID or GUID stands there twice", a.Name)
	}
	s.attributes[name], s.attributes[a.OID], s.byGUID[a.GUID] = a, a, a
	s.names = append(s.names, a.Name)
	if a.LinkID >= 0 {
		if s.links[a.LinkID] != nil {
			return fmt.Errorf("%s: linkID %d twice", a.Name, a.LinkID)
		}
		s.links[a.LinkID] = a
	}
	return nil
}

// checkReferences reports names that nothing defines. Superiors and auxiliary
// classes of a part of the schema may lie outside of it: nothing can then be
// made with them, which is what their absence means.
func (s *Schema) checkReferences() error {
	for _, name := range s.classNames {
		c, _ := s.Class(name)
		if _, ok := s.Class(c.SubClassOf); !ok {
			return fmt.Errorf("class %s: no superclass %s", c.Name, c.SubClassOf)
		}
		for _, a := range slices.Concat(c.Must, c.May, list(c.rdnOrNone())) {
			if _, ok := s.Attribute(a); !ok {
				return fmt.Errorf("class %s: no attribute %s", c.Name, a)
			}
		}
	}
	return nil
}

func (c *Class) rdnOrNone() string {
	if c.RDN == "" {
		return "-"
	}
	return c.RDN
}

// Attribute finds an attribute by its lDAPDisplayName, its OID, or "OID." and
// its OID ([MS-ADTS] 3.1.1.3.1.1.3). Options such as ";range=0-*" are the
// caller's to cut off.
func (s *Schema) Attribute(name string) (*Attribute, bool) {
	name = strings.ToLower(name)
	a, ok := s.attributes[strings.TrimPrefix(name, "oid.")]
	return a, ok
}

// ByOID finds an attribute by its OID, as rows have it: nothing is allocated.
func (s *Schema) ByOID(oid []byte) (*Attribute, bool) {
	a, ok := s.attributes[string(oid)]
	return a, ok && a.OID == string(oid)
}

// Class finds a class by its lDAPDisplayName, its OID, or "OID." and its OID.
func (s *Schema) Class(name string) (*Class, bool) {
	name = strings.ToLower(name)
	c, ok := s.classes[strings.TrimPrefix(name, "oid.")]
	return c, ok
}

// ByGUID finds an attribute by its schemaIDGUID.
func (s *Schema) ByGUID(g dtyp.GUID) (*Attribute, bool) {
	a, ok := s.byGUID[g]
	return a, ok
}

// Linked is the other half of a link: the back link of a forward one, and the
// reverse. A forward link need not have one.
func (s *Schema) Linked(a *Attribute) (*Attribute, bool) {
	if a.LinkID < 0 {
		return nil, false
	}
	other, ok := s.links[a.LinkID^1]
	return other, ok
}

// ByLinkID finds a link attribute.
func (s *Schema) ByLinkID(id int) (*Attribute, bool) {
	a, ok := s.links[id]
	return a, ok
}

// Attributes are all attributes, by name.
func (s *Schema) Attributes() []*Attribute {
	out := make([]*Attribute, len(s.names))
	for i, n := range s.names {
		out[i], _ = s.Attribute(n)
	}
	return out
}

// Classes are all classes, by name.
func (s *Schema) Classes() []*Class {
	out := make([]*Class, len(s.classNames))
	for i, n := range s.classNames {
		out[i], _ = s.Class(n)
	}
	return out
}

// Secret reports whether the directory keeps the attribute to itself or hands
// it out by rules of its own, so that no filter may probe it: what [MS-ADTS]
// 3.1.1.4.4 lists as never readable, and root keys.
func (a *Attribute) Secret() bool {
	switch a.Name {
	case "currentValue", "dBCSPwd", "initialAuthIncoming", "initialAuthOutgoing", "lmPwdHistory", "ntPwdHistory",
		"priorValue", "supplementalCredentials", "trustAuthIncoming", "trustAuthOutgoing", "unicodePwd",
		"userPassword", "unixUserPassword", "msKds-RootKeyData", "msDS-ManagedPassword":
		return true
	}
	return false
}
