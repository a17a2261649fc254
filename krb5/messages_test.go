package krb5

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// codec is one message type: random makes a value, again parses bytes and
// encodes what it read.
type codec struct {
	random func(*rand.Rand) any
	encode func(any) []byte
	parse  func([]byte) (any, error)
}

func codecOf[T interface{ Append([]byte) []byte }](parse func([]byte) (T, error)) codec {
	return codec{
		random: func(r *rand.Rand) any {
			var x T
			fill(r, reflect.ValueOf(&x).Elem(), "")
			return x
		},
		encode: func(x any) []byte { return x.(T).Append(nil) },
		parse:  func(b []byte) (any, error) { return parse(b) },
	}
}

// codecs has every type with a parser of its own.
var codecs = map[string]codec{
	"Ticket":            codecOf(ParseTicket),
	"EncTicketPart":     codecOf(ParseEncTicketPart),
	"Authenticator":     codecOf(ParseAuthenticator),
	"AP-REQ":            codecOf(ParseAPReq),
	"AP-REP":            codecOf(ParseAPRep),
	"EncAPRepPart":      codecOf(ParseEncAPRepPart),
	"EncryptedData":     codecOf(ParseEncryptedData),
	"Checksum":          codecOf(ParseChecksum),
	"AuthorizationData": codecOf(ParseAuthorizationData),
	"PrincipalName":     codecOf(ParsePrincipalName),
	"KDC-REQ":           codecOf(ParseKDCReq),
	"KDC-REQ-BODY":      codecOf(ParseKDCReqBody),
	"KDC-REP":           codecOf(ParseKDCRep),
	"EncKDCRepPart":     codecOf(ParseEncKDCRepPart),
	"METHOD-DATA":       codecOf(ParseMethodData),
	"PA-ENC-TS-ENC":     codecOf(ParsePAEncTSEnc),
	"ETYPE-INFO2":       codecOf(ParseETypeInfo2),
	"ETYPE-INFO":        codecOf(ParseETypeInfo),
	"PA-PAC-REQUEST":    codecOf(ParsePACRequest),
	"PA-PAC-OPTIONS":    codecOf(ParsePACOptions),
	"KRB-PRIV":          codecOf(ParseKRBPriv),
	"EncKrbPrivPart":    codecOf(ParseEncKRBPrivPart),
	"KRB-SAFE":          codecOf(ParseKRBSafe),
	"KRB-CRED":          codecOf(ParseKRBCred),
	"EncKrbCredPart":    codecOf(ParseEncKRBCredPart),
	"KRB-ERROR":         codecOf(ParseKRBError),
	"KERB-ERROR-DATA":   codecOf(ParseErrorData),
	"KERB-EXT-ERROR":    codecOf(ParseExtError),
}

// fill puts random values into v; name is the field's.
func fill(r *rand.Rand, v reflect.Value, name string) {
	switch x := v.Addr().Interface().(type) {
	case *time.Time:
		*x = time.Unix(1+r.Int64N(1<<32), 0).UTC()
		return
	case *secret.Bytes:
		*x = secret.New(randomBytes(r, 1+r.IntN(40)))
		return
	case *MessageType:
		*x = MsgASReq
		if r.IntN(2) == 0 {
			*x = MsgTGSReq
		}
		return
	case *NTStatus:
		*x = NTStatus(r.Uint32())
		return
	case *PACOptions:
		*x = PACOptions(r.Uint32())
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(r, v.Field(i), v.Type().Field(i).Name)
		}
	case reflect.String:
		v.SetString([]string{"CONTOSO.COM", "krbtgt", "é世", "x"}[r.IntN(4)])
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.Int:
		v.SetInt(r.Int64N(maxMicros + 1))
	case reflect.Int32:
		v.SetInt(int64(int32(r.Uint32())) >> r.IntN(31))
		if v.Int() == 0 {
			v.SetInt(7) // 0 stands for absent in some fields
		}
	case reflect.Uint32:
		v.SetUint(uint64(1 + r.Uint32N(1<<32-1)>>r.IntN(31)))
	case reflect.Slice:
		fillSlice(r, v, name)
	default:
		panic("fill: " + v.Type().String())
	}
}

