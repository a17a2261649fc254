package kclient_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
	"github.com/opengmsa/opengmsa/secret"
)

// counter counts connections by network.
type counter struct{ tcp, udp atomic.Int32 }

func (n *counter) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network == "tcp" {
		n.tcp.Add(1)
	} else {
		n.udp.Add(1)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// client makes a client of the controller; change may be nil.
func client(t *testing.T, dc *lab.DC, change func(*kclient.Config)) *kclient.Client {
	t.Helper()
	cfg := kclient.Config{Realm: lab.Realm, KDCs: kclient.StaticKDCs(dc.IP.String())}
	if change != nil {
		change(&cfg)
	}
	c, err := kclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func password(s string) kclient.Secret { return kclient.Password(secret.New([]byte(s))) }

// host is the request of the computer web1$ with its password.
func host() kclient.ASRequest {
	return kclient.ASRequest{
		Client: krb5.NewName(krb5.NamePrincipal, "web1$"), Secret: password(lab.ComputerPassword("web1")),
		Options: krb5.OptForwardable, RenewLifetime: 7 * 24 * time.Hour,
	}
}

func user(name, pass string) kclient.ASRequest {
	return kclient.ASRequest{Client: krb5.NewName(krb5.NamePrincipal, name), Secret: password(pass)}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(x T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
}

func TestSambaASWithPassword(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	c := client(t, dc, nil)
	res := must[kclient.Result](t)(c.AS(t.Context(), host()))
	cred := res.Credential
	if cred.Client.String() != "web1$@CONTOSO.COM" || cred.Server.String() != "krbtgt/CONTOSO.COM@CONTOSO.COM" {
		t.Errorf("for %v as %v", cred.Server, cred.Client)
	}
	if want := krb5.FlagForwardable | krb5.FlagRenewable | krb5.FlagInitial | krb5.FlagPreAuthent | krb5.FlagEncPARep; !cred.Flags.Has(want) {
		t.Errorf("flags %v", cred.Flags)
	}
	if !res.Proved {
		t.Error("the KDC did not prove its answer")
	}
	if res.ClientKey.EType() != crypto.AES256SHA1 || cred.SessionKey.EType() != crypto.AES256SHA1 {
		t.Errorf("types %v, %v", res.ClientKey.EType(), cred.SessionKey.EType())
	}
	if left := time.Until(cred.EndTime); left < 9*time.Hour || left > 11*time.Hour {
		t.Errorf("valid for %v", left)
	}
	if left := time.Until(cred.RenewTill); left < 6*24*time.Hour {
		t.Errorf("renewable for %v", left)
	}
	if res.Offset != 0 {
		t.Errorf("offset %v", res.Offset)
	}
	t.Logf("kvno %d, password expires %v, supported %#x", res.KVNO, res.PasswordExpires, res.SupportedETypes)
}

func TestSambaASWithKeysTakesOneRoundTrip(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	first := must[kclient.Result](t)(client(t, dc, nil).AS(t.Context(), host()))
	for name, c := range map[string]struct {
		secret kclient.Secret
		rounds int
	}{
		"key":                    {kclient.Keys(first.ClientKey), 1},
		"password and salt":      {kclient.PasswordWithSalt(secret.New([]byte(lab.ComputerPassword("web1"))), "CONTOSO.COMhostweb1.contoso.com"), 1},
		"password":               {password(lab.ComputerPassword("web1")), 2},
		"password and bad salt":  {kclient.PasswordWithSalt(secret.New([]byte(lab.ComputerPassword("web1"))), "CONTOSO.COMweb1"), 2},
		"a key of each AES type": {kclient.Keys(key128(t), first.ClientKey), 1},
		"only the AES128 key":    {kclient.Keys(key128(t)), 1},
	} {
		t.Run(name, func(t *testing.T) {
			var n counter
			cl := client(t, dc, func(cfg *kclient.Config) { cfg.Dial = n.dial; cfg.IdleTimeout = -1 })
			req := host()
			req.Secret = c.secret
			must[kclient.Result](t)(cl.AS(t.Context(), req))
			if got := int(n.tcp.Load()); got != c.rounds {
				t.Errorf("%d requests, want %d", got, c.rounds)
			}
		})
	}
}

func key128(t *testing.T) *crypto.Key {
	t.Helper()
	return must[*crypto.Key](t)(crypto.StringToKey(crypto.AES128SHA1, []byte(lab.ComputerPassword("web1")), "CONTOSO.COMhostweb1.contoso.com", nil))
}

func TestSambaConnectionIsKept(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	var n counter
	c := client(t, dc, func(cfg *kclient.Config) { cfg.Dial = n.dial })
	res := must[kclient.Result](t)(c.AS(t.Context(), host()))
	for range 5 {
		must[kclient.Result](t)(c.TGS(t.Context(), kclient.TGSRequest{TGT: res.Credential, Server: krb5.NewName(krb5.NameSrvHst, "ldap", lab.DCHost)}))
	}
	if got := n.tcp.Load(); got != 1 {
		t.Errorf("%d connections for 7 exchanges", got)
	}
}

func TestSambaIPv6(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{IPv6: true})
	for _, udp := range []bool{false, true} {
		c := client(t, dc, func(cfg *kclient.Config) { cfg.KDCs = kclient.StaticKDCs(dc.IP6.String()); cfg.UDP = udp })
		if res := must[kclient.Result](t)(c.AS(t.Context(), host())); res.KDC.Kerberos != "[::1]:88" {
			t.Errorf("answered by %v", res.KDC)
		}
	}
}

func TestSambaUDPThenTCP(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	var n counter
	c := client(t, dc, func(cfg *kclient.Config) { cfg.Dial = n.dial; cfg.UDP = true })
	must[kclient.Result](t)(c.AS(t.Context(), host()))
	if n.udp.Load() == 0 || n.tcp.Load() == 0 {
		t.Errorf("%d datagram sockets, %d connections: want both", n.udp.Load(), n.tcp.Load())
	}
}

func TestSambaTGS(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	c := client(t, dc, nil)
	tgt := must[kclient.Result](t)(c.AS(t.Context(), host())).Credential
	for name, server := range map[string]krb5.PrincipalName{
		"a service principal name":           krb5.NewName(krb5.NameSrvHst, "ldap", lab.DCHost),
		"in capitals":                        krb5.NewName(krb5.NameSrvInst, "LDAP", strings.ToUpper(lab.DCHost)),
		"a gMSA's service":                   krb5.NewName(krb5.NameSrvInst, "http", "webapp01.contoso.com"),
		"an account by name":                 krb5.NewName(krb5.NamePrincipal, "webapp01$"),
		"a service without a type":           krb5.NewName(krb5.NameUnknown, "host", "web1.contoso.com"),
		"the realm's ticket-granting ticket": krb5.NewName(krb5.NameSrvInst, "krbtgt", lab.Realm),
	} {
		t.Run(name, func(t *testing.T) {
			res := must[kclient.Result](t)(c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: server}))
			if cred := res.Credential; !cred.Server.Name.EqualFold(server) || cred.Flags.Has(krb5.FlagInitial) || cred.EndTime.After(tgt.EndTime) {
				t.Errorf("%+v", cred)
			}
		})
	}
}

