package directory_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/kds"
	"github.com/opengmsa/opengmsa/secdesc"
	"github.com/opengmsa/opengmsa/secret"
)

const domainDN = "DC=contoso,DC=com"

// home is a domain with accounts of its own: alice in Staff, which is in All Staff; web1
// and the gMSA webapp01, whose password web1 may read.
type home struct {
	*dctest.Domain
	t testing.TB
}

func newHome(t testing.TB) *home {
	t.Helper()
	return newHomeIn(t, dctest.New(t))
}

func newHomeIn(t testing.TB, d *dctest.Domain) *home {
	t.Helper()
	h := &home{d, t}
	h.add("CN=alice,CN=Users,"+domainDN, "user", "sAMAccountName=alice", "userAccountControl=512", "primaryGroupID=513",
		"description=The first", "description=The second", "mail=alice@contoso.com", "userPrincipalName=alice@contoso.com",
		"pwdLastSet=134403029449736700", "displayName=Alice")
	h.add("CN=Staff,CN=Users,"+domainDN, "group", "sAMAccountName=Staff", "groupType=-2147483646")
	h.add("CN=All Staff,CN=Users,"+domainDN, "group", "sAMAccountName=All Staff", "groupType=-2147483644")
	h.add("CN=Letters,CN=Users,"+domainDN, "group", "sAMAccountName=Letters", "groupType=2")
	h.add("CN=WEB1,CN=Computers,"+domainDN, "computer", "sAMAccountName=WEB1$", "userAccountControl=4096", "primaryGroupID=515",
		"servicePrincipalName=host/web1.contoso.com", "servicePrincipalName=host/web1")
	h.add("CN=webapp01,CN=Managed Service Accounts,"+domainDN, "msDS-GroupManagedServiceAccount", "sAMAccountName=webapp01$",
		"userAccountControl=4096", "primaryGroupID=515", "msDS-ManagedPasswordInterval=30", "dNSHostName=webapp01.contoso.com")
	h.link("member", "CN=Staff,CN=Users,"+domainDN, "CN=alice,CN=Users,"+domainDN)
	h.link("member", "CN=All Staff,CN=Users,"+domainDN, "CN=Staff,CN=Users,"+domainDN)
	h.link("member", "CN=Letters,CN=Users,"+domainDN, "CN=alice,CN=Users,"+domainDN)
	h.change("CN=webapp01,CN=Managed Service Accounts,"+domainDN, func(w *directory.Writer, e *rows.Entry) error {
		sd := secdesc.GroupMSAMembership(h.Caller(t, "WEB1$").SID)
		b, err := sd.Append(nil)
		if err != nil {
			return err
		}
		e.Values[h.attribute("msDS-GroupMSAMembership")] = [][]byte{b}
		timeline, err := kds.Create(h.Ring(), dtyp.FiletimeOf(h.Now()), 30, "CONTOSO.COMhostwebapp01.contoso.com")
		if err != nil {
			return err
		}
		return w.SetPrivate(e.GUID, directory.PrivateTimeline, secret.New(timeline.Append(nil)))
	})
	return h
}

func (h *home) attribute(name string) *schema.Attribute {
	h.t.Helper()
	a, ok := h.Schema().Attribute(name)
	if !ok {
		h.t.Fatalf("no attribute %s", name)
	}
	return a
}

// add inserts an object with the descriptor of its class for everybody who has
// authenticated to read, and for administrators.
func (h *home) add(dn, class string, values ...string) {
	h.t.Helper()
	if err := h.Update(h.t.Context(), func(w *directory.Writer) error { return h.insert(w, dn, class, values...) }); err != nil {
		h.t.Fatalf("add %s: %v", dn, err)
	}
}

