package adproto

import (
	"encoding/hex"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/dtyp"
)

// sambaReplies reads testdata/ping-replies.txt: replies keyed by "NtVer user".
func sambaReplies(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/ping-replies.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if strings.HasPrefix(line, "#") || len(f) != 3 {
			continue
		}
		b, err := hex.DecodeString(f[2])
		if err != nil {
			t.Fatal(err)
		}
		out[f[0]+" "+f[1]] = b
	}
	return out
}

func sambaGUID(t testing.TB) dtyp.GUID {
	t.Helper()
	b, _ := hex.DecodeString("a927018bcea71f48bee15e96ed8ffe61")
	return dtyp.GUID(b)
}

func TestRepliesOfSambaInEveryForm(t *testing.T) {
	const site = "Default-First-Site-Name"
	addr := netip.MustParseAddr("127.0.0.15")
	ex := PingReply{
		Opcode: OpSamLogonResponseEx, NtVersion: NtVersion1 | NtVersion5Ex, Flags: 0x1d1bd, DomainGUID: sambaGUID(t),
		Forest: "contoso.com", Domain: "contoso.com", HostName: "dc1.contoso.com",
		NetBIOSDomain: "CONTOSO", NetBIOSHost: "DC1", Site: site, ClientSite: site,
	}
	exIP := ex
	exIP.NtVersion |= NtVersion5ExWithIP
	exIP.Address = addr
	exUser := ex
	exUser.User = "web1$"
	exUnknown := ex
	exUnknown.Opcode, exUnknown.User = OpSamUserUnknownEx, "nobody"
	nt40 := PingReply{Opcode: OpSamLogonResponse, NtVersion: NtVersion1, NetBIOSHost: "DC1", NetBIOSDomain: "CONTOSO"}
	v5 := nt40
	v5.NtVersion, v5.Flags, v5.DomainGUID, v5.Address = NtVersion1|NtVersion5, 0x1d1bd, sambaGUID(t), addr
	v5.Forest, v5.Domain, v5.HostName = "contoso.com", "contoso.com", "dc1.contoso.com"
	v5User := v5
	v5User.User = "web1$"
	want := map[string]PingReply{
		"0x00000006 -": ex, "0x6000001e -": exIP, "0x00000006 web1$": exUser, "0x00000006 nobody": exUnknown,
		"0x00000002 -": v5, "0x00000001 -": nt40, "0x00000002 web1$": v5User,
	}
	got := sambaReplies(t)
	if len(got) != len(want) {
		t.Fatalf("%d vectors, want %d", len(got), len(want))
	}
	for name, b := range got {
		r, err := ParsePingReply(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if d := cmp.Diff(want[name], r, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
			t.Errorf("%s: %s", name, d)
		}
		again, err := r.Append([]byte("before"))
		if err != nil || string(again) != "before"+string(b) {
			t.Errorf("%s: written again: %v\n%x\n%x", name, err, again[6:], b)
		}
		for i := range b {
			if _, err := ParsePingReply(b[:i]); err == nil {
				t.Errorf("%s: prefix of %d bytes is accepted", name, i)
			}
		}
	}
	if !want["0x00000006 nobody"].UserUnknown() || !ex.Flags.Writable() || !ex.Flags.AtLeast2012() || ex.Paused() {
		t.Error("flags misread")
	}
}

func TestPrimaryResponseRoundTrip(t *testing.T) {
	for _, host := range []string{"DC1", "DC10"} {
		r := PingReply{Opcode: OpPrimaryResponse, NtVersion: NtVersion1, NetBIOSHost: host, NetBIOSDomain: "CONTOSO"}
		b, err := r.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParsePingReply(b)
		if err != nil || got != r {
			t.Errorf("%+v, %v, want %+v", got, err, r)
		}
		for i := range b {
			if _, err := ParsePingReply(b[:i]); err == nil {
				t.Errorf("prefix of %d bytes is accepted", i)
			}
		}
	}
}

// reply makes an EX reply whose names are the given bytes.
func replyWithNames(names string) []byte {
	b := append([]byte{23, 0, 0, 0}, make([]byte, 4+16)...) // names begin at offset 24
	return append(append(b, names...), 5, 0, 0, 0, 0xff, 0xff, 0xff, 0xff)
}

func TestCompressionIsBounded(t *testing.T) {
	rest := strings.Repeat("\x00", 7)
	for name, names := range map[string]string{
		"a pointer to itself":                   "\xc0\x18" + rest,
		"a pointer to the run's own start":      "\x01a\xc0\x18" + rest,
		"a pointer forwards":                    "\xc0\x20" + rest,
		"two pointers that take turns":          "\x01a\xc0\x1c\x01b\xc0\x18" + rest,
		"a label with a reserved type":          "\x80a" + rest,
		"a label that runs past the end":        "\x3fab",
		"a dot inside a label":                  "\x03a.b\x00" + rest,
		"a NUL inside a label":                  "\x03a\x00b\x00" + rest,
		"bytes that are not UTF-8":              "\x01\xff\x00" + rest,
		"a name over 255 bytes":                 strings.Repeat("\x3f"+strings.Repeat("a", 63), 4) + "\x00" + rest,
		"a byte too many":                       "\x00\x00" + rest,
		"half a pointer at the end":             "\x01a\x00\x00\x00\x00\x00\x00\x00\xc0",
		"a long name by pointers over pointers": longByPointers(),
	} {
		if r, err := ParsePingReply(replyWithNames(names)); err == nil {
			t.Errorf("%s: accepted as %+v", name, r)
		}
	}
	r, err := ParsePingReply(replyWithNames("\x01a\x00" + "\x01b\xc0\x18" + "\xc0\x1b" + "\x00\x00\x00\x00\x00"))
	if err != nil || r.Forest != "a" || r.Domain != "b.a" || r.HostName != "b.a" {
		t.Errorf("pointers backwards: %+v, %v", r, err)
	}
}

// longByPointers chains names so that the last is longer than 255 bytes though
// each one adds 63.
func longByPointers() string {
	var b strings.Builder
	at := 24
	for i := range 8 {
		start := at + 0
		b.WriteString("\x3f" + strings.Repeat("a", 63))
		at += 64
		if i == 0 {
			b.WriteString("\x00")
			at++
		} else {
			prev := 24
			if i > 1 {
				prev = 24 + 65 + (i-2)*66
			}
			b.Write([]byte{0xc0 | byte(prev>>8), byte(prev)})
			at += 2
		}
		_ = start
	}
	return b.String()
}

func TestPingsThatClientsSend(t *testing.T) {
	for text, want := range map[string]Ping{
		`(&(DnsDomain=contoso.com)(NtVer=\06\00\00\00))`:                               {DNSDomain: "contoso.com", NtVersion: 6},                                       // adcli
		`(&(NtVer=\06\00\00\00)(AAC=\00\00\00\00))`:                                    {NtVersion: 6},                                                                 // realmd
		`(&(DnsDomain=contoso.com.)(NtVer=\14\00\00\00))`:                              {DNSDomain: "contoso.com", NtVersion: 0x14},                                    // SSSD
		`(NtVer=0x00000006)`:                                                           {NtVersion: 6},                                                                 // net ads
		`(&(NtVer=6)(DnsDomain=contoso.com))`:                                          {DNSDomain: "contoso.com", NtVersion: 6},                                       // net ads
		`(NtVer=0x20000006)`:                                                           {NtVersion: 0x20000006},                                                        // samba-tool
		`(&(DnsDomain=c.d)(Host=WEB1)(User=x$)(AAC=\80\00\00\00)(NtVer=\16\00\00\20))`: {DNSDomain: "c.d", Host: "WEB1", User: "x$", AAC: 0x80, NtVersion: 0x20000016}, // Windows
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := ParsePing(f); err != nil || got != want {
			t.Errorf("%s: %+v, %v, want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{
		`(DnsDomain=contoso.com)`, `(&)`, `(|(NtVer=6))`, `(!(NtVer=6))`, `(NtVer=*)`, `(NtVer=)`, `(NtVer=x)`, `(NtVer=\06\00\00)`,
		`(&(NtVer=6)(NtVer=6))`, `(&(NtVer=6)(cn=x))`, `(&(NtVer=6)(DomainSid=x))`, `(&(NtVer=6)(DomainGuid=x))`, `(&(NtVer=6)(&(AAC=1)))`,
	} {
		f, err := ParseFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := ParsePing(f); err == nil {
			t.Errorf("%s: accepted as %+v", text, got)
		}
	}
}

func TestPingRoundTrip(t *testing.T) {
	sid, err := dtyp.ParseSID("S-1-5-21-1-2-3")
	if err != nil {
		t.Fatal(err)
	}
	p := Ping{DNSDomain: "contoso.com", Host: "WEB1", User: "web1$", DNSHost: "web1.contoso.com", DomainSID: sid, DomainGUID: sambaGUID(t), AAC: 0x80, NtVersion: NtVersion5Ex | NtVersion1}
	f, err := ParseFilterBER(p.Filter().Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParsePing(f); err != nil || got != p {
		t.Errorf("%+v, %v, want %+v", got, err, p)
	}
}

func FuzzParsePingReply(f *testing.F) {
	for _, b := range sambaReplies(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParsePingReply(b)
		if err != nil {
			return
		}
		out, err := r.Append(nil)
		if err != nil {
			return // an IPv6 address or an odd name cannot be written back
		}
		if again, err := ParsePingReply(out); err != nil || again != r {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}

func FuzzParsePing(f *testing.F) {
	f.Add(`(&(DnsDomain=contoso.com)(NtVer=\06\00\00\00))`)
	f.Fuzz(func(t *testing.T, s string) {
		fl, err := ParseFilter(s)
		if err != nil {
			return
		}
		p, err := ParsePing(fl)
		if err != nil {
			return
		}
		if again, err := ParsePing(p.Filter()); err != nil || again.NtVersion != p.NtVersion {
			t.Fatalf("%+v became %+v, %v", p, again, err)
		}
	})
}
