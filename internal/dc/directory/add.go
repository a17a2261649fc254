package directory

import (
	"context"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

// Add makes an object: [MS-ADTS] 3.1.1.5.2. The most specific class suffices in
// objectClass, and what the class demands and the directory knows is filled in.
func (d *Directory) Add(ctx context.Context, c Caller, q AddRequest) error {
	event := audit.Event{Kind: audit.KindAdd, Object: q.DN, Attributes: attributeNames(q.Attributes)}
	return d.perform(ctx, c, event, func(ch *change) error { return ch.add(q) })
}

// addition is an object that is being made.
type addition struct {
	draft
	dn    adproto.DN
	above access.Object // the parent
	// byQuota says that the caller makes it by ms-DS-MachineAccountQuota.
	byQuota bool

	// What the request has and is kept elsewhere than in the entry.
	given    *secdesc.SecurityDescriptor
	password secret.Bytes
	// mustChange says that the password is to be changed at the first logon.
	mustChange bool
	rootKey    secret.Bytes
	links      []Change
}

func (c *change) add(q AddRequest) error {
	a, err := c.newAddition(q)
	if err != nil {
		return err
	}
	defer a.password.Destroy()
	for _, step := range []func() error{
		a.authorise, func() error { return a.take(q.Attributes) }, a.complete, a.settle,
		a.keep, a.describe, a.check, func() error { return a.Insert(a.e) }, a.linkAll,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// newAddition reads the name and the classes of the new object.
func (c *change) newAddition(q AddRequest) (*addition, error) {
	dn, err := adproto.ParseDN(q.DN)
	if err != nil || len(dn) == 0 || len(dn[0]) != 1 {
		return nil, &Error{Code: InvalidDNSyntax, Win32: Win32InvalidDN, Message: "a name that is no distinguished name", Err: err}
	}
	parent, err := c.target(dn.Parent().String())
	if err != nil {
		return nil, err
	}
	a := &addition{draft: draft{change: c}, dn: dn, above: c.protected(parent)}
	if a.class, err = c.requestedClass(q.Attributes); err != nil {
		return nil, err
	}
	parentClass, err := c.classes(parent)
	if err != nil {
		return nil, err
	}
	if err := c.cfg.Schema.CheckClasses(a.class, parentClass, dn[0][0].Type); err != nil {
		return nil, err
	}
	g, err := dtyp.NewGUID(c.cfg.Rand)
	if err != nil {
		return nil, err
	}
	a.e = &rows.Entry{GUID: g, Parent: parent.GUID, RDN: c.mustAttribute(dn[0][0].Type), Name: dn[0][0].Value,
		WhenCreated: c.now, WhenChanged: c.now, Values: map[*schema.Attribute][][]byte{}}
	if err := checkName(a.e); err != nil {
		return nil, err
	}
	c.event.GUID = g
	return a, nil
}

// checkName judges the value that names an object.
func checkName(e *rows.Entry) error {
	if err := e.RDN.Check([]byte(e.Name)); err != nil {
		return &Error{Code: NamingViolation, Win32: Win32Naming, Message: "the name of the object is malformed or too long", Err: err}
	}
	if strings.ContainsRune(e.Name, '\n') || strings.ContainsRune(e.Name, 0) {
		return Errorf(NamingViolation, Win32Naming, "names of deleted objects are the directory's")
	}
	return nil
}

// requestedClass is what objectClass says.
func (c *change) requestedClass(attributes []Attribute) (schema.ObjectClass, error) {
	var names []string
	for _, at := range attributes {
		if a, err := c.described(at.Name); err == nil && a == c.known.objectClass {
			for _, v := range at.Values {
				names = append(names, string(v))
			}
		}
	}
	return c.cfg.Schema.Expand(names...)
}

// authorise reports whether the caller may make an object of the class there: by a
// right to create it, or, for computers, by the quota that the domain gives everybody.
func (a *addition) authorise() error {
	if a.caller.Controller || a.above.Creates(a.caller.Token, a.class.Structural().GUID) {
		return nil
	}
	ok, err := a.withinQuota()
	if err != nil {
		return err
	}
	a.byQuota = ok
	return a.require(ok, "the right to create a %s there", a.class.Structural().Name)
}

// withinQuota reports whether the caller may make one more computer without the right
// to: as many as ms-DS-MachineAccountQuota says, 0 unless somebody changed it, in the
// container of computers ([MS-ADTS] 3.1.1.5.2.1).
func (a *addition) withinQuota() (bool, error) {
	home := adproto.NewDN("CN", "Computers", a.domain.DN())
	if a.class.Structural().Name != "computer" || !a.dn.Parent().EqualFold(home) {
		return false, nil
	}
	head, err := a.head()
	if err != nil {
		return false, err
	}
	quota, _ := a.number(head, "ms-DS-MachineAccountQuota")
	if quota <= 0 {
		return false, nil
	}
	var made int64
	for _, err := range a.Find(a.mustAttribute("mS-DS-CreatorSID"), a.caller.SID.Bytes()) {
		if err != nil {
			return false, err
		}
		made++
	}
	return made < quota, nil
}

// take reads the attributes of the request.
func (a *addition) take(attributes []Attribute) error {
	seen := map[*schema.Attribute]bool{}
	for _, at := range attributes {
		known, err := a.described(at.Name)
		if err != nil {
			return err
		}
		if seen[known] {
			return Errorf(AttributeOrValueExists, Win32ValueExists, "%s stands in the request twice", known.Name)
		}
		seen[known] = true
		if err := a.takeOne(known, at.Values); err != nil {
			return err
		}
	}
	return nil
}

// takeOne reads one attribute. What AD tolerates in an add although it follows from
// the rest is dropped: name, distinguishedName, instanceType.
func (a *addition) takeOne(at *schema.Attribute, values [][]byte) error {
	switch {
	case at == a.known.objectClass:
		a.set(a.e, "objectClass", texts(a.class.Names())...)
		return nil
	case at == a.e.RDN || at.Name == "name":
		return a.sameName(at, values)
	case at.Name == "distinguishedName" || at.Name == "instanceType":
		return nil
	case at.Name == "msDS-ManagedPasswordInterval":
	default:
		if err := systemOnly(at); err != nil {
			return err
		}
	}
	if a.byQuota && !quotaAllows(at) {
		return a.require(false, "%s of a computer that is made by the quota", at.Name)
	}
	values, err := a.values(at, values)
	if err != nil {
		return err
	}
	switch {
	case at.Name == "nTSecurityDescriptor":
		return a.takeDescriptor(values[0])
	case at.Name == "unicodePwd":
		a.password, err = unquote(values[0])
		return err
	case at == a.known.pwdLastSet:
		return a.takePasswordTime(string(values[0]))
	case at == a.known.rootKeyData:
		a.rootKey = secret.Copy(values[0])
	case at.ForwardLink():
		a.links = append(a.links, Change{Op: ChangeAdd, Attribute: Attribute{Name: at.Name, Values: values}})
	default:
		a.e.Values[at] = values
	}
	return nil
}

// takePasswordTime reads pwdLastSet, of which a client sets no other values than these:
// [MS-SAMR] 3.1.1.8.8.
func (a *addition) takePasswordTime(value string) error {
	switch value {
	case "0":
		a.mustChange = true
	case "-1":
		a.setNumber("pwdLastSet", int64(a.now))
	default:
		return unwilling("pwdLastSet is set to 0 or -1")
	}
	return nil
}

func texts(names []string) [][]byte {
	out := make([][]byte, len(names))
	for i, n := range names {
		out[i] = []byte(n)
	}
	return out
}

// sameName refuses a naming attribute that says something else than the name.
func (a *addition) sameName(at *schema.Attribute, values [][]byte) error {
	if len(values) != 1 || !strings.EqualFold(string(values[0]), a.e.Name) {
		return Errorf(NamingViolation, Win32Naming, "%s is not what the object is called", at.Name)
	}
	return nil
}

// quotaAllows reports whether an attribute may be given to a computer that is made by
// the quota: [MS-ADTS] 3.1.1.5.2.2.
func quotaAllows(at *schema.Attribute) bool {
	switch at.Name {
	case "sAMAccountName", "dNSHostName", "servicePrincipalName", "userAccountControl", "unicodePwd",
		"msDS-SupportedEncryptionTypes", "operatingSystem", "operatingSystemVersion", "operatingSystemServicePack", "displayName", "description":
		return true
	}
	return false
}

// takeDescriptor reads the descriptor that the creator gives the object.
func (a *addition) takeDescriptor(value []byte) error {
	sd, err := secdesc.Parse(value)
	if err != nil {
		return err
	}
	if !sd.Owner.IsZero() {
		if err := a.mayOwn(sd.Owner); err != nil {
			return err
		}
	}
	if sd.SACL != nil && !a.isAdministrator() {
		return a.require(false, "the audit list of the object")
	}
	a.given = &sd
	a.noteReaders()
	return nil
}

// complete fills in what the directory knows.
func (a *addition) complete() error {
	a.set(a.e, "instanceType", []byte(instanceTypeWritable))
	category := adproto.NewDN("CN", a.class.Structural().DefaultCategory, a.domain.SchemaDN())
	a.setDefault("objectCategory", category.String())
	if a.class.Structural().Hidden {
		a.setDefault("showInAdvancedViewOnly", "TRUE")
	}
	if !a.class.Has("securityPrincipal") {
		return nil
	}
	if a.byQuota {
		a.set(a.e, "mS-DS-CreatorSID", a.caller.SID.Bytes())
		if err := a.checkQuotaValues(); err != nil {
			return err
		}
	}
	return a.principalDefaults()
}

// checkQuotaValues holds who makes a computer by the quota to the names that the
// computer could write itself.
func (a *addition) checkQuotaValues() error {
	dns, err := a.validDNSHostName(a.e.Values[a.mustAttribute("dNSHostName")])
	if err != nil {
		return err
	}
	ok := dns && a.validSPNs(a.e.Values[a.mustAttribute("servicePrincipalName")])
	return a.require(ok, "names of another host for a computer that is made by the quota")
}

// keep writes what lies beside the entry: a gMSA's timeline, a root key, a password.
func (a *addition) keep() error {
	switch {
	case a.isGMSA():
		if err := a.createTimeline(); err != nil {
			return err
		}
	case a.isRootKey():
		if err := a.storeRootKey(); err != nil {
			return err
		}
	}
	if a.password.Len() > 0 {
		if err := a.setPassword(NewPassword{Password: a.password, Initial: true}); err != nil {
			return err
		}
		if a.mustChange {
			a.setNumber("pwdLastSet", 0)
		}
	}
	return a.checkEnabled()
}

// describe gives the object its descriptor.
func (a *addition) describe() error {
	class := a.class.Structural()
	standard, err := access.Default(class, a.domain.SID)
	if err != nil {
		return err
	}
	owner, group := a.creator(a.dn)
	sd := access.Create(access.NewObject{Parent: a.above.SD, Class: class.GUID, Given: a.given, Default: standard, Owner: owner, Group: group})
	if a.byQuota {
		// What the class grants its creator is the caller's, but not to own it: an owner
		// could rewrite the descriptor.
		sd.Owner = a.domain.SID.Child(dtyp.RIDDomainAdmins)
	}
	b, err := sd.Append(nil)
	if err != nil {
		return &Error{Code: ConstraintViolation, Win32: Win32Constraint, Message: "the descriptor is too large", Err: err}
	}
	a.set(a.e, "nTSecurityDescriptor", b)
	return nil
}

// check reports what the classes demand or do not allow.
func (a *addition) check() error {
	present := []*schema.Attribute{a.e.RDN}
	for at := range a.e.Values {
		present = append(present, at)
	}
	for _, l := range a.links {
		present = append(present, a.mustAttribute(l.Name))
	}
	if a.isRootKey() {
		present = append(present, a.known.rootKeyData)
	}
	return a.class.CheckPresent(present)
}

// linkAll writes the links of the new object.
func (a *addition) linkAll() error {
	for _, l := range a.links {
		if err := a.addLinks(a.mustAttribute(l.Name), l.Values, false); err != nil {
			return err
		}
	}
	return nil
}