func (h *home) insert(w *directory.Writer, dn, class string, values ...string) error {
	name, err := adproto.ParseDN(dn)
	if err != nil {
		return err
	}
	parent, err := w.Resolve(name.Parent())
	if err != nil {
		return err
	}
	classes, err := h.Schema().Expand(class)
	if err != nil {
		return err
	}
	g, err := dtyp.NewGUID(rand.Reader)
	if err != nil {
		return err
	}
	now := dtyp.FiletimeOf(h.Now())
	e := &rows.Entry{GUID: g, Parent: parent, RDN: h.attribute(name[0][0].Type), Name: name.Name(),
		WhenCreated: now, WhenChanged: now, Values: map[*schema.Attribute][][]byte{}}
	put := func(name string, value []byte) {
		a := h.attribute(name)
		e.Values[a] = append(e.Values[a], value)
	}
	for _, c := range classes.Names() {
		put("objectClass", []byte(c))
	}
	put("objectCategory", []byte("CN="+classes.Structural().DefaultCategory+",CN=Schema,CN=Configuration,"+domainDN))
	put("instanceType", []byte("4"))
	put("nTSecurityDescriptor", h.descriptor(openSDDL))
	for _, v := range values {
		name, value, _ := strings.Cut(v, "=")
		put(name, []byte(value))
	}
	if len(e.Values[h.attribute("sAMAccountName")]) > 0 {
		sid, err := w.NextSID()
		if err != nil {
			return err
		}
		put("objectSid", sid.Bytes())
	}
	return w.Insert(e)
}

// openSDDL lets everybody who has authenticated read, and administrators do all.
const openSDDL = "O:DAG:DAD:(A;;RPLCLORC;;;AU)(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;DA)"

