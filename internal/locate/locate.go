package locate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
)

// Ports are where a controller's services listen. A zero port means the one of
// DNS, else the standard one.
type Ports struct {
	Kerberos uint16 // 88, UDP and TCP
	LDAP     uint16 // 389, UDP and TCP
	LDAPS    uint16 // 636
	Kpasswd  uint16 // 464, UDP and TCP
	GC       uint16 // 3268, the global catalog
}

// standardPorts are those of [MS-ADTS] 6.3.2.
var standardPorts = Ports{Kerberos: 88, LDAP: 389, LDAPS: 636, Kpasswd: 464, GC: 3268}

// or fills the zero ports of p from o.
func (p Ports) or(o Ports) Ports {
	fill := func(a, b uint16) uint16 {
		if a != 0 {
			return a
		}
		return b
	}
	return Ports{fill(p.Kerberos, o.Kerberos), fill(p.LDAP, o.LDAP), fill(p.LDAPS, o.LDAPS), fill(p.Kpasswd, o.Kpasswd), fill(p.GC, o.GC)}
}

// moved are the standard ports as a controller has them that was started with a port
// offset, such as one without the right to use ports below 1024: all lie as far from
// their standard as LDAP's does. One that would lie beyond the last port is the standard
// one.
func moved(ldap uint16) Ports {
	move := func(standard uint16) uint16 {
		port := int(standard) + int(ldap) - int(standardPorts.LDAP)
		if ldap < standardPorts.LDAP || port > math.MaxUint16 {
			return standard
		}
		return uint16(port)
	}
	s := standardPorts
	return Ports{Kerberos: move(s.Kerberos), LDAP: ldap, LDAPS: move(s.LDAPS), Kpasswd: move(s.Kpasswd), GC: move(s.GC)}
}

// OfKerberos is the element of [Config.Servers] for a controller whose KDC has a port that
// is not the standard one. ok is false for the standard port, and for one that no offset
// explains.
func OfKerberos(host string, port uint16) (server string, ok bool) {
	ldap := int(port) + int(standardPorts.LDAP) - int(standardPorts.Kerberos)
	if port <= standardPorts.Kerberos || ldap > math.MaxUint16 {
		return "", false
	}
	return net.JoinHostPort(host, strconv.Itoa(ldap)), true
}

// Service is one of a controller's services.
type Service int

// The services of a controller.
const (
	Kerberos Service = iota
	LDAP
	LDAPS
	Kpasswd
	GC // LDAP over what every domain of the forest has, on controllers that have a catalog
)

// Need says what a controller must be able to do.
type Need int

const (
	// Any controller of the domain, read-only ones included.
	Any Need = iota
	// Writable takes writes.
	Writable
	// GMSA is writable and of Windows Server 2012 or later: only such a
	// controller answers for a managed password.
	GMSA
	// Catalog has the global catalog: a part of every object of the forest.
	Catalog
)

// meets reports whether a controller with these flags will do.
func (n Need) meets(f adproto.DSFlags) bool {
	switch n {
	case Writable:
		return f.Writable()
	case GMSA:
		return f.Writable() && f.AtLeast2012()
	case Catalog:
		return f&adproto.DSGC != 0
	}
	return true
}

// String names the need for error messages.
func (n Need) String() string {
	switch n {
	case Writable:
		return "writable domain controller"
	case GMSA:
		return "writable domain controller of Windows Server 2012 or later"
	case Catalog:
		return "domain controller with the global catalog"
	}
	return "domain controller"
}

// DialFunc connects, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Config says how to find the controllers of one domain.
type Config struct {
	// Domain is the domain's DNS name.
	Domain string
	// Servers are the controllers to use instead of those that DNS names:
	// host, host:port, address or [address]:port, the port being LDAP's. One that is
	// not 389 says that the controller's other ports lie as far from their standard.
	Servers []string
	// Site is the site to look in first; empty means the one that the first
	// controller reports.
	Site string
	// Suffixes are further DNS suffixes in which a controller's name may lie,
	// for domains with a disjoint namespace.
	Suffixes []string
	// Ports override the ports of DNS and of the standard.
	Ports Ports
	// Resolver asks DNS; nil means a [DNS] with the zero configuration.
	Resolver Resolver
	// Dial connects to controllers, UDP and TCP; nil means a [net.Dialer].
	Dial DialFunc
	// TTL is how long an answer is kept; 0 means 15 minutes.
	TTL time.Duration
	// PingTimeout is how long one controller has to answer; 0 means 2 seconds.
	PingTimeout time.Duration
	// SetAside is how long a controller that failed comes last; 0 means 30
	// seconds.
	SetAside time.Duration
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
}

