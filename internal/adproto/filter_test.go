package adproto

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// filters are texts that read and write alike.
var filters = []string{
	`(objectClass=*)`,
	`(cn=Babs Jensen)`,
	`(!(cn=Tim Howes))`,
	`(&(objectClass=Person)(|(sn=Jensen)(cn=Babs J*)))`,
	`(o=univ*of*mich*)`,
	`(cn=*a*)`,
	`(cn=*a)`,
	`(seeAlso=)`,
	`(cn:caseExactMatch:=Fred Flintstone)`,
	`(cn:=Betty Rubble)`,
	`(sn:dn:2.4.6.8.10:=Barney Rubble)`,
	`(o:dn:=Ace Industry)`,
	`(:1.2.3:=Wilma Flintstone)`,
	`(:dn:2.4.6.8.10:=Dino)`,
	`(o=Parens R Us \28for all your parenthetical needs\29)`,
	`(cn=*\2a*)`,
	`(filename=C:\5cMyFile)`,
	`(bin=\00\00\00\04)`,
	`(sn=Lu\c4\8di\c4\87)`,
	`(userAccountControl:1.2.840.113556.1.4.803:=2)`,
	`(a>=5)`, `(a<=5)`, `(a~=5)`, `(&)`, `(|)`,
}

func TestFiltersInBothForms(t *testing.T) {
	for _, text := range filters {
		f, err := ParseFilter(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if f.String() != text {
			t.Errorf("%s: written as %s", text, f)
		}
		ber := f.Append(nil)
		again, err := ParseFilterBER(ber)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(f, again, cmpopts.EquateEmpty()); d != "" {
			t.Errorf("%s: %s", text, d)
		}
		for i := range ber {
			if _, err := ParseFilterBER(ber[:i]); err == nil {
				t.Errorf("%s: prefix of %d bytes is accepted", text, i)
			}
		}
		foreign, err := ldap.CompileFilter(text)
		if err != nil {
			continue // go-ldap has no empty and, no empty attribute
		}
		if got, err := ParseFilterBER(foreign.Bytes()); err != nil || got.String() != text {
			t.Errorf("%s: go-ldap's %x reads as %s, %v", text, foreign.Bytes(), got, err)
		}
	}
}

func TestBadFilters(t *testing.T) {
	for _, text := range []string{
		"", "(", ")", "()", "cn=x", "(cn=x", "(cn=x))", "(cn)", "(=x)", "(cn=(x))", "(cn=a**b)", `(cn=\)`, `(cn=\4)`, `(cn=\zz)`, "(!)", "(!(a=b)(c=d))",
		"(&(a=b)", "(a b=c)", "(:=x)", "(a:dn:b:c:=x)", "(cn=\x00)", "(>=x)", "( cn=x)", "(a>=*)",
		strings.Repeat("(!", MaxFilterDepth) + "(a=b)" + strings.Repeat(")", MaxFilterDepth),
	} {
		if f, err := ParseFilter(text); err == nil {
			t.Errorf("%q: accepted as %s", text, f)
		}
	}
	for _, h := range []string{"a7", "a700", "8700", "a3060401610401", "a30504016104", "a30704016104016200", "a4070401613002", "a4090401613004800161", "a407040161300281008200",
		"a20a8701618701628701638701", "aa00", "a980", "a9058301618301", "0400", "bf0100"} {
		b, err := hex.DecodeString(h)
		if err != nil {
			continue
		}
		if f, err := ParseFilterBER(b); err == nil {
			t.Errorf("%s: accepted as %s", h, f)
		}
	}
	deep := []byte("\x87\x01a")
	for range MaxFilterDepth {
		deep = AppendElement(nil, 0xa2, deep)
	}
	if _, err := ParseFilterBER(deep); err == nil {
		t.Error("no limit of depth")
	}
}

func TestBuildersEscape(t *testing.T) {
	dn, _ := ParseDN(`CN=a\,b (c)*,DC=x`)
	f := And(Or(Equal("cn", "*)(uid=*"), Present("sn")), Not(BitsSet("userAccountControl", 2)), InChain("memberOf", dn), EqualBytes("objectSid", []byte{0, 1}))
	want := `(&(|(cn=\2a\29\28uid=\2a)(sn=*))(!(userAccountControl:1.2.840.113556.1.4.803:=2))(memberOf:1.2.840.113556.1.4.1941:=CN=a\5c,b \28c\29\2a,DC=x)(objectSid=\00\01))`
	if f.String() != want {
		t.Errorf("%s\n%s", f, want)
	}
	if got := EscapeFilter("a*é"); got != `a\2a\c3\a9` {
		t.Error(got)
	}
}

func TestMessageSizeAndShape(t *testing.T) {
	msg := func(h string) []byte { b, _ := hex.DecodeString(h); return b }
	for h, want := range map[string]int{"": 0, "30": 0, "3003": 5, "3081": 0, "308180": 131, "308400000005": 11, "30840000": 0} {
		if n, err := MessageSize(msg(h), 1000); err != nil || n != want {
			t.Errorf("%s: %d, %v, want %d", h, n, err, want)
		}
	}
	for _, h := range []string{"31", "3103", "3080", "3085", "308203e7", "3084ffffffff", "30840fffffff"} {
		if n, err := MessageSize(msg(h), 1000); err == nil {
			t.Errorf("%s: accepted with %d bytes", h, n)
		}
	}
	good := AppendElement(nil, tagSequence, AppendElement([]byte{2, 1, 1}, 0x63, AppendElement(nil, tagOctetString, make([]byte, 300))))
	if err := CheckMessage(good); err != nil {
		t.Error(err)
	}
	for i := range good {
		if CheckMessage(good[:i]) == nil {
			t.Errorf("prefix of %d bytes is accepted", i)
		}
	}
	deep := []byte{}
	for range MaxMessageDepth + 2 {
		deep = AppendElement(nil, tagSequence, deep)
	}
	for name, b := range map[string][]byte{
		"trailing bytes": append(slices.Clip(good), 0), "a child longer than its parent": msg("30040482ffff"),
		"indefinite inside": msg("3004a0800000"), "too deep": deep, "a long tag": msg("30021f01"),
	} {
		if CheckMessage(b) == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestSASLNegotiationAndFrames(t *testing.T) {
	offer := SASLNegotiation{Layers: SASLNone | SASLIntegrity | SASLPrivacy, MaxBuffer: 0x10000}
	b := offer.Append(nil)
	if hex.EncodeToString(b) != "07010000" {
		t.Errorf("%x", b)
	}
	if got, err := ParseSASLOffer(b); err != nil || got != offer {
		t.Errorf("%+v, %v", got, err)
	}
	choice := SASLNegotiation{Layers: SASLPrivacy, MaxBuffer: MaxSASLBuffer, AuthzID: "u:x"}
	b = SASLNegotiation{Layers: SASLPrivacy, MaxBuffer: 1 << 30, AuthzID: "u:x"}.Append(nil)
	if got, err := ParseSASLChoice(b, offer.Layers); err != nil || got != choice {
		t.Errorf("%+v, %v", got, err)
	}
	for _, h := range []string{"", "040000", "06000000", "00000000", "01000001", "08000000"} {
		b, _ := hex.DecodeString(h)
		if got, err := ParseSASLChoice(b, 7); err == nil {
			t.Errorf("choice %s: accepted as %+v", h, got)
		}
	}
	if _, err := ParseSASLChoice([]byte{1, 0, 0, 0}, SASLPrivacy); err == nil {
		t.Error("a layer that was not offered is accepted")
	}
	for _, h := range []string{"", "070100", "0701000000", "00010000", "08010000"} {
		b, _ := hex.DecodeString(h)
		if got, err := ParseSASLOffer(b); err == nil {
			t.Errorf("offer %s: accepted as %+v", h, got)
		}
	}
	frame := AppendSASLFrame(nil, []byte("token"))
	if n, err := SASLFrameSize([4]byte(frame), 5); err != nil || n != 5 || string(frame[4:]) != "token" {
		t.Errorf("%d, %v, %q", n, err, frame)
	}
	if _, err := SASLFrameSize([4]byte(frame), 4); err == nil {
		t.Error("no limit")
	}
	if _, err := SASLFrameSize([4]byte{}, 4); err == nil {
		t.Error("an empty frame is accepted")
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range filters {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		fl, err := ParseFilter(s)
		if err != nil {
			return
		}
		again, err := ParseFilter(fl.String())
		if len(fl.String()) <= MaxFilterSize && (err != nil || !cmp.Equal(fl, again, cmpopts.EquateEmpty())) {
			t.Fatalf("%q: %+v became %+v, %v", s, fl, again, err)
		}
	})
}

func FuzzParseFilterBER(f *testing.F) {
	for _, s := range filters {
		fl, _ := ParseFilter(s)
		f.Add(fl.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		fl, err := ParseFilterBER(b)
		if err != nil {
			return
		}
		again, err := ParseFilterBER(fl.Append(nil))
		if err != nil || !cmp.Equal(fl, again, cmpopts.EquateEmpty()) {
			t.Fatalf("%x: %+v became %+v, %v", b, fl, again, err)
		}
		if _, err := ParseFilter(fl.String()); err != nil && len(fl.String()) <= MaxFilterSize {
			t.Fatalf("%x: text %s: %v", b, fl, err)
		}
	})
}

func FuzzCheckMessage(f *testing.F) {
	f.Add([]byte{0x30, 0x84, 0, 0, 0, 3, 2, 1, 1})
	f.Fuzz(func(t *testing.T, b []byte) {
		if CheckMessage(b) != nil {
			return
		}
		if n, err := MessageSize(b, len(b)); err != nil || n != len(b) {
			t.Fatalf("%x: %d, %v", b, n, err)
		}
	})
}
