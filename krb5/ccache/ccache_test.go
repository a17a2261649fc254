package ccache_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

var (
	client = krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NamePrincipal, "WebApp01$")}
	tgs    = krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NameSrvInst, "krbtgt", "CONTOSO.COM")}
	http   = krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NameSrvHst, "HTTP", "web.contoso.com")}
	start  = time.Date(2036, 10, 1, 12, 0, 0, 0, time.UTC)
)

func credential(t testing.TB, server krb5.Principal, e crypto.EType, hours int) krb5.Credential {
	t.Helper()
	k, err := crypto.NewKey(e, secret.New(bytes.Repeat([]byte{byte(hours)}, e.KeySize())), crypto.AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	return krb5.Credential{
		Client: client, Server: server, SessionKey: k,
		AuthTime: start, StartTime: start.Add(time.Second), EndTime: start.Add(time.Duration(hours) * time.Hour), RenewTill: start.Add(168 * time.Hour),
		Flags: 0x40e10000, Ticket: krb5.Ticket{
			Realm: server.Realm, SName: server.Name,
			EncPart: krb5.EncryptedData{EType: crypto.AES256SHA1, KVNO: 2, Cipher: bytes.Repeat([]byte{byte(hours)}, 100)},
		}.Append(nil),
	}
}

func sample(t testing.TB) ccache.Cache {
	renewless := credential(t, http, crypto.AES128SHA2, 5)
	renewless.RenewTill = time.Time{}
	return ccache.Cache{
		Principal: client,
		KDCOffset: -1500 * time.Millisecond,
		Config: []ccache.Config{
			{Key: "fast_avail", Principal: tgs.String(), Value: []byte("yes")},
			{Key: "pa_type", Principal: tgs.String(), Value: []byte("2")},
			{Key: "refresh_time", Value: []byte("1790000000")},
		},
		Credentials: []krb5.Credential{
			credential(t, tgs, crypto.AES256SHA1, 10),
			renewless,
			credential(t, http, crypto.AES128SHA1, 9),
		},
	}
}

var same = cmp.Options{
	cmp.Comparer(func(a, b *crypto.Key) bool { return a.Equal(b) }),
}

func TestRoundTrip(t *testing.T) {
	for _, offset := range []time.Duration{0, time.Microsecond, -time.Microsecond, -2 * time.Second, 3723500 * time.Millisecond, -1500 * time.Millisecond} {
		want := sample(t)
		want.KDCOffset = offset
		got, err := ccache.Parse(want.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, same); d != "" {
			t.Errorf("offset %v: %s", offset, d)
		}
	}
}

// A file cut between two entries is a shorter cache; cut anywhere else it is
// an error.
func TestPrefixes(t *testing.T) {
	c := sample(t)
	b := c.Append(nil)
	boundary := map[int]bool{}
	for n := range len(c.Config) + 1 {
		boundary[len(ccache.Cache{Principal: c.Principal, Config: c.Config[:n]}.Append(nil))] = true
	}
	for n := range c.Credentials {
		boundary[len(ccache.Cache{Principal: c.Principal, Config: c.Config, Credentials: c.Credentials[:n]}.Append(nil))] = true
	}
	for n := range b {
		_, err := ccache.Parse(b[:n])
		if boundary[n] && err != nil {
			t.Errorf("%d bytes, whole entries: %v", n, err)
		}
		if !boundary[n] && !errors.Is(err, ccache.ErrFormat) {
			t.Errorf("%d bytes of %d: %v, want ErrFormat", n, len(b), err)
		}
	}
}

// asVersion3 rewrites a file of version 4 that has one credential: no header,
// and the key's type twice.
func asVersion3(t *testing.T, c ccache.Cache) []byte {
	t.Helper()
	head := len(ccache.Cache{Principal: c.Principal}.Append(nil))
	b := c.Append(nil)
	cred := c.Credentials[0]
	at := bytes.Index(b[head:], cred.SessionKey.Secret().Reveal())
	at += head - 6 // the type and the length before the key
	out := append([]byte{5, 3}, b[16:at]...)
	out = append(out, b[at:at+2]...)
	return append(out, b[at:]...)
}

func TestVersion3(t *testing.T) {
	want := ccache.Cache{Principal: client, Credentials: []krb5.Credential{credential(t, tgs, crypto.AES256SHA1, 10)}}
	got, err := ccache.Parse(asVersion3(t, want))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Error(d)
	}
}