func TestSambaRenewAndForward(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	c := client(t, dc, nil)
	tgt := must[kclient.Result](t)(c.AS(t.Context(), host())).Credential
	renewed := must[kclient.Result](t)(c.Renew(t.Context(), tgt)).Credential
	if renewed.SessionKey.Equal(tgt.SessionKey) || !renewed.Flags.Has(krb5.FlagRenewable|krb5.FlagForwardable) || !renewed.RenewTill.Equal(tgt.RenewTill) {
		t.Errorf("renewed: %+v", renewed)
	}
	forwarded := must[kclient.Result](t)(c.Forward(t.Context(), renewed)).Credential
	if !forwarded.Flags.Has(krb5.FlagForwarded) {
		t.Errorf("forwarded: flags %v", forwarded.Flags)
	}
	must[kclient.Result](t)(c.TGS(t.Context(), kclient.TGSRequest{TGT: forwarded, Server: krb5.NewName(krb5.NameSrvHst, "ldap", lab.DCHost)}))
}

func TestSambaNames(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddUser(t, "kclient-names", "Passw0rd!Names")
	c := client(t, dc, nil)
	for name, p := range map[string]krb5.PrincipalName{
		"as it is":                   krb5.NewName(krb5.NamePrincipal, "kclient-names"),
		"in capitals":                krb5.NewName(krb5.NamePrincipal, "KCLIENT-NAMES"),
		"an enterprise name":         krb5.NewName(krb5.NameEnterprise, "kclient-names@contoso.com"),
		"an enterprise name in caps": krb5.NewName(krb5.NameEnterprise, "KClient-Names@CONTOSO.COM"),
	} {
		t.Run(name, func(t *testing.T) {
			res := must[kclient.Result](t)(c.AS(t.Context(), kclient.ASRequest{Client: p, Secret: password("Passw0rd!Names")}))
			if got := res.Credential.Client.Name.String(); got != "kclient-names" {
				t.Errorf("the client is %s", got)
			}
		})
	}
	t.Run("exactly as asked", func(t *testing.T) {
		req := user("KCLIENT-NAMES", "Passw0rd!Names")
		req.ExactName = true
		res := must[kclient.Result](t)(c.AS(t.Context(), req))
		if got := res.Credential.Client.Name.String(); got != "KCLIENT-NAMES" {
			t.Errorf("the client is %s", got)
		}
	})
}

