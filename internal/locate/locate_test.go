package locate

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const goodFlags = adproto.DSLDAP | adproto.DSKDC | adproto.DSWritable | adproto.DSLevel2012

// peer answers pings on a loopback address, over UDP and TCP, as its fields
// say. It stands for controllers that are dead, slow, read-only, of another
// domain or hostile, none of which a Samba in a test can be.
type peer struct {
	reply adproto.PingReply
	// mangle changes the datagrams that go out.
	mangle func([]byte) [][]byte
	delay  time.Duration
	noUDP  bool
	asked  atomic.Int32
	port   uint16
}

func controllerReply(name string, flags adproto.DSFlags) adproto.PingReply {
	return adproto.PingReply{
		Opcode: adproto.OpSamLogonResponseEx, NtVersion: adproto.NtVersion1 | adproto.NtVersion5Ex, Flags: flags,
		Forest: "contoso.com", Domain: "contoso.com", HostName: name, NetBIOSDomain: "CONTOSO", NetBIOSHost: "DC", Site: "HQ",
	}
}

// start listens on address, with one port for UDP and TCP.
func (p *peer) start(t *testing.T, address string) *peer {
	t.Helper()
	var tcp net.Listener
	var udp net.PacketConn
	for range 20 {
		var err error
		if tcp, err = net.Listen("tcp", net.JoinHostPort(address, "0")); err != nil {
			t.Skipf("cannot listen on %s: %v", address, err)
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			break
		}
		_ = tcp.Close()
	}
	p.port = uint16(tcp.Addr().(*net.TCPAddr).Port)
	var wg sync.WaitGroup
	wg.Go(func() { p.serveUDP(udp) })
	wg.Go(func() { p.serveTCP(tcp) })
	t.Cleanup(func() { _, _ = udp.Close(), tcp.Close(); wg.Wait() })
	return p
}

func (p *peer) serveUDP(udp net.PacketConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := udp.ReadFrom(buf)
		if err != nil {
			return
		}
		p.asked.Add(1)
		if p.noUDP {
			continue
		}
		time.Sleep(p.delay)
		for _, b := range p.answer(buf[:n]) {
			_, _ = udp.WriteTo(b, from)
		}
	}
}

func (p *peer) serveTCP(tcp net.Listener) {
	for {
		conn, err := tcp.Accept()
		if err != nil {
			return
		}
		if b, err := readMessage(bufio.NewReader(conn)); err == nil {
			for _, out := range p.answer(b) {
				_, _ = conn.Write(out)
			}
		}
		_ = conn.Close()
	}
}

// answer is the search entry and the search's end, as one piece.
func (p *peer) answer(request []byte) [][]byte {
	msg, err := ber.DecodePacketErr(request)
	if err != nil {
		return nil
	}
	id := msg.Children[0].Value.(int64)
	value, err := p.reply.Append(nil)
	if err != nil {
		panic(err)
	}
	out := append(searchEntry(id, string(value)), searchDone(id)...)
	if p.mangle != nil {
		return p.mangle(out)
	}
	return [][]byte{out}
}

func searchEntry(id int64, value string) []byte {
	str := func(s string) *ber.Packet {
		return ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, s, "")
	}
	seq := func(class ber.Class, tag ber.Tag, children ...*ber.Packet) *ber.Packet {
		p := ber.Encode(class, ber.TypeConstructed, tag, nil, "")
		for _, c := range children {
			p.AppendChild(c)
		}
		return p
	}
	attr := seq(ber.ClassUniversal, ber.TagSequence, str("netlogon"), seq(ber.ClassUniversal, ber.TagSet, str(value)))
	entry := seq(ber.ClassApplication, opSearchEntry, str(""), seq(ber.ClassUniversal, ber.TagSequence, attr))
	return seq(ber.ClassUniversal, ber.TagSequence, ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""), entry).Bytes()
}

func searchDone(id int64) []byte {
	return append([]byte{0x30, 13, 2, 4}, append(binary.BigEndian.AppendUint32(nil, uint32(id)), 0x65, 5, 10, 1, 0, 4, 0)...)[:15]
}

