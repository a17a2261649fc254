package directory

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

// change is one transaction of a client's operation.
type change struct {
	*Writer
	caller Caller
	now    dtyp.Filetime
	// event is what the audit is told, completed as more is known, and kinds is what
	// the operation is beside the event's own kind.
	event audit.Event
	kinds []audit.Kind
	// partial says that the transaction prepares the operation, which others complete:
	// the audit is told of it only if it fails.
	partial bool
}

// perform does an operation of a client in one transaction, and tells the audit
// whether it succeeded or not. fn may run more than once.
func (d *Directory) perform(ctx context.Context, c Caller, event audit.Event, fn func(*change) error) error {
	last := &change{event: event}
	err := c.checkWriter()
	if err == nil {
		err = d.Update(ctx, func(w *Writer) error {
			last = &change{Writer: w, caller: c, now: dtyp.FiletimeOf(d.cfg.Now()), event: event}
			return fn(last)
		})
	}
	if err != nil || !last.partial {
		d.record(c, last, err)
	}
	if err != nil {
		return AsError(err)
	}
	return nil
}

// record tells the audit of an operation: one event of each kind that it is.
func (d *Directory) record(c Caller, ch *change, err error) {
	e := ch.event
	e.Time, e.SID, e.Name, e.From = d.cfg.Now(), c.SID, c.Name, c.From
	if err != nil {
		e.Error = AsError(err).Error()
	}
	for _, e.Kind = range append([]audit.Kind{ch.event.Kind}, ch.kinds...) {
		d.cfg.Audit.Record(e)
	}
}

// checkWriter refuses clients that have not authenticated, in the words that AD has
// for it.
func (c Caller) checkWriter() error {
	if c.Anonymous() {
		return Errorf(OperationsError, Win32NotAuthenticated, "a successful bind must be completed on the connection first")
	}
	return nil
}

// require fails with InsufficientAccessRights unless ok; the controller itself may do
// everything.
func (c *change) require(ok bool, format string, args ...any) error {
	if ok || c.caller.Controller {
		return nil
	}
	return Errorf(InsufficientAccessRights, Win32InsufficientRights, format, args...)
}

// live finds an object by its name in any form. Deleted objects are not found: nothing
// of them can be changed.
func (c *change) live(name string) (*rows.Entry, error) {
	g, err := c.ResolveTarget(name)
	if isNotFound(err) && c.inSchema(name) {
		return nil, unwilling("the schema is as it is, and nothing is added to it")
	}
	if err != nil {
		return nil, c.noSuchObject(g, err)
	}
	e, err := c.Get(g)
	if err != nil {
		return nil, err
	}
	if rows.Deleted(e) {
		return nil, c.noSuchObject(e.Parent, fmt.Errorf("%s is deleted: %w", e.GUID, rows.ErrNotFound))
	}
	return e, nil
}

// inSchema reports whether a name is of the schema partition, of which nothing is stored.
func (c *change) inSchema(name string) bool {
	dn, err := adproto.ParseDN(name)
	return err == nil && dn.Within(c.schemaDN)
}

// target is own for an object that the caller asks to change or to put something below.
// One that the caller cannot see is not there, as for a search: the error of a right that
// is missing would tell of it. What a value names is found by live alone, so that a member
// that was hidden can still be removed.
func (c *change) target(name string) (*rows.Entry, error) {
	e, err := c.own(name)
	if err != nil {
		return nil, err
	}
	seen, err := c.sees(e)
	if err == nil && !seen {
		err = c.noSuchObject(e.Parent, fmt.Errorf("%s cannot be seen: %w", e.GUID, rows.ErrNotFound))
	}
	return e, err
}

// sees reports whether the object is there for the caller, as session.visible does, in the
// state that this transaction has made.
func (c *change) sees(e *rows.Entry) (bool, error) {
	if c.caller.Controller {
		return true, nil
	}
	if !e.Parent.IsZero() {
		parent, err := c.Get(e.Parent)
		if err != nil {
			return false, err
		}
		if !c.protected(parent).Lists(c.caller.Token) {
			return false, nil
		}
	}
	o := c.newObject(e)
	readable := func(a *schema.Attribute) bool {
		return access.Object{SD: o.sd, Class: o.class, SID: o.sid}.Readable(c.caller.Token, a)
	}
	return readable(c.known.objectClass) || slices.ContainsFunc(o.stored, readable) ||
		readable(c.known.name) || readable(c.known.objectGUID), nil
}

// noSuchObject is the error of a name that nothing has; nearest is the object above
// it that exists, of which the client is told the nearest one that it can see.
func (c *change) noSuchObject(nearest dtyp.GUID, err error) error {
	if !errors.Is(err, rows.ErrNotFound) {
		return err
	}
	result := &Error{Code: NoSuchObject, Win32: Win32ObjectNotFound, Message: "no such object", Err: err}
	for range maxDepth {
		e, err := c.Get(nearest)
		if err != nil {
			break // there is none, or its absence is all that is known
		}
		if seen, err := c.sees(e); err == nil && seen {
			if dn, err := c.DN(e); err == nil {
				result.Matched = dn.String()
			}
			break
		}
		nearest = e.Parent
	}
	return result
}

// isNotFound reports whether an error says that there is no such object.
func isNotFound(err error) bool {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code == NoSuchObject
	}
	return errors.Is(err, rows.ErrNotFound)
}

