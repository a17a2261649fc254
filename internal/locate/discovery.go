package locate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// Limits of one discovery.
const (
	maxCandidates = 64                     // addresses that are pinged
	pingStagger   = 10 * time.Millisecond  // between the pings of one priority
	settle        = 120 * time.Millisecond // how long others may follow the first answer
	closestDelay  = 300 * time.Millisecond // how long a lower priority waits for a higher one
)

// candidate is a place where a controller may be.
type candidate struct {
	name     string // empty where only the address is known
	addr     netip.Addr
	ports    Ports
	priority uint16
}

// discovery is one round of look-ups and pings.
type discovery struct {
	cfg    *Config
	need   Need
	causes []error
	aside  map[netip.AddrPort]bool // who failed lately
	site   string                  // what the controllers say
}

// run finds the controllers of the site, and those of the whole domain if that
// has none that will do. A reply that names another site than the one asked for
// leads to one more round there.
func (d *discovery) run(ctx context.Context, site string) ([]Controller, error) {
	if len(d.cfg.Servers) > 0 {
		return d.finish(ctx, d.pingAll(ctx, d.explicit(ctx)))
	}
	var found []Controller
	if site != "" {
		found = d.pingAll(ctx, d.fromDNS(ctx, site))
	}
	if !slices.ContainsFunc(found, func(c Controller) bool { return d.need.meets(c.Flags) && !d.aside[c.key()] }) {
		found = merge(found, d.pingAll(ctx, d.fromDNS(ctx, "")))
	}
	if d.cfg.Site == "" && d.site != "" && !strings.EqualFold(d.site, site) && !slices.ContainsFunc(found, inOwnSite) {
		found = merge(d.pingAll(ctx, d.fromDNS(ctx, d.site)), found)
	}
	return d.finish(ctx, found)
}

func inOwnSite(c Controller) bool { return c.Flags&adproto.DSClosest != 0 }

// enough reports whether one of the controllers meets the need.
func (d *discovery) enough(found []Controller) bool {
	return slices.ContainsFunc(found, func(c Controller) bool { return d.need.meets(c.Flags) })
}

// finish sorts the answer, or says why there is none.
func (d *discovery) finish(ctx context.Context, found []Controller) ([]Controller, error) {
	if ctx.Err() != nil && len(found) == 0 {
		d.causes = append(d.causes, context.Cause(ctx))
	}
	if !d.enough(found) {
		for _, c := range found {
			d.causes = append(d.causes, fmt.Errorf("%v is no %v (flags %v)", c, d.need, c.Flags))
		}
		return nil, &NoControllerError{Domain: d.cfg.Domain, Need: d.need, Causes: d.causes}
	}
	slices.SortStableFunc(found, func(a, b Controller) int {
		far := func(c Controller) int { return 1 - int(c.Flags&adproto.DSClosest/adproto.DSClosest) }
		return cmp.Or(cmp.Compare(far(a), far(b)), cmp.Compare(a.priority, b.priority), cmp.Compare(a.RTT, b.RTT))
	})
	return found, nil
}

// merge appends the controllers of b that a does not have.
func merge(a, b []Controller) []Controller {
	for _, c := range b {
		if !slices.ContainsFunc(a, func(o Controller) bool { return o.key() == c.key() }) {
			a = append(a, c)
		}
	}
	return a
}

// server is one element of Config.Servers.
type server struct {
	host string // a name; empty with an address
	addr netip.Addr
	port uint16
}

// parseServer reads host, host:port, address or [address]:port.
func parseServer(s string) (server, error) {
	host, port := s, ""
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	var out server
	if port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return server{}, fmt.Errorf("locate: bad port in server %q", s)
		}
		out.port = uint16(n)
	}
	if a, err := netip.ParseAddr(host); err == nil {
		out.addr = a.Unmap()
		return out, nil
	}
	if host == "" || strings.ContainsAny(host, ":/ []@") {
		return server{}, fmt.Errorf("locate: bad server %q: want host, host:port, address or [address]:port", s)
	}
	out.host = canonical(host)
	return out, nil
}

