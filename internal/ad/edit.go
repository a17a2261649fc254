package ad

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// desk is the place where one operation of an administrator is done: one
// controller, so that each step sees what the step before it wrote.
type desk struct {
	*ldapc.Conn
	s          *Session
	controller locate.Controller
	names      naming
}

// naming are the naming contexts of a controller, and who made it.
type naming struct {
	Base, Config, Schema, Root adproto.DN
	Host                       string // DNS name of the controller
	Account                    string // distinguished name of the controller's computer account
	Vendor                     string
}

// at does an operation at a controller that meets need: the first one that can be
// reached. Nothing is done twice: once the operation has begun, its errors are
// the caller's.
func (s *Session) at(ctx context.Context, need locate.Need, do func(ctx context.Context, d *desk) error) error {
	list, err := s.controllers(ctx, need, Hint{})
	if err != nil {
		return err
	}
	var errs []error
	for _, c := range list {
		d, release, err := s.sit(ctx, c)
		if err == nil {
			defer release()
			return do(ctx, d)
		}
		if ctx.Err() != nil || errors.Is(err, ErrIdentity) || errors.Is(err, errClosed) {
			return err
		}
		if silent(err) {
			s.d.locator.Failed(c)
		}
		errs = append(errs, fmt.Errorf("%v: %w", c, err))
	}
	if len(errs) == 1 {
		return errs[0]
	}
	return &locate.NoControllerError{Domain: s.d.Name(), Need: need, Causes: errs}
}

// sit opens the desk at one controller. A kept connection that turns out to be
// dead is replaced once.
func (s *Session) sit(ctx context.Context, c locate.Controller) (d *desk, release func(), err error) {
	for {
		conn, kept, err := s.conn(ctx, c)
		if err != nil {
			return nil, nil, err
		}
		names, err := readNaming(ctx, conn.Conn)
		if err == nil {
			return &desk{Conn: conn.Conn, s: s, controller: c, names: names}, func() { s.release(conn) }, nil
		}
		s.release(conn)
		if !unanswered(err) || ctx.Err() != nil {
			return nil, nil, err
		}
		s.drop(c)
		if !kept {
			return nil, nil, err
		}
	}
}

func readNaming(ctx context.Context, conn *ldapc.Conn) (naming, error) {
	e, err := conn.Read(ctx, "", "defaultNamingContext", "configurationNamingContext", "schemaNamingContext", "rootDomainNamingContext",
		"dnsHostName", "serverName", "vendorName")
	if err != nil {
		return naming{}, err
	}
	r := attrs{e: e}
	n := naming{Host: r.string("dnsHostName"), Vendor: r.string("vendorName")}
	for name, dn := range map[string]*adproto.DN{
		"defaultNamingContext": &n.Base, "configurationNamingContext": &n.Config, "schemaNamingContext": &n.Schema, "rootDomainNamingContext": &n.Root,
	} {
		if *dn, err = adproto.ParseDN(r.string(name)); err != nil {
			return naming{}, fmt.Errorf("rootDSE: %s: %w", name, err)
		}
	}
	n.Account = r.string("serverName")
	return n, nil
}

// ChangeOp is what a [Change] does to an attribute.
type ChangeOp uint

// The operations, with LDAP's numbers: RFC 4511, Section 4.6.
const (
	AddValues     ChangeOp = ldap.AddAttribute
	RemoveValues  ChangeOp = ldap.DeleteAttribute // without values: all
	ReplaceValues ChangeOp = ldap.ReplaceAttribute
)

// Change is one change of one attribute. Values hold any bytes.
type Change struct {
	Op     ChangeOp
	Attr   string
	Values []string
}

// Replace is the change that leaves an attribute with these values, none of
// them meaning that it has none.
func Replace(attr string, values ...string) Change { return Change{ReplaceValues, attr, values} }

// swap puts a value in the place of the one that was read, of an attribute that has one at
// most.
type swap struct {
	attr       string
	old, value string // old is empty where there was none
	// controls are those of the search that read it, which say what the value is.
	controls []ldap.Control
}

// changes are a delete of the one value and an add of the other. The request that has
// them fails with a conflict if the first is no longer there: of two who edit one value,
// the second sees what the first wrote.
func (w swap) changes() []Change {
	add := Change{AddValues, w.attr, []string{w.value}}
	switch w.old {
	case w.value:
		return nil
	case "":
		return []Change{add}
	}
	return []Change{{RemoveValues, w.attr, []string{w.old}}, add}
}

// swap makes the changes together with others of the object. Not every controller deletes
// a descriptor by its value: Samba does not for nTSecurityDescriptor, and of Windows no
// document says so. It is then replaced as soon as it was seen to be the old one still,
// which leaves the time of a round trip in which others can write unseen.
func (d *desk) swap(ctx context.Context, dn string, w swap, others ...Change) error {
	err := d.modify(ctx, dn, append(w.changes(), others...), w.controls...)
	if w.old == "" || w.old == w.value || !isConflict(err) && !refusesDelete(err) {
		return err
	}
	found, readErr := d.Search(ctx, ldapc.Search{Base: dn, Scope: ldapc.Base, Attrs: []string{w.attr}, Controls: w.controls})
	if readErr != nil {
		return readErr
	}
	if len(found) != 1 || found[0].GetEqualFoldAttributeValue(w.attr) != w.old {
		return fmt.Errorf("%w: %w", errConflict, err)
	}
	return d.modify(ctx, dn, append(others, Replace(w.attr, w.value)), w.controls...)
}

