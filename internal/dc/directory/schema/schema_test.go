package schema

import (
	"bytes"
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secdesc"
)

func load(t testing.TB) *Schema {
	t.Helper()
	s, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustAttribute(t testing.TB, s *Schema, name string) *Attribute {
	t.Helper()
	a, ok := s.Attribute(name)
	if !ok {
		t.Fatalf("no attribute %s", name)
	}
	return a
}

func mustExpand(t testing.TB, s *Schema, names ...string) ObjectClass {
	t.Helper()
	o, err := s.Expand(names...)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestAttributesAreActiveDirectorys pins what access control, links and indexes
// hang on, from [MS-ADA1] to [MS-ADA3].
func TestAttributesAreActiveDirectorys(t *testing.T) {
	s := load(t)
	for name, c := range map[string]struct {
		oid, guid, set string
		link           int
		is             string // S single, Y system-only, X indexed, C constructed, H confidential
	}{
		"member":                  {"2.5.4.31", "bf9679c0-0de6-11d0-a285-00aa003049e2", "bc0ac240-79a9-11d0-9020-00c04fc2d4cf", 2, ""},
		"memberOf":                {"1.2.840.113556.1.2.102", "bf967991-0de6-11d0-a285-00aa003049e2", "bc0ac240-79a9-11d0-9020-00c04fc2d4cf", 3, "Y"},
		"sAMAccountName":          {"1.2.840.113556.1.4.221", "3e0abfd0-126a-11d0-a060-00aa006c33ed", "59ba2f42-79a2-11d0-9020-00c04fc2d3cf", -1, "SX"},
		"objectSid":               {"1.2.840.113556.1.4.146", "bf9679e8-0de6-11d0-a285-00aa003049e2", "59ba2f42-79a2-11d0-9020-00c04fc2d3cf", -1, "SYX"},
		"servicePrincipalName":    {"1.2.840.113556.1.4.771", "f3a64788-5306-11d1-a9c5-0000f80367c1", "e48d0154-bcf8-11d1-8702-00c04fb96050", -1, "X"},
		"msDS-ManagedPassword":    {"1.2.840.113556.1.4.2196", "e362ed86-b728-0842-b27d-2dea7a9df218", "", -1, "SC"},
		"msKds-RootKeyData":       {"1.2.840.113556.1.4.2175", "26627c27-08a2-0a40-a1b1-8dce85b42993", "", -1, "SH"},
		"tokenGroups":             {"1.2.840.113556.1.4.1301", "b7c69e6d-2cc7-11d2-854e-00a0c983f608", "037088f8-0ae1-11d2-b422-00a0c968f939", -1, "C"},
		"msDS-GroupMSAMembership": {"1.2.840.113556.1.4.2200", "888eedd6-ce04-df40-b462-b8a50e41ba38", "", -1, "S"},
	} {
		a := mustAttribute(t, s, strings.ToUpper(name))
		if byOID := mustAttribute(t, s, "OID."+c.oid); byOID != a || a.Name != name {
			t.Errorf("%s by its OID is %s", name, byOID.Name)
		}
		if g, _ := dtyp.ParseGUID(c.guid); a.GUID != g {
			t.Errorf("%s: schemaIDGUID %v", name, a.GUID)
		}
		if set, _ := dtyp.ParseGUID(c.set); a.PropertySet != set {
			t.Errorf("%s: property set %v, want %q", name, a.PropertySet, c.set)
		}
		is := ""
		for flag, set := range map[string]bool{"S": a.SingleValued, "Y": a.SystemOnly, "X": a.Indexed(), "C": a.Constructed(), "H": a.Confidential()} {
			if set {
				is += flag
			}
		}
		if a.LinkID != c.link || len(is) != len(c.is) || strings.Trim(is, c.is) != "" {
			t.Errorf("%s: link %d, %q; want %d, %q", name, a.LinkID, is, c.link, c.is)
		}
	}
	member, memberOf := mustAttribute(t, s, "member"), mustAttribute(t, s, "memberOf")
	if other, ok := s.Linked(member); !ok || other != memberOf || !member.ForwardLink() || !memberOf.BackLink() {
		t.Errorf("member is linked with %v", other)
	}
	if _, ok := s.Attribute("unheardOf"); ok {
		t.Error("an attribute that nobody defined")
	}
}

func TestEveryDefinitionIsUsable(t *testing.T) {
	s := load(t)
	domain := dtyp.NewSID(5, 21, 1, 2, 3)
	for _, c := range s.Classes() {
		if _, err := secdesc.ParseSDDL(c.SDDL, domain, domain); err != nil {
			t.Errorf("%s: default security descriptor: %v", c.Name, err)
		}
		if found := slices.ContainsFunc(s.Classes(), func(o *Class) bool { return o.CN == c.DefaultCategory }); !found {
			t.Errorf("%s: default category %s is no class", c.Name, c.DefaultCategory)
		}
		if c.Category == Structural || c.Category == Class88 {
			o := mustExpand(t, s, c.Name)
			if o.Classes[0].Name != "top" || o.Structural() != c {
				t.Errorf("%s expands to %q", c.Name, o.Names())
			}
			if !slices.Contains(o.Must(), "nTSecurityDescriptor") {
				t.Errorf("%s does not inherit from top: %q", c.Name, o.Must())
			}
		}
	}
	for _, a := range s.Attributes() {
		if oid, om := a.Syntax.OID(); oid == "" || om == 0 {
			t.Errorf("%s has no syntax", a.Name)
		}
		if a.BackLink() && !a.Syntax.IsDN() || a.ForwardLink() && !a.Syntax.IsDN() {
			t.Errorf("%s is a link of syntax %d", a.Name, a.Syntax)
		}
	}
}

func TestClassesOfAnObject(t *testing.T) {
	s := load(t)
	for name, c := range map[string]struct {
		named []string
		want  string // empty: refused
	}{
		"only the leaf":                {[]string{"msDS-GroupManagedServiceAccount"}, "top person organizationalPerson user computer msDS-GroupManagedServiceAccount"},
		"as msktutil writes them":      {[]string{"top", "person", "organizationalPerson", "user", "computer"}, "top person organizationalPerson user computer"},
		"in disorder and another case": {[]string{"COMPUTER", "Top", "user"}, "top person organizationalPerson user computer"},
		"by OID":                       {[]string{"1.2.840.113556.1.5.8"}, "top group"},
		"with an auxiliary class":      {[]string{"container", "posixGroup"}, "top posixGroup container"},
		"one twice":                    {[]string{"group", "group"}, "top group"},
		"two structural ones":          {[]string{"group", "user"}, ""},
		"an abstract one beside it":    {[]string{"leaf", "user"}, ""},
		"abstract ones alone":          {[]string{"top", "leaf"}, ""},
		"an auxiliary one alone":       {[]string{"posixAccount"}, ""},
		"one that nobody defined":      {[]string{"unicorn"}, ""},
		"none":                         {nil, ""},
	} {
		o, err := s.Expand(c.named...)
		switch {
		case c.want == "" && !errors.Is(err, ErrClass):
			t.Errorf("%s: %q, %v", name, o.Names(), err)
		case c.want != "" && (err != nil || strings.Join(o.Names(), " ") != c.want):
			t.Errorf("%s: %q, %v", name, o.Names(), err)
		}
	}
	user := mustExpand(t, s, "user")
	for class, want := range map[string]bool{"USER": true, "person": true, "securityPrincipal": true, "computer": false, "group": false} {
		if user.Has(class) != want {
			t.Errorf("a user is a %s: %t", class, !want)
		}
	}
}

func TestWhereAnObjectMayLie(t *testing.T) {
	s := load(t)
	for name, c := range map[string]struct {
		child, parent, rdn string
		want               error
	}{
		"a gMSA in its container":        {"msDS-GroupManagedServiceAccount", "container", "CN", nil},
		"a user in an OU":                {"user", "organizationalUnit", "cn", nil},
		"an OU at the domain's head":     {"organizationalUnit", "domainDNS", "ou", nil},
		"an OU in a container":           {"organizationalUnit", "container", "ou", ErrNaming},
		"an OU called CN":                {"organizationalUnit", "domainDNS", "cn", ErrNaming},
		"a user called by an OID":        {"user", "container", "2.5.4.3", nil},
		"a user called by nothing known": {"user", "container", "x", ErrNaming},
		"a user in a user":               {"user", "user", "cn", ErrNaming},
		"a group in a group":             {"group", "group", "cn", ErrNaming},
		"what is the directory's own":    {"dMD", "configuration", "cn", ErrClass},
		"a root key where they lie":      {"msKds-ProvRootKey", "container", "cn", nil},
	} {
		err := s.CheckClasses(mustExpand(t, s, c.child), mustExpand(t, s, c.parent), c.rdn)
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestWhatAnObjectMustAndMayHave(t *testing.T) {
	s := load(t)
	o := mustExpand(t, s, "msDS-GroupManagedServiceAccount")
	must := strings.Join(o.Must(), " ")
	if must != "cn instanceType msDS-ManagedPasswordInterval nTSecurityDescriptor objectCategory objectClass objectSid sAMAccountName" {
		t.Errorf("a gMSA must have %s", must)
	}
	var present []*Attribute
	for _, n := range o.Must() {
		present = append(present, mustAttribute(t, s, n))
	}
	if err := o.CheckPresent(append(present, mustAttribute(t, s, "servicePrincipalName"), mustAttribute(t, s, "dNSHostName"))); err != nil {
		t.Error(err)
	}
	if err := o.CheckPresent(present[1:]); !errors.Is(err, ErrClass) || !strings.Contains(err.Error(), "cn") {
		t.Errorf("without its name: %v", err)
	}
	if err := o.CheckPresent(append(present, mustAttribute(t, s, "member"))); !errors.Is(err, ErrClass) || !strings.Contains(err.Error(), "member") {
		t.Errorf("with members: %v", err)
	}
	if may := o.May(); slices.Contains(may, "cn") || !slices.Contains(may, "msDS-ManagedPassword") {
		t.Errorf("a gMSA may have %d attributes", len(may))
	}
}

func TestValuesThatMayBeStored(t *testing.T) {
	s := load(t)
	sd, err := secdesc.GroupMSAMembership(dtyp.AuthenticatedUsers).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		attribute, value string
		want             error
	}{
		{"userAccountControl", "4096", nil},
		{"userAccountControl", "4294967295", nil},
		{"userAccountControl", "4294967296", ErrSyntax},
		{"userAccountControl", " 1", ErrSyntax},
		{"pwdLastSet", "-1", nil},
		{"pwdLastSet", "9223372036854775808", ErrSyntax},
		{"isCriticalSystemObject", "TRUE", nil},
		{"isCriticalSystemObject", "true", ErrSyntax},
		{"whenCreated", "20261120135000.0Z", nil},
		{"whenCreated", "20261320135000.0Z", ErrSyntax},
		{"whenCreated", "20261120135000.0", ErrSyntax},
		{"objectSid", "S-1-5-18", ErrSyntax},
		{"objectSid", string(dtyp.LocalSystem.Bytes()), nil},
		{"sAMAccountName", strings.Repeat("ä", 256), nil},
		{"sAMAccountName", strings.Repeat("a", 257), ErrRange},
		{"sAMAccountName", "", ErrSyntax},
		{"sAMAccountName", "\xff", ErrSyntax},
		{"member", "CN=a,DC=b", nil},
		{"member", "a", ErrSyntax},
		{"msDS-GroupMSAMembership", string(sd), nil},
		{"msDS-GroupMSAMembership", string(sd[:len(sd)-1]), ErrSyntax},
		{"msKds-RootKeyData", strings.Repeat("k", 128), nil},
		{"msKds-RootKeyData", strings.Repeat("k", 129), ErrRange},
		{"wellKnownObjects", "B:32:AA312825768811D1ADED00C04FD8D5CD:CN=Computers,DC=b", nil},
		{"wellKnownObjects", "B:32:AA312825768811D1ADED00C04FD8D5CG:CN=Computers,DC=b", ErrSyntax},
		{"wellKnownObjects", "B:34:AA312825768811D1ADED00C04FD8D5CD:CN=Computers,DC=b", ErrSyntax},
		{"wellKnownObjects", "S:2:AA:CN=Computers,DC=b", ErrSyntax},
		{"wellKnownObjects", "B:2:AA:", ErrSyntax},
	} {
		if err := mustAttribute(t, s, c.attribute).Check([]byte(c.value)); !errors.Is(err, c.want) {
			t.Errorf("%s %.40q: %v, want %v", c.attribute, c.value, err, c.want)
		}
	}
}

func TestWhatIsEqual(t *testing.T) {
	for _, c := range []struct {
		syntax Syntax
		a, b   string
		want   bool
	}{
		{Unicode, "WebApp01$", "WEBAPP01$", true},
		{Unicode, "Straße", "STRASSE", false},
		{Unicode, "ÄΣ", "äς", true},
		{Unicode, "a", "á", false},
		{IA5, "a", "A", false},
		{Integer, "010", "10", true},
		{Integer, "-1", "4294967295", true},
		{LargeInteger, "+5", "5", true},
		{SID, "S-1-5-18", string(dtyp.LocalSystem.Bytes()), true},
		{GeneralizedTime, "20261120135000.0Z", "20261120135000Z", true},
		{GeneralizedTime, "20261120135000.0Z", "261120135000Z", true},
		{DN, "cn=Web\\2C App,dc=Contoso , DC=com", "CN=WEB\\, APP,DC=contoso,DC=com", true},
		{DN, "CN=a,DC=b", "CN=a\\,DC=b", false},
		{OctetString, "a", "A", false},
	} {
		a, err1 := c.syntax.Key([]byte(c.a))
		b, err2 := c.syntax.Key([]byte(c.b))
		if err1 != nil || err2 != nil || bytes.Equal(a, b) != c.want {
			t.Errorf("%d: %q and %q are equal: %t, want %t (%v, %v)", c.syntax, c.a, c.b, !c.want, c.want, err1, err2)
		}
	}
}

func TestKeysSortAsTheirValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64().Draw(t, "a"), rapid.Int64().Draw(t, "b")
		key := func(s Syntax, v string) []byte {
			k, err := s.Key([]byte(v))
			if err != nil {
				t.Fatal(err)
			}
			return k
		}
		text := func(n int64) string { return string(fmtInt(n)) }
		if bytes.Compare(key(LargeInteger, text(a)), key(LargeInteger, text(b))) != cmp.Compare(a, b) {
			t.Fatalf("%d and %d", a, b)
		}
		ta, tb := time.Unix(a%4e9, 0), time.Unix(b%4e9, 0)
		if ta.Year() > 1000 && tb.Year() > 1000 &&
			bytes.Compare(key(GeneralizedTime, FormatTime(ta)), key(GeneralizedTime, FormatTime(tb))) != ta.Compare(tb) {
			t.Fatalf("%v and %v", ta, tb)
		}
	})
}

func fmtInt(n int64) []byte {
	i := n
	return []byte(bound(&i))
}

func FuzzValues(f *testing.F) {
	f.Add(uint8(DNBinary), []byte("B:32:AA312825768811D1ADED00C04FD8D5CD:CN=Computers,DC=b"))
	f.Add(uint8(GeneralizedTime), []byte("20261120135000.0Z"))
	f.Add(uint8(DN), []byte("CN=a,DC=b"))
	f.Add(uint8(SID), []byte("S-1-5-21-1-2-3"))
	f.Add(uint8(Unicode), []byte("İı"))
	f.Fuzz(func(t *testing.T, n uint8, v []byte) {
		s := Syntax(n % uint8(SID+1))
		if s.check(v) != nil {
			return
		}
		k, err := s.Key(v)
		if err != nil {
			t.Fatalf("%d: %q may be stored, and has no key: %v", s, v, err)
		}
		if s.Text() || s == DN {
			again, err := s.Key(k)
			if err != nil || !bytes.Equal(again, k) {
				t.Fatalf("%d: the key of %q is %q, and that of the key %q (%v)", s, v, k, again, err)
			}
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		load(b)
	}
}