func TestSambaRefusals(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	c := client(t, dc, nil)
	dc.AddUser(t, "kclient-disabled", "Passw0rd!1")
	dc.Replace(t, "kclient-disabled", "userAccountControl", "66050")
	dc.AddUser(t, "kclient-mustchange", "Passw0rd!1")
	dc.Replace(t, "kclient-mustchange", "userAccountControl", "512")
	dc.Replace(t, "kclient-mustchange", "pwdLastSet", "0")
	good := must[kclient.Result](t)(c.AS(t.Context(), host()))
	wrongKey := must[*crypto.Key](t)(crypto.NewKey(crypto.AES256SHA1, secret.New(make([]byte, 32))))
	badTGT := good.Credential
	badTGT.SessionKey = wrongKey
	tgs := func(cred krb5.Credential, server ...string) func() error {
		return func() error {
			_, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: cred, Server: krb5.NewName(krb5.NameSrvInst, server...)})
			return err
		}
	}
	as := func(req kclient.ASRequest) func() error {
		return func() error { _, err := c.AS(t.Context(), req); return err }
	}
	oneKey := host()
	oneKey.Secret = kclient.Keys(wrongKey)
	for name, x := range map[string]struct {
		do   func() error
		kind error
		code krb5.ErrorCode
		text string
	}{
		"a wrong password":       {as(user("web1$", "wrong")), kclient.ErrWrongKey, krb5.ErrPreauthFailed, ""},
		"a wrong key":            {as(oneKey), kclient.ErrWrongKey, krb5.ErrPreauthFailed, ""},
		"an unknown account":     {as(user("nobody-here", "x")), kclient.ErrUnknownClient, krb5.ErrClientUnknown, ""},
		"a disabled account":     {as(user("kclient-disabled", "Passw0rd!1")), kclient.ErrRevoked, krb5.ErrClientRevoked, "STATUS_ACCOUNT_DISABLED"},
		"a password to change":   {as(user("kclient-mustchange", "Passw0rd!1")), kclient.ErrExpired, krb5.ErrKeyExpired, ""},
		"an unknown service":     {tgs(good.Credential, "http", "nowhere.contoso.com"), kclient.ErrUnknownServer, krb5.ErrServerUnknown, ""},
		"a wrong session key":    {tgs(badTGT, "ldap", lab.DCHost), kclient.ErrTicket, 0, ""},
		"another realm's ticket": {tgs(good.Credential, "krbtgt", "OTHER.EXAMPLE"), kclient.ErrUnknownServer, krb5.ErrServerUnknown, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := x.do()
			if !errors.Is(err, x.kind) || (x.code != 0 && !errors.Is(err, x.code)) || !strings.Contains(errText(err), x.text) {
				t.Fatalf("got %v, want %v and %v", err, x.kind, x.code)
			}
			e, ok := errors.AsType[*kclient.Error](err)
			if !ok || e.Hint() == "" || e.KDC == (kclient.KDC{}) {
				t.Errorf("no hint or controller in %+v", e)
			}
			t.Logf("%v\nhint: %s", err, e.Hint())
		})
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestSambaClockSkew(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	for name, wrong := range map[string]time.Duration{
		"three hours behind": -3 * time.Hour, "twenty hours ahead": 20 * time.Hour, "ten minutes ahead": 10 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			c := client(t, dc, func(cfg *kclient.Config) { cfg.Now = func() time.Time { return time.Now().Add(wrong) } })
			res := must[kclient.Result](t)(c.AS(t.Context(), host()))
			if d := (res.Offset + wrong).Abs(); d > 3*time.Second || c.Offset() != res.Offset {
				t.Errorf("offset %v for a clock that is %v off", res.Offset, wrong)
			}
			must[kclient.Result](t)(c.TGS(t.Context(), kclient.TGSRequest{TGT: res.Credential, Server: krb5.NewName(krb5.NameSrvHst, "ldap", lab.DCHost)}))

			// A client that only has the ticket learns it in the TGS exchange.
			other := client(t, dc, func(cfg *kclient.Config) { cfg.Now = func() time.Time { return time.Now().Add(wrong) } })
			must[kclient.Result](t)(other.TGS(t.Context(), kclient.TGSRequest{TGT: res.Credential, Server: krb5.NewName(krb5.NameSrvHst, "ldap", lab.DCHost)}))
			if d := (other.Offset() + wrong).Abs(); d > 3*time.Second {
				t.Errorf("TGS: offset %v for a clock that is %v off", other.Offset(), wrong)
			}
		})
	}
	t.Run("more than a day is refused", func(t *testing.T) {
		c := client(t, dc, func(cfg *kclient.Config) { cfg.Now = func() time.Time { return time.Now().Add(25 * time.Hour) } })
		if _, err := c.AS(t.Context(), host()); !errors.Is(err, kclient.ErrSkew) || c.Offset() != 0 {
			t.Errorf("got %v, offset %v", err, c.Offset())
		}
	})
	t.Run("a clock that was set right", func(t *testing.T) {
		wrong := 2 * time.Hour
		c := client(t, dc, func(cfg *kclient.Config) { cfg.Now = func() time.Time { return time.Now().Add(wrong) } })
		must[kclient.Result](t)(c.AS(t.Context(), host()))
		wrong = 0
		must[kclient.Result](t)(c.AS(t.Context(), host()))
		if c.Offset() != 0 {
			t.Errorf("offset %v", c.Offset())
		}
	})
}

