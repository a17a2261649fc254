package directory_test

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secdesc"
)

func TestAnonymousClientsFindNothing(t *testing.T) {
	h := newHome(t)
	_, _, err := h.search(directory.Caller{Encrypted: true}, request(t, domainDN, directory.ScopeBase, "(objectClass=*)"))
	if code(err) != directory.OperationsError || directory.AsError(err).Diagnostic() != "00002020: Operation unavailable without authentication" {
		t.Errorf("search: %v", err)
	}
	if _, err := h.Compare(t.Context(), directory.Caller{}, domainDN, "dc", []byte("contoso")); code(err) != directory.OperationsError {
		t.Errorf("compare: %v", err)
	}
}

// TestWhatIsNotThere: an object that the caller may not see is not there, in the same
// words as one that does not exist.
func TestWhatIsNotThere(t *testing.T) {
	h := newHome(t)
	h.add("OU=Closed,"+domainDN, "organizationalUnit")
	h.add("OU=Inner,OU=Closed,"+domainDN, "organizationalUnit")
	h.add("CN=x,OU=Inner,OU=Closed,"+domainDN, "contact")
	h.protect("OU=Closed,"+domainDN, "O:DAG:DAD:(A;;RPRC;;;AU)(A;;RPLCRC;;;DA)") // nobody but administrators lists it
	h.add("CN=blank,CN=Users,"+domainDN, "contact")
	h.protect("CN=blank,CN=Users,"+domainDN, "O:DAG:DAD:(A;;LC;;;AU)(A;;RPLCRC;;;DA)") // nothing of it can be read
	alice, admin := h.Caller(t, "alice"), h.Caller(t, "Administrator")
	for dn, matched := range map[string]string{
		"CN=nobody,CN=Users," + domainDN:                 "CN=Users," + domainDN,
		"CN=blank,CN=Users," + domainDN:                  "CN=Users," + domainDN,
		"CN=a,CN=b,CN=nobody,CN=Users," + domainDN:       "CN=Users," + domainDN,
		"CN=a,CN=b,CN=blank,CN=Users," + domainDN:        "CN=Users," + domainDN,
		"OU=Inner,OU=Closed," + domainDN:                 "OU=Closed," + domainDN,
		"OU=None,OU=Closed," + domainDN:                  "OU=Closed," + domainDN,
		"CN=None,CN=Schema,CN=Configuration," + domainDN: "CN=Schema,CN=Configuration," + domainDN,
		"DC=example,DC=com":                              "",
	} {
		_, _, err := h.search(alice, request(t, dn, directory.ScopeBase, "(objectClass=*)"))
		e := directory.AsError(err)
		want := fmt.Sprintf("0000208D: NameErr: problem 2001 (NO_OBJECT), data 0, best match of: '%s'", matched)
		if err == nil || e.Code != directory.NoSuchObject || e.Matched != matched || e.Diagnostic() != want {
			t.Errorf("%s: got %v, matched %q, want %q", dn, err, e.Matched, matched)
		}
	}
	find := request(t, domainDN, directory.ScopeSubtree, "(|(ou=Inner)(cn=x)(cn=blank))", "1.1")
	if got := h.names(alice, find); !slices.Equal(got, []string{"CN=x,OU=Inner,OU=Closed"}) {
		t.Errorf("alice finds %q: the direct parent decides", got)
	}
	if got := h.names(admin, find); len(got) != 3 {
		t.Errorf("an administrator finds %q", got)
	}
	if got := h.names(directory.Caller{Controller: true}, find); len(got) != 3 {
		t.Errorf("the controller finds %q", got)
	}
}

func TestTombstonesAreShownOnRequest(t *testing.T) {
	h := newHome(t)
	h.add("CN=gone,CN=Users,"+domainDN, "contact", "isDeleted=TRUE")
	alice := h.Caller(t, "alice")
	q := request(t, domainDN, directory.ScopeSubtree, "(cn=gone)", "1.1")
	if got := h.names(alice, q); len(got) != 0 {
		t.Errorf("without the control: %q", got)
	}
	q.ShowDeleted = true
	if got := h.names(alice, q); len(got) != 1 {
		t.Errorf("with the control: %q", got)
	}
	q = request(t, "<WKGUID=18E2EA80684F11D2B9AA00C04F79F805,"+domainDN+">", directory.ScopeBase, "(objectClass=*)", "1.1")
	if _, _, err := h.search(h.Caller(t, "Administrator"), q); code(err) != directory.NoSuchObject {
		t.Errorf("the container of tombstones without the control: %v", err)
	}
	q.ShowDeleted = true
	if got := h.names(h.Caller(t, "Administrator"), q); !slices.Equal(got, []string{"CN=Deleted Objects"}) {
		t.Errorf("the container of tombstones: %q", got)
	}
}

