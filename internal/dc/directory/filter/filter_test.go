package filter

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
)

// fakeEntry is an entry whose caller may read all but what is hidden.
type fakeEntry struct {
	values map[string][]string
	hidden map[string]bool
	chain  []string // names that memberOf leads to
}

func (e fakeEntry) Values(a *schema.Attribute) ([][]byte, bool) {
	if e.hidden[a.Name] {
		return nil, false
	}
	var out [][]byte
	for _, v := range e.values[a.Name] {
		out = append(out, []byte(v))
	}
	return out, true
}

func (e fakeEntry) Present(a *schema.Attribute) (bool, bool) {
	return len(e.values[a.Name]) > 0, !e.hidden[a.Name]
}

func (e fakeEntry) Linked(a *schema.Attribute, target adproto.DN) (bool, bool) {
	return slices.ContainsFunc(e.values[a.Name], func(s string) bool {
		dn, err := adproto.ParseDN(s)
		return err == nil && dn.EqualFold(target)
	}), !e.hidden[a.Name]
}

func (e fakeEntry) InChain(a *schema.Attribute, target adproto.DN) (bool, bool) {
	if e.hidden[a.Name] || a.Name != "memberOf" {
		return false, !e.hidden[a.Name]
	}
	return slices.ContainsFunc(e.chain, func(s string) bool {
		dn, err := adproto.ParseDN(s)
		return err == nil && dn.EqualFold(target)
	}), true
}

func testContext(t testing.TB) Context {
	t.Helper()
	s, err := schema.Load()
	if err != nil {
		t.Fatal(err)
	}
	dn, err := adproto.ParseDN("CN=Schema,CN=Configuration,DC=contoso,DC=com")
	if err != nil {
		t.Fatal(err)
	}
	return Context{Schema: s, SchemaDN: dn}
}

func mustParse(t testing.TB, s string) adproto.Filter {
	t.Helper()
	f, err := adproto.ParseFilter(s)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return f
}

var guid = dtyp.GUID{0xaa, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}

func webapp01() fakeEntry {
	return fakeEntry{
		values: map[string][]string{
			"objectClass":             {"top", "person", "organizationalPerson", "user", "computer", "msDS-GroupManagedServiceAccount"},
			"objectCategory":          {"CN=ms-DS-Group-Managed-Service-Account,CN=Schema,CN=Configuration,DC=contoso,DC=com"},
			"sAMAccountName":          {"webapp01$"},
			"displayName":             {"Web Application"},
			"userAccountControl":      {"4096"},
			"groupType":               {"-2147483646"},
			"servicePrincipalName":    {"HTTP/webapp01.contoso.com", "HTTP/webapp01"},
			"objectSid":               {string(dtyp.NewSID(5, 21, 1, 2, 3, 1104).Bytes())},
			"objectGUID":              {string(guid[:])},
			"whenCreated":             {"20261120135000.0Z"},
			"memberOf":                {"CN=Web Hosts,DC=contoso,DC=com"},
			"distinguishedName":       {"CN=webapp01,DC=contoso,DC=com"},
			"unicodePwd":              {"secret"},
			"msKds-RootKeyData":       {"secret"},
			"msDS-ManagedPassword":    {"secret"},
			"msDS-GroupMSAMembership": {"sd"},
			"name":                    {"webapp01"},
			"wellKnownObjects":        {"B:2:AA:CN=a,DC=b"},
			"isCriticalSystemObject":  {"TRUE"},
		},
		hidden: map[string]bool{"description": true, "sn": true},
		chain:  []string{"CN=Web Hosts,DC=contoso,DC=com", "CN=All Hosts,DC=contoso,DC=com"},
	}
}

