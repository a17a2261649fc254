package dc

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"github.com/miekg/dns"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
	"github.com/opengmsa/opengmsa/secret"
)

// works demands a right answer of every service, on connections of its own.
func (c *clocked) works(when string) {
	c.t.Helper()
	password := kclient.Password(secret.New([]byte("Comp-web1-Pass!")))
	web1 := krb5.NewName(krb5.NamePrincipal, "web1$")
	k := c.kerberos()
	res, err := k.AS(c.t.Context(), kclient.ASRequest{Client: web1, Secret: password})
	if err != nil {
		c.t.Fatalf("%s: AS: %v", when, err)
	}
	ticket, err := k.TGS(c.t.Context(), kclient.TGSRequest{TGT: res.Credential, Server: ldapService})
	if err != nil {
		c.t.Fatalf("%s: TGS: %v", when, err)
	}
	if err := c.sealed(ticket.Credential); err != nil {
		c.t.Errorf("%s: LDAP, sealed: %v", when, err)
	}
	for _, port := range []uint16{c.s.Ports.LDAPS, c.s.Ports.GCS} {
		conn, err := dialLDAPS(c.at(port), c.tls(), "web1$@contoso.com", "Comp-web1-Pass!")
		if err != nil {
			c.t.Fatalf("%s: LDAP over TLS: %v", when, err)
		}
		if who, err := conn.WhoAmI(nil); err != nil || who.AuthzID != `u:CONTOSO\web1$` {
			c.t.Errorf("%s: who am I: %v, %v", when, who, err)
		}
		conn.Close()
	}
	admin := kclient.Password(secret.New([]byte(adminPassword)))
	if res, err := c.kpasswd(administrator, admin); res.Code != kpasswd.ResultSoftError {
		c.t.Errorf("%s: kpasswd: %v", when, err)
	}
	for _, network := range []string{"udp", "tcp"} {
		q := new(dns.Msg).SetQuestion("_ldap._tcp.dc._msdcs.contoso.com.", dns.TypeSRV)
		m, _, err := (&dns.Client{Net: network, Timeout: 10 * time.Second}).Exchange(q, c.at(c.s.Ports.DNS))
		if err != nil || len(m.Answer) != 1 {
			c.t.Errorf("%s: DNS over %s: %v", when, network, err)
		}
	}
}

// kpasswd asks for a password that is too short.
func (c *clocked) kpasswd(name krb5.PrincipalName, password kclient.Secret) (kpasswd.Result, error) {
	err := c.kerberos().ChangePassword(c.t.Context(), name, password, secret.New([]byte("x")))
	res, _ := errors.AsType[kpasswd.Result](err)
	return res, err
}

// samples are messages of each service, as clients send them over TCP.
func (c *clocked) samples() [][]byte {
	framed := func(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }
	as := krb5.KDCReq{Type: krb5.MsgASReq, Body: krb5.KDCReqBody{Realm: "CONTOSO.COM", CName: administrator,
		SName: krb5.NewName(krb5.NameSrvInst, "krbtgt", "CONTOSO.COM"), Till: c.clock.Now().Add(time.Hour), ETypes: []crypto.EType{18, 17}}}.Append(nil)
	change, _ := c.changeRequest(c.forge(changepw, func(*forgery) {}), "short")
	query, err := new(dns.Msg).SetQuestion("contoso.com.", dns.TypeANY).Pack()
	if err != nil {
		c.t.Fatal(err)
	}
	search := unhexed("3025020101632004000a01000a0100020100020100010100870b6f626a656374436c6173733000")
	bind := unhexed("3020020102601b020103040461616161a310040a4753532d53504e45474f04026010")
	ping := unhexed("3034020246d4632e04000a01000a0100020100020100010100a00fa30d04054e74566572040406000000300a04084e65744c6f676f6e")
	return [][]byte{framed(as), framed(change), append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...), search, bind, ping,
		as, change, query}
}

func unhexed(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic("dc: " + err.Error())
	}
	return b
}

