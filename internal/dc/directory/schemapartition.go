package directory

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

// schemaPartition is the objects of CN=Schema,CN=Configuration,…: those that say what
// attributes and classes there are ([MS-ADTS] 3.1.1.2). They follow from package
// schema, lie in no store, and cannot be changed. They are made when somebody asks for
// one first.
type schemaPartition struct {
	objects []*object // the head, then the others by name
	byGUID  map[dtyp.GUID]*object
	byName  map[string]*object // by name in one case
}

// aggregateName is the name of the subschema that LDAP's own tools read.
const aggregateName = "Aggregate"

// schemaSDDL is who may read the schema: everybody who has authenticated ([MS-ADSC],
// defaultSecurityDescriptor of dMD).
const schemaSDDL = "O:SAG:SAD:AI(A;;RPLCLORC;;;AU)(A;;RPWPCRLCLORCWOWDSW;;;SA)(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;SY)"

// schemaPartition makes the partition or finds it made. ok is false in a directory that
// has no configuration for it to lie in.
func (r *Reader) schemaPartition() (p *schemaPartition, ok bool) {
	if p := r.partition.Load(); p != nil {
		return p, true
	}
	p, err := r.makeSchemaPartition()
	if err != nil {
		return nil, false
	}
	r.partition.Store(p)
	return p, true
}

func (r *Reader) schemaObject(g dtyp.GUID) (*object, bool) {
	p, ok := r.schemaPartition()
	if !ok {
		return nil, false
	}
	o, ok := p.byGUID[g]
	return o, ok
}

// resolveSchema finds an object of the partition by its name, which lies within it.
func (r *Reader) resolveSchema(dn adproto.DN) (dtyp.GUID, error) {
	p, ok := r.schemaPartition()
	if !ok {
		return dtyp.GUID{}, fmt.Errorf("%s: %w", dn, rows.ErrNotFound)
	}
	head := p.objects[0].GUID
	below := dn[:len(dn)-len(r.schemaDN)]
	if len(below) == 0 {
		return head, nil
	}
	o, ok := p.byName[strings.ToLower(dn.Name())]
	if !ok || len(below) > 1 || len(below[0]) != 1 || !strings.EqualFold(below[0][0].Type, "CN") {
		return head, fmt.Errorf("%s: %w", dn, rows.ErrNotFound)
	}
	return o.GUID, nil
}

// partitionMaker makes the objects.
type partitionMaker struct {
	*Reader
	created dtyp.Filetime
	sd      []byte
	head    dtyp.GUID
	err     error
}