// closedSDDL keeps description, mail, member, memberOf and displayName from alice, and
// says nothing against the rest.
const closedSDDL = "O:DAG:DAD:(OD;;RP;bf967950-0de6-11d0-a285-00aa003049e2;;AU)(OD;;RP;bf967961-0de6-11d0-a285-00aa003049e2;;AU)" +
	"(OD;;RP;bf9679c0-0de6-11d0-a285-00aa003049e2;;AU)(OD;;RP;bf967991-0de6-11d0-a285-00aa003049e2;;AU)" +
	"(OD;;RP;bf967953-0de6-11d0-a285-00aa003049e2;;AU)(A;;RPLCLORC;;;AU)"

// TestNothingTellsOfWhatCannotBeRead: two domains that differ only in attributes that
// the caller may not read answer every search, in any order and by pages, and every
// comparison, alike.
//
// It holds security 17 in the whole directory.
func TestNothingTellsOfWhatCannotBeRead(t *testing.T) {
	homes := [2]*home{newHome(t), newHome(t)}
	for i, h := range homes {
		for n := range 4 {
			dn := fmt.Sprintf("CN=h%d,CN=Users,%s", n, domainDN)
			h.add(dn, "user", fmt.Sprintf("sAMAccountName=h%d", n), fmt.Sprintf("description=%d", (n+i)%2),
				fmt.Sprintf("mail=%c", 'a'+(n*3+i)%4), fmt.Sprintf("displayName=%d", (n+i)%3), "userAccountControl=512")
			h.protect(dn, closedSDDL)
		}
		group := "CN=hidden group,CN=Users," + domainDN
		h.add(group, "group", "sAMAccountName=hidden group", "groupType=-2147483646")
		h.protect(group, closedSDDL)
		h.link("member", group, fmt.Sprintf("CN=h%d,CN=Users,%s", i, domainDN))
		h.link("member", "CN=All Staff,CN=Users,"+domainDN, group)
	}
	callers := [2]directory.Caller{homes[0].Caller(t, "alice"), homes[1].Caller(t, "alice")}
	items := []string{"(description=0)", "(description=*)", "(mail=a)", "(mail>=b)", "(mail=a*)", "(displayName=1)", "(anr=1)",
		"(member=CN=h0,CN=Users," + domainDN + ")", "(member=*)", "(memberOf=CN=hidden group,CN=Users," + domainDN + ")",
		"(memberOf:1.2.840.113556.1.4.1941:=CN=All Staff,CN=Users," + domainDN + ")",
		"(member:1.2.840.113556.1.4.1941:=CN=h0,CN=Users," + domainDN + ")", "(cn=h*)", "(unicodePwd=*)", "(nTSecurityDescriptor=*)"}
	rapid.Check(t, func(rt *rapid.T) {
		filter := rapid.SampledFrom(items).Draw(rt, "first")
		for range rapid.IntRange(0, 3).Draw(rt, "more") {
			switch rapid.SampledFrom([]string{"and", "or", "not"}).Draw(rt, "how") {
			case "and":
				filter = "(&" + filter + rapid.SampledFrom(items).Draw(rt, "item") + ")"
			case "or":
				filter = "(|" + filter + rapid.SampledFrom(items).Draw(rt, "item") + ")"
			case "not":
				filter = "(!" + filter + ")"
			}
		}
		q := request(t, "CN=Users,"+domainDN, directory.ScopeSubtree, filter, "sAMAccountName", "description", "mail", "member", "memberOf", "displayName")
		q.Sort = rapid.SampledFrom([]string{"", "mail", "displayName", "member", "sAMAccountName"}).Draw(rt, "sort")
		q.PageSize = rapid.IntRange(0, 3).Draw(rt, "page")
		var answers [2][]string
		for i, h := range homes {
			q.Cookie = nil
			for {
				entries, r, err := h.search(callers[i], q)
				if err != nil {
					rt.Fatalf("%s: %v", filter, err)
				}
				for _, e := range entries {
					answers[i] = append(answers[i], fmt.Sprintf("%s %d", e.DN, len(e.Attributes)))
				}
				if q.Cookie = r.Cookie; len(q.Cookie) == 0 {
					break
				}
			}
			slices.Sort(answers[i]) // the GUIDs of the two domains sort differently
		}
		if !slices.Equal(answers[0], answers[1]) {
			rt.Fatalf("%s sorted by %q: %q and %q", filter, q.Sort, answers[0], answers[1])
		}
	})
	for _, attribute := range []string{"description", "mail", "memberOf", "unicodePwd", "msDS-ManagedPassword"} {
		for _, value := range []string{"0", "a", "CN=hidden group,CN=Users," + domainDN} {
			_, hidden := homes[0].Compare(t.Context(), callers[0], "CN=h0,CN=Users,"+domainDN, attribute, []byte(value))
			if code(hidden) != directory.NoSuchAttribute {
				t.Errorf("compare %s with %s: %v", attribute, value, hidden)
			}
		}
	}
}

