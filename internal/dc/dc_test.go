package dc

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/auditlog"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/keysource"
	"github.com/opengmsa/opengmsa/internal/dc/store/bolt"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const adminPassword = "Passw0rd!Admin"

func newData(t *testing.T) Data {
	t.Helper()
	return Data{Dir: filepath.Join(t.TempDir(), "dc"), Getenv: os.Getenv}
}

func domainConfig(t *testing.T) DomainConfig {
	t.Helper()
	p, err := managedpassword.UTF16(secret.New([]byte(adminPassword)))
	if err != nil {
		t.Fatal(err)
	}
	return DomainConfig{DNSName: "contoso.com", AdminPassword: p}
}

func config(t *testing.T) Config {
	return Config{Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
}

func initialized(t *testing.T) Data {
	t.Helper()
	d := newData(t)
	if _, err := d.Init(t.Context(), domainConfig(t)); err != nil {
		t.Fatal(err)
	}
	return d
}

// run serves the domain on loopback until the test ends.
func run(t *testing.T, d Data) *Sockets {
	t.Helper()
	c, err := d.Open(t.Context(), config(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(t.Context(), []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, c.Close()); err != nil {
			t.Error(err)
		}
	})
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		status, err := d.Status(t.Context(), config(t))
		if err == nil && status.Running {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("the controller does not run: %v", err)
		}
	}
}