// mutated is a sample with some bytes changed, cut, repeated or all at random.
func mutated(r *rand.Rand, samples [][]byte) []byte {
	b := slices.Clone(samples[r.IntN(len(samples))])
	for range r.IntN(8) {
		b[r.IntN(len(b))] = byte(r.Uint32())
	}
	switch r.IntN(6) {
	case 0:
		b = b[:r.IntN(len(b))]
	case 1:
		b = bytes.Repeat(b, 1+r.IntN(50))
	case 2:
		b = make([]byte, r.IntN(5000))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
	}
	return b
}

// heap is what the process holds: both ends of every connection.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// newVictim is a controller with one account.
func newVictim(t *testing.T) *clocked {
	c := newClocked(t, time.Now())
	c.addComputer("web1", "Comp-web1-Pass!")
	return c
}

// TestGarbageOnEveryPort: random and mutated bytes, over UDP, over TCP and inside TLS, and
// every service goes on, in the memory of before.
func TestGarbageOnEveryPort(t *testing.T) {
	c := newVictim(t)
	samples, r := c.samples(), rand.New(rand.NewPCG(5, 6))
	c.works("before")
	before := heap()
	for range 150 {
		for service, port := range c.s.Ports.all() {
			c.throw("tcp", *port, mutated(r, samples), service == serviceLDAPS || service == serviceGCS)
			if overUDP(service) {
				c.throw("udp", *port, mutated(r, samples), false)
			}
		}
	}
	c.works("after")
	if after := heap(); after > before+16<<20 {
		t.Errorf("%d MiB are held, %d before", after>>20, before>>20)
	}
}

// throw sends bytes and reads what comes. Inside TLS every other time.
func (c *clocked) throw(network string, port uint16, b []byte, inTLS bool) {
	c.t.Helper()
	conn, err := net.Dial(network, c.at(port))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if inTLS && len(b)%2 == 0 {
		cfg := c.tls()
		cfg.ServerName = "dc1.contoso.com"
		conn = tls.Client(conn, cfg)
	}
	if _, err := conn.Write(b); err != nil || network == "udp" {
		return
	}
	if w, ok := conn.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
	_, _ = io.Copy(io.Discard, conn)
}

// TestConnectionsThatWait: some hundred on each port that say nothing, that announce more
// than they send, that begin a TLS handshake and stop, beside which clients are served;
// and what is announced takes no memory.
func TestConnectionsThatWait(t *testing.T) {
	c := newVictim(t)
	c.works("before")
	before := heap()
	openings := [][]byte{nil, {0}, {0, 0, 0xff, 0xff}, {0xff, 0xff}, {0x30, 0x83, 0x03, 0xff, 0xff, 2, 1},
		{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}} // the last begins a ClientHello
	const each = 20
	waiting := 0
	for _, port := range c.s.Ports.all() {
		for _, b := range openings {
			for range each {
				conn, err := net.Dial("tcp", c.at(*port))
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close() })
				if _, err := conn.Write(b); err != nil {
					t.Fatal(err)
				}
				waiting++
			}
		}
	}
	c.works("beside them")
	per := (heap() - min(before, heap())) / uint64(waiting)
	t.Logf("%d connections wait, %d bytes each, both ends", waiting, per)
	if per > 64<<10 {
		t.Errorf("%d bytes for a connection that waits", per)
	}
}

// slowReader is a connection to the global catalog over TLS, bound as web1$, that has asked
// for everything some times and takes nothing of the answers.
func (c *clocked) slowReader(searches int) net.Conn {
	c.t.Helper()
	conn, err := net.Dial("tcp", c.at(c.s.Ports.GCS))
	if err != nil {
		c.t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		c.t.Fatal(err)
	}
	cfg := c.tls()
	cfg.ServerName = "dc1.contoso.com"
	layer := tls.Client(conn, cfg)
	message := func(id, op byte, body ...[]byte) []byte {
		return adproto.AppendElement(nil, 0x30, adproto.AppendElement([]byte{2, 1, id}, op, bytes.Join(body, nil)))
	}
	text := func(s string) []byte { return adproto.AppendElement(nil, 4, []byte(s)) }
	if _, err := layer.Write(message(1, 0x60, []byte{2, 1, 3}, text("web1$@contoso.com"), adproto.AppendElement(nil, 0x80, []byte("Comp-web1-Pass!")))); err != nil {
		c.t.Fatal(err)
	}
	if _, err := layer.Read(make([]byte, 256)); err != nil {
		c.t.Fatal(err)
	}
	for i := range searches {
		// A subtree, no limits: RFC 4511, Section 4.5.1.
		all := message(byte(2+i), 0x63, text("DC=contoso,DC=com"), unhexed("0a01020a0100020100020100010100"), adproto.AppendElement(nil, 0x87, []byte("objectClass")), []byte{0x30, 0})
		if _, err := layer.Write(all); err != nil {
			c.t.Fatal(err)
		}
	}
	return layer
}

