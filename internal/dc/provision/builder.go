package provision

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

// entry is an object that is to be written.
type entry struct {
	*rows.Entry
	account string // sAMAccountName
	sd      *secdesc.SecurityDescriptor
	// before is called in the transaction that writes the entry, with a copy that it may
	// change.
	before func(w *directory.Writer, e *rows.Entry) error
}

// rows is how many rows of the store the entry takes at most.
func (e *entry) rows() int {
	n := 4 // the entry, its creation, its name and the index of names
	for a, values := range e.Values {
		if rows.Indexed(a) {
			n += len(values)
		}
	}
	if e.before != nil {
		n += privateRows
	}
	return n
}

// link is a value of a linked attribute, whose target is made later perhaps.
type link struct {
	attribute *schema.Attribute
	source    dtyp.GUID
	target    string // a distinguished name or an account name
}

// builder turns objects of the tables into entries.
type builder struct {
	d         *directory.Directory
	rand      io.Reader
	domain    dtyp.SID
	now       dtyp.Filetime
	variables *strings.Replacer

	entries []*entry
	links   []link
	byName  map[string]*entry // by distinguished name in lower case, and by account name
	// descriptors are those that were computed: most objects of a class below a parent
	// have the same.
	descriptors map[descriptorOf]*secdesc.SecurityDescriptor
}

// descriptorOf is what a descriptor follows from.
type descriptorOf struct {
	parent *entry
	class  *schema.Class
	given  string
}

// adminSDHolder is the descriptor of AdminSDHolder and of what it protects ([MS-ADTS]
// 3.1.1.6.1.2).
const adminSDHolder = "D:P(OA;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;PS)" +
	"(OA;;CR;ab721a53-1e2f-11d0-9819-00aa0040529b;;WD)" +
	"(OA;;RPWP;bf967a7f-0de6-11d0-a285-00aa003049e2;;CA)" +
	"(OA;;RP;46a9b11d-60ae-405a-b7e8-ff8a58d456d2;;S-1-5-32-560)" +
	"(OA;;RPWP;6db69a1c-9422-11d1-aebd-0000f80367c1;;S-1-5-32-561)" +
	"(OA;;RPWP;5805bc62-bdc9-4428-a5e2-856a0f4c185e;;S-1-5-32-561)" +
	"(A;;LCRPLORC;;;AU)" +
	"(A;;CCDCLCSWRPWPLOCRRCWDWO;;;DA)" +
	"(A;;CCDCLCSWRPWPLOCRRCWDWO;;;EA)" +
	"(A;;CCDCLCSWRPWPLOCRSDRCWDWO;;;BA)" +
	"(A;;CCDCLCSWRPWPDTLOCRSDRCWDWO;;;SY)"

func newBuilder(d *directory.Directory, rand io.Reader) (*builder, error) {
	dsa, err := dtyp.NewGUID(rand)
	if err != nil {
		return nil, err
	}
	invocation, err := dtyp.NewGUID(rand)
	if err != nil {
		return nil, err
	}
	domain, now := d.Domain(), dtyp.FiletimeOf(d.Now())
	host := strings.ToUpper(domain.Host)
	config := domain.ConfigurationDN().String()
	return &builder{
		d: d, rand: rand, domain: domain.SID, now: now,
		byName: map[string]*entry{}, descriptors: map[descriptorOf]*secdesc.SecurityDescriptor{},
		variables: strings.NewReplacer(
			"${domain}", domain.DN().String(), "${config}", config, "${schema}", domain.SchemaDN().String(),
			"${dsaDN}", "CN=NTDS Settings,CN="+host+",CN=Servers,CN="+domain.Site+",CN=Sites,"+config,
			"${dnsName}", domain.DNSName, "${netBIOS}", domain.NetBIOS, "${hostName}", domain.HostName(), "${HOST}", host,
			"${site}", domain.Site, "${sid}", domain.SID.String(), "${domainGUID}", domain.GUID.String(),
			"${dsaGUID}", dsa.String(), "${invocationID}", invocation.String(),
			"${now}", strconv.FormatUint(uint64(now), 10), "${adminSDHolder}", adminSDHolder),
	}, nil
}