// explicit makes candidates of Config.Servers, in their order.
func (d *discovery) explicit(ctx context.Context) []candidate {
	var out []candidate
	for i, s := range d.cfg.Servers {
		srv, err := parseServer(s)
		if err != nil {
			d.causes = append(d.causes, err)
			continue
		}
		ports := d.cfg.Ports
		if srv.port != 0 {
			ports.LDAP = srv.port
			ports = ports.or(moved(srv.port))
		}
		addrs := []netip.Addr{srv.addr}
		if srv.host != "" {
			if addrs, err = d.cfg.Resolver.LookupHost(ctx, srv.host); err != nil || len(addrs) == 0 {
				d.causes = append(d.causes, cmp.Or(err, fmt.Errorf("%s has no address", srv.host)))
			}
		}
		for _, a := range addrs {
			out = append(out, candidate{name: srv.host, addr: a, ports: ports.or(standardPorts), priority: uint16(i)})
		}
	}
	return limit(out, maxCandidates)
}

// fromDNS makes candidates of the service records of a site, or of the whole
// domain when site is empty: [MS-ADTS] 6.3.2.3. The records of Kerberos and
// kpasswd give those services' ports, and Kerberos' stand in for LDAP's where
// there are none.
func (d *discovery) fromDNS(ctx context.Context, site string) []candidate {
	scope := "dc._msdcs." + d.cfg.Domain
	if site != "" {
		scope = site + "._sites." + scope
	}
	type answer struct {
		records []SRV
		err     error
	}
	names := []string{"_ldap._tcp." + scope, "_kerberos._tcp." + scope, "_kpasswd._tcp." + d.cfg.Domain}
	answers := make([]answer, len(names))
	done := make(chan struct{})
	for i, name := range names {
		go func() {
			records, err := d.cfg.Resolver.LookupSRV(ctx, name)
			answers[i] = answer{records, err}
			done <- struct{}{}
		}()
	}
	for range names {
		<-done
	}
	ldap, kerberos, kpasswd := answers[0], answers[1].records, answers[2].records
	records := ldap.records
	if len(records) == 0 {
		d.causes = append(d.causes, cmp.Or(ldap.err, fmt.Errorf("%w: no %s", ErrNoRecords, names[0])))
		records = slices.Clone(kerberos)
		for i := range records {
			records[i].Port = 0
		}
	}
	var out []candidate
	for _, r := range orderSRV(records, rand.IntN) {
		if err := d.cfg.nameAllowed(r.Target); err != nil {
			d.causes = append(d.causes, err)
			continue
		}
		ports := d.cfg.Ports.or(Ports{LDAP: r.Port, Kerberos: portOf(kerberos, r.Target), Kpasswd: portOf(kpasswd, r.Target)})
		out = append(out, d.addresses(ctx, r, ports.or(standardPorts), r.Priority)...)
	}
	return limit(out, maxCandidates)
}

func portOf(records []SRV, target string) uint16 {
	for _, r := range records {
		if r.Target == target {
			return r.Port
		}
	}
	return 0
}

// addresses makes a candidate of each address of a record's target.
func (d *discovery) addresses(ctx context.Context, r SRV, ports Ports, priority uint16) []candidate {
	addrs := r.Addrs
	if len(addrs) == 0 {
		var err error
		if addrs, err = d.cfg.Resolver.LookupHost(ctx, r.Target); err != nil || len(addrs) == 0 {
			d.causes = append(d.causes, cmp.Or(err, fmt.Errorf("%s has no address", r.Target)))
		}
	}
	var out []candidate
	for _, a := range addrs {
		out = append(out, candidate{name: r.Target, addr: a, ports: ports, priority: priority})
	}
	return out
}

// ErrForeignName is a controller whose name lies outside the domain.
var ErrForeignName = errors.New("name lies outside the domain")

