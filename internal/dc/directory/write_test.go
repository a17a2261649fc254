package directory_test

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/provision"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

// domain is a new domain in a store that the test sees the rows of.
type domain struct {
	dctest.Domain
	t      testing.TB
	store  store.Store
	config directory.Config
	admin  directory.Caller
	log    *eventLog
}

// eventLog keeps what the audit is told.
type eventLog struct {
	mu     sync.Mutex
	events []audit.Event
}

func (l *eventLog) Record(e audit.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

// take gives the events since it was called before.
func (l *eventLog) take() []audit.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.events
	l.events = nil
	return out
}

var loadSchema = sync.OnceValues(schema.Load)

func newDomain(t testing.TB) *domain { return newDomainWith(t, provision.Config{}) }

func newDomainWith(t testing.TB, pc provision.Config) *domain {
	t.Helper()
	sch, err := loadSchema()
	if err != nil {
		t.Fatal(err)
	}
	d := &domain{t: t, store: memory.New(), log: &eventLog{}}
	d.Clock = dctest.NewClock(time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC))
	seal, err := atrest.Create(t.Context(), d.store, secret.New(make([]byte, atrest.KeySize)), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d.config = directory.Config{Store: d.store, Schema: sch, Seal: seal, Passwords: &account.Passwords{},
		Audit: d.log, Now: d.Clock.Now, Rand: rand.Reader}
	if d.Directory, err = directory.Create(t.Context(), d.config, contoso); err != nil {
		t.Fatal(err)
	}
	pc.Passwords, pc.AdminPassword, pc.Rand = &account.Passwords{}, dctest.Password(dctest.AdminPassword), rand.Reader
	if err := provision.Objects(t.Context(), d.Directory, pc); err != nil {
		t.Fatal(err)
	}
	d.admin = d.Caller(t, "Administrator")
	d.log.take()
	return d
}

const (
	users     = "CN=Users,DC=contoso,DC=com"
	computers = "CN=Computers,DC=contoso,DC=com"
	managed   = "CN=Managed Service Accounts,DC=contoso,DC=com"
	rootKeys  = "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration,DC=contoso,DC=com"
)

// attributes reads lines of "name: value", several of a name in a row being its values.
func attributes(lines ...string) (out []directory.Attribute) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		if n := len(out); n > 0 && out[n-1].Name == name {
			out[n-1].Values = append(out[n-1].Values, []byte(value))
			continue
		}
		out = append(out, directory.Attribute{Name: name, Values: [][]byte{[]byte(value)}})
	}
	return out
}

func (d *domain) add(c directory.Caller, dn string, lines ...string) error {
	return d.Add(d.t.Context(), c, directory.AddRequest{DN: dn, Attributes: attributes(lines...)})
}

// mustAdd adds an object as the administrator.
func (d *domain) mustAdd(dn string, lines ...string) {
	d.t.Helper()
	if err := d.add(d.admin, dn, lines...); err != nil {
		d.t.Fatalf("add %s: %v", dn, err)
	}
}

// changes reads lines of "add: name: value", "delete: name" and so on; a value may be missing.
func changes(lines ...string) (out []directory.Change) {
	ops := map[string]directory.ChangeOp{"add": directory.ChangeAdd, "delete": directory.ChangeDelete, "replace": directory.ChangeReplace}
	for _, line := range lines {
		op, rest, _ := strings.Cut(line, ": ")
		name, value, has := strings.Cut(rest, ": ")
		n := len(out)
		if n > 0 && has && out[n-1].Op == ops[op] && out[n-1].Name == name {
			out[n-1].Values = append(out[n-1].Values, []byte(value))
			continue
		}
		c := directory.Change{Op: ops[op], Attribute: directory.Attribute{Name: name}}
		if has {
			c.Values = [][]byte{[]byte(value)}
		}
		out = append(out, c)
	}
	return out
}

func (d *domain) modify(c directory.Caller, dn string, lines ...string) error {
	return d.Modify(d.t.Context(), c, directory.ModifyRequest{DN: dn, Changes: changes(lines...)})
}

func (d *domain) mustModify(dn string, lines ...string) {
	d.t.Helper()
	if err := d.modify(d.admin, dn, lines...); err != nil {
		d.t.Fatalf("modify %s: %v", dn, err)
	}
}

// get reads an object by its name.
func (d *domain) get(dn string) *rows.Entry {
	d.t.Helper()
	var e *rows.Entry
	err := d.View(d.t.Context(), func(r *directory.Reader) error {
		g, err := r.Resolve(parseDN(d.t, dn))
		if err == nil {
			e, err = r.Get(g)
		}
		return err
	})
	if err != nil {
		d.t.Fatalf("%s: %v", dn, err)
	}
	return e
}