// add makes the entry of an object, whose parent was added before.
func (b *builder) add(o object) error {
	class, err := b.d.Schema().Expand(o.value("objectClass"))
	if err != nil {
		return err
	}
	e := &entry{account: o.value("sAMAccountName"), Entry: &rows.Entry{Name: o.dn.Name(), WhenCreated: b.now, WhenChanged: b.now,
		Values: map[*schema.Attribute][][]byte{}}}
	parent := b.byName[key(o.dn.Parent().String())]
	switch {
	case parent != nil:
		e.Parent = parent.GUID
	case !o.dn.EqualFold(b.d.Domain().DN()):
		return fmt.Errorf("nothing made %s", o.dn.Parent())
	}
	complete(&o, class, parent == nil)
	if e.GUID, err = b.guid(o); err != nil {
		return err
	}
	if err := b.setClass(e, class); err != nil {
		return err
	}
	for _, a := range o.attributes {
		if err := b.set(e, a); err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
	}
	if err := b.setDescriptor(e, parent, o, class.Structural()); err != nil {
		return err
	}
	b.entries = append(b.entries, e)
	b.byName[key(o.dn.String())] = e
	if e.account != "" {
		b.byName[key(e.account)] = e
	}
	return nil
}

func key(name string) string { return strings.ToLower(name) }

// complete adds what all objects of a class have ([MS-ADTS] 3.1.1.5.2.4, [MS-SAMR]
// 3.1.1.8.1).
func complete(o *object, class schema.ObjectClass, head bool) {
	want := func(name, value string) {
		if o.value(name) == "" {
			o.add(name, value)
		}
	}
	if !head {
		want("instanceType", "4")
	}
	if class.Structural().Hidden {
		want("showInAdvancedViewOnly", "TRUE")
	}
	if class.Has("user") {
		typ := adproto.AccountUser
		if class.Has("computer") {
			typ = adproto.AccountMachine
		}
		want("sAMAccountType", strconv.Itoa(int(typ)))
		want("accountExpires", "9223372036854775807")
		for _, zero := range []string{"badPwdCount", "badPasswordTime", "codePage", "countryCode", "lastLogoff", "lastLogon", "logonCount", "pwdLastSet"} {
			want(zero, "0")
		}
	}
	if class.Has("group") {
		typ := adproto.AccountGroup
		if group, _ := strconv.Atoi(o.value("groupType")); adproto.GroupType(uint32(group))&adproto.GroupDomainLocal != 0 {
			typ = adproto.AccountAlias
		}
		want("sAMAccountType", strconv.Itoa(int(typ)))
	}
}

// guid is the objectGUID that the object is to have, or a new one.
func (b *builder) guid(o object) (dtyp.GUID, error) {
	if text := o.value("objectGUID"); text != "" {
		return dtyp.ParseGUID(text)
	}
	return dtyp.NewGUID(b.rand)
}

// setClass sets objectClass, objectCategory and the naming attribute.
func (b *builder) setClass(e *entry, class schema.ObjectClass) error {
	rdn, ok := b.d.Schema().Attribute(class.RDN())
	if !ok {
		return fmt.Errorf("no attribute %s", class.RDN())
	}
	e.RDN = rdn
	for _, name := range class.Names() {
		if err := b.put(e, "objectClass", []byte(name)); err != nil {
			return err
		}
	}
	category := adproto.NewDN("CN", class.Structural().DefaultCategory, b.d.Domain().SchemaDN())
	return b.put(e, "objectCategory", []byte(category.String()))
}

// set sets an attribute of the tables, whose value is text, or remembers the link.
func (b *builder) set(e *entry, a attribute) error {
	at, ok := b.d.Schema().Attribute(a.name)
	if !ok {
		return fmt.Errorf("the schema has no such attribute")
	}
	switch {
	case a.name == "objectClass" || a.name == "objectGUID" || a.name == "nTSecurityDescriptor":
		return nil
	case at.LinkID >= 0:
		b.links = append(b.links, link{attribute: at, source: e.GUID, target: a.value})
		return nil
	}
	value, err := b.encode(at, a.value)
	if err != nil {
		return err
	}
	return b.put(e, a.name, value)
}