// nameAllowed reports whether a controller may be called name: a host directly
// or deeper below the domain, or below one of the suffixes.
func (c *Config) nameAllowed(name string) error {
	name = canonical(name)
	for _, suffix := range append([]string{c.Domain}, c.Suffixes...) {
		if host, ok := strings.CutSuffix(name, "."+canonical(suffix)); ok && host != "" && !strings.ContainsAny(name, "/@: ") {
			return nil
		}
	}
	return fmt.Errorf("domain controller %q of %s: %w", name, c.Domain, ErrForeignName)
}

// pingAll pings the candidates side by side and returns those that answer as
// controllers of the domain. It waits a moment for others after the first
// suitable answer, so that response times can be compared, and not for the
// dead.
func (d *discovery) pingAll(ctx context.Context, candidates []candidate) []Controller {
	type result struct {
		c   Controller
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.PingTimeout)
	defer cancel()
	results := make(chan result)
	lowest := uint16(0xffff)
	for _, c := range candidates {
		lowest = min(lowest, c.priority)
	}
	for i, c := range candidates {
		delay := time.Duration(i) * pingStagger
		if c.priority > lowest && len(d.cfg.Servers) == 0 {
			delay += closestDelay
		}
		go func() {
			r, err := d.pingOne(ctx, delay, c)
			results <- result{r, err}
		}()
	}
	var found []Controller
	suitable := false
	settled := time.NewTimer(d.cfg.PingTimeout)
	defer settled.Stop()
	for waiting := len(candidates); waiting > 0; {
		select {
		case r := <-results:
			waiting--
			if r.err != nil {
				if ctx.Err() == nil || len(found) == 0 {
					d.causes = append(d.causes, r.err)
				}
				continue
			}
			d.learnSite(r.c)
			found = append(found, r.c)
			if !suitable && d.need.meets(r.c.Flags) {
				suitable = true
				settled.Reset(settle)
			}
		case <-settled.C:
			cancel()
		}
	}
	return found
}

func (d *discovery) learnSite(c Controller) {
	if d.site == "" && c.ClientSite != "" && !strings.ContainsAny(c.ClientSite, ". ") {
		d.site = c.ClientSite
	}
}

// pingOne waits for its turn and asks one candidate.
func (d *discovery) pingOne(ctx context.Context, delay time.Duration, c candidate) (Controller, error) {
	where := net.JoinHostPort(c.addr.String(), strconv.Itoa(int(c.ports.LDAP)))
	if c.name != "" {
		where = c.name + " at " + where
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return Controller{}, fmt.Errorf("%s: not asked: %w", where, context.Cause(ctx))
	}
	start := time.Now() // a duration on the machine's own clock, whatever Config.Now says
	r, err := ping(ctx, d.cfg.Dial, Controller{Addr: c.addr, Ports: c.ports}.Endpoint(LDAP), pingFor(d.cfg.Domain))
	if err != nil {
		return Controller{}, fmt.Errorf("%s: %w", where, err)
	}
	found, err := d.controller(c, r)
	if err != nil {
		return Controller{}, fmt.Errorf("%s: %w", where, err)
	}
	found.RTT = time.Since(start)
	return found, nil
}

// controller checks a reply: [MS-ADTS] 6.3.3.2, and the name by the rule of the
// package comment.
func (d *discovery) controller(c candidate, r adproto.PingReply) (Controller, error) {
	if r.Paused() {
		return Controller{}, errors.New("the controller says that it is not ready")
	}
	if !strings.EqualFold(r.Domain, d.cfg.Domain) {
		return Controller{}, fmt.Errorf("it is a controller of %q, not of %s", r.Domain, d.cfg.Domain)
	}
	name := canonical(r.HostName)
	if err := d.cfg.nameAllowed(name); err != nil {
		return Controller{}, err
	}
	return Controller{
		Name: name, Addr: c.addr, Ports: c.ports, Flags: r.Flags, Site: r.Site, ClientSite: r.ClientSite,
		Domain: canonical(r.Domain), Forest: canonical(r.Forest), NetBIOSDomain: r.NetBIOSDomain, NetBIOSName: r.NetBIOSHost,
		DomainGUID: r.DomainGUID, priority: c.priority,
	}, nil
}
