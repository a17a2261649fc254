package ldapc_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// spn is the directory's name in three parts, which only domain controllers
// have.
const spn = "ldap/" + lab.DCHost + "/" + lab.DNSDomain

// ticket gets a ticket for the directory with MIT's programs, which know
// nothing of this project.
func ticket(t *testing.T, dc *lab.DC, principal, password string) *krb5.Credential {
	t.Helper()
	lab.Need(t, "kvno")
	cc := dc.Kinit(t, principal, password)
	dc.Run(t, []string{"KRB5CCNAME=" + cc}, "kvno", "-q", spn)
	b, err := os.ReadFile(strings.TrimPrefix(cc, "FILE:"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := ccache.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cache.Credentials {
		if strings.EqualFold(c.Server.Name.String(), spn) {
			return &c
		}
	}
	t.Fatalf("no ticket for %s", spn)
	return nil
}

func roots(t *testing.T, dc *lab.DC) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(dc.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in " + filepath.Base(dc.CAFile))
	}
	return pool
}

// open connects to the controller's address ip.
func open(t *testing.T, ip netip.Addr, cfg ldapc.Config) (*ldapc.Conn, error) {
	t.Helper()
	port := "389"
	if cfg.Protection == ldapc.LDAPS {
		port = "636"
	}
	conn, err := net.Dial("tcp", net.JoinHostPort(ip.String(), port))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServerName, cfg.Now, cfg.Rand = lab.DCHost, time.Now, rand.Reader
	c, err := ldapc.Open(t.Context(), conn, cfg)
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func web1(t *testing.T) *ldapc.Simple {
	return &ldapc.Simple{Name: "web1$@" + lab.DNSDomain, Password: secret.Copy([]byte(lab.ComputerPassword("web1")))}
}

func TestEveryProtectionReadsAManagedPassword(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	tkt := ticket(t, dc, "web1$", lab.ComputerPassword("web1"))
	pool := roots(t, dc)
	for name, cfg := range map[string]ldapc.Config{
		"sealed GSSAPI":               {Kerberos: tkt, Mechanism: ldapc.GSSAPI},
		"sealed GSS-SPNEGO":           {Kerberos: tkt},
		"LDAPS, simple bind":          {Protection: ldapc.LDAPS, Simple: web1(t)},
		"LDAPS, bound GSSAPI":         {Protection: ldapc.LDAPS, Kerberos: tkt, Mechanism: ldapc.GSSAPI},
		"LDAPS, bound GSS-SPNEGO":     {Protection: ldapc.LDAPS, Kerberos: tkt},
		"StartTLS, simple bind":       {Protection: ldapc.StartTLS, Simple: web1(t)},
		"StartTLS, bound GSSAPI":      {Protection: ldapc.StartTLS, Kerberos: tkt, Mechanism: ldapc.GSSAPI},
		"StartTLS, bound GSS-SPNEGO":  {Protection: ldapc.StartTLS, Kerberos: tkt},
		"sealed, messages of 200 kiB": {Kerberos: tkt, MaxMessage: 200 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.RootCAs = pool
			c, err := open(t, dc.IP, cfg)
			if err != nil {
				t.Fatal(err)
			}
			who, err := c.WhoAmI(t.Context())
			if err != nil || !strings.EqualFold(who, `u:CONTOSO\web1$`) {
				t.Errorf("who am I: %q, %v", who, err)
			}
			e, err := c.Read(t.Context(), "CN=webapp01,CN=Managed Service Accounts,"+lab.BaseDN, "msDS-ManagedPassword")
			if err != nil {
				t.Fatal(err)
			}
			if blob := e.GetRawAttributeValue("msDS-ManagedPassword"); len(blob) < 290 {
				t.Errorf("%d bytes", len(blob))
			}
			if c.Info().Expires.IsZero() != (cfg.Simple != nil) || (c.Info().TLS == nil) != (cfg.Protection == ldapc.Sealed) {
				t.Errorf("%+v", c.Info())
			}
		})
	}
}

func TestRequestsOnOneConnection(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	c, err := open(t, dc.IP, ldapc.Config{Kerberos: ticket(t, dc, lab.Administrator, lab.AdminPassword)})
	if err != nil {
		t.Fatal(err)
	}
	all, err := c.Search(t.Context(), ldapc.Search{Base: "CN=Schema,CN=Configuration," + lab.BaseDN, Scope: ldapc.OneLevel, Attrs: []string{"cn"}})
	if err != nil || len(all) < 1500 {
		t.Errorf("a paged search: %d entries, %v", len(all), err)
	}
	if _, err := c.Search(t.Context(), ldapc.Search{Base: "CN=Users," + lab.BaseDN, Scope: ldapc.OneLevel, Limit: 2}); err == nil || !strings.Contains(err.Error(), "Size Limit") {
		t.Errorf("more entries than the limit: %v", err)
	}
	one, err := c.Search(t.Context(), ldapc.Search{Base: lab.BaseDN, Scope: ldapc.Subtree, Filter: adproto.Equal("sAMAccountName", "web1$"), Attrs: []string{"objectSid"}, Limit: 2})
	if err != nil || len(one) != 1 {
		t.Errorf("%d entries, %v", len(one), err)
	}
	if _, err := c.Read(t.Context(), "CN=nobody,"+lab.BaseDN); !errors.Is(err, ldapc.ErrNoSuchObject) {
		t.Errorf("an entry that does not exist: %v", err)
	}
	dn := "CN=ldapc-group,CN=Users," + lab.BaseDN
	add := ldap.NewAddRequest(dn, nil)
	add.Attribute("objectClass", []string{"group"})
	add.Attribute("sAMAccountName", []string{"ldapc-group"})
	if err := c.Add(t.Context(), add); err != nil {
		t.Fatal(err)
	}
	if err := c.Add(t.Context(), add); !errors.Is(err, ldapc.ErrExists) {
		t.Errorf("the same entry twice: %v", err)
	}
	mod := ldap.NewModifyRequest(dn, nil)
	mod.Replace("description", []string{"x"})
	if err := c.Modify(t.Context(), mod); err != nil {
		t.Error(err)
	}
	if err := c.ModifyDN(t.Context(), ldap.NewModifyDNRequest(dn, "CN=ldapc-group2", true, "")); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), ldap.NewDelRequest("CN=ldapc-group2,CN=Users,"+lab.BaseDN, nil)); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.WhoAmI(ctx); !errors.Is(err, context.Canceled) || !c.Alive() {
		t.Errorf("a context that has ended: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.WhoAmI(t.Context()); !errors.Is(err, ldapc.ErrConnection) {
		t.Errorf("a closed connection: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error("second Close:", err)
	}
}

func TestRefusedBindsSayWhy(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	pool := roots(t, dc)
	_, err := open(t, dc.IP, ldapc.Config{Protection: ldapc.LDAPS, RootCAs: pool, Simple: &ldapc.Simple{Name: "web1$@" + lab.DNSDomain, Password: secret.Copy([]byte("Guess-7731"))}})
	if e, ok := errors.AsType[*ldapc.Error](err); !ok || !errors.Is(err, ldapc.ErrCredentials) || e.Data != 0x52e || e.Hint() == "" {
		t.Errorf("a wrong password: %v", err)
	}
	if strings.Contains(err.Error(), "7731") {
		t.Error("the password is in the message")
	}
	_, err = open(t, dc.IP, ldapc.Config{Protection: ldapc.LDAPS, Simple: web1(t), RootCAs: x509.NewCertPool()})
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); !ok {
		t.Errorf("a certificate of an unknown authority: %v", err)
	}
	if _, err = open(t, dc.IP, ldapc.Config{Simple: web1(t)}); !errors.Is(err, ldapc.ErrNotEncrypted) {
		t.Errorf("a password without TLS: %v", err)
	}
	bad := *ticket(t, dc, "web1$", lab.ComputerPassword("web1"))
	bad.Ticket = append([]byte{}, bad.Ticket...)
	bad.Ticket[len(bad.Ticket)-1] ^= 1
	if _, err = open(t, dc.IP, ldapc.Config{Kerberos: &bad}); !errors.Is(err, ldapc.ErrCredentials) {
		t.Errorf("a damaged ticket: %v", err)
	}
}

func TestDeadControllerEndsTheRequest(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	tkt := ticket(t, dc, "web1$", lab.ComputerPassword("web1"))
	c, err := open(t, dc.IP, ldapc.Config{Kerberos: tkt, Timeout: 700 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	dc.Pause(t)
	start := time.Now()
	if _, err := c.WhoAmI(t.Context()); !errors.Is(err, ldapc.ErrConnection) || time.Since(start) > 2*time.Second {
		t.Errorf("no answer: %v after %v", err, time.Since(start))
	}
	start = time.Now()
	if _, err := open(t, dc.IP, ldapc.Config{Kerberos: tkt, Timeout: 300 * time.Millisecond}); !errors.Is(err, ldapc.ErrConnection) || time.Since(start) > 2*time.Second {
		t.Errorf("no answer to the bind: %v after %v", err, time.Since(start))
	}
	dc.Resume(t)
	if _, err := c.WhoAmI(t.Context()); err != nil {
		t.Errorf("after the pause: %v", err)
	}
	dc.Kill(t)
	if _, err := c.WhoAmI(t.Context()); !errors.Is(err, ldapc.ErrConnection) {
		t.Errorf("killed: %v", err)
	}
}