func fillSlice(r *rand.Rand, v reflect.Value, name string) {
	switch {
	case name == "RawBody":
		return
	case name == "Ticket":
		v.SetBytes(randomTicket(r))
	case v.Type().Elem().Kind() == reflect.Uint8:
		v.SetBytes(randomBytes(r, r.IntN(300)))
	default:
		for range 1 + r.IntN(3) {
			e := reflect.New(v.Type().Elem()).Elem()
			if name == "Tickets" || name == "AdditionalTickets" {
				e.SetBytes(randomTicket(r))
			} else {
				fill(r, e, "")
			}
			v.Set(reflect.Append(v, e))
		}
	}
}

func randomTicket(r *rand.Rand) []byte {
	var t Ticket
	fill(r, reflect.ValueOf(&t).Elem(), "")
	return t.Append(nil)
}

func randomBytes(r *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// same compares messages; what Parse adds (RawBody), what one type shares with
// another (the reply's type in a request's place) and nil beside empty do not
// count.
var same = cmp.Options{
	cmp.Comparer(func(a, b secret.Bytes) bool { return a.Equal(b) }),
	cmpopts.IgnoreFields(KDCReq{}, "RawBody"),
	cmpopts.IgnoreFields(KRBSafe{}, "RawBody"),
	cmpopts.EquateEmpty(),
}

// normal adapts a random value to what its type can express.
func normal(x any) any {
	switch x := x.(type) {
	case KDCRep:
		x.Type++ // from the type of a request to that of its reply
		return x
	case EncKDCRepPart:
		x.Type++
		return x
	case ETypeInfo2:
		for i := range x {
			if !x[i].HasSalt {
				x[i].Salt = ""
			}
		}
		return x
	}
	return x
}

func TestRoundTrip(t *testing.T) {
	for name, c := range codecs {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			for range 20 {
				x := normal(c.random(r))
				b := c.encode(x)
				y, err := c.parse(b)
				if err != nil {
					t.Fatalf("%+v: %v\n%x", x, err, b)
				}
				if d := cmp.Diff(x, y, same); d != "" {
					t.Fatal(d)
				}
				if again := c.encode(y); !bytes.Equal(b, again) {
					t.Fatalf("encoded again:\n%x\n%x", b, again)
				}
			}
		})
	}
}

func TestEveryPrefixFails(t *testing.T) {
	for name, c := range codecs {
		t.Run(name, func(t *testing.T) {
			b := c.encode(normal(c.random(rand.New(rand.NewPCG(3, 4)))))
			for n := range b {
				if _, err := c.parse(b[:n:n]); err == nil {
					t.Fatalf("prefix of %d of %d bytes was accepted", n, len(b))
				}
			}
			if _, err := c.parse(append(bytes.Clone(b), 0)); err == nil {
				t.Error("a trailing byte was accepted")
			}
		})
	}
}

// TestMutationsDoNotPanic is a cheap stand-in for the fuzz targets in a plain
// test run.
func TestMutationsDoNotPanic(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for _, c := range codecs {
		b := c.encode(normal(c.random(r)))
		for range 30 {
			m := bytes.Clone(b)
			for range 1 + r.IntN(3) {
				m[r.IntN(len(m))] ^= byte(1 << r.IntN(8))
			}
			checkStable(t, c, m)
		}
	}
}

// checkStable demands that what is accepted means the same after encoding it.
func checkStable(t *testing.T, c codec, b []byte) {
	t.Helper()
	x, err := c.parse(b)
	if err != nil {
		return
	}
	again := c.encode(x)
	y, err := c.parse(again)
	if err != nil {
		t.Fatalf("accepted %x as %+v,\nbut not its encoding %x: %v", b, x, again, err)
	}
	if d := cmp.Diff(x, y, same); d != "" {
		t.Fatalf("%x: %s", b, d)
	}
}

