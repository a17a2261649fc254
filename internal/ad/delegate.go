package ad

import (
	"context"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/secdesc"
)

// Delegation is what was granted.
type Delegation struct {
	Container string // distinguished name
	To        Object
	Changed   bool // false: it had been granted before
}

// Delegate lets a principal create and remove gMSAs in a container, Managed Service
// Accounts unless path is given, and do as it likes with those in it. It edits the
// container's descriptor in place: entries of others stay where they are.
func (s *Session) Delegate(ctx context.Context, principal, path string) (Delegation, error) {
	var done Delegation
	err := s.at(ctx, locate.Writable, func(ctx context.Context, d *desk) error {
		to, err := d.lookup(ctx, principal)
		if err != nil {
			return err
		}
		parent, err := d.container(ctx, serviceContainer, path)
		if err != nil {
			return err
		}
		done = Delegation{Container: parent.String(), To: to}
		class, err := d.classGUID(ctx, "msDS-GroupManagedServiceAccount")
		if err != nil {
			return err
		}
		return unlessChanged(ctx, func() error {
			done.Changed, err = d.editDACL(ctx, parent.String(), delegated(class, to.SID))
			return err
		})
	})
	return done, err
}

// delegated lets a principal make and remove objects of a class, and do as it likes with
// them.
func delegated(class dtyp.GUID, to dtyp.SID) func(*secdesc.ACL) bool {
	return func(l *secdesc.ACL) bool {
		return grant(l,
			secdesc.ACE{Type: secdesc.AllowObject, Mask: secdesc.CreateChild | secdesc.DeleteChild, ObjectType: &class, SID: to},
			secdesc.ACE{
				Type: secdesc.AllowObject, Flags: secdesc.ContainerInherit | secdesc.InheritOnly, Mask: secdesc.FullControl,
				InheritedObjectType: &class, SID: to,
			})
	}
}

// grant adds the entries that are not there yet.
func grant(l *secdesc.ACL, entries ...secdesc.ACE) (changed bool) {
	for _, a := range entries {
		changed = l.Insert(a) || changed
	}
	return changed
}

// classGUID is the schemaIDGUID of a class.
func (d *desk) classGUID(ctx context.Context, class string) (dtyp.GUID, error) {
	found, err := d.Search(ctx, ldapc.Search{
		Base: d.names.Schema.String(), Scope: ldapc.OneLevel, Attrs: []string{"schemaIDGUID"}, Limit: 1,
		Filter: adproto.And(adproto.Equal("objectClass", "classSchema"), adproto.Equal("lDAPDisplayName", class)),
	})
	if err != nil {
		return dtyp.GUID{}, err
	}
	if len(found) != 1 {
		return dtyp.GUID{}, fmt.Errorf("class %s: %w in the schema", class, ldapc.ErrNoSuchObject)
	}
	r := attrs{e: found[0]}
	return r.guid("schemaIDGUID"), r.err
}

// editDACL reads an object's access control list, edits it, and writes it back if
// edit says that it changed. It fails with a conflict when somebody else was faster.
func (d *desk) editDACL(ctx context.Context, dn string, edit func(*secdesc.ACL) bool) (bool, error) {
	const attr = "nTSecurityDescriptor"
	flags := &ldap.ControlMicrosoftSDFlags{Criticality: true, ControlValue: adproto.SDDACL}
	found, err := d.Search(ctx, ldapc.Search{Base: dn, Scope: ldapc.Base, Attrs: []string{attr}, Controls: []ldap.Control{flags}})
	if err != nil {
		return false, err
	}
	var sd *secdesc.SecurityDescriptor
	w := swap{attr: attr, controls: []ldap.Control{flags}}
	if len(found) == 1 {
		r := attrs{e: found[0]}
		w.old = r.string(attr)
		if sd = r.securityDescriptor(attr); r.err != nil {
			return false, fmt.Errorf("%s: %w", dn, r.err)
		}
	}
	if sd == nil || sd.DACL == nil {
		return false, &AccessError{Right: "read the permissions", Object: dn, Err: ldapc.ErrAccess}
	}
	if !edit(sd.DACL) {
		return false, nil
	}
	b, err := sd.Append(nil)
	if err != nil {
		return false, err
	}
	w.value = string(b)
	err = d.swap(ctx, dn, w)
	return err == nil, denied(err, "change the permissions", dn)
}