// TestReadersThatTakeNothing hold up nobody, neither readers nor writers, and cost what they
// have asked for and not yet taken, of which the controller makes little ahead.
func TestReadersThatTakeNothing(t *testing.T) {
	c := newVictim(t)
	c.works("before")
	before := heap()
	const readers, searches = 12, 16
	var conns []net.Conn
	for range readers {
		conns = append(conns, c.slowReader(searches))
	}
	for i := range 20 {
		name := fmt.Sprintf("beside-%d", i)
		start := time.Now()
		c.add("Users", name, "user", map[string][]string{"sAMAccountName": {name}})
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("a change took %v", took)
		}
	}
	c.works("beside them")
	per := (heap() - min(before, heap())) / (readers * searches)
	t.Logf("%d searches wait, %d bytes each", readers*searches, per)
	if per > 1<<20 {
		t.Errorf("%d bytes for a search that waits", per)
	}
	for _, conn := range conns {
		_ = conn.(*tls.Conn).NetConn().Close()
	}
	c.works("after them")
}

// TestFiltersBuiltToExplode end in time, by a limit's own result, and leave the controller
// as it was.
func TestFiltersBuiltToExplode(t *testing.T) {
	c := newVictim(t)
	for i := range 30 { // groups that are members of each other, every one of all after it
		name := fmt.Sprintf("g-%d", i)
		c.add("Users", name, "group", map[string][]string{"sAMAccountName": {name}, "groupType": {"-2147483646"}})
	}
	groups, err := c.admin.Search(&ldap.SearchRequest{BaseDN: "CN=Users,DC=contoso,DC=com", Scope: ldap.ScopeSingleLevel, Filter: "(&(cn=g-*)(groupType=*))", Attributes: []string{"cn"}})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range groups.Entries {
		names = append(names, e.DN)
	}
	for i, dn := range names {
		q := ldap.NewModifyRequest(dn, nil)
		q.Add("member", append(slices.Clone(names[i+1:]), names[:i]...))
		if err := c.admin.Modify(q); err != nil {
			t.Fatal(err)
		}
	}
	chain := "(memberOf:1.2.840.113556.1.4.1941:=" + names[0] + ")"
	for what, filter := range map[string]string{
		"10,000 alternatives":       "(|" + strings.Repeat("(description=a*b*c*d*e)", 10000) + ")",
		"nots within nots":          strings.Repeat("(!", 99) + "(cn=x)" + strings.Repeat(")", 99),
		"deeper than any":           strings.Repeat("(&", 5000) + "(cn=x)" + strings.Repeat(")", 5000),
		"a value of many stars":     "(displayName=" + strings.Repeat("a*", 2000) + ")",
		"chains through all groups": "(|" + strings.Repeat(chain, 200) + ")",
		"negated chains":            "(&" + strings.Repeat("(!"+chain+")", 200) + ")",
	} {
		conn := c.bind("web1$@contoso.com", "Comp-web1-Pass!")
		start := time.Now()
		_, err := conn.Search(&ldap.SearchRequest{BaseDN: "DC=contoso,DC=com", Scope: ldap.ScopeWholeSubtree, Filter: filter, Attributes: []string{"cn"}})
		took := time.Since(start)
		if err != nil && !ldap.IsErrorAnyOf(err, ldap.LDAPResultProtocolError, ldap.LDAPResultTimeLimitExceeded,
			ldap.LDAPResultAdminLimitExceeded, ldap.LDAPResultUnwillingToPerform) {
			t.Errorf("%s: %v", what, err)
		}
		if took > 20*time.Second {
			t.Errorf("%s took %v", what, took)
		}
		t.Logf("%s: %v after %v", what, err, took)
	}
	c.works("after")
}
