package ad_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
)

func TestTheGlobalCatalogIsAsked(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	s := session(t, domain(t, config(t, dc)), password(t, "web1$"))
	names, err := s.Catalog(t.Context(), adproto.Equal("sAMAccountName", "webapp01$"))
	if want := []string{"CN=webapp01,CN=Managed Service Accounts," + lab.BaseDN}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%q, %v", names, err)
	}
}

// Nothing is written where no controller takes it.
func TestAdministrationWithoutAController(t *testing.T) {
	d, err := ad.NewDomain(ad.Config{Locate: locate.Config{Domain: lab.DNSDomain, Servers: []string{"127.0.0.1:1"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	_, err = session(t, d, passwordOf(t, "Administrator", "x")).CreateGroup(t.Context(), ad.NewGroup{Name: "g", Type: adproto.GroupGlobal})
	if !errors.Is(err, locate.ErrNoController) {
		t.Error(err)
	}
}
