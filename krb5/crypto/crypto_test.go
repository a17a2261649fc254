package crypto

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/secret"
)

var all = []EType{AES128SHA1, AES256SHA1, AES128SHA2, AES256SHA2, RC4HMAC}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	if s == "-" {
		return nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectors reads the lines of a file of testdata, split into fields.
func vectors(t *testing.T, name string, fields int) [][]string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] == "#" {
			continue
		}
		if len(f) != fields {
			t.Fatalf("%s: %q has %d fields, want %d", name, line, len(f), fields)
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		t.Fatalf("%s has no vector", name)
	}
	return out
}

func number(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func key(t testing.TB, e EType, b []byte) *Key {
	t.Helper()
	k, err := NewKey(e, secret.Copy(b), AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func random(t testing.TB, e EType) *Key {
	t.Helper()
	k, err := Generate(e, rand.Reader, AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// RFC 3961, Appendix A.1.
func TestNFold(t *testing.T) {
	for _, c := range []struct {
		in   string
		want string
	}{
		{"012345", "be072631276b1955"},
		{"password", "78a07b6caf85fa"},
		{"Rough Consensus, and Running Code", "bb6ed30870b7f0e0"},
		{"password", "59e4a8ca7c0385c3c37b3f6d2000247cb6e6bd5b3e"},
		{"MASSACHVSETTS INSTITVTE OF TECHNOLOGY", "db3b0d8f0b061e603282b308a50841229ad798fab9540c1b"},
		{"Q", "518a54a2 15a8452a 518a54a2 15a8452a 518a54a2 15"},
		{"ba", "fb25d531 ae897449 9f52fd92 ea9857c4 ba24cf29 7e"},
		{"kerberos", "6b657262 65726f73"},
		{"kerberos", "6b657262 65726f73 7b9b5b2b 93132b93"},
		{"kerberos", "8372c236 344e5f15 50cd0747 e15d62ca 7a5a3bce a4"},
		{"kerberos", "6b657262 65726f73 7b9b5b2b 93132b93 5c9bdcda d95c9899 c4cae4de e6d6cae4"},
	} {
		want := unhex(t, c.want)
		got := make([]byte, len(want))
		nfold(got, []byte(c.in))
		if !bytes.Equal(got, want) {
			t.Errorf("%d-fold(%q) = %x, want %x", len(want)*8, c.in, got, want)
		}
	}
}

// The derived keys of usage 2 for the keys of RFC 3962, Appendix B and
// RFC 8009, Appendix A; those of the former are MIT's (t_derive.c).
func TestDerivedKeys(t *testing.T) {
	for _, c := range []struct {
		etype      EType
		key        string
		kc, ke, ki string
	}{
		{etype: AES128SHA1, key: "42263c6e89f4fc28b8df68ee09799f15",
			kc: "34280a382bc92769b2da2f9ef066854b", ke: "5b14fc4e250e14ddf9dccf1af6674f53", ki: "4ed31063621684f09ae8d89991af3e8f"},
		{etype: AES256SHA1, key: "fe697b52bc0d3ce14432ba036a92e65bbb52280990a2fa27883998d72af30161",
			kc: "bfab388bdcb238e9f9c98d6a878304f04d30c82556375ac507a7a852790f4674",
			ke: "c7cfd9cd75fe793a586a542d87e0d1396f1134a104bb1a9190b8c90ada3ddf37",
			ki: "97151b4c76945063e2eb0529dc067d97d7bba90776d8126d91f34f3101aea8ba"},
		{etype: AES128SHA2, key: "3705d96080c17728a0e800eab6e0d23c",
			kc: "b31a018a48f54776f403e9a396325dc3", ke: "9b197dd1e8c5609d6e67c3e37c62c72e", ki: "9fda0e56ab2d85e1569a688696c26a6c"},
		{etype: AES256SHA2, key: "6d404d37faf79f9df0d33568d320669800eb4836472ea8a026d16b7182460c52",
			kc: "ef5718be86cc84963d8bbb5031e9f5c4ba41f28faf69e73d",
			ke: "56ab22bee63d82d7bc5227f6773f8ea7a5eb1c825160c38312980c442e5c7e49",
			ki: "69b16514e3cd8e56b82010d5c73012b622c4d00ffc23ed1f"},
	} {
		p, k := profileOf(c.etype), unhex(t, c.key)
		derive := func(purpose byte, size int) []byte {
			if p.sha2 {
				return kdfSHA2(p, k, usageConstant(2, purpose), size)
			}
			return dk(newAES(k), size, usageConstant(2, purpose))
		}
		for name, d := range map[string]struct {
			got  []byte
			want string
		}{
			"Kc": {derive(0x99, p.macKeySize), c.kc},
			"Ke": {derive(0xAA, p.keySize), c.ke},
			"Ki": {derive(0x55, p.macKeySize), c.ki},
		} {
			if hex.EncodeToString(d.got) != d.want {
				t.Errorf("%v %s = %x, want %s", c.etype, name, d.got, d.want)
			}
		}
	}
}

// RFC 3962, Appendix B: CBC with ciphertext stealing.
func TestCTS(t *testing.T) {
	b := newAES([]byte("chicken teriyaki"))
	text := []byte("I would like the General Gau's Chicken, please, and wonton soup.")
	for n, want := range map[int]string{
		17: "c6353568f2bf8cb4d8a580362da7ff7f 97",
		31: "fc00783e0efdb2c1d445d4c8eff7ed22 97687268d6ecccc0c07b25e25ecfe5",
		32: "39312523a78662d5be7fcbcc98ebf5a8 97687268d6ecccc0c07b25e25ecfe584",
		47: "97687268d6ecccc0c07b25e25ecfe584 b3fffd940c16a18c1b5549d2f838029e 39312523a78662d5be7fcbcc98ebf5",
		48: "97687268d6ecccc0c07b25e25ecfe584 9dad8bbb96c4cdc03bc103e1a194bbd8 39312523a78662d5be7fcbcc98ebf5a8",
		64: "97687268d6ecccc0c07b25e25ecfe584 39312523a78662d5be7fcbcc98ebf5a8 4807efe836ee89a526730dbc2f7bc840 9dad8bbb96c4cdc03bc103e1a194bbd8",
	} {
		buf := bytes.Clone(text[:n])
		ctsEncrypt(b, buf)
		if !bytes.Equal(buf, unhex(t, want)) {
			t.Errorf("encrypt %d bytes: %x, want %s", n, buf, want)
		}
		ctsDecrypt(b, buf)
		if !bytes.Equal(buf, text[:n]) {
			t.Errorf("decrypt %d bytes: %q", n, buf)
		}
	}
}

func TestStringToKeyVectors(t *testing.T) {
	for _, v := range vectors(t, "str2key.txt", 5) {
		e := EType(number(t, v[0]))
		password, salt := unhex(t, v[2]), string(unhex(t, v[3]))
		derive := stringToKeySHA1
		if profileOf(e).sha2 {
			derive = stringToKeySHA2
		}
		got, err := derive(profileOf(e), password, salt, number(t, v[1]))
		if err != nil {
			t.Fatal(err)
		}
		if hex.EncodeToString(got) != v[4] {
			t.Errorf("%v: got %x, want %s", v, got, v[4])
		}
	}
}

// RFC 4757, Section 2 gives the hash of "foo".
func TestStringToKeyRC4(t *testing.T) {
	k, err := StringToKey(RC4HMAC, []byte("foo"), "ignored", nil, AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(k.Secret().Reveal()); got != "ac8e657f83df82beea5d43bdaf7800cc" {
		t.Errorf("got %s", got)
	}
	if _, err := StringToKey(RC4HMAC, []byte("foo"), "", []byte{0, 0, 0, 1}, AllowRC4); !errors.Is(err, ErrParameters) {
		t.Errorf("parameters: %v", err)
	}
}

func TestStringToKeyParameters(t *testing.T) {
	def := map[EType][]byte{
		AES128SHA1: {0, 0, 0x10, 0}, AES256SHA1: {0, 0, 0x10, 0},
		AES128SHA2: {0, 0, 0x80, 0}, AES256SHA2: {0, 0, 0x80, 0},
	}
	for e, params := range def {
		implicit, err := StringToKey(e, []byte("secret"), "EXAMPLE.COMuser", nil)
		if err != nil {
			t.Fatal(err)
		}
		explicit, err := StringToKey(e, []byte("secret"), "EXAMPLE.COMuser", params)
		if err != nil {
			t.Fatalf("%v, default count given: %v", e, err)
		}
		if !implicit.Equal(explicit) {
			t.Errorf("%v: the default count given changes the key", e)
		}
		for _, bad := range [][]byte{{0, 0, 0, 0}, {0, 0, 0, 1}, {0, 0, 0x0f, 0xff}, {0x10, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0}, {0, 0, 0x10}, {0, 0, 0x10, 0, 0}} {
			if _, err := StringToKey(e, []byte("secret"), "EXAMPLE.COMuser", bad); !errors.Is(err, ErrParameters) {
				t.Errorf("%v, parameters %x: %v, want ErrParameters", e, bad, err)
			}
		}
	}
}

// Ciphertexts that MIT made decrypt here, and what is sealed again with the
// confounder found in them is the same ciphertext.
func TestDecryptVectors(t *testing.T) {
	for _, v := range vectors(t, "decrypt.txt", 5) {
		k := key(t, EType(number(t, v[0])), unhex(t, v[2]))
		usage, want, text := uint32(number(t, v[1])), unhex(t, v[3]), unhex(t, v[4])
		got, err := k.Decrypt(usage, text)
		if err != nil {
			t.Errorf("%v: %v", v, err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v: got %q", v, got)
		}
		// The confounder stands in memory before the plaintext.
		buf := bytes.Clone(text)
		suite := k.derived(usage, forEncryption)
		plain, err := suite.open(buf)
		if err != nil {
			t.Fatal(err)
		}
		start := bytes.Index(buf, plain) - k.prof.confounder
		if len(plain) == 0 {
			start = map[bool]int{true: len(buf) - k.prof.confounder, false: 0}[k.etype == RC4HMAC]
		}
		again, err := k.Encrypt(nil, usage, want, bytes.NewReader(buf[start:]))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again, text) {
			t.Errorf("%v: encrypted again %x", v, again)
		}
	}
}

func TestChecksumVectors(t *testing.T) {
	for _, v := range vectors(t, "checksum.txt", 5) {
		k := key(t, EType(number(t, v[0])), unhex(t, v[2]))
		usage, data, want := uint32(number(t, v[1])), unhex(t, v[3]), unhex(t, v[4])
		if got := k.Checksum(usage, data); !bytes.Equal(got, want) {
			t.Errorf("%v: got %x", v, got)
		}
		if err := k.VerifyChecksum(usage, data, want); err != nil {
			t.Errorf("%v: %v", v, err)
		}
		if got := k.AppendChecksum([]byte("x"), usage, data[:3], nil, data[3:]); !bytes.Equal(got[1:], want) {
			t.Errorf("%v in parts: got %x", v, got)
		}
	}
}

// RFC 4757, Section 3 and its erratum: 3 is 8, 23 is 13, the rest as it is.
func TestRC4Usages(t *testing.T) {
	k := random(t, RC4HMAC)
	same := func(a, b uint32) bool { return bytes.Equal(k.Checksum(a, []byte("x")), k.Checksum(b, []byte("x"))) }
	if !same(3, 8) || !same(23, 13) {
		t.Error("3 and 23 are not translated")
	}
	if same(9, 8) || same(22, 13) || same(7, 8) {
		t.Error("9, 22 or 7 is translated")
	}
}

func TestSizesAndChecksumTypes(t *testing.T) {
	for e, want := range map[EType][4]int{
		AES128SHA1: {16, 16, 12, 15}, AES256SHA1: {32, 16, 12, 16},
		AES128SHA2: {16, 16, 16, 19}, AES256SHA2: {32, 16, 24, 20},
		RC4HMAC: {16, 8, 16, -138}, 3: {0, 0, 0, 0},
	} {
		if got := [4]int{e.KeySize(), e.ConfounderSize(), e.ChecksumSize(), int(e.ChecksumType())}; got != want {
			t.Errorf("%v: %v, want %v", e, got, want)
		}
		if e == 3 {
			continue
		}
		if k := random(t, e); k.ChecksumType() != e.ChecksumType() || len(k.Checksum(1, nil)) != want[2] {
			t.Errorf("%v: checksum type %d", e, k.ChecksumType())
		}
	}
	if got := EType(3).WindowsName(); got != "etype 3" {
		t.Errorf("got %q", got)
	}
}

func TestEncryptRoundTrip(t *testing.T) {
	for _, e := range all {
		k := random(t, e)
		for n := range 100 {
			plain := make([]byte, n)
			_, _ = rand.Read(plain)
			dst := []byte("prefix")
			c, err := k.Encrypt(dst, 11, plain, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(c, dst) || len(c) != len(dst)+n+e.Overhead() {
				t.Fatalf("%v, %d bytes: ciphertext of %d bytes", e, n, len(c))
			}
			c = c[len(dst):]
			got, err := k.Decrypt(11, c)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%v, %d bytes: %x, %v", e, n, got, err)
			}
			if _, err := k.Decrypt(12, c); !errors.Is(err, ErrIntegrity) {
				t.Errorf("%v: another usage: %v", e, err)
			}
		}
	}
}

// Every change, every prefix and every longer text is the same error, and no
// plaintext is left in the buffer.
func TestTampering(t *testing.T) {
	for _, e := range all {
		k := random(t, e)
		plain := []byte("pay 10 to the bearer, and not a cent more")
		c, err := k.Encrypt(nil, 1, plain, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for i := range c {
			bad := bytes.Clone(c)
			bad[i] ^= 1
			if _, err := k.DecryptInPlace(1, bad); !errors.Is(err, ErrIntegrity) {
				t.Errorf("%v: byte %d changed: %v", e, i, err)
			}
			if bytes.Contains(bad, plain[16:32]) {
				t.Errorf("%v: byte %d changed: plaintext left in the buffer", e, i)
			}
			if _, err := k.Decrypt(1, c[:i]); !errors.Is(err, ErrIntegrity) {
				t.Errorf("%v: %d bytes of %d: %v", e, i, len(c), err)
			}
		}
		if _, err := k.Decrypt(1, append(bytes.Clone(c), 0)); !errors.Is(err, ErrIntegrity) {
			t.Errorf("%v: one byte more: %v", e, err)
		}
		sum := k.Checksum(1, plain)
		for i := range sum {
			if err := k.VerifyChecksum(1, plain, sum[:i]); !errors.Is(err, ErrIntegrity) {
				t.Errorf("%v: checksum of %d bytes: %v", e, i, err)
			}
			bad := bytes.Clone(sum)
			bad[i] ^= 0x80
			if err := k.VerifyChecksum(1, plain, bad); !errors.Is(err, ErrIntegrity) {
				t.Errorf("%v: checksum byte %d changed: %v", e, i, err)
			}
		}
		if err := k.VerifyChecksum(2, plain, sum); e != RC4HMAC && !errors.Is(err, ErrIntegrity) {
			t.Errorf("%v: checksum under another usage: %v", e, err)
		}
	}
}

func TestRC4NeedsAllowance(t *testing.T) {
	if _, err := NewKey(RC4HMAC, secret.New(make([]byte, 16))); !errors.Is(err, ErrEType) {
		t.Errorf("NewKey: %v", err)
	}
	if _, err := Generate(RC4HMAC, rand.Reader); !errors.Is(err, ErrEType) {
		t.Errorf("Generate: %v", err)
	}
	if _, err := StringToKey(RC4HMAC, []byte("x"), "", nil); !errors.Is(err, ErrEType) {
		t.Errorf("StringToKey: %v", err)
	}
	for _, e := range []EType{0, 1, 3, 16, 21, 24, -133} {
		if _, err := NewKey(e, secret.New(make([]byte, 16)), AllowRC4); !errors.Is(err, ErrEType) {
			t.Errorf("etype %d: %v", e, err)
		}
	}
}

func TestKeySizes(t *testing.T) {
	for _, e := range all {
		for _, n := range []int{0, 1, 8, 15, 17, 24, 31, 33, 64} {
			if _, err := NewKey(e, secret.New(make([]byte, n)), AllowRC4); err == nil {
				t.Errorf("%v accepts a key of %d bytes", e, n)
			}
		}
	}
}

func TestGenerateFailsWithItsReader(t *testing.T) {
	if _, err := Generate(AES256SHA1, bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v", err)
	}
	k := random(t, AES256SHA1)
	if _, err := k.Encrypt(nil, 1, nil, bytes.NewReader(nil)); !errors.Is(err, io.EOF) {
		t.Errorf("Encrypt: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, e := range all {
		for _, s := range []string{e.String(), e.WindowsName(), strings.ToUpper(e.String()), strconv.Itoa(int(e))} {
			if got, err := ParseEType(s); err != nil || got != e {
				t.Errorf("ParseEType(%q) = %v, %v", s, got, err)
			}
		}
	}
	for s, want := range map[string]EType{"aes256-cts": AES256SHA1, "aes128-sha2": AES128SHA2, "arcfour-hmac": RC4HMAC} {
		if got, err := ParseEType(s); err != nil || got != want {
			t.Errorf("ParseEType(%q) = %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "des-cbc-crc", "3", "aes", "-18"} {
		if _, err := ParseEType(s); !errors.Is(err, ErrEType) {
			t.Errorf("ParseEType(%q): %v", s, err)
		}
	}
	if s := EType(3).String(); s != "etype 3" {
		t.Errorf("EType(3) = %q", s)
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	k := random(t, AES256SHA1)
	k.Checksum(1, nil)
	raw := k.Secret().Reveal()
	for _, verb := range []string{"%v", "%+v", "%#v", "%x", "%X", "%q", "%s", "%d"} {
		for _, v := range []any{k, struct{ K *Key }{k}, []*Key{k}} {
			out := strings.ToLower(fmt.Sprintf(verb, v))
			if strings.Contains(out, hex.EncodeToString(raw[:4])) || strings.Contains(out, fmt.Sprint(raw[0])+" "+fmt.Sprint(raw[1])+" ") {
				t.Errorf("%s of %T: %s", verb, v, out)
			}
		}
	}
	if got := fmt.Sprint(k); got != "aes256-cts-hmac-sha1-96 [secret]" {
		t.Errorf("printed %q", got)
	}
	if _, err := k.MarshalText(); !errors.Is(err, secret.ErrMarshal) {
		t.Errorf("MarshalText: %v", err)
	}
}

func TestEqual(t *testing.T) {
	a := key(t, AES128SHA1, make([]byte, 16))
	for name, c := range map[string]struct {
		b    *Key
		want bool
	}{
		"the same bytes":    {key(t, AES128SHA1, make([]byte, 16)), true},
		"another type":      {key(t, AES128SHA2, make([]byte, 16)), false},
		"other bytes":       {random(t, AES128SHA1), false},
		"nil on one side":   {nil, false},
		"the very same key": {a, true},
	} {
		if a.Equal(c.b) != c.want {
			t.Errorf("%s: %v", name, !c.want)
		}
	}
}

// Many goroutines share one key that starts without a cache.
func TestConcurrentUse(t *testing.T) {
	for _, e := range all {
		k := random(t, e)
		var wg sync.WaitGroup
		for g := range 8 {
			wg.Go(func() {
				for i := range 50 {
					usage := uint32(i%7 + 1)
					plain := []byte(fmt.Sprintf("goroutine %d, message %d", g, i))
					c, err := k.Encrypt(nil, usage, plain, rand.Reader)
					if err != nil {
						t.Error(err)
						return
					}
					got, err := k.Decrypt(usage, c)
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("%v: %q, %v", e, got, err)
					}
					if err := k.VerifyChecksum(usage, plain, k.Checksum(usage, plain)); err != nil {
						t.Errorf("%v: %v", e, err)
					}
				}
			})
		}
		wg.Wait()
		if n := len(*k.usages.Load()); n != 14 {
			t.Errorf("%v: %d entries in the cache, want 14", e, n)
		}
	}
}

func FuzzDecrypt(f *testing.F) {
	keys := make([]*Key, 0, len(all))
	for _, e := range all {
		k := key(f, e, make([]byte, e.KeySize()))
		keys = append(keys, k)
		c, err := k.Encrypt(nil, 1, []byte("some plaintext"), zeros{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, k := range keys {
			plain, err := k.Decrypt(1, b)
			if err == nil && len(plain) != len(b)-k.EType().Overhead() {
				t.Errorf("%v: %d bytes of plaintext from %d", k.EType(), len(plain), len(b))
			}
		}
	})
}

func FuzzParseEType(f *testing.F) {
	f.Add("aes256-cts-hmac-sha1-96")
	f.Fuzz(func(t *testing.T, s string) {
		e, err := ParseEType(s)
		if err == nil && !e.Allowed(AllowRC4) {
			t.Errorf("%q is %d", s, e)
		}
	})
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func BenchmarkEncrypt1K(b *testing.B) {
	plain := make([]byte, 1024)
	for _, e := range all {
		b.Run(e.String(), func(b *testing.B) {
			k := random(b, e)
			dst := make([]byte, 0, 2048)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := k.Encrypt(dst, 24, plain, zeros{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecrypt1K(b *testing.B) {
	for _, e := range all {
		b.Run(e.String(), func(b *testing.B) {
			k := random(b, e)
			c, err := k.Encrypt(nil, 24, make([]byte, 1024), zeros{})
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, len(c))
			b.SetBytes(1024)
			b.ReportAllocs()
			for b.Loop() {
				copy(buf, c)
				if _, err := k.DecryptInPlace(24, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkFirstUse(b *testing.B) {
	for _, e := range all {
		b.Run(e.String(), func(b *testing.B) {
			raw := random(b, e).Secret()
			for b.Loop() {
				k, err := NewKey(e, raw, AllowRC4)
				if err != nil {
					b.Fatal(err)
				}
				k.derived(24, forEncryption)
			}
		})
	}
}

func TestStringToKeysAreThoseOfStringToKey(t *testing.T) {
	password, salt := []byte("a password"), "CONTOSO.COMhostweb1.contoso.com"
	for _, etypes := range [][]EType{
		{AES256SHA1, AES128SHA1, AES256SHA2, AES128SHA2}, {AES128SHA1, AES256SHA1}, {AES128SHA1}, {AES256SHA2}, nil,
	} {
		keys, err := StringToKeys(etypes, password, salt)
		if err != nil {
			t.Fatal(err)
		}
		if len(keys) != len(etypes) {
			t.Fatalf("%d keys of %v", len(keys), etypes)
		}
		for i, e := range etypes {
			if want, err := StringToKey(e, password, salt, nil); err != nil || !keys[i].Equal(want) {
				t.Errorf("%v among %v: another key than alone, %v", e, etypes, err)
			}
		}
	}
	if _, err := StringToKeys([]EType{AES256SHA1, RC4HMAC}, password, salt); !errors.Is(err, ErrEType) {
		t.Errorf("RC4 without allowance: %v", err)
	}
	if keys, err := StringToKeys([]EType{RC4HMAC, AES128SHA1}, password, salt, AllowRC4); err != nil || len(keys) != 2 {
		t.Errorf("RC4 with allowance: %v", err)
	}
}

func BenchmarkStringToKeys(b *testing.B) {
	for b.Loop() {
		if _, err := StringToKeys([]EType{AES256SHA1, AES128SHA1}, []byte("password"), "EXAMPLE.COMhost"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStringToKey(b *testing.B) {
	for _, e := range []EType{AES256SHA1, AES256SHA2} {
		b.Run(e.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := StringToKey(e, []byte("password"), "EXAMPLE.COMuser", nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
