package domaintest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// Password is that of Administrator, and of every account that the test gives none.
const Password = "Passw0rd!Test"

// Domain is a running domain. Its methods may be called from any goroutine; those that
// make something fail the test where they cannot.
type Domain struct {
	// Name is the DNS name, contoso.com, and Realm the Kerberos realm, CONTOSO.COM.
	Name, Realm string
	// NetBIOS is the short name, CONTOSO.
	NetBIOS string
	// SID is the domain's, S-1-5-21-….
	SID string
	// Host is the DNS name of the controller, dc1.contoso.com.
	Host string

	t          testing.TB
	controller *dc.Controller
	sockets    *dc.Sockets
	dir        string
	offset     atomic.Int64 // of the domain's clock from the machine's, in nanoseconds
}

// Option changes what [New] makes.
type Option func(*dc.DomainConfig)

// WithName gives the domain another name than contoso.com.
func WithName(dnsName string) Option {
	return func(c *dc.DomainConfig) { c.DNSName = dnsName }
}

// New makes a domain and runs its controller on 127.0.0.1 until the test ends. The services
// log warnings to the test.
func New(t testing.TB, options ...Option) *Domain {
	t.Helper()
	d := &Domain{t: t, dir: t.TempDir()}
	cfg := dc.DomainConfig{DNSName: "contoso.com", AdminPassword: d.utf16(Password), Aliases: []string{"localhost"}, Now: d.Now}
	for _, o := range options {
		o(&cfg)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	s := memory.New()
	key := secret.New(make([]byte, atrest.KeySize)) // nothing leaves this process
	made, err := dc.Create(t.Context(), s, key, cfg)
	d.check("make domain", err)
	d.controller, err = dc.Open(t.Context(), dc.Config{Store: s, Key: key, Log: log, Now: d.Now})
	d.check("open domain", err)
	d.Name, d.Realm, d.NetBIOS = made.Domain.DNSName, made.Domain.Realm(), made.Domain.NetBIOS
	d.SID, d.Host = made.Domain.SID.String(), made.Domain.HostName()
	d.sockets, err = dc.Listen(t.Context(), []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}, dc.Ports{})
	d.check("listen", err)
	d.run()
	d.modify(d.domainDN(), directory.ChangeReplace, "minPwdAge", "0")
	d.check("write files", errors.Join(os.WriteFile(d.CAFile(), d.controller.CA(), 0o600),
		os.WriteFile(d.Krb5Conf(), dc.Krb5Conf(made.Domain, d.sockets), 0o600)))
	return d
}

// run serves until the test ends.
func (d *Domain) run() {
	ctx, cancel := context.WithCancel(context.WithoutCancel(d.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- d.controller.Run(ctx, d.sockets) }()
	d.t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, d.controller.Close()); err != nil {
			d.t.Errorf("domaintest: end of the domain: %v", err)
		}
	})
}

func (d *Domain) check(what string, err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatalf("domaintest: %s: %v", what, err)
	}
}

func (d *Domain) utf16(password string) secret.Bytes {
	d.t.Helper()
	p, err := managedpassword.UTF16(secret.New([]byte(password)))
	d.check("password", err)
	return p
}

// Now is the domain's time. Tickets, passwords of gMSAs and certificates go by it; Go code
// under test that judges them takes it as its clock.
func (d *Domain) Now() time.Time { return time.Now().Add(time.Duration(d.offset.Load())) }

// Advance moves the domain's clock: by 10 hours to let tickets end, by 30 days for the next
// password of a gMSA. The controller does on the way what it would have done in that time.
// MIT's and Heimdal's programs, whose clock stays where it is, still log on, but see tickets
// of another time.
func (d *Domain) Advance(by time.Duration) {
	d.t.Helper()
	for by > 0 {
		step := min(by, keyCycle)
		d.offset.Add(int64(step))
		by -= step
		d.check("refresh timelines", d.controller.Directory().RefreshTimelines(d.t.Context()))
	}
	d.offset.Add(int64(by)) // back, if it is negative
}

