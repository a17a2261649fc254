package audit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secdesc"
)

var (
	domain  = dtyp.NewSID(dtyp.AuthorityNT, 21, 1, 2, 3)
	now     = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	rootKey = dtyp.GUID{1}
)

// inventory is a domain of n accounts that a group of hosts reads, in which nothing is
// wrong.
func inventory(n, hosts int) ad.Inventory {
	inv := ad.Inventory{Domain: "contoso.com", SID: domain, Whole: true, RootKeys: []ad.RootKey{{ID: rootKey, Created: now, UseStart: now}}}
	group := principal(ad.KindGroup, "Hosts", 2000)
	inv.Others = append(inv.Others, group)
	for i := range hosts {
		h := principal(ad.KindComputer, fmt.Sprintf("host%d$", i), uint32(3000+i))
		h.MemberOf, h.WhenCreated, h.LastLogon = []string{group.DN}, now.AddDate(-1, 0, 0), now.AddDate(0, 0, -20)
		inv.Others = append(inv.Others, h)
	}
	for i := range n {
		p := principal(ad.KindGMSA, fmt.Sprintf("app%d$", i), uint32(100_000+i))
		readers := secdesc.GroupMSAMembership(group.SID)
		p.MSA = &ad.GMSA{Interval: 30, Readers: &readers, ID: &managedpassword.ID{RootKeyID: rootKey, KeyID: gkdi.KeyIDAt(dtyp.FiletimeOf(now))}}
		p.EncTypes, p.Control = adproto.EncAES256, adproto.UACWorkstationTrust
		sd, err := secdesc.ParseSDDL("O:DAD:(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;DA)(A;;RPWPCRCCDCLCLORCWOWDSDDTSW;;;AO)(A;;GA;;;SY)(A;;RPLCLORC;;;AU)", domain, domain)
		if err != nil {
			panic(err)
		}
		p.Descriptor = &sd
		inv.Services = append(inv.Services, p)
	}
	return inv
}

func principal(k ad.Kind, name string, rid uint32) ad.Principal {
	return ad.Principal{Account: ad.Account{Kind: k, Name: name, DN: "CN=" + name + ",DC=contoso,DC=com", SID: domain.Child(rid)}}
}

func findings(r Report) []string {
	list := []string{}
	for _, f := range r.Findings {
		list = append(list, f.Check+" "+f.Subject)
	}
	return list
}

