package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// placeFacts is one network: what is known of its name servers and controllers.
type placeFacts struct {
	Place

	servers     []string      // resolver
	srv         []locate.SRV  // dns-srv
	controllers []*controller // dns-forward, or the configuration
}

// controller is one domain controller as it was found in one network.
type controller struct {
	name  string
	addr  netip.Addr
	shift int // of its ports from the standard ones

	// what reach measured
	ports map[string]probeResult
	ping  *adproto.PingReply
	skew  *time.Duration
	tls   *tls.ConnectionState
}

type probeResult struct {
	err  error
	took time.Duration
}

func (c *controller) String() string {
	if c.name == "" || c.name == c.addr.String() {
		return c.addr.String()
	}
	return fmt.Sprintf("%s (%s)", c.name, c.addr)
}

// address is where a service of the controller listens.
func (c *controller) address(port int) string {
	return netip.AddrPortFrom(c.addr, uint16(port+c.shift)).String()
}

// answers reports whether anything of the controller answered.
func (c *controller) answers() bool {
	for id, r := range c.ports {
		if r.err == nil && (id != "port-ldaps" || c.tls != nil) { // the kernel accepts connections for a program that hangs
			return true
		}
	}
	return false
}

// port is one row of the guide's table of ports.
type port struct {
	id, network string
	number      int
	name        string
	guide       string
	probe       func(ctx context.Context, s *shared, p *placeFacts, c *controller, address string) error
}

// portTable is the table, with the password service, which computers need to change
// their own password. Port 53 is the name servers', which need not be controllers.
var portTable = []port{
	{"port-kerberos-tcp", "tcp", 88, "Kerberos", "5:164", probeKerberos("tcp")},
	{"port-kerberos-udp", "udp", 88, "Kerberos", "5:164", probeKerberos("udp")},
	{"port-ldap-tcp", "tcp", 389, "LDAP", "5:166", probePing("tcp")},
	{"port-ldap-udp", "udp", 389, "LDAP", "5:166", probePing("udp")},
	{"port-ldaps", "tcp", 636, "LDAP over TLS", "5:167", probeTLS},
	{"port-kpasswd-tcp", "tcp", 464, "the password service", "", probePassword("tcp")},
	{"port-kpasswd-udp", "udp", 464, "the password service", "", probePassword("udp")},
}

func probeKerberos(network string) func(context.Context, *shared, *placeFacts, *controller, string) error {
	return func(ctx context.Context, s *shared, p *placeFacts, c *controller, address string) error {
		skew, err := p.kerberosTime(ctx, network, address, s.domain.Realm(), s.now)
		if err == nil && network == "tcp" {
			c.skew = &skew
		}
		return err
	}
}

func probePing(network string) func(context.Context, *shared, *placeFacts, *controller, string) error {
	return func(ctx context.Context, s *shared, p *placeFacts, c *controller, address string) error {
		r, err := p.ping(ctx, network, address, s.domain.Name())
		if err == nil && network == "tcp" {
			c.ping = &r
		}
		return err
	}
}

func probePassword(network string) func(context.Context, *shared, *placeFacts, *controller, string) error {
	return func(ctx context.Context, s *shared, p *placeFacts, _ *controller, address string) error {
		return p.passwordPort(ctx, network, address, s.domain.Realm())
	}
}

// probeTLS wants a connection; what TLS says on it is for the check of certificates.
func probeTLS(ctx context.Context, _ *shared, p *placeFacts, c *controller, address string) error {
	conn, err := connect(ctx, p.Dial, "tcp", address)
	if err != nil {
		return err
	}
	conn.Close()
	if c.tls, err = p.handshake(ctx, address, c.name); errors.Is(err, errSilent) {
		return err
	}
	return nil
}

// otherPorts are of interest to some programs; nothing here needs them.
var otherPorts = map[int]string{135: "RPC", 139: "NetLogon", 445: "SMB", 3268: "global catalog"}

// reach asks every controller at every port, all at once.
func reach(ctx context.Context, f *Facts) []Finding {
	p := f.place
	if len(p.controllers) == 0 {
		p.controllers = given(ctx, f)
	}
	var wg sync.WaitGroup
	for _, c := range p.controllers {
		c.ports = map[string]probeResult{}
		var mu sync.Mutex
		for _, row := range portTable {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, probeTime)
				defer cancel()
				start := time.Now()
				err := row.probe(ctx, f.shared, p, c, c.address(row.number))
				mu.Lock()
				defer mu.Unlock()
				c.ports[row.id] = probeResult{err, time.Since(start)}
			})
		}
	}
	wg.Wait()
	return reached(p.controllers)
}

// reached judges what reach measured.
func reached(all []*controller) []Finding {
	var silent, good []Finding
	var names []string
	for _, c := range all {
		if c.answers() {
			names = append(names, c.String())
			continue
		}
		// A refused connection says more than a dropped one.
		err := c.ports["port-ldap-tcp"].err
		silent = append(silent, wrong("%v answers at no port", c).because("LDAP: "+blocked(err)).
			mend("start or repair the controller, or remove its records: samba-tool domain demote, or Active Directory Sites and Services").
			mend("gmsa doctor --dc HOST  # looks at another controller"))
	}
	switch {
	case len(all) == 0:
		return []Finding{wrong("there is no controller to ask")}
	case len(names) == 0:
		return silent
	}
	good = append(good, ok("%d of %d controllers answer", len(names), len(all)).because(names...))
	for _, s := range silent {
		s.Severity = Warning // the others do the work
		good = append(good, s)
	}
	return good
}