// values are those of an attribute, links by the names that they lead to, sorted.
func (d *domain) values(dn, name string) (out []string) {
	d.t.Helper()
	e := d.get(dn)
	a := attribute(d.t, d.Directory, name)
	for _, v := range rows.AsWritten(a, e.Values[a]) {
		out = append(out, string(v))
	}
	if a.LinkID < 0 {
		slices.Sort(out)
		return out
	}
	err := d.View(d.t.Context(), func(r *directory.Reader) error {
		for l, err := range r.Links(a, e.GUID) {
			if err != nil {
				return err
			}
			other := l.Target
			if a.BackLink() {
				other = l.Source
			}
			e, err := r.Get(other)
			if err != nil {
				return err
			}
			out = append(out, e.Name)
		}
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// value is the one value of an attribute, or nothing.
func (d *domain) value(dn, name string) string {
	d.t.Helper()
	return strings.Join(d.values(dn, name), "|")
}

// quoted is a value of unicodePwd.
func quoted(password string) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(`"` + password + `"`)) {
		b = binary.LittleEndian.AppendUint16(b, u)
	}
	return string(b)
}

// none is no password.
var none secret.Bytes

func utf16le(password string) secret.Bytes { return dctest.Password(password) }

// result is the result code and the Windows code of an error.
func result(err error) string {
	if err == nil {
		return "0"
	}
	e := directory.AsError(err)
	return fmt.Sprintf("%d %X", e.Code, uint32(e.Win32))
}

func kinds(events []audit.Event) (out []audit.Kind) {
	for _, e := range events {
		out = append(out, e.Kind)
	}
	return out
}

func parseDN(t testing.TB, s string) adproto.DN {
	t.Helper()
	dn, err := adproto.ParseDN(s)
	if err != nil {
		t.Fatal(err)
	}
	return dn
}

func sidOf(t testing.TB, d *domain, dn string) dtyp.SID {
	t.Helper()
	sid, err := dtyp.SIDFromBytes([]byte(d.value(dn, "objectSid")))
	if err != nil {
		t.Fatal(err)
	}
	return sid
}

// descriptor is the security descriptor of an object.
func (d *domain) descriptor(dn string) secdesc.SecurityDescriptor {
	d.t.Helper()
	sd, err := secdesc.Parse([]byte(d.value(dn, "nTSecurityDescriptor")))
	if err != nil {
		d.t.Fatal(err)
	}
	return sd
}

// changeDescriptor changes the DACL of an object as the administrator.
func (d *domain) changeDescriptor(dn string, edit func(*secdesc.SecurityDescriptor)) {
	d.t.Helper()
	sd := d.descriptor(dn)
	edit(&sd)
	if err := d.writeDescriptor(d.admin, dn, sd, adproto.SDDACL); err != nil {
		d.t.Fatalf("descriptor of %s: %v", dn, err)
	}
}

func (d *domain) writeDescriptor(c directory.Caller, dn string, sd secdesc.SecurityDescriptor, flags int) error {
	d.t.Helper()
	b, err := sd.Append(nil)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.Modify(d.t.Context(), c, directory.ModifyRequest{DN: dn, HasSDFlags: true, SDFlags: flags, Changes: []directory.Change{
		{Op: directory.ChangeReplace, Attribute: directory.Attribute{Name: "nTSecurityDescriptor", Values: [][]byte{b}}}}})
}

// grant gives sid the right to write an attribute of an object, or a validated write.
func (d *domain) grant(dn string, sid dtyp.SID, guid string, validated bool) {
	d.t.Helper()
	right, err := dtyp.ParseGUID(guid)
	if err != nil {
		d.t.Fatal(err)
	}
	mask := secdesc.WriteProperty
	if validated {
		mask = secdesc.SelfWrite
	}
	d.changeDescriptor(dn, func(sd *secdesc.SecurityDescriptor) {
		sd.DACL.ACEs = append(sd.DACL.ACEs, secdesc.ACE{Type: secdesc.AllowObject, Mask: mask, ObjectType: &right, SID: sid})
	})
}

// delegate gives another account the right to write attributes of an object, and is
// that account.
func (d *domain) delegate(dn, to string, names ...string) directory.Caller {
	d.t.Helper()
	caller := d.Caller(d.t, d.value(to, "sAMAccountName"))
	for _, name := range names {
		d.grant(dn, caller.SID, attribute(d.t, d.Directory, name).GUID.String(), false)
	}
	return caller
}

// rows are all rows of the store, as texts.
func (d *domain) rows() (out []string) {
	d.t.Helper()
	err := d.store.View(d.t.Context(), func(r store.Reader) error {
		for it, err := range r.Scan(nil, nil) {
			if err != nil {
				return err
			}
			out = append(out, fmt.Sprintf("%x=%x", it.Key, it.Value))
		}
		return nil
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}
