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

	"github.com/opengmsa/opengmsa/internal/dc/cldapd"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hostName is the controller's name.
const hostName = "dc1.contoso.com"

// fixture is a domain whose directory is served on loopback.
type fixture struct {
	*dctest.Domain
	server *Server
	// The addresses of the ports, host:port.
	plain, tls, gc string
	caFile         string
	roots          *x509.CertPool
}

// start serves a domain on ports of its own until the test ends. change, if any, sees
// the configuration first.
func start(t testing.TB, change ...func(*Config)) *fixture {
	t.Helper()
	f := &fixture{Domain: dctest.New(t)}
	cert := f.certificate(t)
	ping := cldapd.New(cldapd.Config{Directory: f.Directory})
	cfg := Config{
		Directory: f.Directory, Accounts: nobody{}, Ping: ping.Answer,
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
	return []string{"LDAPTLS_CACERT=" + f.caFile, "LDAPTLS_REQCERT=demand", "LDAPRC=/nonexistent"}
}