func TestFilters(t *testing.T) {
	ctx := testContext(t)
	const yes, no, maybe = True, False, Undefined
	for text, want := range map[string]Truth{
		// What clients send.
		"(objectClass=*)": yes,
		"(&(objectClass=computer)(sAMAccountName=WEBAPP01$))":                                                  yes,
		"(objectClass=msds-groupmanagedserviceaccount)":                                                        yes,
		"(objectClass=1.2.840.113556.1.3.30)":                                                                  yes,
		"(objectClass=group)":                                                                                  no,
		"(objectCategory=msDS-GroupManagedServiceAccount)":                                                     yes,
		"(|(objectCategory=Computer)(objectCategory=User))":                                                    no,
		"(objectCategory=CN=MS-DS-Group-Managed-Service-Account,CN=Schema,CN=Configuration,DC=contoso,DC=com)": yes,
		"(&(&(objectSID=S-1-5-21-1-2-3-1104)(objectClass=user))(sAMAccountName=*))":                            yes,
		"(objectSid=S-1-5-21-1-2-3-1105)":                                                                      no,
		"(objectGUID=\\aa\\01\\02\\03\\04\\05\\06\\07\\08\\09\\0a\\0b\\0c\\0d\\0e\\0f)":                        yes,
		"(objectGUID=030201aa-0504-0706-0809-0a0b0c0d0e0f)":                                                    yes,
		"(objectGUID={030201aa-0504-0706-0809-0a0b0c0d0e0f})":                                                  yes,
		"(objectGUID=030201aa-0504-0706-0809-0a0b0c0d0e)":                                                      maybe,
		"(servicePrincipalName=http/WEBAPP01)":                                                                 yes,
		"(|(objectClass=*)(distinguishedName=*))":                                                              yes,
		"(distinguishedName=cn=WebApp01, dc=contoso,dc=com)":                                                   yes,
		// Matching rules.
		"(userAccountControl:1.2.840.113556.1.4.803:=4096)":                  yes,
		"(userAccountControl:1.2.840.113556.1.4.803:=4098)":                  no,
		"(userAccountControl:1.2.840.113556.1.4.804:=4098)":                  yes,
		"(userAccountControl:1.2.840.113556.1.4.804:=0)":                     no,
		"(userAccountControl:1.2.840.113556.1.4.803:=x)":                     maybe,
		"(groupType:1.2.840.113556.1.4.803:=2147483648)":                     yes,
		"(sAMAccountName:1.2.840.113556.1.4.803:=1)":                         maybe,
		"(userAccountControl:1.2.3.4:=4096)":                                 maybe,
		"(sAMAccountName:=webapp01$)":                                        yes,
		"(memberOf:1.2.840.113556.1.4.1941:=CN=All Hosts,DC=contoso,DC=com)": yes,
		"(memberOf:1.2.840.113556.1.4.1941:=CN=No Hosts,DC=contoso,DC=com)":  no,
		"(memberOf=CN=All Hosts,DC=contoso,DC=com)":                          no,
		"(memberOf:1.2.840.113556.1.4.1941:=nobody)":                         maybe,
		// Substrings, order.
		"(displayName=web*)":               yes,
		"(displayName=*APP*tion)":          yes,
		"(displayName=w*b*a*p*n)":          yes,
		"(displayName=Web Application*)":   yes,
		"(displayName=web appl*plication)": no,
		"(displayName=*pp*pp*)":            no,
		"(memberOf=CN=*)":                  maybe,
		"(whenCreated>=20261120000000.0Z)": yes,
		"(whenCreated<=20261120000000.0Z)": no,
		"(whenCreated>=20261120135000.0Z)": yes,
		"(whenCreated>=yesterday)":         maybe,
		"(userAccountControl>=512)":        yes,
		"(userAccountControl<=512)":        no,
		"(objectSid>=S-1-5-18)":            maybe,
		"(displayName~=WEB APPLICATION)":   yes,
		"(isCriticalSystemObject=TRUE)":    yes,
		"(isCriticalSystemObject=yes)":     maybe,
		// Ambiguous names.
		"(anr=web app)":          yes,
		"(anr==web app)":         maybe,
		"(anr==web application)": yes,
		"(anr=nobody)":           maybe, // sn may hold it
		// Absent, unknown, hidden, secret: only what is absent can be denied.
		"(mail=*)":                           no,
		"(!(mail=*))":                        yes,
		"(!(mail=a@b))":                      yes,
		"(unheardOf=*)":                      maybe,
		"(!(unheardOf=*))":                   maybe,
		"(objectClass=unicorn)":              maybe,
		"(!(objectClass=unicorn))":           maybe,
		"(description=*)":                    maybe,
		"(!(description=*))":                 maybe,
		"(|(description=*)(mail=*))":         maybe,
		"(|(description=*)(name=*))":         yes,
		"(&(description=*)(name=*))":         maybe,
		"(&(description=*)(mail=*))":         no,
		"(unicodePwd=*)":                     maybe,
		"(!(unicodePwd=secret))":             maybe,
		"(msKds-RootKeyData=s*)":             maybe,
		"(msDS-ManagedPassword=*)":           maybe,
		"(tokenGroups=S-1-5-18)":             maybe,
		"(sAMAccountName;binary=webapp01$)":  yes,
		"(sAMAccountName;lang-de=webapp01$)": maybe,
		"(&)":                                yes,
		"(|)":                                no,
		"(!(&))":                             no,
	} {
		f := Compile(ctx, mustParse(t, text))
		if got := f.Eval(webapp01()); got != want {
			t.Errorf("%s: %d, want %d", text, got, want)
		}
		if f.Match(webapp01()) != (want == True) {
			t.Errorf("%s: an entry for which it is %d matches", text, want)
		}
	}
}