func (r *Reader) makeSchemaPartition() (*schemaPartition, error) {
	domain, err := r.Get(r.domain.GUID)
	if err != nil {
		return nil, err
	}
	configuration, err := r.table.Child(r.r, domain.GUID, "Configuration")
	if err != nil {
		return nil, err
	}
	sd, err := secdesc.ParseSDDL(schemaSDDL, r.domain.SID, r.domain.SID)
	if err != nil {
		return nil, err
	}
	m := &partitionMaker{Reader: r, created: domain.WhenCreated}
	if m.sd, err = sd.Append(nil); err != nil {
		return nil, err
	}
	m.head = m.guid("")
	head := m.object(m.head, configuration, "Schema", m.headValues())
	all := []*object{m.below(aggregateName, m.aggregateValues())}
	for _, a := range r.Schema().Attributes() {
		all = append(all, m.below(a.CN, m.attributeValues(a)))
	}
	for _, c := range r.Schema().Classes() {
		all = append(all, m.below(c.CN, m.classValues(c)))
	}
	slices.SortFunc(all, func(a, b *object) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	p := &schemaPartition{objects: append([]*object{head}, all...), byGUID: map[dtyp.GUID]*object{}, byName: map[string]*object{}}
	for i, o := range p.objects {
		p.byGUID[o.GUID] = o
		if i > 0 {
			p.byName[strings.ToLower(o.Name)] = o
		}
	}
	return p, m.err
}

// guid is an objectGUID that is the same in every process of the domain.
func (m *partitionMaker) guid(name string) dtyp.GUID {
	sum := sha256.Sum256(append(append(m.domain.GUID.Append(nil), "schema/"...), name...))
	g := dtyp.GUID(sum[:dtyp.GUIDSize])
	g[7] = g[7]&0x0f | 0x80 // RFC 9562, Section 5.8: version 8; the field is little endian
	g[8] = g[8]&0x3f | 0x80
	return g
}

func (m *partitionMaker) below(name string, v valueList) *object {
	return m.object(m.guid(name), m.head, name, v)
}

func (m *partitionMaker) object(g, parent dtyp.GUID, name string, v valueList) *object {
	e := &rows.Entry{GUID: g, Parent: parent, RDN: m.known.cn, Name: name,
		WhenCreated: m.created, WhenChanged: m.created, Values: map[*schema.Attribute][][]byte{}}
	v.add("nTSecurityDescriptor", string(m.sd))
	v.add("showInAdvancedViewOnly", "TRUE")
	for _, pair := range v {
		a, ok := m.Schema().Attribute(pair.name)
		if !ok {
			m.err = errors.Join(m.err, fmt.Errorf("the schema has no attribute %s", pair.name))
			continue
		}
		e.Values[a] = append(e.Values[a], []byte(pair.value))
	}
	o := m.newObject(e)
	o.virtual = true
	return o
}

// valueList collects values of attributes by name.
type valueList []struct{ name, value string }

func (v *valueList) add(name string, values ...string) {
	for _, value := range values {
		*v = append(*v, struct{ name, value string }{name, value})
	}
}

func (v *valueList) number(name string, n int64) { v.add(name, strconv.FormatInt(n, 10)) }

func (v *valueList) flag(name string, b bool) { v.add(name, strings.ToUpper(strconv.FormatBool(b))) }

// category is objectCategory or a like name of a class's object.
func (m *partitionMaker) category(cn string) string {
	return adproto.NewDN("CN", cn, m.schemaDN).String()
}

func (m *partitionMaker) headValues() (v valueList) {
	v.add("objectClass", "top", "dMD")
	v.add("objectCategory", m.category("DMD"))
	v.number("instanceType", 13) // the head of a naming context that is held and lies below another
	v.number("objectVersion", schema.Version)
	return v
}

// attributeValues are those of an attributeSchema object: [MS-ADTS] 3.1.1.2.3.
func (m *partitionMaker) attributeValues(a *schema.Attribute) (v valueList) {
	v.add("objectClass", "top", "attributeSchema")
	v.add("objectCategory", m.category("Attribute-Schema"))
	v.number("instanceType", 4)
	v.add("attributeID", a.OID)
	v.add("lDAPDisplayName", a.Name)
	v.add("adminDisplayName", a.CN)
	oid, om := a.Syntax.OID()
	v.add("attributeSyntax", oid)
	v.number("oMSyntax", int64(om))
	if class := omObjectClass(a.Syntax); class != "" {
		v.add("oMObjectClass", class)
	}
	v.flag("isSingleValued", a.SingleValued)
	v.flag("systemOnly", a.SystemOnly)
	v.flag("isMemberOfPartialAttributeSet", a.InGC)
	v.number("searchFlags", int64(a.Search))
	v.number("systemFlags", int64(a.System))
	if a.LinkID >= 0 {
		v.number("linkID", int64(a.LinkID))
	}
	if a.RangeLower != nil {
		v.number("rangeLower", *a.RangeLower)
	}
	if a.RangeUpper != nil {
		v.number("rangeUpper", *a.RangeUpper)
	}
	v.add("schemaIDGUID", string(a.GUID[:]))
	if !a.PropertySet.IsZero() {
		v.add("attributeSecurityGUID", string(a.PropertySet[:]))
	}
	return v
}

// omObjectClass is oMObjectClass of the syntaxes that share oMSyntax 127: [MS-ADTS]
// 3.1.1.2.2.2.
func omObjectClass(s schema.Syntax) string {
	switch s {
	case schema.DN:
		return "\x2b\x0c\x02\x87\x73\x1c\x00\x85\x4a"
	case schema.DNBinary:
		return "\x2a\x86\x48\x86\xf7\x14\x01\x01\x01\x0b"
	case schema.DNString:
		return "\x2a\x86\x48\x86\xf7\x14\x01\x01\x01\x0c"
	case schema.ReplicaLink:
		return "\x2a\x86\x48\x86\xf7\x14\x01\x01\x01\x06"
	case schema.Presentation:
		return "\x2b\x0c\x02\x87\x73\x1c\x00\x85\x5c"
	}
	return ""
}

// classValues are those of a classSchema object: [MS-ADTS] 3.1.1.2.4.
func (m *partitionMaker) classValues(c *schema.Class) (v valueList) {
	v.add("objectClass", "top", "classSchema")
	v.add("objectCategory", m.category("Class-Schema"))
	v.number("instanceType", 4)
	v.add("governsID", c.OID)
	v.add("lDAPDisplayName", c.Name)
	v.add("adminDisplayName", c.CN)
	v.add("subClassOf", c.SubClassOf)
	v.number("objectClassCategory", int64(c.Category))
	v.add("mustContain", c.Must...)
	v.add("mayContain", c.May...)
	v.add("auxiliaryClass", c.Auxiliary...)
	v.add("possSuperiors", c.Superiors...)
	if c.RDN != "" {
		v.add("rDNAttID", c.RDN)
	}
	v.add("schemaIDGUID", string(c.GUID[:]))
	v.add("defaultObjectCategory", m.category(c.DefaultCategory))
	if c.SDDL != "" {
		v.add("defaultSecurityDescriptor", c.SDDL)
	}
	v.flag("defaultHidingValue", c.Hidden)
	v.flag("systemOnly", c.SystemOnly)
	v.number("systemFlags", int64(schema.SystemBaseSchema))
	v.add("possibleInferiors", m.inferiors(c)...)
	return v
}

// inferiors are the classes whose objects may lie below one of the class: [MS-ADTS]
// 3.1.1.4.5.21.
func (m *partitionMaker) inferiors(c *schema.Class) (names []string) {
	if c.Category == schema.Abstract || c.Category == schema.Auxiliary {
		return nil
	}
	parent, err := m.Schema().Expand(c.Name)
	if err != nil {
		return nil
	}
	for _, child := range m.Schema().Classes() {
		made := child.Category != schema.Abstract && child.Category != schema.Auxiliary && !child.SystemOnly
		if made && m.Schema().MayLieBelow(child, parent) {
			names = append(names, child.Name)
		}
	}
	return names
}

// aggregateValues are those of the subschema (RFC 4512, Section 4.2; [MS-ADTS]
// 3.1.1.3.1.1.1).
func (m *partitionMaker) aggregateValues() (v valueList) {
	v.add("objectClass", "top", "subSchema")
	v.add("objectCategory", m.category("SubSchema"))
	v.number("instanceType", 4)
	for _, a := range m.Schema().Attributes() {
		v.add("attributeTypes", attributeType(a))
		v.add("extendedAttributeInfo", extendedAttribute(a))
	}
	for _, c := range m.Schema().Classes() {
		v.add("objectClasses", objectClass(c))
		v.add("extendedClassInfo", fmt.Sprintf("( %s NAME '%s' CLASS-GUID '%s' )", c.OID, c.Name, hexGUID(c.GUID)))
		if len(c.Auxiliary) > 0 {
			v.add("dITContentRules", fmt.Sprintf("( %s NAME '%s'%s )", c.OID, c.Name, listOf(" AUX", c.Auxiliary)))
		}
	}
	return v
}

// attributeType describes an attribute. Deviation from RFC 4512, Section 4.1.2: the
// syntax is in quotes, as AD has it and its clients expect.
func attributeType(a *schema.Attribute) string {
	var b strings.Builder
	fmt.Fprintf(&b, "( %s NAME '%s' SYNTAX '%s'", a.OID, a.Name, ldapSyntax(a.Syntax))
	if a.SingleValued {
		b.WriteString(" SINGLE-VALUE")
	}
	if a.SystemOnly {
		b.WriteString(" NO-USER-MODIFICATION")
	}
	b.WriteString(" )")
	return b.String()
}

// ldapSyntax is the syntax by the OID of LDAP: [MS-ADTS] 3.1.1.3.1.1.1.
func ldapSyntax(s schema.Syntax) string {
	const rfc, microsoft = "1.3.6.1.4.1.1466.115.121.1.", "1.2.840.113556.1.4."
	switch s {
	case schema.DN:
		return rfc + "12"
	case schema.OID:
		return rfc + "38"
	case schema.CaseExact:
		return microsoft + "1362"
	case schema.CaseIgnore:
		return microsoft + "905"
	case schema.Printable:
		return rfc + "44"
	case schema.IA5:
		return rfc + "26"
	case schema.Numeric:
		return rfc + "36"
	case schema.DNBinary:
		return microsoft + "903"
	case schema.DNString:
		return microsoft + "904"
	case schema.Boolean:
		return rfc + "7"
	case schema.Integer, schema.Enumeration:
		return rfc + "27"
	case schema.UTCTime:
		return rfc + "53"
	case schema.GeneralizedTime:
		return rfc + "24"
	case schema.Unicode:
		return rfc + "15"
	case schema.Presentation:
		return rfc + "43"
	case schema.SecurityDescriptor:
		return microsoft + "907"
	case schema.LargeInteger:
		return microsoft + "906"
	}
	return rfc + "40" // bytes
}

// extendedAttribute is what RFC 4512 has no words for.
func extendedAttribute(a *schema.Attribute) string {
	var b strings.Builder
	fmt.Fprintf(&b, "( %s NAME '%s'", a.OID, a.Name)
	if a.RangeLower != nil {
		fmt.Fprintf(&b, " RANGE-LOWER '%d'", *a.RangeLower)
	}
	if a.RangeUpper != nil {
		fmt.Fprintf(&b, " RANGE-UPPER '%d'", *a.RangeUpper)
	}
	fmt.Fprintf(&b, " PROPERTY-GUID '%s' PROPERTY-SET-GUID '%s'", hexGUID(a.GUID), hexGUID(a.PropertySet))
	if a.Indexed() {
		b.WriteString(" INDEXED")
	}
	if a.SystemOnly {
		b.WriteString(" SYSTEM-ONLY")
	}
	b.WriteString(" )")
	return b.String()
}

func objectClass(c *schema.Class) string {
	kind := map[schema.Category]string{schema.Abstract: " ABSTRACT", schema.Auxiliary: " AUXILIARY"}[c.Category]
	if kind == "" {
		kind = " STRUCTURAL"
	}
	sup := " SUP " + c.SubClassOf
	if c.SubClassOf == c.Name {
		sup = ""
	}
	return fmt.Sprintf("( %s NAME '%s'%s%s%s%s )", c.OID, c.Name, sup, kind, listOf(" MUST", c.Must), listOf(" MAY", c.May))
}

// listOf is a list of names behind a word, or nothing for an empty one.
func listOf(word string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return word + " ( " + strings.Join(names, " $ ") + " )"
}

func hexGUID(g dtyp.GUID) string { return strings.ToUpper(hex.EncodeToString(g[:])) }