func (h *home) descriptor(sddl string) []byte {
	h.t.Helper()
	sd, err := secdesc.ParseSDDL(sddl, h.Domain.Domain().SID, h.Domain.Domain().SID)
	if err != nil {
		h.t.Fatal(err)
	}
	b, err := sd.Append(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return b
}

func (h *home) change(dn string, fn func(*directory.Writer, *rows.Entry) error) {
	h.t.Helper()
	err := h.Update(h.t.Context(), func(w *directory.Writer) error {
		g, err := w.ResolveTarget(dn)
		if err != nil {
			return err
		}
		e, err := w.Get(g)
		if err != nil {
			return err
		}
		return errors.Join(fn(w, e), w.Replace(e))
	})
	if err != nil {
		h.t.Fatalf("change %s: %v", dn, err)
	}
}

// protect gives an object a descriptor.
func (h *home) protect(dn, sddl string) {
	h.t.Helper()
	h.change(dn, func(_ *directory.Writer, e *rows.Entry) error {
		e.Values[h.attribute("nTSecurityDescriptor")] = [][]byte{h.descriptor(sddl)}
		return nil
	})
}

func (h *home) link(attribute, source, target string) {
	h.t.Helper()
	err := h.Update(h.t.Context(), func(w *directory.Writer) error {
		from, err := w.ResolveTarget(source)
		if err != nil {
			return err
		}
		to, err := w.ResolveTarget(target)
		if err != nil {
			return err
		}
		return w.Link(h.attribute(attribute), rows.Link{Source: from, Target: to})
	})
	if err != nil {
		h.t.Fatalf("%s from %s to %s: %v", attribute, source, target, err)
	}
}

// request is a search for all attributes of the objects below base that filter takes.
func request(t testing.TB, base string, scope directory.Scope, filter string, attributes ...string) directory.SearchRequest {
	t.Helper()
	f, err := adproto.ParseFilter(filter)
	if err != nil {
		t.Fatal(err)
	}
	return directory.SearchRequest{Base: base, Scope: scope, Filter: f, Attributes: attributes}
}

func (h *home) search(c directory.Caller, q directory.SearchRequest) ([]directory.SearchEntry, directory.SearchResult, error) {
	h.t.Helper()
	var entries []directory.SearchEntry
	r, err := h.Search(h.t.Context(), c, q, func(e directory.SearchEntry) error {
		entries = append(entries, e)
		return nil
	})
	return entries, r, err
}

// names are the names of what a search finds, without the domain, sorted.
func (h *home) names(c directory.Caller, q directory.SearchRequest) []string {
	h.t.Helper()
	entries, _, err := h.search(c, q)
	if err != nil {
		h.t.Fatalf("search %s for %s: %v", q.Base, q.Filter, err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, strings.TrimSuffix(e.DN, ","+domainDN))
	}
	slices.Sort(out)
	return out
}

// entry is one object, as texts of its attributes, values separated by "|".
func (h *home) entry(c directory.Caller, dn string, attributes ...string) map[string]string {
	h.t.Helper()
	return h.entryOf(c, request(h.t, dn, directory.ScopeBase, "(objectClass=*)", attributes...))
}

func (h *home) entryOf(c directory.Caller, q directory.SearchRequest) map[string]string {
	h.t.Helper()
	entries, _, err := h.search(c, q)
	if err != nil || len(entries) != 1 {
		h.t.Fatalf("%s: %d entries, %v", q.Base, len(entries), err)
	}
	out := map[string]string{}
	for _, a := range entries[0].Attributes {
		if _, twice := out[a.Name]; twice {
			h.t.Errorf("%s: %s twice", q.Base, a.Name)
		}
		var values []string
		for _, v := range a.Values {
			values = append(values, string(v))
		}
		out[a.Name] = strings.Join(values, "|")
	}
	return out
}

func code(err error) directory.Code {
	if err == nil {
		return directory.Success
	}
	return directory.AsError(err).Code
}

func TestSearchesFindWhatTheFilterTakes(t *testing.T) {
	h := newHome(t)
	alice := h.Caller(t, "alice")
	const users = "CN=Users," + domainDN
	for name, test := range map[string]struct {
		base   string
		scope  directory.Scope
		filter string
		want   string // names separated by "; "
	}{
		"by account name":             {domainDN, directory.ScopeSubtree, "(sAMAccountName=ALICE)", "CN=alice,CN=Users"},
		"by name":                     {domainDN, directory.ScopeSubtree, "(name=alice)", "CN=alice,CN=Users"},
		"by cn":                       {domainDN, directory.ScopeSubtree, "(cn=Web1)", "CN=WEB1,CN=Computers"},
		"by name and class":           {domainDN, directory.ScopeSubtree, "(&(objectClass=computer)(sAMAccountName=web1$))", "CN=WEB1,CN=Computers"},
		"another class":               {domainDN, directory.ScopeSubtree, "(&(objectClass=group)(sAMAccountName=web1$))", ""},
		"out of scope":                {"CN=Computers," + domainDN, directory.ScopeSubtree, "(sAMAccountName=alice)", ""},
		"one level":                   {users, directory.ScopeOne, "(sAMAccountName=alice)", "CN=alice,CN=Users"},
		"one level is one":            {domainDN, directory.ScopeOne, "(sAMAccountName=alice)", ""},
		"base is one object":          {users, directory.ScopeBase, "(objectClass=*)", "CN=Users"},
		"base does not match":         {users, directory.ScopeBase, "(objectClass=user)", ""},
		"a walk":                      {"CN=Managed Service Accounts," + domainDN, directory.ScopeSubtree, "(objectClass=*)", "CN=Managed Service Accounts; CN=webapp01,CN=Managed Service Accounts"},
		"a walk of one level":         {"CN=Managed Service Accounts," + domainDN, directory.ScopeOne, "(objectClass=*)", "CN=webapp01,CN=Managed Service Accounts"},
		"by member":                   {domainDN, directory.ScopeSubtree, "(member=cn=Alice,cn=users," + domainDN + ")", "CN=Letters,CN=Users; CN=Staff,CN=Users"},
		"by member and class":         {domainDN, directory.ScopeSubtree, "(&(objectClass=group)(member=CN=Staff,CN=Users," + domainDN + "))", "CN=All Staff,CN=Users"},
		"by memberOf":                 {domainDN, directory.ScopeSubtree, "(memberOf=CN=Staff,CN=Users," + domainDN + ")", "CN=alice,CN=Users"},
		"by a member's SID":           {domainDN, directory.ScopeSubtree, "(member=<SID=" + alice.SID.String() + ">)", "CN=Letters,CN=Users; CN=Staff,CN=Users"},
		"in chain by SID":             {domainDN, directory.ScopeSubtree, "(&(name=All*)(member:1.2.840.113556.1.4.1941:=<SID=" + alice.SID.String() + ">))", "CN=All Staff,CN=Users"},
		"a member who is not there":   {domainDN, directory.ScopeSubtree, "(|(sAMAccountName=alice)(member=<GUID=8c8c8c8c-0000-0000-0000-000000000001>)(member=<S>))", "CN=alice,CN=Users"},
		"not a member":                {users, directory.ScopeSubtree, "(&(objectClass=group)(name=*t*)(!(member=*))(name=Letters))", ""},
		"in chain":                    {domainDN, directory.ScopeSubtree, "(memberOf:1.2.840.113556.1.4.1941:=CN=All Staff,CN=Users," + domainDN + ")", "CN=Staff,CN=Users; CN=alice,CN=Users"},
		"chain of members":            {domainDN, directory.ScopeSubtree, "(&(name=All Staff)(member:1.2.840.113556.1.4.1941:=CN=alice,CN=Users," + domainDN + "))", "CN=All Staff,CN=Users"},
		"chain to nobody":             {domainDN, directory.ScopeSubtree, "(memberOf:1.2.840.113556.1.4.1941:=CN=Nobody,CN=Users," + domainDN + ")", ""},
		"either of two":               {domainDN, directory.ScopeSubtree, "(|(sAMAccountName=alice)(servicePrincipalName=HOST/web1))", "CN=WEB1,CN=Computers; CN=alice,CN=Users"},
		"unknown attribute":           {domainDN, directory.ScopeSubtree, "(&(objectCategory=sudoRole)(sudoHost=ALL))", ""},
		"unknown class":               {domainDN, directory.ScopeSubtree, "(objectClass=sudoRole)", ""},
		"category by class":           {domainDN, directory.ScopeSubtree, "(&(objectCategory=computer)(sAMAccountName=WEB1$))", "CN=WEB1,CN=Computers"},
		"bits":                        {"CN=Computers," + domainDN, directory.ScopeSubtree, "(userAccountControl:1.2.840.113556.1.4.803:=4096)", "CN=WEB1,CN=Computers"},
		"the domain ends before":      {domainDN, directory.ScopeSubtree, "(objectClass=configuration)", ""},
		"and one level too":           {domainDN, directory.ScopeOne, "(name=Configuration)", ""},
		"the configuration":           {"CN=Configuration," + domainDN, directory.ScopeBase, "(objectClass=*)", "CN=Configuration"},
		"no schema below it":          {"CN=Configuration," + domainDN, directory.ScopeSubtree, "(objectClass=dMD)", ""},
		"msktutil's base":             {"<WKGUID=aa312825768811d1aded00c04fd8d5cd," + domainDN + ">", directory.ScopeOne, "(sAMAccountName=WEB1$)", "CN=WEB1,CN=Computers"},
		"samba-tool's base":           {"<WKGUID=1EB93889E40C45DF9F0C64D23BBB6237," + domainDN + ">", directory.ScopeBase, "(objectClass=*)", "CN=Managed Service Accounts"},
		"partitions":                  {"CN=Partitions,CN=Configuration," + domainDN, directory.ScopeOne, "(&(nCName=" + domainDN + ")(nETBIOSName=*))", "CN=CONTOSO,CN=Partitions,CN=Configuration"},
		"case of the base":            {"cn=USERS,dc=CONTOSO,dc=com", directory.ScopeOne, "(sAMAccountName=alice)", "CN=alice,CN=Users"},
		"by distinguishedName":        {domainDN, directory.ScopeSubtree, "(distinguishedName=cn=alice,cn=users,dc=contoso,dc=com)", "CN=alice,CN=Users"},
		"constructed matches nothing": {domainDN, directory.ScopeSubtree, "(canonicalName=*)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(h.names(alice, request(t, test.base, test.scope, test.filter, "1.1")), "; ")
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

const gmsaDN = "CN=webapp01,CN=Managed Service Accounts," + domainDN
