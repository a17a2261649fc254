package secdesc

import (
	"errors"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
)

// A small schema for the tests: a class, two property sets, three properties.
var (
	class    = dtyp.GUID{1}
	personal = dtyp.GUID{2}
	phone    = dtyp.GUID{3}
	address  = dtyp.GUID{4}
	public   = dtyp.GUID{5}
	mail     = dtyp.GUID{6}

	person = []Object{{0, class}, {1, personal}, {2, phone}, {2, address}, {1, public}, {2, mail}}
)

func mustSDDL(t testing.TB, s string) *SecurityDescriptor {
	t.Helper()
	sd, err := ParseSDDL(s, domain, root)
	if err != nil {
		t.Fatal(err)
	}
	return &sd
}

func TestCheck(t *testing.T) {
	user := Token{SIDs: []dtyp.SID{web1, dtyp.Everyone, dtyp.AuthenticatedUsers}}
	for name, c := range map[string]struct {
		sddl    string
		token   Token
		desired Mask
		granted Mask
		denied  bool
	}{
		"the reader of a managed password":   {"O:SYD:(A;;RP;;;" + web1.String() + ")", user, ReadProperty, ReadProperty, false},
		"somebody else":                      {"O:SYD:(A;;RP;;;" + web2.String() + ")", user, ReadProperty, 0, true},
		"a group":                            {"O:SYD:(A;;RP;;;AU)", user, ReadProperty, ReadProperty, false},
		"two entries together":               {"D:(A;;RP;;;AU)(A;;WP;;;WD)", user, ReadProperty | WriteProperty, ReadProperty | WriteProperty, false},
		"only a part":                        {"D:(A;;RP;;;AU)", user, ReadProperty | WriteProperty, ReadProperty, true},
		"an empty list":                      {"D:", user, ReadProperty, 0, true},
		"a null list":                        {"D:NO_ACCESS_CONTROL", user, FullControl, FullControl, false},
		"no list":                            {"O:SY", user, FullControl, FullControl, false},
		"a null list does not open the SACL": {"D:NO_ACCESS_CONTROL", user, AccessSystemSecurity, 0, true},
		"deny first":                         {"D:(D;;RP;;;AU)(A;;RP;;;WD)", user, ReadProperty, 0, true},
		"deny second":                        {"D:(A;;RP;;;WD)(D;;RP;;;AU)", user, ReadProperty, ReadProperty, false},
		"deny of another right":              {"D:(D;;WP;;;AU)(A;;RPWP;;;WD)", user, ReadProperty, ReadProperty, false},
		"deny of somebody else":              {"D:(D;;RP;;;BA)(A;;RP;;;WD)", user, ReadProperty, ReadProperty, false},
		"an entry for children only":         {"D:(A;CIIO;RP;;;AU)", user, ReadProperty, 0, true},
		"a deny for children only":           {"D:(D;CIIO;RP;;;AU)(A;;RP;;;AU)", user, ReadProperty, ReadProperty, false},
		"an inherited entry":                 {"D:(A;CIID;RP;;;AU)", user, ReadProperty, ReadProperty, false},
		"a generic entry":                    {"D:(A;;GA;;;AU)", user, FullControl, FullControl, false},
		"a generic request":                  {"D:(A;;LCRPLORC;;;AU)", user, GenericRead, DirectoryRead, false},
		"a generic request refused":          {"D:(A;;LCRPLO;;;AU)", user, GenericRead, DirectoryRead &^ ReadControl, true},
		"an object entry without an object":  {"D:(OA;;RP;;;AU)", user, ReadProperty, ReadProperty, false},
		"an object entry, no objects asked":  {"D:(OA;;RP;" + phone.String() + ";;AU)", user, ReadProperty, 0, true},
		"a deny of a property, none asked":   {"D:(OD;;RP;" + phone.String() + ";;AU)(A;;RP;;;AU)", user, ReadProperty, ReadProperty, false},
		"nothing":                            {"D:", user, 0, 0, false},

		"the owner may change the DACL":      {"O:" + web1.String() + "D:", user, ReadControl | WriteDAC, ReadControl | WriteDAC, false},
		"the owner may do no more":           {"O:" + web1.String() + "D:", user, WriteOwner, 0, true},
		"a deny does not reach the owner":    {"O:" + web1.String() + "D:(D;;WD;;;WD)", user, WriteDAC, WriteDAC, false},
		"owner rights limit the owner":       {"O:" + web1.String() + "D:(A;;RC;;;OW)", user, ReadControl | WriteDAC, ReadControl, true},
		"owner rights grant":                 {"O:" + web1.String() + "D:(A;;RP;;;OW)", user, ReadProperty, ReadProperty, false},
		"owner rights of somebody else":      {"O:SYD:(A;;RP;;;OW)", user, ReadProperty, 0, true},
		"owner rights for children only":     {"O:" + web1.String() + "D:(A;CIIO;RC;;;OW)", user, WriteDAC, WriteDAC, false},
		"self":                               {"D:(A;;RP;;;PS)", Token{SIDs: []dtyp.SID{web1}, Self: web1}, ReadProperty, ReadProperty, false},
		"not self":                           {"D:(A;;RP;;;PS)", Token{SIDs: []dtyp.SID{web1}, Self: web2}, ReadProperty, 0, true},
		"self of what is no principal":       {"D:(A;;RP;;;PS)", user, ReadProperty, 0, true},
		"the literal SID SELF in a token":    {"D:(A;;RP;;;PS)", Token{SIDs: []dtyp.SID{dtyp.PrincipalSelf}}, ReadProperty, 0, true},
		"a group that can only deny":         {"D:(A;;RP;;;BA)", Token{SIDs: []dtyp.SID{web1}, DenyOnly: []dtyp.SID{dtyp.BuiltinAdministrators}}, ReadProperty, 0, true},
		"and denies":                         {"D:(D;;RP;;;BA)(A;;RP;;;" + web1.String() + ")", Token{SIDs: []dtyp.SID{web1}, DenyOnly: []dtyp.SID{dtyp.BuiltinAdministrators}}, ReadProperty, 0, true},
		"self in a deny":                     {"D:(D;;RP;;;PS)(A;;RP;;;WD)", Token{SIDs: []dtyp.SID{dtyp.Everyone}, DenyOnly: []dtyp.SID{web1}, Self: web1}, ReadProperty, 0, true},
		"the security privilege":             {"D:", Token{Privileges: SeSecurityPrivilege}, AccessSystemSecurity, AccessSystemSecurity, false},
		"the take-ownership privilege":       {"D:(D;;WO;;;WD)", Token{SIDs: []dtyp.SID{dtyp.Everyone}, Privileges: SeTakeOwnershipPrivilege}, WriteOwner, WriteOwner, false},
		"all that is granted":                {"O:SYD:(D;;WP;;;AU)(A;;RPWPCR;;;WD)", user, MaximumAllowed, ReadProperty | ControlAccess, false},
		"all that is granted, and something": {"O:SYD:(A;;RP;;;WD)", user, MaximumAllowed | WriteProperty, ReadProperty, true},
		"an audit entry grants nothing":      {"D:S:(AU;SAFA;RP;;;WD)", user, ReadProperty, 0, true},
	} {
		granted, err := Check(mustSDDL(t, c.sddl), c.token, c.desired)
		if granted != c.granted || errors.Is(err, ErrDenied) != c.denied || (err != nil && !c.denied) {
			t.Errorf("%s: granted %v, error %v, want %v", name, granted, err, c.granted)
		}
	}
}

