package ad_test

import (
	"errors"
	"testing"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
)

func TestReadThatRollsThePasswordOver(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	before := dc.KVNO(t, "aged01$")
	s := session(t, domain(t, config(t, dc)), password(t, "web1$"))
	p, err := s.ManagedPassword(t.Context(), name(t, "aged01"), ad.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	if after := dc.KVNO(t, "aged01$"); after != before+1 || int(p.Account.KVNO) != after {
		t.Errorf("key version %d before, %d after, %d as read", before, after, p.Account.KVNO)
	}
	if p.Account.MSA.ID == nil || p.Account.MSA.PreviousID == nil || p.Account.MSA.ID.KeyID == p.Account.MSA.PreviousID.KeyID {
		t.Errorf("password ids %+v and %+v", p.Account.MSA.ID, p.Account.MSA.PreviousID)
	}
}

func TestAccountsThatTheDomainCannotServe(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	dc.AddGMSA(t, lab.GMSA{Name: "noreaders"})
	dc.AddGMSA(t, lab.GMSA{Name: "rootless", Readers: []string{"web1$"}})
	dc.Modify(t, "dn: CN=nointerval,CN=Managed Service Accounts,"+lab.BaseDN+"\nobjectClass: msDS-GroupManagedServiceAccount\nsAMAccountName: nointerval$\n"+
		"dNSHostName: nointerval.contoso.com\nuserAccountControl: 4096\nmsDS-ManagedPasswordInterval: 0\nmsDS-GroupMSAMembership: O:SYD:(A;;RP;;;AU)\n")
	s := session(t, domain(t, config(t, dc)), password(t, "web1$"))
	rootKeys := dc.Search(t, "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration,"+lab.BaseDN, "(objectClass=msKds-ProvRootKey)", "cn")
	for _, k := range rootKeys {
		dc.Modify(t, "dn: "+k.DN+"\nchangetype: delete\n")
	}
	for account, want := range map[string]error{
		"noreaders":  ad.ErrWithheld,
		"rootless":   ad.ErrNoRootKey, // the key of its password is gone
		"aged01":     ad.ErrNoRootKey, // there is none for the next password
		"nointerval": ad.ErrInterval,
	} {
		_, err := s.ManagedPassword(t.Context(), name(t, account), ad.Hint{})
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", account, err, want)
		}
	}
}

func TestIPv6(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{IPv6: true})
	cfg := config(t, dc)
	cfg.Locate = locate.Config{Domain: lab.DNSDomain, Servers: []string{"[" + dc.IP6.String() + "]:389"}, Now: dc.Now}
	d := domain(t, cfg)
	if _, err := session(t, d, password(t, "web1$")).ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{}); err != nil {
		t.Error(err)
	}
}
