package dtyp

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// Both forms of SIDs; those with an authority above 32 bits follow the grammar
// of [MS-DTYP] 2.4.2.1.
var sidForms = map[string]string{
	"S-1-0-0":      "010100000000000000000000",
	"S-1-5-9":      "010100000000000509000000",
	"S-1-5-18":     "010100000000000512000000",
	"S-1-5-32-544": "01020000000000052000000020020000",
	"S-1-5-21-4119591868-3001629103-3445594911-48026": "010500000000000515000000bcfb8bf5af39e9b21f9b5fcd9abb0000",
	"S-1-4294967295-1":     "0101" + "0000ffffffff" + "01000000",
	"S-1-0x000100000000-1": "0101" + "000100000000" + "01000000",
	"S-1-0xffffffffffff-4294967295-1-2-3-4-5-6-7-8-9-10-11-12-13-14": "010f" + "ffffffffffff" + "ffffffff" +
		"01000000" + "02000000" + "03000000" + "04000000" + "05000000" + "06000000" + "07000000" +
		"08000000" + "09000000" + "0a000000" + "0b000000" + "0c000000" + "0d000000" + "0e000000",
}

func TestSIDForms(t *testing.T) {
	for text, packet := range sidForms {
		want, err := hex.DecodeString(packet)
		if err != nil {
			t.Fatal(err)
		}
		fromText, err := ParseSID(text)
		if err != nil {
			t.Errorf("ParseSID(%q): %v", text, err)
			continue
		}
		fromBytes, err := SIDFromBytes(want)
		if err != nil {
			t.Errorf("SIDFromBytes(%s): %v", packet, err)
			continue
		}
		if fromText != fromBytes {
			t.Errorf("%s: text gives %v, bytes give %v", text, fromText, fromBytes)
		}
		if got := hex.EncodeToString(fromText.Bytes()); got != packet {
			t.Errorf("%s: bytes %s, want %s", text, got, packet)
		}
		if got := fromBytes.String(); got != text {
			t.Errorf("String() = %s, want %s", got, text)
		}
		if got := fromBytes.Size(); got != len(want) {
			t.Errorf("%s: size %d, want %d", text, got, len(want))
		}
		for n := range want {
			if _, _, err := DecodeSID(want[:n]); !errors.Is(err, ErrSID) {
				t.Errorf("%s: prefix of %d bytes: error %v, want ErrSID", text, n, err)
			}
		}
		if _, err := SIDFromBytes(append(want, 0)); !errors.Is(err, ErrSID) {
			t.Errorf("%s with a trailing byte: error %v, want ErrSID", text, err)
		}
		if got, n, err := DecodeSID(append(want, 1, 2, 3)); err != nil || n != len(want) || got != fromText {
			t.Errorf("%s followed by data: got %v, %d bytes, error %v", text, got, n, err)
		}
	}
}

func TestParseSIDRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                         "",
		"only the prefix":                 "S-1-",
		"another revision":                "S-2-5-18",
		"no sub-authority":                "S-1-5",
		"a dash at the end":               "S-1-5-18-",
		"an empty sub-authority":          "S-1-5--18",
		"a sign":                          "S-1-5-+18",
		"a space":                         "S-1-5-18 ",
		"a leading zero":                  "S-1-5-018",
		"a leading zero in the authority": "S-1-05-18",
		"a sub-authority over 32 bits":    "S-1-5-4294967296",
		"a decimal authority over 32 bit": "S-1-4294967296-1",
		"a short hexadecimal authority":   "S-1-0x5-18",
		"hexadecimal without need":        "S-1-0x000000000005-18",
		"hexadecimal over 48 bits":        "S-1-0x1000000000000-18",
		"a hexadecimal sub-authority":     "S-1-5-0x12",
		"sixteen sub-authorities":         "S-1-5" + strings.Repeat("-1", 16),
		"an alias":                        "SY",
		"a digit of another script":       "S-1-5-١",
		"an underscore":                   "S-1-5-1_8",
	} {
		if sid, err := ParseSID(text); !errors.Is(err, ErrSID) {
			t.Errorf("%s: ParseSID(%q) = %v, error %v, want ErrSID", name, text, sid, err)
		}
	}
	if sid, err := ParseSID("s-1-5-18"); err != nil || sid != LocalSystem {
		t.Errorf("lower case: %v, %v", sid, err)
	}
}

func TestDecodeSIDRefuses(t *testing.T) {
	for name, packet := range map[string]string{
		"revision 0":         "000100000000000512000000",
		"revision 2":         "020100000000000512000000",
		"no sub-authorities": "0100000000000005",
		"sixteen":            "0110000000000005" + strings.Repeat("01000000", 16),
	} {
		b, _ := hex.DecodeString(packet)
		if _, _, err := DecodeSID(b); !errors.Is(err, ErrSID) {
			t.Errorf("%s: error %v, want ErrSID", name, err)
		}
	}
}