func TestSambaKpasswd(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddUser(t, "kclient-passwd", "Passw0rd!1")
	c := client(t, dc, nil)
	name := krb5.NewName(krb5.NamePrincipal, "kclient-passwd")
	admin := must[kclient.Result](t)(c.AS(t.Context(), user(lab.Administrator, lab.AdminPassword))).Credential

	t.Run("an administrator sets it", func(t *testing.T) {
		if err := c.SetPassword(t.Context(), admin, name, secret.New([]byte("Passw0rd!Zwei"))); err != nil {
			t.Fatal(err)
		}
		must[kclient.Result](t)(c.AS(t.Context(), user("kclient-passwd", "Passw0rd!Zwei")))
	})
	t.Run("a computer changes its own", func(t *testing.T) {
		dc.AddComputer(t, "kclientpw")
		before := dc.KVNO(t, "kclientpw$")
		computer := krb5.NewName(krb5.NamePrincipal, "kclientpw$")
		if err := c.ChangePassword(t.Context(), computer, password(lab.ComputerPassword("kclientpw")), secret.New([]byte("Neues-Passwört-1"))); err != nil {
			t.Fatal(err)
		}
		must[kclient.Result](t)(c.AS(t.Context(), user("kclientpw$", "Neues-Passwört-1")))
		if after := dc.KVNO(t, "kclientpw$"); after != before+1 {
			t.Errorf("kvno %d after %d", after, before)
		}
	})
	t.Run("a password that must be changed first", func(t *testing.T) {
		dc.AddUser(t, "kclient-first", "Passw0rd!1")
		dc.Replace(t, "kclient-first", "userAccountControl", "512")
		dc.Replace(t, "kclient-first", "pwdLastSet", "0")
		first := krb5.NewName(krb5.NamePrincipal, "kclient-first")
		if _, err := c.AS(t.Context(), user("kclient-first", "Passw0rd!1")); !errors.Is(err, kclient.ErrExpired) {
			t.Errorf("before: %v", err)
		}
		if err := c.ChangePassword(t.Context(), first, password("Passw0rd!1"), secret.New([]byte("Passw0rd!Eins"))); err != nil {
			t.Fatal(err)
		}
		must[kclient.Result](t)(c.AS(t.Context(), user("kclient-first", "Passw0rd!Eins")))
	})
	t.Run("the policy refuses a short one", func(t *testing.T) {
		err := c.SetPassword(t.Context(), admin, name, secret.New([]byte("x")))
		r, ok := errors.AsType[kpasswd.Result](err)
		if !ok || r.Code != kpasswd.ResultSoftError {
			t.Errorf("got %v", err)
		}
		t.Log(err)
	})
	t.Run("a user may not set another's", func(t *testing.T) {
		tgt := must[kclient.Result](t)(c.AS(t.Context(), host())).Credential
		err := c.SetPassword(t.Context(), tgt, name, secret.New([]byte("Passw0rd!Drei")))
		r, ok := errors.AsType[kpasswd.Result](err)
		if !ok || r.Code != kpasswd.ResultAccessDenied {
			t.Errorf("got %v", err)
		}
		t.Log(err)
	})
	t.Run("with a clock that is wrong", func(t *testing.T) {
		c := client(t, dc, func(cfg *kclient.Config) { cfg.Now = func() time.Time { return time.Now().Add(time.Hour) } })
		tgt := must[kclient.Result](t)(c.AS(t.Context(), user(lab.Administrator, lab.AdminPassword))).Credential
		if err := c.SetPassword(t.Context(), tgt, name, secret.New([]byte("Passw0rd!Vier"))); err != nil {
			t.Fatal(err)
		}
	})
}