// TestSecretsAreNotFound: whatever stands in an entry of what nobody reads, no form of a
// filter, comparison, order, selection or change tells of it, not even administrators.
//
// It holds security 17.
func TestSecretsAreNotFound(t *testing.T) {
	h := newHome(t)
	admin := h.Caller(t, "Administrator")
	secrets := 0
	for _, a := range h.Schema().Attributes() {
		if !a.Secret() || a.Constructed() {
			continue
		}
		secrets++
		h.change(aliceDN, func(_ *directory.Writer, e *rows.Entry) error {
			e.Values[a] = [][]byte{[]byte("abc")}
			return nil
		})
		for _, name := range []string{a.Name, strings.ToUpper(a.Name), a.OID, "OID." + a.OID, a.Name + ";binary"} {
			for _, filter := range []string{"(%s=*)", "(%s=abc)", "(%s>=a)", "(%s<=z)", "(%s=a*)", "(%s=*b*)", "(%s~=abc)", "(%s:=abc)",
				"(%s:1.2.840.113556.1.4.803:=1)", "(%s:1.2.840.113556.1.4.1941:=abc)"} {
				item := fmt.Sprintf(filter, name)
				for _, filter := range []string{item, "(!" + item + ")", "(&(cn=alice)(!" + item + "))"} {
					if got := h.names(admin, request(t, aliceDN, directory.ScopeBase, filter, "1.1")); len(got) != 0 {
						t.Errorf("%s finds alice", filter)
					}
				}
			}
			if _, err := h.Compare(t.Context(), admin, aliceDN, name, []byte("abc")); code(err) != directory.NoSuchAttribute {
				t.Errorf("compare %s: %v", name, err)
			}
			for _, wanted := range []string{name, name + ";range=0-*", name + ";range=0-0"} {
				q := request(t, aliceDN, directory.ScopeBase, "(objectClass=*)", wanted, "*", "+")
				q.ExtendedDN, q.Sort = directory.ExtendedTexts, name
				for got := range h.entryOf(admin, q) {
					if strings.EqualFold(strings.Split(got, ";")[0], a.Name) {
						t.Errorf("%s gives %s", wanted, got)
					}
				}
			}
			if a.Name == "unicodePwd" {
				continue // which is written by a rule of its own
			}
			for _, value := range []string{"abc", "abd"} { // the right one and another
				err := h.Modify(t.Context(), admin, directory.ModifyRequest{DN: aliceDN, Changes: []directory.Change{
					{Op: directory.ChangeDelete, Attribute: directory.Attribute{Name: name, Values: [][]byte{[]byte(value)}}}}})
				if c := code(err); c == directory.Success || c == directory.NoSuchAttribute {
					t.Errorf("delete %s of %s: %v", value, name, err)
				}
			}
		}
	}
	if secrets < 12 {
		t.Errorf("%d secret attributes", secrets)
	}
}

