package ad

import (
	"crypto/rand"
	"crypto/x509"
	"io"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// Config says how to reach a domain.
type Config struct {
	// Locate says where the controllers are. Its Domain is the domain; its Dial
	// and Now serve Kerberos and LDAP as well.
	Locate locate.Config
	// Protection and Mechanism are those of the LDAP connections.
	Protection ldapc.Protection
	Mechanism  ldapc.Mechanism
	// SimpleBind binds with name and password inside TLS in place of Kerberos.
	// It needs an identity with a password, and LDAPS or StartTLS.
	SimpleBind bool
	// RootCAs are trusted to sign the controllers' certificates; nil means the
	// system's.
	RootCAs *x509.CertPool
	// ETypes and Allow are the Kerberos encryption types: see [kclient.Config].
	ETypes []crypto.EType
	Allow  []crypto.Allowance
	// Timeout is how long one request to one controller may take; 0 means 10
	// seconds.
	Timeout time.Duration
	// HedgeAfter is how long a controller may take for a read before the next
	// one is asked beside it; 0 means 400 milliseconds.
	HedgeAfter time.Duration
	// Rand gives keys and confounders; nil means [rand.Reader].
	Rand io.Reader
}

// Domain is a domain that can be asked. It is safe for concurrent use, and many
// sessions share it.
type Domain struct {
	cfg      Config
	locator  *locate.Locator
	kerberos *kclient.Client
}

// NewDomain checks the configuration. It sends nothing.
func NewDomain(cfg Config) (*Domain, error) {
	if cfg.Locate.Now == nil {
		cfg.Locate.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.HedgeAfter <= 0 {
		cfg.HedgeAfter = 400 * time.Millisecond
	}
	locator, err := locate.New(cfg.Locate)
	if err != nil {
		return nil, err
	}
	kerberos, err := kclient.New(kclient.Config{
		Realm: strings.ToUpper(locator.Domain()), KDCs: kclient.Located(locator, locate.Any), Dial: kclient.DialFunc(cfg.Locate.Dial),
		Now: cfg.Locate.Now, Rand: cfg.Rand, ETypes: cfg.ETypes, Allow: cfg.Allow, HedgeAfter: cfg.HedgeAfter,
	})
	if err != nil {
		return nil, err
	}
	return &Domain{cfg: cfg, locator: locator, kerberos: kerberos}, nil
}

// Name is the domain's DNS name in lower case.
func (d *Domain) Name() string { return d.locator.Domain() }

// Realm is the domain's Kerberos realm.
func (d *Domain) Realm() string { return d.kerberos.Realm() }

// BaseDN is the name of the domain's naming context.
func (d *Domain) BaseDN() adproto.DN { return adproto.DomainDN(d.Name()) }

// Locator finds the domain's controllers.
func (d *Domain) Locator() *locate.Locator { return d.locator }

// Kerberos asks the domain's KDCs.
func (d *Domain) Kerberos() *kclient.Client { return d.kerberos }

// Close closes the connections to the KDCs. Sessions are closed by themselves.
func (d *Domain) Close() error { return d.kerberos.Close() }
