package dnsd

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
)

// Times to live, in seconds. Those of AD's own records are 600 and 3600; a name that is
// missing is asked for again soon, because somebody may just be registering it.
const (
	ttl         = 600
	ttlNegative = 60
)

// names are the records that do not change while the server runs. Keys are names in
// lower case with the root's dot.
type names struct {
	domain  string
	zones   []string
	records map[string][]dns.RR
	// nodes are the names that have records and all above them: a name between others
	// exists though it has nothing of its own (RFC 4592, Section 2.2.2).
	nodes map[string]bool
	host  string // the controller's name
}

func newNames(cfg Config) *names {
	d := cfg.Directory.Domain()
	n := &names{domain: key(d.DNSName), host: key(d.HostName()), records: map[string][]dns.RR{}, nodes: map[string]bool{}}
	n.zone(n.domain)
	n.addresses(n.host, cfg.Addresses)
	for _, alias := range []string{n.domain, "gc._msdcs." + n.domain} {
		n.addresses(alias, cfg.Addresses)
	}
	for _, s := range services(d, cfg.Ports) {
		name := s.name + "." + n.domain
		n.add(&dns.SRV{Hdr: header(name, dns.TypeSRV), Priority: 0, Weight: 100, Port: s.port, Target: n.host})
	}
	n.reverse(n.host, cfg.Addresses)
	for _, name := range slices.Sorted(maps.Keys(cfg.Hosts)) {
		host := n.absolute(name)
		if n.zoneOf(host) == "" {
			n.zone(host)
		}
		n.addresses(host, cfg.Hosts[name])
		n.reverse(host, cfg.Hosts[name])
	}
	return n
}

// key is a name as the maps have it.
func key(name string) string { return dns.CanonicalName(name) }

func (n *names) absolute(name string) string {
	if !strings.Contains(strings.TrimSuffix(name, "."), ".") {
		return key(strings.TrimSuffix(name, ".") + "." + n.domain)
	}
	return key(name)
}

// service is a name with which a port is found.
type service struct {
	name string
	port uint16
}

// services are the names of [MS-ADTS] 6.3.2.3 for a controller that is all there is:
// each with its site and without, and those of the password service.
func services(d directory.Domain, p Ports) []service {
	kdc, kpasswd, ldap, gc := cmp.Or(p.Kerberos, 88), cmp.Or(p.Kpasswd, 464), cmp.Or(p.LDAP, 389), cmp.Or(p.GC, 3268)
	site := d.Site + "._sites"
	return []service{
		{"_ldap._tcp", ldap},
		{"_ldap._tcp." + site, ldap},
		{"_ldap._tcp.dc._msdcs", ldap},
		{"_ldap._tcp." + site + ".dc._msdcs", ldap},
		{"_ldap._tcp.pdc._msdcs", ldap},
		{"_ldap._tcp." + d.GUID.String() + ".domains._msdcs", ldap},
		{"_ldap._tcp.gc._msdcs", gc},
		{"_ldap._tcp." + site + ".gc._msdcs", gc},
		{"_gc._tcp", gc},
		{"_gc._tcp." + site, gc},
		{"_kerberos._tcp", kdc},
		{"_kerberos._udp", kdc},
		{"_kerberos._tcp." + site, kdc},
		{"_kerberos._tcp.dc._msdcs", kdc},
		{"_kerberos._tcp." + site + ".dc._msdcs", kdc},
		{"_kpasswd._tcp", kpasswd},
		{"_kpasswd._udp", kpasswd},
	}
}

func header(name string, t uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
}

// add stores a record.
func (n *names) add(rr dns.RR) {
	name := key(rr.Header().Name)
	rr.Header().Name = name
	n.records[name] = append(n.records[name], rr)
	zone := n.zoneOf(name)
	for at := name; at != zone; at = parent(at) {
		n.nodes[at] = true
	}
	n.nodes[zone] = true
}

// parent is the name without its first label.
func parent(name string) string {
	_, rest, _ := strings.Cut(name, ".")
	return rest
}

// zone begins a zone: its SOA and NS.
func (n *names) zone(apex string) {
	if slices.Contains(n.zones, apex) {
		return
	}
	n.zones = append(n.zones, apex)
	n.add(&dns.SOA{Hdr: header(apex, dns.TypeSOA), Ns: n.host, Mbox: "hostmaster." + n.domain,
		Serial: 1, Refresh: 900, Retry: 600, Expire: 86400, Minttl: ttlNegative})
	n.add(&dns.NS{Hdr: header(apex, dns.TypeNS), Ns: n.host})
}

// zoneOf is the nearest zone that holds the name, empty for none.
func (n *names) zoneOf(name string) (nearest string) {
	for _, z := range n.zones {
		if len(z) > len(nearest) && dns.IsSubDomain(z, name) {
			nearest = z
		}
	}
	return nearest
}

// addresses stores a name's addresses.
func (n *names) addresses(name string, list []netip.Addr) {
	for _, a := range list {
		n.add(addressRecord(name, a))
	}
}

// addressRecord is an A or AAAA.
func addressRecord(name string, a netip.Addr) dns.RR {
	if a = a.Unmap(); a.Is4() {
		return &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()}
	}
	return &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()}
}

// reverse stores the way back from a name's addresses. OpenLDAP's clients name the
// service by what they find there, so that an address has one name: the first that it
// was given, which for the controller's is its own.
func (n *names) reverse(name string, list []netip.Addr) {
	for _, a := range list {
		arpa, err := dns.ReverseAddr(a.Unmap().WithZone("").String())
		if err != nil || len(n.records[arpa]) > 0 {
			continue
		}
		n.zone(reverseZone(arpa))
		n.add(&dns.PTR{Hdr: header(arpa, dns.TypePTR), Ptr: name})
	}
}

// reverseZone is the zone in which an address's name lies: that of its network of 24
// bits, of 64 with IPv6.
func reverseZone(arpa string) string {
	labels := 1
	if strings.HasSuffix(arpa, ".ip6.arpa.") {
		labels = 16
	}
	for range labels {
		arpa = parent(arpa)
	}
	return arpa
}