// records is a Resolver with fixed answers.
type records struct {
	srv   map[string][]SRV
	hosts map[string][]netip.Addr
	err   error
	asked atomic.Int32
}

func (r *records) LookupSRV(_ context.Context, name string) ([]SRV, error) {
	r.asked.Add(1)
	return r.srv[name], r.err
}

func (r *records) LookupHost(_ context.Context, host string) ([]netip.Addr, error) {
	return r.hosts[host], r.err
}

// locator makes one for contoso.com.
func locator(t *testing.T, cfg Config) *Locator {
	t.Helper()
	cfg.Domain = "contoso.com"
	l, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func names(list []Controller) []string {
	var out []string
	for _, c := range list {
		out = append(out, c.Name)
	}
	return out
}

func srv(target, addr string, port, priority uint16) SRV {
	return SRV{Target: target, Port: port, Priority: priority, Weight: 100, Addrs: []netip.Addr{netip.MustParseAddr(addr)}}
}

func TestSiteIsLearntAndItsControllersComeFirst(t *testing.T) {
	far := controllerReply("far.contoso.com", goodFlags)
	far.ClientSite = "Branch"
	near := controllerReply("near.contoso.com", goodFlags|adproto.DSClosest)
	near.ClientSite = "Branch"
	a, b := (&peer{reply: far}).start(t, "127.0.0.1"), (&peer{reply: near, delay: 30 * time.Millisecond}).start(t, "127.0.0.1")
	dns := &records{srv: map[string][]SRV{
		"_ldap._tcp.dc._msdcs.contoso.com":               {srv("far.contoso.com", "127.0.0.1", a.port, 0)},
		"_kerberos._tcp.dc._msdcs.contoso.com":           {srv("far.contoso.com", "127.0.0.1", 8888, 0)},
		"_ldap._tcp.Branch._sites.dc._msdcs.contoso.com": {srv("near.contoso.com", "127.0.0.1", b.port, 0)},
		"_kpasswd._tcp.contoso.com":                      {srv("near.contoso.com", "127.0.0.1", 4644, 0)},
	}}
	l := locator(t, Config{Resolver: dns})
	list, err := l.Controllers(t.Context(), GMSA)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(list); !slices.Equal(got, []string{"near.contoso.com", "far.contoso.com"}) || l.Site() != "Branch" {
		t.Errorf("%v, site %q", got, l.Site())
	}
	if got := list[0].Endpoint(Kpasswd); got != "127.0.0.1:4644" {
		t.Errorf("kpasswd at %s", got)
	}
	if got := list[1].Endpoint(Kerberos) + " " + list[1].Endpoint(LDAPS); got != "127.0.0.1:8888 127.0.0.1:636" {
		t.Error(got)
	}
	asked := dns.asked.Load()
	if _, err := l.Controllers(t.Context(), GMSA); err != nil || dns.asked.Load() != asked {
		t.Errorf("%v, or the answer was not kept", err)
	}
	l.Forget()
	if list, err := l.Controllers(t.Context(), GMSA); err != nil || len(list) != 1 || list[0].Name != "near.contoso.com" {
		t.Errorf("the second discovery asks for more than the site: %v, %v", names(list), err)
	}
}

func TestReadOnlyAndOldControllersDoNotServeManagedPasswords(t *testing.T) {
	rodc := (&peer{reply: controllerReply("rodc.contoso.com", goodFlags&^adproto.DSWritable|adproto.DSClosest)}).start(t, "127.0.0.1")
	old := (&peer{reply: controllerReply("old.contoso.com", goodFlags&^adproto.DSLevel2012)}).start(t, "127.0.0.1")
	good := (&peer{reply: controllerReply("good.contoso.com", goodFlags), delay: 20 * time.Millisecond}).start(t, "127.0.0.1")
	r := &records{srv: map[string][]SRV{
		"_ldap._tcp.Branch._sites.dc._msdcs.contoso.com": {srv("rodc.contoso.com", "127.0.0.1", rodc.port, 0)},
		"_ldap._tcp.dc._msdcs.contoso.com": {
			srv("rodc.contoso.com", "127.0.0.1", rodc.port, 0), srv("old.contoso.com", "127.0.0.1", old.port, 0), srv("good.contoso.com", "127.0.0.1", good.port, 0)},
	}}
	l := locator(t, Config{Resolver: r, Site: "Branch"})
	for need, want := range map[Need]string{Any: "rodc.contoso.com", Writable: "old.contoso.com", GMSA: "good.contoso.com"} {
		list, err := l.Controllers(t.Context(), need)
		if err != nil || !slices.Contains(names(list), want) {
			t.Errorf("%v: %v, %v", need, names(list), err)
		}
		for _, c := range list {
			if !need.meets(c.Flags) {
				t.Errorf("%v: %v with %v", need, c, c.Flags)
			}
		}
	}
	delete(r.srv, "_ldap._tcp.dc._msdcs.contoso.com")
	l = locator(t, Config{Resolver: r, Site: "Branch"})
	_, err := l.Controllers(t.Context(), GMSA)
	if !errors.Is(err, ErrNoController) || !strings.Contains(err.Error(), "writable domain controller of Windows Server 2012") {
		t.Error(err)
	}
}

// security 12: DNS gives hints.
func TestNamesOutsideTheDomainAreRefused(t *testing.T) {
	evil := (&peer{reply: controllerReply("dc1.evil.example", goodFlags)}).start(t, "127.0.0.1")
	r := &records{srv: map[string][]SRV{"_ldap._tcp.dc._msdcs.contoso.com": {
		srv("dc1.evil.example", "127.0.0.1", evil.port, 0), srv("dc1.contoso.com", "127.0.0.1", evil.port, 0)}}}
	_, err := locator(t, Config{Resolver: r}).Controllers(t.Context(), Any)
	if !errors.Is(err, ErrForeignName) || !errors.Is(err, ErrNoController) {
		t.Error(err)
	}
	l := locator(t, Config{Resolver: r, Suffixes: []string{"Evil.example."}})
	if list, err := l.Controllers(t.Context(), Any); err != nil || list[0].Name != "dc1.evil.example" {
		t.Errorf("a suffix that is configured: %v, %v", list, err)
	}
	c := &Config{Domain: "contoso.com"}
	for name, ok := range map[string]bool{
		"dc1.contoso.com": true, "DC1.Sub.CONTOSO.com.": true, "contoso.com": false, "xcontoso.com": false, ".contoso.com": false,
		"dc1.contoso.com.evil.example": false, "": false, "a/b.contoso.com": false, "a@b.contoso.com": false,
	} {
		if err := c.nameAllowed(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
	other := controllerReply("dc1.contoso.com", goodFlags)
	other.Domain = "fabrikam.com"
	p := (&peer{reply: other}).start(t, "127.0.0.1")
	_, err = locator(t, Config{Servers: []string{fmt.Sprintf("127.0.0.1:%d", p.port)}}).Controllers(t.Context(), Any)
	if err == nil || !strings.Contains(err.Error(), `controller of "fabrikam.com"`) {
		t.Errorf("a controller of another domain: %v", err)
	}
}

func TestPingByTCPWhereUDPIsClosed(t *testing.T) {
	p := (&peer{reply: controllerReply("dc1.contoso.com", goodFlags), noUDP: true}).start(t, "127.0.0.1")
	start := time.Now()
	list, err := locator(t, Config{Servers: []string{fmt.Sprintf("127.0.0.1:%d", p.port)}}).Controllers(t.Context(), GMSA)
	if err != nil || list[0].Name != "dc1.contoso.com" {
		t.Fatal(list, err)
	}
	if d := time.Since(start); d > 900*time.Millisecond || p.asked.Load() < 2 {
		t.Errorf("took %v, asked %d times over UDP, want a repetition", d, p.asked.Load())
	}
}

func TestIPv6AndForgedDatagrams(t *testing.T) {
	p := &peer{reply: controllerReply("dc1.contoso.com", goodFlags)}
	p.mangle = func(good []byte) [][]byte {
		otherID := slices.Clone(good)
		otherID[bytesIndexID(good)] ^= 0x55
		return [][]byte{nil, {0x30}, {0x30, 0x84, 0xff, 0xff, 0xff, 0xff}, make([]byte, 3000), otherID, good}
	}
	p.start(t, "::1")
	list, err := locator(t, Config{Servers: []string{fmt.Sprintf("[::1]:%d", p.port)}}).Controllers(t.Context(), GMSA)
	if err != nil || list[0].Endpoint(LDAP) != fmt.Sprintf("[::1]:%d", p.port) {
		t.Fatal(list, err)
	}
}

// bytesIndexID is where the last byte of the message's id is.
func bytesIndexID(msg []byte) int { return slices.Index(msg, 2) + 1 + int(msg[slices.Index(msg, 2)+1]) }

// blackhole is a dialer to which the given addresses never answer.
func blackhole(dead ...string) DialFunc {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		if slices.Contains(dead, address) {
			if network == "udp" { // a datagram leaves and nothing comes back
				return net.Dial("udp", "127.0.0.1:9")
			}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
}

func TestFailoverTakesLessThanASecond(t *testing.T) {
	a := (&peer{reply: controllerReply("a.contoso.com", goodFlags)}).start(t, "127.0.0.1")
	b := (&peer{reply: controllerReply("b.contoso.com", goodFlags)}).start(t, "127.0.0.1")
	first, second := fmt.Sprintf("127.0.0.1:%d", a.port), fmt.Sprintf("127.0.0.1:%d", b.port)
	var dead []string
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		return blackhole(dead...)(ctx, network, address)
	}
	l := locator(t, Config{Servers: []string{first, second}, Dial: dial, SetAside: time.Hour})
	list, err := l.Controllers(t.Context(), GMSA)
	if err != nil || !slices.Equal(names(list), []string{"a.contoso.com", "b.contoso.com"}) {
		t.Fatal(names(list), err)
	}
	dead = []string{first} // it dies while it is remembered
	start := time.Now()
	conn, c, err := l.Dial(t.Context(), LDAP, list)
	if err != nil || c.Name != "b.contoso.com" {
		t.Fatal(c, err)
	}
	_ = conn.Close()
	if d := time.Since(start); d > time.Second {
		t.Errorf("failover took %v", d)
	}
	l.cfg.Now = func() time.Time { return time.Now().Add(time.Hour / 2) } // memory is stale: dead from the start
	start = time.Now()
	list, err = l.Controllers(t.Context(), GMSA)
	if d := time.Since(start); err != nil || names(list)[0] != "b.contoso.com" || d > time.Second {
		t.Errorf("%v, %v, after %v", names(list), err, d)
	}
	if _, _, err := l.Dial(t.Context(), LDAP, nil); !errors.Is(err, ErrNoController) {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := l.Dial(ctx, LDAP, []Controller{{Addr: netip.MustParseAddr("127.0.0.1"), Ports: Ports{LDAP: a.port}}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestFailedControllersComeLastForAWhile(t *testing.T) {
	a := (&peer{reply: controllerReply("a.contoso.com", goodFlags)}).start(t, "127.0.0.1")
	b := (&peer{reply: controllerReply("b.contoso.com", goodFlags)}).start(t, "127.0.0.2")
	now := time.Now()
	var mu sync.Mutex
	clock := func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	l := locator(t, Config{Servers: []string{fmt.Sprintf("127.0.0.1:%d", a.port), fmt.Sprintf("127.0.0.2:%d", b.port)}, Now: clock})
	list, err := l.Controllers(t.Context(), Any)
	if err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	l.Failed(list[0])
	if got, err := l.Controllers(t.Context(), Any); err != nil || !slices.Equal(names(got), []string{"b.contoso.com", "a.contoso.com"}) {
		t.Errorf("%v, %v", names(got), err)
	}
	l.Failed(list[1])
	asked := a.asked.Load()
	if got, err := l.Controllers(t.Context(), Any); err != nil || len(got) != 2 || a.asked.Load() != asked {
		t.Errorf("all failed a moment after the discovery: %v, %v", names(got), err)
	}
	mu.Lock()
	now = now.Add(2 * time.Second)
	mu.Unlock()
	if got, err := l.Controllers(t.Context(), Any); err != nil || len(got) != 2 || a.asked.Load() == asked {
		t.Errorf("all failed, later: %v, %v", names(got), err)
	}
	mu.Lock()
	now = now.Add(time.Minute)
	mu.Unlock()
	if got, err := l.Controllers(t.Context(), Any); err != nil || names(got)[0] != "a.contoso.com" {
		t.Errorf("after the time aside: %v, %v", names(got), err)
	}
}

func TestOldAnswerServesWhileDNSIsDown(t *testing.T) {
	p := (&peer{reply: controllerReply("a.contoso.com", goodFlags)}).start(t, "127.0.0.1")
	r := &records{srv: map[string][]SRV{"_ldap._tcp.dc._msdcs.contoso.com": {srv("a.contoso.com", "127.0.0.1", p.port, 0)}}}
	now := time.Now()
	l := locator(t, Config{Resolver: r, Now: func() time.Time { return now }})
	if _, err := l.Controllers(t.Context(), Any); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	r.srv, r.err = nil, errors.New("SERVFAIL")
	if list, err := l.Controllers(t.Context(), Any); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := locator(t, Config{Resolver: r}).Controllers(t.Context(), Any); !errors.Is(err, r.err) {
		t.Error(err)
	}
}

func TestConcurrentCallersShareOneDiscovery(t *testing.T) {
	p := (&peer{reply: controllerReply("a.contoso.com", goodFlags), delay: 20 * time.Millisecond}).start(t, "127.0.0.1")
	l := locator(t, Config{Servers: []string{fmt.Sprintf("127.0.0.1:%d", p.port)}})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if _, err := l.Controllers(t.Context(), GMSA); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := p.asked.Load(); n != 1 {
		t.Errorf("asked %d times, want 1", n)
	}
}

// A server with another LDAP port than 389 has its other ports as far from their
// standard, unless they are configured.
func TestPortsMoveTogether(t *testing.T) {
	p := (&peer{reply: controllerReply("dc1.contoso.com", goodFlags)}).start(t, "127.0.0.1")
	server := fmt.Sprintf("127.0.0.1:%d", p.port)
	list, err := locator(t, Config{Servers: []string{server}, Ports: Ports{GC: 4000}}).Controllers(t.Context(), Any)
	if err != nil {
		t.Fatal(err)
	}
	got, want := list[0].Ports, moved(p.port)
	want.GC = 4000
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for ldap, want := range map[uint16]Ports{
		389:   standardPorts,
		10389: {Kerberos: 10088, LDAP: 10389, LDAPS: 10636, Kpasswd: 10464, GC: 13268},
		64000: {Kerberos: 63699, LDAP: 64000, LDAPS: 64247, Kpasswd: 64075, GC: 3268},
		300:   {Kerberos: 88, LDAP: 300, LDAPS: 636, Kpasswd: 464, GC: 3268},
	} {
		if got := moved(ldap); got != want {
			t.Errorf("%d: got %+v, want %+v", ldap, got, want)
		}
	}
	for kerberos, want := range map[uint16]string{88: "", 10088: "[2001:db8::1]:10389", 65535: "", 50: ""} {
		if got, ok := OfKerberos("2001:db8::1", kerberos); got != want || ok != (want != "") {
			t.Errorf("KDC on %d: got %q, %v", kerberos, got, ok)
		}
	}
}

func TestServersAreParsed(t *testing.T) {
	for s, want := range map[string]server{
		"DC1.contoso.com":      {host: "dc1.contoso.com"},
		"dc1.contoso.com:3890": {host: "dc1.contoso.com", port: 3890},
		"192.0.2.1":            {addr: netip.MustParseAddr("192.0.2.1")},
		"192.0.2.1:1":          {addr: netip.MustParseAddr("192.0.2.1"), port: 1},
		"[fd00::1]:3890":       {addr: netip.MustParseAddr("fd00::1"), port: 3890},
		"[fd00::1]":            {addr: netip.MustParseAddr("fd00::1")},
		"fd00::1":              {addr: netip.MustParseAddr("fd00::1")},
	} {
		if got, err := parseServer(s); err != nil || got != want {
			t.Errorf("%s: %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", ":1", "a:0", "a:b", "a:70000", "a b", "ldap://a", "a@b"} {
		if _, err := New(Config{Domain: "d", Servers: []string{s}}); err == nil {
			t.Errorf("%q is accepted", s)
		}
	}
	for _, d := range []string{"", "a b", "a/b", "a@b"} {
		if _, err := New(Config{Domain: d}); err == nil {
			t.Errorf("domain %q is accepted", d)
		}
	}
}

func TestWeightsDecideTheDraw(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	in := []SRV{{Target: "backup", Priority: 10, Weight: 100}, {Target: "heavy", Weight: 75}, {Target: "light", Weight: 25}, {Target: "zero"}}
	const rounds = 20000
	first := map[string]int{}
	for range rounds {
		out := orderSRV(in, rng.IntN)
		if len(out) != 4 || out[3].Target != "backup" {
			t.Fatalf("priority is not kept: %v", out)
		}
		first[out[0].Target]++
	}
	for target, want := range map[string]float64{"heavy": 0.74, "light": 0.25, "zero": 0.01} {
		if got := float64(first[target]) / rounds; math.Abs(got-want) > 0.02 {
			t.Errorf("%s comes first in %.3f of the draws, want %.2f", target, got, want)
		}
	}
}

// nameServer answers from a zone over UDP, truncating SRV answers, and TCP.
func nameServer(t *testing.T, zone ...string) string {
	t.Helper()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", udp.LocalAddr().String())
	if err != nil {
		t.Skip(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, line := range zone {
			rr, err := dns.NewRR(line)
			if err != nil {
				panic(err)
			}
			if strings.EqualFold(rr.Header().Name, q.Question[0].Name) && rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		if _, isUDP := w.RemoteAddr().(*net.UDPAddr); isUDP && q.Question[0].Qtype == dns.TypeSRV {
			m.Truncated, m.Answer = true, nil
		}
		_ = w.WriteMsg(m)
	})
	var wg sync.WaitGroup
	for _, s := range []*dns.Server{{PacketConn: udp, Handler: handler}, {Listener: tcp, Handler: handler}} {
		ready := make(chan struct{})
		s.NotifyStartedFunc = func() { close(ready) }
		wg.Go(func() { _ = s.ActivateAndServe() })
		<-ready
		t.Cleanup(func() { _ = s.Shutdown() })
	}
	return udp.LocalAddr().String()
}

func TestNameServersAreAskedOverUDPThenTCP(t *testing.T) {
	addr := nameServer(t, "_ldap._tcp.d. 60 IN SRV 1 2 389 DC1.d.", "_ldap._tcp.d. 60 IN SRV 0 0 0 .", "dc1.d. 60 IN A 192.0.2.1", "dc1.d. 60 IN AAAA 2001:db8::1")
	dead := "127.0.0.1:9"
	r := &DNS{Servers: []string{dead, addr}}
	got, err := r.LookupSRV(t.Context(), "_ldap._tcp.D")
	if err != nil || len(got) != 1 || got[0].Target != "dc1.d" || got[0].Port != 389 || got[0].Priority != 1 || got[0].Weight != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	addrs, err := r.LookupHost(t.Context(), "dc1.d")
	if err != nil || len(addrs) != 2 {
		t.Errorf("%v, %v", addrs, err)
	}
	if got, err := r.LookupSRV(t.Context(), "_none._tcp.d"); err != nil || len(got) != 0 {
		t.Errorf("a name that does not exist: %v, %v", got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := (&DNS{Servers: []string{dead}, Dial: blackhole(dead)}).LookupSRV(ctx, "x"); err == nil || time.Since(start) > time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

func FuzzPingAnswer(f *testing.F) {
	value, _ := controllerReply("a.contoso.com", goodFlags).Append(nil)
	f.Add(searchEntry(7, string(value)))
	f.Add(searchDone(7))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _, _ = pingAnswer(b, 7) })
}