// TestConfidentialAttributes: CONTROL_ACCESS is needed beside the right to read, and is had
// for an attribute, for its property set, or for all; without it the attribute is not there
// for any question.
//
// It holds security 17.
func TestConfidentialAttributes(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	const web1 = "CN=WEB1,CN=Computers," + domainDN
	own, set := h.attribute("msTPM-OwnerInformation"), h.attribute("msPKIRoamingTimeStamp")
	h.change(web1, func(_ *directory.Writer, e *rows.Entry) error {
		e.Values[own], e.Values[set] = [][]byte{[]byte("abc")}, [][]byte{[]byte("abc")}
		return nil
	})
	other, otherSet := h.attribute("description").GUID.String(), h.attribute("userAccountControl").PropertySet.String()
	of := func(kind, right string, g dtyp.GUID) string {
		return "(" + kind + ";;" + right + ";" + g.String() + ";;AU)"
	}
	for _, c := range []struct {
		a    *schema.Attribute
		aces string
		want bool
	}{
		{own, "", false},
		{own, "(A;;CR;;;AU)", true},
		{own, of("OA", "CR", own.GUID), true},
		{own, "(OA;;CR;" + other + ";;AU)", false},
		{own, of("OD", "CR", own.GUID) + "(A;;CR;;;AU)", false},
		{own, of("OD", "RP", own.GUID) + "(A;;CR;;;AU)", false},
		{own, of("OA", "CR", set.PropertySet), false},
		{set, "", false},
		{set, of("OA", "CR", set.PropertySet), true},
		{set, of("OA", "CR", set.GUID), true},
		{set, "(OA;;CR;" + otherSet + ";;AU)", false},
		{set, of("OD", "CR", set.PropertySet) + "(A;;CR;;;AU)", false},
		{set, of("OD", "RP", set.PropertySet) + "(A;;CR;;;AU)", false},
		{set, of("OD", "CR", set.GUID) + of("OA", "CR", set.PropertySet), false},
	} {
		h.protect(web1, "O:DAG:DAD:"+c.aces+"(A;;RPLCLORC;;;AU)")
		for _, filter := range []string{"(%s=abc)", "(%s=*)", "(%s=a*)", "(!(%s=x))"} {
			filter = fmt.Sprintf(filter, c.a.Name)
			if got := len(h.names(alice, request(t, web1, directory.ScopeBase, filter, "1.1"))) == 1; got != c.want {
				t.Errorf("%q, %s: %t", c.aces, filter, got)
			}
		}
		if equal, err := h.Compare(t.Context(), alice, web1, c.a.Name, []byte("abc")); equal != c.want || (err == nil) != c.want {
			t.Errorf("%q, compare %s: %t, %v", c.aces, c.a.Name, equal, err)
		}
		if got := h.entry(alice, web1, c.a.Name)[c.a.Name]; (got == "abc") != c.want {
			t.Errorf("%q, read %s: %q", c.aces, c.a.Name, got)
		}
		if got, is := h.entry(alice, web1, "*")[c.a.Name]; is {
			t.Errorf("%q, %s among all: %q", c.aces, c.a.Name, got)
		}
	}
}

// TestNoChangeTellsOfWhatCannotBeSeen: an object that the caller does not see is not there
// for any operation, in the words of one that is not.
func TestNoChangeTellsOfWhatCannotBeSeen(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	closed := "OU=Closed," + domainDN
	h.add(closed, "organizationalUnit")
	h.add("OU=hidden,"+closed, "organizationalUnit")
	h.protect(closed, "O:DAG:DAD:P(A;;RPRC;;;AU)") // which lists nothing to alice
	h.protect("OU=hidden,"+closed, "O:DAG:DAD:P(A;;GA;;;DA)")
	for name, try := range map[string]func(dn string) error{
		"search": func(dn string) error {
			_, _, err := h.search(alice, request(t, dn, directory.ScopeBase, "(objectClass=*)"))
			return err
		},
		"compare": func(dn string) error { _, err := h.Compare(t.Context(), alice, dn, "ou", []byte("hidden")); return err },
		"modify": func(dn string) error {
			return h.Modify(t.Context(), alice, directory.ModifyRequest{DN: dn, Changes: []directory.Change{
				{Op: directory.ChangeReplace, Attribute: directory.Attribute{Name: "objectGUID", Values: [][]byte{{1}}}}}})
		},
		"delete": func(dn string) error { return h.Delete(t.Context(), alice, directory.DeleteRequest{DN: dn}) },
		"delete tree": func(dn string) error {
			return h.Delete(t.Context(), alice, directory.DeleteRequest{DN: dn, Tree: true})
		},
		"rename": func(dn string) error {
			return h.ModifyDN(t.Context(), alice, directory.ModifyDNRequest{DN: dn, NewRDN: "CN=wrong", DeleteOldRDN: true})
		},
		"move there": func(dn string) error {
			return h.ModifyDN(t.Context(), alice, directory.ModifyDNRequest{DN: aliceDN, NewRDN: "CN=alice", DeleteOldRDN: true, NewSuperior: dn})
		},
		"add below": func(dn string) error {
			return h.Add(t.Context(), alice, directory.AddRequest{DN: "CN=x," + dn, Attributes: []directory.Attribute{{Name: "objectClass", Values: [][]byte{[]byte("domainDNS")}}}})
		},
	} {
		for _, dn := range []string{"OU=hidden," + closed, "OU=nobody," + closed, "OU=x,OU=hidden," + closed} {
			e := directory.AsError(try(dn))
			if e.Code != directory.NoSuchObject || e.Matched != closed {
				t.Errorf("%s %s: %v, matched %q", name, dn, e, e.Matched)
			}
		}
	}
}

