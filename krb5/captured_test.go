package krb5

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// The files of testdata/captured are what MIT 1.20.1 and Samba 4.22 said to each
// other (internal/kclient, TestMITAndSambaMessagesComeBack). The client was
// kclient-mit@CONTOSO.COM with the password Passw0rd!Mit.

func captured(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/captured/*.bin")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	all := map[string][]byte{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(f)] = b
	}
	return all
}

// codecName finds the codec of a message by its first byte.
func codecName(t testing.TB, b []byte) string {
	t.Helper()
	m, ok := TypeOf(b)
	switch {
	case !ok:
		t.Fatalf("%x is no message", b[:4])
	case m == MsgASReq || m == MsgTGSReq:
		return "KDC-REQ"
	case m == MsgASRep || m == MsgTGSRep:
		return "KDC-REP"
	}
	return m.String()
}

func TestCapturedMessagesComeBack(t *testing.T) {
	for file, b := range captured(t) {
		t.Run(file, func(t *testing.T) {
			c := codecs[codecName(t, b)]
			x, err := c.parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if q, ok := x.(KDCReq); ok {
				q.RawBody = nil
				x = q
			}
			if again := c.encode(x); !bytes.Equal(b, again) {
				t.Errorf("came %x\n out %x", b, again)
			}
			for n := range b {
				if _, err := c.parse(b[:n:n]); err == nil {
					t.Fatalf("prefix of %d bytes was accepted", n)
				}
			}
		})
	}
}

// TestCapturedReply opens Samba's AS-REP with the password.
func TestCapturedReply(t *testing.T) {
	all := captured(t)
	rep, err := ParseKDCRep(all["samba-as-rep.bin"])
	if err != nil {
		t.Fatal(err)
	}
	key, err := crypto.StringToKey(rep.EncPart.EType, []byte("Passw0rd!Mit"), "CONTOSO.COMkclient-mit", nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := rep.EncPart.Open(key, UsageASRepEncPart)
	if err != nil {
		t.Fatal(err)
	}
	part, err := ParseEncKDCRepPart(plain)
	if err != nil {
		t.Fatal(err)
	}
	if again := part.Append(nil); !bytes.Equal(plain, again) {
		t.Errorf("came %x\n out %x", plain, again)
	}
	ticket, err := ParseTicket(rep.Ticket)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ticket.SName, part.SName); d != "" || ticket.SName.String() != "krbtgt/CONTOSO.COM" {
		t.Error(d)
	}
	sum, ok := MethodData(part.PAData).Find(PAReqEncPARep)
	if !ok {
		t.Fatal("no PA-REQ-ENC-PA-REP")
	}
	c, err := ParseChecksum(sum)
	if err != nil {
		t.Fatal(err)
	}
	if err := key.VerifyChecksum(UsageASReqChecksum, all["mit-as-req-timestamp.bin"], c.Sum); err != nil {
		t.Errorf("Samba's checksum of MIT's request: %v", err)
	}
}

func TestCapturedErrors(t *testing.T) {
	e, err := ParseKRBError(captured(t)["samba-error-25.bin"])
	if err != nil {
		t.Fatal(err)
	}
	b, ok := e.MethodData().Find(PAETypeInfo2)
	if e.Code != ErrPreauthRequired || !ok {
		t.Fatalf("%v", e.Code)
	}
	info, err := ParseETypeInfo2(b)
	if err != nil {
		t.Fatal(err)
	}
	if again := info.Append(nil); !bytes.Equal(b, again) {
		t.Errorf("came %x\n out %x", b, again)
	}
	if info[0].EType != crypto.AES256SHA1 || info[0].Salt != "CONTOSO.COMkclient-mit" {
		t.Errorf("%+v", info)
	}
}

func TestCapturedMutationsDoNotPanic(t *testing.T) {
	r := rand.New(rand.NewPCG(11, 12))
	for _, b := range captured(t) {
		c := codecs[codecName(t, b)]
		for range 200 {
			m := bytes.Clone(b)
			m[r.IntN(len(m))] = byte(r.Uint32())
			_, _ = c.parse(m)
		}
	}
}
