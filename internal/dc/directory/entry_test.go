package directory_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/secdesc"
)

const aliceDN = "CN=alice,CN=Users," + domainDN

func TestAttributesOfAnEntry(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	for name, test := range map[string]struct {
		dn, asked, answered, want string
	}{
		"the schema's spelling":      {aliceDN, "SAMACCOUNTNAME", "sAMAccountName", "alice"},
		"by OID":                     {aliceDN, "1.2.840.113556.1.4.221", "sAMAccountName", "alice"},
		"binary":                     {aliceDN, "sAMAccountName;binary", "sAMAccountName;binary", "alice"},
		"another option":             {aliceDN, "sAMAccountName;lang-de", "", ""},
		"unknown":                    {aliceDN, "sudoHost", "", ""},
		"absent":                     {aliceDN, "givenName", "", ""},
		"several values":             {aliceDN, "description", "description", "The first|The second"},
		"name":                       {aliceDN, "name", "name", "alice"},
		"cn":                         {aliceDN, "cn", "cn", "alice"},
		"distinguishedName":          {aliceDN, "distinguishedName", "distinguishedName", aliceDN},
		"whenCreated":                {aliceDN, "whenCreated", "whenCreated", "20261128120000.0Z"},
		"createTimeStamp":            {aliceDN, "createTimeStamp", "createTimeStamp", "20261128120000.0Z"},
		"modifyTimeStamp":            {aliceDN, "modifyTimeStamp", "modifyTimeStamp", "20261128120000.0Z"},
		"canonicalName":              {aliceDN, "canonicalName", "canonicalName", "contoso.com/Users/alice"},
		"canonicalName of the head":  {domainDN, "canonicalName", "canonicalName", "contoso.com/"},
		"memberOf":                   {"CN=Staff,CN=Users," + domainDN, "memberOf", "memberOf", "CN=All Staff,CN=Users," + domainDN},
		"member":                     {"CN=Staff,CN=Users," + domainDN, "member", "member", aliceDN},
		"structuralObjectClass":      {aliceDN, "structuralObjectClass", "structuralObjectClass", "top|person|organizationalPerson|user"},
		"subSchemaSubEntry":          {aliceDN, "subSchemaSubEntry", "subSchemaSubEntry", "CN=Aggregate,CN=Schema,CN=Configuration," + domainDN},
		"primaryGroupToken":          {"CN=Domain Users,CN=Users," + domainDN, "primaryGroupToken", "primaryGroupToken", "513"},
		"only groups have it":        {aliceDN, "primaryGroupToken", "", ""},
		"msDS-PrincipalName":         {aliceDN, "msDS-PrincipalName", "msDS-PrincipalName", `CONTOSO\alice`},
		"of a builtin group":         {"CN=Administrators,CN=Builtin," + domainDN, "msDS-PrincipalName", "msDS-PrincipalName", `BUILTIN\Administrators`},
		"parent":                     {aliceDN, "msDS-parentdistname", "msDS-parentdistname", "CN=Users," + domainDN},
		"memberOf of all":            {aliceDN, "msds-memberOfTransitive", "msds-memberOfTransitive", "CN=All Staff,CN=Users," + domainDN + "|CN=Letters,CN=Users," + domainDN + "|CN=Staff,CN=Users," + domainDN},
		"members of members":         {"CN=All Staff,CN=Users," + domainDN, "msds-memberTransitive", "msds-memberTransitive", "CN=Staff,CN=Users," + domainDN + "|" + aliceDN},
		"children":                   {"CN=Computers," + domainDN, "msDS-Approx-Immed-Subordinates", "msDS-Approx-Immed-Subordinates", "1"},
		"rights on the descriptor":   {aliceDN, "sDRightsEffective", "sDRightsEffective", "0"},
		"a gMSA's kvno":              {gmsaDN, "msDS-KeyVersionNumber", "msDS-KeyVersionNumber", "1"},
		"an object without keys":     {"CN=Users," + domainDN, "msDS-KeyVersionNumber", "", ""},
		"first password, no earlier": {gmsaDN, "msDS-ManagedPasswordPreviousId", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := h.entry(alice, test.dn, test.asked)
			value, ok := got[test.answered]
			values := strings.Split(value, "|")
			slices.Sort(values)
			want := strings.Split(test.want, "|")
			if test.asked != "structuralObjectClass" {
				slices.Sort(want)
			} else {
				values = strings.Split(value, "|")
			}
			if !ok && test.answered != "" || len(got) > 1 || !slices.Equal(values, want) {
				t.Errorf("got %q, want %s: %q", got, test.answered, test.want)
			}
		})
	}
}

