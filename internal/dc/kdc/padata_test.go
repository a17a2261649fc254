package kdc

import (
	"slices"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

// claimsValid is CLAIMS_VALID of [MS-DTYP] 2.4.2.4.
var claimsValid = dtyp.NewSID(dtyp.AuthorityNT, 21, 0, 0, 0, 497)

// with is a change that adds padata to a request.
func with(t krb5.PAType, value []byte) func(*krb5.KDCReq) {
	return func(r *krb5.KDCReq) { r.PAData = append(r.PAData, krb5.PAData{Type: t, Value: value}) }
}

// tgsWith is a TGS request for a service with padata beside PA-TGS-REQ, which nothing
// protects.
func (f *forger) tgsWith(t ticket, server krb5.PrincipalName, body func(*krb5.KDCReqBody), padata ...krb5.PAData) []byte {
	f.t.Helper()
	req, err := krb5.ParseKDCReq(f.tgsRequest(t, server, body, nil))
	if err != nil {
		f.t.Fatal(err)
	}
	req.PAData = append(req.PAData, padata...)
	return req.Append(nil)
}

// TestPACOptions: the client sees in the reply which of its options were honoured, in both
// exchanges, and no claims where it asks for them.
func TestPACOptions(t *testing.T) {
	f := newForger(t, nil)
	tgt := f.logOn(alice, nil)
	for what, c := range map[string]struct{ sent, want krb5.PACOptions }{
		"none at all":                             {0, 0},
		"claims":                                  {krb5.PACOptClaims, 0},
		"as Windows asks the AS":                  {krb5.PACOptForwardFull | krb5.PACOptClaims, krb5.PACOptForwardFull},
		"as Windows asks the TGS":                 {krb5.PACOptBranchAware | krb5.PACOptClaims, krb5.PACOptBranchAware},
		"as MIT and impacket ask: RBCD":           {krb5.PACOptRBCD, 0},
		"some that nobody has a meaning for":      {1 << 20, 0},
		"all that there are, and what comes next": {1<<32 - 1, krb5.PACOptBranchAware | krb5.PACOptForwardFull},
	} {
		sent := krb5.PAData{Type: krb5.PAPACOptions, Value: c.sent.Append(nil)}
		initial := f.logOn(alice, with(sent.Type, sent.Value))
		rep, e := f.ask(f.tgsWith(tgt, ldap, nil, sent))
		if e != nil {
			t.Errorf("%s: %v", what, e)
			continue
		}
		service := f.open(rep, tgt.session, krb5.UsageTGSRepEncPart)
		for exchange, got := range map[string]ticket{"AS": initial, "TGS": service} {
			value, has := krb5.MethodData(got.part.PAData).Find(krb5.PAPACOptions)
			if has != (c.want != 0) {
				t.Errorf("%s, %s: PA-PAC-OPTIONS in the reply: %v", what, exchange, has)
			} else if options, err := krb5.ParsePACOptions(value); has && (err != nil || options != c.want) {
				t.Errorf("%s, %s: the reply has %#x, %v, want %#x", what, exchange, options, err, c.want)
			}
		}
		p, err := pac.Open(f.inside(initial, f.key(f.server.tgs)), pac.TGT, pac.Keys{Server: f.key(f.server.tgs), KDC: f.key(f.server.tgs)})
		if err != nil {
			t.Fatal(err)
		}
		info, err := p.LogonInfo()
		claims, _ := p.Find(pac.TypeClientClaims)
		if err != nil || len(claims) != 0 || slices.ContainsFunc(info.ExtraSIDs, func(s pac.SIDAttributes) bool { return s.SID == claimsValid }) {
			t.Errorf("%s: claims %x, SIDs %v, %v", what, claims, info.ExtraSIDs, err)
		}
	}
}

// TestPACOptionsThatAreNone: a KDC that guessed what was meant would honour what nobody
// asked for.
func TestPACOptionsThatAreNone(t *testing.T) {
	f := newForger(t, nil)
	tgt := f.logOn(alice, nil)
	good := krb5.PACOptBranchAware.Append(nil)
	for what, c := range map[string]struct {
		value []byte
		want  krb5.ErrorCode
	}{
		"as it should be":              {good, 0},
		"with more than 32 bits":       {[]byte{0x30, 10, 0xa0, 8, 3, 6, 0, 0x40, 0, 0, 0, 0}, 0},
		"nothing":                      {nil, krb5.ErrGeneric},
		"cut short":                    {good[:len(good)-1], krb5.ErrGeneric},
		"with a byte too many":         {append(slices.Clone(good), 0), krb5.ErrGeneric},
		"flags without their sequence": {good[2:], krb5.ErrGeneric},
		"flags without their tag":      {append([]byte{0x30, 7}, good[4:]...), krb5.ErrGeneric},
		"an integer for flags":         {[]byte{0x30, 5, 0xa0, 3, 2, 1, 1}, krb5.ErrGeneric},
		"nine unused bits":             {[]byte{0x30, 9, 0xa0, 7, 3, 5, 9, 0x40, 0, 0, 0}, krb5.ErrGeneric},
	} {
		f.expect(what+", AS", f.asRequest(alice, f.key(alice), with(krb5.PAPACOptions, c.value)), c.want)
		f.expect(what+", TGS", f.tgsWith(tgt, ldap, nil, krb5.PAData{Type: krb5.PAPACOptions, Value: c.value}), c.want)
	}
}

// TestSupportedTypesAreTheServers, and none of a feature that the KDC lacks: a client that
// saw FAST here would use it.
func TestSupportedTypesAreTheServers(t *testing.T) {
	f := newForger(t, nil)
	tgt := f.logOn(alice, func(r *krb5.KDCReq) { r.PAData, r.Body.Options = r.PAData[1:], krb5.OptCanonicalize }) // without PA-REQ-ENC-PA-REP
	if got, ok := krb5.MethodData(tgt.part.PAData).Find(krb5.PASupportedETypes); !ok || string(got) != "\x18\x00\x00\x00" {
		t.Errorf("a TGT: %x, %v", got, ok)
	}
	if _, ok := krb5.MethodData(tgt.part.PAData).Find(krb5.PAReqEncPARep); ok {
		t.Error("a proof of the request that nobody asked for")
	}
	host := krb5.NewName(krb5.NameSrvHst, "HOST", "web1.contoso.com")
	canonicalize := func(b *krb5.KDCReqBody) { b.Options = krb5.OptCanonicalize }
	for types, want := range map[string]string{"0": "\x18\x00\x00\x00", "8": "\x08\x00\x00\x00", "524312": "\x18\x00\x08\x00", "983064": "\x18\x00\x08\x00"} {
		f.Put(t, "web1$", "msDS-SupportedEncryptionTypes", types)
		if got, ok := krb5.MethodData(f.get(tgt, host, canonicalize).part.PAData).Find(krb5.PASupportedETypes); !ok || string(got) != want {
			t.Errorf("msDS-SupportedEncryptionTypes %s: %x, %v, want %x", types, got, ok, want)
		}
	}
	if got := f.get(tgt, host, nil).part.PAData; got != nil {
		t.Errorf("who knows of no padata gets %v", got)
	}
	f.Put(t, "krbtgt", "msDS-SupportedEncryptionTypes", "458776") // FAST, compound identity and claims
	got, _ := krb5.MethodData(f.get(tgt, f.server.tgs, canonicalize).part.PAData).Find(krb5.PASupportedETypes)
	if types, err := krb5.ParseSupportedETypes(got); err != nil || adproto.EncryptionTypes(types) != adproto.EncDefaultAccounts {
		t.Errorf("a TGT of a krbtgt that claims all: %#x, %v", types, err)
	}
}