func fuzz(f *testing.F, name string) {
	c := codecs[name]
	r := rand.New(rand.NewPCG(7, 8))
	for range 5 {
		f.Add(c.encode(normal(c.random(r))))
	}
	for _, b := range captured(f) {
		if codecName(f, b) == name {
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) { checkStable(t, c, b) })
}

func FuzzTicket(f *testing.F)            { fuzz(f, "Ticket") }
func FuzzEncTicketPart(f *testing.F)     { fuzz(f, "EncTicketPart") }
func FuzzAuthenticator(f *testing.F)     { fuzz(f, "Authenticator") }
func FuzzAPReq(f *testing.F)             { fuzz(f, "AP-REQ") }
func FuzzAPRep(f *testing.F)             { fuzz(f, "AP-REP") }
func FuzzEncAPRepPart(f *testing.F)      { fuzz(f, "EncAPRepPart") }
func FuzzEncryptedData(f *testing.F)     { fuzz(f, "EncryptedData") }
func FuzzChecksum(f *testing.F)          { fuzz(f, "Checksum") }
func FuzzAuthorizationData(f *testing.F) { fuzz(f, "AuthorizationData") }
func FuzzPrincipalName(f *testing.F)     { fuzz(f, "PrincipalName") }
func FuzzKDCReq(f *testing.F)            { fuzz(f, "KDC-REQ") }
func FuzzKDCReqBody(f *testing.F)        { fuzz(f, "KDC-REQ-BODY") }
func FuzzKDCRep(f *testing.F)            { fuzz(f, "KDC-REP") }
func FuzzEncKDCRepPart(f *testing.F)     { fuzz(f, "EncKDCRepPart") }
func FuzzMethodData(f *testing.F)        { fuzz(f, "METHOD-DATA") }
func FuzzPAEncTSEnc(f *testing.F)        { fuzz(f, "PA-ENC-TS-ENC") }
func FuzzETypeInfo2(f *testing.F)        { fuzz(f, "ETYPE-INFO2") }
func FuzzETypeInfo(f *testing.F)         { fuzz(f, "ETYPE-INFO") }
func FuzzPACRequest(f *testing.F)        { fuzz(f, "PA-PAC-REQUEST") }
func FuzzPACOptions(f *testing.F)        { fuzz(f, "PA-PAC-OPTIONS") }
func FuzzKRBPriv(f *testing.F)           { fuzz(f, "KRB-PRIV") }
func FuzzEncKRBPrivPart(f *testing.F)    { fuzz(f, "EncKrbPrivPart") }
func FuzzKRBSafe(f *testing.F)           { fuzz(f, "KRB-SAFE") }
func FuzzKRBCred(f *testing.F)           { fuzz(f, "KRB-CRED") }
func FuzzEncKRBCredPart(f *testing.F)    { fuzz(f, "EncKrbCredPart") }
func FuzzKRBError(f *testing.F)          { fuzz(f, "KRB-ERROR") }
func FuzzErrorData(f *testing.F)         { fuzz(f, "KERB-ERROR-DATA") }
func FuzzExtError(f *testing.F)          { fuzz(f, "KERB-EXT-ERROR") }

func asReq() KDCReq {
	return KDCReq{
		Type:   MsgASReq,
		PAData: []PAData{{Type: PAReqEncPARep, Value: []byte{}}, {Type: PAEncTimestamp, Value: make([]byte, 67)}},
		Body: KDCReqBody{
			Options: OptForwardable | OptRenewable | OptCanonicalize,
			CName:   NewName(NamePrincipal, "web1$"), Realm: "CONTOSO.COM",
			SName: NewName(NameSrvInst, "krbtgt", "CONTOSO.COM"),
			Till:  time.Unix(1_900_000_000, 0), RTime: time.Unix(1_900_000_000, 0), Nonce: 1 << 30,
			ETypes: []crypto.EType{18, 17, 20, 19},
		},
	}
}

func BenchmarkASReqAppend(b *testing.B) {
	q := asReq()
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = q.Append(buf[:0])
	}
}

func BenchmarkASReqParse(b *testing.B) {
	buf := asReq().Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseKDCReq(buf); err != nil {
			b.Fatal(err)
		}
	}
}