func TestSortingByWhatCannotBeReadIsNoOrder(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	h.add("OU=S,"+domainDN, "organizationalUnit")
	order := func() (out []string) {
		q := request(t, "OU=S,"+domainDN, directory.ScopeOne, "(objectClass=*)", "1.1")
		q.Sort = "mail"
		for _, e := range first(h.search(alice, q)) {
			out = append(out, e.DN)
		}
		return out
	}
	for i := range 8 {
		dn := fmt.Sprintf("CN=%d,OU=S,%s", i, domainDN)
		h.add(dn, "contact", fmt.Sprintf("mail=%d", i))
		h.protect(dn, closedSDDL)
	}
	before := order()
	for i := range 8 {
		h.change(fmt.Sprintf("CN=%d,OU=S,%s", i, domainDN), func(_ *directory.Writer, e *rows.Entry) error {
			e.Values[h.attribute("mail")] = [][]byte{fmt.Appendf(nil, "%d", 7-i)}
			return nil
		})
	}
	if after := order(); len(before) != 8 || !slices.Equal(before, after) {
		t.Errorf("the order follows what cannot be read: %q, then %q", before, after)
	}
}

// TestDescriptorsAreNotSearched: who may read a part of a descriptor could otherwise
// guess at the rest.
func TestDescriptorsAreNotSearched(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	for filter, want := range map[string]int{"(nTSecurityDescriptor=*)": 1, "NOT (nTSecurityDescriptor=*)": 0, "value": 0, "part": 0} {
		f := adproto.Present("nTSecurityDescriptor")
		switch filter {
		case "NOT (nTSecurityDescriptor=*)":
			f = adproto.Not(f)
		case "value":
			f = adproto.EqualBytes("nTSecurityDescriptor", h.descriptor(openSDDL))
		case "part":
			f = adproto.Filter{Kind: adproto.FilterSubstrings, Attr: "nTSecurityDescriptor", Initial: []byte{1}}
		}
		q := directory.SearchRequest{Base: aliceDN, Filter: f, Attributes: []string{"1.1"}}
		if got := h.names(alice, q); len(got) != want {
			t.Errorf("%s finds %q", filter, got)
		}
	}
}

