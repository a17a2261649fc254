package cli

import (
	"fmt"
	"testing"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/secret"
)

// Lists go on where a controller's page of 1,000 ends.
func TestOwnListsPageThrough(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some seconds")
	}
	const many = 1_100
	d := ownSeedDomain(t)
	a := newAdministrator(t, d.ip, d.password)
	a.run(0, "kds", "add", "--effective-time", "-11h")
	dom, err := ad.NewDomain(ad.Config{Locate: locate.Config{Domain: "contoso.com", Servers: []string{d.ip}}})
	if err != nil {
		t.Fatal(err)
	}
	defer dom.Close()
	name, err := adproto.ParseAccountName("Administrator")
	if err != nil {
		t.Fatal(err)
	}
	id, err := ad.WithPassword(name, secret.New([]byte(d.password)))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ad.Open(dom, id)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range many {
		if _, _, err := s.CreateServiceAccount(t.Context(), ad.NewServiceAccount{
			Name: fmt.Sprintf("many%d", i), OutboundOnly: true, SPNs: []string{fmt.Sprintf("http/many%d", i)},
		}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := s.ServiceAccounts(t.Context(), adproto.Present("objectClass"), "")
	if err != nil || len(list) != many {
		t.Errorf("%d accounts, %v", len(list), err)
	}
	if inv, err := s.Inventory(t.Context()); err != nil || len(inv.Services) != many {
		t.Errorf("an inventory of %d accounts, %v", len(inv.Services), err)
	}
	if found, err := s.DuplicateSPNs(t.Context()); err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
}