func TestWhichAttributesAreGiven(t *testing.T) {
	h := newHome(t)
	admin := h.Caller(t, "Administrator")
	all := h.entry(admin, aliceDN)
	for _, name := range []string{"objectClass", "cn", "name", "distinguishedName", "objectGUID", "objectSid", "whenCreated", "whenChanged",
		"uSNCreated", "uSNChanged", "memberOf", "description", "sAMAccountName", "instanceType", "objectCategory"} {
		if all[name] == "" {
			t.Errorf("no %s without a list", name)
		}
	}
	for _, name := range []string{"nTSecurityDescriptor", "canonicalName", "tokenGroups", "member", "unicodePwd"} {
		if all[name] != "" {
			t.Errorf("%s without being asked for", name)
		}
	}
	star := h.entry(admin, aliceDN, "*", "canonicalName", "cn")
	if len(star) != len(all)+1 || star["canonicalName"] == "" {
		t.Errorf("* and canonicalName: %d attributes, want %d: %q", len(star), len(all)+1, star)
	}
	plus := h.entry(admin, aliceDN, "+")
	if plus["canonicalName"] == "" || plus["cn"] != "" || plus["tokenGroups"] != "" || plus["subSchemaSubEntry"] == "" {
		t.Errorf("+ gave %q", plus)
	}
	if none := h.entry(admin, aliceDN, "1.1"); len(none) != 0 {
		t.Errorf("1.1 gave %q", none)
	}
	if gmsa := h.entry(admin, gmsaDN); gmsa["msDS-ManagedPasswordId"] == "" || gmsa["msDS-ManagedPassword"] != "" {
		t.Errorf("a gMSA's attributes: %q", gmsa)
	}
	q := request(t, aliceDN, directory.ScopeBase, "(objectClass=*)", "cn", "mail", "givenName")
	q.TypesOnly = true
	if types := h.entryOf(admin, q); len(types) != 2 || types["cn"] != "" || types["mail"] != "" {
		t.Errorf("types only: %q", types)
	}
}

func TestTokenGroups(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	sids := func(dn, attribute string, scope directory.Scope) (out []string) {
		for _, e := range first(h.search(alice, request(t, dn, scope, "(sAMAccountName=alice)", attribute))) {
			for _, a := range e.Attributes {
				for _, v := range a.Values {
					sid, err := dtyp.SIDFromBytes(v)
					if err != nil {
						t.Fatal(err)
					}
					out = append(out, h.nameOf(sid))
				}
			}
		}
		slices.Sort(out)
		return out
	}
	// Letters is for mail only; Users (S-1-5-32-545) has Domain Users, the primary group.
	if got := sids(aliceDN, "tokenGroups", directory.ScopeBase); !slices.Equal(got, []string{"All Staff", "Domain Users", "Staff", "Users"}) {
		t.Errorf("tokenGroups: %q", got)
	}
	if got := sids(aliceDN, "tokenGroupsGlobalAndUniversal", directory.ScopeBase); !slices.Equal(got, []string{"Domain Users", "Staff"}) {
		t.Errorf("tokenGroupsGlobalAndUniversal: %q", got)
	}
	if got := sids("CN=Users,"+domainDN, "tokenGroups", directory.ScopeSubtree); got != nil {
		t.Errorf("tokenGroups below a base: %q", got)
	}
}

func first(e []directory.SearchEntry, _ directory.SearchResult, _ error) []directory.SearchEntry {
	return e
}

func (h *home) nameOf(sid dtyp.SID) (name string) {
	h.t.Helper()
	err := h.View(h.t.Context(), func(r *directory.Reader) error {
		e, err := r.Lookup(h.attribute("objectSid"), sid.Bytes())
		if err == nil {
			name = e.Name
		}
		return err
	})
	if err != nil {
		h.t.Fatal(err)
	}
	return name
}