func TestCheckConditional(t *testing.T) {
	user := Token{SIDs: []dtyp.SID{dtyp.Everyone}}
	for kind, want := range map[ACEType]Mask{
		AllowCallback: 0, AllowCallbackObject: 0, DenyCallback: 0, DenyCallbackObject: 0, AuditCallback: ReadProperty, 0xff: ReadProperty,
	} {
		sd := SecurityDescriptor{DACL: &ACL{ACEs: []ACE{{Type: kind, Mask: ReadProperty, SID: dtyp.Everyone}}}}
		if !kind.IsAllow() { // whether it takes what the next entry gives
			sd.DACL.ACEs = append(sd.DACL.ACEs, ACE{Type: Allow, Mask: ReadProperty, SID: dtyp.Everyone})
		}
		if got, err := Check(&sd, user, ReadProperty); got != want {
			t.Errorf("kind %#02x: granted %v, error %v, want %v", uint8(kind), got, err, want)
		}
	}
}

// TestCheckObjects has for each descriptor the objects of person whose
// property may be read: class, personal, phone, address, public, mail.
func TestCheckObjects(t *testing.T) {
	user := Token{SIDs: []dtyp.SID{web1, dtyp.Everyone}}
	oa := func(kind string, g dtyp.GUID) string { return "(" + kind + ";;RP;" + g.String() + ";;WD)" }
	for name, c := range map[string]struct {
		sddl string
		want string // R where reading is granted
	}{
		"nothing":                          {"D:", "------"},
		"everything":                       {"D:(A;;RP;;;WD)", "RRRRRR"},
		"the class by name":                {"D:" + oa("OA", class), "RRRRRR"},
		"one property":                     {"D:" + oa("OA", phone), "--R---"},
		"a property set":                   {"D:" + oa("OA", personal), "-RRR--"},
		"an only child gives its parent":   {"D:" + oa("OA", mail), "----RR"},
		"all children give their parent":   {"D:" + oa("OA", phone) + oa("OA", address), "-RRR--"},
		"all properties give the class":    {"D:" + oa("OA", phone) + oa("OA", address) + oa("OA", mail), "RRRRRR"},
		"a deny takes parents along":       {"D:" + oa("OD", phone) + "(A;;RP;;;WD)", "---RRR"},
		"a deny of a set":                  {"D:" + oa("OD", personal) + "(A;;RP;;;WD)", "----RR"},
		"a deny after the grant":           {"D:" + oa("OA", phone) + oa("OD", personal) + "(A;;RP;;;WD)", "--R-RR"},
		"a deny of everything":             {"D:(D;;RP;;;WD)" + oa("OA", phone), "------"},
		"an object that is not asked for":  {"D:" + oa("OA", dtyp.GUID{9}) + oa("OD", dtyp.GUID{10}), "------"},
		"a denied parent stays denied":     {"D:" + oa("OD", address) + oa("OA", phone) + oa("OA", address), "--R---"},
		"a grant of the set, one denied":   {"D:" + oa("OD", address) + oa("OA", personal), "--R---"},
		"an inherit-only object entry":     {"D:(OA;CIIO;RP;" + phone.String() + ";;WD)", "------"},
		"an inherited type does not count": {"D:(OA;;RP;;" + phone.String() + ";WD)", "RRRRRR"},
	} {
		sd := mustSDDL(t, c.sddl)
		granted, err := CheckEach(sd, user, ReadProperty, person...)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, m := range granted {
			got += map[Mask]string{0: "-", ReadProperty: "R"}[m]
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", name, got, c.want)
		}
		if _, err := Check(sd, user, ReadProperty, person...); (err == nil) != (c.want[0] == 'R') {
			t.Errorf("%s: Check says %v", name, err)
		}
	}
}

func TestObjectTree(t *testing.T) {
	for name, objects := range map[string][]Object{
		"a root at level 1":   {{1, class}},
		"two roots":           {{0, class}, {0, personal}},
		"a level left out":    {{0, class}, {2, phone}},
		"a negative level":    {{-1, class}},
		"a level too deep":    {{0, class}, {1, personal}, {3, phone}},
		"a negative sub-node": {{0, class}, {1, personal}, {-1, phone}},
	} {
		if _, err := Check(&SecurityDescriptor{}, Token{}, ReadProperty, objects...); !errors.Is(err, ErrObjectTree) {
			t.Errorf("%s: error %v, want ErrObjectTree", name, err)
		}
	}
}

func BenchmarkCheckProperty(b *testing.B) {
	sd := mustSDDL(b, userDefault)
	token := Token{SIDs: []dtyp.SID{web1, domain.Child(513), dtyp.Everyone, dtyp.AuthenticatedUsers}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := CheckEach(sd, token, ReadProperty, person...); err != nil {
			b.Fatal(err)
		}
	}
}