// Entries are removed as MIT (endtime 0 and authtime -1) and Heimdal (endtime
// 0) do it; a setting with both times 0 is not removed.
func TestRemovedEntries(t *testing.T) {
	c := sample(t)
	for i, auth := range []time.Time{time.Unix(0xffffffff, 0), start} {
		c.Credentials[i].EndTime, c.Credentials[i].AuthTime = time.Time{}, auth
	}
	b := c.Append(nil)
	b = bytes.Replace(b, []byte("X-CACHECONF:"), []byte("X-RMED-CONF:"), 1)
	got, err := ccache.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Credentials) != 1 || !got.Credentials[0].EndTime.Equal(start.Add(9*time.Hour)) {
		t.Errorf("credentials: %+v", got.Credentials)
	}
	if len(got.Config) != 2 || got.Config[0].Key != "pa_type" {
		t.Errorf("settings: %+v", got.Config)
	}
}

func TestSkipped(t *testing.T) {
	c := ccache.Cache{Principal: client, Credentials: []krb5.Credential{
		credential(t, http, crypto.RC4HMAC, 10), credential(t, tgs, crypto.AES256SHA1, 10),
	}}
	b := c.Append(nil)
	got, err := ccache.Parse(b)
	if err != nil || len(got.Credentials) != 1 || len(got.Skipped) != 1 || !got.Skipped[0].Server.Equal(http) {
		t.Errorf("RC4: %+v, %v", got, err)
	}
	got, err = ccache.Parse(b, crypto.AllowRC4)
	if err != nil || len(got.Credentials) != 2 || len(got.Skipped) != 0 {
		t.Errorf("RC4 allowed: %+v, %v", got, err)
	}
	// The last entry becomes a user-to-user ticket by its second ticket.
	b[len(b)-1] = 3
	got, err = ccache.Parse(append(b, 1, 2, 3), crypto.AllowRC4)
	if err != nil || len(got.Credentials) != 1 || len(got.Skipped) != 1 || !got.Skipped[0].Server.Equal(tgs) {
		t.Errorf("second ticket: %+v, %v", got, err)
	}
}

// Addresses and authorization data are read over.
func TestListsAreSkipped(t *testing.T) {
	want := ccache.Cache{Principal: client, Credentials: []krb5.Credential{credential(t, tgs, crypto.AES256SHA1, 10)}}
	b := want.Append(nil)
	ticket := want.Credentials[0].Ticket
	at := bytes.Index(b, ticket) - 12 // count of addresses, count of authorization data, length
	lists := []byte{0, 0, 0, 2, 0, 2, 0, 0, 0, 4, 10, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0xff}
	b = bytes.Join([][]byte{b[:at], lists, b[at+8:]}, nil)
	got, err := ccache.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Error(d)
	}
}

