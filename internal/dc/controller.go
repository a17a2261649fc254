package dc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/audit"
	"github.com/opengmsa/opengmsa/internal/dc/certificate"
	"github.com/opengmsa/opengmsa/internal/dc/cldapd"
	"github.com/opengmsa/opengmsa/internal/dc/control"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/dc/dnsd"
	"github.com/opengmsa/opengmsa/internal/dc/kdc"
	"github.com/opengmsa/opengmsa/internal/dc/kpasswdd"
	"github.com/opengmsa/opengmsa/internal/dc/ldapd"
	"github.com/opengmsa/opengmsa/internal/dc/store"
	"github.com/opengmsa/opengmsa/krb5/replay"
	"github.com/opengmsa/opengmsa/secret"
)

// Config is what a [Controller] is made of.
type Config struct {
	// Store has the domain. Required; the controller closes it.
	Store store.Store
	// Key is the key-encryption key of the store. Required.
	Key secret.Bytes
	// Audit is told who did what; nil: nobody is.
	Audit audit.Recorder
	// ChannelBinding is the policy for Kerberos inside TLS.
	ChannelBinding ldapd.ChannelBinding
	// Kerberos is the policy of tickets.
	Kerberos kdc.Policy
	// Hosts are names that DNS knows beside those of the domain.
	Hosts map[string][]netip.Addr
	// Ready is called once, when clients can find the controller: sockets, files and the
	// control socket are there. Its error ends the controller. nil: nobody is told.
	Ready func(*Sockets) error
	// Log is the log of the services. Required.
	Log *slog.Logger
	// Now is the clock; nil: time.Now. Rand gives random bytes; nil: crypto/rand.
	Now  func() time.Time
	Rand io.Reader
}

// Controller is a domain controller. It is safe for concurrent use.
type Controller struct {
	cfg       Config
	directory *directory.Directory
	accounts  *account.Accounts
	authority *certificate.Authority
	data      *openData // nil without a data directory
	started   time.Time
	sockets   atomic.Pointer[Sockets] // while Run serves
}

// Open opens the controller of a store that has a domain. On an error the store is left
// open.
func Open(ctx context.Context, cfg Config) (*Controller, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	if cfg.Audit == nil {
		cfg.Audit = audit.Discard{}
	}
	sch, err := schema.Load()
	if err != nil {
		return nil, err
	}
	seal, err := atrest.Open(ctx, cfg.Store, cfg.Key, cfg.Rand)
	if err != nil {
		return nil, err
	}
	c := &Controller{cfg: cfg, started: cfg.Now()}
	c.directory, err = directory.Open(ctx, directory.Config{Store: cfg.Store, Schema: sch, Seal: seal,
		Passwords: &account.Passwords{Rand: cfg.Rand}, Audit: cfg.Audit, Now: cfg.Now, Rand: cfg.Rand})
	if err != nil {
		return nil, err
	}
	if c.authority, err = readAuthority(ctx, c.directory); err != nil {
		return nil, err
	}
	c.accounts = account.New(account.Config{Directory: c.directory, Audit: cfg.Audit, Log: cfg.Log})
	return c, nil
}

// Directory is the controller's directory.
func (c *Controller) Directory() *directory.Directory { return c.directory }

// CA is the certificate that clients of the domain trust, in PEM.
func (c *Controller) CA() []byte { return c.authority.PEM() }

// Close writes what is still to be written and closes logs and store. Run must have
// returned.
func (c *Controller) Close() error {
	err := c.accounts.Flush(context.Background())
	if c.data != nil {
		err = errors.Join(err, c.data.logs.close())
	}
	return errors.Join(err, c.cfg.Store.Close())
}

// refreshEvery is how often timelines are looked through for a root key that came into use:
// at least once in each period of 10 h, see kds.Timeline.Refresh.
const refreshEvery = time.Hour

// Run serves on the sockets until ctx ends or a service fails, and closes them. This is
// the order of things:
//
//	start    sockets are open before Run is called, so that whoever was told of them waits
//	         for an answer at worst; services and background work start together
//	stop     ctx ends: services accept nothing more and finish what they are at
//	         then the background work ends, counters of logons are written
//	         then, by Close, the audit log and the store are closed
//
// The first failure of a service stops the others, and is returned.
func (c *Controller) Run(ctx context.Context, s *Sockets) error {
	c.sockets.Store(s)
	defer c.sockets.Store(nil)
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	var background sync.WaitGroup
	if c.data != nil {
		background.Go(func() { c.data.audit.Run(work) })
	}
	background.Go(func() { c.maintain(work) })
	background.Go(func() {
		if err := c.accounts.Run(work); err != nil {
			c.cfg.Log.Error("counters of logons were not written", slog.Any("error", err))
		}
	})
	err := c.serve(ctx, s)
	stopWork()
	background.Wait()
	return errors.Join(err, s.Close())
}