func TestCompare(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	for name, test := range map[string]struct {
		dn, attribute, value string
		want                 bool
		code                 directory.Code
	}{
		"equal":              {aliceDN, "sAMAccountName", "ALICE", true, directory.Success},
		"not equal":          {aliceDN, "sAMAccountName", "bob", false, directory.Success},
		"one of several":     {aliceDN, "description", "the second", true, directory.Success},
		"a link":             {aliceDN, "memberOf", "cn=staff,cn=users," + domainDN, true, directory.Success},
		"not that link":      {aliceDN, "memberOf", "CN=All Staff,CN=Users," + domainDN, false, directory.Success},
		"by class":           {aliceDN, "objectClass", "person", true, directory.Success},
		"by GUID":            {"<SID=" + alice.SID.String() + ">", "cn", "alice", true, directory.Success},
		"absent":             {aliceDN, "givenName", "A", false, directory.NoSuchAttribute},
		"unknown":            {aliceDN, "sudoHost", "A", false, directory.NoSuchAttribute},
		"constructed":        {aliceDN, "canonicalName", "contoso.com/Users/alice", false, directory.NoSuchAttribute},
		"no such value":      {aliceDN, "userAccountControl", "many", false, directory.InvalidAttributeSyntax},
		"no such object":     {"CN=nobody," + domainDN, "cn", "nobody", false, directory.NoSuchObject},
		"no name":            {"nobody", "cn", "nobody", false, directory.InvalidDNSyntax},
		"a class's object":   {"CN=User,CN=Schema,CN=Configuration," + domainDN, "lDAPDisplayName", "user", true, directory.Success},
		"the schema's own":   {"CN=Schema,CN=Configuration," + domainDN, "objectVersion", "88", true, directory.Success},
		"a gMSA's password":  {gmsaDN, "msDS-ManagedPassword", "x", false, directory.NoSuchAttribute},
		"another's password": {aliceDN, "unicodePwd", "x", false, directory.NoSuchAttribute},
	} {
		got, err := h.Compare(t.Context(), alice, test.dn, test.attribute, []byte(test.value))
		if got != test.want || code(err) != test.code {
			t.Errorf("%s: got %t, %v, want %t and %d", name, got, err, test.want, test.code)
		}
	}
}

// TestManagedPassword is what security.md's second table is about.
func TestManagedPassword(t *testing.T) {
	h := newHome(t)
	web1, alice, admin := h.Caller(t, "WEB1$"), h.Caller(t, "alice"), h.Caller(t, "Administrator")
	h.Events.Take()
	read := func(c directory.Caller, attributes ...string) ([]byte, []audit.Event, error) {
		entries, _, err := h.search(c, request(t, gmsaDN, directory.ScopeBase, "(objectClass=msDS-GroupManagedServiceAccount)", attributes...))
		for _, e := range entries {
			for _, a := range e.Attributes {
				if a.Name == "msDS-ManagedPassword" {
					return a.Values[0], h.Events.Take(), err
				}
			}
		}
		return nil, h.Events.Take(), err
	}
	raw, events, err := read(web1, "msDS-ManagedPassword")
	if err != nil || len(raw) == 0 {
		t.Fatalf("the host: %d bytes, %v", len(raw), err)
	}
	blob, err := managedpassword.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	sid, err := dtyp.SIDFromBytes([]byte(h.entry(web1, gmsaDN, "objectSid")["objectSid"]))
	if err != nil {
		t.Fatal(err)
	}
	want, err := gkdi.Password(h.Ring().Keys()[0].RootKey, sid, gkdi.KeyIDAt(dtyp.FiletimeOf(h.Now())))
	if err != nil {
		t.Fatal(err)
	}
	if !blob.Current.Equal(want) || blob.Previous.Len() != 0 {
		t.Error("the password is not that of the interval")
	}
	if len(events) != 1 || events[0].Kind != audit.KindReadManagedPassword || events[0].SID != web1.SID || events[0].Object != gmsaDN ||
		events[0].Error != "" || !reflect.DeepEqual(events[0].Attributes, []string{"msDS-ManagedPassword"}) {
		t.Errorf("the reading was recorded as %+v", events)
	}
	for _, c := range []directory.Caller{alice, admin} {
		raw, events, err := read(c, "msDS-ManagedPassword", "cn")
		if err != nil || raw != nil || len(events) != 1 || events[0].Error == "" {
			t.Errorf("%s: %d bytes, %v, recorded as %+v", c.Name, len(raw), err, events)
		}
	}
	for _, list := range [][]string{nil, {"*"}, {"+"}, {"*", "+"}} {
		if raw, events, err := read(web1, list...); err != nil || raw != nil || len(events) != 0 {
			t.Errorf("asked for %q: %d bytes, %v, %+v", list, len(raw), err, events)
		}
	}
	plain := web1
	plain.Encrypted = false
	if _, _, err := read(plain, "msDS-ManagedPassword"); code(err) != directory.OperationsError ||
		directory.AsError(err).Diagnostic() != "0000202D: Viewing msDS-ManagedPassword requires an encrypted connection" {
		t.Errorf("on a connection that is not encrypted: %v", err)
	}
	q := request(t, gmsaDN, directory.ScopeBase, "(objectClass=*)", "msDS-ManagedPassword", "cn")
	q.GlobalCatalog = true
	if got := h.entryOf(web1, q); got["msDS-ManagedPassword"] != "" || got["cn"] == "" {
		t.Errorf("in the global catalog: %q", got)
	}
	if raw := h.entry(web1, aliceDN, "msDS-ManagedPassword"); len(raw) != 0 {
		t.Errorf("of a user: %q", raw)
	}
}

