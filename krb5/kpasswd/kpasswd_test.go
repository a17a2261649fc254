package kpasswd

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/secret"
)

func TestRequest(t *testing.T) {
	want := Request{Version: VersionSet, APReq: []byte("ap-req"), Priv: []byte("priv")}
	b := want.Append(nil)
	if !bytes.Equal(b, []byte("\x00\x10\xff\x80\x00\x06ap-reqpriv")) {
		t.Fatalf("%q", b)
	}
	got, err := ParseRequest(b)
	if err != nil || got.Version != want.Version || string(got.APReq) != "ap-req" || string(got.Priv) != "priv" {
		t.Errorf("%+v, %v", got, err)
	}
	prefixesFail(t, b, func(b []byte) error { _, err := ParseRequest(b); return err })
}

func prefixesFail(t *testing.T, b []byte, parse func([]byte) error) {
	t.Helper()
	for n := range b {
		if parse(b[:n]) == nil {
			t.Errorf("prefix of %d bytes was accepted", n)
		}
	}
	if parse(append(bytes.Clone(b), 0)) == nil {
		t.Error("a trailing byte was accepted")
	}
}

func TestRequestRefusals(t *testing.T) {
	for name, b := range map[string]string{
		"an AP-REQ longer than the message": "\x00\x0a\x00\x01\x00\x05abcd",
		"no AP-REQ":                         "\x00\x0a\x00\x01\x00\x00abcd",
		"no KRB-PRIV":                       "\x00\x0a\x00\x01\x00\x04abcd",
		"a wrong length":                    "\x00\x0b\x00\x01\x00\x02abcd",
	} {
		if r, err := ParseRequest([]byte(b)); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

func TestReply(t *testing.T) {
	b := Reply{APRep: []byte("rep"), Priv: []byte("priv")}.Append(nil)
	if r, err := ParseReply(b); err != nil || string(r.APRep) != "rep" || string(r.Priv) != "priv" || r.Error != nil {
		t.Errorf("%+v, %v", r, err)
	}
	prefixesFail(t, b, func(b []byte) error { _, err := ParseReply(b); return err })
	krbError := krb5.KRBError{Code: krb5.ErrGeneric, Realm: "R", SName: krb5.NewName(krb5.NameSrvInst, "kadmin", "changepw")}.Append(nil)
	for name, b := range map[string][]byte{"framed": Reply{Error: krbError}.Append(nil), "bare": krbError} {
		if r, err := ParseReply(b); err != nil || !bytes.Equal(r.Error, krbError) || r.Priv != nil {
			t.Errorf("%s error: %+v, %v", name, r, err)
		}
	}
	if r, err := ParseReply([]byte("\x00\x0a\x00\x02\x00\x02abcd")); err == nil {
		t.Errorf("version 2: %+v", r)
	}
}

func TestChangePasswdData(t *testing.T) {
	want := ChangePasswdData{
		NewPassword: secret.New([]byte("Passwörd")),
		TargetName:  krb5.NewName(krb5.NamePrincipal, "web1$"), TargetRealm: "CONTOSO.COM",
	}
	b := want.Append(nil)
	got, err := ParseChangePasswdData(b)
	if err != nil || !got.NewPassword.Equal(want.NewPassword) || !got.TargetName.Equal(want.TargetName) || got.TargetRealm != want.TargetRealm {
		t.Errorf("%+v, %v", got, err)
	}
	prefixesFail(t, b, func(b []byte) error { _, err := ParseChangePasswdData(b); return err })
	own := ChangePasswdData{NewPassword: secret.New([]byte("x"))}
	if got, err := ParseChangePasswdData(own.Append(nil)); err != nil || !got.TargetName.IsZero() || got.TargetRealm != "" {
		t.Errorf("own password: %+v, %v", got, err)
	}
	long := ChangePasswdData{NewPassword: secret.New(make([]byte, MaxPassword+1))}
	if _, err := ParseChangePasswdData(long.Append(nil)); err == nil {
		t.Error("a password beyond the limit was accepted")
	}
	if _, err := ParseChangePasswdData([]byte("\x30\x0b\xa0\x03\x04\x01x\xa1\x04\x30\x02\x05\x00")); err == nil {
		t.Error("a malformed target name was accepted")
	}
}

func TestResult(t *testing.T) {
	r, err := ParseResult([]byte("\x00\x04too short"))
	if err != nil || r.Code != ResultSoftError || string(r.Text) != "too short" {
		t.Fatalf("%+v, %v", r, err)
	}
	if s := r.Err().Error(); !strings.Contains(s, "4 KRB5_KPASSWD_SOFTERROR") || !strings.Contains(s, `"too short"`) {
		t.Error(s)
	}
	if err := (Result{Text: []byte("Password changed")}).Err(); err != nil {
		t.Error(err)
	}
	for _, b := range []string{"", "\x00"} {
		if _, err := ParseResult([]byte(b)); err == nil {
			t.Errorf("%q was accepted", b)
		}
	}
	if s := ResultCode(99).String(); s != "KRB5_KPASSWD_99" {
		t.Error(s)
	}
}

func TestPolicyOfWindows(t *testing.T) {
	want := Policy{MinLength: 7, History: 24, Properties: PolicyComplex, MaxAge: 42 * 24 * time.Hour, MinAge: 24 * time.Hour}
	b := want.Append(nil)
	if got, ok := ParsePolicy(b); !ok || got != want {
		t.Errorf("%+v, %v", got, ok)
	}
	s := Result{Code: ResultSoftError, Text: b}.Error()
	for _, part := range []string{"at least 7 characters", "none of the last 24", "every 24h0m0s", "three of"} {
		if !strings.Contains(s, part) {
			t.Errorf("%s: does not say %q", s, part)
		}
	}
	if _, ok := ParsePolicy(b[:29]); ok {
		t.Error("29 bytes were taken for a policy")
	}
	never := bytes.Repeat([]byte{0xff}, policySize)
	never[0], never[1] = 0, 0
	if p, ok := ParsePolicy(never); !ok || p.MaxAge < 0 {
		t.Errorf("overflow: %+v, %v", p, ok)
	}
}

func FuzzRequest(f *testing.F) {
	f.Add(Request{Version: 1, APReq: []byte("a"), Priv: []byte("p")}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err == nil && !bytes.Equal(r.Append(nil), b) {
			t.Errorf("%x does not come back", b)
		}
	})
}

func FuzzReply(f *testing.F) {
	f.Add(Reply{APRep: []byte("a"), Priv: []byte("p")}.Append(nil))
	f.Add(Reply{Error: []byte("e")}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseReply(b)
		if err != nil {
			return
		}
		again, err := ParseReply(r.Append(nil))
		if err != nil || !bytes.Equal(again.Error, r.Error) || !bytes.Equal(again.Priv, r.Priv) {
			t.Errorf("%x: %+v, %v", b, again, err)
		}
	})
}