// serve runs all services and returns when the last has ended.
func (c *Controller) serve(ctx context.Context, s *Sockets) error {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	services := c.services(s)
	if c.data != nil {
		if err := c.data.announce(c.directory.Domain(), c.CA(), s); err != nil {
			return err
		}
		l, err := c.data.listen(ctx)
		if err != nil {
			return err
		}
		services = append(services, func(ctx context.Context) error { return control.Serve(ctx, l, c.handle, c.cfg.Log) })
	}
	if c.cfg.Ready != nil {
		if err := c.cfg.Ready(s); err != nil {
			fail(err) // services begin and end, and close what they were given
		}
	}
	var running sync.WaitGroup
	for _, run := range services {
		running.Go(func() {
			if err := run(ctx); err != nil {
				fail(err)
			}
		})
	}
	running.Wait()
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// services makes the services, and gives each its sockets.
func (c *Controller) services(s *Sockets) (run []func(context.Context) error) {
	dns := dnsd.New(dnsd.Config{Directory: c.directory, Addresses: s.Addresses, Hosts: c.cfg.Hosts, Log: c.cfg.Log,
		Ports: dnsd.Ports{Kerberos: s.Ports.Kerberos, Kpasswd: s.Ports.Kpasswd, LDAP: s.Ports.LDAP, GC: s.Ports.GC}})
	kerberos := kdc.New(kdc.Config{Accounts: c.accounts, Policy: c.cfg.Kerberos, Log: c.cfg.Log, Rand: c.cfg.Rand})
	kpasswd := kpasswdd.New(kpasswdd.Config{Directory: c.directory, Accounts: c.accounts, Replay: replay.New(0, 0), Log: c.cfg.Log, Rand: c.cfg.Rand})
	ping := cldapd.New(cldapd.Config{Directory: c.directory, Addresses: s.Addresses, Log: c.cfg.Log})
	ldap := ldapd.New(ldapd.Config{Directory: c.directory, Accounts: c.accounts, ChangePassword: c.accounts.ChangePassword, Ping: ping.Answer,
		Certificate: c.certificates(s).Get, ChannelBinding: c.cfg.ChannelBinding, Log: c.cfg.Log, Now: c.cfg.Now, Rand: c.cfg.Rand})
	for _, l := range s.streams {
		serve := [...]func(context.Context, net.Listener) error{
			serviceDNS: dns.Serve, serviceKerberos: kerberos.Serve, serviceLDAP: ldap.Serve, serviceKpasswd: kpasswd.Serve,
			serviceLDAPS: ldap.ServeTLS, serviceGC: ldap.ServeGlobalCatalog, serviceGCS: ldap.ServeGlobalCatalogTLS,
		}[l.service]
		run = append(run, func(ctx context.Context) error { return serve(ctx, l.Listener) })
	}
	for _, p := range s.packets {
		serve := [...]func(context.Context, net.PacketConn) error{
			serviceDNS: dns.ServePacket, serviceKerberos: kerberos.ServePacket, serviceLDAP: ping.ServePacket, serviceKpasswd: kpasswd.ServePacket,
		}[p.service]
		run = append(run, func(ctx context.Context) error { return serve(ctx, p.PacketConn) })
	}
	return run
}

// certificates issues the controller's certificate: for its names, and for the addresses
// that it listens on.
func (c *Controller) certificates(s *Sockets) *certificate.Source {
	d := c.directory.Domain()
	host := certificate.Host{Names: []string{d.HostName(), d.DNSName}, Addresses: s.Addresses}
	if slices.ContainsFunc(s.Addresses, netip.Addr.IsLoopback) {
		host.Names = append(host.Names, "localhost")
	}
	return certificate.New(certificate.Config{Authority: c.authority, Host: host, Now: c.cfg.Now, Rand: c.cfg.Rand})
}

// maintain does once an hour what no client asks for: timelines of gMSAs learn of new
// root keys, new administrators are protected, and tombstones go whose lifetime is over.
func (c *Controller) maintain(ctx context.Context) {
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	for {
		if err := c.directory.RefreshTimelines(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Error("timelines were not refreshed", slog.Any("error", err))
		}
		if err := c.directory.ProtectAdministrators(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Error("administrators were not protected", slog.Any("error", err))
		}
		if _, err := c.directory.PurgeTombstones(ctx); err != nil && ctx.Err() == nil {
			c.cfg.Log.Error("tombstones were not purged", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Krb5Conf is a configuration with which MIT's and Heimdal's programs find a controller on
// these sockets without DNS.
func Krb5Conf(d directory.Domain, s *Sockets) []byte {
	at := netip.AddrPortFrom(s.Addresses[0], s.Ports.Kerberos).String()
	kpasswd := netip.AddrPortFrom(s.Addresses[0], s.Ports.Kpasswd).String()
	var b strings.Builder
	fmt.Fprintf(&b, `[libdefaults]
	default_realm = %[1]s
	dns_lookup_realm = false
	dns_lookup_kdc = false
	rdns = false
	dns_canonicalize_hostname = false
[realms]
	%[1]s = {
		kdc = %[3]s
		kpasswd_server = %[4]s
		admin_server = %[4]s
	}
[domain_realm]
	.%[2]s = %[1]s
	%[2]s = %[1]s
	localhost = %[1]s
`, d.Realm(), d.DNSName, at, kpasswd)
	return []byte(b.String())
}
