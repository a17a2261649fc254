package directory

import (
	"bytes"
	"context"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/secdesc"
)

// ModifyDN renames or moves an object, with all below it: [MS-ADTS] 3.1.1.5.4.
// sAMAccountName stays as it is, and with it the salt of a gMSA's keys. What is moved
// inherits from its new parent, see [Directory.Inherit].
func (d *Directory) ModifyDN(ctx context.Context, c Caller, q ModifyDNRequest) error {
	event := audit.Event{Kind: audit.KindRename, Object: q.DN}
	heirs := false
	err := d.perform(ctx, c, event, func(ch *change) error {
		err := ch.modifyDN(q)
		heirs = ch.heirs
		return err
	})
	if err != nil || !heirs {
		return err
	}
	return d.inheritNow(ctx, c)
}

func (c *change) modifyDN(q ModifyDNRequest) error {
	m, err := c.load(q.DN)
	if err != nil {
		return err
	}
	if !q.DeleteOldRDN {
		return unwilling("an object has one name: the old one is to be deleted")
	}
	if err := m.rename(q.NewRDN); err != nil {
		return err
	}
	if q.NewSuperior == "" {
		return m.write()
	}
	parent, err := c.target(q.NewSuperior)
	if err != nil {
		return err
	}
	if parent.GUID == m.e.Parent {
		return m.write()
	}
	return m.move(parent)
}

// rename gives the object another name: [MS-ADTS] 3.1.1.5.4.1. It takes the rights to
// write the attributes in which the name stands.
func (m *modification) rename(rdn string) error {
	dn, err := adproto.ParseDN(rdn)
	if err != nil || len(dn) != 1 || len(dn[0]) != 1 {
		return &Error{Code: InvalidDNSyntax, Win32: Win32InvalidDN, Message: "a new name that is none", Err: err}
	}
	if a, ok := m.cfg.Schema.Attribute(dn[0][0].Type); !ok || a != m.e.RDN {
		return Errorf(NamingViolation, Win32Naming, "the name of a %s begins with %s=", m.class.Structural().Name, m.e.RDN.Name)
	}
	if m.e.Name == dn[0][0].Value {
		return nil
	}
	flags := m.systemFlags()
	switch {
	case m.e.Parent.IsZero() || m.isHead() || m.isRootKey():
		return unwilling("a %s stays called as it is", m.class.Structural().Name)
	case m.inConfiguration() && flags&flagConfigAllowRename == 0, !m.inConfiguration() && flags&flagDomainDisallowRename != 0:
		return unwilling("the object is protected from being renamed")
	}
	for _, name := range []string{m.e.RDN.Name, "name"} {
		if err := m.require(m.object.Writable(m.caller.Token, m.mustAttribute(name)), "the right to write %s", name); err != nil {
			return err
		}
	}
	m.e.Name = dn[0][0].Value
	return checkName(m.e)
}

// move brings the object below another parent: [MS-ADTS] 3.1.1.5.4.1. It takes the
// right to delete it where it is and to create it where it comes to.
func (m *modification) move(parent *rows.Entry) error {
	if err := m.movable(parent); err != nil {
		return err
	}
	old, err := m.parent()
	if err != nil {
		return err
	}
	if err := m.require(m.object.Deletes(m.caller.Token, old), "the right to take the object away from where it is"); err != nil {
		return err
	}
	above := m.protected(parent)
	if err := m.require(above.Creates(m.caller.Token, m.object.Class), "the right to create a %s there", m.class.Structural().Name); err != nil {
		return err
	}
	class, err := m.classes(parent)
	if err != nil {
		return err
	}
	if err := m.cfg.Schema.CheckClasses(m.class, class, m.e.RDN.Name); err != nil {
		return err
	}
	m.e.Parent = parent.GUID
	if err := m.inheritFrom(above.SD); err != nil {
		return err
	}
	return m.write()
}

// inheritFrom lets the object, and later what lies below it, inherit from its new
// parent.
func (m *modification) inheritFrom(parent *secdesc.SecurityDescriptor) error {
	b, err := access.Reinherit(*m.object.SD, parent, m.object.Class).Append(nil)
	if err != nil {
		return &Error{Code: ConstraintViolation, Win32: Win32Constraint, Message: "the descriptor is too large", Err: err}
	}
	if !bytes.Equal(b, m.value(m.e, "nTSecurityDescriptor")) {
		m.noteReaders()
	}
	m.set(m.e, "nTSecurityDescriptor", b)
	return m.inheritLater(m.e.GUID)
}

// movable refuses to move what has its place: heads of naming contexts, what the domain
// needs where it is, and anything into another naming context.
func (m *modification) movable(parent *rows.Entry) error {
	to, err := m.DN(parent)
	if err != nil {
		return err
	}
	flags := m.systemFlags()
	config := m.domain.ConfigurationDN()
	switch {
	case m.e.Parent.IsZero() || m.isHead() || m.isRootKey():
		return unwilling("the object stays where it is")
	case m.inConfiguration() != to.Within(config):
		return unwilling("an object stays in its naming context")
	case m.inConfiguration() && flags&flagConfigAllowMove == 0, !m.inConfiguration() && flags&flagDomainDisallowMove != 0:
		return unwilling("the object is protected from being moved")
	}
	return nil
}

// inConfiguration reports whether the object lies in the configuration naming context.
func (m *modification) inConfiguration() bool { return m.dn.Within(m.domain.ConfigurationDN()) }