// classes are the classes of an object.
func (r *Reader) classes(e *rows.Entry) (schema.ObjectClass, error) {
	var names []string
	for _, v := range e.Values[r.known.objectClass] {
		names = append(names, string(v))
	}
	class, err := r.cfg.Schema.Expand(names...)
	if err != nil {
		return class, fmt.Errorf("%w: object %s: %w", rows.ErrCorrupt, e.GUID, err)
	}
	return class, nil
}

// descriptor is the security descriptor of an object; one without grants nothing.
func (r *Reader) descriptor(e *rows.Entry) *secdesc.SecurityDescriptor {
	if b := r.value(e, "nTSecurityDescriptor"); b != nil {
		return r.cached.descriptor(b)
	}
	return nobodys
}

// protected is an object as access control sees it.
func (r *Reader) protected(e *rows.Entry) access.Object {
	o := r.newObject(e)
	return access.Object{SD: o.sd, Class: o.class, SID: o.sid}
}

// sid is the objectSid of an object, zero for none.
func (r *Reader) sid(e *rows.Entry) dtyp.SID {
	sid, err := dtyp.SIDFromBytes(r.value(e, "objectSid"))
	if err != nil {
		return dtyp.SID{}
	}
	return sid
}

// value is the first value of an attribute, nil for none.
func (r *Reader) value(e *rows.Entry, name string) []byte {
	if v := e.Values[r.mustAttribute(name)]; len(v) > 0 {
		return v[0]
	}
	return nil
}

// number is the value of an attribute that is a number, and whether there is one.
func (r *Reader) number(e *rows.Entry, name string) (int64, bool) {
	n, err := schema.ParseNumber(r.value(e, name), 64)
	return n, err == nil
}

// flag reports whether an attribute is TRUE.
func (r *Reader) flag(e *rows.Entry, name string) bool { return string(r.value(e, name)) == "TRUE" }

// mustAttribute is an attribute that the schema has: its names in this package are
// constants.
func (d *Directory) mustAttribute(name string) *schema.Attribute {
	a, ok := d.cfg.Schema.Attribute(name)
	if !ok {
		panic("directory: the schema has no attribute " + name)
	}
	return a
}

// set gives an attribute these values, or none.
func (d *Directory) set(e *rows.Entry, name string, values ...[]byte) {
	a := d.mustAttribute(name)
	if len(values) == 0 {
		delete(e.Values, a)
		return
	}
	e.Values[a] = values
}

// head is the object at the head of the domain.
func (c *change) head() (*rows.Entry, error) { return c.Get(c.domain.GUID) }

// Rights that are named by a GUID: [MS-ADTS] 5.1.3.2.1 and 5.1.3.2.2.
var (
	rightChangePassword   = mustGUID("ab721a53-1e2f-11d0-9819-00aa0040529b") // User-Change-Password
	rightResetPassword    = mustGUID("00299570-246d-11d0-a768-00aa006e0529") // User-Force-Change-Password
	rightPasswordNotReq   = mustGUID("280f369c-67c7-438e-ae98-1d46f3c6f541") // Update-Password-Not-Required-Bit
	rightUnexpirePassword = mustGUID("ccc2dc7d-a6ad-4a7a-8846-c04e3cc53501") // Unexpire-Password
	rightReversible       = mustGUID("05c74c5e-4deb-43b4-bd9f-86664c2a7fd5") // Enable-Per-User-Reversibly-Encrypted-Password
	writeSPN              = mustGUID("f3a64788-5306-11d1-a9c5-0000f80367c1") // Validated-SPN
	writeDNSHostName      = mustGUID("72e39547-7b18-11d1-adef-00c04fd8d5cd") // Validated-DNS-Host-Name
	writeAdditionalNames  = mustGUID("80863791-dbe9-4eb8-837e-7f0ab55d9ac7") // Validated-MS-DS-Additional-DNS-Host-Name
	writeSelfMembership   = mustGUID("bf9679c0-0de6-11d0-a285-00aa003049e2") // Self-Membership
)

func mustGUID(s string) dtyp.GUID {
	g, err := dtyp.ParseGUID(s)
	if err != nil {
		panic("directory: " + err.Error())
	}
	return g
}

// isAdministrator reports whether the caller is of the domain's administrators.
func (c *change) isAdministrator() bool {
	return c.caller.Controller || c.caller.has(c.domain.SID.Child(dtyp.RIDDomainAdmins)) || c.isEnterpriseAdministrator() ||
		c.caller.has(dtyp.BuiltinAdministrators)
}

func (c *change) isEnterpriseAdministrator() bool {
	return c.caller.Controller || c.caller.has(c.domain.SID.Child(dtyp.RIDEnterpriseAdmins))
}

// has reports whether the caller is sid or a member of it.
func (c Caller) has(sid dtyp.SID) bool {
	return slices.Contains(c.Token.SIDs, sid)
}

// unwilling is the error of what the directory does not do.
func unwilling(format string, args ...any) error {
	return Errorf(UnwillingToPerform, Win32Unwilling, format, args...)
}

// constraint is the error of a value that an attribute cannot have.
func constraint(format string, args ...any) error {
	return Errorf(ConstraintViolation, Win32Constraint, format, args...)
}
