package directory_test

import (
	"slices"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// shown are the values of an attribute as a search gives them.
func (d *domain) shown(base, name string) (out []string) {
	d.t.Helper()
	q := request(d.t, base, directory.ScopeBase, "(objectClass=*)", name)
	q.ShowDeleted = true
	_, err := d.Search(d.t.Context(), d.admin, q, func(e directory.SearchEntry) error {
		for _, a := range e.Attributes {
			for _, v := range a.Values {
				out = append(out, string(v))
			}
		}
		return nil
	})
	if err != nil {
		d.t.Fatalf("%s: %v", base, err)
	}
	return out
}

func (d *domain) mustRename(dn, rdn, parent string) {
	d.t.Helper()
	if err := d.rename(d.admin, dn, rdn, parent); err != nil {
		d.t.Fatalf("rename %s: %v", dn, err)
	}
}

// TestNamesInValuesFollowTheirObjects: names that are no links are those that the
// objects have now, and what is gone keeps the last.
func TestNamesInValuesFollowTheirObjects(t *testing.T) {
	d := people(t)
	wants := func(base, name string, want ...string) {
		t.Helper()
		if got := d.shown(base, name); !slices.Equal(got, want) {
			t.Errorf("%s of %s is %q, want %q", name, base, got, want)
		}
	}
	const well = "B:32:000102030405060708090A0B0C0D0E0F:"
	d.mustAdd("OU=first,"+domainDN, "objectClass: organizationalUnit")
	d.mustAdd("OU=home,OU=first,"+domainDN, "objectClass: organizationalUnit")
	d.mustModify(domainDN, "add: otherWellKnownObjects: "+well+"ou=HOME,ou=first,dc=contoso,dc=com")
	d.mustModify(alice, "replace: secretary: <GUID="+d.get(bob).GUID.String()+">")
	d.mustAdd("CN=gone,OU=home,OU=first,"+domainDN, "objectClass: user")
	gone := "<GUID=" + d.get("CN=gone,OU=home,OU=first,"+domainDN).GUID.String() + ">"
	if err := d.delete(d.admin, gone, false); err != nil {
		t.Fatal(err)
	}
	wants(alice, "secretary", bob)
	wants(gone, "lastKnownParent", "OU=home,OU=first,"+domainDN)

	d.mustRename("OU=first,"+domainDN, "OU=second", "")
	d.mustRename("OU=home,OU=second,"+domainDN, "OU=house", domainDN)
	d.mustRename(bob, "CN=rob", "OU=second,"+domainDN)
	if known := d.shown(domainDN, "otherWellKnownObjects"); !slices.Contains(known, well+"OU=house,"+domainDN) {
		t.Errorf("otherWellKnownObjects are %q", known)
	}
	wants("<WKGUID=000102030405060708090a0b0c0d0e0f,"+domainDN+">", "ou", "house")
	wants(alice, "secretary", "CN=rob,OU=second,"+domainDN)
	wants(gone, "lastKnownParent", "OU=house,"+domainDN)

	find := func(filter string, want ...string) {
		t.Helper()
		var got []string
		_, err := d.Search(t.Context(), d.admin, request(t, domainDN, directory.ScopeSubtree, filter, "1.1"), func(e directory.SearchEntry) error {
			got = append(got, e.DN)
			return nil
		})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v", filter, got, err)
		}
	}
	find("(secretary=cn=rob,ou=second,"+domainDN+")", alice)
	find("(secretary=" + bob + ")")

	// Values are compared by what they name, however it is spelled.
	rob := "CN=rob,OU=second," + domainDN
	if got := result(d.modify(d.admin, alice, "add: secretary: <GUID="+d.get(rob).GUID.String()+">")); got != "20 200D" {
		t.Errorf("the same name again: %s", got)
	}
	d.mustModify(alice, "delete: secretary: cn=ROB,ou=Second,"+domainDN)
	wants(alice, "secretary")
	d.mustModify(domainDN, "delete: otherWellKnownObjects: "+well+"OU=house,"+domainDN)
	if got := result(d.modify(d.admin, alice, "add: secretary: CN=nobody,"+users)); got != "19 20B5" {
		t.Errorf("a name of nothing: %s", got)
	}
	if got := result(d.modify(d.admin, alice, "replace: objectCategory: "+rob)); got != "19 20B5" {
		t.Errorf("a category that is no class: %s", got)
	}

	// What it names becomes a tombstone, and goes.
	d.mustModify(alice, "replace: secretary: "+rob)
	g := d.get(rob).GUID
	if err := d.delete(d.admin, rob, false); err != nil {
		t.Fatal(err)
	}
	wants(alice, "secretary", buried("rob", g))
	d.Clock.Advance(181 * 24 * time.Hour)
	if _, err := d.PurgeTombstones(t.Context()); err != nil {
		t.Fatal(err)
	}
	wants(alice, "secretary", rob)
	d.check(t.Fatalf)
}
