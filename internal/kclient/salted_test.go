package kclient_test

import (
	"errors"
	"net"
	"testing"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// A key made with another salt is never tried while the KDC can be asked first.
func TestSambaSaltedKeys(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	c := client(t, dc, nil)
	key := func(salt string) *crypto.Key {
		return must[*crypto.Key](t)(crypto.StringToKey(crypto.AES256SHA1, []byte(lab.ComputerPassword("web1")), salt, nil))
	}
	const right, wrong = "CONTOSO.COMhostweb1.contoso.com", "CONTOSO.COMhostwas.contoso.com"
	req := func(salt string, proven bool) kclient.ASRequest {
		return kclient.ASRequest{Client: krb5.NewName(krb5.NamePrincipal, "web1$"), Secret: kclient.SaltedKeys(salt, proven, key(salt))}
	}
	for _, proven := range []bool{false, true} {
		if _, err := c.AS(t.Context(), req(right, proven)); err != nil {
			t.Errorf("right salt, proven %v: %v", proven, err)
		}
		_, err := c.AS(t.Context(), req(wrong, proven))
		var salt *kclient.SaltError
		if !errors.As(err, &salt) || salt.Salt != right || salt.Tried != proven {
			t.Errorf("wrong salt, proven %v: %v", proven, err)
		}
	}
	bad := must[*crypto.Key](t)(crypto.StringToKey(crypto.AES256SHA1, []byte("another password"), right, nil))
	for _, proven := range []bool{false, true} {
		r := req(right, proven)
		r.Secret = kclient.SaltedKeys(right, proven, bad)
		if _, err := c.AS(t.Context(), r); !errors.Is(err, kclient.ErrWrongKey) {
			t.Errorf("wrong key, proven %v: %v", proven, err)
		}
	}
}

func TestThePreferredControllerIsAskedFirst(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	ip := dc.IP.String()
	kdc := func(host string) kclient.KDC {
		return kclient.KDC{Host: host, Kerberos: net.JoinHostPort(ip, "88"), Kpasswd: net.JoinHostPort(ip, "464")}
	}
	c := client(t, dc, func(cfg *kclient.Config) { cfg.KDCs = kclient.Static{kdc("a.contoso.com"), kdc("b.contoso.com")} })
	for prefer, want := range map[string]string{"": "a.contoso.com", "B.contoso.com": "b.contoso.com", "c.contoso.com": "a.contoso.com"} {
		r := host()
		r.Prefer = prefer
		if res := must[kclient.Result](t)(c.AS(t.Context(), r)); res.KDC.Host != want {
			t.Errorf("prefer %q: %v answered", prefer, res.KDC)
		}
	}
}
