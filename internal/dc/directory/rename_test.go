package directory_test

import (
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/secdesc"
)

func (d *domain) rename(c directory.Caller, dn, rdn, superior string) error {
	return d.ModifyDN(d.t.Context(), c, directory.ModifyDNRequest{DN: dn, NewRDN: rdn, DeleteOldRDN: true, NewSuperior: superior})
}

const web = "OU=web,DC=contoso,DC=com"

func TestModifyDN(t *testing.T) {
	parent, d := t, people(t)
	for name, c := range map[string]struct {
		dn, rdn, superior string
		want              string
		now               string // where it is afterwards
	}{
		"a new name":                   {alice, "CN=Alice Adams", "", "0", "CN=Alice Adams," + users},
		"other letters":                {alice, "cn=ALICE", "", "0", alice},
		"the same":                     {alice, "CN=alice", "", "0", alice},
		"a comma":                      {alice, `CN=Adams\, Alice`, "", "0", `CN=Adams\, Alice,` + users},
		"a new place":                  {alice, "CN=alice", web, "0", "CN=alice," + web},
		"both":                         {alice, "CN=Alice Adams", web, "0", "CN=Alice Adams," + web},
		"a unit below another":         {"OU=deep," + web, "OU=top", "DC=contoso,DC=com", "0", "OU=top,DC=contoso,DC=com"},
		"a name that is taken":         {alice, "CN=BOB", "", "68 2071", ""},
		"another attribute":            {alice, "OU=alice", "", "64 2037", ""},
		"two parts":                    {alice, "CN=alice+SN=x", "", "34 2032", ""},
		"a name of deleted objects":    {alice, `CN=a\0ADEL:1`, "", "64 2037", ""},
		"nowhere":                      {alice, "CN=alice", "OU=nowhere,DC=contoso,DC=com", "32 208D", ""},
		"below a user":                 {alice, "CN=alice", bob, "64 2037", ""},
		"below itself":                 {web, "OU=web", "OU=deep," + web, "53 2035", ""},
		"into the configuration":       {"OU=deep," + web, "OU=deep", "CN=Configuration,DC=contoso,DC=com", "53 2035", ""},
		"the head":                     {"DC=contoso,DC=com", "DC=fabrikam", "", "53 2035", ""},
		"what is protected":            {users, "CN=People", "", "53 2035", ""},
		"what is protected, moved":     {users, "CN=Users", web, "53 2035", ""},
		"into the graveyard":           {alice, "CN=alice", "CN=Deleted Objects,DC=contoso,DC=com", "32 208D", ""},
		"what is in the configuration": {rootKeys, "CN=Keys", "", "53 2035", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if err := d.add(d.admin, web, "objectClass: organizationalUnit"); err == nil {
				d.mustAdd("OU=deep,"+web, "objectClass: organizationalUnit")
			}
			is := d.get(c.dn).GUID
			err := d.rename(d.admin, c.dn, c.rdn, c.superior)
			if got := result(err); got != c.want {
				t.Fatalf("got %s, want %s: %v", got, c.want, err)
			}
			if err != nil {
				return
			}
			if got := d.get(c.now).GUID; got != is {
				t.Errorf("at %s is another object", c.now)
			}
			d = people(parent)
		})
	}
	err := d.ModifyDN(t.Context(), d.admin, directory.ModifyDNRequest{DN: alice, NewRDN: "CN=x"})
	if result(err) != "53 2035" {
		t.Errorf("with the old name kept: %v", err)
	}
}

// TestARenameLeavesNamesAndLinks: the account name, the salt and memberships are the
// object's, whatever it is called and wherever it is.
func TestARenameLeavesNamesAndLinks(t *testing.T) {
	d := people(t)
	d.mustModify(group("global"), "add: member: "+webapp)
	before := d.timeline(webapp)
	if err := d.rename(d.admin, webapp, "CN=other", computers); err != nil {
		t.Fatal(err)
	}
	moved := "CN=other," + computers
	if got := d.value(moved, "sAMAccountName") + " " + d.value(moved, "memberOf"); got != "webapp01$ global" {
		t.Errorf("got %s", got)
	}
	if got := d.timeline(moved).Entries(); len(got) != 1 || got[0] != before.Entries()[0] {
		t.Errorf("timeline %+v", got)
	}
	d.mustModify(moved, "replace: sAMAccountName: other$")
	got := d.timeline(moved).Entries()
	if len(got) != 2 || got[0] != before.Entries()[0] || got[1].Salt != "CONTOSO.COMhostother.contoso.com" {
		t.Errorf("after another sAMAccountName: timeline %+v", got)
	}
}

// TestAMoveTakesRightsAtBothEnds: to delete here and to create there.
func TestAMoveTakesRightsAtBothEnds(t *testing.T) {
	d := people(t)
	d.mustAdd(web, "objectClass: organizationalUnit")
	caller := d.Caller(t, "bob")
	class, _ := d.Schema().Class("user")
	allow := func(dn string, mask secdesc.Mask, object *dtyp.GUID) {
		d.changeDescriptor(dn, func(sd *secdesc.SecurityDescriptor) {
			sd.DACL.ACEs = append(sd.DACL.ACEs, secdesc.ACE{Type: secdesc.AllowObject, Mask: mask, ObjectType: object, SID: caller.SID})
		})
	}
	move := func(want string) {
		t.Helper()
		if got := result(d.rename(caller, alice, "CN=alice", web)); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	}
	move("50 2098")
	allow(web, secdesc.CreateChild, &class.GUID)
	move("50 2098")
	allow(users, secdesc.DeleteChild, &class.GUID)
	if got := result(d.rename(caller, alice, "CN=Alice", web)); got != "50 2098" {
		t.Fatalf("another name without the right to write it: %s", got)
	}
	move("0")
}

// TestWhatIsMovedInherits from its new parent, with all below it.
func TestWhatIsMovedInherits(t *testing.T) {
	d := people(t)
	d.mustAdd(web, "objectClass: organizationalUnit")
	d.mustAdd("OU=deep,"+web, "objectClass: organizationalUnit")
	d.mustAdd("OU=other,DC=contoso,DC=com", "objectClass: organizationalUnit")
	d.mustAdd("CN=leaf,OU=deep,"+web, "objectClass: user")
	reader := d.Caller(t, "bob").SID
	d.changeDescriptor("OU=other,DC=contoso,DC=com", func(sd *secdesc.SecurityDescriptor) {
		sd.DACL.ACEs = append(sd.DACL.ACEs, secdesc.ACE{Flags: secdesc.ContainerInherit, Mask: secdesc.Delete, SID: reader})
	})
	if err := d.rename(d.admin, "OU=deep,"+web, "OU=deep", "OU=other,DC=contoso,DC=com"); err != nil {
		t.Fatal(err)
	}
	for _, dn := range []string{"OU=deep,OU=other,DC=contoso,DC=com", "CN=leaf,OU=deep,OU=other,DC=contoso,DC=com"} {
		if !grants(d.descriptor(dn), reader, secdesc.Delete) {
			t.Errorf("%s did not inherit", dn)
		}
	}
}

// grants reports whether an inherited entry of a descriptor gives sid a right.
func grants(sd secdesc.SecurityDescriptor, sid dtyp.SID, right secdesc.Mask) bool {
	for _, a := range sd.DACL.ACEs {
		if a.SID == sid && a.Mask.Has(right) && a.Flags&secdesc.Inherited != 0 && a.Flags&secdesc.InheritOnly == 0 {
			return true
		}
	}
	return false
}