// Controller is one domain controller, at the address at which it answered.
type Controller struct {
	// Name is its DNS name in lower case. It lies in the configured domain.
	Name string
	// Addr is where it answered.
	Addr netip.Addr
	// Ports are complete: none is zero.
	Ports Ports
	// Flags are what it says of itself.
	Flags adproto.DSFlags
	// Site is its own site, ClientSite the one it takes the asker to be in.
	Site, ClientSite string
	// Domain and Forest are DNS names; NetBIOSDomain and NetBIOSName short ones.
	Domain, Forest, NetBIOSDomain, NetBIOSName string
	DomainGUID                                 dtyp.GUID
	// RTT is how long its answer took.
	RTT time.Duration
	// priority is that of its SRV record, lower first.
	priority uint16
}

// Endpoint is the address and port of a service, for a dialer.
func (c Controller) Endpoint(s Service) string {
	port := [...]uint16{c.Ports.Kerberos, c.Ports.LDAP, c.Ports.LDAPS, c.Ports.Kpasswd, c.Ports.GC}[s]
	return net.JoinHostPort(c.Addr.String(), strconv.Itoa(int(port)))
}

// key tells controllers apart: one host may have several addresses, and in a
// test one address several controllers.
func (c Controller) key() netip.AddrPort { return netip.AddrPortFrom(c.Addr, c.Ports.LDAP) }

// String is the name and the address.
func (c Controller) String() string { return fmt.Sprintf("%s (%s)", c.Name, c.Addr) }

// ErrNoController says that no suitable controller answered.
var ErrNoController = errors.New("no domain controller answers")

// ErrNoRecords says that DNS answers and has no controllers for the domain, so
// that there is probably no such domain.
var ErrNoRecords = errors.New("DNS knows no controller of the domain")

// NoControllerError says what was tried; it is an [ErrNoController].
type NoControllerError struct {
	Domain string
	Need   Need
	// Causes holds one error for each look-up and each controller tried.
	Causes []error
}

// Error names the domain and every cause.
func (e *NoControllerError) Error() string {
	parts := make([]string, len(e.Causes))
	for i, c := range e.Causes {
		parts[i] = c.Error()
	}
	msg := fmt.Sprintf("no %v of %s answers", e.Need, e.Domain)
	if len(parts) > 0 {
		msg += ": " + strings.Join(parts, "; ")
	}
	return msg
}

// Unwrap lets errors.Is find [ErrNoController] and the causes.
func (e *NoControllerError) Unwrap() []error { return append([]error{ErrNoController}, e.Causes...) }

// Hint is the next thing to do.
func (e *NoControllerError) Hint() string {
	return "check that DNS serves _ldap._tcp.dc._msdcs." + e.Domain + ", that UDP and TCP port 389 are open, or name a controller with --dc"
}

// askAgain is how soon a domain whose controllers have all failed is asked anew.
const askAgain = time.Second

// Locator finds the controllers of one domain and remembers them. It is safe
// for concurrent use.
type Locator struct {
	cfg Config

	mu sync.Mutex
	// found is the last answer, best first; never changed in place.
	found   []Controller
	asked   time.Time // when the discovery that made found ended
	expires time.Time
	site    string // learnt from a reply, or configured
	aside   map[netip.AddrPort]time.Time
	flight  chan struct{} // closed when the discovery under way ends; nil if none
}