func TestProbes(t *testing.T) {
	ctx := testContext(t)
	cost := func(p Probe, _ int) (int, bool) {
		n, ok := map[string]int{"sAMAccountName": 1, "servicePrincipalName": 1, "objectClass": 1000}[p.Attribute.Name]
		return n, ok
	}
	for text, want := range map[string]string{
		"(sAMAccountName=WebApp01$)":                                         "sAMAccountName=webapp01$",
		"(&(objectClass=user)(sAMAccountName=a))":                            "sAMAccountName=a",
		"(&(objectClass=user)(mail=a))":                                      "objectClass=user",
		"(&(|(sAMAccountName=a)(sAMAccountName=b))(servicePrincipalName=c))": "servicePrincipalName=c",
		"(|(sAMAccountName=a)(servicePrincipalName=b))":                      "sAMAccountName=a servicePrincipalName=b",
		"(|(sAMAccountName=a)(mail=b))":                                      "all",
		"(!(sAMAccountName=a))":                                              "all",
		"(sAMAccountName=*)":                                                 "all",
		"(&(sAMAccountName=a)(unheardOf=b))":                                 "",
		"(|(unheardOf=a)(sAMAccountName=b))":                                 "sAMAccountName=b",
		"(|)":                                                                "",
		"(&)":                                                                "all",
	} {
		probes, ok := Compile(ctx, mustParse(t, text)).Probes(cost)
		var got []string
		for _, p := range probes {
			got = append(got, fmt.Sprintf("%s=%s", p.Attribute.Name, p.Key))
		}
		if !ok {
			got = []string{"all"}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

func TestItems(t *testing.T) {
	if n := Compile(testContext(t), mustParse(t, "(&(a=1)(|(b=2)(!(c=3)))(|))")).Items(); n != 3 {
		t.Errorf("%d items", n)
	}
}

// drawFilter draws filters over a few attributes, hidden and secret ones too.
func drawFilter(t *rapid.T, depth int) adproto.Filter {
	kinds := []string{"equal", "present", "less", "greater", "substrings", "bits", "and", "or", "not"}
	if depth == 0 {
		kinds = kinds[:6]
	}
	attr := rapid.SampledFrom([]string{"sAMAccountName", "description", "userAccountControl", "unicodePwd", "unheardOf", "mail"}).Draw(t, "attr")
	value := []byte(rapid.SampledFrom([]string{"a", "b", "1", "3"}).Draw(t, "value"))
	f := adproto.Filter{Attr: attr, Value: value}
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "present":
		return adproto.Present(attr)
	case "less":
		f.Kind = adproto.FilterLess
	case "greater":
		f.Kind = adproto.FilterGreater
	case "substrings":
		return adproto.Filter{Kind: adproto.FilterSubstrings, Attr: attr, Initial: value}
	case "bits":
		return adproto.BitsSet(attr, 1)
	case "and":
		return adproto.And(drawFilter(t, depth-1), drawFilter(t, depth-1))
	case "or":
		return adproto.Or(drawFilter(t, depth-1), drawFilter(t, depth-1))
	case "not":
		return adproto.Not(drawFilter(t, depth-1))
	default:
		f.Kind = adproto.FilterEqual
	}
	return f
}

func drawEntry(t *rapid.T) fakeEntry {
	values := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "1", "3", "ab"}), 0, 2)
	e := fakeEntry{values: map[string][]string{}, hidden: map[string]bool{}}
	for _, name := range []string{"sAMAccountName", "description", "userAccountControl", "unicodePwd", "mail"} {
		e.values[name] = values.Draw(t, name)
	}
	return e
}

