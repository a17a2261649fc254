package access

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/secdesc"
)

var (
	domain  = dtyp.NewSID(5, 21, 1, 2, 3)
	admins  = domain.Child(dtyp.RIDDomainAdmins)
	group   = domain.Child(dtyp.RIDDomainUsers)
	helpers = domain.Child(1200)
	machine = domain.Child(1104)
)

// Rights of [MS-ADTS] 5.1.3.2.1 and 5.1.3.2.2.
const (
	validatedSPN     = "f3a64788-5306-11d1-a9c5-0000f80367c1"
	validatedDNSName = "72e39547-7b18-11d1-adef-00c04fd8d5cd"
	changePassword   = "ab721a53-1e2f-11d0-9819-00aa0040529b"
	resetPassword    = "00299570-246d-11d0-a768-00aa006e0529"
)

func sddl(t testing.TB, s string) secdesc.SecurityDescriptor {
	t.Helper()
	sd, err := secdesc.ParseSDDL(s, domain, domain)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return sd
}

func text(t testing.TB, sd secdesc.SecurityDescriptor) string {
	t.Helper()
	s, err := sd.SDDLIn(domain, domain)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func guid(t testing.TB, s string) dtyp.GUID {
	t.Helper()
	g, err := dtyp.ParseGUID(s)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func load(t testing.TB) *schema.Schema {
	t.Helper()
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// made is an object of a class as Domain Admins make it, with the class's
// default descriptor, below parent.
func made(t testing.TB, s *schema.Schema, class string, parent *secdesc.SecurityDescriptor, sid dtyp.SID) Object {
	t.Helper()
	c, ok := s.Class(class)
	if !ok {
		t.Fatalf("no class %s", class)
	}
	sd := Create(NewObject{Parent: parent, Class: c.GUID, Default: sddl(t, c.SDDL), Owner: admins, Group: group})
	return Object{SD: &sd, Class: c.GUID, SID: sid}
}

func attribute(t testing.TB, s *schema.Schema, name string) *schema.Attribute {
	t.Helper()
	a, ok := s.Attribute(name)
	if !ok {
		t.Fatalf("no attribute %s", name)
	}
	return a
}

// callers of the tests: everybody who logged on is in Authenticated Users.
func caller(sids ...dtyp.SID) secdesc.Token {
	return secdesc.Token{SIDs: append(sids, dtyp.Everyone, dtyp.AuthenticatedUsers)}
}

func TestWhoReadsWhat(t *testing.T) {
	s := load(t)
	user := made(t, s, "user", nil, domain.Child(1300))
	rootKey := made(t, s, "msKds-ProvRootKey", nil, dtyp.SID{})
	anonymous := secdesc.Token{SIDs: []dtyp.SID{dtyp.Everyone, dtyp.Anonymous}}
	for name, c := range map[string]struct {
		object    Object
		caller    secdesc.Token
		attribute string
		want      bool
	}{
		"a logged-on user a name":                        {user, caller(machine), "sAMAccountName", true},
		"nobody in particular a name":                    {user, anonymous, "sAMAccountName", false},
		"the user its own name":                          {user, caller(user.SID), "sAMAccountName", true},
		"an administrator a password":                    {user, caller(admins), "unicodePwd", false},
		"the system a password":                          {user, caller(dtyp.LocalSystem), "supplementalCredentials", false},
		"a logged-on user a descriptor":                  {user, caller(machine), "nTSecurityDescriptor", true},
		"a logged-on user a root key":                    {rootKey, caller(machine), "msKds-RootKeyData", false},
		"a logged-on user a recovery key (confidential)": {user, caller(machine), "msTPM-OwnerInformation", false},
		"an administrator a recovery key":                {user, caller(admins), "msTPM-OwnerInformation", true},
	} {
		if got := c.object.Readable(c.caller, attribute(t, s, c.attribute)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestConfidentialAttributesTakeControlAccess: the right to read everything is
// not enough for them, with or without a property set.
func TestConfidentialAttributesTakeControlAccess(t *testing.T) {
	s := load(t)
	sd := sddl(t, "O:DAG:DAD:(A;;RP;;;AU)(A;;RPCR;;;DA)(OA;;CR;"+attribute(t, s, "msTPM-OwnerInformation").GUID.String()+";;"+helpers.String()+")")
	o := Object{SD: &sd, Class: dtyp.GUID{1}}
	for name, c := range map[string]struct {
		caller    secdesc.Token
		attribute string
		want      bool
	}{
		"a reader a plain one":               {caller(machine), "description", true},
		"a reader a confidential one":        {caller(machine), "msTPM-OwnerInformation", false},
		"a reader a root key":                {caller(machine), "msKds-RootKeyData", false},
		"an administrator a root key":        {caller(admins), "msKds-RootKeyData", true},
		"who has the right for it":           {caller(helpers), "msTPM-OwnerInformation", true},
		"who has the right for another":      {caller(helpers), "msKds-RootKeyData", false},
		"who has the right but may not read": {secdesc.Token{SIDs: []dtyp.SID{helpers}}, "msTPM-OwnerInformation", false},
	} {
		if got := o.Readable(c.caller, attribute(t, s, c.attribute)); got != c.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// TestAMachineWritesItsOwnNames: what adcli and msktutil do as the machine goes
// by validated writes, and for itself only.
func TestAMachineWritesItsOwnNames(t *testing.T) {
	s := load(t)
	for _, class := range []string{"computer", "msDS-GroupManagedServiceAccount"} {
		o := made(t, s, class, nil, machine)
		for name, c := range map[string]struct {
			caller secdesc.Token
			want   bool
		}{
			"itself":           {caller(machine), true},
			"another machine":  {caller(domain.Child(1105)), false},
			"an administrator": {caller(admins), true},
		} {
			for _, right := range []string{validatedSPN, validatedDNSName} {
				if got := o.Validates(c.caller, guid(t, right)); got != c.want {
					t.Errorf("%s of a %s: validated write %s: %t", name, class, right, got)
				}
			}
			if spn := o.Writable(c.caller, attribute(t, s, "servicePrincipalName")); spn != (name == "an administrator") {
				t.Errorf("%s of a %s: plain write of SPNs: %t", name, class, spn)
			}
		}
	}
	gmsa, computer := made(t, s, "msDS-GroupManagedServiceAccount", nil, machine), made(t, s, "computer", nil, machine)
	if gmsa.Controls(caller(admins), guid(t, resetPassword)) {
		t.Error("somebody may set the password of a gMSA")
	}
	if !computer.Controls(caller(admins), guid(t, resetPassword)) || !computer.Controls(caller(machine), guid(t, changePassword)) {
		t.Error("the password of a computer: administrators set it, anybody who knows it changes it")
	}
}

// TestDelegatedCreationIsAnEntry: who was delegated the creation of gMSAs makes
// these below the container, nothing else, and nowhere else.
func TestDelegatedCreationIsAnEntry(t *testing.T) {
	s := load(t)
	gmsa, _ := s.Class("msDS-GroupManagedServiceAccount")
	user, _ := s.Class("user")
	container := made(t, s, "container", nil, dtyp.SID{})
	other := made(t, s, "container", nil, dtyp.SID{})
	delegated := secdesc.ACE{Type: secdesc.AllowObject, Mask: secdesc.CreateChild | secdesc.DeleteChild, ObjectType: &gmsa.GUID, SID: helpers}
	container.SD.DACL.ACEs = append(container.SD.DACL.ACEs, delegated)
	helper := caller(helpers)
	for name, c := range map[string]struct{ got, want bool }{
		"a gMSA there":             {container.Creates(helper, gmsa.GUID), true},
		"a user there":             {container.Creates(helper, user.GUID), false},
		"a gMSA elsewhere":         {other.Creates(helper, gmsa.GUID), false},
		"a gMSA by nobody":         {container.Creates(caller(machine), gmsa.GUID), false},
		"a user by administrators": {container.Creates(caller(admins), user.GUID), true},
	} {
		if c.got != c.want {
			t.Errorf("%s: created %t", name, c.got)
		}
	}
	g, u := made(t, s, gmsa.Name, container.SD, machine), made(t, s, "user", container.SD, domain.Child(1300))
	if !g.Deletes(helper, container) || u.Deletes(helper, container) || g.Deletes(helper, other) {
		t.Error("DELETE_CHILD for gMSAs deletes them, where it stands, and nothing else")
	}
	creator := secdesc.ACE{Type: secdesc.Allow, Mask: secdesc.CreateChild, SID: domain.Child(1201)}
	other.SD.DACL.ACEs = append(other.SD.DACL.ACEs, creator)
	if g.Deletes(caller(creator.SID), other) || !other.Creates(caller(creator.SID), gmsa.GUID) {
		t.Error("CREATE_CHILD creates and does not delete")
	}
	if g.DeletesTree(helper) || g.Writable(helper, attribute(t, s, "msDS-GroupMSAMembership")) {
		t.Error("creating children is no right over objects that others made")
	}
}

func TestPartsOfADescriptor(t *testing.T) {
	o := Object{Class: dtyp.GUID{1}}
	sd := sddl(t, "O:BAG:BAD:(A;;RC;;;AU)(A;;WD;;;"+helpers.String()+")(A;;WO;;;DA)")
	o.SD = &sd
	const all = allParts
	auditor := caller(machine)
	auditor.Privileges = secdesc.SeSecurityPrivilege
	for name, c := range map[string]struct{ got, want int }{
		"a reader reads":              {o.Parts(caller(machine), all), adproto.SDOwner | adproto.SDGroup | adproto.SDDACL},
		"a reader reads what it asks": {o.Parts(caller(machine), adproto.SDDACL), adproto.SDDACL},
		"an auditor reads":            {o.Parts(auditor, all), all},
		"a stranger reads":            {o.Parts(secdesc.Token{}, all), 0},
		"WRITE_DAC writes":            {o.WritableParts(caller(helpers), all), adproto.SDDACL},
		"WRITE_OWNER writes":          {o.WritableParts(caller(admins), all), adproto.SDOwner | adproto.SDGroup},
		"the owner writes":            {o.WritableParts(caller(dtyp.BuiltinAdministrators), all), adproto.SDDACL},
		"a reader writes":             {o.WritableParts(caller(machine), all), 0},
	} {
		if c.got != c.want {
			t.Errorf("%s: parts %#x, want %#x", name, c.got, c.want)
		}
	}
	if !MayOwn(caller(machine), machine, machine) || MayOwn(caller(machine), admins, machine, admins) || MayOwn(caller(machine, helpers), helpers, machine) {
		t.Error("an owner is the caller, or a group that it is in and that may own")
	}
}

const classA, classB = "bf967a86-0de6-11d0-a285-00aa003049e2", "bf967aba-0de6-11d0-a285-00aa003049e2"

// TestInheritance states each rule of [MS-DTYP] 2.5.3.4.4 in SDDL: the parent's
// entries, and what a child of class A gets.
func TestInheritance(t *testing.T) {
	owner := machine.String()
	for name, c := range map[string]struct{ parent, given, want string }{
		"an entry that is not inherited":      {"(A;;RP;;;AU)", "", ""},
		"one for containers":                  {"(A;CI;RP;;;AU)", "", "(A;CIID;RP;;;AU)"},
		"one for others than containers":      {"(A;OI;RP;;;AU)", "", ""},
		"one that is only inherited":          {"(A;CIIO;RP;;;AU)", "", "(A;CIID;RP;;;AU)"},
		"one that goes one level":             {"(A;CINP;RP;;;AU)", "", "(A;ID;RP;;;AU)"},
		"one inherited by the parent":         {"(A;CIID;RP;;;AU)", "", "(A;CIID;RP;;;AU)"},
		"one for this class":                  {"(OA;CI;RP;;" + classA + ";AU)", "", "(OA;CIID;RP;;" + classA + ";AU)"},
		"one for another class":               {"(OA;CI;RP;;" + classB + ";AU)", "", "(OA;CIIOID;RP;;" + classB + ";AU)"},
		"one for another class, one level":    {"(OA;CINP;RP;;" + classB + ";AU)", "", ""},
		"one for the creator":                 {"(A;CI;RP;;;CO)", "", "(A;ID;RP;;;" + owner + ")(A;CIIOID;RP;;;CO)"},
		"one for the creator, one level":      {"(A;CINP;RP;;;CO)", "", "(A;ID;RP;;;" + owner + ")"},
		"one for the creator's group":         {"(A;CINP;RP;;;CG)", "", "(A;ID;RP;;;DU)"},
		"one with generic rights":             {"(A;CI;GR;;;AU)", "", "(A;ID;LCRPLORC;;;AU)(A;CIIOID;GR;;;AU)"},
		"those given come first":              {"(D;CI;RP;;;AU)", "D:(A;;RP;;;AU)", "(A;;RP;;;AU)(D;CIID;RP;;;AU)"},
		"given, for the creator":              {"", "D:(A;;RP;;;CO)", "(A;;RP;;;" + owner + ")"},
		"given, for the creator, inheritable": {"", "D:(A;CI;RP;;;CO)", "(A;;RP;;;" + owner + ")(A;CIIO;RP;;;CO)"},
		"given, but inherited elsewhere":      {"", "D:(A;ID;RP;;;AU)(A;;WP;;;AU)", "(A;;WP;;;AU)"},
		"given, but no list":                  {"(A;CI;RP;;;AU)", "O:" + owner, "(A;;LC;;;WD)(A;CIID;RP;;;AU)"},
		"nothing given":                       {"", "", ""},
	} {
		parent := sddl(t, "O:DAG:DUD:"+c.parent)
		n := NewObject{Parent: &parent, Class: guid(t, classA), Default: sddl(t, "D:"), Owner: machine, Group: group}
		if c.given != "" {
			given := sddl(t, c.given)
			n.Given = &given
			n.Default = sddl(t, "D:(A;;LC;;;WD)")
		}
		if got, want := text(t, Create(n)), "O:"+owner+"G:DUD:AI"+c.want; got != want {
			t.Errorf("%s:\n%s, want\n%s", name, got, want)
		}
	}
}

func TestAProtectedObjectInheritsNothing(t *testing.T) {
	parent := sddl(t, "O:DAG:DAD:(A;CI;RP;;;AU)S:(AU;CISA;WP;;;WD)")
	given := sddl(t, "O:EAG:EAD:P(A;;RP;;;DA)")
	sd := Create(NewObject{Parent: &parent, Class: guid(t, classA), Given: &given, Owner: machine, Group: group})
	if got, want := text(t, sd), "O:EAG:EAD:PAI(A;;RP;;;DA)S:AI(AU;CIIDSA;WP;;;WD)"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// Its protection taken away, it gets what it would have had.
	sd.Control &^= secdesc.DACLProtected
	if got := text(t, Reinherit(sd, &parent, guid(t, classA))); !strings.Contains(got, "(A;;RP;;;DA)(A;CIID;RP;;;AU)") {
		t.Errorf("got %s", got)
	}
	// A head of a naming context that nobody gave a list is nobody's.
	if sd := Reinherit(secdesc.SecurityDescriptor{Owner: admins}, nil, dtyp.GUID{}); sd.DACL == nil || len(sd.DACL.ACEs) != 0 {
		t.Errorf("no DACL is %v", sd.DACL)
	}
}

// TestReinheritingIsCreating: descriptors that were recomputed after any change
// of the parent's are those that objects made now would have, and a second
// time changes nothing.
func TestReinheritingIsCreating(t *testing.T) {
	aces := []string{"(A;CI;RP;;;AU)", "(A;CINP;WP;;;CO)", "(A;CIIO;GA;;;CO)", "(D;;CC;;;WD)",
		"(OA;CI;RP;;" + classA + ";AU)", "(OA;CIIO;WP;;" + classB + ";DA)", "(A;CI;GR;;;CG)", "(A;;SD;;;DA)"}
	draw := rapid.SliceOfN(rapid.SampledFrom(aces), 0, 5)
	rapid.Check(t, func(rt *rapid.T) {
		before := sddl(t, "O:DAG:DAD:"+strings.Join(draw.Draw(rt, "before"), ""))
		after := sddl(t, "O:DAG:DAD:"+strings.Join(draw.Draw(rt, "after"), ""))
		given := sddl(t, "O:DAG:DUD:"+rapid.SampledFrom([]string{"", "P"}).Draw(rt, "protected")+strings.Join(draw.Draw(rt, "given"), ""))
		n := NewObject{Parent: &before, Class: guid(t, rapid.SampledFrom([]string{classA, classB}).Draw(rt, "class")), Given: &given}
		old := Create(n)
		n.Parent = &after
		want := Create(n)
		got := Reinherit(old, &after, n.Class)
		if diff := cmp.Diff(text(t, want), text(t, got)); diff != "" {
			rt.Fatalf("recomputed differs from new: %s", diff)
		}
		if again := Reinherit(got, &after, n.Class); text(t, again) != text(t, got) {
			rt.Fatalf("a second time: %s, then %s", text(t, got), text(t, again))
		}
		for _, a := range got.DACL.ACEs {
			if a.Flags&secdesc.InheritOnly == 0 && (a.SID == dtyp.CreatorOwner || a.Mask&(secdesc.GenericAll|secdesc.GenericRead) != 0) {
				rt.Fatalf("an effective entry is left open: %s", text(t, got))
			}
		}
	})
}