func FuzzChangePasswdData(f *testing.F) {
	f.Add(ChangePasswdData{NewPassword: secret.New([]byte("p")), TargetName: krb5.NewName(1, "a"), TargetRealm: "R"}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := ParseChangePasswdData(b)
		if err != nil {
			return
		}
		if _, err := ParseChangePasswdData(d.Append(nil)); err != nil {
			t.Errorf("%x: %v", b, err)
		}
	})
}

func FuzzResult(f *testing.F) {
	f.Add(Result{Code: 4, Text: Policy{MinLength: 7}.Append(nil)}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseResult(b); err == nil {
			_ = r.Error()
		}
	})
}

// TestCaptured reads what MIT's kpasswd and Samba said to each other.
func TestCaptured(t *testing.T) {
	read := func(name string) []byte {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := read("mit-request.bin")
	q, err := ParseRequest(b)
	if err != nil || q.Version != VersionChange || !bytes.Equal(q.Append(nil), b) {
		t.Errorf("request: version %#x, %v", q.Version, err)
	}
	if _, err := krb5.ParseAPReq(q.APReq); err != nil {
		t.Error(err)
	}
	b = read("samba-reply.bin")
	r, err := ParseReply(b)
	if err != nil || !bytes.Equal(r.Append(nil), b) {
		t.Errorf("reply: %v", err)
	}
	if _, err := krb5.ParseKRBPriv(r.Priv); err != nil {
		t.Error(err)
	}
}
