package managedpassword

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/gkdi"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// hexBytes is bytes that the vectors spell in hex, or null.
type hexBytes []byte

func (h *hexBytes) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	p, err := hex.DecodeString(*s)
	*h = p
	return err
}

// read is a blob, what it holds and, where a domain controller was asked, what
// follows from it.
type read struct {
	Blob      hexBytes
	Current   hexBytes
	Previous  hexBytes
	Query     uint64   `json:"query_interval"`
	Unchanged uint64   `json:"unchanged_interval"`
	ID        hexBytes `json:"password_id"`
	IDKey     [3]int32 `json:"password_id_gkid"`
	IDRoot    string   `json:"password_id_root_key"`
	NTHash    hexBytes `json:"nt_hash"` // of the password whose keys are stored
	AES256    hexBytes `json:"aes256_key"`
	AES128    hexBytes `json:"aes128_key"`
}

type vectors struct {
	Blobs []read `json:"managed_password_blobs"`
	Live  struct {
		Realm    string
		Accounts []struct {
			Name   string
			Salt   string
			Domain string
			Reads  []read
		}
	}
}

func load(t testing.TB) *vectors {
	t.Helper()
	b, err := os.ReadFile("testdata/gmsa.json")
	if err != nil {
		t.Fatal(err)
	}
	v := new(vectors)
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
	return v
}

// all is every blob of the vectors.
func (v *vectors) all() []read {
	reads := v.Blobs
	for _, a := range v.Live.Accounts {
		reads = append(reads, a.Reads...)
	}
	return reads
}

func TestBlobsOfTheVectors(t *testing.T) {
	withPrevious := 0
	for i, r := range load(t).all() {
		b, err := Parse(r.Blob)
		if err != nil {
			t.Fatalf("blob %d: %v", i, err)
		}
		if !bytes.Equal(b.Current.Reveal(), r.Current) || !bytes.Equal(b.Previous.Reveal(), r.Previous) {
			t.Errorf("blob %d: wrong passwords", i)
		}
		if uint64(b.QueryInterval) != r.Query*100 || uint64(b.UnchangedInterval) != r.Unchanged*100 {
			t.Errorf("blob %d: intervals %v and %v, want %d and %d ticks", i, b.QueryInterval, b.UnchangedInterval, r.Query, r.Unchanged)
		}
		if got := b.Append([]byte("x")); !bytes.Equal(got[1:], r.Blob) || got[0] != 'x' {
			t.Errorf("blob %d: encodes to %x", i, got[1:])
		}
		if !b.Previous.IsZero() {
			withPrevious++
		}
	}
	if withPrevious != 4 {
		t.Errorf("%d blobs with a previous password, want 4", withPrevious)
	}
}