// TestAFilterTellsNothingOfWhatCannotBeRead: two entries that differ only in
// attributes that are hidden or secret are the same to every filter.
//
// It holds security 17 for each form of a filter.
func TestAFilterTellsNothingOfWhatCannotBeRead(t *testing.T) {
	ctx := testContext(t)
	rapid.Check(t, func(t *rapid.T) {
		f := Compile(ctx, drawFilter(t, 4))
		a := drawEntry(t)
		a.hidden = map[string]bool{"description": true, "userAccountControl": rapid.Bool().Draw(t, "hidden")}
		b := fakeEntry{values: maps.Clone(a.values), hidden: a.hidden}
		other := drawEntry(t)
		for name := range a.values {
			if a.hidden[name] || name == "unicodePwd" {
				b.values[name] = other.values[name]
			}
		}
		if f.Eval(a) != f.Eval(b) {
			t.Fatalf("%v and %v differ", a.values, b.values)
		}
	})
}

// TestProbesFindWhateverMatches: a filter that is true for an entry has a probe
// that finds it.
func TestProbesFindWhateverMatches(t *testing.T) {
	ctx := testContext(t)
	matched := 0
	rapid.Check(t, func(t *rapid.T) {
		e := drawEntry(t)
		e.values["sAMAccountName"] = append(e.values["sAMAccountName"], "a") // so that something is found
		own := adproto.Or(adproto.Equal("sAMAccountName", rapid.SampledFrom([]string{"a", "z"}).Draw(t, "own")), drawFilter(t, 2))
		f := Compile(ctx, adproto.And(own, adproto.Or(drawFilter(t, 2), drawFilter(t, 2), adproto.Not(drawFilter(t, 2)))))
		probes, ok := f.Probes(func(p Probe, _ int) (int, bool) { return 1, p.Attribute.Name != "mail" })
		if !ok || !f.Match(e) {
			return
		}
		matched++
		if !slices.ContainsFunc(probes, func(p Probe) bool {
			return slices.ContainsFunc(e.values[p.Attribute.Name], func(v string) bool {
				key, err := p.Attribute.Syntax.Key([]byte(v))
				return err == nil && bytes.Equal(key, p.Key)
			})
		}) {
			t.Fatalf("%v matches, and no probe of %v finds it", e.values, probes)
		}
	})
	if matched == 0 {
		t.Error("nothing matched: the test shows nothing")
	}
}

func FuzzCompile(f *testing.F) {
	ctx := testContext(f)
	for _, s := range []string{"(&(objectClass=user)(!(mail=*)))", "(anr=a)", "(memberOf:1.2.840.113556.1.4.1941:=CN=a)", "(objectGUID=1234567890123456789012345678901234567890)"} {
		f.Add(s)
	}
	e := webapp01()
	f.Fuzz(func(t *testing.T, s string) {
		parsed, err := adproto.ParseFilter(s)
		if err != nil {
			return
		}
		compiled := Compile(ctx, parsed)
		negated := Compile(ctx, adproto.Not(parsed))
		if got, want := negated.Eval(e), compiled.Eval(e).not(); got != want {
			t.Errorf("%s is %d, its negation %d", s, compiled.Eval(e), got)
		}
	})
}
