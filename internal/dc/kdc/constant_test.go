package kdc

import (
	"bytes"
	"crypto/rand"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// failures are ciphertexts of one length that do not open under a usage of key: of another
// key, of another usage, random, and genuine ones with one bit turned over at the front, in
// the middle and in the checksum behind.
func (f *forger) failures(key *crypto.Key, usage uint32, plain []byte) map[string][]byte {
	f.t.Helper()
	stranger, err := crypto.Generate(key.EType(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	seal := func(key *crypto.Key, usage uint32) []byte {
		enc, err := krb5.Seal(key, usage, plain, rand.Reader)
		if err != nil {
			f.t.Fatal(err)
		}
		return enc.Cipher
	}
	turned := func(at func(n int) int) []byte {
		b := seal(key, usage)
		b[at(len(b))] ^= 1
		return b
	}
	random := make([]byte, len(seal(key, usage)))
	_, _ = rand.Read(random)
	return map[string][]byte{
		"another key": seal(stranger, usage), "another usage": seal(key, usage+1), "random": random,
		"turned in front":   turned(func(int) int { return 0 }),
		"turned inside":     turned(func(n int) int { return n / 2 }),
		"turned at the end": turned(func(n int) int { return n - 1 }),
	}
}

// answers are the KDC's to requests that each has one of the failures in it, from a source
// of its own each, so that no limit is met.
func (f *forger) answers(failures map[string][]byte, request func(cipher []byte) []byte) map[string][]byte {
	out := map[string][]byte{}
	for what, cipher := range failures {
		out[what] = f.server.handle(f.t.Context(), nil, request(cipher), f.source(), stream)
	}
	return out
}

func (f *forger) source() netip.AddrPort {
	f.usec++
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(f.usec >> 16), byte(f.usec >> 8), byte(f.usec)}), 1024)
}

// secretsShown are the three ciphertexts that the KDC opens: a client's timestamp, a ticket
// and an authenticator. Each gives its failures, and the request that a failure goes into.
func (f *forger) secretsShown() map[string]struct {
	failures map[string][]byte
	request  func(cipher []byte) []byte
	want     krb5.ErrorCode
} {
	key, tgt := f.key(alice), f.logOn(alice, nil)
	stamp := krb5.PAEncTSEnc{Time: f.Now()}.Append(nil)
	krbtgt := f.key(f.server.tgs)
	part := f.inside(tgt, krbtgt)
	type shown = struct {
		failures map[string][]byte
		request  func(cipher []byte) []byte
		want     krb5.ErrorCode
	}
	return map[string]shown{
		"timestamp": {f.failures(key, krb5.UsageASReqTimestamp, stamp), func(cipher []byte) []byte {
			return f.asRequest(alice, nil, func(q *krb5.KDCReq) {
				enc := krb5.EncryptedData{EType: key.EType(), Cipher: cipher}
				q.PAData = append(q.PAData, krb5.PAData{Type: krb5.PAEncTimestamp, Value: enc.Append(nil)})
			})
		}, krb5.ErrPreauthFailed},
		"ticket": {f.failures(krbtgt, krb5.UsageTicket, part.Append(nil)), func(cipher []byte) []byte {
			forged := tgt
			enc := krb5.EncryptedData{EType: krbtgt.EType(), KVNO: 1, Cipher: cipher}
			forged.der = krb5.Ticket{Realm: "CONTOSO.COM", SName: f.server.tgs, EncPart: enc}.Append(nil)
			return f.tgsRequest(forged, ldap, nil, nil)
		}, krb5.ErrBadIntegrity},
		"authenticator": {f.failures(tgt.session, krb5.UsageTGSReqAuthenticator, make([]byte, 200)), func(cipher []byte) []byte {
			body := krb5.KDCReqBody{Realm: "CONTOSO.COM", SName: ldap, Till: f.Now().Add(time.Hour), Nonce: 9, ETypes: []crypto.EType{18}}.Append(nil)
			ap := krb5.APReq{Ticket: tgt.der, Authenticator: krb5.EncryptedData{EType: tgt.session.EType(), Cipher: cipher}}.Append(nil)
			return krb5.KDCReq{Type: krb5.MsgTGSReq, PAData: []krb5.PAData{{Type: krb5.PATGSReq, Value: ap}}, RawBody: body}.Append(nil)
		}, krb5.ErrBadIntegrity},
	}
}

// TestDecryptionFailuresAreOneError: whatever is wrong with a ciphertext, the answer is the
// same in each bit. It holds security 22.
func TestDecryptionFailuresAreOneError(t *testing.T) {
	f := newForger(t, nil)
	for what, s := range f.secretsShown() {
		answers := f.answers(s.failures, s.request)
		e, err := krb5.ParseKRBError(answers["another key"])
		if err != nil || e.Code != s.want {
			t.Errorf("%s: %v, %v", what, e, err)
		}
		for name, answer := range answers {
			if !bytes.Equal(answer, answers["another key"]) {
				t.Errorf("%s, %s: another answer than with another key", what, name)
			}
		}
	}
}

// TestDecryptionFailuresTakeOneTime measures the median time of each failure, taken in turns,
// and allows for twice the least: enough for a busy machine, and too little for a KDC that
// leaves off at the first byte that is wrong, or tries another key for some of them only.
// That nothing inside of a comparison depends on where bytes differ is crypto/subtle's.
//
// It holds security 22.
func TestDecryptionFailuresTakeOneTime(t *testing.T) {
	f := newForger(t, nil)
	const rounds = 300
	for what, s := range f.secretsShown() {
		took := map[string][]time.Duration{}
		for range rounds {
			for name, cipher := range s.failures {
				message, from := s.request(cipher), f.source()
				start := time.Now()
				f.server.handle(t.Context(), nil, message, from, stream)
				took[name] = append(took[name], time.Since(start))
			}
		}
		median := map[string]time.Duration{}
		for name, all := range took {
			slices.Sort(all)
			median[name] = all[rounds/2]
		}
		least, most := time.Hour, time.Duration(0)
		for _, m := range median {
			least, most = min(least, m), max(most, m)
		}
		t.Logf("%s: %v", what, median)
		if most > 2*least {
			t.Errorf("%s: failures take from %v to %v", what, least, most)
		}
	}
}
