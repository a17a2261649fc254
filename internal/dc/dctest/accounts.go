package dctest

import (
	"crypto/rand"
	"maps"
	"strconv"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/access"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

// An Object is an object that a test puts straight into the directory, past the rules
// that clients are held to.
type Object struct {
	Class string // the leaf
	Name  string // sAMAccountName; the RDN is this without "$"
	// Password is in ASCII; empty for none.
	Password string
	// Values are more attributes, or others than the defaults.
	Values map[string][]string
	// ManagedDays is the password interval of a gMSA.
	ManagedDays int64
}

// Insert puts an object into CN=Users and returns its SID. It has the descriptor that an
// administrator's objects of its class have.
func (d *Domain) Insert(t testing.TB, o Object) dtyp.SID {
	t.Helper()
	var sid dtyp.SID
	err := d.Update(t.Context(), func(w *directory.Writer) (err error) {
		sid, err = d.insert(t, w, o)
		return err
	})
	if err != nil {
		t.Fatalf("insert %s: %v", o.Name, err)
	}
	return sid
}

func (d *Domain) insert(t testing.TB, w *directory.Writer, o Object) (dtyp.SID, error) {
	parent, err := w.Resolve(adproto.NewDN("CN", "Users", d.Domain().DN()))
	if err != nil {
		return dtyp.SID{}, err
	}
	guid, err := dtyp.NewGUID(rand.Reader)
	if err != nil {
		return dtyp.SID{}, err
	}
	sid, err := w.NextSID()
	if err != nil {
		return dtyp.SID{}, err
	}
	class, err := d.Schema().Expand(o.Class)
	if err != nil {
		return dtyp.SID{}, err
	}
	e := &rows.Entry{GUID: guid, Parent: parent, RDN: d.attribute(t, "cn"), Name: strings.TrimSuffix(o.Name, "$"),
		WhenCreated: dtyp.FiletimeOf(d.Now()), WhenChanged: dtyp.FiletimeOf(d.Now()), Values: map[*schema.Attribute][][]byte{}}
	for name, values := range d.defaults(o, class, sid) {
		for _, v := range values {
			e.Values[d.attribute(t, name)] = append(e.Values[d.attribute(t, name)], []byte(v))
		}
	}
	if err := d.giveDescriptor(t, w, e, class.Structural()); err != nil {
		return dtyp.SID{}, err
	}
	if err := d.giveKeys(w, e, o); err != nil {
		return dtyp.SID{}, err
	}
	return sid, w.Insert(e)
}

// giveDescriptor gives an object the descriptor of its class, unless the test did.
func (d *Domain) giveDescriptor(t testing.TB, w *directory.Writer, e *rows.Entry, class *schema.Class) error {
	at := d.attribute(t, "nTSecurityDescriptor")
	if len(e.Values[at]) > 0 {
		return nil
	}
	parent, err := w.Get(e.Parent)
	if err != nil {
		return err
	}
	above, err := secdesc.Parse(parent.Values[at][0])
	if err != nil {
		return err
	}
	standard, err := access.Default(class, d.Domain().SID)
	if err != nil {
		return err
	}
	admins := d.Domain().SID.Child(dtyp.RIDDomainAdmins)
	b, err := access.Create(access.NewObject{Parent: &above, Class: class.GUID, Default: standard, Owner: admins, Group: admins}).Append(nil)
	e.Values[at] = [][]byte{b}
	return err
}

// defaults are the attributes of an object, those of the test in place of others.
func (d *Domain) defaults(o Object, class schema.ObjectClass, sid dtyp.SID) map[string][]string {
	values := map[string][]string{"objectClass": class.Names(), "objectSid": {string(sid.Bytes())}, "sAMAccountName": {o.Name}}
	switch {
	case class.Has("computer"):
		values["userAccountControl"] = []string{strconv.Itoa(int(adproto.UACWorkstationTrust))}
		values["primaryGroupID"] = []string{strconv.Itoa(dtyp.RIDDomainComputers)}
	case class.Has("user"):
		values["userAccountControl"] = []string{strconv.Itoa(int(adproto.UACNormalAccount))}
		values["primaryGroupID"] = []string{strconv.Itoa(dtyp.RIDDomainUsers)}
	case class.Has("group"):
		global := adproto.GroupGlobal | adproto.GroupSecurity
		values["groupType"] = []string{strconv.Itoa(int(int32(global)))}
	}
	maps.Copy(values, o.Values)
	return values
}

func (d *Domain) giveKeys(w *directory.Writer, e *rows.Entry, o Object) error {
	if o.Password != "" {
		return (&account.Passwords{}).Set(w, e, directory.NewPassword{Password: Password(o.Password), Initial: true})
	}
	if o.ManagedDays == 0 {
		return nil
	}
	salt := managedpassword.Salt(d.Domain().Realm(), o.Name)
	timeline, err := kds.Create(d.Ring(), dtyp.FiletimeOf(d.Now()), o.ManagedDays, salt)
	if err != nil {
		return err
	}
	return w.SetPrivate(e.GUID, directory.PrivateTimeline, secret.New(timeline.Append(nil)))
}

// Change changes an object in the directory, past the rules that clients are held to.
func (d *Domain) Change(t testing.TB, name string, change func(w *directory.Writer, e *rows.Entry) error) {
	t.Helper()
	err := d.Update(t.Context(), func(w *directory.Writer) error {
		e, err := w.Lookup(d.attribute(t, "sAMAccountName"), []byte(name))
		if err != nil {
			return err
		}
		if err := change(w, e); err != nil {
			return err
		}
		return w.Replace(e)
	})
	if err != nil {
		t.Fatalf("change %s: %v", name, err)
	}
}

// Put replaces the values of an attribute of an object; none removes it.
func (d *Domain) Put(t testing.TB, name, attribute string, values ...string) {
	t.Helper()
	at := d.attribute(t, attribute)
	d.Change(t, name, func(_ *directory.Writer, e *rows.Entry) error {
		delete(e.Values, at)
		for _, v := range values {
			e.Values[at] = append(e.Values[at], []byte(v))
		}
		return nil
	})
}

// Join makes an object a member of a group.
func (d *Domain) Join(t testing.TB, group, member string) {
	t.Helper()
	d.Change(t, group, func(w *directory.Writer, g *rows.Entry) error {
		m, err := w.Lookup(d.attribute(t, "sAMAccountName"), []byte(member))
		if err != nil {
			return err
		}
		return w.Link(d.attribute(t, "member"), rows.Link{Source: g.GUID, Target: m.GUID})
	})
}
