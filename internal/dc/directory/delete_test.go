package directory_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/store"
)

func (d *domain) delete(c directory.Caller, dn string, tree bool) error {
	return d.Delete(d.t.Context(), c, directory.DeleteRequest{DN: dn, Tree: tree})
}

func buried(name string, g dtyp.GUID) string {
	return fmt.Sprintf("CN=%s\\0ADEL:%s,CN=Deleted Objects,DC=contoso,DC=com", name, g)
}

// TestDeleteLeavesATombstone with what AD preserves and nothing that could be used.
func TestDeleteLeavesATombstone(t *testing.T) {
	d := people(t)
	d.mustModify(group("global"), "add: member: "+alice)
	is := d.get(alice)
	sid := d.value(alice, "objectSid")
	d.log.take()
	if err := d.delete(d.admin, alice, false); err != nil {
		t.Fatal(err)
	}
	if events := d.log.take(); len(events) != 1 || events[0].Kind != audit.KindDelete || events[0].Object != alice || events[0].GUID != is.GUID {
		t.Errorf("the audit was told %+v", events)
	}
	grave := buried("alice", is.GUID)
	for name, want := range map[string]string{
		"isDeleted": "TRUE", "lastKnownParent": users, "objectSid": sid, "sAMAccountName": "alice", "userAccountControl": "512",
		"msDS-LastKnownRDN": "alice", "objectClass": "organizationalPerson|person|top|user",
		"sn": "", "objectCategory": "", "sAMAccountType": "", "userPrincipalName": "", "memberOf": "",
	} {
		if got := d.value(grave, name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if tomb := d.get(grave); tomb.GUID != is.GUID || tomb.WhenCreated != is.WhenCreated {
		t.Errorf("the tombstone is %s of %v", tomb.GUID, tomb.WhenCreated)
	}
	err := d.View(t.Context(), func(r *directory.Reader) error {
		if _, err := r.Private(is.GUID, "keys"); !errors.Is(err, rows.ErrNotFound) {
			t.Errorf("the keys: %v", err)
		}
		for _, name := range []string{"sAMAccountName", "objectSid"} {
			if _, err := r.Lookup(attribute(t, d.Directory, name), is.Values[attribute(t, d.Directory, name)][0]); !errors.Is(err, rows.ErrNotFound) {
				t.Errorf("by its %s: %v", name, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	d.findsTombstone(grave, "(sAMAccountName=alice)", "(&(isDeleted=TRUE)(objectSid="+sidOf(t, d, grave).String()+"))",
		fmt.Sprintf("(objectGUID=%s)", adproto.EscapeFilter(string(is.GUID[:]))))
	for name, err := range map[string]error{
		"changing it":   d.modify(d.admin, grave, "replace: description: x"),
		"deleting it":   d.delete(d.admin, grave, false),
		"linking it":    d.modify(d.admin, group("global"), "add: member: "+grave),
		"its old name":  d.modify(d.admin, alice, "replace: description: x"),
		"a child of it": d.add(d.admin, "CN=x,"+grave, "objectClass: user"),
		"its password":  d.SetPassword(t.Context(), d.admin, is.GUID, none, utf16le("New-Passw0rd"), false),
		"rotating it":   d.Rotate(t.Context(), d.admin, is.GUID),
	} {
		if c := directory.AsError(err).Code; err == nil || c != directory.NoSuchObject {
			t.Errorf("%s: %v", name, err)
		}
	}
	d.mustAdd(alice, "objectClass: user", "sAMAccountName: alice")
	if d.value(alice, "objectSid") == sid {
		t.Error("a SID was given twice")
	}
	d.check(t.Fatalf)
}

// findsTombstone: searches that ask for deleted objects find this one by its names, and
// no others do.
func (d *domain) findsTombstone(dn string, filters ...string) {
	d.t.Helper()
	for _, text := range filters {
		for _, deleted := range []bool{true, false} {
			q := request(d.t, domainDN, directory.ScopeSubtree, text, "1.1")
			q.ShowDeleted = deleted
			var got []string
			_, err := d.Search(d.t.Context(), d.admin, q, func(e directory.SearchEntry) error { got = append(got, e.DN); return nil })
			if err != nil || slices.Contains(got, dn) != deleted {
				d.t.Errorf("%s, deleted %t: %q, %v", text, deleted, got, err)
			}
		}
	}
}

func TestDeleteRefuses(t *testing.T) {
	d := people(t)
	d.mustAdd("OU=web,DC=contoso,DC=com", "objectClass: organizationalUnit")
	d.mustAdd("CN=x,OU=web,DC=contoso,DC=com", "objectClass: user")
	for dn, want := range map[string]string{
		"CN=nobody," + users:                 "32 208D",
		"OU=web,DC=contoso,DC=com":           "66 2015",
		"CN=Administrator," + users:          "53 2035",
		"CN=krbtgt," + users:                 "53 2035",
		users:                                "53 2035",
		"DC=contoso,DC=com":                  "53 2035",
		"CN=Configuration,DC=contoso,DC=com": "53 2035",
		"CN=DC1,OU=Domain Controllers,DC=contoso,DC=com": "53 2035",
		"CN=Deleted Objects,DC=contoso,DC=com":           "32 208D",
	} {
		if got := result(d.delete(d.admin, dn, false)); got != want {
			t.Errorf("%s: %s, want %s", dn, got, want)
		}
	}
	if got := result(d.delete(d.Caller(t, "alice"), bob, false)); got != "50 2098" {
		t.Errorf("somebody else: %s", got)
	}
}

// TestDeleteATree and a group that is too large for a transaction.
func TestDeleteATree(t *testing.T) {
	d := people(t)
	top := "OU=web,DC=contoso,DC=com"
	d.mustAdd(top, "objectClass: organizationalUnit")
	d.mustAdd("OU=deep,"+top, "objectClass: organizationalUnit")
	d.mustAdd("CN=big,OU=deep,"+top, "objectClass: group")
	for i := range 150 {
		dn := fmt.Sprintf("CN=m%d,%s", i, top)
		d.mustAdd(dn, "objectClass: user")
		d.mustModify("CN=big,OU=deep,"+top, "add: member: "+dn)
	}
	for range 3 {
		d.mustAdd("OU=deep,OU=deep,"+top, "objectClass: organizationalUnit")
		if err := d.delete(d.admin, "OU=deep,OU=deep,"+top, false); err != nil {
			t.Fatal(err)
		}
	}
	d.log.take()
	if got := result(d.delete(d.Caller(t, "alice"), top, true)); got != "50 2098" {
		t.Errorf("somebody else: %s", got)
	}
	if n := len(d.log.take()); n != 1 {
		t.Errorf("the audit was told of %d events", n)
	}
	if err := d.delete(d.admin, top, true); err != nil {
		t.Fatal(err)
	}
	if n := len(d.log.take()); n != 153 {
		t.Errorf("the audit was told of %d objects, want 153", n)
	}
	if got := result(d.modify(d.admin, top, "replace: description: x")); got != "32 208D" {
		t.Errorf("what is left: %s", got)
	}
}

// TestDeleteWhatFillsATransaction: an object with as many indexed values as a
// transaction writes, and with links beside.
func TestDeleteWhatFillsATransaction(t *testing.T) {
	d := people(t)
	lines := []string{"objectClass: user"}
	for i := range store.MaxOps - 60 { // 5,000 of each attribute, which is what they hold
		name := []string{"servicePrincipalName: x/", "proxyAddresses: x/", "altSecurityIdentities: x/"}[i/5000]
		lines = append(lines, name+fmt.Sprint(i))
	}
	d.mustAdd("CN=full,"+users, lines...)
	for i := range 40 {
		d.mustAdd(fmt.Sprintf("CN=r%d,%s", i, users), "objectClass: user", "manager: CN=full,"+users)
	}
	if err := d.delete(d.admin, "CN=full,"+users, false); err != nil {
		t.Fatal(err)
	}
	d.mustAdd("CN=next,"+users, "objectClass: user", "servicePrincipalName: x/7")
	d.check(t.Fatalf)
}

// TestTombstonesArePurged when their lifetime is over, and not before.
func TestTombstonesArePurged(t *testing.T) {
	d := people(t)
	is := d.get(alice)
	if err := d.delete(d.admin, alice, false); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		days int
		want int
	}{{179, 0}, {2, 1}, {1, 0}} {
		d.Clock.Advance(time.Duration(c.days) * 24 * time.Hour)
		if n, err := d.PurgeTombstones(t.Context()); err != nil || n != c.want {
			t.Errorf("after %d days more %d were purged, want %d: %v", c.days, n, c.want, err)
		}
	}
	for _, row := range d.rows() {
		if strings.Contains(row, fmt.Sprintf("%x", is.GUID)) {
			t.Errorf("a row is left: %s", row)
		}
	}
	if got := d.value("CN=Deleted Objects,DC=contoso,DC=com", "isDeleted"); got != "TRUE" {
		t.Errorf("the container of tombstones: %q", got)
	}
}
