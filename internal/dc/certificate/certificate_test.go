package certificate

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secret"
)

var (
	now  = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	host = Host{Names: []string{"dc1.contoso.com", "contoso.com"}, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}
)

func newAuthority(t *testing.T) *Authority {
	t.Helper()
	a, err := NewAuthority("contoso.com", now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func verify(t *testing.T, a *Authority, c *tls.Certificate, name string, at time.Time) error {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(a.PEM()) {
		t.Fatal("no certificate in PEM")
	}
	_, err := c.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: at})
	return err
}

func TestTheControllerIsKnownByItsNamesAndAddresses(t *testing.T) {
	a := newAuthority(t)
	c, err := a.Issue(host, now.Add(300*24*time.Hour), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"dc1.contoso.com", "CONTOSO.com", "127.0.0.1"} {
		// A client's clock may stand where the domain was made.
		for _, at := range []time.Time{now.Add(-time.Hour), now.Add(380 * 24 * time.Hour)} {
			if err := verify(t, a, c, name, at); err != nil {
				t.Errorf("%s at %v: %v", name, at, err)
			}
		}
	}
	for _, name := range []string{"dc2.contoso.com", "example.com", "127.0.0.2"} {
		if verify(t, a, c, name, now) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if verify(t, a, c, host.Names[0], now.Add(400*24*time.Hour)) == nil {
		t.Error("it never ends")
	}
	if verify(t, newAuthority(t), c, host.Names[0], now) == nil {
		t.Error("another domain's authority is as good")
	}
}

// TestTheAuthorityIsForItsDomainAlone: whoever trusts it trusts it for nothing else.
func TestTheAuthorityIsForItsDomainAlone(t *testing.T) {
	a := newAuthority(t)
	c, err := a.Issue(Host{Names: []string{"www.example.com"}}, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if verify(t, a, c, "www.example.com", now) == nil {
		t.Error("a name outside of the domain is accepted")
	}
}

func TestTheAuthorityIsKeptAsASecret(t *testing.T) {
	a := newAuthority(t)
	s, err := a.Secret()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseAuthority(s)
	if err != nil || !bytes.Equal(again.PEM(), a.PEM()) {
		t.Fatalf("got another authority, %v", err)
	}
	c, err := again.Issue(host, now, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(t, a, c, host.Names[0], now); err != nil {
		t.Error(err)
	}
	other, err := newAuthority(t).Secret()
	if err != nil {
		t.Fatal(err)
	}
	_, foreignKey, _ := bytes.Cut(other.Reveal(), []byte("-----END CERTIFICATE-----\n"))
	for name, b := range map[string][]byte{"empty": nil, "no key": a.PEM(), "no certificate": s.Reveal()[len(a.PEM()):],
		"another's key": append(a.PEM(), foreignKey...)} {
		if _, err := ParseAuthority(secret.Copy(b)); !errors.Is(err, ErrAuthority) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTheCertificateIsRenewedBeforeItEnds(t *testing.T) {
	clock := now
	s := New(Config{Authority: newAuthority(t), Host: host, Now: func() time.Time { return clock }, Rand: rand.Reader})
	first, err := s.Get()
	if err != nil {
		t.Fatal(err)
	}
	clock = clock.Add(life/2 + life/8)
	if again, err := s.Get(); err != nil || again != first {
		t.Errorf("it is another after five eighths of its life: %v", err)
	}
	clock = clock.Add(life / 8)
	next, err := s.Get()
	if err != nil || next == first || !next.Leaf.NotAfter.After(first.Leaf.NotAfter) {
		t.Errorf("it is the same after three quarters of its life: %v", err)
	}
}

// TestOpenSSLAcceptsIt: the handshake of a program that nobody here wrote.
func TestOpenSSLAcceptsIt(t *testing.T) {
	lab.Need(t, "openssl")
	a, err := NewAuthority("contoso.com", time.Now(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	source := New(Config{Authority: a, Host: host, Now: time.Now, Rand: rand.Reader})
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return source.Get() }})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); answer(l) }()
	defer func() { l.Close(); <-ended }()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, a.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range [][]string{{"-verify_hostname", "dc1.contoso.com"}, {"-verify_ip", "127.0.0.1"}} {
		out, err := exec.Command("openssl", append([]string{"s_client", "-connect", l.Addr().String(), "-CAfile", ca, "-verify_return_error", "-brief"}, name...)...).CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("Verification: OK")) {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// answer closes each connection after its handshake.
func answer(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if c, ok := c.(*tls.Conn); ok {
			_ = c.Handshake() // the client tells what is wrong
		}
		c.Close()
	}
}