func TestSIDFamily(t *testing.T) {
	domain, err := ParseSID("S-1-5-21-1-2-3")
	if err != nil {
		t.Fatal(err)
	}
	user := domain.Child(1104)
	if user.String() != "S-1-5-21-1-2-3-1104" || user.RID() != 1104 || user.Domain() != domain {
		t.Errorf("child %v, RID %d, domain %v", user, user.RID(), user.Domain())
	}
	if !domain.IsDomain() || user.IsDomain() || Builtin.IsDomain() || LocalSystem.IsDomain() {
		t.Error("IsDomain must be true of S-1-5-21-1-2-3 alone")
	}
	if !LocalSystem.Domain().IsZero() {
		t.Error("S-1-5-18 must be in no domain")
	}
	if BuiltinAdministrators.String() != "S-1-5-32-544" || BuiltinAdministrators.Domain() != Builtin {
		t.Errorf("BUILTIN\\Administrators is %v", BuiltinAdministrators)
	}
	if got := user.SubAuthorities(); len(got) != 5 || got[4] != 1104 {
		t.Errorf("sub-authorities %v", got)
	}
	if user.Authority() != AuthorityNT {
		t.Errorf("authority %d", user.Authority())
	}
	var none SID
	if none.String() != "" || none.Bytes() != nil || none.RID() != 0 || !none.IsZero() || none.Size() != 0 {
		t.Error("the zero SID must print as nothing")
	}
}

func TestNewSIDPanics(t *testing.T) {
	for name, f := range map[string]func(){
		"no sub-authority":  func() { NewSID(5) },
		"a large authority": func() { NewSID(1<<48, 1) },
		"sixteen":           func() { NewSID(5, make([]uint32, 16)...) },
		"child of nothing":  func() { SID{}.Child(1) },
		"a 16th generation": func() { NewSID(5, make([]uint32, 15)...).Child(1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestSIDJSON(t *testing.T) {
	type record struct {
		Owner, Group SID
		ID           GUID
	}
	in := record{Owner: BuiltinAdministrators, ID: GUID{1}}
	b, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"Owner":"S-1-5-32-544","Group":"","ID":"00000001-0000-0000-0000-000000000000"}`
	if string(b) != want {
		t.Errorf("got %s, want %s", b, want)
	}
	var out record
	if err := json.Unmarshal(b, &out); err != nil || out != in {
		t.Errorf("got %+v, error %v", out, err)
	}
	if err := json.Unmarshal([]byte(`{"Owner":"SY"}`), &out); !errors.Is(err, ErrSID) {
		t.Errorf("error %v, want ErrSID", err)
	}
	if err := json.Unmarshal([]byte(`{"ID":"x"}`), &out); !errors.Is(err, ErrGUID) {
		t.Errorf("error %v, want ErrGUID", err)
	}
}

func TestSIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		authority := rapid.Uint64Max(1<<48-1).Draw(t, "authority")
		subs := rapid.SliceOfN(rapid.Uint32(), 1, MaxSubAuthorities).Draw(t, "sub-authorities")
		sid := NewSID(authority, subs...)
		if got, err := ParseSID(sid.String()); err != nil || got != sid {
			t.Fatalf("text: got %v, error %v, want %v", got, err, sid)
		}
		if got, err := SIDFromBytes(sid.Bytes()); err != nil || got != sid {
			t.Fatalf("bytes: got %v, error %v, want %v", got, err, sid)
		}
	})
}

func FuzzParseSID(f *testing.F) {
	for text := range sidForms {
		f.Add(text)
	}
	f.Add("S-1-5-018")
	f.Fuzz(func(t *testing.T, text string) {
		sid, err := ParseSID(text)
		if err != nil {
			if !sid.IsZero() {
				t.Errorf("%q: %v beside the error %v", text, sid, err)
			}
			return
		}
		if !strings.EqualFold(sid.String(), text) {
			t.Errorf("%q prints as %q: two spellings of one SID", text, sid)
		}
	})
}

func FuzzDecodeSID(f *testing.F) {
	for _, packet := range sidForms {
		b, _ := hex.DecodeString(packet)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sid, n, err := DecodeSID(b)
		if err != nil {
			return
		}
		if string(sid.Bytes()) != string(b[:n]) {
			t.Errorf("%x encodes as %x", b[:n], sid.Bytes())
		}
		if again, err := ParseSID(sid.String()); err != nil || again != sid {
			t.Errorf("%v: string form reads as %v, error %v", sid, again, err)
		}
	})
}

func BenchmarkParseSID(b *testing.B) {
	for b.Loop() {
		if _, err := ParseSID("S-1-5-21-4119591868-3001629103-3445594911-48026"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestMaxSIDSize(t *testing.T) {
	if n := NewSID(math.MaxUint32, make([]uint32, MaxSubAuthorities)...).Size(); n != MaxSIDSize {
		t.Errorf("largest SID has %d bytes, MaxSIDSize is %d", n, MaxSIDSize)
	}
}
