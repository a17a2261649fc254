package identity

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// sampleGUID is the plug-in of Microsoft's example.
const sampleGUID = "{GDMA0342-266A-4D1P-831J-20990E82944F}"

func configure(t *testing.T, dc *lab.DC, host *config.Host, plugins map[string]plugin.Config) *Set {
	t.Helper()
	cfg := config.Default()
	cfg.Domains = map[string]config.Domain{"contoso.com": {
		Realm: lab.Realm, NetBIOS: "CONTOSO", Servers: []string{dc.IP.String()}, Protection: config.ProtectionSPNEGO, Host: host,
	}}
	cfg.Plugins = plugins
	s := New(Options{})
	if err := s.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	return s
}

func identityOf(t *testing.T, s *Set, portable *credspec.HostAccountConfig) agent.Identity {
	t.Helper()
	id, err := s.Identity("contoso.com", portable)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func read(t *testing.T, id agent.Identity, name string, hint account.ReadHint) (account.Reading, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	return id.Domain.ReadPassword(ctx, name, hint)
}

func TestAJoinedHostReadsAPasswordAndAuthenticatesWithIt(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	s := configure(t, dc, &config.Host{Keytab: dc.Keytab(t, "web1")}, nil)
	id := identityOf(t, s, nil)
	if id.Host != "web1$@CONTOSO.COM" {
		t.Errorf("host = %q", id.Host)
	}
	r, err := read(t, id, "webapp01$", account.ReadHint{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != "webapp01$" || r.KVNO == 0 || r.ID == nil || r.Controller != "dc1.contoso.com" || len(r.SPNs) == 0 {
		t.Errorf("reading = %+v", r)
	}
	salt := managedpassword.Salt(lab.Realm, "webapp01$")
	keys, err := managedpassword.Keys(r.Blob.Current, salt, 18)
	if err != nil {
		t.Fatal(err)
	}
	req := account.AuthRequest{
		Client: krb5.Principal{Realm: lab.Realm, Name: krb5.NewName(krb5.NamePrincipal, "webapp01$")},
		Keys:   keys, Salt: salt, Controller: r.Controller,
	}
	auth, err := id.Domain.Authenticate(t.Context(), req)
	if err != nil || auth.Controller != "dc1.contoso.com" {
		t.Fatalf("%+v, %v", auth, err)
	}
	ticket, issuer, err := id.Domain.ServiceTicket(t.Context(), auth.Credential, krb5.NewName(krb5.NameSrvHst, "ldap", "dc1.contoso.com"))
	if err != nil || issuer != "dc1.contoso.com" || ticket.Server.Name.String() != "ldap/dc1.contoso.com" {
		t.Errorf("%v, %v", ticket.Server, err)
	}
	req.Salt = "CONTOSO.COMhostwas.contoso.com"
	_, err = id.Domain.Authenticate(t.Context(), req)
	var e *account.Error
	if !errors.As(err, &e) || !errors.Is(e.Reason, account.ErrSalt) || e.Salt != salt {
		t.Errorf("another salt: %v", err)
	}
	realm := id.Realm()
	if realm.Name != lab.Realm || len(realm.KDCs) != 1 || realm.KDCs[0] != dc.IP.String() {
		t.Errorf("realm = %+v", realm)
	}
	status := s.Status()
	if len(status) != 1 || status[0].GetPrincipal() != "web1$@CONTOSO.COM" || status[0].GetSource() != "keytab" || status[0].GetTicketExpires() == nil || status[0].GetError() != nil {
		t.Errorf("status = %v", status)
	}
}

func TestReasonsOfFailures(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	good := &config.Host{Keytab: dc.Keytab(t, "web1")}
	for name, c := range map[string]struct {
		host    *config.Host
		account string
		want    error
	}{
		"not a reader":       {&config.Host{Keytab: dc.Keytab(t, "evil1")}, "webapp01$", account.ErrWithheld},
		"no such account":    {good, "nosuch$", account.ErrNotFound},
		"no gMSA":            {good, "web2$", account.ErrNotFound},
		"a stale keytab":     {&config.Host{Keytab: dc.KeytabWith(t, "web1", "another password")}, "webapp01$", account.ErrHost},
		"a missing keytab":   {&config.Host{Keytab: "/nonexistent/keytab"}, "webapp01$", account.ErrStore},
		"an unknown user":    {&config.Host{User: "nobody", PasswordFile: passwordFile(t, "x")}, "webapp01$", account.ErrHost},
		"a wrong password":   {&config.Host{User: "web2$", PasswordFile: passwordFile(t, "x")}, "webapp01$", account.ErrHost},
		"an empty file":      {&config.Host{User: "web2$", PasswordFile: passwordFile(t, "\n")}, "webapp01$", account.ErrStore},
		"the right password": {&config.Host{User: "web2$", PasswordFile: passwordFile(t, lab.ComputerPassword("web2")+"\n")}, "webapp01$", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := configure(t, dc, c.host, nil)
			_, err := read(t, identityOf(t, s, nil), c.account, account.ReadHint{})
			if !errors.Is(err, c.want) {
				t.Errorf("err = %v, want %v", err, c.want)
			}
			if status := s.Status(); (errors.Is(c.want, account.ErrHost) || errors.Is(c.want, account.ErrStore)) != (status[0].GetError() != nil) {
				t.Errorf("status = %v", status)
			}
		})
	}
}

func passwordFile(t *testing.T, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(path, []byte(password), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The KDC says with each ticket when the password expires. That is no failure,
// and the operator hears of it once.
func TestAPasswordThatIsAboutToExpire(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	dc.AddUser(t, "ageing", "Ageing-Pass1!")
	dc.Replace(t, "ageing", "userAccountControl", "512")
	dc.AddGMSA(t, lab.GMSA{Name: "aged2", Readers: []string{"ageing"}})
	dc.Modify(t, "dn: "+lab.BaseDN+"\nchangetype: modify\nreplace: maxPwdAge\nmaxPwdAge: -8640000000000\n") // 10 days
	var log bytes.Buffer
	s := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	cfg := config.Config{Domains: map[string]config.Domain{"contoso.com": {
		Realm: lab.Realm, NetBIOS: lab.NetBIOSDomain, Servers: []string{dc.IP.String()},
		Host: &config.Host{User: "ageing", PasswordFile: passwordFile(t, "Ageing-Pass1!")},
	}}}
	if err := s.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := read(t, identityOf(t, s, nil), "aged2", account.ReadHint{FreshTicket: true}); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(log.String(), "ageing@CONTOSO.COM"); n != 1 || !strings.Contains(log.String(), "expires=") {
		t.Errorf("warned %d times, want once:\n%s", n, &log)
	}
}

// A host that nobody answers for is not a host that was refused.
func TestNoController(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	s := configure(t, dc, &config.Host{Keytab: dc.Keytab(t, "web1")}, nil)
	dc.Stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := identityOf(t, s, nil).Domain.ReadPassword(ctx, "webapp01$", account.ReadHint{}); !errors.Is(err, account.ErrNoController) {
		t.Errorf("err = %v", err)
	}
}

// The seed's own example, with its sample GUID.
func TestAPortableIdentity(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	dc.AddUser(t, "gmsaccg", "First-Pass1!")
	dc.AddGroup(t, "Portable", lab.GlobalGroup, "gmsaccg")
	dc.AddGMSA(t, lab.GMSA{Name: "webapp03", Readers: []string{"Portable"}})
	store := filepath.Join(t.TempDir(), "account")
	write := func(s string) {
		if err := os.WriteFile(store, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := configure(t, dc, nil, map[string]plugin.Config{
		"sample": {GUID: sampleGUID, Kind: plugin.Inline, AllowInput: "contoso\\.com:.*"},
		"store":  {GUID: "{11111111-2222-3333-4444-555555555555}", Kind: plugin.File, Path: store},
	})
	sample := func(input string) *credspec.HostAccountConfig {
		return &credspec.HostAccountConfig{PortableCcgVersion: "1", PluginGUID: sampleGUID, PluginInput: secret.New([]byte(input))}
	}
	id := identityOf(t, s, sample("contoso.com:gmsaccg:First-Pass1!"))
	if id.Plugin != "sample" {
		t.Errorf("plug-in = %q", id.Plugin)
	}
	if _, err := read(t, id, "webapp03", account.ReadHint{}); err != nil {
		t.Errorf("the seed's example: %v", err)
	}
	if again := identityOf(t, s, sample("contoso.com:gmsaccg:First-Pass1!")); again.Domain != id.Domain {
		t.Error("the same input gave another identity")
	}
	// security 11: the allow pattern, and the realm.
	for input, want := range map[string]error{
		"fabrikam.com:gmsaccg:First-Pass1!": account.ErrStore, "contoso.com:gmsaccg:wrong": account.ErrHost, "nonsense": account.ErrStore,
	} {
		_, err := read(t, identityOf(t, s, sample(input)), "webapp03", account.ReadHint{})
		if !errors.Is(err, want) {
			t.Errorf("%q: %v", input, err)
		}
		if err != nil && strings.Contains(err.Error(), "First-Pass1!") {
			t.Error("the password is in the error")
		}
	}

	// The account rotates without an outage.
	write(`CONTOSO\gmsaccg:First-Pass1!`)
	fromStore := identityOf(t, s, &credspec.HostAccountConfig{PortableCcgVersion: "1", PluginGUID: "{11111111-2222-3333-4444-555555555555}"})
	if _, err := read(t, fromStore, "webapp03", account.ReadHint{}); err != nil {
		t.Fatal(err)
	}
	dc.SetPassword(t, "gmsaccg", "Second-Pass2!")
	write(`CONTOSO\gmsaccg:Second-Pass2!`)
	if _, err := read(t, fromStore, "webapp03", account.ReadHint{FreshTicket: true}); err != nil {
		t.Errorf("after the account's password changed: %v", err)
	}
}

// design.md 12: groups count as they were when the ticket was issued.
func TestAHostThatWasAddedToTheGroupNeedsAFreshTicketOnly(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	id := identityOf(t, configure(t, dc, &config.Host{Keytab: dc.Keytab(t, "evil1")}, nil), nil)
	if _, err := read(t, id, "webapp01", account.ReadHint{}); !errors.Is(err, account.ErrWithheld) {
		t.Fatal(err)
	}
	dc.AddMembers(t, "WebHosts", "evil1$")
	if _, err := read(t, id, "webapp01", account.ReadHint{}); !errors.Is(err, account.ErrWithheld) {
		t.Errorf("with the old ticket: %v", err)
	}
	if _, err := read(t, id, "webapp01", account.ReadHint{FreshTicket: true}); err != nil {
		t.Errorf("with a fresh ticket: %v", err)
	}
}

func TestTheComputersPasswordIsKept(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true, Conf: nil})
	path := dc.Keytab(t, "web1")
	s := configure(t, dc, &config.Host{Keytab: path, RotatePassword: config.RotateAlways}, nil)
	id := identityOf(t, s, nil)
	if _, err := read(t, id, "webapp01", account.ReadHint{}); err != nil {
		t.Fatal(err)
	}
	k := s.keepers()
	if len(k) != 1 {
		t.Fatalf("keepers = %v", k)
	}
	if changed, err := k[0].keep(t.Context(), time.Now()); changed || err != nil {
		t.Fatalf("a young password: changed %v, %v", changed, err)
	}
	before := dc.KVNO(t, "web1$")
	changed, err := k[0].keep(t.Context(), time.Now().Add(computerPasswordAge+time.Hour))
	if !changed || err != nil {
		t.Fatalf("an old password: changed %v, %v", changed, err)
	}
	if after := dc.KVNO(t, "web1$"); after != before+1 {
		t.Errorf("kvno %d, was %d", after, before)
	}
	if _, err := read(t, id, "webapp01", account.ReadHint{FreshTicket: true}); err != nil {
		t.Errorf("the agent lost its host: %v", err)
	}
	dc.KinitKeytab(t, "web1$", path) // MIT's kinit takes the new keytab.
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("keytab: %v, %v", info.Mode(), err)
	}
}

// The change was written and the domain never heard of it: the reader falls
// back to the key before.
func TestAKeytabThatIsAheadOfTheDomain(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	path := dc.Keytab(t, "web2")
	src := newKeytabSource(path, "", lab.Realm)
	kt, err := src.read()
	if err != nil {
		t.Fatal(err)
	}
	client, versions, err := src.choose(kt)
	if err != nil {
		t.Fatal(err)
	}
	next, err := withVersion(kt, client, versions[0], versions[0].kvno+1, secretOf("never told to anybody"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := replaceKeytab(path, next); err != nil {
		t.Fatal(err)
	}
	id := identityOf(t, configure(t, dc, &config.Host{Keytab: path}, nil), nil)
	if _, err := read(t, id, "webapp01", account.ReadHint{}); err != nil {
		t.Error(err)
	}
}

func TestWhoKeepsTheComputersPassword(t *testing.T) {
	there := passwordFile(t, "1")
	for name, c := range map[string]struct {
		setting, other string
		want           bool
	}{
		"nobody else":       {config.RotateAuto, "/nonexistent", true},
		"sssd runs":         {config.RotateAuto, there, false},
		"always":            {config.RotateAlways, there, true},
		"never":             {config.RotateNever, "/nonexistent", false},
		"an unset setting":  {"", "/nonexistent", true},
		"unset, sssd there": {"", there, false},
	} {
		if got := ours(c.setting, []string{c.other}); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestAnIdentityStaysTheSameAcrossAReload(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	s := configure(t, dc, &config.Host{Keytab: dc.Keytab(t, "web1")}, nil)
	before := identityOf(t, s, nil)
	cfg := s.cfg
	cfg.Quotas.Leases++
	if err := s.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	if identityOf(t, s, nil).Domain != before.Domain {
		t.Error("a reload that changed nothing of the domain gave another identity")
	}
	d := cfg.Domains["contoso.com"]
	d.Protection = config.ProtectionLDAPS
	d.CA = dc.CAFile
	cfg.Domains = map[string]config.Domain{"contoso.com": d}
	if err := s.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	after := identityOf(t, s, nil)
	if after.Domain == before.Domain {
		t.Error("the protection changed and the identity did not")
	}
	if _, err := read(t, after, "webapp01", account.ReadHint{}); err != nil {
		t.Errorf("over LDAPS: %v", err)
	}
}
