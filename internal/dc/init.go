package dc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/certificate"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/provision"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/secret"
)

// ErrName is wrapped when a domain or a host cannot have the name.
var ErrName = errors.New("bad name")

// DomainConfig is what a new domain is made with.
type DomainConfig struct {
	// DNSName is the domain's, such as contoso.com. Required.
	DNSName string
	// NetBIOS is the short name; empty: the first label of DNSName in capitals, 15
	// characters at most.
	NetBIOS string
	// Host is the controller's name without a domain; empty: dc1.
	Host string
	// AdminPassword is Administrator's, in UTF-16LE. Required.
	AdminPassword secret.Bytes
	// NoRootKey leaves out the KDS root key that can be used at once.
	NoRootKey bool
	// Aliases are host names that the controller has beside its own. For clients on its own
	// machine these are localhost and the name of the machine: LDAP clients ask for a ticket
	// for what their system calls 127.0.0.1.
	Aliases []string
	// Now is the clock; nil: time.Now. Rand gives random bytes; nil: crypto/rand.
	Now  func() time.Time
	Rand io.Reader
}

// withDefaults completes the configuration and checks its names.
func (c DomainConfig) withDefaults() (DomainConfig, error) {
	c.DNSName = strings.ToLower(strings.TrimSuffix(c.DNSName, "."))
	first, _, _ := strings.Cut(c.DNSName, ".")
	if c.NetBIOS == "" {
		c.NetBIOS = strings.ToUpper(first[:min(len(first), maxNetBIOS)])
	}
	if c.Host == "" {
		c.Host = "dc1"
	}
	c.Host = strings.ToLower(c.Host)
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	return c, errors.Join(checkDomain(c.DNSName), checkNetBIOS("NetBIOS name", c.NetBIOS), checkNetBIOS("host name", c.Host), checkAliases(c.Aliases))
}

const (
	maxDomain  = 64 // characters: [MS-ADTS] 6.1.1.3.1 has no bound, Windows' tools this one
	maxLabel   = 63 // RFC 1035, Section 2.3.4
	maxNetBIOS = 15 // [MS-NBTE] 1.8
)

func checkDomain(name string) error {
	labels := strings.Split(name, ".")
	if len(labels) < 2 || len(name) > maxDomain {
		return fmt.Errorf("%w: domain %q: want two labels or more, such as contoso.com, and %d characters at most", ErrName, name, maxDomain)
	}
	for _, l := range labels {
		if !isLabel(l) || len(l) > maxLabel {
			return fmt.Errorf("%w: domain %q: %q is no label of letters, digits and hyphens", ErrName, name, l)
		}
	}
	return nil
}

func checkNetBIOS(what, name string) error {
	if !isLabel(name) || len(name) > maxNetBIOS {
		return fmt.Errorf("%w: %s %q: want letters, digits and hyphens, and %d characters at most", ErrName, what, name, maxNetBIOS)
	}
	return nil
}

func checkAliases(names []string) error {
	for _, name := range names {
		for label := range strings.SplitSeq(name, ".") {
			if !isLabel(label) || len(label) > maxLabel {
				return fmt.Errorf("%w: host name %q", ErrName, name)
			}
		}
	}
	return nil
}

// isLabel reports whether s is a label of a host name: RFC 1123, Section 2.1.
func isLabel(s string) bool {
	for _, c := range s {
		if c != '-' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return s != "" && s[0] != '-' && s[len(s)-1] != '-'
}

// privateAuthority is the private row of the head of the domain that holds the certificate
// authority.
const privateAuthority = "certificateAuthority"

// Created is what is told of a new domain.
type Created struct {
	Domain directory.Domain
	// CA is the certificate that clients of the domain trust, in PEM.
	CA []byte
	// RootKey is the id of the KDS root key; zero where none was made.
	RootKey dtyp.GUID
}

// Create makes a domain in an empty store: its objects, keys and certificate authority.
func Create(ctx context.Context, s store.Store, key secret.Bytes, cfg DomainConfig) (Created, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return Created{}, err
	}
	domain, err := newDomain(cfg)
	if err != nil {
		return Created{}, err
	}
	sch, err := schema.Load()
	if err != nil {
		return Created{}, err
	}
	seal, err := atrest.Create(ctx, s, key, cfg.Rand)
	if err != nil {
		return Created{}, err
	}
	passwords := &account.Passwords{Rand: cfg.Rand}
	d, err := directory.Create(ctx, directory.Config{Store: s, Schema: sch, Seal: seal, Passwords: passwords, Now: cfg.Now, Rand: cfg.Rand}, domain)
	if err != nil {
		return Created{}, err
	}
	err = provision.Objects(ctx, d, provision.Config{Passwords: passwords, AdminPassword: cfg.AdminPassword,
		NoRootKey: cfg.NoRootKey, Aliases: cfg.Aliases, Rand: cfg.Rand})
	if err != nil {
		return Created{}, err
	}
	made := Created{Domain: domain}
	for _, k := range d.Ring().Keys() {
		made.RootKey = k.ID
	}
	made.CA, err = createAuthority(ctx, d, cfg.Rand)
	return made, err
}

// newDomain gives a domain the identities that nobody else has.
func newDomain(cfg DomainConfig) (directory.Domain, error) {
	guid, err := dtyp.NewGUID(cfg.Rand)
	if err != nil {
		return directory.Domain{}, err
	}
	var random [12]byte
	if _, err := io.ReadFull(cfg.Rand, random[:]); err != nil {
		return directory.Domain{}, err
	}
	sub := func(i int) uint32 { return binary.LittleEndian.Uint32(random[4*i:]) }
	return directory.Domain{DNSName: cfg.DNSName, NetBIOS: cfg.NetBIOS, Site: "Default-First-Site-Name", Host: cfg.Host,
		SID: dtyp.NewSID(dtyp.AuthorityNT, 21, sub(0), sub(1), sub(2)), GUID: guid}, nil
}

func createAuthority(ctx context.Context, d *directory.Directory, rand io.Reader) (ca []byte, err error) {
	a, err := certificate.NewAuthority(d.Domain().DNSName, d.Now(), rand)
	if err != nil {
		return nil, err
	}
	s, err := a.Secret()
	if err != nil {
		return nil, err
	}
	return a.PEM(), d.Update(ctx, func(w *directory.Writer) error {
		return w.SetPrivate(d.Domain().GUID, privateAuthority, s)
	})
}

// readAuthority is the authority that createAuthority left.
func readAuthority(ctx context.Context, d *directory.Directory) (a *certificate.Authority, err error) {
	err = d.View(ctx, func(r *directory.Reader) error {
		s, err := r.Private(d.Domain().GUID, privateAuthority)
		if err != nil {
			return err
		}
		a, err = certificate.ParseAuthority(s)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("certificate authority of the domain: %w", err)
	}
	return a, nil
}
