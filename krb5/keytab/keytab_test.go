package keytab_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
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
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

var (
	account = krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NamePrincipal, "WebApp01$")}
	service = krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NameSrvHst, "HTTP", "web.contoso.com")}
	when    = time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)
)

func newKey(t testing.TB, e crypto.EType, fill byte) *crypto.Key {
	t.Helper()
	k, err := crypto.NewKey(e, secret.New(bytes.Repeat([]byte{fill}, e.KeySize())), crypto.AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sample(t testing.TB) keytab.Keytab {
	return keytab.Keytab{Entries: []keytab.Entry{
		{Principal: account, Timestamp: when, KVNO: 2, Key: newKey(t, crypto.AES256SHA1, 1)},
		{Principal: account, Timestamp: when, KVNO: 3, Key: newKey(t, crypto.AES256SHA1, 2)},
		{Principal: account, Timestamp: when, KVNO: 3, Key: newKey(t, crypto.AES128SHA1, 3)},
		{Principal: service, Timestamp: when, KVNO: 70000, Key: newKey(t, crypto.AES128SHA2, 4)},
		{Principal: service, KVNO: 1, Key: newKey(t, crypto.AES256SHA2, 5)},
		{Principal: service, KVNO: 1, Other: keytab.OtherKey{EType: 16, Bytes: secret.New(make([]byte, 24))}},
	}}
}

func encode(t testing.TB, kt keytab.Keytab) []byte {
	t.Helper()
	b, err := kt.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// same compares keytabs, the keys by their bytes.
var same = cmp.Options{
	cmp.Comparer(func(a, b *crypto.Key) bool { return a.Equal(b) }),
	cmp.Comparer(func(a, b secret.Bytes) bool { return a.Equal(b) }),
}

func TestRoundTrip(t *testing.T) {
	want := sample(t)
	b := encode(t, want)
	got, err := keytab.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Error(d)
	}
	if again := encode(t, got); !bytes.Equal(again, b) {
		t.Errorf("written again:\n%x, want\n%x", again, b)
	}
}

// A file cut between two records is a shorter keytab; cut anywhere else it is
// an error.
func TestPrefixes(t *testing.T) {
	kt := sample(t)
	b := encode(t, kt)
	boundary := map[int]int{}
	for n := range kt.Entries {
		boundary[len(encode(t, keytab.Keytab{Entries: kt.Entries[:n]}))] = n
	}
	for n := range b {
		got, err := keytab.Parse(b[:n])
		want, whole := boundary[n]
		switch {
		case whole && (err != nil || len(got.Entries) != want):
			t.Errorf("%d bytes: %d entries, %v, want %d", n, len(got.Entries), err, want)
		case !whole && !errors.Is(err, keytab.ErrFormat):
			t.Errorf("%d bytes of %d: %v, want ErrFormat", n, len(b), err)
		}
	}
}

func TestHolesAndPadding(t *testing.T) {
	kt := sample(t)
	one := encode(t, keytab.Keytab{Entries: kt.Entries[:1]})[2:]
	size := binary.BigEndian.Uint32(one)
	hole := append(binary.BigEndian.AppendUint32(nil, -size), make([]byte, size)...)
	// A record that was overwritten by a shorter one: MIT leaves its size.
	padded := bytes.Clone(one)
	binary.BigEndian.PutUint32(padded, size+7)
	padded = append(padded, 1, 2, 3, 4, 5, 6, 7)
	file := bytes.Join([][]byte{{5, 2}, hole, one, hole, padded, {0, 0, 0, 0}, []byte("whatever")}, nil)
	got, err := keytab.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	want := keytab.Keytab{Entries: []keytab.Entry{kt.Entries[0], kt.Entries[0]}}
	if d := cmp.Diff(want, got, same); d != "" {
		t.Error(d)
	}
}

// version1 writes the format of 0x0501, in either byte order.
func version1(order binary.AppendByteOrder, kvno byte, key []byte) []byte {
	counted := func(b []byte, s string) []byte { return append(order.AppendUint16(b, uint16(len(s))), s...) }
	r := order.AppendUint16(nil, 3) // realm and two components
	r = counted(r, "CONTOSO.COM")
	r = counted(r, "HTTP")
	r = counted(r, "web.contoso.com")
	r = order.AppendUint32(r, uint32(when.Unix()))
	r = append(r, kvno)
	r = order.AppendUint16(r, 18)
	r = counted(r, string(key))
	return append(order.AppendUint32([]byte{5, 1}, uint32(len(r))), r...)
}

func TestVersion1(t *testing.T) {
	k := newKey(t, crypto.AES256SHA1, 9)
	p := service
	p.Name.Type = krb5.NamePrincipal
	want := keytab.Keytab{Entries: []keytab.Entry{{Principal: p, Timestamp: when, KVNO: 7, Key: k}}}
	for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
		got, err := keytab.Parse(version1(order, 7, k.Secret().Reveal()))
		if err != nil {
			t.Fatalf("%v: %v", order, err)
		}
		if d := cmp.Diff(want, got, same); d != "" {
			t.Errorf("%v: %s", order, d)
		}
	}
}

func TestShortKVNO(t *testing.T) {
	b := encode(t, keytab.Keytab{Entries: sample(t).Entries[:1]})
	b = b[:len(b)-4] // without the version number of 32 bits
	b[5] -= 4
	got, err := keytab.Parse(b)
	if err != nil || got.Entries[0].KVNO != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	b[5] += 4
	b = append(b, 0, 0, 0, 0) // present, and zero
	got, err = keytab.Parse(b)
	if err != nil || got.Entries[0].KVNO != 2 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestRC4OnlyIfAllowed(t *testing.T) {
	b := encode(t, keytab.Keytab{Entries: []keytab.Entry{{Principal: account, KVNO: 1, Key: newKey(t, crypto.RC4HMAC, 1)}}})
	got, err := keytab.Parse(b)
	if err != nil || got.Entries[0].Key != nil || got.Entries[0].EType() != crypto.RC4HMAC {
		t.Errorf("%+v, %v", got, err)
	}
	if again := encode(t, got); !bytes.Equal(again, b) {
		t.Error("a key that may not be used is not written back unchanged")
	}
	got, err = keytab.Parse(b, crypto.AllowRC4)
	if err != nil || got.Entries[0].Key == nil {
		t.Errorf("allowed: %+v, %v", got, err)
	}
}

func TestRefusals(t *testing.T) {
	for name, b := range map[string][]byte{
		"empty":                            {},
		"another magic":                    {4, 2},
		"version 3":                        {5, 3},
		"a hole beyond the end":            {5, 2, 0xff, 0xff, 0xff, 0xf0, 0},
		"the most negative size":           {5, 2, 0x80, 0, 0, 0},
		"a record of one byte":             {5, 2, 0, 0, 0, 1, 0},
		"components beyond the record":     {5, 2, 0, 0, 0, 4, 0xff, 0xff, 0, 0},
		"a key whose size is not its type": badKeySize(t),
		"a file above the limit":           append([]byte{5, 2}, make([]byte, keytab.MaxSize)...),
	} {
		if _, err := keytab.Parse(b); !errors.Is(err, keytab.ErrFormat) {
			t.Errorf("%s: %v, want ErrFormat", name, err)
		}
	}
}

func badKeySize(t *testing.T) []byte {
	kt := keytab.Keytab{Entries: []keytab.Entry{{Principal: account, Other: keytab.OtherKey{EType: 18, Bytes: secret.New(make([]byte, 31))}}}}
	return encode(t, kt)
}

func TestAppendRefusesWhatDoesNotFit(t *testing.T) {
	long := krb5.Principal{Realm: strings.Repeat("A", 65536), Name: account.Name}
	for name, e := range map[string]keytab.Entry{
		"a long realm": {Principal: long, Key: newKey(t, crypto.AES256SHA1, 1)},
		"a long key":   {Principal: account, Other: keytab.OtherKey{EType: 99, Bytes: secret.New(make([]byte, 65536))}},
		"a large type": {Principal: account, Other: keytab.OtherKey{EType: 70000, Bytes: secret.New(make([]byte, 1))}},
	} {
		if _, err := (keytab.Keytab{Entries: []keytab.Entry{e}}).Append(nil); err == nil {
			t.Errorf("%s is written", name)
		}
	}
}

func TestLookup(t *testing.T) {
	kt := sample(t)
	if k, ok := kt.Lookup(account, 3, crypto.AES128SHA1); !ok || !k.Equal(kt.Entries[2].Key) {
		t.Errorf("Lookup: %v, %v", k, ok)
	}
	if _, ok := kt.Lookup(account, 2, crypto.AES128SHA1); ok {
		t.Error("Lookup finds a key of another version")
	}
	if got := kt.Newest(account); len(got) != 2 || got[0].KVNO != 3 || got[1].KVNO != 3 {
		t.Errorf("Newest: %v", got)
	}
	if got := kt.Principals(); len(got) != 2 || !got[0].Equal(account) || !got[1].Equal(service) {
		t.Errorf("Principals: %v", got)
	}
}

// MIT's klist lists what we write.
func TestKlistReadsIt(t *testing.T) {
	lab.Need(t, "klist")
	file := filepath.Join(t.TempDir(), "keytab")
	kt := sample(t)
	if err := os.WriteFile(file, encode(t, kt), 0o600); err != nil {
		t.Fatal(err)
	}
	out := run(t, "", "klist", "-k", "-t", "-e", "-K", "FILE:"+file)
	for _, e := range kt.Entries[:5] {
		want := fmt.Sprintf("%v (%v)  (0x%s)", e.Principal, e.Key.EType(), hex.EncodeToString(e.Key.Secret().Reveal()))
		found := false
		for line := range strings.Lines(out) {
			f := strings.Fields(line)
			found = found || strings.Contains(line, want) && f[0] == fmt.Sprint(e.KVNO)
		}
		if !found {
			t.Errorf("klist does not list %d %s in\n%s", e.KVNO, want, out)
		}
	}
	if !strings.Contains(out, "10/01/") && !strings.Contains(out, "01/10/") {
		t.Errorf("the timestamp is missing in\n%s", out)
	}
}

// We read what MIT's ktutil writes, deletions included, and agree on the keys
// that it derives from a password.
func TestReadsKtutil(t *testing.T) {
	lab.Need(t, "ktutil")
	dir := t.TempDir()
	file := filepath.Join(dir, "keytab")
	run(t, strings.Join([]string{
		"addent -password -p HTTP/web.contoso.com@CONTOSO.COM -k 300 -e aes256-cts-hmac-sha1-96", "pass word",
		"addent -password -p HTTP/web.contoso.com@CONTOSO.COM -k 300 -e aes128-cts-hmac-sha256-128", "pass word",
		"addent -password -p WebApp01$@CONTOSO.COM -k 1 -e rc4-hmac", "pass word",
		"wkt " + file, "quit", "",
	}, "\n"), "ktutil")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got, err := keytab.Parse(b, crypto.AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Entries) != 3 {
		t.Fatalf("%d entries, want 3", len(got.Entries))
	}
	salt := "CONTOSO.COMHTTPweb.contoso.com"
	for i, c := range []struct {
		etype     crypto.EType
		principal krb5.Principal
		kvno      uint32
	}{{crypto.AES256SHA1, service, 300}, {crypto.AES128SHA2, service, 300}, {crypto.RC4HMAC, account, 1}} {
		want, err := crypto.StringToKey(c.etype, []byte("pass word"), salt, nil, crypto.AllowRC4)
		if err != nil {
			t.Fatal(err)
		}
		e := got.Entries[i]
		if !e.Key.Equal(want) || !e.Principal.Equal(c.principal) || e.KVNO != c.kvno || time.Since(e.Timestamp).Abs() > time.Hour {
			t.Errorf("entry %d: %+v", i, e)
		}
	}
}

func run(t *testing.T, stdin, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "KRB5_CONFIG=/dev/null", "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

func FuzzParse(f *testing.F) {
	f.Add(encode(f, sample(f)))
	f.Add(version1(binary.LittleEndian, 7, make([]byte, 32)))
	f.Add([]byte{5, 2, 0xff, 0xff, 0xff, 0xfe, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		kt, err := keytab.Parse(b, crypto.AllowRC4)
		if err != nil {
			return
		}
		again, err := keytab.Parse(encode(t, kt), crypto.AllowRC4)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(kt, again, same); d != "" {
			t.Error(d)
		}
	})
}
