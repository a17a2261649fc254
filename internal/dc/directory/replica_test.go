package directory_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/provision"
)

// childDomain is what the global catalog has of another domain. It has a computer web7$
// as the domain itself will.
const childDomain = `dn: DC=child,DC=contoso,DC=com
objectClass: domainDNS
objectSid: S-1-5-21-1-2-3

dn: CN=CHILD,CN=Partitions,CN=Configuration,DC=contoso,DC=com
objectClass: crossRef
nCName: DC=child,DC=contoso,DC=com
dnsRoot: child.contoso.com
nETBIOSName: CHILD
systemFlags: 3

dn: CN=Computers,DC=child,DC=contoso,DC=com
objectClass: container

dn: CN=web7,CN=Computers,DC=child,DC=contoso,DC=com
objectClass: computer
sAMAccountName: web7$
objectSid: S-1-5-21-1-2-3-1101
userAccountControl: 4096
primaryGroupID: 515
servicePrincipalName: http/intranet
`

const (
	childDN     = "DC=child,DC=contoso,DC=com"
	childWeb7   = "CN=web7,CN=Computers," + childDN
	ownWeb7     = "CN=web7,CN=Computers," + domainDN
	childSID    = "S-1-5-21-1-2-3"
	childServer = "ldap://child.contoso.com/"
)

func forest(t *testing.T) *domain {
	t.Helper()
	d := people(t)
	if err := provision.Replica(t.Context(), d.Directory, childDomain, rand.Reader); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestTheGlobalCatalogHasOtherDomains: its searches find objects of all of them, in pages
// and by each way of looking for candidates; those of the domain find its own.
func TestTheGlobalCatalogHasOtherDomains(t *testing.T) {
	d := forest(t)
	d.mustAdd(ownWeb7, "objectClass: computer", "sAMAccountName: web7$")
	h := &home{&d.Domain, t}
	for name, c := range map[string]struct {
		base    string
		catalog bool
		filter  string
		want    []string
	}{
		"by an index, here":           {domainDN, false, "(sAMAccountName=web7$)", []string{ownWeb7}},
		"by a walk, here":             {domainDN, false, "(sAMAccountName=*eb7$)", []string{ownWeb7}},
		"by an index, in all":         {"", true, "(sAMAccountName=web7$)", []string{ownWeb7, childWeb7}},
		"by a walk, in all":           {"", true, "(sAMAccountName=*eb7$)", []string{ownWeb7, childWeb7}},
		"below the domain, in all":    {domainDN, true, "(sAMAccountName=web7$)", []string{ownWeb7, childWeb7}},
		"below the other one":         {childDN, true, "(sAMAccountName=web7$)", []string{childWeb7}},
		"by its SID":                  {"", true, "(objectSid=" + childSID + "-1101)", []string{childWeb7}},
		"by its SID, here":            {domainDN, false, "(objectSid=" + childSID + "-1101)", nil},
		"by a service principal name": {"", true, "(servicePrincipalName=http/intranet)", []string{childWeb7}},
		"the other domain's head":     {childDN, true, "(objectClass=domainDNS)", []string{childDN}},
		"its cross-reference": {"CN=Configuration," + domainDN, false, "(&(nETBIOSName=CHILD)(nCName=" + childDN + "))",
			[]string{"CN=CHILD,CN=Partitions,CN=Configuration," + domainDN}},
	} {
		q := request(t, c.base, directory.ScopeSubtree, c.filter, "cn")
		q.GlobalCatalog = c.catalog
		slices.Sort(c.want)
		entries, _, err := h.search(d.admin, q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var got []string
		for _, e := range entries {
			got = append(got, e.DN)
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		q.PageSize = 1
		var paged []string
		for _, page := range h.pages(d.admin, q, func(int) {}) {
			paged = append(paged, page...)
		}
		if slices.Sort(paged); !slices.Equal(paged, c.want) {
			t.Errorf("%s, in pages: %q, want %q", name, paged, c.want)
		}
	}
}

// TestOtherDomainsAreReferredTo: who asks for objects of another domain is told where,
// and nothing there is changed.
func TestOtherDomainsAreReferredTo(t *testing.T) {
	d := forest(t)
	rename := func(dn, parent string) error { return d.rename(d.admin, dn, "CN=moved", parent) }
	search := func(base string, scope directory.Scope) error {
		_, err := d.Search(t.Context(), d.admin, request(t, base, scope, "(objectClass=*)"), func(directory.SearchEntry) error { return nil })
		return err
	}
	_, compared := d.Compare(t.Context(), d.admin, childWeb7, "cn", []byte("web7"))
	for name, c := range map[string]struct {
		err  error
		name string
	}{
		"search of one":       {search(childWeb7, directory.ScopeBase), childWeb7},
		"search":              {search(childDN, directory.ScopeSubtree), childDN},
		"search of nothing":   {search("CN=x y,"+childDN, directory.ScopeBase), "CN=x%20y," + childDN},
		"compare":             {compared, childWeb7},
		"add":                 {d.add(d.admin, "CN=new,"+childDN, "objectClass: container"), childDN},
		"modify":              {d.modify(d.admin, childWeb7, "replace: description: x"), childWeb7},
		"delete":              {d.delete(d.admin, childWeb7, false), childWeb7},
		"delete with a tree":  {d.delete(d.admin, childDN, true), childDN},
		"rename":              {rename(childWeb7, ""), childWeb7},
		"move from there":     {rename(childWeb7, users), childWeb7},
		"move from here":      {rename(alice, childDN), childDN},
		"modify the head":     {d.modify(d.admin, childDN, "replace: description: x"), childDN},
		"modify, the catalog": {d.modify(d.admin, "<GUID="+d.get(childWeb7).GUID.String()+">", "replace: description: x"), ""},
	} {
		e, ok := errors.AsType[*directory.Error](c.err)
		if !ok || e.Code != directory.Referral || c.name != "" && e.Referral != childServer+c.name {
			t.Errorf("%s: %+v", name, c.err)
		}
	}
	if got := d.values(childWeb7, "description"); len(got) != 0 {
		t.Errorf("changed: %q", got)
	}
}

// TestNoAccountOfAnotherDomainIsTakenForOneOfThis: the names of accounts are each domain's
// own, and who looks one up without saying more means the domain's. Names of services are
// the forest's.
func TestNoAccountOfAnotherDomainIsTakenForOneOfThis(t *testing.T) {
	d := forest(t)
	holds := func(attribute, value string) (name string) {
		err := d.View(t.Context(), func(r *directory.Reader) error {
			a, _ := d.Schema().Attribute(attribute)
			e, err := r.Lookup(a, []byte(value))
			if err == nil {
				dn, _ := r.DN(e)
				name = dn.String()
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return name
	}
	if got := holds("sAMAccountName", "web7$") + holds("servicePrincipalName", "http/intranet"); got != "" {
		t.Errorf("found %s", got)
	}
	d.mustAdd(ownWeb7, "objectClass: computer", "sAMAccountName: web7$")
	if got := holds("sAMAccountName", "web7$"); got != ownWeb7 {
		t.Errorf("web7$ is %s", got)
	}
	if got := result(d.modify(d.admin, ownWeb7, "add: servicePrincipalName: http/intranet")); got != "19 21C7" {
		t.Errorf("a name of the other domain's web7: %s", got)
	}
	d.mustAdd(group("Mixed"), "objectClass: group", "sAMAccountName: Mixed", "groupType: -2147483644", "member: "+childWeb7)
	if got := d.shown(group("Mixed"), "member"); !slices.Equal(got, []string{childWeb7}) {
		t.Errorf("members: %q", got)
	}
}
