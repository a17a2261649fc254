package directory_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/internal/dc/provision"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

func (d *domain) kvno(dn string) (kvno uint32) {
	d.t.Helper()
	e := d.get(dn)
	err := d.View(d.t.Context(), func(r *directory.Reader) (err error) {
		kvno, _, err = (&account.Passwords{}).KVNO(r, e)
		return err
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return kvno
}

func (d *domain) timeline(dn string) (timeline kds.Timeline) {
	d.t.Helper()
	g := d.get(dn).GUID
	err := d.View(d.t.Context(), func(r *directory.Reader) (err error) { timeline, err = r.Timeline(g); return err })
	if err != nil {
		d.t.Fatal(err)
	}
	return timeline
}

// TestSetPassword as kpasswd does it: who may, and with what proof.
func TestSetPassword(t *testing.T) {
	d := people(t)
	self, other, machine := d.Caller(t, "alice"), d.Caller(t, "bob"), d.Caller(t, "web1$")
	plain := self
	plain.Encrypted = false
	present := "Wonder-Passw0rd" // alice's
	for i, c := range []struct {
		name     string
		caller   directory.Caller
		dn       string
		old      string
		changing bool
		want     string
	}{
		{"oneself, by the old one", self, alice, "present", true, "0"},
		{"oneself, by a wrong one", self, alice, "wrong", true, "19 56"},
		{"oneself, by a fresh ticket", self, alice, "", true, "0"},
		{"oneself, on an open line", plain, alice, "", true, "53 1F"},
		{"oneself, as a reset", self, alice, "", false, "50 2098"},
		{"another, by a ticket", other, alice, "", true, "19 202F"},
		{"another, by the old one", other, alice, "present", true, "0"},
		{"another, as a reset", other, alice, "", false, "50 2098"},
		{"an administrator's reset", d.admin, alice, "", false, "0"},
		{"a machine its own", machine, web1, "", true, "0"},
		{"a gMSA's", d.admin, webapp, "", false, "50 2098"},
		{"a group's", d.admin, group("global"), "", false, "53 2035"},
	} {
		d.log.take()
		before := d.kvno(c.dn)
		var old secret.Bytes
		switch c.old {
		case "":
		case "present":
			old = utf16le(present)
		default:
			old = utf16le(c.old)
		}
		d.Clock.Advance(25 * time.Hour)
		next := fmt.Sprintf("New-Passw0rd %d", i)
		err := d.SetPassword(t.Context(), c.caller, d.get(c.dn).GUID, old, utf16le(next), c.changing)
		if err == nil && c.dn == alice {
			present = next
		}
		if got := result(err); got != c.want {
			t.Errorf("%s: got %s, want %s: %v", c.name, got, c.want, err)
		}
		if rise := d.kvno(c.dn) - before; (err == nil) != (rise == 1) {
			t.Errorf("%s: kvno rose by %d", c.name, rise)
		}
		if events := d.log.take(); len(events) != 1 || events[0].Kind != audit.KindPassword || (events[0].Error == "") != (err == nil) {
			t.Errorf("%s: the audit was told %+v", c.name, events)
		}
	}
	if got := result(d.SetPassword(t.Context(), d.admin, dtyp.GUID{9}, none, utf16le("new-Passw0rd"), false)); got != "32 208D" {
		t.Errorf("of nobody: %s", got)
	}
	if got := result(d.SetPassword(t.Context(), directory.Caller{Encrypted: true}, d.get(alice).GUID, none, utf16le("new-Passw0rd"), true)); got != "1 4DC" {
		t.Errorf("by nobody: %s", got)
	}
}

// TestRotate ends a password early, by its own call and by pwdLastSet, for whom may
// write that.
func TestRotate(t *testing.T) {
	d := people(t)
	guid := d.get(webapp).GUID
	if got := result(d.Rotate(t.Context(), d.Caller(t, "bob"), guid)); got != "50 2098" {
		t.Errorf("somebody: %s", got)
	}
	if got := result(d.Rotate(t.Context(), d.admin, d.get(alice).GUID)); got != "53 2035" {
		t.Errorf("a user: %s", got)
	}
	for n, rotate := range []func() error{
		func() error { return d.Rotate(t.Context(), d.admin, guid) },
		func() error { return d.modify(d.admin, webapp, "replace: pwdLastSet: 0") },
	} {
		d.log.take()
		if err := rotate(); err != nil {
			t.Fatal(err)
		}
		got := kinds(d.log.take())
		if got[len(got)-1] != audit.KindRotate {
			t.Errorf("the audit was told %v", got)
		}
		entries := d.timeline(webapp).Entries()
		start, err := entries[len(entries)-1].First.Start()
		wait := start.Time().Sub(d.Clock.Now())
		if err != nil || len(entries) != n+2 || wait < 10*time.Minute || wait > 10*time.Hour+10*time.Minute {
			t.Errorf("%d entries, the last begins in %v: %v", len(entries), wait, err)
		}
		if got, want := d.shown(webapp, "msDS-UserPasswordExpiryTimeComputed"), []string{fmt.Sprint(int64(start))}; !slices.Equal(got, want) {
			t.Errorf("the password in force ends at %s, want %s", got, want)
		}
		d.Clock.Advance(11 * time.Hour)
	}
}

// rootKey makes a root key as a client does, effective at once by its own account.
func (d *domain) rootKey() (gkdi.RootKey, []string) {
	d.t.Helper()
	now := dtyp.FiletimeOf(d.Clock.Now())
	key, err := gkdi.NewRootKey(d.config.Rand, now+1, now-10*gkdi.Cycle)
	if err != nil {
		d.t.Fatal(err)
	}
	lines := []string{"objectClass: msKds-ProvRootKey"}
	for _, a := range kds.NewProvRootKey(key, "CN=DC1,OU=Domain Controllers,DC=contoso,DC=com").Attributes() {
		lines = append(lines, a.Name+": "+string(a.Value))
	}
	return key, lines
}

// TestRootKeys: a client's key is taken from Enterprise Admins on an encrypted
// connection, kept where nobody comes across it, and serves no period that began before
// it was there, whatever it says of itself.
//
// It holds security 18 for those who write.
func TestRootKeys(t *testing.T) {
	d := people(t)
	key, lines := d.rootKey()
	dn := "CN=" + key.ID.String() + "," + rootKeys
	plain := d.admin
	plain.Encrypted = false
	if got := result(d.add(plain, dn, lines...)); got != "13 202D" {
		t.Errorf("in the clear: %s", got)
	}
	domainAdmin := d.admin
	domainAdmin.Token.SIDs = nil
	for _, sid := range d.admin.Token.SIDs {
		if sid != contoso.SID.Child(dtyp.RIDEnterpriseAdmins) {
			domainAdmin.Token.SIDs = append(domainAdmin.Token.SIDs, sid)
		}
	}
	if got := result(d.add(domainAdmin, dn, lines...)); got != "50 2098" {
		t.Errorf("without Enterprise Admins: %s", got)
	}
	before := d.timeline(webapp)
	d.log.take()
	if err := d.add(d.admin, dn, lines...); err != nil {
		t.Fatal(err)
	}
	if got := kinds(d.log.take()); len(got) != 2 || got[1] != audit.KindRootKeyCreated {
		t.Errorf("the audit was told %v", got)
	}
	if got := d.value(dn, "msKds-RootKeyData"); got != "" {
		t.Error("the key stands in the entry")
	}
	ring := d.Ring().Keys()
	if len(ring) != 2 || ring[0].ID != key.ID || !ring[0].Key.Equal(key.Key) || ring[0].Founding {
		t.Fatalf("the ring has %d keys", len(ring))
	}
	if got := result(d.add(d.admin, "CN="+key.ID.String()+",CN=Services,CN=Configuration,DC=contoso,DC=com", lines...)); got != "68 2071" {
		t.Errorf("the same key again: %s", got)
	}
	if err := d.RefreshTimelines(t.Context()); err != nil {
		t.Fatal(err)
	}
	after := d.timeline(webapp)
	now := dtyp.FiletimeOf(d.Clock.Now())
	was, _ := before.At(now)
	if is, err := after.At(now); err != nil || is != was {
		t.Errorf("the password in force became that of %+v: %v", is, err)
	}
	if next, err := after.Next(was); err != nil || next.RootKey != key.ID {
		t.Errorf("the next password comes from %s: %v", next.RootKey, err)
	}
	for line, want := range map[string]string{
		"replace: msKds-RootKeyData: " + string(make([]byte, 64)): "53 2035",
		"replace: msKds-KDFParam: x":                              "53 2035",
		"replace: description: x":                                 "0",
	} {
		if got := result(d.modify(d.admin, dn, line)); got != want {
			t.Errorf("%.30s: %s, want %s", line, got, want)
		}
	}
	if got := result(d.rename(d.admin, dn, "CN="+dtyp.GUID{1}.String(), "")); got != "53 2035" {
		t.Errorf("another id: %s", got)
	}
	// A descriptor that lets the administrators of the domain do everything changes nothing.
	for _, dn := range []string{dn, rootKeys} {
		d.changeDescriptor(dn, func(sd *secdesc.SecurityDescriptor) {
			sd.DACL.ACEs = append(sd.DACL.ACEs, secdesc.ACE{Mask: secdesc.MapGeneric(secdesc.GenericAll), SID: contoso.SID.Child(dtyp.RIDDomainAdmins)})
		})
	}
	d.log.take()
	for what, c := range map[string]struct {
		caller directory.Caller
		dn     string
		tree   bool
		want   string
	}{
		"removed in the clear":                               {plain, dn, false, "13 202D"},
		"removed without Enterprise Admins":                  {domainAdmin, dn, false, "50 2098"},
		"removed with all others, without Enterprise Admins": {domainAdmin, rootKeys, true, "50 2098"},
		"removed with all others, in the clear":              {plain, rootKeys, true, "13 202D"},
	} {
		if got := result(d.delete(c.caller, c.dn, c.tree)); got != c.want {
			t.Errorf("%s: %s, want %s", what, got, c.want)
		}
	}
	if got := result(d.modify(domainAdmin, dn, "replace: msKds-UseStartTime: 0")); got != "50 2098" {
		t.Errorf("changed without Enterprise Admins: %s", got)
	}
	for _, e := range d.log.take() {
		if e.Error == "" || e.Kind != audit.KindDelete && e.Kind != audit.KindModify {
			t.Errorf("the audit was told %+v", e)
		}
	}
	if n := len(d.Ring().Keys()); n != 2 {
		t.Fatalf("%d keys are left by those who may not remove them", n)
	}
	if err := d.delete(d.admin, dn, false); err != nil {
		t.Fatal(err)
	}
	if got := d.log.take(); len(got) != 1 || got[0].Kind != audit.KindDelete || got[0].Error != "" || got[0].Object != dn {
		t.Errorf("the audit was told %+v", got)
	}
	if n := len(d.Ring().Keys()); n != 1 {
		t.Errorf("%d keys after one was removed", n)
	}
}

// TestTheFoundingRootKey: the first key of a domain without gMSAs serves at once, and
// no other does.
func TestTheFoundingRootKey(t *testing.T) {
	d := newDomainWith(t, provision.Config{NoRootKey: true})
	for n := range 2 {
		key, lines := d.rootKey()
		d.mustAdd("CN="+key.ID.String()+","+rootKeys, lines...)
		for _, k := range d.Ring().Keys() {
			if k.ID == key.ID && k.Founding != (n == 0) {
				t.Errorf("key %d is founding: %v", n, k.Founding)
			}
		}
	}
	d.mustAdd("CN=g,"+managed, "objectClass: msDS-GroupManagedServiceAccount")
	if e := d.timeline("CN=g," + managed).Entries(); len(e) != 1 || e[0].Salt != "CONTOSO.COMhostg.contoso.com" || e[0].KVNO != 1 {
		t.Errorf("timeline %+v", e)
	}
}
