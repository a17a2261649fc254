package krb5

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

func TestFlagNames(t *testing.T) {
	// klist of Windows for a first TGT: 0x40e10000.
	f := TicketFlags(0x40e10000)
	if got, want := f.String(), "forwardable renewable initial pre_authent name_canonicalize"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !f.Has(FlagInitial|FlagPreAuthent) || f.Has(FlagInitial|FlagProxy) {
		t.Error("Has")
	}
	if got, want := TicketFlags(0x40a50000).String(), "forwardable renewable pre_authent ok_as_delegate name_canonicalize"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := KDCOptions(0x40810010).String(), "forwardable renewable canonicalize renewable_ok"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := (APMutualRequired | 1<<20).String(), "mutual_required bit11"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTypeOf(t *testing.T) {
	for _, m := range []MessageType{MsgASReq, MsgASRep, MsgTGSReq, MsgTGSRep, MsgAPReq, MsgAPRep, MsgSafe, MsgPriv, MsgCred, MsgError} {
		if got, ok := TypeOf([]byte{0x60 | byte(m)}); !ok || got != m {
			t.Errorf("%v: got %v, %v", m, got, ok)
		}
	}
	for _, b := range [][]byte{nil, {0x30}, {0x60}, {0x6c + 0x13}, {0xaa}} {
		if got, ok := TypeOf(b); ok {
			t.Errorf("%x is %v", b, got)
		}
	}
}

// TestDeviations holds what peers send though RFC 4120 forbids it.
func TestDeviations(t *testing.T) {
	t.Run("the part of an AS-REP in the tag of a TGS-REP", func(t *testing.T) {
		p := EncKDCRepPart{Type: MsgASRep, Key: EncryptionKey{EType: 18}, SRealm: "R", SName: NewName(2, "krbtgt", "R")}
		b := p.Append(nil)
		if b[0] != 0x79 {
			t.Fatalf("tag %#x", b[0])
		}
		b[0] = 0x7a
		q, err := ParseEncKDCRepPart(b)
		if err != nil || q.Type != MsgTGSRep {
			t.Errorf("got %v, %v", q.Type, err)
		}
	})
	t.Run("a negative nonce", func(t *testing.T) {
		q := asReq()
		q.Body.Nonce = 0x90000000
		b := bytes.Replace(q.Append(nil), []byte{0xa7, 7, 2, 5, 0, 0x90, 0, 0, 0}, []byte{0xa7, 6, 2, 4, 0x90, 0, 0, 0}, 1)
		// The four lengths around it shrink by one.
		for _, at := range lengthsAround(b) {
			b[at]--
		}
		got, err := ParseKDCReq(b)
		if err != nil || got.Body.Nonce != 0x90000000 {
			t.Errorf("got %#x, %v", got.Body.Nonce, err)
		}
	})
	t.Run("e-text with a NUL at its end", func(t *testing.T) {
		e := KRBError{Code: 6, Realm: "R", SName: NewName(2, "krbtgt", "R"), EText: "CLIENT_NOT_FOUND\x00"}
		got, err := ParseKRBError(e.Append(nil))
		if err != nil || got.EText != "CLIENT_NOT_FOUND" {
			t.Errorf("got %q, %v", got.EText, err)
		}
	})
	t.Run("KRB-PRIV without the sender's address", func(t *testing.T) {
		p := EncKRBPrivPart{MessageBody{UserData: []byte("x"), SeqNumber: 1}}
		if _, err := ParseEncKRBPrivPart(p.Append(nil)); err != nil {
			t.Error(err)
		}
	})
}

// lengthsAround finds the last octets of the lengths that enclose the nonce of
// the request in TestDeviations: message, sequence, req-body, its sequence.
func lengthsAround(b []byte) []int {
	body := bytes.Index(b, []byte{0xa4, 0x81})
	return []int{2, 5, body + 2, body + 5}
}

func TestLimits(t *testing.T) {
	many := make([]PAData, MaxPAData+1)
	if _, err := ParseMethodData(MethodData(many[1:]).Append(nil)); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct {
		b     []byte
		codec string
	}{
		"padata":             {MethodData(many).Append(nil), "METHOD-DATA"},
		"components":         {Ticket{SName: NewName(1, make([]string, MaxComponents+1)...)}.Append(nil), "Ticket"},
		"etypes":             {KDCReqBody{ETypes: make([]crypto.EType, MaxETypes+1)}.Append(nil), "KDC-REQ-BODY"},
		"addresses":          {KDCReqBody{Addresses: make([]HostAddress, MaxAddresses+1)}.Append(nil), "KDC-REQ-BODY"},
		"authorization data": {make(AuthorizationData, MaxAuthorizationData+1).Append(nil), "AuthorizationData"},
		"last-req":           {EncKDCRepPart{LastReq: make([]LastReq, MaxLastReq+1)}.Append(nil), "EncKDCRepPart"},
		"message size":       {EncryptedData{Cipher: make([]byte, MaxMessage)}.Append(nil), "EncryptedData"},
	} {
		if _, err := codecs[c.codec].parse(c.b); err == nil || !strings.Contains(err.Error(), "at most") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestKRBErrorIsAnError(t *testing.T) {
	salt := MethodData{{Type: PAPWSalt, Value: ExtError{Status: StatusAccountDisabled, Flags: 1}.Append(nil)}}
	var err error = &KRBError{Code: ErrClientRevoked, EText: "revoked", EData: salt.Append(nil)}
	err = fmt.Errorf("as exchange: %w", err)
	if !errors.Is(err, ErrClientRevoked) || errors.Is(err, ErrPreauthFailed) {
		t.Error("errors.Is does not find the code")
	}
	e, ok := errors.AsType[*KRBError](err)
	if !ok {
		t.Fatal("errors.AsType does not find the KRBError")
	}
	if status, ok := e.NTStatus(); !ok || status != StatusAccountDisabled {
		t.Errorf("status %v, %v", status, ok)
	}
	for _, want := range []string{"18 KDC_ERR_CLIENT_REVOKED", `"revoked"`, "0xC0000072 STATUS_ACCOUNT_DISABLED"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: does not say %s", err, want)
		}
	}
	e.EData = ErrorData{Type: ErrorDataExtended, Value: ExtError{Status: StatusAccountLockedOut}.Append(nil)}.Append(nil)
	if status, ok := e.NTStatus(); !ok || status != StatusAccountLockedOut {
		t.Errorf("KERB-ERROR-DATA: %v, %v", status, ok)
	}
	e.EData = []byte("nonsense")
	if status, ok := e.NTStatus(); ok {
		t.Errorf("nonsense: %v", status)
	}
	if got := ErrorCode(43).Error(); got != "43 KRB_ERR_43" {
		t.Error(got)
	}
}

func TestSealOpen(t *testing.T) {
	key, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	e, err := Seal(key, UsageTicket, []byte("plain"), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if p, err := e.Open(key, UsageTicket); err != nil || string(p) != "plain" {
		t.Errorf("%q, %v", p, err)
	}
	e.EType = crypto.AES128SHA1
	if _, err := e.Open(key, UsageTicket); !errors.Is(err, crypto.ErrIntegrity) {
		t.Errorf("another type: %v", err)
	}
	again, err := KeyOf(key).Key()
	if err != nil || !again.Equal(key) {
		t.Errorf("key: %v", err)
	}
}

func TestAuthorizationDataFind(t *testing.T) {
	inner := AuthorizationData{{Type: ADWin2KPAC, Data: []byte("pac")}}
	a := append(AuthorizationData{{Type: ADTokenRestrictions, Data: []byte("t")}, {Type: ADIfRelevant, Data: []byte("broken")}}, inner.IfRelevant()...)
	if d, ok := a.Find(ADWin2KPAC); !ok || string(d) != "pac" {
		t.Errorf("%q, %v", d, ok)
	}
	if _, ok := a.Find(ADLocal); ok {
		t.Error("found what is not there")
	}
}

func TestAddressOf(t *testing.T) {
	for s, want := range map[string]HostAddress{
		"127.0.0.1":        {AddrIPv4, []byte{127, 0, 0, 1}},
		"::ffff:127.0.0.1": {AddrIPv4, []byte{127, 0, 0, 1}},
		"::1":              {AddrIPv6, []byte{15: 1}},
	} {
		if got := AddressOf(netip.MustParseAddr(s)); got.Type != want.Type || !bytes.Equal(got.Address, want.Address) {
			t.Errorf("%s: %v", s, got)
		}
	}
}