func TestRefusals(t *testing.T) {
	huge := binary.BigEndian.AppendUint32([]byte{5, 4, 0, 0, 0, 0, 0, 1}, 0xffffffff)
	for name, b := range map[string][]byte{
		"empty":                       {},
		"another magic":               {4, 4, 0, 0},
		"version 2":                   {5, 2, 0, 0},
		"version 5":                   {5, 5, 0, 0},
		"an offset of 4 bytes":        {5, 4, 0, 8, 0, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"4 milliards of components":   append(huge, make([]byte, 64)...),
		"a file above the limit":      append([]byte{5, 4}, make([]byte, ccache.MaxSize)...),
		"something after the entries": append(sample(t).Append(nil), 0),
	} {
		if _, err := ccache.Parse(b); !errors.Is(err, ccache.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func TestUnknownHeaderFieldsAreSkipped(t *testing.T) {
	b := sample(t).Append(nil)
	b = bytes.Join([][]byte{{5, 4, 0, 17, 0, 9, 0, 1, 0xff}, b[4:]}, nil)
	got, err := ccache.Parse(b)
	if err != nil || got.KDCOffset != -1500*time.Millisecond {
		t.Errorf("%v, %v", got.KDCOffset, err)
	}
}

func TestFind(t *testing.T) {
	c := sample(t)
	if got, ok := c.Find(http); !ok || !got.EndTime.Equal(start.Add(9*time.Hour)) {
		t.Errorf("Find: %+v, %v", got, ok)
	}
	if got, ok := c.TGT(); !ok || !got.Server.Equal(tgs) {
		t.Errorf("TGT: %+v, %v", got, ok)
	}
	if _, ok := c.Find(client); ok {
		t.Error("Find finds what is not there")
	}
	if v, ok := c.Setting("pa_type", tgs.String()); !ok || string(v) != "2" {
		t.Errorf("Setting: %q, %v", v, ok)
	}
	if _, ok := c.Setting("pa_type", ""); ok {
		t.Error("Setting ignores the principal")
	}
}

// MIT's klist lists what we write, settings and time offset included.
func TestKlistReadsIt(t *testing.T) {
	lab.Need(t, "klist")
	file := filepath.Join(t.TempDir(), "ccache")
	c := sample(t)
	if err := os.WriteFile(file, c.Append(nil), 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, "klist", "-c", "-C", "-e", "-f", "FILE:"+file)
	for _, want := range []string{
		"Default principal: WebApp01$@CONTOSO.COM",
		"config: fast_avail(krbtgt/CONTOSO.COM@CONTOSO.COM) = yes",
		"config: pa_type(krbtgt/CONTOSO.COM@CONTOSO.COM) = 2",
		"config: refresh_time = 1790000000",
		"10/01/36 12:00:01  10/01/36 22:00:00  krbtgt/CONTOSO.COM@CONTOSO.COM",
		"renew until 10/08/36 12:00:00, Flags: FRIA",
		"10/01/36 12:00:01  10/01/36 17:00:00  HTTP/web.contoso.com@CONTOSO.COM",
		"Etype (skey, tkt): aes256-cts-hmac-sha1-96, aes256-cts-hmac-sha1-96",
		"Etype (skey, tkt): aes128-cts-hmac-sha256-128, aes256-cts-hmac-sha1-96",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("klist does not say %q in\n%s", want, out)
		}
	}
}

// We read what libkrb5 writes in both versions: a copy of our cache with a
// setting added, one changed, and a ticket removed.
func TestReadsMIT(t *testing.T) {
	lab.Need(t, "klist", "python3")
	for version := 3; version <= 4; version++ {
		dir := t.TempDir()
		from, to, conf := filepath.Join(dir, "from"), filepath.Join(dir, "to"), filepath.Join(dir, "krb5.conf")
		want := sample(t)
		write(t, from, want.Append(nil))
		write(t, conf, fmt.Appendf(nil, "[libdefaults]\n\tccache_type = %d\n", version))
		cmd := exec.CommandContext(t.Context(), "python3", "testdata/mit.py", from, to)
		cmd.Env = append(os.Environ(), "KRB5_CONFIG="+conf)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		b, err := os.ReadFile(to)
		if err != nil {
			t.Fatal(err)
		}
		if int(b[1]) != version {
			t.Fatalf("MIT wrote version %d, want %d", b[1], version)
		}
		got, err := ccache.Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		want.Credentials = want.Credentials[1:]
		if d := cmp.Diff(want.Credentials, got.Credentials, same); d != "" {
			t.Errorf("version %d: %s", version, d)
		}
		if v, ok := got.Setting("start_realm", ""); !ok || string(v) != "CONTOSO.COM" {
			t.Errorf("version %d: added setting: %q, %v", version, v, ok)
		}
		if v, ok := got.Setting("pa_type", tgs.String()); !ok || string(v) != "138" || len(got.Config) != 4 {
			t.Errorf("version %d: changed setting: %q, %v of %d", version, v, ok, len(got.Config))
		}
		if version == 4 && got.KDCOffset != want.KDCOffset {
			t.Errorf("offset %v, want %v", got.KDCOffset, want.KDCOffset)
		}
	}
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG=/dev/null", "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func FuzzParse(f *testing.F) {
	f.Add(sample(f).Append(nil))
	f.Add([]byte{5, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ccache.Parse(b, crypto.AllowRC4)
		if err != nil {
			return
		}
		c.Skipped = nil
		again, err := ccache.Parse(c.Append(nil), crypto.AllowRC4)
		if err != nil {
			t.Fatal(err)
		}
		if len(again.Credentials) != len(c.Credentials) || len(again.Config) != len(c.Config) || again.KDCOffset != c.KDCOffset {
			t.Errorf("%+v\nwritten and read:\n%+v", c, again)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	file := sample(b).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ccache.Parse(file); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	c := sample(b)
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst = c.Append(dst[:0])
	}
}