// New checks the configuration. It sends nothing.
func New(cfg Config) (*Locator, error) {
	cfg.Domain = strings.ToLower(strings.TrimSuffix(cfg.Domain, "."))
	if cfg.Domain == "" || strings.ContainsAny(cfg.Domain, " /\\@:") {
		return nil, fmt.Errorf("locate: bad domain name %q", cfg.Domain)
	}
	cfg.Servers, cfg.Suffixes = slices.Clone(cfg.Servers), slices.Clone(cfg.Suffixes)
	for _, s := range cfg.Servers {
		if _, err := parseServer(s); err != nil {
			return nil, err
		}
	}
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.Resolver == nil {
		cfg.Resolver = &DNS{}
	}
	setDefault(&cfg.TTL, 15*time.Minute)
	setDefault(&cfg.PingTimeout, 2*time.Second)
	setDefault(&cfg.SetAside, 30*time.Second)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Locator{cfg: cfg, site: cfg.Site, aside: map[netip.AddrPort]time.Time{}}, nil
}

func setDefault(d *time.Duration, v time.Duration) {
	if *d <= 0 {
		*d = v
	}
}

// Domain is the domain's DNS name in lower case.
func (l *Locator) Domain() string { return l.cfg.Domain }

// Controllers returns the controllers that meet need, best first: those that
// failed lately last, then those of the own site, by priority and by response
// time. The list has at least one element when err is nil, and is the caller's.
//
// The answer comes from memory while it is fresh. When every suitable
// controller has failed the domain is asked anew; when that fails too, an older
// answer is returned, since DNS may be what is down. Concurrent callers share
// one discovery.
func (l *Locator) Controllers(ctx context.Context, need Need) ([]Controller, error) {
	for {
		l.mu.Lock()
		if list, ok := l.remembered(need); ok {
			l.mu.Unlock()
			return list, nil
		}
		wait := l.flight
		if wait == nil {
			l.flight = make(chan struct{})
			l.mu.Unlock()
			return l.refresh(ctx, need)
		}
		l.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// remembered is the answer from memory, if that will do: it is fresh, and has a
// controller that is not set aside or was asked for only just now. The caller
// holds mu.
func (l *Locator) remembered(need Need) ([]Controller, bool) {
	list, healthy := l.suitable(need)
	now := l.cfg.Now()
	return list, len(list) > 0 && now.Before(l.expires) && (healthy || now.Sub(l.asked) < askAgain)
}

// suitable lists the remembered controllers that meet need. healthy says that
// at least one of them is not set aside. The caller holds mu.
func (l *Locator) suitable(need Need) (list []Controller, healthy bool) {
	now := l.cfg.Now()
	var last []Controller
	for _, c := range l.found {
		switch {
		case !need.meets(c.Flags):
		case now.Before(l.aside[c.key()]):
			last = append(last, c)
		default:
			list = append(list, c)
		}
	}
	return append(list, last...), len(list) > 0
}

// refresh runs one discovery; the caller has set l.flight.
func (l *Locator) refresh(ctx context.Context, need Need) ([]Controller, error) {
	l.mu.Lock()
	site, now := l.site, l.cfg.Now()
	d := &discovery{cfg: &l.cfg, need: need, aside: map[netip.AddrPort]bool{}}
	for addr, until := range l.aside {
		d.aside[addr] = now.Before(until)
	}
	l.mu.Unlock()

	found, err := d.run(ctx, site)

	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.flight)
	l.flight = nil
	if err != nil {
		if old, _ := l.suitable(need); len(old) > 0 && ctx.Err() == nil {
			return old, nil
		}
		return nil, err
	}
	l.found, l.asked = found, l.cfg.Now()
	l.expires = l.asked.Add(l.cfg.TTL)
	if l.cfg.Site == "" {
		l.site = d.site
	}
	for addr, until := range l.aside {
		if !l.cfg.Now().Before(until) {
			delete(l.aside, addr)
		}
	}
	list, _ := l.suitable(need)
	if len(list) == 0 {
		return nil, &NoControllerError{Domain: l.cfg.Domain, Need: need, Causes: d.causes}
	}
	return list, nil
}

// Failed sets a controller aside: it comes last for a while. The caller says so
// when a connection to it broke or never came about.
func (l *Locator) Failed(c Controller) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.aside[c.key()] = l.cfg.Now().Add(l.cfg.SetAside)
}

// Forget drops what is remembered, so that the next call asks anew.
func (l *Locator) Forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expires = time.Time{}
	clear(l.aside)
}

// Site is the site that the domain takes this host to be in; empty until a
// controller has said so.
func (l *Locator) Site() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.site
}
