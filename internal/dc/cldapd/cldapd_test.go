package cldapd_test

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/cldapd"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
	"github.com/opengmsa/opengmsa/internal/dc/directory/schema"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newServer serves a domain with a host web1 and a user who is disabled.
func newServer(t testing.TB) (*cldapd.Server, directory.Domain) {
	t.Helper()
	d := dctest.New(t).Directory
	attribute := func(name string) *schema.Attribute {
		a, ok := d.Schema().Attribute(name)
		if !ok {
			t.Fatalf("no attribute %s", name)
		}
		return a
	}
	err := d.Update(t.Context(), func(w *directory.Writer) error {
		for i, account := range []struct {
			name string
			uac  adproto.UserAccountControl
		}{{"web1$", adproto.UACWorkstationTrust}, {"bob", adproto.UACNormalAccount | adproto.UACAccountDisable}} {
			e := &rows.Entry{GUID: dtyp.GUID{byte(i + 1)}, Parent: d.Domain().GUID, RDN: attribute("cn"), Name: account.name,
				Values: map[*schema.Attribute][][]byte{
					attribute("sAMAccountName"):     {[]byte(account.name)},
					attribute("userAccountControl"): {strconv.AppendInt(nil, int64(account.uac), 10)},
				}}
			if err := w.Insert(e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return cldapd.New(cldapd.Config{Directory: d, Log: slog.New(slog.DiscardHandler),
		Addresses: []netip.Addr{netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("198.51.100.10"), netip.MustParseAddr("192.0.2.10")}}), d.Domain()
}

// serve runs the server on the address of a lab, or on any port of this machine.
func serve(t testing.TB, s *cldapd.Server, address string) *net.UDPAddr {
	t.Helper()
	conn, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.ServePacket(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return conn.LocalAddr().(*net.UDPAddr)
}

const v5ex = adproto.NtVersion1 | adproto.NtVersion5 | adproto.NtVersion5Ex

// TestEveryFormOfReply: the fields are those that Samba 4.22 gave for the same
// questions (internal/adproto/testdata/ping-replies.txt).
func TestEveryFormOfReply(t *testing.T) {
	s, contoso := newServer(t)
	ex := adproto.PingReply{
		Opcode: adproto.OpSamLogonResponseEx, NtVersion: adproto.NtVersion1 | adproto.NtVersion5Ex, Flags: 0x1d1bd, DomainGUID: contoso.GUID,
		Forest: "contoso.com", Domain: "contoso.com", HostName: "dc1.contoso.com",
		NetBIOSDomain: "CONTOSO", NetBIOSHost: "DC1", Site: contoso.Site, ClientSite: contoso.Site,
	}
	exIP := ex
	exIP.NtVersion |= adproto.NtVersion5ExWithIP
	exIP.Address = netip.MustParseAddr("192.0.2.10")
	nt40 := adproto.PingReply{Opcode: adproto.OpSamLogonResponse, NtVersion: adproto.NtVersion1, NetBIOSHost: "DC1", NetBIOSDomain: "CONTOSO"}
	v5 := nt40
	v5.NtVersion, v5.Flags, v5.DomainGUID, v5.Address = adproto.NtVersion1|adproto.NtVersion5, 0x1d1bd, contoso.GUID, exIP.Address
	v5.Forest, v5.Domain, v5.HostName = ex.Forest, ex.Domain, ex.HostName
	for name, c := range map[string]struct {
		ntver adproto.NtVersion
		want  adproto.PingReply
	}{
		"EX":                            {6, ex},
		"EX with the closest site":      {0x14, ex},
		"EX with the address":           {0x6000001e, exIP},
		"EX with the address and not 4": {9, exIP},
		"version 5":                     {2, v5},
		"version 1":                     {1, nt40},
		"no version":                    {0x20000000, nt40},
	} {
		value, ok := s.Answer(adproto.Ping{DNSDomain: "Contoso.COM", NtVersion: c.ntver}, netip.MustParseAddr("192.0.2.77"))
		got, err := adproto.ParsePingReply(value)
		if d := cmp.Diff(c.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); !ok || err != nil || d != "" {
			t.Errorf("%s: %v, %v\n%s", name, ok, err, d)
		}
	}
}

func TestAPingForAnotherDomainIsNotAnswered(t *testing.T) {
	s, contoso := newServer(t)
	for name, p := range map[string]adproto.Ping{
		"another name":          {DNSDomain: "fabrikam.com"},
		"a child":               {DNSDomain: "child.contoso.com"},
		"another GUID":          {DNSDomain: "contoso.com", DomainGUID: dtyp.GUID{1}},
		"another SID":           {DNSDomain: "contoso.com", DomainSID: dtyp.NewSID(dtyp.AuthorityNT, 21, 9, 9, 9)},
		"a user of bad letters": {User: "a\x01b", AAC: 0},
	} {
		p.NtVersion = v5ex
		if value, ok := s.Answer(p, netip.Addr{}); ok {
			t.Errorf("%s: answered %x", name, value)
		}
	}
	for name, p := range map[string]adproto.Ping{
		"nothing but a version": {},
		"all of the domain":     {DNSDomain: "CONTOSO.com", DomainGUID: contoso.GUID, DomainSID: contoso.SID, Host: "WEB1", DNSHost: "web1.contoso.com"},
	} {
		p.NtVersion = v5ex
		if _, ok := s.Answer(p, netip.Addr{}); !ok {
			t.Errorf("%s: not answered", name)
		}
	}
}

func TestAUserIsKnownOfTheKindsAskedFor(t *testing.T) {
	s, _ := newServer(t)
	const normal, workstation, server = 0x10, 0x80, 0x100
	for _, c := range []struct {
		user  string
		aac   uint32
		known bool
	}{
		{"administrator", 0, true}, {"ADMINISTRATOR", normal, true}, {"administrator", workstation, false},
		{"web1$", workstation, true}, {"web1$", normal, false}, {"web1$", normal | workstation, true},
		{"dc1$", server, true}, {"dc1$", workstation, false},
		{"web1", 0, false}, // never with a $ added: CVE-2021-42278
		{"bob", 0, false},  // disabled
		{"Domain Users", 0, false}, {"nobody", normal, false}, {"krbtgt", 0, false},
	} {
		for ntver, ops := range map[adproto.NtVersion][2]adproto.Opcode{
			v5ex: {adproto.OpSamUserUnknownEx, adproto.OpSamLogonResponseEx},
			3:    {adproto.OpSamUserUnknown, adproto.OpSamLogonResponse},
			1:    {adproto.OpSamUserUnknown, adproto.OpSamLogonResponse},
		} {
			want := ops[0]
			if c.known {
				want = ops[1]
			}
			value, ok := s.Answer(adproto.Ping{User: c.user, AAC: c.aac, NtVersion: ntver}, netip.Addr{})
			r, err := adproto.ParsePingReply(value)
			if !ok || err != nil || r.Opcode != want || r.User != c.user {
				t.Errorf("%s as %#x, version %#x: %v, %v, %+v, want operation %d", c.user, c.aac, ntver, ok, err, r, want)
			}
		}
	}
}

func TestOurOwnClientFindsTheController(t *testing.T) {
	s, contoso := newServer(t)
	at := serve(t, s, "127.0.0.1:0")
	l, err := locate.New(locate.Config{Domain: "contoso.com", Servers: []string{at.String()}, PingTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	list, err := l.Controllers(t.Context(), locate.GMSA)
	if err != nil {
		t.Fatal(err)
	}
	if c := list[0]; c.Name != "dc1.contoso.com" || c.DomainGUID != contoso.GUID || c.Site != contoso.Site {
		t.Errorf("%+v", c)
	}
}

func TestSambasToolsFindTheController(t *testing.T) {
	lab.Need(t, "samba-tool", "net")
	address := lab.Address(t)
	s, contoso := newServer(t)
	serve(t, s, netip.AddrPortFrom(address, 389).String())
	for program, args := range map[string][]string{
		"samba-tool": {"domain", "info", address.String(), "--configfile=/dev/null"},
		"net":        {"ads", "lookup", "-S", address.String(), "--configfile=/dev/null", "--option=realm=CONTOSO.COM", "--option=workgroup=CONTOSO"},
	} {
		out := strings.Join(strings.Fields(lab.Run(t, nil, "", program, args...)), " ")
		for _, want := range []string{"contoso.com", "dc1.contoso.com", "DC1", "CONTOSO", "Server", "Client", contoso.Site} {
			if !strings.Contains(out, want) {
				t.Errorf("%s lacks %q:\n%s", program, want, out)
			}
		}
	}
}