func TestBlobPrefixes(t *testing.T) {
	for _, r := range load(t).all()[:5] {
		for n := range r.Blob {
			if _, err := Parse(r.Blob[:n:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("prefix of %d bytes: got error %v", n, err)
			}
			// The length field corrected, so that the layout has to notice.
			if n >= headerSize {
				p := bytes.Clone(r.Blob[:n])
				binary.LittleEndian.PutUint32(p[4:], uint32(n))
				if _, err := Parse(p); !errors.Is(err, ErrMalformed) {
					t.Fatalf("prefix of %d bytes with that length: got error %v", n, err)
				}
			}
		}
	}
}

// layout builds a blob of the given field offsets and size; filled with 1.
func layout(size, current, previous, query, unchanged int) []byte {
	b := bytes.Repeat([]byte{1}, size)
	binary.LittleEndian.PutUint32(b, blobVersion)
	binary.LittleEndian.PutUint32(b[4:], uint32(size))
	for i, off := range []int{current, previous, query, unchanged} {
		binary.LittleEndian.PutUint16(b[8+2*i:], uint16(off))
	}
	for _, off := range []int{current, previous} {
		if off != 0 && off+fieldSize <= size {
			b[off+PasswordSize], b[off+PasswordSize+1] = 0, 0
		}
	}
	for _, off := range []int{query, unchanged} {
		if off+ticks <= size {
			binary.LittleEndian.PutUint64(b[off:], uint64(off))
		}
	}
	return b
}

func TestFieldsAreFoundByTheirOffsets(t *testing.T) {
	for name, b := range map[string][]byte{
		"intervals first":              layout(548, 32, 290, 16, 24),
		"previous first":               layout(548, 274, 16, 540, 532),
		"aligned to 8 bytes":           layout(296, 16, 0, 280, 288),
		"previous, aligned to 8 bytes": layout(552, 16, 274, 536, 544),
	} {
		got, err := Parse(b)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		query := time.Duration(binary.LittleEndian.Uint16(b[12:])) * 100
		unchanged := time.Duration(binary.LittleEndian.Uint16(b[14:])) * 100
		if got.QueryInterval != query || got.UnchangedInterval != unchanged {
			t.Errorf("%s: intervals %v and %v, want %v and %v", name, got.QueryInterval, got.UnchangedInterval, query, unchanged)
		}
	}
}

func TestBlobFaults(t *testing.T) {
	good := layout(548, 16, 274, 532, 540)
	edit := func(off int, p ...byte) []byte {
		b := bytes.Clone(good)
		copy(b[off:], p)
		return b
	}
	huge := bytes.Clone(good)
	binary.LittleEndian.PutUint64(huge[532:], math.MaxInt64/100+1)
	for name, c := range map[string]struct {
		blob []byte
		want string
	}{
		"empty":                     {nil, "0 bytes, want 16 to"},
		"version":                   {edit(0, 2), "version at offset 0: got 2, want 1"},
		"reserved":                  {edit(2, 1), "reserved at offset 2"},
		"length":                    {edit(4, 1), "length at offset 4"},
		"current inside the header": {layout(290, 15, 0, 274, 282), "CurrentPassword at offset 15 overlaps"},
		"current is absent":         {layout(290, 0, 0, 274, 282), "CurrentPassword at offset 0 overlaps"},
		"passwords overlap":         {layout(548, 16, 273, 532, 540), "PreviousPassword at offset 273 overlaps"},
		"intervals overlap":         {layout(290, 16, 0, 274, 274), "UnchangedPasswordInterval at offset 274 overlaps"},
		"past the end":              {layout(290, 16, 0, 274, 283), "UnchangedPasswordInterval at offset 283: 7 bytes left"},
		"far past the end":          {layout(290, 16, 0, 274, 65535), "UnchangedPasswordInterval at offset 65535"},
		"a hole":                    {layout(298, 16, 0, 282, 290), "8 unused bytes before it"},
		"trailing bytes":            {layout(291, 16, 0, 274, 282), "1 trailing bytes at offset 290"},
		"no terminator":             {edit(272, 1), "terminator at offset 272: got false"},
		"a zero unit inside":        {edit(100, 0, 0), "terminator at offset 100: got true"},
		"a zero unit, previous":     {edit(276, 0, 0), "PreviousPassword: terminator at offset 276"},
		"an interval of 300 years":  {huge, "QueryPasswordInterval at offset 532"},
		"larger than any blob":      {make([]byte, maxBlob+1), "want 16 to 576"},
	} {
		_, err := Parse(c.blob)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
}

func TestAppendRefusesWhatIsNoBlob(t *testing.T) {
	full := secret.New(bytes.Repeat([]byte{1}, PasswordSize))
	for name, b := range map[string]Blob{
		"no password":       {},
		"short password":    {Current: secret.Copy([]byte("short"))},
		"short previous":    {Current: full, Previous: secret.Copy([]byte("short"))},
		"negative interval": {Current: full, QueryInterval: -1},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			b.Append(nil)
		}()
	}
}

func TestDestroy(t *testing.T) {
	b, err := Parse(layout(548, 16, 274, 532, 540))
	if err != nil {
		t.Fatal(err)
	}
	b.Destroy()
	zero := secret.New(make([]byte, PasswordSize))
	if !b.Current.Equal(zero) || !b.Previous.Equal(zero) {
		t.Error("a password is left")
	}
}

func TestPasswordIDs(t *testing.T) {
	for _, a := range load(t).Live.Accounts {
		for i, r := range a.Reads {
			id, err := ParseID(r.ID)
			if err != nil {
				t.Fatal(err)
			}
			root, err := dtyp.ParseGUID(r.IDRoot)
			if err != nil {
				t.Fatal(err)
			}
			key := gkdi.KeyID{L0: r.IDKey[0], L1: r.IDKey[1], L2: r.IDKey[2]}
			if id.KeyID != key || id.RootKeyID != root {
				t.Errorf("%s read %d: got %v of %v, want %v of %v", a.Name, i, id.KeyID, id.RootKeyID, key, root)
			}
			if got := NewID(root, key, a.Domain, a.Domain).Append(nil); !bytes.Equal(got, r.ID) {
				t.Errorf("%s read %d: encodes to %x, want %x", a.Name, i, got, []byte(r.ID))
			}
		}
	}
	if _, err := ParseID(nil); !errors.Is(err, gkdi.ErrMalformed) {
		t.Errorf("an empty ID: got error %v", err)
	}
}

func TestSalt(t *testing.T) {
	v := load(t)
	for _, a := range v.Live.Accounts {
		if got := Salt(v.Live.Realm, a.Name+"$"); got != a.Salt {
			t.Errorf("%s: got %q, want %q", a.Name, got, a.Salt)
		}
	}
	if got, want := Salt("contoso.com", "WebApp01$"), "CONTOSO.COMhostwebapp01.contoso.com"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := Salt("CONTOSO.COM", "odd$$"), "CONTOSO.COMhostodd$.contoso.com"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestUTF8(t *testing.T) {
	for name, c := range map[string]struct {
		units []uint16
		want  string
	}{
		"ASCII":                            {[]uint16{'a', '\n', 0x7f}, "a\n\x7f"},
		"two and three bytes":              {[]uint16{0xe9, 0x20ac}, "é€"},
		"a pair":                           {[]uint16{0xd83d, 0xde00}, "\xf0\x9f\x98\x80"},
		"a high surrogate alone":           {[]uint16{0xd83d, 'x'}, "\xef\xbf\xbdx"},
		"a high surrogate at the end":      {[]uint16{'x', 0xd83d}, "x\xef\xbf\xbd"},
		"a low surrogate alone":            {[]uint16{0xde00, 'x'}, "\xef\xbf\xbdx"},
		"two high, then a low":             {[]uint16{0xd83d, 0xd83d, 0xde00}, "\xef\xbf\xbd\xf0\x9f\x98\x80"},
		"low then high":                    {[]uint16{0xde00, 0xd83d}, "\xef\xbf\xbd\xef\xbf\xbd"},
		"noncharacters and the character ": {[]uint16{0xfffe, 0xffff, 0xfffd, 0xfeff}, "\xef\xbf\xbe\xef\xbf\xbf\xef\xbf\xbd\xef\xbb\xbf"},
		"the last pair":                    {[]uint16{0xdbff, 0xdfff}, "\xf4\x8f\xbf\xbf"},
		"zero":                             {[]uint16{0}, "\x00"},
		"nothing":                          {nil, ""},
	} {
		var b []byte
		for _, u := range c.units {
			b = binary.LittleEndian.AppendUint16(b, u)
		}
		got, err := UTF8(secret.New(b))
		if err != nil || string(got.Reveal()) != c.want {
			t.Errorf("%s: got %x, %v; want %x", name, got.Reveal(), err, c.want)
		}
	}
	if _, err := UTF8(secret.Copy([]byte("odd"))); err == nil {
		t.Error("an odd number of bytes was accepted")
	}
}

func TestUTF16(t *testing.T) {
	got, err := UTF16(secret.New([]byte("a\u20ac\U0001f600")))
	if want := []byte{'a', 0, 0xac, 0x20, 0x3d, 0xd8, 0x00, 0xde}; err != nil || !bytes.Equal(got.Reveal(), want) {
		t.Errorf("got %x, %v; want %x", got.Reveal(), err, want)
	}
	for _, bad := range []string{"\xff", "\xed\xa0\x80", "a\xc3"} {
		if _, err := UTF16(secret.New([]byte(bad))); err == nil {
			t.Errorf("%x was accepted", bad)
		}
	}
}

// TestKeysThatADomainControllerHas compares with the keys that a controller
// derived. nt_hash is of the password that was stored, the AES keys of the
// current one: so the RC4 key is compared in the reads before the rollover.
func TestKeysThatADomainControllerHas(t *testing.T) {
	for _, a := range load(t).Live.Accounts {
		first := secret.Copy(a.Reads[0].Current)
		for i, r := range a.Reads {
			if i > 0 && bytes.Equal(r.Current, a.Reads[i-1].Current) {
				continue // the same password gives the same keys
			}
			keys, err := Keys(secret.Copy(r.Current), a.Salt, crypto.AES256SHA1, crypto.AES128SHA1)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(keys[0].Secret().Reveal(), r.AES256) || !bytes.Equal(keys[1].Secret().Reveal(), r.AES128) {
				t.Errorf("%s read %d: wrong AES keys", a.Name, i)
			}
		}
		k, err := Key(crypto.RC4HMAC, first, "any salt", crypto.AllowRC4)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(k.Secret().Reveal(), a.Reads[0].NTHash) {
			t.Errorf("%s: wrong RC4 key", a.Name)
		}
	}
}

func TestKeyOfEveryType(t *testing.T) {
	password := secret.New(bytes.Repeat([]byte{'p', 0}, PasswordSize/2))
	for _, e := range []crypto.EType{crypto.AES128SHA1, crypto.AES256SHA1, crypto.AES128SHA2, crypto.AES256SHA2} {
		got, err := Key(e, password, "salt")
		if err != nil {
			t.Fatal(err)
		}
		want, err := crypto.StringToKey(e, bytes.Repeat([]byte{'p'}, PasswordSize/2), "salt", nil)
		if err != nil {
			t.Fatal(err)
		}
		if got.EType() != e || !got.Equal(want) {
			t.Errorf("%v: another key than of the text", e)
		}
	}
}

func TestRC4IsRefusedByDefault(t *testing.T) {
	password := secret.New(make([]byte, 2))
	if _, err := Keys(password, "salt", crypto.RC4HMAC); !errors.Is(err, crypto.ErrEType) {
		t.Errorf("Keys: got error %v", err)
	}
	if _, err := Key(crypto.RC4HMAC, password, "salt"); !errors.Is(err, crypto.ErrEType) {
		t.Errorf("Key: got error %v", err)
	}
	if _, err := Key(crypto.AES256SHA1, secret.New(make([]byte, 3)), "salt"); err == nil {
		t.Error("a password of 3 bytes was accepted")
	}
}

func FuzzParse(f *testing.F) {
	for _, r := range load(f).all()[:4] {
		f.Add([]byte(r.Blob))
	}
	f.Add(layout(552, 16, 274, 536, 544))
	f.Fuzz(func(t *testing.T, b []byte) {
		blob, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(blob.Append(nil))
		if err != nil || !again.Current.Equal(blob.Current) || !again.Previous.Equal(blob.Previous) ||
			again.QueryInterval != blob.QueryInterval || again.UnchangedInterval != blob.UnchangedInterval {
			t.Errorf("%x does not survive a round trip: %v", b, err)
		}
	})
}

func FuzzParseID(f *testing.F) {
	f.Add([]byte(load(f).Live.Accounts[0].Reads[0].ID))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, err := ParseID(b); err == nil && !bytes.Equal(id.Append(nil), b) {
			t.Errorf("%x encodes to %x", b, id.Append(nil))
		}
	})
}

func FuzzUTF8(f *testing.F) {
	f.Add([]byte{0x3d, 0xd8, 0x00, 0xde})
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := UTF8(secret.Copy(b))
		if (err != nil) != (len(b)%2 != 0) {
			t.Fatalf("%d bytes: %v", len(b), err)
		}
		if !utf8.Valid(got.Reveal()) || got.Len() > len(b)/2*3 {
			t.Errorf("%x becomes %x", b, got.Reveal())
		}
		units, err := UTF16(got)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := UTF8(units); err != nil || !again.Equal(got) {
			t.Errorf("%x becomes %x, and then %x: %v", got.Reveal(), units.Reveal(), again.Reveal(), err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	blob := []byte(load(b).Live.Accounts[0].Reads[2].Blob)
	for b.Loop() {
		if _, err := Parse(blob); err != nil {
			b.Fatal(err)
		}
	}
}
