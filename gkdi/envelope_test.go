package gkdi

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

func TestKeyEnvelopeOfTheVectors(t *testing.T) {
	v := load(t).KeyEnvelope
	e, err := ParseKeyEnvelope(v.Blob)
	if err != nil {
		t.Fatal(err)
	}
	f := v.Fields
	// The vectors count the terminator to the name.
	if e.Flags != f.Flags || e.KeyID != KeyID(f.GKID) || e.RootKeyID != guid(t, f.Root) ||
		e.Domain+"\x00" != f.Domain || e.Forest+"\x00" != f.Forest || len(e.AdditionalInfo) != 0 {
		t.Errorf("got %+v, want %+v", e, f)
	}
	if got := e.Append([]byte("x")); !bytes.Equal(got[1:], v.Blob) || got[0] != 'x' {
		t.Errorf("round trip:\n got %x\nwant %x", got[1:], []byte(v.Blob))
	}
	prefixes(t, v.Blob, func(b []byte) error { _, err := ParseKeyEnvelope(b); return err })
}

func TestGroupKeyEnvelopeOfTheVectors(t *testing.T) {
	v := load(t).GroupKeyEnvelope
	e, err := ParseGroupKeyEnvelope(v.Blob)
	if err != nil {
		t.Fatal(err)
	}
	if e.Flags != 0 || e.KeyID != KeyID(v.GKID) || e.RootKeyID != guid(t, v.RootKeyID) ||
		e.KDFAlgorithm != v.KDF || e.SecretAgreementAlgorithm != v.Agreement ||
		e.PrivateKeyBits != v.Private || e.PublicKeyBits != v.Public || e.Domain != v.Domain || e.Forest != v.Forest {
		t.Errorf("got %+v, want %+v", e, v)
	}
	if e.KDFAlgorithm != KDFAlgorithm || e.SecretAgreementAlgorithm != SecretAgreementAlgorithm ||
		e.PrivateKeyBits != PrivateKeyBits || e.PublicKeyBits != PublicKeyBits {
		t.Error("the constants are not those of the envelope")
	}
	equal(t, "L1", e.L1Key, v.L1)
	equal(t, "L2", e.L2Key, v.L2)
	if got := e.Append(nil); !bytes.Equal(got, v.Blob) {
		t.Errorf("round trip:\n got %x\nwant %x", got, []byte(v.Blob))
	}
	if h, err := ParseKDFParameters(e.KDFParameters); err != nil || h != SHA512 {
		t.Errorf("KDF parameters: %v, %v", h, err)
	}
	if got := DefaultParameters().Append(nil); !bytes.Equal(got, e.SecretAgreementParameters) {
		t.Errorf("secret agreement parameters are not the default group:\n%x", e.SecretAgreementParameters)
	}
	// The keys belong together: the L2 key of the envelope lies in another L1
	// period than its L1 key, so that only earlier periods follow from it.
	if _, err := e.GroupKey().Seed(SHA512, e.RootKeyID, KeyID{362, 0, 31}); err != nil {
		t.Error(err)
	}
	prefixes(t, v.Blob, func(b []byte) error { _, err := ParseGroupKeyEnvelope(b); return err })
}

func TestKDFParametersOfEveryHash(t *testing.T) {
	v := load(t).KDFParameters
	if got := SHA512.KDFParameters(); !bytes.Equal(got, v.Blob) {
		t.Errorf("got %x, want %x", got, []byte(v.Blob))
	}
	for h := SHA1; h <= SHA512; h++ {
		got, err := ParseKDFParameters(h.KDFParameters())
		if err != nil || got != h {
			t.Errorf("%v: got %v, %v", h, got, err)
		}
	}
	prefixes(t, v.Blob, func(b []byte) error { _, err := ParseKDFParameters(b); return err })
}

func TestFFCDHParametersOfTheVectors(t *testing.T) {
	v := load(t).FFCDH
	p, err := ParseFFCDHParameters(v.Blob)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(p.FieldOrder, v.Order) || !bytes.Equal(p.Generator, v.Generator) {
		t.Error("the numbers differ")
	}
	if !bytes.Equal(p.Append(nil), v.Blob) {
		t.Error("round trip differs")
	}
	prefixes(t, v.Blob, func(b []byte) error { _, err := ParseFFCDHParameters(b); return err })
}