// TestSambaMITReadsOurCache writes what was got into a file that MIT's programs
// use.
func TestSambaMITReadsOurCache(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	lab.Need(t, "klist", "kvno")
	c := client(t, dc, nil)
	tgt := must[kclient.Result](t)(c.AS(t.Context(), host())).Credential
	http := must[kclient.Result](t)(c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(krb5.NameSrvHst, "http", "webapp01.contoso.com")})).Credential
	file := filepath.Join(t.TempDir(), "ccache")
	cache := ccache.Cache{Principal: tgt.Client, Credentials: []krb5.Credential{tgt, http}}
	if err := os.WriteFile(file, cache.Append(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"KRB5CCNAME=FILE:" + file}
	out := dc.Run(t, env, "klist", "-e", "-f")
	for _, want := range []string{"Default principal: web1$@CONTOSO.COM", "krbtgt/CONTOSO.COM@CONTOSO.COM", "http/webapp01.contoso.com@CONTOSO.COM", "Flags: FRIA", "aes256-cts-hmac-sha1-96"} {
		if !strings.Contains(out, want) {
			t.Errorf("klist does not say %q:\n%s", want, out)
		}
	}
	// One from the cache, one that kvno asks for with our TGT.
	out = dc.Run(t, env, "kvno", "http/webapp01.contoso.com", "ldap/"+lab.DCHost)
	if !strings.Contains(out, "http/webapp01.contoso.com@CONTOSO.COM: kvno =") || !strings.Contains(out, "ldap/dc1.contoso.com@CONTOSO.COM: kvno =") {
		t.Error(out)
	}
}

// TestSambaFailover asks a list whose first controllers are dead.
func TestSambaFailover(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	good := kclient.StaticKDCs(dc.IP.String())[0]
	refusing := kclient.StaticKDCs("127.66.66.66")[0]
	silent := silentServer(t)
	t.Run("silent and refusing ones", func(t *testing.T) {
		c := client(t, dc, func(cfg *kclient.Config) { cfg.KDCs = kclient.Static{silent, refusing, good} })
		began := time.Now()
		res := must[kclient.Result](t)(c.AS(t.Context(), host()))
		if d := time.Since(began); d > 2*time.Second {
			t.Errorf("two exchanges took %v", d)
		}
		if res.KDC != good {
			t.Errorf("answered by %v", res.KDC)
		}
	})
	t.Run("one that is started anew", func(t *testing.T) {
		c := client(t, dc, nil)
		must[kclient.Result](t)(c.AS(t.Context(), host()))
		dc.Stop(t)
		_, err := c.AS(t.Context(), host())
		if !errors.Is(err, kclient.ErrUnreachable) {
			t.Errorf("stopped: %v", err)
		}
		t.Log(err)
		dc.Start(t)
		must[kclient.Result](t)(c.AS(t.Context(), host()))
	})
}

// silentServer accepts connections and says nothing.
func silentServer(t *testing.T) kclient.KDC {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return kclient.KDC{Host: "silent", Kerberos: l.Addr().String(), Kpasswd: l.Addr().String()}
}
