package ad_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/secdesc"
)

// childObjects are accounts of another domain: a host with a service, and one with a UPN.
const childObjects = `dn: CN=web9,CN=Computers,` + lab.ChildBaseDN + `
objectClass: computer
sAMAccountName: web9$
objectSid: ` + lab.ChildSID + `-1101
userAccountControl: 4096
servicePrincipalName: http/intranet

dn: CN=web8,CN=Computers,` + lab.ChildBaseDN + `
objectClass: computer
sAMAccountName: web8$
objectSid: ` + lab.ChildSID + `-1102
userAccountControl: 4096
userPrincipalName: first@hosts.example
`

const (
	childWeb9 = "CN=web9,CN=Computers," + lab.ChildBaseDN
	childWeb8 = "CN=web8,CN=Computers," + lab.ChildBaseDN
)

// TestAForestOfTwoDomains: what one domain's administrator does looks at the other one in
// the global catalog.
func TestAForestOfTwoDomains(t *testing.T) {
	for name, start := range map[string]func() *lab.DC{
		"Samba": func() *lab.DC { return lab.Samba(t, lab.SambaConfig{Private: true}) },
		"gmsa":  func() *lab.DC { return lab.Own(t, lab.OwnConfig{Private: true}) },
	} {
		dc := start()
		dc.AddDomain(t, childObjects)
		t.Run(name, func(t *testing.T) {
			s := session(t, domain(t, config(t, dc)), password(t, "Administrator"))
			t.Run("names are taken in all", func(t *testing.T) { testForestNames(t, s) })
			t.Run("principals are of all", func(t *testing.T) { testForestPrincipals(t, s) })
			t.Run("members are of all", func(t *testing.T) { testForestMembers(t, s) })
			t.Run("root keys serve all", func(t *testing.T) { testForestKeys(t, s) })
		})
	}
}

func testForestNames(t *testing.T, s *ad.Session) {
	create := func(n ad.NewServiceAccount) error {
		n.OutboundOnly = true
		_, _, err := s.CreateServiceAccount(t.Context(), n)
		return err
	}
	for what, c := range map[string]struct {
		new   ad.NewServiceAccount
		owner string
	}{
		"a name": {ad.NewServiceAccount{Name: "web9"}, childWeb9},
		"an SPN": {ad.NewServiceAccount{Name: "spntaken", SPNs: []string{"HTTP/Intranet"}}, childWeb9},
	} {
		err := create(c.new)
		taken, ok := errors.AsType[*ad.TakenError](err)
		if !ok || !errors.Is(err, ldapc.ErrExists) || !strings.EqualFold(taken.Owner, c.owner) {
			t.Errorf("%s of another domain: %v", what, err)
		}
		if _, err := s.ServiceAccount(t.Context(), c.new.Name); !errors.Is(err, ad.ErrNotFound) {
			t.Errorf("%s was made: %v", c.new.Name, err)
		}
	}
	if err := create(ad.NewServiceAccount{Name: "nobodys", SPNs: []string{"http/nobodys"}}); err != nil {
		t.Errorf("a free name: %v", err)
	}
	if _, _, err := s.AddSPNs(t.Context(), "nobodys$", "http/intranet"); !errors.Is(err, ldapc.ErrExists) {
		t.Errorf("an SPN of another domain, later: %v", err)
	}
}

func testForestPrincipals(t *testing.T, s *ad.Session) {
	a, _, err := s.CreateServiceAccount(t.Context(), ad.NewServiceAccount{
		Name: "abroad", OutboundOnly: true, Readers: []string{`CHILD\web9$`, "web1$"},
	})
	if err != nil {
		t.Fatal(err)
	}
	const web1 = "CN=web1,CN=Computers," + lab.BaseDN
	readers := func() []string {
		t.Helper()
		list, err := s.Readers(t.Context(), a)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, r := range list {
			if r.Object == nil {
				t.Errorf("%v is nobody", r.SID)
				continue
			}
			names = append(names, r.Object.DN)
		}
		return names
	}
	if got := readers(); !slices.Equal(got, []string{childWeb9, web1}) {
		t.Errorf("readers: %q", got)
	}
	const sid = lab.ChildSID + "-1102"
	for _, text := range []string{`CHILD\web8`, `child.contoso.com\web8$`, "web8$@child.contoso.com", "first@hosts.example", sid, childWeb8} {
		o, err := s.Lookup(t.Context(), text)
		if err != nil || o.DN != childWeb8 || o.SID.String() != sid || o.Kind != ad.KindComputer {
			t.Errorf("%s: %+v, %v", text, o, err)
		}
	}
	for _, text := range []string{"web9$", `CHILD\nobody$`, `OTHER\web9$`, "web9$@other.example", "CN=nobody," + lab.ChildBaseDN, lab.ChildSID + "-9999"} {
		if o, err := s.Lookup(t.Context(), text); !errors.Is(err, ad.ErrNotFound) {
			t.Errorf("%s: %+v, %v", text, o, err)
		}
	}
	a, added, err := s.AddReaders(t.Context(), "abroad", `CHILD\web8$`)
	if err != nil || len(added) != 1 || added[0].String() != sid || len(a.MSA.Readers.Trustees(secdesc.ReadManagedPassword)) != 3 {
		t.Errorf("add: %v, %v", added, err)
	}
}

// Only groups of the kinds that may have members of other domains take them; the hosts in
// them are shown with the account.
func testForestMembers(t *testing.T, s *ad.Session) {
	if _, err := s.CreateGroup(t.Context(), ad.NewGroup{Name: "Mixed", Type: adproto.GroupSecurity | adproto.GroupDomainLocal, Members: []string{"web2$"}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.AddMembers(t.Context(), "Mixed", `CHILD\web9$`); err != nil {
			t.Fatal(err)
		}
	}
	for _, nested := range []bool{false, true} {
		members, err := s.Members(t.Context(), "Mixed", nested)
		if err != nil || len(members) != 2 || !slices.ContainsFunc(members, func(o ad.Object) bool { return o.DN == childWeb9 }) {
			t.Errorf("members, nested %t: %+v, %v", nested, members, err)
		}
	}
	if _, err := s.RemoveMembers(t.Context(), "Mixed", `CHILD\web9$`); err != nil {
		t.Error(err)
	}
}

// A root key is the forest's: whether an account of another domain needs it cannot be seen
// from here.
func testForestKeys(t *testing.T, s *ad.Session) {
	key, _, err := s.AddRootKey(t.Context(), s.Domain().Kerberos().Now().Add(ad.DefaultRootKeyDelay))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.RemoveRootKey(t.Context(), key.ID, false)
	if e, ok := errors.AsType[*ad.RootKeyInUseError](err); !ok || e.Whole || !strings.Contains(err.Error(), "other domains") {
		t.Errorf("remove: %v", err)
	}
	if _, err := s.RemoveRootKey(t.Context(), key.ID, true); err != nil {
		t.Errorf("forced: %v", err)
	}
}
