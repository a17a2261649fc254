package directory

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secret"
)

// Modify changes an object: [MS-ADTS] 3.1.1.5.3. All changes are made or none.
// Descriptors of what lies below an object whose own changed follow in transactions of
// their own, see [Directory.Inherit].
func (d *Directory) Modify(ctx context.Context, c Caller, q ModifyRequest) error {
	event := audit.Event{Kind: audit.KindModify, Object: q.DN}
	for _, change := range q.Changes {
		event.Attributes = append(event.Attributes, change.Name)
	}
	heirs := false
	err := d.perform(ctx, c, event, func(ch *change) error {
		err := ch.modify(q)
		heirs = ch.heirs
		return err
	})
	if err != nil || !heirs {
		return err
	}
	return d.inheritNow(ctx, c)
}

// modification is an object that is being changed.
type modification struct {
	draft
	request ModifyRequest
	dn      adproto.DN    // of the object, as it was
	object  access.Object // as it was
	// validated are the attributes that the caller may write only because what is
	// written is valid: see validate.
	validated map[*schema.Attribute]bool
	// descriptorTaken says that a change took the descriptor away: another must write one.
	descriptorTaken bool
	// spent is what was done so far of maxChangeWork.
	spent int
	// oldPassword and newPassword are the values of unicodePwd in the changes.
	oldPassword, newPassword secret.Bytes
}

// load reads the object of a change by its name.
func (c *change) load(name string) (*modification, error) {
	e, err := c.target(name)
	if err != nil {
		return nil, err
	}
	return c.loaded(e)
}

// loadGUID reads the object of a change.
func (c *change) loadGUID(g dtyp.GUID) (*modification, error) {
	e, err := c.Get(g)
	if err == nil && rows.Deleted(e) {
		err = fmt.Errorf("%s is deleted: %w", g, rows.ErrNotFound)
	}
	if err != nil {
		return nil, err
	}
	return c.loaded(e)
}

// loaded makes a modification of an object, and tells the audit its name.
func (c *change) loaded(e *rows.Entry) (*modification, error) {
	dn, err := c.DN(e)
	if err != nil {
		return nil, err
	}
	c.event.Object, c.event.GUID = dn.String(), e.GUID
	m := &modification{draft: draft{change: c, old: e, e: e.Clone()}, dn: dn, object: c.protected(e), validated: map[*schema.Attribute]bool{}}
	if m.class, err = c.classes(e); err != nil {
		return nil, err
	}
	return m, nil
}

// write stores the object.
func (m *modification) write() error {
	m.e.WhenChanged = max(m.now, m.e.WhenCreated)
	return m.Replace(m.e)
}