// given are the controllers of the configuration.
func given(ctx context.Context, f *Facts) (list []*controller) {
	for _, s := range f.cfg.Servers {
		host, shift := s, 0
		if h, portText, err := net.SplitHostPort(s); err == nil {
			if n, err := strconv.Atoi(portText); err == nil {
				host, shift = h, n-389
			}
		}
		host = strings.Trim(host, "[]")
		a, err := netip.ParseAddr(host)
		addrs := []netip.Addr{a}
		if err != nil {
			// As every program finds a host, by /etc/hosts too.
			addrs, _ = new(locate.DNS).LookupHost(ctx, host)
		}
		for _, a := range addrs {
			list = append(list, &controller{name: strings.ToLower(host), addr: a, shift: shift})
		}
	}
	return list
}

// portCheck judges one row of the table for the controllers that answer at all.
func portCheck(row port) func(context.Context, *Facts) []Finding {
	return func(_ context.Context, f *Facts) []Finding {
		var list []Finding
		var good []string
		for _, c := range f.place.controllers {
			r, asked := c.ports[row.id]
			switch {
			case !asked || !c.answers():
			case r.err != nil:
				list = append(list, wrong("%s does not answer at %s %d (%s)", c, strings.ToUpper(row.network), row.number+c.shift, row.name).
					because(blocked(r.err)).
					mend("allow %s %d from %s to %s in every firewall between them", strings.ToUpper(row.network), row.number+c.shift, f.place.Name, c.addr))
			default:
				good = append(good, fmt.Sprintf("%v: %d ms", c, r.took.Milliseconds()))
			}
		}
		if len(good) > 0 {
			list = append(list, ok("%s %d answers", strings.ToUpper(row.network), row.number).because(good...))
		}
		return list
	}
}

// portsElse tells of the ports that nothing here needs.
func portsElse(ctx context.Context, f *Facts) []Finding {
	var mu sync.Mutex
	var lines []string
	var wg sync.WaitGroup
	for _, c := range f.place.controllers {
		for number, name := range otherPorts {
			if !c.answers() {
				continue
			}
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, probeTime/2)
				defer cancel()
				state := "open"
				if conn, err := connect(ctx, f.place.Dial, "tcp", c.address(number)); err != nil {
					state = "not open"
				} else {
					conn.Close()
				}
				mu.Lock()
				defer mu.Unlock()
				lines = append(lines, fmt.Sprintf("%v: TCP %d (%s) is %s", c, number, name, state))
			})
		}
	}
	wg.Wait()
	slices.Sort(lines)
	return []Finding{info("other ports, for programs that use them").because(lines...)}
}

// maxSkew is how far clocks may differ: RFC 4120, Section 8.2, and the default of
// Active Directory.
const maxSkew = 5 * time.Minute

// clock compares this machine's clock with each controller's.
func clock(_ context.Context, f *Facts) []Finding {
	var list []Finding
	for _, c := range f.place.controllers {
		if c.skew == nil {
			continue
		}
		skew := c.skew.Round(time.Second)
		words := fmt.Sprintf("the clock here is %v behind %v", skew, c)
		if skew < 0 {
			words = fmt.Sprintf("the clock here is %v ahead of %v", -skew, c)
		}
		switch {
		case skew.Abs() > maxSkew:
			list = append(list, wrong("%s; Kerberos allows %v", words, maxSkew).
				mend("timedatectl set-ntp true, or chronyc makestep").mend("compare both with a third clock: it may be the controller's that is wrong"))
		case skew.Abs() > maxSkew/5:
			list = append(list, warning("%s", words).mend("timedatectl set-ntp true"))
		default:
			list = append(list, ok("%v: %v apart", c, skew.Abs()))
		}
	}
	if len(list) == 0 {
		return []Finding{info("no controller told its time")}
	}
	return list
}

// capability wants a controller that gives out managed passwords.
func capability(_ context.Context, f *Facts) []Finding {
	var lines []string
	able := 0
	for _, c := range f.place.controllers {
		if c.ping == nil {
			continue
		}
		x := c.ping
		state := "gives out managed passwords"
		switch {
		case !x.Flags.AtLeast2012():
			state = "is older than Windows Server 2012"
		case !x.Flags.Writable():
			state = "is read-only"
		case x.Paused():
			state = "is not ready"
		case !strings.EqualFold(x.Domain, f.domain.Name()):
			state = "serves " + x.Domain
		default:
			able++
		}
		lines = append(lines, fmt.Sprintf("%v %s (site %s)", c, state, x.Site))
	}
	if able == 0 {
		return []Finding{wrong("no controller of %s gives out managed passwords: it takes a writable one of Windows Server 2012 or later, or Samba 4.22", f.domain.Name()).
			because(lines...).mend("add a controller of a newer Windows Server, or Samba of 4.22 or later")}
	}
	return []Finding{ok("%d controllers give out managed passwords", able).because(lines...)}
}
