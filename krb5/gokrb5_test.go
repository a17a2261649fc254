package krb5

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jcmturner/gokrb5/v8/messages"
	"github.com/jcmturner/gokrb5/v8/types"
)

// foreign is the same message in gokrb5, a library that encodes by reflection.
type foreign interface{ Unmarshal([]byte) error }

// TestGokrb5ReadsOurs gives random messages of ours to gokrb5 and compares what
// it sees in the fields that both have.
func TestGokrb5ReadsOurs(t *testing.T) {
	for name, c := range map[string]struct {
		fresh func() foreign
		check func(t *testing.T, ours any, theirs foreign)
	}{
		"Ticket": {func() foreign { return new(messages.Ticket) }, func(t *testing.T, ours any, theirs foreign) {
			a, b := ours.(Ticket), theirs.(*messages.Ticket)
			equal(t, "realm", a.Realm, b.Realm)
			equal(t, "sname", a.SName.Components, b.SName.NameString)
			equal(t, "cipher", a.EncPart.Cipher, b.EncPart.Cipher)
		}},
		"EncTicketPart": {func() foreign { return new(messages.EncTicketPart) }, func(t *testing.T, ours any, theirs foreign) {
			a, b := ours.(EncTicketPart), theirs.(*messages.EncTicketPart)
			equal(t, "key", a.Key.Value.Reveal(), b.Key.KeyValue)
			equal(t, "flags", uint32Bytes(uint32(a.Flags)), b.Flags.Bytes)
			equal(t, "endtime", a.EndTime, b.EndTime)
			equal(t, "renew-till", a.RenewTill, b.RenewTill)
			equal(t, "authorization data", len(a.AuthorizationData), len(b.AuthorizationData))
		}},
		"Authenticator": {func() foreign { return new(types.Authenticator) }, func(t *testing.T, ours any, theirs foreign) {
			a, b := ours.(Authenticator), theirs.(*types.Authenticator)
			equal(t, "cname", a.CName.Components, b.CName.NameString)
			equal(t, "cusec", a.CUsec, b.Cusec)
			equal(t, "checksum", a.Checksum.Sum, b.Cksum.Checksum)
			equal(t, "subkey", a.Subkey.Value.Reveal(), b.SubKey.KeyValue)
			equal(t, "seq-number", int64(a.SeqNumber), b.SeqNumber)
		}},
		"AP-REP": {func() foreign { return new(messages.APRep) }, func(t *testing.T, ours any, theirs foreign) {
			equal(t, "cipher", ours.(APRep).EncPart.Cipher, theirs.(*messages.APRep).EncPart.Cipher)
		}},
		"EncAPRepPart": {func() foreign { return new(messages.EncAPRepPart) }, func(t *testing.T, ours any, theirs foreign) {
			a, b := ours.(EncAPRepPart), theirs.(*messages.EncAPRepPart)
			equal(t, "ctime", a.CTime, b.CTime)
			equal(t, "subkey", a.Subkey.Value.Reveal(), b.Subkey.KeyValue)
		}},
		"EncKDCRepPart": {func() foreign { return new(messages.EncKDCRepPart) }, func(t *testing.T, ours any, theirs foreign) {
			a, b := ours.(EncKDCRepPart), theirs.(*messages.EncKDCRepPart)
			equal(t, "key", a.Key.Value.Reveal(), b.Key.KeyValue)
			equal(t, "nonce", int(a.Nonce), b.Nonce)
			equal(t, "last-req", len(a.LastReq), len(b.LastReqs))
			equal(t, "sname", a.SName.Components, b.SName.NameString)
			equal(t, "padata", len(a.PAData), len(b.EncPAData))
		}},
		"KRB-ERROR": {func() foreign { return new(messages.KRBError) }, func(t *testing.T, ours any, theirs foreign) {
			a, b := ours.(KRBError), theirs.(*messages.KRBError)
			equal(t, "code", int32(a.Code), b.ErrorCode)
			equal(t, "stime", a.STime, b.STime)
			equal(t, "e-text", a.EText, b.EText)
			equal(t, "e-data", a.EData, b.EData)
		}},
		"KRB-PRIV": {func() foreign { return new(messages.KRBPriv) }, func(t *testing.T, ours any, theirs foreign) {
			equal(t, "cipher", ours.(KRBPriv).EncPart.Cipher, theirs.(*messages.KRBPriv).EncPart.Cipher)
		}},
		"EncKrbPrivPart": {func() foreign { return new(messages.EncKrbPrivPart) }, func(t *testing.T, ours any, theirs foreign) {
			a, b := ours.(EncKRBPrivPart), theirs.(*messages.EncKrbPrivPart)
			equal(t, "user data", a.UserData, b.UserData)
			equal(t, "address", a.SAddress.Address, b.SAddress.Address)
		}},
		"KRB-SAFE": {func() foreign { return new(messages.KRBSafe) }, func(t *testing.T, ours any, theirs foreign) {
			equal(t, "user data", ours.(KRBSafe).Body.UserData, theirs.(*messages.KRBSafe).SafeBody.UserData)
		}},
		"KRB-CRED": {func() foreign { return new(messages.KRBCred) }, func(t *testing.T, ours any, theirs foreign) {
			equal(t, "tickets", len(ours.(KRBCred).Tickets), len(theirs.(*messages.KRBCred).Tickets))
		}},
		"EncKrbCredPart": {func() foreign { return new(messages.EncKrbCredPart) }, func(t *testing.T, ours any, theirs foreign) {
			equal(t, "tickets", len(ours.(EncKRBCredPart).TicketInfo), len(theirs.(*messages.EncKrbCredPart).TicketInfo))
		}},
		"ETYPE-INFO2": {func() foreign { return new(types.ETypeInfo2) }, func(t *testing.T, ours any, theirs foreign) {
			a, b := ours.(ETypeInfo2), *theirs.(*types.ETypeInfo2)
			equal(t, "entries", len(a), len(b))
			equal(t, "salt", a[0].Salt, b[0].Salt)
			equal(t, "parameters", a[0].S2KParams, b[0].S2KParams)
		}},
		"METHOD-DATA": {func() foreign { return new(types.PADataSequence) }, func(t *testing.T, ours any, theirs foreign) {
			equal(t, "entries", len(ours.(MethodData)), len(*theirs.(*types.PADataSequence)))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(9, 10))
			for range 20 {
				x := ascii(normal(codecs[name].random(r)))
				f := c.fresh()
				if err := f.Unmarshal(codecs[name].encode(x)); err != nil {
					t.Fatalf("%+v: %v", x, err)
				}
				c.check(t, x, f)
			}
		})
	}
}