// keyCycle is the length of a period of the KDS: in each, timelines are looked through for
// root keys that came into use.
const keyCycle = 10 * time.Hour

// Krb5Conf is the path of a krb5.conf that finds the domain: KRB5_CONFIG.
func (d *Domain) Krb5Conf() string { return filepath.Join(d.dir, "krb5.conf") }

// CAFile is the path of the certificate, in PEM, that makes the controller's trusted.
func (d *Domain) CAFile() string { return filepath.Join(d.dir, "ca.pem") }

// TLSConfig trusts the controller's certificate, by its address and by its names.
func (d *Domain) TLSConfig() *tls.Config {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(d.controller.CA())
	return &tls.Config{RootCAs: roots, Time: d.Now}
}

// Env is the environment of this process with what programs of MIT, Heimdal and OpenLDAP
// need to find the domain. Each call has a credential cache of its own, which is empty.
func (d *Domain) Env() []string {
	d.t.Helper()
	return append(os.Environ(),
		"KRB5_CONFIG="+d.Krb5Conf(), "KRB5CCNAME=FILE:"+filepath.Join(d.t.TempDir(), "ccache"),
		// OpenLDAP's programs would ask for a ticket for whatever the machine is called.
		"LDAPURI=ldap://localhost:"+strconv.Itoa(int(d.sockets.Ports.LDAP)), "LDAPSASL_NOCANON=on",
		"LDAPTLS_CACERT="+d.CAFile(), "LDAPBASE="+d.domainDN())
}

// The addresses of services, as host:port. All are on 127.0.0.1.

// KDC is where Kerberos answers, UDP and TCP.
func (d *Domain) KDC() string { return d.at(d.sockets.Ports.Kerberos) }

// Kpasswd is where passwords are changed, UDP and TCP.
func (d *Domain) Kpasswd() string { return d.at(d.sockets.Ports.Kpasswd) }

// DNS is the name server of the domain, UDP and TCP.
func (d *Domain) DNS() string { return d.at(d.sockets.Ports.DNS) }

// LDAP is where LDAP answers, TCP, and the netlogon ping, UDP.
func (d *Domain) LDAP() string { return d.at(d.sockets.Ports.LDAP) }

// GlobalCatalog is where the global catalog answers.
func (d *Domain) GlobalCatalog() string { return d.at(d.sockets.Ports.GC) }

// LDAPURL is ldap://127.0.0.1:PORT. A Kerberos bind there asks for a ticket for
// ldap/localhost or [Domain.Host].
func (d *Domain) LDAPURL() string { return "ldap://" + d.LDAP() }

// LDAPSURL is ldaps://127.0.0.1:PORT; see [Domain.TLSConfig].
func (d *Domain) LDAPSURL() string { return "ldaps://" + d.at(d.sockets.Ports.LDAPS) }

func (d *Domain) at(port uint16) string {
	return netip.AddrPortFrom(d.sockets.Addresses[0], port).String()
}

// BaseDN is the distinguished name of the domain, DC=contoso,DC=com.
func (d *Domain) BaseDN() string { return d.domainDN() }

func (d *Domain) domainDN() string { return d.controller.Directory().Domain().DN().String() }

// self is the controller, which every check lets pass.
func self() directory.Caller { return directory.Caller{Controller: true, Encrypted: true} }

func (d *Domain) modify(dn string, op directory.ChangeOp, attribute string, values ...string) {
	d.t.Helper()
	change := directory.Change{Op: op, Attribute: directory.Attribute{Name: attribute}}
	for _, v := range values {
		change.Values = append(change.Values, []byte(v))
	}
	err := d.controller.Directory().Modify(d.t.Context(), self(), directory.ModifyRequest{DN: dn, Changes: []directory.Change{change}})
	d.check(fmt.Sprintf("change %s of %s", attribute, dn), err)
}
