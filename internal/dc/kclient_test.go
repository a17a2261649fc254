package dc

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
	"github.com/opengmsa/opengmsa/secret"
)

// TestOurOwnClientSetsAndChangesPasswords: with a ticket of the TGS for somebody else's,
// as adcli and msktutil do when they join a host, and with one of the AS for one's own.
func TestOurOwnClientSetsAndChangesPasswords(t *testing.T) {
	d := initialized(t)
	s := run(t, d)
	at := func(port uint16) string { return netip.AddrPortFrom(s.Addresses[0], port).String() }
	c, err := kclient.New(kclient.Config{Realm: "CONTOSO.COM",
		KDCs: kclient.Static{{Host: "dc1.contoso.com", Kerberos: at(s.Ports.Kerberos), Kpasswd: at(s.Ports.Kpasswd)}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	name := func(s string) krb5.PrincipalName { return krb5.NewName(krb5.NamePrincipal, s) }
	password := func(s string) secret.Bytes { return secret.New([]byte(s)) }
	tgt := func(account, pw string) krb5.Credential {
		t.Helper()
		res, err := c.AS(t.Context(), kclient.ASRequest{Client: name(account), Secret: kclient.Password(password(pw))})
		if err != nil {
			t.Fatalf("%s: %v", account, err)
		}
		return res.Credential
	}
	admin := tgt("Administrator", adminPassword)
	const own = "0wn!Krb5-Secret"
	for _, r := range []struct {
		account, password string
		want              kpasswd.ResultCode
	}{
		{"Guest", "Gu3st?-Passwort", kpasswd.ResultSuccess},
		{"nobody", own, kpasswd.ResultHardError},
		{"Administrator", "Sh0rt!", kpasswd.ResultSoftError},
		{"Administrator", own, kpasswd.ResultSuccess},
	} {
		err := c.SetPassword(t.Context(), admin, name(r.account), password(r.password))
		res, _ := errors.AsType[kpasswd.Result](err)
		if res.Code != r.want || (err == nil) != (r.want == kpasswd.ResultSuccess) {
			t.Errorf("set %s's password to %s: %v, want result %d", r.account, r.password, err, r.want)
		}
	}
	tgt("Administrator", own)
	err = c.ChangePassword(t.Context(), name("Administrator"), kclient.Password(password(own)), password("An0ther!Secret"))
	if res, ok := errors.AsType[kpasswd.Result](err); !ok || res.Code != kpasswd.ResultSoftError {
		t.Errorf("a password that is too young: %v", err)
	}
	err = c.ChangePassword(t.Context(), name("Administrator"), kclient.Password(password(adminPassword)), password("An0ther!Secret"))
	if !errors.Is(err, krb5.ErrPreauthFailed) {
		t.Errorf("with the old password: %v", err)
	}
}