func equal(t *testing.T, what string, ours, theirs any) {
	t.Helper()
	if d := cmp.Diff(ours, theirs, same); d != "" {
		t.Errorf("%s: %s", what, d)
	}
}

func uint32Bytes(v uint32) []byte { return []byte{byte(v >> 24), byte(v >> 16), byte(v >> 8), byte(v)} }

// ascii replaces what gokrb5 cannot read: strings beyond ASCII.
func ascii(x any) any {
	v := reflect.New(reflect.TypeOf(x)).Elem()
	v.Set(reflect.ValueOf(x))
	replaceStrings(v)
	return v.Interface()
}

func replaceStrings(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.String() == "é世" {
			v.SetString("plain")
		}
	case reflect.Slice:
		for i := range v.Len() {
			replaceStrings(v.Index(i))
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for _, f := range v.Fields() {
			if f.CanSet() {
				replaceStrings(f)
			}
		}
	}
}

// TestWeReadGokrb5 reads messages that gokrb5 wrote, and writes them back byte
// for byte.
func TestWeReadGokrb5(t *testing.T) {
	name := types.PrincipalName{NameType: 2, NameString: []string{"krbtgt", "CONTOSO.COM"}}
	user := types.PrincipalName{NameType: 1, NameString: []string{"web1$"}}
	now := time.Now().UTC().Truncate(time.Second)
	enc := types.EncryptedData{EType: 18, KVNO: 3, Cipher: bytes.Repeat([]byte{9}, 200)}
	ticket := messages.Ticket{TktVNO: 5, Realm: "CONTOSO.COM", SName: name, EncPart: enc}
	pa := types.PADataSequence{{PADataType: 149, PADataValue: []byte{}}, {PADataType: 2, PADataValue: []byte("value")}}
	body := messages.KDCReqBody{
		KDCOptions: types.NewKrbFlags(), CName: user, Realm: "CONTOSO.COM", SName: name,
		Till: now, RTime: now, Nonce: 12345, EType: []int32{18, 17},
		Addresses: types.HostAddresses{{AddrType: 2, Address: []byte{127, 0, 0, 1}}},
	}
	asReq := messages.ASReq{KDCReqFields: messages.KDCReqFields{PVNO: 5, MsgType: 10, PAData: pa, ReqBody: body}}
	tgsReq := messages.TGSReq{KDCReqFields: messages.KDCReqFields{PVNO: 5, MsgType: 12, PAData: pa, ReqBody: body}}
	asRep := messages.ASRep{KDCRepFields: messages.KDCRepFields{PVNO: 5, MsgType: 11, PAData: pa, CRealm: "CONTOSO.COM", CName: user, Ticket: ticket, EncPart: enc}}
	tgsRep := messages.TGSRep{KDCRepFields: messages.KDCRepFields{PVNO: 5, MsgType: 13, CRealm: "CONTOSO.COM", CName: user, Ticket: ticket, EncPart: enc}}
	apReq := messages.APReq{PVNO: 5, MsgType: 14, APOptions: types.NewKrbFlags(), Ticket: ticket, EncryptedAuthenticator: enc}
	auth := types.Authenticator{
		AVNO: 5, CRealm: "CONTOSO.COM", CName: user, Cksum: types.Checksum{CksumType: 0x8003, Checksum: make([]byte, 24)},
		Cusec: 999_999, CTime: now, SubKey: types.EncryptionKey{KeyType: 18, KeyValue: make([]byte, 32)}, SeqNumber: 1 << 31,
	}
	krbErr := messages.NewKRBError(name, "CONTOSO.COM", 24, "text")
	krbErr.CTime, krbErr.Cusec, krbErr.EData = now, 1, []byte("data")
	part := messages.EncKDCRepPart{
		Key: types.EncryptionKey{KeyType: 18, KeyValue: make([]byte, 32)}, LastReqs: []messages.LastReq{{LRType: 6, LRValue: now}},
		Nonce: 12345, Flags: types.NewKrbFlags(), AuthTime: now, StartTime: now, EndTime: now, SRealm: "CONTOSO.COM", SName: name,
	}
	for what, c := range map[string]struct {
		marshal func() ([]byte, error)
		codec   string
	}{
		"AS-REQ":        {asReq.Marshal, "KDC-REQ"},
		"TGS-REQ":       {tgsReq.Marshal, "KDC-REQ"},
		"AS-REP":        {asRep.Marshal, "KDC-REP"},
		"TGS-REP":       {tgsRep.Marshal, "KDC-REP"},
		"AP-REQ":        {apReq.Marshal, "AP-REQ"},
		"Ticket":        {ticket.Marshal, "Ticket"},
		"Authenticator": {auth.Marshal, "Authenticator"},
		"KRB-ERROR":     {krbErr.Marshal, "KRB-ERROR"},
		"EncKDCRepPart": {part.Marshal, "EncKDCRepPart"},
	} {
		t.Run(what, func(t *testing.T) {
			b, err := c.marshal()
			if err != nil {
				t.Fatal(err)
			}
			x, err := codecs[c.codec].parse(b)
			if err != nil {
				t.Fatalf("%v\n%x", err, b)
			}
			if again := codecs[c.codec].encode(x); !bytes.Equal(b, again) {
				t.Errorf("theirs %x\n ours %x", b, again)
			}
		})
	}
}
