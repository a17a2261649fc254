package ad_test

import (
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func name(t testing.TB, s string) adproto.AccountName {
	t.Helper()
	n, err := adproto.ParseAccountName(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// onBoth runs a test on Samba and on our own controller.
func onBoth(t *testing.T, test func(t *testing.T, dc *lab.DC)) {
	t.Run("Samba", func(t *testing.T) { test(t, lab.Samba(t, lab.SambaConfig{})) })
	t.Run("gmsa", func(t *testing.T) { test(t, lab.Own(t, lab.OwnConfig{})) })
}

// config finds the lab's domain by its own DNS.
func config(t testing.TB, dc *lab.DC) ad.Config {
	t.Helper()
	pem, err := os.ReadFile(dc.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the lab's CA file")
	}
	return ad.Config{
		Locate:  locate.Config{Domain: lab.DNSDomain, Resolver: &locate.DNS{Servers: []string{dc.DNS()}}, Now: dc.Now},
		RootCAs: pool,
	}
}

func domain(t testing.TB, cfg ad.Config) *ad.Domain {
	t.Helper()
	d, err := ad.NewDomain(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// password is a computer of the lab, or Administrator, with its password.
func password(t testing.TB, account string) ad.Identity {
	t.Helper()
	pw := lab.AdminPassword
	if host, ok := strings.CutSuffix(account, "$"); ok {
		pw = lab.ComputerPassword(host)
	}
	return passwordOf(t, account, pw)
}

func passwordOf(t testing.TB, account, pw string) ad.Identity {
	t.Helper()
	id, err := ad.WithPassword(name(t, account), secret.Copy([]byte(pw)))
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func session(t testing.TB, d *ad.Domain, id ad.Identity) *ad.Session {
	t.Helper()
	s, err := ad.Open(d, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestDomainInfo(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	s := session(t, domain(t, config(t, dc)), password(t, "web1$"))
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.SID.String() != lab.DomainSID || info.GUID.String() != lab.DomainGUID {
		t.Errorf("SID %v, GUID %v", info.SID, info.GUID)
	}
	if info.DNSName != lab.DNSDomain || info.Forest != lab.DNSDomain || info.NetBIOS != lab.NetBIOSDomain || info.BaseDN != lab.BaseDN ||
		info.DomainLevel != adproto.Level2016 || info.ForestLevel != adproto.Level2016 || info.Controller != lab.DCHost || time.Since(info.Time).Abs() > 10*time.Second {
		t.Errorf("%+v", info)
	}
	who, controller, err := s.WhoAmI(t.Context())
	if err != nil || !strings.EqualFold(who, `u:CONTOSO\web1$`) || controller != lab.DCHost {
		t.Errorf("%q at %s, %v", who, controller, err)
	}
}

func TestAccountsAreFoundByEveryFormOfTheirName(t *testing.T) { onBoth(t, accountsAreFound) }

func accountsAreFound(t *testing.T, dc *lab.DC) {
	s := session(t, domain(t, config(t, dc)), password(t, "web1$"))
	info, err := s.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dn := "CN=webapp01,CN=Managed Service Accounts," + lab.BaseDN
	for _, n := range []string{"webapp01", "WebApp01$", `CONTOSO\WEBAPP01$`, "webapp01$@contoso.com", "webapp01@CONTOSO.COM", dn} {
		a, err := s.FindService(t.Context(), name(t, n))
		if err != nil {
			t.Errorf("%s: %v", n, err)
			continue
		}
		if !strings.EqualFold(a.DN, dn) || a.Kind != ad.KindGMSA || a.Name != "webapp01$" || a.SID.Domain() != info.SID ||
			a.DNSHostName != "webapp01.contoso.com" || len(a.SPNs) != 2 || a.Control != adproto.UACWorkstationTrust || a.EncTypes != 28 ||
			a.KVNO == 0 || time.Since(a.WhenCreated) < 0 || a.MSA == nil || a.MSA.Interval != 30 || a.MSA.Readers == nil || len(a.MSA.Readers.DACL.ACEs) != 2 {
			t.Errorf("%s: %+v", n, a)
		}
	}
	for n, want := range map[string]ad.Kind{"Administrator": ad.KindUser, "web1": ad.KindComputer, "WebHosts": ad.KindGroup, "smsa01": ad.KindSMSA, lab.BaseDN: ad.KindOther} {
		if a, err := s.Find(t.Context(), name(t, n)); err != nil || a.Kind != want {
			t.Errorf("%s: %v, %v", n, a.Kind, err)
		}
	}
	for _, n := range []string{"nobody", "nobody@contoso.com", "CN=nobody," + lab.BaseDN, "webapp01)(cn"} {
		if _, err := s.Find(t.Context(), name(t, n)); !errors.Is(err, ad.ErrNotFound) {
			t.Errorf("%s: %v", n, err)
		}
	}
}

// Our own controller has no accounts that differ in the $ alone (CVE-2021-42278).
func TestNamesOfTwoAccounts(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	s := session(t, domain(t, config(t, dc)), password(t, "web1$"))
	dc.AddUser(t, "twin", "Passw0rd!Twin")
	dc.AddComputer(t, "twin")
	t.Cleanup(func() { dc.Delete(t, "twin"); dc.Delete(t, "twin$") })
	if _, err := s.Find(t.Context(), name(t, "twin")); !errors.Is(err, ad.ErrAmbiguous) {
		t.Errorf("a user and a computer of one name: %v", err)
	}
	if a, err := s.FindService(t.Context(), name(t, "twin")); err != nil || a.Kind != ad.KindComputer {
		t.Errorf("%v, %v", a.Kind, err)
	}
}

func TestPasswordOpensTheAccount(t *testing.T) { onBoth(t, passwordOpensTheAccount) }

func passwordOpensTheAccount(t *testing.T, dc *lab.DC) {
	d := domain(t, config(t, dc))
	p, err := session(t, d, password(t, "web1$")).ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{})
	if err != nil {
		t.Fatal(err)
	}
	if p.Controller != lab.DCHost || p.Account.Name != "webapp01$" || p.Account.MSA.ID == nil || p.QueryInterval <= 0 || p.QueryInterval > 30*24*time.Hour ||
		int(p.Account.KVNO) != dc.KVNO(t, "webapp01$") {
		t.Errorf("%+v", p.Account)
	}
	keys, err := managedpassword.Keys(p.Current, managedpassword.Salt(d.Realm(), p.Account.Name), crypto.AES256SHA1)
	if err != nil {
		t.Fatal(err)
	}
	own := session(t, d, ad.WithKeys(krb5.NewName(krb5.NamePrincipal, "webapp01$"), keys...))
	if who, _, err := own.WhoAmI(t.Context()); err != nil || !strings.EqualFold(who, `u:CONTOSO\webapp01$`) {
		t.Errorf("%q, %v", who, err)
	}
	if _, err := own.ManagedPassword(t.Context(), name(t, "webapp01"), ad.Hint{}); !errors.Is(err, ad.ErrWithheld) {
		t.Errorf("its own password: %v", err)
	}
}

func TestWhatIsNoManagedPassword(t *testing.T) { onBoth(t, whatIsNoManagedPassword) }

func whatIsNoManagedPassword(t *testing.T, dc *lab.DC) {
	s := session(t, domain(t, config(t, dc)), password(t, "web1$"))
	for n, want := range map[string]error{
		"nobody": ad.ErrNotFound, "CN=nobody," + lab.BaseDN: ad.ErrNotFound, "web1": ad.ErrNotGMSA, "smsa01": ad.ErrNotGMSA,
		"CN=WebHosts,CN=Users," + lab.BaseDN: ad.ErrNotGMSA,
	} {
		if _, err := s.ManagedPassword(t.Context(), name(t, n), ad.Hint{}); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", n, err, want)
		}
	}
}

func TestIdentitiesThatDoNotWork(t *testing.T) { onBoth(t, identitiesThatDoNotWork) }

func identitiesThatDoNotWork(t *testing.T, dc *lab.DC) {
	d := domain(t, config(t, dc))
	for who, want := range map[string]error{"web1$": kclient.ErrWrongKey, "nobody$": kclient.ErrUnknownClient} {
		_, _, err := session(t, d, passwordOf(t, who, "not it")).WhoAmI(t.Context())
		if !errors.Is(err, ad.ErrIdentity) || !errors.Is(err, want) {
			t.Errorf("%s: %v", who, err)
		}
	}
	ended := krb5.Credential{Client: krb5.Principal{Realm: d.Realm(), Name: krb5.NewName(krb5.NamePrincipal, "x")}, EndTime: time.Now().Add(-time.Hour)}
	if _, _, err := session(t, d, ad.WithTicket(ended)).WhoAmI(t.Context()); !errors.Is(err, ad.ErrIdentity) {
		t.Errorf("a ticket that has ended: %v", err)
	}
	if _, err := ad.WithPassword(name(t, lab.BaseDN), secret.Copy([]byte("x"))); err == nil {
		t.Error("a distinguished name logs on")
	}
	cfg := config(t, dc)
	cfg.SimpleBind, cfg.Protection = true, ldapc.LDAPS
	if _, err := ad.Open(domain(t, cfg), ad.WithTicket(ended)); !errors.Is(err, ad.ErrNoSecret) {
		t.Errorf("a simple bind with a ticket: %v", err)
	}
}

func TestIdentitiesFromKeytabTicketAndSimpleBind(t *testing.T) { onBoth(t, identities) }

func identities(t *testing.T, dc *lab.DC) {
	cfg := config(t, dc)
	b, err := os.ReadFile(dc.Keytab(t, "web1"))
	if err != nil {
		t.Fatal(err)
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	d := domain(t, cfg)
	fromKeytab := session(t, d, ad.WithKeys(kt.Entries[0].Principal.Name, kt.Entries[0].Key))
	tgt, err := fromKeytab.TGT(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	simple := cfg
	simple.SimpleBind, simple.Protection = true, ldapc.StartTLS
	for how, s := range map[string]*ad.Session{
		"keytab": fromKeytab, "ticket": session(t, d, ad.WithTicket(tgt)), "simple bind": session(t, domain(t, simple), password(t, "web1$")),
		"UPN": session(t, d, passwordOf(t, "web1$@Contoso.com", lab.ComputerPassword("web1"))),
	} {
		if _, err := s.ManagedPassword(t.Context(), name(t, "webapp02"), ad.Hint{}); err != nil {
			t.Errorf("%s: %v", how, err)
		}
	}
}

func TestHostChangesItsOwnPassword(t *testing.T) {
	t.Run("Samba", func(t *testing.T) { hostChangesItsOwnPassword(t, lab.Samba(t, lab.SambaConfig{Private: true})) })
	t.Run("gmsa", func(t *testing.T) { hostChangesItsOwnPassword(t, lab.Own(t, lab.OwnConfig{Private: true})) })
}

func hostChangesItsOwnPassword(t *testing.T, dc *lab.DC) {
	d := domain(t, config(t, dc))
	s := session(t, d, password(t, "web2$"))
	const next = "Another-Pass-77!"
	if err := s.ChangePassword(t.Context(), secret.Copy([]byte(next))); err != nil {
		t.Fatal(err)
	}
	if _, _, err := session(t, d, passwordOf(t, "web2$", next)).WhoAmI(t.Context()); err != nil {
		t.Error(err)
	}
	if _, _, err := session(t, d, password(t, "web2$")).WhoAmI(t.Context()); !errors.Is(err, kclient.ErrWrongKey) {
		t.Errorf("the old password: %v", err)
	}
}