func TestAccountState(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	const state, expiry = "msDS-User-Account-Control-Computed", "msDS-UserPasswordExpiryTimeComputed"
	maxAge := h.entry(alice, domainDN, "maxPwdAge")["maxPwdAge"]
	age, err := strconv.ParseInt(maxAge, 10, 64)
	if err != nil || age >= 0 {
		t.Fatalf("maxPwdAge %q", maxAge)
	}
	check := func(what, wantState string, wantExpiry int64) {
		t.Helper()
		got := h.entry(alice, aliceDN, state, expiry)
		if got[state] != wantState || got[expiry] != strconv.FormatInt(wantExpiry, 10) {
			t.Errorf("%s: got %q, want %s and %d", what, got, wantState, wantExpiry)
		}
	}
	set := int64(134403029449736700)
	h.Clock.Set(dtyp.Filetime(set).Time())
	check("a new password", "0", set-age)
	h.Clock.Advance(time.Duration(-age) * 100)
	check("an old password", "8388608", set-age)
	put := func(name, value string) {
		h.change(aliceDN, func(_ *directory.Writer, e *rows.Entry) error {
			e.Values[h.attribute(name)] = [][]byte{[]byte(value)}
			return nil
		})
	}
	put("pwdLastSet", "0")
	check("must change it", "8388608", 0)
	put("userAccountControl", strconv.Itoa(int(adproto.UACNormalAccount|adproto.UACDontExpirePassword)))
	check("never expires", "0", 1<<63-1)
	put("lockoutTime", strconv.FormatUint(uint64(dtyp.FiletimeOf(h.Now())), 10))
	check("locked out", "16", 1<<63-1)
	h.Clock.Advance(24 * time.Hour)
	check("no longer", "0", 1<<63-1)
}

func TestWhatMayBeWrittenAndMade(t *testing.T) {
	h := newHome(t)
	admin, alice := h.Caller(t, "Administrator"), h.Caller(t, "alice")
	has := func(c directory.Caller, dn, attribute, value string) bool {
		return slices.Contains(strings.Split(h.entry(c, dn, attribute)[attribute], "|"), value)
	}
	for _, test := range []struct {
		caller               directory.Caller
		dn, attribute, value string
		want                 bool
	}{
		{alice, aliceDN, "allowedAttributes", "description", true},
		{alice, aliceDN, "allowedAttributes", "msDS-ManagedPassword", false},
		{alice, aliceDN, "allowedAttributesEffective", "description", false},
		{admin, aliceDN, "allowedAttributesEffective", "description", true},
		{admin, aliceDN, "allowedAttributesEffective", "memberOf", false},
		{admin, aliceDN, "allowedAttributesEffective", "objectSid", false},
		{alice, "CN=Users," + domainDN, "allowedChildClasses", "user", true},
		{alice, "CN=Users," + domainDN, "allowedChildClasses", "site", false},
		{alice, "CN=Users," + domainDN, "allowedChildClassesEffective", "user", false},
		{admin, "CN=Users," + domainDN, "allowedChildClassesEffective", "user", true},
		{admin, aliceDN, "sDRightsEffective", "7", true},
	} {
		if got := has(test.caller, test.dn, test.attribute, test.value); got != test.want {
			t.Errorf("%s: %s of %s has %s: %t", test.caller.Name, test.attribute, test.dn, test.value, got)
		}
	}
}