// encode is a value in the form that LDAP carries. Octet strings are GUIDs and
// hexadecimal digits in the tables.
func (b *builder) encode(at *schema.Attribute, text string) ([]byte, error) {
	switch {
	case at.Syntax == schema.SID:
		sid, err := dtyp.ParseSID(text)
		return sid.Bytes(), err
	case at.Name == "invocationId":
		g, err := dtyp.ParseGUID(text)
		return g[:], err
	case at.Name == "logonHours":
		return hex.DecodeString(text)
	}
	return []byte(text), nil
}

func (b *builder) put(e *entry, name string, value []byte) error {
	at, ok := b.d.Schema().Attribute(name)
	if !ok {
		return fmt.Errorf("the schema has no attribute %s", name)
	}
	e.Values[at] = append(e.Values[at], value)
	return nil
}

// setDescriptor gives an entry its security descriptor.
func (b *builder) setDescriptor(e, parent *entry, o object, class *schema.Class) error {
	given := o.value("nTSecurityDescriptor")
	if o.value("adminCount") != "" {
		given = adminSDHolder
	}
	if o.dn.EqualFold(b.d.Domain().ConfigurationDN()) || class.Name == "domainDNS" {
		parent = nil // a naming context inherits nothing
	}
	what := descriptorOf{parent: parent, class: class, given: given}
	if b.descriptors[what] == nil {
		sd, err := b.descriptor(what, b.owner(o.dn))
		if err != nil {
			return fmt.Errorf("nTSecurityDescriptor: %w", err)
		}
		b.descriptors[what] = &sd
	}
	e.sd = b.descriptors[what]
	bytes, err := e.sd.Append(nil)
	if err != nil {
		return fmt.Errorf("nTSecurityDescriptor: %w", err)
	}
	return b.put(e, "nTSecurityDescriptor", bytes)
}

// refer makes references of the names in attributes that are no links, when all objects
// are known. What none of them is called stands for the schema partition, whose names
// never change.
func (b *builder) refer() error {
	for _, e := range b.entries {
		for a, values := range e.Values {
			if !rows.Refers(a) {
				continue
			}
			for i, v := range values {
				name := string(v)
				if a.Syntax != schema.DN {
					var err error
					if _, name, err = a.Syntax.SplitDN(v); err != nil {
						return fmt.Errorf("%s: %s: %w", e.Name, a.Name, err)
					}
				}
				if target := b.byName[key(name)]; target != nil {
					values[i] = rows.Reference(target.GUID, v)
				}
			}
		}
	}
	return nil
}

// owner is who owns an object: the administrators of its naming context.
func (b *builder) owner(dn adproto.DN) dtyp.SID {
	if dn.Within(b.d.Domain().ConfigurationDN()) {
		return b.domain.Child(dtyp.RIDEnterpriseAdmins)
	}
	return b.domain.Child(dtyp.RIDDomainAdmins)
}

func (b *builder) descriptor(of descriptorOf, owner dtyp.SID) (secdesc.SecurityDescriptor, error) {
	n := access.NewObject{Class: of.class.GUID, Owner: owner, Group: owner}
	if of.parent != nil {
		n.Parent = of.parent.sd
	}
	if of.given != "" {
		sd, err := secdesc.ParseSDDL(of.given, b.domain, b.domain)
		n.Given = &sd
		return access.Create(n), err
	}
	var err error
	n.Default, err = access.Default(of.class, b.domain)
	return access.Create(n), err
}

// link writes links whose objects are all stored. A name that is none of theirs is a
// fault of the tables.
func (b *builder) link(w *directory.Writer, links []link) error {
	for _, l := range links {
		target := b.byName[key(l.target)]
		if target == nil {
			return fmt.Errorf("%s: nothing made %s", l.attribute.Name, l.target)
		}
		if err := w.Link(l.attribute, rows.Link{Source: l.source, Target: target.GUID}); err != nil {
			return err
		}
	}
	return nil
}