func TestADomainIsMadeOnce(t *testing.T) {
	d := initialized(t)
	if _, err := d.Init(t.Context(), domainConfig(t)); !errors.Is(err, directory.ErrInitialized) {
		t.Errorf("a second time: got %v", err)
	}
	for name, mode := range map[string]os.FileMode{storeFile: 0o600, keyFile: 0o600, caFile: 0o644} {
		if info, err := os.Stat(filepath.Join(d.Dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: mode %v, %v, want %v", name, info.Mode(), err, mode)
		}
	}
}

// TestNoTwoDomainsAreOne: of the same name and password they have SIDs, GUIDs, root keys,
// authorities and keys of their own.
func TestNoTwoDomainsAreOne(t *testing.T) {
	seen := map[string]string{}
	for range 2 {
		d := newData(t)
		made, err := d.Init(t.Context(), domainConfig(t))
		if err != nil {
			t.Fatal(err)
		}
		b, err := d.ExportKeytab(t.Context(), config(t), []string{"krbtgt/CONTOSO.COM", "DC1$"})
		if err != nil {
			t.Fatal(err)
		}
		kt, err := keytab.Parse(b.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		encrypting, err := os.ReadFile(d.KeySource().File)
		if err != nil {
			t.Fatal(err)
		}
		identities := map[string]string{"SID": made.Domain.SID.String(), "GUID": made.Domain.GUID.String(), "root key": made.RootKey.String(),
			"authority": string(made.CA), "key-encryption key": string(encrypting)}
		for _, e := range kt.Entries {
			identities["key of "+e.Principal.String()+" "+e.Key.EType().String()] = string(e.Key.Secret().Reveal())
		}
		for what, identity := range identities {
			if identity == "" || identity == seen[what] {
				t.Errorf("%s: both have it, or none", what)
			}
			seen[what] = identity
		}
	}
}

func TestNamesThatNoDomainCanHave(t *testing.T) {
	for _, cfg := range []DomainConfig{{DNSName: ""}, {DNSName: "contoso"}, {DNSName: "con toso.com"}, {DNSName: "-contoso.com"},
		{DNSName: strings.Repeat("a.", 40) + "com"}, {DNSName: "contoso.com", NetBIOS: "CONTOSO.COM"},
		{DNSName: "contoso.com", Host: "a-host-with-a-long-name"}} {
		d := newData(t)
		cfg.AdminPassword = domainConfig(t).AdminPassword
		if _, err := d.Init(t.Context(), cfg); !errors.Is(err, ErrName) {
			t.Errorf("%+v: got %v", cfg, err)
		}
		if _, err := os.Stat(d.Dir); err == nil {
			t.Errorf("%+v: it left %s", cfg, d.Dir)
		}
	}
}

// TestAnAdminPasswordThatThePolicyRefuses leaves no domain, and the next try works.
func TestAnAdminPasswordThatThePolicyRefuses(t *testing.T) {
	d := newData(t)
	cfg := domainConfig(t)
	cfg.AdminPassword = secret.New([]byte{'a', 0})
	var refused *directory.Error
	if _, err := d.Init(t.Context(), cfg); !errors.As(err, &refused) || refused.Code != directory.ConstraintViolation {
		t.Fatalf("got %v", err)
	}
	if _, err := d.Init(t.Context(), domainConfig(t)); err != nil {
		t.Error(err)
	}
}

func TestTheWrongKeyOpensNothing(t *testing.T) {
	d := initialized(t)
	other := filepath.Join(t.TempDir(), "other.key")
	if err := keysource.CreateFile(other, rand.Reader); err != nil {
		t.Fatal(err)
	}
	wrong := d
	wrong.Key = keysource.Source{File: other}
	if _, err := wrong.Open(t.Context(), config(t)); !errors.Is(err, atrest.ErrKey) {
		t.Errorf("got %v", err)
	}
	if _, err := (Data{Dir: t.TempDir(), Getenv: os.Getenv}).Open(t.Context(), config(t)); !errors.Is(err, directory.ErrNotInitialized) {
		t.Errorf("an empty directory: got %v", err)
	}
	// What failed left nothing locked.
	c, err := d.Open(t.Context(), config(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Open(t.Context(), config(t)); !errors.Is(err, bolt.ErrInUse) {
		t.Errorf("a second controller: got %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestStatusOfARunningControllerAndOfAnother(t *testing.T) {
	d := initialized(t)
	before, err := d.Status(t.Context(), config(t))
	if err != nil || before.Running || before.Domain.DNSName != "contoso.com" || len(before.RootKeys) != 1 || before.USN == 0 {
		t.Errorf("it does not run: %+v, %v", before, err)
	}
	s := run(t, d)
	now, err := d.Status(t.Context(), config(t))
	if err != nil || !now.Running || now.Ports != s.Ports || now.PID != os.Getpid() || now.Domain != before.Domain {
		t.Errorf("it runs: %+v, %v", now, err)
	}
}

// TestKeysAreExported, from a controller that runs and from one that does not, and each
// time the audit log is told.
func TestKeysAreExported(t *testing.T) {
	d := initialized(t)
	export := func() keytab.Keytab {
		t.Helper()
		b, err := d.ExportKeytab(t.Context(), config(t), []string{"krbtgt/CONTOSO.COM", "ldap/dc1.contoso.com@CONTOSO.COM"})
		if err != nil {
			t.Fatal(err)
		}
		kt, err := keytab.Parse(b.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		return kt
	}
	offline := export()
	krbtgt := krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NamePrincipal, "krbtgt", "CONTOSO.COM")}
	if len(offline.Entries) != 4 || len(offline.Newest(krbtgt)) != 2 {
		t.Fatalf("got %d keys, %d of krbtgt", len(offline.Entries), len(offline.Newest(krbtgt)))
	}
	run(t, d)
	online := export()
	for i, e := range online.Entries {
		if !e.Key.Equal(offline.Entries[i].Key) {
			t.Errorf("key %d of %s differs", i, e.Principal)
		}
	}
	if _, err := d.ExportKeytab(t.Context(), config(t), []string{"mallory"}); err == nil || !strings.Contains(err.Error(), account.ErrUnknown.Error()) {
		t.Errorf("nobody: got %v", err)
	}
	exports := 0
	for deadline := time.Now().Add(10 * time.Second); exports != 4 && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		exports = 0
		for e, err := range auditlog.Read(d.AuditPath()) {
			if err == nil && e.Kind == audit.KindExport {
				exports++
			}
		}
	}
	if exports != 4 {
		t.Errorf("the audit log has %d exports, want 4", exports)
	}
}

// TestAPathThatIsTooLongForASocket is an error that says so, and leaves no socket open.
func TestAPathThatIsTooLongForASocket(t *testing.T) {
	d := Data{Dir: filepath.Join(t.TempDir(), strings.Repeat("d", maxSocketPath)), Getenv: os.Getenv}
	if _, err := d.Init(t.Context(), domainConfig(t)); err != nil {
		t.Fatal(err)
	}
	c, err := d.Open(t.Context(), config(t))
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(t.Context(), []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context(), s); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(s.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	again, err := Listen(t.Context(), s.Addresses, s.Ports)
	if err != nil {
		t.Fatalf("the ports are still taken: %v", err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

// TestReadyThatFails ends the controller.
func TestReadyThatFails(t *testing.T) {
	d := initialized(t)
	refused := errors.New("nobody reads")
	cfg := config(t)
	cfg.Ready = func(*Sockets) error { return refused }
	c, err := d.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := Listen(t.Context(), []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context(), s); !errors.Is(err, refused) {
		t.Errorf("got %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