func TestRanges(t *testing.T) {
	h := newHome(t)
	const group, count = "CN=Crowd,CN=Users," + domainDN, 1510
	h.add(group, "group", "sAMAccountName=Crowd", "groupType=-2147483646")
	for i := 0; i < count; i += 10 {
		err := h.Update(t.Context(), func(w *directory.Writer) error {
			g, err := w.ResolveTarget(group)
			for n := i; n < i+10 && err == nil; n++ {
				dn := fmt.Sprintf("CN=c%d,CN=Users,%s", n, domainDN)
				if err = h.insert(w, dn, "contact"); err != nil {
					break
				}
				var c dtyp.GUID
				if c, err = w.ResolveTarget(dn); err == nil {
					err = w.Link(h.attribute("member"), rows.Link{Source: g, Target: c})
				}
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	alice := h.Caller(t, "alice")
	seen := map[string]bool{}
	for asked, want := range map[string]struct {
		name  string
		count int
	}{
		"member":                   {"member;range=0-1499", 1500},
		"Member;Range=0-*":         {"member;range=0-1499", 1500},
		"member;range=1500-*":      {"member;range=1500-*", 10},
		"member;range=0-9":         {"member;range=0-9", 10},
		"member;range=1505-1509":   {"member;range=1505-*", 5},
		"member;range=1505-9999":   {"member;range=1505-*", 5},
		"member;range=1510-*":      {"", 0},
		"member;range=9-1":         {"", 0},
		"member;range=x":           {"", 0},
		"description;range=0-*":    {"", 0},
		"objectClass;range=0-0":    {"objectClass;range=0-0", 1},
		"objectClass;range=1-*":    {"objectClass;range=1-*", 1},
		"objectClass;range=0-1":    {"objectClass;range=0-*", 2},
		"sAMAccountName;range=0-*": {"sAMAccountName;range=0-*", 1},
	} {
		got := h.entry(alice, group, asked)
		values, ok := got[want.name]
		n := 0
		if ok {
			n = len(strings.Split(values, "|"))
		}
		if ok != (want.name != "") || n != want.count {
			t.Errorf("%s: got %d values of %v, want %s with %d", asked, n, keys(got), want.name, want.count)
		}
		if asked == "member" || asked == "member;range=1500-*" {
			for v := range strings.SplitSeq(values, "|") {
				seen[v] = true
			}
		}
	}
	if len(seen) != count {
		t.Errorf("both ranges together have %d members, want %d", len(seen), count)
	}
	if all := h.entry(alice, group); all["member;range=0-1499"] == "" || all["member"] != "" {
		t.Errorf("without a list: %v", keys(all))
	}
}

func keys(m map[string]string) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

func TestExtendedNames(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	guid := h.entry(alice, aliceDN, "objectGUID")["objectGUID"]
	g, err := dtyp.GUIDFromBytes([]byte(guid))
	if err != nil {
		t.Fatal(err)
	}
	for form, want := range map[directory.ExtendedDN]string{
		directory.PlainDN:       aliceDN,
		directory.ExtendedHex:   "<GUID=" + hex.EncodeToString(g[:]) + ">;<SID=" + hex.EncodeToString(alice.SID.Bytes()) + ">;" + aliceDN,
		directory.ExtendedTexts: "<GUID=" + g.String() + ">;<SID=" + alice.SID.String() + ">;" + aliceDN,
	} {
		q := request(t, "CN=Staff,CN=Users,"+domainDN, directory.ScopeBase, "(member="+aliceDN+")", "member", "objectCategory")
		q.ExtendedDN = form
		got := h.entryOf(alice, q)
		if got["member"] != want {
			t.Errorf("form %d: got %s, want %s", form, got["member"], want)
		}
		category := got["objectCategory"]
		if strings.HasPrefix(category, "<GUID=") != (form != directory.PlainDN) || !strings.HasSuffix(category, "CN=Group,CN=Schema,CN=Configuration,"+domainDN) {
			t.Errorf("form %d: objectCategory %s", form, category)
		}
	}
}

func TestPartsOfTheDescriptor(t *testing.T) {
	h := newHome(t)
	admin, alice := h.Caller(t, "Administrator"), h.Caller(t, "alice")
	read := func(c directory.Caller, flags int, has bool, attributes ...string) *secdesc.SecurityDescriptor {
		t.Helper()
		q := request(t, aliceDN, directory.ScopeBase, "(objectClass=*)", attributes...)
		q.SDFlags, q.HasSDFlags = flags, has
		v, ok := h.entryOf(c, q)["nTSecurityDescriptor"]
		if !ok {
			return nil
		}
		sd, err := secdesc.Parse([]byte(v))
		if err != nil {
			t.Fatal(err)
		}
		return &sd
	}
	if sd := read(admin, adproto.SDDACL, true, "nTSecurityDescriptor"); sd == nil || sd.DACL == nil || !sd.Owner.IsZero() || !sd.Group.IsZero() {
		t.Errorf("the DACL: %+v", sd)
	}
	if sd := read(admin, adproto.SDOwner, true, "nTSecurityDescriptor"); sd == nil || sd.Owner.IsZero() || sd.Control&secdesc.DACLPresent != 0 {
		t.Errorf("the owner: %+v", sd)
	}
	if sd := read(admin, 0, false, "*", "nTSecurityDescriptor"); sd == nil || sd.Owner.IsZero() || sd.DACL == nil {
		t.Errorf("without flags: %+v", sd)
	}
	if sd := read(admin, 7, true); sd == nil {
		t.Error("flags without a list of attributes ask for it")
	}
	if sd := read(alice, adproto.SDSACL, true, "nTSecurityDescriptor"); sd != nil {
		t.Errorf("the SACL for a user: %+v", sd)
	}
	h.protect(aliceDN, "O:DAG:DAD:(A;;RPLCLO;;;AU)")
	if sd := read(alice, 7, true, "nTSecurityDescriptor"); sd != nil {
		t.Errorf("without READ_CONTROL: %+v", sd)
	}
}
