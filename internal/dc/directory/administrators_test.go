package directory_test

import (
	"slices"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/audit"
)

// TestNewAdministratorsAreProtected: who was entrusted with users as such is not entrusted
// with those who have become administrators, by a group in a group; an administrator's
// members lose nothing that they need, and nothing is done twice.
func TestNewAdministratorsAreProtected(t *testing.T) {
	d := people(t)
	protect := func() []audit.Event {
		t.Helper()
		d.log.take()
		if err := d.ProtectAdministrators(t.Context()); err != nil {
			t.Fatal(err)
		}
		return d.log.take()
	}
	if got := protect(); len(got) != 0 {
		t.Errorf("in a new domain: %+v", got)
	}
	d.mustAdd("CN=carol,"+users, "objectClass: user", "sAMAccountName: carol")
	carol := d.Caller(t, "carol")
	d.grant(bob, carol.SID, "4c164200-20c0-11d0-a768-00aa006e0529", false) // User-Account-Restrictions
	d.grant(webapp, carol.SID, "bf967950-0de6-11d0-a285-00aa003049e2", false)
	if got := result(d.modify(carol, bob, "replace: accountExpires: 0")); got != "0" {
		t.Fatalf("before: %s", got)
	}
	if got := protect(); len(got) != 0 {
		t.Errorf("before anybody became one: %+v", got)
	}
	d.mustModify(group("global"), "add: member: "+bob)
	d.mustModify("CN=Domain Admins,"+users, "add: member: "+group("global"), "add: member: "+webapp)
	events := protect()
	var objects []string
	for _, e := range events {
		if e.Error != "" || !e.SID.IsZero() {
			t.Errorf("the audit was told %+v", e)
		}
		objects = append(objects, string(e.Kind)+" "+e.Object)
	}
	slices.Sort(objects)
	want := []string{"managed readers " + webapp, "modify " + bob, "modify " + group("global"), "modify " + webapp}
	slices.Sort(want)
	if !slices.Equal(objects, want) {
		t.Errorf("the audit was told %q, want %q", objects, want)
	}
	for _, dn := range []string{bob, webapp} {
		if got := result(d.modify(carol, dn, "replace: accountExpires: 0")); got != "50 2098" || d.value(dn, "adminCount") != "1" {
			t.Errorf("%s afterwards: %s, adminCount %q", dn, got, d.value(dn, "adminCount"))
		}
	}
	if got := d.descriptor(bob); got.Owner != d.descriptor("CN=Administrator,"+users).Owner {
		t.Errorf("bob's owner is %v", got.Owner)
	}
	if got := result(d.modify(d.admin, bob, "replace: description: x")); got != "0" {
		t.Errorf("by an administrator: %s", got)
	}
	if got := protect(); len(got) != 0 {
		t.Errorf("a second time: %+v", got)
	}
	// Whoever changes it back has an hour.
	d.grant(bob, carol.SID, "4c164200-20c0-11d0-a768-00aa006e0529", false)
	if got := protect(); len(got) != 1 || got[0].Object != bob {
		t.Errorf("when somebody has changed it: %+v", got)
	}
	d.check(t.Fatalf)
}