// TestNamesAloneReadNoSecret: a search for types only tells who may read a password or a root
// key that there is one, and reads, and records, nothing.
func TestNamesAloneReadNoSecret(t *testing.T) {
	h := newHome(t)
	web1, alice, admin := h.Caller(t, "WEB1$"), h.Caller(t, "alice"), h.Caller(t, "Administrator")
	rootKey := "CN=" + h.Ring().Keys()[0].ID.String() + ",CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration," + domainDN
	for _, c := range []struct {
		caller        directory.Caller
		dn, attribute string
		want          bool
		inVain        int // events
	}{
		{web1, gmsaDN, "msDS-ManagedPassword", true, 0},
		{alice, gmsaDN, "msDS-ManagedPassword", false, 1},
		{admin, rootKey, "msKds-RootKeyData", true, 0},
		{alice, aliceDN, "msDS-ManagedPassword", false, 0},
	} {
		h.Events.Take()
		q := request(t, c.dn, directory.ScopeBase, "(objectClass=*)", c.attribute, "objectClass")
		q.TypesOnly = true
		got := h.entryOf(c.caller, q)
		if value, is := got[c.attribute]; is != c.want || value != "" {
			t.Errorf("%s, %s of %s: %q", c.caller.Name, c.attribute, c.dn, got)
		}
		if e := h.Events.Take(); len(e) != c.inVain {
			t.Errorf("%s, %s of %s: recorded as %+v", c.caller.Name, c.attribute, c.dn, e)
		}
	}
	web1.Encrypted = false
	q := request(t, gmsaDN, directory.ScopeBase, "(objectClass=*)", "msDS-ManagedPassword")
	q.TypesOnly = true
	if _, _, err := h.search(web1, q); code(err) != directory.OperationsError {
		t.Errorf("on a connection that is not encrypted: %v", err)
	}
}

// TestManagedPasswordInTime: after a rollover the password, its version and its id are
// the next ones, in one search.
func TestManagedPasswordInTime(t *testing.T) {
	h := newHome(t)
	web1 := h.Caller(t, "WEB1$")
	names := []string{"msDS-ManagedPassword", "msDS-KeyVersionNumber", "msDS-ManagedPasswordId", "msDS-ManagedPasswordPreviousId"}
	before := h.entry(web1, gmsaDN, names...)
	first, err := managedpassword.Parse([]byte(before["msDS-ManagedPassword"]))
	if err != nil {
		t.Fatal(err)
	}
	h.Clock.Advance(first.QueryInterval)
	after := h.entry(web1, gmsaDN, names...)
	second, err := managedpassword.Parse([]byte(after["msDS-ManagedPassword"]))
	if err != nil {
		t.Fatal(err)
	}
	if second.Current.Equal(first.Current) || after["msDS-KeyVersionNumber"] != "2" || before["msDS-KeyVersionNumber"] != "1" ||
		after["msDS-ManagedPasswordPreviousId"] != before["msDS-ManagedPasswordId"] || after["msDS-ManagedPasswordId"] == before["msDS-ManagedPasswordId"] {
		t.Errorf("before %q, after %q", before, after)
	}
	id, err := managedpassword.ParseID([]byte(after["msDS-ManagedPasswordId"]))
	if err != nil || id.RootKeyID != h.Ring().Keys()[0].ID || id.KeyID != gkdi.KeyIDAt(dtyp.FiletimeOf(h.Now())) {
		t.Errorf("id %+v, %v", id, err)
	}
}