// What depends on the time, or cannot be made in a directory that is in order; the rest
// is injected into real ones by TestAudit of the commands.
func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(inv *ad.Inventory)
		at   time.Time
		want []string
	}{
		"nothing is wrong":                     {func(*ad.Inventory) {}, now, []string{}},
		"an account nobody asks for":           {func(*ad.Inventory) {}, now.AddDate(0, 0, 32), []string{"not-rotated app0$"}},
		"one that ended an hour ago is not":    {func(*ad.Inventory) {}, now.AddDate(0, 0, 30).Add(time.Hour), []string{}},
		"a host that has not logged on":        {func(inv *ad.Inventory) { inv.Others[1].LastLogon = now.AddDate(0, 0, -91) }, now, []string{"stale-host host0$"}},
		"a host that was just made":            {func(inv *ad.Inventory) { inv.Others[1].LastLogon, inv.Others[1].WhenCreated = time.Time{}, now }, now, []string{}},
		"a host that never logged on":          {func(inv *ad.Inventory) { inv.Others[1].LastLogon = time.Time{} }, now, []string{"stale-host host0$"}},
		"a root key that is gone":              {func(inv *ad.Inventory) { inv.RootKeys[0].ID = dtyp.GUID{2} }, now, []string{"root-key-missing " + rootKey.String()}},
		"no root key to be seen":               {func(inv *ad.Inventory) { inv.RootKeys = nil }, now, []string{"root-keys-unseen contoso.com"}},
		"permissions that are hidden":          {func(inv *ad.Inventory) { inv.Services[0].Descriptor = nil }, now, []string{"permissions-unseen app0$"}},
		"readers that are hidden":              {func(inv *ad.Inventory) { inv.Services[0].MSA.Readers = nil }, now, []string{"readers-unseen app0$"}},
		"what is left of a protected group":    {func(inv *ad.Inventory) { inv.Services[0].AdminCount = true }, now, []string{"admin-count app0$"}},
		"an owner who is nobody in particular": {func(inv *ad.Inventory) { inv.Services[0].Descriptor.Owner = domain.Child(3000) }, now, []string{"write-access app0$"}},
		"an owner to whom nothing is left": {func(inv *ad.Inventory) {
			inv.Services[0].Descriptor.Owner = domain.Child(3000)
			inv.Services[0].Descriptor.DACL.Insert(secdesc.ACE{Type: secdesc.Allow, Mask: secdesc.ReadControl, SID: dtyp.OwnerRights})
		}, now, []string{}},
		"no list of permissions": {func(inv *ad.Inventory) { inv.Services[0].Descriptor.DACL = nil }, now, []string{"write-access app0$"}},
		"an sMSA whose host is gone": {func(inv *ad.Inventory) {
			p := principal(ad.KindSMSA, "old$", 9)
			p.PasswordSet = now.AddDate(0, 0, -61)
			inv.Services = append(inv.Services, p)
		}, now, []string{"not-rotated old$"}},
		"an operator of accounts": {func(inv *ad.Inventory) {
			operators := ad.Principal{Account: ad.Account{Kind: ad.KindGroup, Name: "Account Operators", DN: "CN=AO", SID: dtyp.BuiltinAccountOperators}}
			user := principal(ad.KindUser, "bob", 10)
			user.MemberOf = []string{"cn=ao"}
			inv.Others = append(inv.Others, operators, user)
		}, now, []string{"write-access app0$"}},
		"groups in a circle": {func(inv *ad.Inventory) {
			g := principal(ad.KindGroup, "Circle", 11)
			g.MemberOf = []string{inv.Others[0].DN}
			inv.Others[0].MemberOf = []string{g.DN}
			inv.Others = append(inv.Others, g)
		}, now, []string{}},
		"a foreign principal in the group": {func(inv *ad.Inventory) {
			f := principal(ad.KindOther, "", 0)
			f.SID, f.MemberOf = dtyp.NewSID(dtyp.AuthorityNT, 21, 7, 8, 9, 1104), []string{inv.Others[0].DN}
			inv.Others = append(inv.Others, f)
		}, now, []string{"read-foreign app0$"}},
		"everybody who logs on in the group": {func(inv *ad.Inventory) {
			f := principal(ad.KindOther, "", 0)
			f.SID, f.MemberOf = dtyp.AuthenticatedUsers, []string{inv.Others[0].DN}
			inv.Others = append(inv.Others, f)
		}, now, []string{"read-everyone app0$"}},
	} {
		t.Run(name, func(t *testing.T) {
			inv := inventory(1, 1)
			c.edit(&inv)
			for i := range inv.Others {
				if age := c.at.Sub(now); inv.Others[i].Kind == ad.KindComputer && age > 0 {
					inv.Others[i].LastLogon = inv.Others[i].LastLogon.Add(age)
				}
			}
			r := Judge(inv, Config{Now: c.at})
			if got := findings(r); !slices.Equal(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
			for _, f := range r.Findings {
				if len(f.Remedies) == 0 {
					t.Errorf("%s has no remedy", f.Check)
				}
			}
		})
	}
}

// Ten thousand accounts that five thousand hosts read by a group take no long time.
func TestJudgeMany(t *testing.T) {
	inv := inventory(10_000, 5_000)
	began := time.Now()
	r := Judge(inv, Config{Now: now})
	t.Log(time.Since(began))
	if !r.Sound || len(r.Accounts) != 10_000 || r.Accounts[0].Hosts != 5_000 || len(r.Groups) == 0 || r.RootKeys[0].Current != 10_000 {
		t.Errorf("%d accounts, %q", len(r.Accounts), findings(r))
	}
}

// No name of the directory has a meaning on the page or in a command.
func TestHostileNames(t *testing.T) {
	const name = `'; rm -rf "/" #<script src=//evil.example></script><img src=x onerror=a()>`
	inv := inventory(1, 1)
	p := &inv.Services[0]
	p.Name, p.DN, p.EncTypes = name, "CN="+name, adproto.EncRC4
	inv.Others[0].Name, inv.Others[1].Name, inv.Domain = name, name, name
	user := principal(ad.KindUser, name, 77)
	user.DN, user.MemberOf = "CN="+name+",DC=x", []string{inv.Others[0].DN}
	inv.Others = append(inv.Others, user)
	var b bytes.Buffer
	r := Judge(inv, Config{Now: now, Version: name})
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"<script", "<img", "javascript:"} {
		if strings.Contains(b.String(), bad) {
			t.Errorf("%s in the page", bad)
		}
	}
	if want := `'\''; rm -rf "/" #`; len(r.Findings) != 2 || !strings.Contains(r.Findings[0].Remedies[0], `gmsa account set '`+want) {
		t.Errorf("%+v", r.Findings)
	}
}