// prefixes checks that no strict prefix of b parses, nor b with a byte more.
func prefixes(t *testing.T, b []byte, parse func([]byte) error) {
	t.Helper()
	if err := parse(b); err != nil {
		t.Fatalf("the whole: %v", err)
	}
	for n := range b {
		if err := parse(b[:n:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("prefix of %d bytes: got error %v", n, err)
		}
	}
	if err := parse(append(bytes.Clone(b), 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("with a trailing byte: got error %v", err)
	}
}

func TestEnvelopeFaults(t *testing.T) {
	good := KeyEnvelope{Flags: 2, KeyID: KeyID{362, 1, 14}, Domain: "example.com", Forest: "example.com"}.Append(nil)
	edit := func(off int, b ...byte) []byte {
		p := bytes.Clone(good)
		copy(p[off:], b)
		return p
	}
	for name, c := range map[string]struct {
		blob []byte
		want string
	}{
		"version":               {edit(0, 2), "version at offset 0: got 0x2, want 0x1"},
		"magic":                 {edit(4, 'X'), "magic at offset 4"},
		"L1 above 31":           {edit(16, 32), "key indexes at offset 12"},
		"L2 negative":           {edit(20, 0xff, 0xff, 0xff, 0xff), "key indexes at offset 12"},
		"huge length":           {edit(40, 0xff, 0xff, 0xff, 0xff), "AdditionalInfo at offset 52"},
		"odd name":              {edit(44, 23, 0, 0, 0, 25), "DomainName at offset 52: got 23 bytes"},
		"no terminator":         {edit(len(good)-2, 'x'), "a terminating zero"},
		"a zero inside":         {edit(52, 0, 0), "no zero but the last"},
		"an unpaired surrogate": {edit(52, 0, 0xd8), "UTF-16 without unpaired surrogates"},
		"too large":             {make([]byte, maxEnvelope+1), "want at most 65536"},
	} {
		_, err := ParseKeyEnvelope(c.blob)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
}

func TestEnvelopeNamesBeyondASCII(t *testing.T) {
	e := KeyEnvelope{Domain: "bücher.example", Forest: "𝕏.example", AdditionalInfo: []byte{1, 2, 3}, RootKeyID: dtyp.GUID{9}}
	got, err := ParseKeyEnvelope(e.Append(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got.Domain != e.Domain || got.Forest != e.Forest || !bytes.Equal(got.AdditionalInfo, e.AdditionalInfo) {
		t.Errorf("got %+v, want %+v", got, e)
	}
}

func FuzzParseKeyEnvelope(f *testing.F) {
	f.Add([]byte(load(f).KeyEnvelope.Blob))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := ParseKeyEnvelope(b); err == nil && !bytes.Equal(e.Append(nil), b) {
			t.Errorf("%x parses and encodes to %x", b, e.Append(nil))
		}
	})
}

func FuzzParseGroupKeyEnvelope(f *testing.F) {
	f.Add([]byte(load(f).GroupKeyEnvelope.Blob))
	f.Add(GroupKeyEnvelope{L1Key: secret.New([]byte{1})}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := ParseGroupKeyEnvelope(b); err == nil && !bytes.Equal(e.Append(nil), b) {
			t.Errorf("%x parses and encodes to %x", b, e.Append(nil))
		}
	})
}

func FuzzParseKDFParameters(f *testing.F) {
	f.Add([]byte(load(f).KDFParameters.Blob))
	f.Fuzz(func(t *testing.T, b []byte) {
		if h, err := ParseKDFParameters(b); err == nil && !bytes.Equal(h.KDFParameters(), b) {
			t.Errorf("%x parses and encodes to %x", b, h.KDFParameters())
		}
	})
}

func FuzzParseFFCDHParameters(f *testing.F) {
	f.Add([]byte(load(f).FFCDH.Blob))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := ParseFFCDHParameters(b); err == nil && !bytes.Equal(p.Append(nil), b) {
			t.Errorf("%x parses and encodes to %x", b, p.Append(nil))
		}
	})
}