func TestWhoMayReadThePassword(t *testing.T) {
	h := newHome(t)
	web1, alice := h.Caller(t, "WEB1$"), h.Caller(t, "alice")
	group := dtyp.NewSID(dtyp.AuthorityNT, 21, 9, 9, 9, 1200)
	for name, test := range map[string]struct {
		sd    *secdesc.SecurityDescriptor
		token func(*directory.Caller)
		want  bool
	}{
		"nobody is named":             {sd: nil},
		"another account":             {sd: membership(alice.SID)},
		"the host":                    {sd: membership(web1.SID), want: true},
		"a group of the ticket":       {sd: membership(group), token: func(c *directory.Caller) { c.Token.SIDs = append(slices.Clone(c.Token.SIDs), group) }, want: true},
		"a group not in the ticket":   {sd: membership(group)},
		"a group for denials only":    {sd: membership(group), token: func(c *directory.Caller) { c.Token.DenyOnly = []dtyp.SID{group} }},
		"a descriptor without a list": {sd: &secdesc.SecurityDescriptor{Owner: dtyp.LocalSystem}, want: true},
	} {
		h.change(gmsaDN, func(_ *directory.Writer, e *rows.Entry) error {
			delete(e.Values, h.attribute("msDS-GroupMSAMembership"))
			if test.sd == nil {
				return nil
			}
			b, err := test.sd.Append(nil)
			e.Values[h.attribute("msDS-GroupMSAMembership")] = [][]byte{b}
			return err
		})
		c := web1
		if test.token != nil {
			test.token(&c)
		}
		got := h.entry(c, gmsaDN, "msDS-ManagedPassword")["msDS-ManagedPassword"] != ""
		if got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}

func membership(sids ...dtyp.SID) *secdesc.SecurityDescriptor {
	sd := secdesc.GroupMSAMembership(sids...)
	return &sd
}

// TestRootKeyData holds security 18 for readers: Enterprise Admins, sealed, audited.
func TestRootKeyData(t *testing.T) {
	h := newHome(t)
	admin, alice := h.Caller(t, "Administrator"), h.Caller(t, "alice")
	key := h.Ring().Keys()[0]
	dn := "CN=" + key.ID.String() + ",CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration," + domainDN
	h.Events.Take()
	read := func(c directory.Caller, attributes ...string) string {
		t.Helper()
		entries, _, err := h.search(c, request(t, dn, directory.ScopeBase, "(objectClass=*)", attributes...))
		if err != nil && code(err) != directory.NoSuchObject {
			t.Error(err)
		}
		for _, e := range entries {
			for _, a := range e.Attributes {
				if a.Name == "msKds-RootKeyData" {
					return string(a.Values[0])
				}
			}
		}
		return ""
	}
	if got := read(admin, "msKds-RootKeyData", "cn"); !bytes.Equal([]byte(got), key.Key.Reveal()) {
		t.Errorf("Enterprise Admins: %d bytes", len(got))
	}
	if e := h.Events.Take(); len(e) != 1 || e[0].Kind != audit.KindReadRootKey || e[0].SID != admin.SID || !strings.EqualFold(e[0].Object, dn) {
		t.Errorf("recorded as %+v", e)
	}
	plain := admin
	plain.Encrypted = false
	domainAdmin := admin
	domainAdmin.Token.SIDs = slices.DeleteFunc(slices.Clone(admin.Token.SIDs), func(s dtyp.SID) bool { return s.RID() == dtyp.RIDEnterpriseAdmins })
	for name, got := range map[string]string{
		"not encrypted":                 read(plain, "msKds-RootKeyData"),
		"administrators of the domain":  read(domainAdmin, "msKds-RootKeyData"),
		"a user":                        read(alice, "msKds-RootKeyData"),
		"all attributes":                read(admin, "*", "+"),
		"Enterprise Admins by no names": read(admin),
	} {
		if got != "" {
			t.Errorf("%s: %d bytes", name, len(got))
		}
	}
	h.protect(dn, openSDDL) // which gives all rights to the administrators of the domain
	if got := read(domainAdmin, "msKds-RootKeyData"); got != "" {
		t.Errorf("administrators of the domain, by a descriptor that lets them: %d bytes", len(got))
	}
	if e := h.Events.Take(); len(e) != 0 {
		t.Errorf("recorded as %+v", e)
	}
	q := request(t, "CN=Configuration,"+domainDN, directory.ScopeSubtree, "(&(objectClass=msKds-ProvRootKey)(!(msKds-RootKeyData=a)))", "1.1")
	if got := h.names(admin, q); len(got) != 0 {
		t.Errorf("a filter on root key data finds %q", got)
	}
}
