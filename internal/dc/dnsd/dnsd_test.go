package dnsd_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/dnsd"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newDomain is a domain, its GUID and the GUID of its controller's NTDS Settings.
func newDomain(t testing.TB) (d *directory.Directory, domain, settings dtyp.GUID) {
	t.Helper()
	d = dctest.New(t).Directory
	name := "CN=NTDS Settings,CN=DC1,CN=Servers,CN=Default-First-Site-Name,CN=Sites," + d.Domain().ConfigurationDN().String()
	dn, err := adproto.ParseDN(name)
	if err != nil {
		t.Fatal(err)
	}
	err = d.View(t.Context(), func(r *directory.Reader) error {
		settings, err = r.Resolve(dn)
		return err
	})
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d, d.Domain().GUID, settings
}

// newServer makes a server, of a domain of its own where the test has none.
func newServer(t testing.TB, cfg dnsd.Config) *dnsd.Server {
	t.Helper()
	if cfg.Directory == nil {
		cfg.Directory, _, _ = newDomain(t)
	}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	return dnsd.New(cfg)
}

// run runs what serves until the test ends.
func run(t testing.TB, serve ...func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, len(serve))
	for _, f := range serve {
		go func() { done <- f(ctx) }()
	}
	t.Cleanup(func() {
		cancel()
		for range serve {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// serve runs a server over UDP and TCP on the port of an address, 0 for any.
func serve(t testing.TB, cfg dnsd.Config, address netip.Addr, port uint16) netip.AddrPort {
	t.Helper()
	if cfg.Addresses == nil {
		cfg.Addresses = []netip.Addr{address, netip.MustParseAddr("2001:db8::10")}
	}
	s := newServer(t, cfg)
	l, err := net.Listen("tcp", netip.AddrPortFrom(address, port).String())
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	conn, err := net.ListenPacket("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return s.Serve(ctx, l) }, func(ctx context.Context) error { return s.ServePacket(ctx, conn) })
	return at
}

var loopback = netip.MustParseAddr("127.0.0.1")

// hosts are the names beside the controller's.
var hosts = map[string][]netip.Addr{
	"web1":              {netip.MustParseAddr("127.0.0.21")},
	"App.contoso.com.":  {netip.MustParseAddr("192.0.2.30"), netip.MustParseAddr("2001:db8::30")},
	"demo.example.test": {netip.MustParseAddr("127.0.0.22")},
}

// ask puts one question and gives the answer.
func ask(t testing.TB, at netip.AddrPort, network, name string, qtype uint16) *dns.Msg {
	t.Helper()
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	c := dns.Client{Net: network, Timeout: 5 * time.Second}
	m, _, err := c.Exchange(q, at.String())
	if err != nil {
		t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
	}
	return m
}

// data is what the records of an answer say, without names and times.
func data(records []dns.RR) []string {
	var out []string
	for _, rr := range records {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	return out
}

func TestTheNamesThatClientsAskFor(t *testing.T) {
	d, domain, settings := newDomain(t)
	at := serve(t, dnsd.Config{Directory: d, Hosts: hosts}, loopback, 0)
	const site = "Default-First-Site-Name._sites"
	for _, c := range []struct {
		name  string
		qtype uint16
		want  []string
	}{
		{"_ldap._tcp.contoso.com", dns.TypeSRV, []string{"0 100 389 dc1.contoso.com."}},
		{"_ldap._tcp." + site + ".contoso.com", dns.TypeSRV, []string{"0 100 389 dc1.contoso.com."}},
		{"_ldap._tcp.dc._msdcs.contoso.com", dns.TypeSRV, []string{"0 100 389 dc1.contoso.com."}},
		{"_ldap._tcp." + site + ".dc._msdcs.contoso.com", dns.TypeSRV, []string{"0 100 389 dc1.contoso.com."}},
		{"_ldap._tcp.pdc._msdcs.contoso.com", dns.TypeSRV, []string{"0 100 389 dc1.contoso.com."}},
		{"_ldap._tcp." + domain.String() + ".domains._msdcs.contoso.com", dns.TypeSRV, []string{"0 100 389 dc1.contoso.com."}},
		{"_ldap._tcp.gc._msdcs.contoso.com", dns.TypeSRV, []string{"0 100 3268 dc1.contoso.com."}},
		{"_ldap._tcp." + site + ".gc._msdcs.contoso.com", dns.TypeSRV, []string{"0 100 3268 dc1.contoso.com."}},
		{"_gc._tcp.contoso.com", dns.TypeSRV, []string{"0 100 3268 dc1.contoso.com."}},
		{"_gc._tcp." + site + ".contoso.com", dns.TypeSRV, []string{"0 100 3268 dc1.contoso.com."}},
		{"_kerberos._udp.CONTOSO.COM", dns.TypeSRV, []string{"0 100 88 dc1.contoso.com."}},
		{"_kerberos._tcp.contoso.com", dns.TypeSRV, []string{"0 100 88 dc1.contoso.com."}},
		{"_kerberos._tcp." + site + ".contoso.com", dns.TypeSRV, []string{"0 100 88 dc1.contoso.com."}},
		{"_kerberos._tcp.dc._msdcs.contoso.com", dns.TypeSRV, []string{"0 100 88 dc1.contoso.com."}},
		{"_kerberos._tcp." + site + ".dc._msdcs.contoso.com", dns.TypeSRV, []string{"0 100 88 dc1.contoso.com."}},
		{"_kpasswd._udp.contoso.com", dns.TypeSRV, []string{"0 100 464 dc1.contoso.com."}},
		{"_kpasswd._tcp.contoso.com", dns.TypeSRV, []string{"0 100 464 dc1.contoso.com."}},
		{"contoso.com", dns.TypeA, []string{"127.0.0.1"}},
		{"DC1.Contoso.Com", dns.TypeA, []string{"127.0.0.1"}},
		{"dc1.contoso.com", dns.TypeAAAA, []string{"2001:db8::10"}},
		{"gc._msdcs.contoso.com", dns.TypeA, []string{"127.0.0.1"}},
		{"contoso.com", dns.TypeNS, []string{"dc1.contoso.com."}},
		{"contoso.com", dns.TypeSOA, []string{"dc1.contoso.com. hostmaster.contoso.com. 1 900 600 86400 60"}},
		{"1.0.0.127.in-addr.arpa", dns.TypePTR, []string{"dc1.contoso.com."}},
		{"0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa", dns.TypePTR, []string{"dc1.contoso.com."}},
		{settings.String() + "._msdcs.contoso.com", dns.TypeA, []string{"127.0.0.1", "dc1.contoso.com."}},
		{settings.String() + "._msdcs.contoso.com", dns.TypeCNAME, []string{"dc1.contoso.com."}},
		{"web1.contoso.com", dns.TypeA, []string{"127.0.0.21"}},
		{"app.contoso.com", dns.TypeAAAA, []string{"2001:db8::30"}},
		{"demo.example.test", dns.TypeA, []string{"127.0.0.22"}},
		{"21.0.0.127.in-addr.arpa", dns.TypePTR, []string{"web1.contoso.com."}},
		{"30.2.0.192.in-addr.arpa", dns.TypePTR, []string{"app.contoso.com."}},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := ask(t, at, network, c.name, c.qtype)
			if got := data(m.Answer); m.Rcode != dns.RcodeSuccess || !slices.Equal(got, c.want) || !m.Authoritative || m.Truncated {
				t.Errorf("%s %s over %s: %s %q, want %q", c.name, dns.TypeToString[c.qtype], network, dns.RcodeToString[m.Rcode], got, c.want)
			}
			for _, rr := range m.Answer[:min(1, len(m.Answer))] {
				if rr.Header().Name != dns.Fqdn(c.name) {
					t.Errorf("%s is answered as %s", c.name, rr.Header().Name)
				}
			}
			if c.qtype == dns.TypeSRV && !slices.Equal(data(m.Extra), []string{"127.0.0.1", "2001:db8::10"}) {
				t.Errorf("%s: beside the answer %q", c.name, data(m.Extra))
			}
		}
	}
}

func TestWhatIsMissingIsSaidAtOnce(t *testing.T) {
	d, domain, _ := newDomain(t)
	at := serve(t, dnsd.Config{Directory: d, Hosts: hosts}, loopback, 0)
	for _, c := range []struct {
		name  string
		qtype uint16
		rcode int
		soa   string // the zone that says for how long
	}{
		{"_kerberos-master._udp.contoso.com", dns.TypeSRV, dns.RcodeNameError, "contoso.com."},
		{"_kerberos.contoso.com", dns.TypeURI, dns.RcodeNameError, "contoso.com."},
		{"nobody.contoso.com", dns.TypeA, dns.RcodeNameError, "contoso.com."},
		{dtyp.GUID{1}.String() + "._msdcs.contoso.com", dns.TypeA, dns.RcodeNameError, "contoso.com."},
		{domain.String() + "._msdcs.contoso.com", dns.TypeA, dns.RcodeNameError, "contoso.com."},
		{"web1.contoso.com", dns.TypeAAAA, dns.RcodeSuccess, "contoso.com."},
		{"dc1.contoso.com", dns.TypeTXT, dns.RcodeSuccess, "contoso.com."},
		{"_tcp.contoso.com", dns.TypeSRV, dns.RcodeSuccess, "contoso.com."},
		{"_msdcs.contoso.com", dns.TypeSOA, dns.RcodeSuccess, "contoso.com."},
		{"99.0.0.127.in-addr.arpa", dns.TypePTR, dns.RcodeNameError, "0.0.127.in-addr.arpa."},
		{"sub.demo.example.test", dns.TypeA, dns.RcodeNameError, "demo.example.test."},
		{"example.test", dns.TypeA, dns.RcodeRefused, ""},
		{"_kerberos.com", dns.TypeTXT, dns.RcodeRefused, ""},
		{"www.example.com", dns.TypeA, dns.RcodeRefused, ""},
		{"xcontoso.com", dns.TypeA, dns.RcodeRefused, ""},
		{"1.2.0.198.in-addr.arpa", dns.TypePTR, dns.RcodeRefused, ""},
		{".", dns.TypeNS, dns.RcodeRefused, ""},
		{"www.example.com", dns.TypeAAAA, dns.RcodeRefused, ""},
		{"_ldap._tcp.fabrikam.com", dns.TypeSRV, dns.RcodeRefused, ""},
		{"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.9.b.d.0.1.0.0.2.ip6.arpa", dns.TypePTR, dns.RcodeRefused, ""},
		{"contoso.com", dns.TypeAXFR, dns.RcodeRefused, ""},
	} {
		for _, network := range []string{"udp", "tcp"} {
			m := ask(t, at, network, c.name, c.qtype)
			soa := ""
			if len(m.Ns) == 1 {
				soa = m.Ns[0].Header().Name
			}
			if m.Rcode != c.rcode || len(m.Answer) != 0 || soa != c.soa {
				t.Errorf("%s %s over %s: %s, %d records, SOA of %q", c.name, dns.TypeToString[c.qtype], network, dns.RcodeToString[m.Rcode], len(m.Answer), soa)
			}
		}
	}
}

// TestAnyComesOverTCP: as credentials-fetcher asks; over UDP it would be what a
// reflected flood is made of.
func TestAnyComesOverTCP(t *testing.T) {
	at := serve(t, dnsd.Config{}, loopback, 0)
	if m := ask(t, at, "udp", "contoso.com", dns.TypeANY); !m.Truncated || len(m.Answer) != 0 {
		t.Errorf("over UDP: %v", m)
	}
	m := ask(t, at, "tcp", "contoso.com", dns.TypeANY)
	var types []uint16
	for _, rr := range m.Answer {
		types = append(types, rr.Header().Rrtype)
	}
	slices.Sort(types)
	if !slices.Equal(types, []uint16{dns.TypeA, dns.TypeNS, dns.TypeSOA, dns.TypeAAAA}) {
		t.Errorf("over TCP: %v", m)
	}
}

func TestALongAnswerIsTruncatedOverUDPAlone(t *testing.T) {
	var many []netip.Addr
	for i := range 200 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
	}
	at := serve(t, dnsd.Config{Hosts: map[string][]netip.Addr{"many": many}}, loopback, 0)
	if m := ask(t, at, "udp", "many.contoso.com", dns.TypeA); !m.Truncated || len(m.Answer) > 31 {
		t.Errorf("over UDP: truncated %v, %d records, which do not fit 512 bytes", m.Truncated, len(m.Answer))
	}
	if m := ask(t, at, "tcp", "many.contoso.com", dns.TypeA); m.Truncated || len(m.Answer) != 200 {
		t.Errorf("over TCP: truncated %v, %d records", m.Truncated, len(m.Answer))
	}
	q := new(dns.Msg).SetQuestion("many.contoso.com.", dns.TypeA).SetEdns0(4096, false)
	c := dns.Client{UDPSize: 4096}
	m, _, err := c.Exchange(q, at.String())
	if err != nil || !m.Truncated || len(m.Answer) < 60 || len(m.Answer) > 76 || m.IsEdns0() == nil {
		t.Errorf("with EDNS of 4096: %d records, which do not make 1232 bytes: %v", len(m.Answer), err)
	}
	q.IsEdns0().SetVersion(1)
	if m, _, err := c.Exchange(q, at.String()); err != nil || m.Rcode != dns.RcodeBadVers {
		t.Errorf("with EDNS of version 1: %v %v", m, err)
	}
}

// TestUpdatesAreRefused holds security 24: there are no unsigned updates, and none else yet.
func TestUpdatesAreRefused(t *testing.T) {
	at := serve(t, dnsd.Config{}, loopback, 0)
	q := new(dns.Msg).SetUpdate("contoso.com.")
	rr, err := dns.NewRR("evil.contoso.com. 60 IN A 192.0.2.66")
	if err != nil {
		t.Fatal(err)
	}
	q.Insert([]dns.RR{rr})
	for _, network := range []string{"udp", "tcp"} {
		c := dns.Client{Net: network}
		if m, _, err := c.Exchange(q, at.String()); err != nil || m.Rcode != dns.RcodeRefused {
			t.Errorf("%s: %v %v", network, m, err)
		}
	}
	// Signed with a key of the client's own, and by a key that it would have first (RFC 3645).
	const key, secret = "client.", "c2VjcmV0"
	signed := q.Copy().SetTsig(key, dns.HmacSHA256, 300, time.Now().Unix())
	c := dns.Client{Net: "tcp", TsigSecret: map[string]string{key: secret}}
	m, _, err := c.Exchange(signed, at.String())
	if m == nil || m.Rcode != dns.RcodeRefused {
		t.Errorf("signed: %v %v", m, err)
	}
	negotiate := new(dns.Msg).SetQuestion("1.contoso.com.", dns.TypeTKEY)
	negotiate.Question[0].Qclass = dns.ClassANY
	negotiate.Extra = []dns.RR{&dns.TKEY{Hdr: dns.RR_Header{Name: "1.contoso.com.", Rrtype: dns.TypeTKEY, Class: dns.ClassANY},
		Algorithm: "gss-tsig.", Mode: 3, KeySize: 1, Key: "00"}}
	if m, _, err := (&dns.Client{Net: "tcp"}).Exchange(negotiate, at.String()); err != nil || m.Rcode != dns.RcodeRefused {
		t.Errorf("a key is negotiated: %v %v", m, err)
	}
	if m := ask(t, at, "udp", "evil.contoso.com", dns.TypeA); m.Rcode != dns.RcodeNameError {
		t.Errorf("after the update: %v", m)
	}
}

func TestOtherPortsAreTold(t *testing.T) {
	at := serve(t, dnsd.Config{Ports: dnsd.Ports{Kerberos: 1088, Kpasswd: 1464, LDAP: 1389, GC: 1368}}, loopback, 0)
	for name, want := range map[string]string{"_kerberos._udp": "1088", "_kpasswd._tcp": "1464", "_ldap._tcp": "1389", "_gc._tcp": "1368"} {
		if got := data(ask(t, at, "udp", name+".contoso.com", dns.TypeSRV).Answer); len(got) != 1 || !strings.Contains(got[0], " "+want+" ") {
			t.Errorf("%s: %q, want port %s", name, got, want)
		}
	}
}

func TestOurOwnClientReadsTheNames(t *testing.T) {
	at := serve(t, dnsd.Config{}, loopback, 0)
	resolver := &locate.DNS{Servers: []string{at.String()}}
	records, err := resolver.LookupSRV(t.Context(), "_ldap._tcp.dc._msdcs.contoso.com")
	if err != nil || len(records) != 1 || records[0].Target != "dc1.contoso.com" || len(records[0].Addrs) != 2 {
		t.Errorf("%+v, %v", records, err)
	}
	if addrs, err := resolver.LookupHost(t.Context(), "dc1.contoso.com"); err != nil || len(addrs) != 2 {
		t.Errorf("%v, %v", addrs, err)
	}
	if records, err := resolver.LookupSRV(t.Context(), "_kerberos-master._udp.contoso.com"); err != nil || len(records) != 0 {
		t.Errorf("a name that is not there: %v, %v", records, err)
	}
}

func TestBINDsToolsReadTheNames(t *testing.T) {
	lab.Need(t, "root", "dig", "host", "nslookup")
	address := lab.Address(t)
	serve(t, dnsd.Config{Hosts: hosts}, address, 53)
	server := address.String()
	for _, c := range []struct {
		program string
		args    []string
		want    []string
	}{
		{"nslookup", []string{"-type=srv", "_ldap._tcp.contoso.com", server}, []string{"service = 0 100 389 dc1.contoso.com."}},
		{"dig", []string{"@" + server, "+short", "_ldap._tcp.dc._msdcs.contoso.com", "-t", "any"}, []string{"0 100 389 dc1.contoso.com."}},
		{"dig", []string{"@" + server, "DC1.CONTOSO.COM"}, []string{"status: NOERROR", "flags: qr aa rd;", "DC1.CONTOSO.COM.\t600\tIN\tA\t" + server, "WARNING: recursion requested but not available"}},
		{"dig", []string{"@" + server, "-x", server}, []string{"dc1.contoso.com."}},
		{"dig", []string{"@" + server, "www.example.com"}, []string{"status: REFUSED"}},
		{"dig", []string{"@" + server, "axfr", "contoso.com"}, []string{"Transfer failed"}},
		{"dig", []string{"@" + server, "+dnssec", "+bufsize=4096", "nobody.contoso.com"}, []string{"status: NXDOMAIN", "hostmaster.contoso.com."}},
		{"host", []string{"contoso.com", server}, []string{"contoso.com has address " + server, "contoso.com has IPv6 address 2001:db8::10"}},
		{"host", []string{"-t", "SOA", "contoso.com", server}, []string{"contoso.com has SOA record dc1.contoso.com. hostmaster.contoso.com."}},
	} {
		out, err := lab.Try(nil, "", c.program, c.args...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s %s lacks %q (%v):\n%s", c.program, strings.Join(c.args, " "), want, err, out)
			}
		}
	}
}
