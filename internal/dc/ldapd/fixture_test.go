package ldapd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/cldapd"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/kdc"
	"github.com/opengmsa/opengmsa/internal/lab"
)

func TestMain(m *testing.M) {
	if load := os.Getenv(loadVariable); load != "" {
		runLoad(load)
		return
	}
	goleak.VerifyTestMain(m)
}

// hostName is the controller's name.
const hostName = "dc1.contoso.com"

// alicePassword is that of the user alice.
const alicePassword = "Wonder1and!"

// fixture is a domain whose directory is served on loopback, with a KDC beside it.
type fixture struct {
	*dctest.Domain
	accounts *account.Accounts
	server   *Server
	kdc      string // host:port, over TCP
	// The addresses of the ports, host:port.
	plain, tls, gc, gcTLS string
	caFile                string
	roots                 *x509.CertPool
}

// start serves a domain on ports of its own until the test ends. change, if any, sees
// the configuration first.
func start(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{Domain: dctest.NewAt(t, time.Now())}
	f.Insert(t, dctest.Object{Class: "user", Name: "alice", Password: alicePassword})
	f.accounts = account.New(account.Config{Directory: f.Directory, Audit: f.Events})
	cert := f.certificate(t)
	ping := cldapd.New(cldapd.Config{Directory: f.Directory})
	cfg := Config{
		Directory: f.Directory, Accounts: f.accounts, ChangePassword: f.accounts.ChangePassword, Ping: ping.Answer,
		Certificate: func() (*tls.Certificate, error) { return cert, nil },
		Log:         slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now:         f.Clock.Now, Rand: rand.Reader,
	}
	for _, fn := range change {
		fn(&cfg)
	}
	f.server = New(cfg)
	f.plain = f.listen(t, f.server.Serve)
	f.tls = f.listen(t, f.server.ServeTLS)
	f.gc = f.listen(t, f.server.ServeGlobalCatalog)
	f.gcTLS = f.listen(t, f.server.ServeGlobalCatalogTLS)
	f.kdc = f.listen(t, kdc.New(kdc.Config{Accounts: f.accounts}).Serve)
	return f
}

// listen runs one of the server's ports until the test ends.
func (f *fixture) listen(t testing.TB, serve func(context.Context, net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := serve(ctx, l); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return l.Addr().String()
}

// certificate makes the controller's certificate, which is its own authority.
func (f *fixture) certificate(t testing.TB) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: hostName},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{hostName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	f.caFile, f.roots = filepath.Join(t.TempDir(), "ca.pem"), x509.NewCertPool()
	if err := os.WriteFile(f.caFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	f.roots.AppendCertsFromPEM(text)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// env are the variables of OpenLDAP's tools: they trust the controller.
func (f *fixture) env() []string {
	return []string{"LDAPTLS_CACERT=" + f.caFile, "LDAPTLS_REQCERT=demand", "LDAPRC=/nonexistent", "LDAPSASL_NOCANON=on"}
}

// kerberosEnv lets MIT's programs find the KDC, and every program the controller by its
// name; who, if not empty, has logged on.
func (f *fixture) kerberosEnv(t testing.TB, who, password string) []string {
	t.Helper()
	lab.Need(t, "kinit", "sasl-gssapi", "libnss_wrapper")
	dir := t.TempDir()
	conf := "[libdefaults]\ndefault_realm = CONTOSO.COM\ndns_lookup_kdc = false\ndns_lookup_realm = false\n" +
		"dns_canonicalize_hostname = false\nrdns = false\nudp_preference_limit = 1\n[realms]\nCONTOSO.COM = {\nkdc = " + f.kdc + "\n}\n" +
		"[domain_realm]\n.contoso.com = CONTOSO.COM\n"
	for name, text := range map[string]string{"krb5.conf": conf, "hosts": "127.0.0.1 " + hostName + " localhost\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hosts := lab.NameHosts(t, filepath.Join(dir, "hosts"))
	env := append(f.env(), append(hosts, "KRB5_CONFIG="+filepath.Join(dir, "krb5.conf"), "KRB5CCNAME=FILE:"+filepath.Join(dir, "ccache"), "LC_ALL=C")...)
	lab.Run(t, env, password+"\n", "kinit", who)
	return env
}

// url is a port of the server under the controller's name.
func url(scheme, address string) string {
	_, port, _ := net.SplitHostPort(address)
	return scheme + "://" + net.JoinHostPort(hostName, port)
}

// dialTLS is a connection to the TLS port.
func (f *fixture) dialTLS(t testing.TB) *client {
	t.Helper()
	c := dial(t, f.tls)
	c.Conn = tls.Client(c.Conn, &tls.Config{ServerName: hostName, RootCAs: f.roots})
	return c
}
