package kclient_test

import (
	"testing"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/secret"
)

// TestSambaLocated finds the controller by DNS, and reports one that failed.
func TestSambaLocated(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	l := must[*locate.Locator](t)(locate.New(locate.Config{
		Domain: lab.DNSDomain, Resolver: &locate.DNS{Servers: []string{dc.DNS()}},
	}))
	kdcs := kclient.Located(l, locate.Any)
	c := client(t, dc, func(cfg *kclient.Config) { cfg.KDCs = kdcs })
	res := must[kclient.Result](t)(c.AS(t.Context(), host()))
	if res.KDC.Host != lab.DCHost {
		t.Errorf("answered by %v", res.KDC)
	}
	dc.AddUser(t, "kclient-located", "Passw0rd!1")
	admin := must[kclient.Result](t)(c.AS(t.Context(), user(lab.Administrator, lab.AdminPassword))).Credential
	if err := c.SetPassword(t.Context(), admin, krb5.NewName(krb5.NamePrincipal, "kclient-located"), secret.New([]byte("Passw0rd!Neu"))); err != nil {
		t.Error(err)
	}
	kdcs.Failed(res.KDC)
	kdcs.Failed(kclient.KDC{Host: "unknown"})
	must[kclient.Result](t)(c.AS(t.Context(), host()))
}
