package gss

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

var oidNTLM = []byte{0x2b, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0a}

func resp(t *testing.T, token []byte) negTokenResp {
	t.Helper()
	r, err := parseNegTokenResp(token)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// offering is an initiator that plays what ours does not: it offers a list.
type offering struct {
	t    *testing.T
	mech *Initiator
	list []byte
}

func newOffering(t *testing.T, r *realm, change func(*InitiatorConfig), mechs ...[]byte) *offering {
	return &offering{t, r.initiator(t, change), mechListOf(mechs...)}
}

func (o *offering) kerberosToken() []byte {
	o.t.Helper()
	token, _, err := o.mech.Step(nil)
	if err != nil {
		o.t.Fatal(err)
	}
	return token
}

// Windows offers its own number of Kerberos first, and gets it back.
func TestWindowsOffer(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	o := newOffering(t, r, nil, oidMSKerberos, oidKerberos, oidNTLM)
	acc := NewSPNEGOAcceptor(r.acceptor(t, nil))
	out, done, err := acc.Step(negTokenInit{mechList: o.list, token: o.kerberosToken()}.build())
	if err != nil || !done {
		t.Fatal(err)
	}
	got := resp(t, out)
	if got.state != acceptCompleted || !bytes.Equal(got.mech, oidMSKerberos) || got.mic != nil {
		t.Errorf("%+v", got)
	}
	if _, done, err := o.mech.Step(got.token); err != nil || !done {
		t.Error(err)
	}
}

// An initiator that guessed another mechanism, or sent no token.
func TestSecondBest(t *testing.T) {
	for name, c := range map[string]struct {
		offer [][]byte
		guess []byte
		mic   bool
	}{
		"NTLM is preferred":               {[][]byte{oidNTLM, oidKerberos}, []byte("NTLMSSP\x00"), true},
		"NTLM is preferred, no token":     {[][]byte{oidNTLM, oidKerberos}, nil, true},
		"Kerberos is preferred, no token": {[][]byte{oidKerberos, oidNTLM}, nil, false},
	} {
		r := newRealm(t, crypto.AES256SHA1)
		o := newOffering(t, r, nil, c.offer...)
		acc := NewSPNEGOAcceptor(r.acceptor(t, nil))
		out, done, err := acc.Step(negTokenInit{mechList: o.list, token: c.guess}.build())
		if err != nil || done {
			t.Fatalf("%s: done %t, %v", name, done, err)
		}
		got := resp(t, out)
		if want := map[bool]negState{true: requestMIC, false: acceptIncomplete}[c.mic]; got.state != want || !bytes.Equal(got.mech, oidKerberos) {
			t.Errorf("%s: %+v", name, got)
		}
		out, done, err = acc.Step(negTokenResp{state: noState, token: o.kerberosToken()}.build())
		if err != nil || done == c.mic {
			t.Fatalf("%s: done %t, %v", name, done, err)
		}
		got = resp(t, out)
		if _, _, err := o.mech.Step(got.token); err != nil {
			t.Fatal(err)
		}
		if !c.mic {
			if got.state != acceptCompleted {
				t.Errorf("%s: %+v", name, got)
			}
			continue
		}
		if acc.Context() != nil {
			t.Errorf("%s: a context before the MIC", name)
		}
		if err := o.mech.Context().VerifyMIC(o.list, got.mic); err != nil {
			t.Errorf("%s: the acceptor's MIC: %v", name, err)
		}
		mic := o.mech.Context().GetMIC(nil, o.list)
		if _, done, err = acc.Step(negTokenResp{state: acceptCompleted, mic: mic}.build()); err != nil || !done || acc.Context() == nil {
			t.Errorf("%s: done %t, %v", name, done, err)
		}
	}
}

// Somebody on the way takes the better mechanism off the list: the MICs show it.
func TestShortenedOffer(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	o := newOffering(t, r, nil, oidNTLM, oidKerberos)
	acc := NewSPNEGOAcceptor(r.acceptor(t, nil))
	shortened := mechListOf([]byte{1, 2, 3}, oidKerberos)
	if _, _, err := acc.Step(negTokenInit{mechList: shortened}.build()); err != nil {
		t.Fatal(err)
	}
	out, _, err := acc.Step(negTokenResp{state: noState, token: o.kerberosToken()}.build())
	if err != nil {
		t.Fatal(err)
	}
	got := resp(t, out)
	if _, _, err := o.mech.Step(got.token); err != nil {
		t.Fatal(err)
	}
	if err := o.mech.Context().VerifyMIC(o.list, got.mic); !errors.Is(err, ErrIntegrity) {
		t.Errorf("the initiator accepts the MIC: %v", err)
	}
	mic := o.mech.Context().GetMIC(nil, o.list)
	if _, done, err := acc.Step(negTokenResp{state: acceptCompleted, mic: mic}.build()); !errors.Is(err, ErrIntegrity) || done || acc.Context() != nil {
		t.Errorf("the acceptor accepts: done %t, %v", done, err)
	}
}

// A context that is done with its first token sends its MIC along.
func TestMICBesideTheToken(t *testing.T) {
	for _, tamper := range []bool{false, true} {
		r := newRealm(t, crypto.AES256SHA1)
		o := newOffering(t, r, func(c *InitiatorConfig) { c.Flags = DefaultFlags &^ FlagMutual }, oidNTLM, oidKerberos)
		acc := NewSPNEGOAcceptor(r.acceptor(t, nil))
		if _, _, err := acc.Step(negTokenInit{mechList: o.list}.build()); err != nil {
			t.Fatal(err)
		}
		token := o.kerberosToken()
		mic := o.mech.Context().GetMIC(nil, o.list)
		if tamper {
			mic[len(mic)-1] ^= 1
		}
		out, done, err := acc.Step(negTokenResp{state: noState, token: token, mic: mic}.build())
		if tamper {
			if !errors.Is(err, ErrIntegrity) || done || resp(t, out).state != reject {
				t.Errorf("a wrong MIC: done %t, %v", done, err)
			}
			continue
		}
		if err != nil || !done {
			t.Fatalf("done %t, %v", done, err)
		}
		got := resp(t, out)
		if got.state != acceptCompleted || o.mech.Context().VerifyMIC(o.list, got.mic) != nil {
			t.Errorf("%+v", got)
		}
	}
}

// acceptWith lets a bare acceptor answer our SPNEGO initiator's offer.
func acceptWith(t *testing.T, r *realm) (ini *SPNEGOInitiator, mech *Acceptor, token []byte) {
	t.Helper()
	ini = NewSPNEGOInitiator(r.initiator(t, nil))
	out, _, err := ini.Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, body, err := parseFramed(out)
	if err != nil {
		t.Fatal(err)
	}
	init, err := parseNegTokenInit(body)
	if err != nil {
		t.Fatal(err)
	}
	if len(init.mechTypes) != 1 || !bytes.Equal(init.mechTypes[0], oidKerberos) || init.mic != nil {
		t.Errorf("the offer is %+v", init)
	}
	mech = r.acceptor(t, nil)
	token, _, err = mech.Step(init.token)
	if err != nil {
		t.Fatal(err)
	}
	return ini, mech, token
}

// An acceptor that wants a MIC although one mechanism was offered.
func TestInitiatorGivesItsMIC(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	list := mechListOf(oidKerberos)

	// It sends its own later.
	ini, mech, token := acceptWith(t, r)
	out, done, err := ini.Step(negTokenResp{state: requestMIC, mech: oidKerberos, token: token}.build())
	if err != nil || done || ini.Context() != nil {
		t.Fatalf("done %t, %v", done, err)
	}
	if err := mech.Context().VerifyMIC(list, resp(t, out).mic); err != nil {
		t.Error(err)
	}
	mic := mech.Context().GetMIC(nil, list)
	if _, done, err = ini.Step(negTokenResp{state: acceptCompleted, mic: mic}.build()); err != nil || !done || ini.Context() == nil {
		t.Errorf("done %t, %v", done, err)
	}

	// It sends its own at once.
	ini, mech, token = acceptWith(t, r)
	mic = mech.Context().GetMIC(nil, list)
	out, done, err = ini.Step(negTokenResp{state: acceptIncomplete, mech: oidKerberos, token: token, mic: mic}.build())
	if err != nil || !done {
		t.Fatalf("done %t, %v", done, err)
	}
	if got := resp(t, out); got.state != acceptCompleted || mech.Context().VerifyMIC(list, got.mic) != nil {
		t.Errorf("%+v", got)
	}
}

func TestWhatTheInitiatorRefuses(t *testing.T) {
	list := mechListOf(oidKerberos)
	for name, c := range map[string]struct {
		answer func(mech *Acceptor, token []byte) negTokenResp
		second func(mech *Acceptor) negTokenResp
		want   error
	}{
		"a rejection": {func(*Acceptor, []byte) negTokenResp { return negTokenResp{state: reject} }, nil, ErrRejected},
		"another mechanism": {func(_ *Acceptor, token []byte) negTokenResp {
			return negTokenResp{state: acceptCompleted, mech: oidNTLM, token: token}
		}, nil, ErrMechanism},
		"success without proof": {func(*Acceptor, []byte) negTokenResp {
			return negTokenResp{state: acceptCompleted, mech: oidKerberos}
		}, nil, ErrToken},
		"a MIC over another list": {func(mech *Acceptor, token []byte) negTokenResp {
			mic := mech.Context().GetMIC(nil, mechListOf(oidNTLM))
			return negTokenResp{state: acceptCompleted, mech: oidKerberos, token: token, mic: mic}
		}, nil, ErrIntegrity},
		"no MIC after ours": {func(_ *Acceptor, token []byte) negTokenResp {
			return negTokenResp{state: requestMIC, mech: oidKerberos, token: token}
		}, func(*Acceptor) negTokenResp { return negTokenResp{state: acceptCompleted} }, ErrToken},
		"a rejection after our MIC": {func(_ *Acceptor, token []byte) negTokenResp {
			return negTokenResp{state: requestMIC, mech: oidKerberos, token: token}
		}, func(mech *Acceptor) negTokenResp {
			return negTokenResp{state: reject, mic: mech.Context().GetMIC(nil, list)}
		}, ErrRejected},
	} {
		ini, mech, token := acceptWith(t, newRealm(t, crypto.AES256SHA1))
		_, done, err := ini.Step(c.answer(mech, token).build())
		if c.second != nil {
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			_, done, err = ini.Step(c.second(mech).build())
		}
		if !errors.Is(err, c.want) || done || ini.Context() != nil {
			t.Errorf("%s: done %t, %v, want %v", name, done, err, c.want)
		}
	}
}

func TestWhatTheAcceptorRefuses(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	for name, c := range map[string]struct {
		token []byte
		want  error
	}{
		"NTLM only":         {negTokenInit{mechList: mechListOf(oidNTLM)}.build(), ErrMechanism},
		"bare NTLM":         {frame(oidNTLM, []byte("NTLMSSP\x00")), ErrMechanism},
		"NTLM, not framed":  {[]byte("NTLMSSP\x00"), ErrToken},
		"an empty list":     {negTokenInit{mechList: mechListOf()}.build(), ErrToken},
		"a list of 17":      {negTokenInit{mechList: mechListOf(slices.Repeat([][]byte{oidKerberos}, 17)...)}.build(), ErrToken},
		"an answer at once": {negTokenResp{state: noState, token: []byte("x")}.build(), ErrToken},
	} {
		out, done, err := NewSPNEGOAcceptor(r.acceptor(t, nil)).Step(c.token)
		if !errors.Is(err, c.want) || done {
			t.Errorf("%s: done %t, %v, want %v", name, done, err, c.want)
		}
		if name == "NTLM only" && resp(t, out).state != reject {
			t.Errorf("%s: answered %x", name, out)
		}
	}
}

// A bare Kerberos token is taken as well, and answered in kind.
func TestBareKerberos(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	ini, acc := r.initiator(t, nil), NewSPNEGOAcceptor(r.acceptor(t, nil))
	if _, err := converse(ini, acc); err != nil {
		t.Fatal(err)
	}
	if got, _, err := acc.Context().Unwrap(nil, wrap(t, ini.Context(), []byte("x"), true)); err != nil || string(got) != "x" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestNegotiationPrefixes(t *testing.T) {
	first := negTokenInit{mechList: mechListOf(oidKerberos, oidNTLM), token: fill(300), mic: fill(28)}.build()
	for n := range first {
		_, body, err := parseFramed(first[:n])
		if err == nil {
			_, err = parseNegTokenInit(body)
		}
		if !errors.Is(err, ErrToken) {
			t.Errorf("NegTokenInit, %d bytes of %d: %v", n, len(first), err)
		}
	}
	answer := negTokenResp{state: acceptIncomplete, mech: oidKerberos, token: fill(300), mic: fill(28)}.build()
	for n := range answer {
		if _, err := parseNegTokenResp(answer[:n]); !errors.Is(err, ErrToken) {
			t.Errorf("NegTokenResp, %d bytes of %d: %v", n, len(answer), err)
		}
	}
}

// The encodings of RFC 4178, byte by byte.
func TestNegotiationEncoding(t *testing.T) {
	got := negTokenInit{mechList: mechListOf(oidKerberos), token: []byte{0xaa}}.build()
	want := []byte("\x60\x20\x06\x06\x2b\x06\x01\x05\x05\x02\xa0\x16\x30\x14\xa0\x0d\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\xa2\x03\x04\x01\xaa")
	if !bytes.Equal(got, want) {
		t.Errorf("NegTokenInit\n%x, want\n%x", got, want)
	}
	got = negTokenResp{state: acceptCompleted, mech: oidMSKerberos, token: []byte{0xbb}}.build()
	want = []byte("\xa1\x19\x30\x17\xa0\x03\x0a\x01\x00\xa1\x0b\x06\x09\x2a\x86\x48\x82\xf7\x12\x01\x02\x02\xa2\x03\x04\x01\xbb")
	if !bytes.Equal(got, want) {
		t.Errorf("NegTokenResp\n%x, want\n%x", got, want)
	}
	// A NegTokenInit with reqFlags, which are ignored.
	flags := []byte("\xa0\x1a\x30\x18\xa0\x0d\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\xa1\x04\x03\x02\x01\x06\xa2\x01")
	if _, err := parseNegTokenInit(flags); !errors.Is(err, ErrToken) {
		t.Errorf("an empty mechToken tag: %v", err)
	}
	flags = []byte("\xa0\x17\x30\x15\xa0\x0d\x30\x0b\x06\x09\x2a\x86\x48\x86\xf7\x12\x01\x02\x02\xa1\x04\x03\x02\x01\x06")
	if init, err := parseNegTokenInit(flags); err != nil || len(init.mechTypes) != 1 {
		t.Errorf("reqFlags: %+v, %v", init, err)
	}
}