func (c *change) modify(q ModifyRequest) error {
	m, err := c.load(q.DN)
	if err != nil {
		return err
	}
	if len(q.Changes) > maxChanges {
		return tooMuch("more than %d changes", maxChanges)
	}
	m.request = q
	defer func() { m.oldPassword.Destroy(); m.newPassword.Destroy() }()
	attributes := make([]*schema.Attribute, len(q.Changes))
	for i, change := range q.Changes {
		if attributes[i], err = m.authorise(change); err != nil {
			return err
		}
	}
	for i, change := range q.Changes {
		if err := m.apply(attributes[i], change); err != nil {
			return err
		}
	}
	if m.descriptorTaken {
		return unwilling("an object has a descriptor")
	}
	for _, step := range []func() error{
		m.settleClasses, func() error { return m.check(attributes) }, m.validate,
		m.settle, func() error { return m.settlePassword(attributes) }, m.checkEnabled, m.write,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// The limits of a change, which holds up everybody else's while it is made.
const (
	// maxChanges is how many attributes one request changes, or one of them how often.
	maxChanges = 10_000
	// maxValuesStored is how many values an attribute has that is no link. AD has room for
	// some 1,300.
	maxValuesStored = 5_000
	// maxChangeWork is how many values all changes of a request may go through.
	maxChangeWork = 1_000_000
)

func tooMuch(format string, args ...any) error {
	return Errorf(AdminLimitExceeded, Win32AdminLimit, format, args...)
}

// spend counts the values that a change goes through: a request that changes one attribute
// again and again goes through all of them each time.
func (m *modification) spend(values int) error {
	if m.spent += values; m.spent > maxChangeWork {
		return tooMuch("the changes cost too much: make fewer at once")
	}
	return nil
}

// authorise finds the attribute of a change and reports whether the caller may write
// it. It comes before any value is looked at, so that nobody learns what they cannot
// read from the error that a change meets.
func (m *modification) authorise(change Change) (*schema.Attribute, error) {
	a, err := m.described(change.Name)
	if err != nil {
		return nil, err
	}
	if a == m.e.RDN || a.Name == "name" || a.Name == "distinguishedName" {
		return nil, Errorf(NotAllowedOnRDN, Win32OnRDN, "%s changes by a rename", a.Name)
	}
	if a != m.known.objectClass {
		if err := systemOnly(a); err != nil {
			return nil, err
		}
	}
	if err := m.checkRootKeyChange(a); err != nil {
		return nil, err
	}
	return a, m.mayWrite(a)
}

// mayWrite reports whether the caller may write an attribute: by the right to write
// it, or by a validated write. The descriptor and passwords have rights of their own.
func (m *modification) mayWrite(a *schema.Attribute) error {
	if a.Name == "nTSecurityDescriptor" || a.Name == "unicodePwd" {
		return nil
	}
	if m.caller.Controller || m.object.Writable(m.caller.Token, a) {
		return nil
	}
	if slices.ContainsFunc(validatedWrites(a), func(right dtyp.GUID) bool { return m.object.Validates(m.caller.Token, right) }) {
		m.validated[a] = true
		return nil
	}
	return m.require(false, "the right to write %s", a.Name)
}

// validatedWrites are the rights by any of which an attribute may be written if what is
// written is valid: [MS-ADTS] 5.1.3.2.2. That of dNSHostName, which every machine has, does
// not stand for msDS-AdditionalDnsHostName, although that is of the property set with the
// same GUID: SPNs follow from those names, and nothing ties them to the machine.
func validatedWrites(a *schema.Attribute) []dtyp.GUID {
	switch a.Name {
	case "servicePrincipalName":
		return []dtyp.GUID{writeSPN}
	case "dNSHostName":
		return []dtyp.GUID{writeDNSHostName}
	case "msDS-AdditionalDnsHostName":
		return []dtyp.GUID{writeAdditionalNames}
	case "member":
		return []dtyp.GUID{writeSelfMembership}
	}
	return nil
}

// apply makes one change, in the entry or, for links, in the store.
func (m *modification) apply(a *schema.Attribute, change Change) error {
	switch {
	case a.Name == "unicodePwd":
		return m.applyPassword(change)
	case a.Name == "nTSecurityDescriptor":
		if len(change.Values) != 1 {
			return unwilling("an object has one descriptor")
		}
		if change.Op == ChangeDelete {
			return m.takeDescriptor(change.Values[0])
		}
		m.descriptorTaken = false
		return m.writeDescriptor(change.Values[0])
	case a.ForwardLink():
		return m.applyLinks(a, change)
	}
	if err := m.spend(len(m.e.Values[a]) + len(change.Values)); err != nil {
		return err
	}
	switch change.Op {
	case ChangeAdd:
		return m.addValues(a, change.Values)
	case ChangeDelete:
		return m.deleteValues(a, change.Values)
	case ChangeReplace:
		return m.replaceValues(a, change.Values)
	}
	return unwilling("a change is an add, a delete or a replace")
}

func (m *modification) addValues(a *schema.Attribute, given [][]byte) error {
	values, err := m.values(a, given)
	if err != nil {
		return err
	}
	has := keysOf(a, m.e.Values[a])
	for _, v := range values {
		key, err := keyOf(a, v)
		if err != nil {
			return err
		}
		if has[key] && m.request.Permissive {
			continue
		}
		if has[key] || a.SingleValued && len(m.e.Values[a]) > 0 {
			return Errorf(AttributeOrValueExists, Win32ValueExists, "%s has the value already, or has one and no room for two", a.Name)
		}
		m.e.Values[a] = append(m.e.Values[a], v)
	}
	if len(m.e.Values[a]) > maxValuesStored {
		return tooMuch("%s has %d values at most", a.Name, maxValuesStored)
	}
	return nil
}

func (m *modification) deleteValues(a *schema.Attribute, given [][]byte) error {
	missing := Errorf(NoSuchAttribute, Win32NoSuchAttribute, "%s has no such value", a.Name)
	if len(given) == 0 {
		if len(m.e.Values[a]) == 0 && !m.request.Permissive {
			return missing
		}
		delete(m.e.Values, a)
		return nil
	}
	has := keysOf(a, m.e.Values[a])
	for _, v := range given {
		key, err := m.keyOfGiven(a, v)
		if err != nil {
			return err
		}
		if !has[key] && !m.request.Permissive {
			return missing
		}
		delete(has, key)
	}
	m.set(m.e, a.Name, slices.DeleteFunc(m.e.Values[a], func(v []byte) bool {
		key, err := keyOf(a, v)
		return err == nil && !has[key]
	})...)
	return nil
}

func (m *modification) replaceValues(a *schema.Attribute, given [][]byte) error {
	if len(given) == 0 {
		delete(m.e.Values, a)
		return nil
	}
	values, err := m.values(a, given)
	if err == nil {
		m.e.Values[a] = values
	}
	return err
}

// applyLinks changes links.
func (m *modification) applyLinks(a *schema.Attribute, change Change) error {
	if m.validated[a] {
		self, err := m.onlySelf(a, change.Values)
		if err != nil {
			return err
		}
		if err := m.require(self && change.Op != ChangeReplace, "the right to write %s of others", a.Name); err != nil {
			return err
		}
	}
	switch change.Op {
	case ChangeAdd:
		values, err := m.values(a, change.Values)
		if err != nil {
			return err
		}
		return m.addLinks(a, values, m.request.Permissive)
	case ChangeDelete:
		return m.removeLinks(a, change.Values, m.request.Permissive)
	case ChangeReplace:
		return m.replaceLinks(a, change.Values)
	}
	return unwilling("a change is an add, a delete or a replace")
}

// applyPassword keeps what a change says of unicodePwd: a value that is deleted is the
// old password, one that is added or replaces is the new ([MS-ADTS] 3.1.1.3.1.5.1).
func (m *modification) applyPassword(change Change) error {
	if err := m.checkPassword(); err != nil {
		return err
	}
	if len(change.Values) != 1 {
		return unwilling("unicodePwd is changed by one value at a time")
	}
	p, err := unquote(change.Values[0])
	if err != nil {
		return err
	}
	kept := &m.newPassword
	if change.Op == ChangeDelete {
		kept = &m.oldPassword
	}
	if !kept.IsZero() {
		return unwilling("unicodePwd is changed once in a request")
	}
	*kept = p
	return m.mayPassword(m.object, change.Op != ChangeReplace)
}

// settlePassword sets the password that the changes brought: a replacement is a reset,
// a deletion with an addition a change. attributes are those of the changes.
func (m *modification) settlePassword(attributes []*schema.Attribute) error {
	changing, resetting := false, false
	for i, change := range m.request.Changes {
		if attributes[i].Name == "unicodePwd" {
			changing = changing || change.Op != ChangeReplace
			resetting = resetting || change.Op == ChangeReplace
		}
	}
	switch {
	case resetting && !changing:
		return m.setPassword(NewPassword{Password: m.newPassword})
	case changing && !resetting && !m.oldPassword.IsZero() && !m.newPassword.IsZero():
		return m.setPassword(NewPassword{Password: m.newPassword, Old: m.oldPassword, Change: true})
	case changing || resetting:
		return unwilling("a password is replaced, or the old one deleted and the new one added")
	}
	return nil
}

// settleClasses judges objectClass: auxiliary classes come and go, an object's own
// class stays ([MS-ADTS] 3.1.1.5.3.5).
func (m *modification) settleClasses() error {
	if !m.changed("objectClass") {
		return nil
	}
	class, err := m.classesOf(m.e.Values[m.known.objectClass])
	if err != nil || class.Structural() != m.class.Structural() {
		return &Error{Code: ObjectClassModsProhibited, Win32: Win32ClassMods, Message: "an object stays of its class", Err: err}
	}
	m.class = class
	m.set(m.e, "objectClass", texts(class.Names())...)
	return nil
}

func (m *modification) classesOf(values [][]byte) (schema.ObjectClass, error) {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	return m.cfg.Schema.Expand(names...)
}

// check reports attributes that the object's classes do not allow, or demand and that
// are gone.
func (m *modification) check(changed []*schema.Attribute) error {
	must := m.class.Must()
	for _, a := range changed {
		has := len(m.e.Values[a]) > 0 || a.ForwardLink()
		switch {
		case has && !m.class.Allows(a):
			return Errorf(ObjectClassViolation, Win32ClassViolation, "a %s cannot have %s", m.class.Structural().Name, a.Name)
		case !has && !a.Secret() && slices.ContainsFunc(must, func(n string) bool { return strings.EqualFold(n, a.Name) }):
			return Errorf(ObjectClassViolation, Win32ClassViolation, "a %s must have %s", m.class.Structural().Name, a.Name)
		}
	}
	if !m.changed("objectClass") {
		return nil
	}
	return m.class.CheckPresent(append(m.present(), m.e.RDN))
}

// present are the attributes that the entry has.
func (m *modification) present() (present []*schema.Attribute) {
	for a := range m.e.Values {
		present = append(present, a)
	}
	return present
}

// validate judges what the caller may write only if it is valid: [MS-ADTS]
// 3.1.1.5.3.1.1. Links were judged when they were written. The code is the one that Samba
// gives, by tests that its authors run against Windows.
func (m *modification) validate() error {
	for a := range m.validated {
		ok, err := true, error(nil)
		switch a.Name {
		case "servicePrincipalName":
			ok = m.validSPNs(m.added(a.Name))
		case "dNSHostName":
			ok, err = m.validDNSHostName(m.added(a.Name))
		case "msDS-AdditionalDnsHostName":
			ok, err = m.validAdditionalNames(m.added(a.Name))
		}
		if err == nil && !ok {
			err = constraint("%s is not this machine's own: that takes the right to write the attribute", a.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