// refusesDelete reports whether an error may mean that a controller deletes no value of
// such an attribute by what it is.
func refusesDelete(err error) bool {
	e, ok := errors.AsType[*ldapc.Error](err)
	return ok && (e.Code == ldap.LDAPResultUnwillingToPerform || e.Code == ldap.LDAPResultInappropriateMatching || e.Code == ldap.LDAPResultConstraintViolation)
}

// errConflict: the value of a [swap] was not what had been read.
var errConflict = errors.New("somebody else has changed it")

// conflictTries bounds how often an edit is begun anew. In each round one of those
// who compete for a value gets through.
const conflictTries = 32

// unlessChanged does an edit that reads, and writes by [desk.swap], again for as long as
// others are faster.
func unlessChanged(ctx context.Context, edit func() error) error {
	for try := 1; ; try++ {
		err := edit()
		if !isConflict(err) || ctx.Err() != nil {
			return err
		}
		if try == conflictTries {
			return fmt.Errorf("others change it all the time; nothing was changed here: %w", err)
		}
	}
}

// isConflict reports whether the value of a [swap] was no longer there
// (noSuchAttribute), or another was already where there was none
// (attributeOrValueExists).
func isConflict(err error) bool {
	if errors.Is(err, errConflict) {
		return true
	}
	e, ok := errors.AsType[*ldapc.Error](err)
	return ok && (e.Code == ldap.LDAPResultNoSuchAttribute || e.Code == ldap.LDAPResultAttributeOrValueExists)
}

// modify makes the changes in one request: all of them or none.
func (d *desk) modify(ctx context.Context, dn string, changes []Change, controls ...ldap.Control) error {
	if len(changes) == 0 {
		return nil
	}
	req := ldap.NewModifyRequest(dn, controls)
	for _, c := range changes {
		req.Changes = append(req.Changes, ldap.Change{Operation: uint(c.Op), Modification: ldap.PartialAttribute{Type: c.Attr, Vals: c.Values}})
	}
	return denied(unheard(d.Modify(ctx, req), dn, "changed"), "write the object's attributes", dn)
}

// add makes an object. Attributes without a value are left out.
func (d *desk) add(ctx context.Context, dn adproto.DN, attributes []Change) error {
	req := ldap.NewAddRequest(dn.String(), nil)
	for _, a := range attributes {
		if values := slices.DeleteFunc(slices.Clone(a.Values), func(v string) bool { return v == "" }); len(values) > 0 {
			req.Attribute(a.Attr, values)
		}
	}
	return unheard(d.Add(ctx, req), dn.String(), "made")
}

// remove deletes an object.
func (d *desk) remove(ctx context.Context, dn string) error {
	return denied(unheard(d.Delete(ctx, ldap.NewDelRequest(dn, nil)), dn, "deleted"), "delete the object", dn)
}

// StandsError is a failure that leaves something behind, and says what.
type StandsError struct {
	What string // "CN=web1,CN=Computers,DC=contoso,DC=com was made"
	Err  error
}

// Error says what stands first: that is what somebody has to deal with.
func (e *StandsError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap is the failure.
func (e *StandsError) Unwrap() error { return e.Err }

// stands says what was done before a failure.
func stands(err error, dn, done string) error {
	if err == nil {
		return nil
	}
	return &StandsError{What: dn + " was " + done + ", and then something failed", Err: err}
}

// unheard says of a change whose answer was lost that nobody knows whether it was made.
func unheard(err error, dn, done string) error {
	if !errors.Is(err, ldapc.ErrConnection) {
		return err
	}
	return &StandsError{What: "it is not known whether " + dn + " was " + done + ", for the controller's answer was lost", Err: err}
}

// AccessError is the directory's refusal, with the right that is missing.
type AccessError struct {
	Right  string // in words, such as "create msDS-GroupManagedServiceAccount objects"
	Object string // distinguished name of where the right is missing
	Grant  string // how it is granted; empty means that an administrator must
	Err    error
}

// Error names the right and the object.
func (e *AccessError) Error() string {
	return fmt.Sprintf("the right to %s is missing on %s: %v", e.Right, e.Object, e.Err)
}

// Unwrap is the directory's answer.
func (e *AccessError) Unwrap() error { return e.Err }

// Hint says who can grant the right.
func (e *AccessError) Hint() string {
	if e.Grant != "" {
		return e.Grant
	}
	return "ask as an administrator (-U NAME), or have the right granted on " + e.Object
}

// denied names the right when err is a refusal for want of one.
func denied(err error, right, object string) error {
	if !errors.Is(err, ldapc.ErrAccess) {
		return err
	}
	if e, ok := errors.AsType[*AccessError](err); ok {
		err = e.Err // whoever calls knows better which right it was
	}
	return &AccessError{Right: right, Object: object, Err: err}
}
