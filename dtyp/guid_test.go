package dtyp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The GUID of the class user, as the schema stores its schemaIDGUID.
const (
	userClass      = "bf967aba-0de6-11d0-a285-00aa003049e2"
	userClassBytes = "ba7a96bfe60dd011a28500aa003049e2"
)

func TestGUIDForms(t *testing.T) {
	want, _ := hex.DecodeString(userClassBytes)
	for _, text := range []string{userClass, strings.ToUpper(userClass), "{" + userClass + "}"} {
		g, err := ParseGUID(text)
		if err != nil {
			t.Fatalf("ParseGUID(%q): %v", text, err)
		}
		if !bytes.Equal(g[:], want) {
			t.Errorf("ParseGUID(%q) = %x, want %x", text, g[:], want)
		}
		if g.String() != userClass || g.Braced() != "{"+userClass+"}" {
			t.Errorf("prints as %s and %s", g, g.Braced())
		}
	}
	g, err := GUIDFromBytes(want)
	if err != nil || g.String() != userClass || !bytes.Equal(g.Append(nil), want) {
		t.Errorf("from bytes: %v, %v", g, err)
	}
	for n := range want {
		if _, err := GUIDFromBytes(want[:n]); !errors.Is(err, ErrGUID) {
			t.Errorf("%d bytes: error %v, want ErrGUID", n, err)
		}
	}
	if _, err := GUIDFromBytes(append(want, 0)); !errors.Is(err, ErrGUID) {
		t.Errorf("17 bytes: error %v, want ErrGUID", err)
	}
}

func TestParseGUIDRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":                         "",
		"an open brace":                   "{" + userClass,
		"a closing brace":                 userClass + "}",
		"parentheses":                     "(" + userClass + ")",
		"no dashes":                       userClassBytes,
		"a letter beyond f":               "bf967abg-0de6-11d0-a285-00aa003049e2",
		"Microsoft's sample plug-in GUID": "{GDMA0342-266A-4D1P-831J-20990E82944F}",
		"a dash out of place":             "bf967ab-a0de6-11d0-a285-00aa003049e2",
		"white space":                     " " + userClass,
		"a prefix":                        userClass[:35],
	} {
		if g, err := ParseGUID(text); !errors.Is(err, ErrGUID) {
			t.Errorf("%s: ParseGUID(%q) = %v, error %v, want ErrGUID", name, text, g, err)
		}
	}
}

func TestNewGUID(t *testing.T) {
	g, err := NewGUID(bytes.NewReader(bytes.Repeat([]byte{0xff}, GUIDSize)))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := g.String(), "ffffffff-ffff-4fff-bfff-ffffffffffff"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := NewGUID(bytes.NewReader(make([]byte, 15))); err == nil {
		t.Error("15 random bytes must not do")
	}
	if !(GUID{}).IsZero() || g.IsZero() {
		t.Error("IsZero")
	}
}

func TestGUIDRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var g GUID
		copy(g[:], rapid.SliceOfN(rapid.Byte(), GUIDSize, GUIDSize).Draw(t, "guid"))
		if got, err := ParseGUID(g.String()); err != nil || got != g {
			t.Fatalf("got %v, error %v, want %v", got, err, g)
		}
	})
}

func FuzzParseGUID(f *testing.F) {
	f.Add(userClass)
	f.Add("{" + userClass + "}")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ParseGUID(text)
		if err == nil && !strings.EqualFold(g.String(), strings.Trim(text, "{}")) {
			t.Errorf("%q prints as %s", text, g)
		}
	})
}
