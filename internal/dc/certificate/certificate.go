// Package certificate is the controller's TLS certificate: a certificate authority of the
// domain, made with it and kept in its directory as a secret, and the certificate that it
// issues to the controller, which is made anew at each start and before it ends.
//
// It is not a public key infrastructure: the authority issues to the controller alone, may
// issue for names of the domain alone, and no client can ask it. Read [Authority] first.
package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/secret"
)

const (
	// authorityLife is how long the authority is valid.
	authorityLife = 20 * 365 * 24 * time.Hour
	// life is how long the controller's certificate is valid. It is renewed when a third of
	// it is left.
	life = 90 * 24 * time.Hour
	// before is how long before it is made the authority is valid already: clocks differ.
	before = 24 * time.Hour
)

// ErrAuthority: what was kept of an authority is none.
var ErrAuthority = errors.New("no certificate authority")

// Authority signs the controller's certificates. It is immutable.
type Authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// NewAuthority makes the authority of a domain.
func NewAuthority(domain string, now time.Time, rand io.Reader) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	serial, err := serialNumber(rand)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: domain + " domain controllers"},
		NotBefore: now.Add(-before), NotAfter: now.Add(authorityLife),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign,
		PermittedDNSDomainsCritical: true, PermittedDNSDomains: []string{domain, "localhost"},
	}
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	return &Authority{certificate, key}, nil
}

// serialNumber is 127 random bits, so that it is positive: RFC 5280, Section 4.1.2.2.
func serialNumber(rand io.Reader) (*big.Int, error) {
	b := make([]byte, 16)
	if _, err := io.ReadFull(rand, b); err != nil {
		return nil, err
	}
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b), nil
}

// The types of the PEM blocks of an authority.
const (
	pemCertificate = "CERTIFICATE"
	pemKey         = "PRIVATE KEY"
)

// PEM is the authority's certificate, for clients.
func (a *Authority) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: a.certificate.Raw})
}

// Expires is when the authority ends, and with it every certificate of the domain.
func (a *Authority) Expires() time.Time { return a.certificate.NotAfter }

// Secret is the authority with its key, for [ParseAuthority].
func (a *Authority) Secret() (secret.Bytes, error) {
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("certificate authority: %w", err)
	}
	defer clear(key)
	return secret.New(append(a.PEM(), pem.EncodeToMemory(&pem.Block{Type: pemKey, Bytes: key})...)), nil
}

// ParseAuthority reads what Secret returned. Errors wrap ErrAuthority.
func ParseAuthority(s secret.Bytes) (*Authority, error) {
	var a Authority
	certificate, rest := pem.Decode(s.Reveal())
	key, _ := pem.Decode(rest)
	if certificate == nil || key == nil || certificate.Type != pemCertificate || key.Type != pemKey {
		return nil, fmt.Errorf("%w: want a certificate and a key", ErrAuthority)
	}
	var err error
	if a.certificate, err = x509.ParseCertificate(certificate.Bytes); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(key.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAuthority, err)
	}
	var ok bool
	if a.key, ok = parsed.(*ecdsa.PrivateKey); !ok || !a.key.PublicKey.Equal(a.certificate.PublicKey) {
		return nil, fmt.Errorf("%w: the key is not the certificate's", ErrAuthority)
	}
	return &a, nil
}

// Host is whom a certificate names.
type Host struct {
	// Names are DNS names, that of the controller first.
	Names []string
	// Addresses are those that clients connect to by number.
	Addresses []netip.Addr
}

// Issue makes a certificate with a key of its own. It is valid from the moment on that the
// authority is, so that a client whose clock stands where the domain was made takes it.
func (a *Authority) Issue(host Host, now time.Time, rand io.Reader) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	serial, err := serialNumber(rand)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: host.Names[0]}, DNSNames: host.Names,
		NotBefore: a.certificate.NotBefore, NotAfter: now.Add(life), BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, addr := range host.Addresses {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.Unmap().AsSlice()))
	}
	der, err := x509.CreateCertificate(rand, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der, a.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Config is what a [Source] is made of.
type Config struct {
	Authority *Authority // required
	Host      Host       // required
	Now       func() time.Time
	Rand      io.Reader
}

// Source gives the controller's certificate and renews it. It is safe for concurrent use.
type Source struct {
	cfg Config

	mu      sync.Mutex
	current *tls.Certificate // guarded by mu
}

// New makes a Source. It issues nothing yet.
func New(cfg Config) *Source { return &Source{cfg: cfg} }

// Get is the certificate to use now.
func (s *Source) Get() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	if s.current != nil && now.Before(s.current.Leaf.NotAfter.Add(-life/3)) {
		return s.current, nil
	}
	c, err := s.cfg.Authority.Issue(s.cfg.Host, now, s.cfg.Rand)
	if err != nil {
		return nil, err
	}
	s.current = c
	return c, nil
}
