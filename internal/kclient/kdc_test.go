package kclient_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
)

const (
	realm    = "TEST.EXAMPLE"
	userPass = "correct horse"
	userSalt = "TEST.EXAMPLEhostuser"
)

// testKDC answers as a KDC does, except where a test tells it to lie. It serves
// connections of net.Pipe, so that it lives in a synctest bubble, and it stands
// for what Samba cannot be made to do.
type testKDC struct {
	t       testing.TB
	userKey *crypto.Key // of the one client
	tgsKey  *crypto.Key // of krbtgt and every service
	skew    time.Duration

	// Lies; each may be nil.
	info    krb5.ETypeInfo2                                 // what error 25 says
	deny    func(n int, q krb5.KDCReq) *krb5.KRBError       // before anything else, by number of the request
	change  func(*krb5.KDCRep, *krb5.EncKDCRepPart)         // before the reply is encrypted
	seal    func(*crypto.Key, uint32) (*crypto.Key, uint32) // the key and usage of the reply
	rewrite func([]byte) []byte                             // the reply's bytes, before framing
	frame   func([]byte) []byte                             // the bytes on the wire
	passwd  func(*kpasswd.Reply, *krb5.EncAPRepPart, kpasswd.Request)

	mu       sync.Mutex
	oneFrame func([]byte) []byte // see once
	requests int
	dialled  map[string]int
	open     int // connections that the client has not closed
}

func newTestKDC(t testing.TB) *testKDC {
	t.Helper()
	key, err := crypto.StringToKey(crypto.AES256SHA1, []byte(userPass), userSalt, nil)
	if err != nil {
		t.Fatal(err)
	}
	tgs, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &testKDC{t: t, userKey: key, tgsKey: tgs, dialled: map[string]int{}}
}

// dial is Config.Dial. An address "dead" never answers, "refusing" at once.
func (k *testKDC) dial(ctx context.Context, network, address string) (net.Conn, error) {
	k.mu.Lock()
	k.dialled[network+" "+address]++
	k.mu.Unlock()
	switch address {
	case "dead:88":
		<-ctx.Done()
		return nil, ctx.Err()
	case "refusing:88":
		return nil, io.ErrClosedPipe
	}
	ours, theirs := net.Pipe()
	k.count(1)
	go func() {
		defer k.count(-1)
		defer theirs.Close()
		switch {
		case network == "udp":
			k.serveUDP(theirs, address)
		case address == "mute:88":
			_, _ = io.Copy(io.Discard, theirs)
		default:
			k.serveTCP(theirs)
		}
	}()
	return ours, nil
}

func (k *testKDC) count(n int) {
	k.mu.Lock()
	k.open += n
	k.mu.Unlock()
}

func (k *testKDC) connections() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.open
}

func (k *testKDC) dials(what string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.dialled[what]
}

func (k *testKDC) serveTCP(conn net.Conn) {
	for {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return
		}
		request := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(conn, request); err != nil {
			return
		}
		reply := k.answer(request)
		wire := append(binary.BigEndian.AppendUint32(nil, uint32(len(reply))), reply...)
		if frame := k.takeFrame(); frame != nil {
			wire = frame(wire)
		}
		if wire == nil {
			return
		}
		if _, err := conn.Write(wire); err != nil {
			return
		}
	}
}

// takeFrame is the lie about framing: once's, or frame.
func (k *testKDC) takeFrame() func([]byte) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	if f := k.oneFrame; f != nil {
		k.oneFrame = nil
		return f
	}
	return k.frame
}

// once lies about the framing of the next answer.
func (k *testKDC) once(f func([]byte) []byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.oneFrame = f
}

// serveUDP drops everything at "lossy:88", and says 52 elsewhere.
func (k *testKDC) serveUDP(conn net.Conn, address string) {
	b := make([]byte, 1<<16)
	for {
		if _, err := conn.Read(b); err != nil {
			return
		}
		if address == "lossy:88" {
			continue
		}
		if _, err := conn.Write(k.fail(krb5.ErrResponseTooBig, nil).Append(nil)); err != nil {
			return
		}
	}
}

func (k *testKDC) now() time.Time { return time.Now().Add(k.skew).UTC() }

func (k *testKDC) fail(code krb5.ErrorCode, data []byte) *krb5.KRBError {
	return &krb5.KRBError{Code: code, STime: k.now(), Realm: realm, SName: krb5.NewName(krb5.NameSrvInst, "krbtgt", realm), EData: data}
}

func (k *testKDC) answer(request []byte) []byte {
	if t, ok := krb5.TypeOf(request); !ok || (t != krb5.MsgASReq && t != krb5.MsgTGSReq) {
		return k.answerKpasswd(request)
	}
	q, err := krb5.ParseKDCReq(request)
	if err != nil {
		k.t.Errorf("the client's request: %v", err)
		return nil
	}
	k.mu.Lock()
	k.requests++
	n := k.requests
	k.mu.Unlock()
	if k.deny != nil {
		if e := k.deny(n, q); e != nil {
			return e.Append(nil)
		}
	}
	reply, e := k.serve(q, request)
	if e != nil {
		return e.Append(nil)
	}
	if k.rewrite != nil {
		reply = k.rewrite(reply)
	}
	return reply
}

func (k *testKDC) serve(q krb5.KDCReq, request []byte) ([]byte, *krb5.KRBError) {
	rep := krb5.KDCRep{Type: krb5.MsgASRep, CRealm: realm, CName: q.Body.CName}
	part := krb5.EncKDCRepPart{
		Type: krb5.MsgASRep, Nonce: q.Body.Nonce, Flags: krb5.FlagInitial | krb5.FlagPreAuthent | krb5.FlagEncPARep,
		AuthTime: k.now(), StartTime: k.now(), EndTime: k.now().Add(10 * time.Hour), SRealm: realm, SName: q.Body.SName,
		LastReq: []krb5.LastReq{{Type: krb5.LRPasswordExpires, Value: k.now().Add(time.Hour)}},
	}
	if part.EndTime.After(q.Body.Till) {
		part.EndTime = q.Body.Till
	}
	key, usage := k.userKey, krb5.UsageASRepEncPart
	if q.Type == krb5.MsgASReq {
		if e := k.preauth(q); e != nil {
			return nil, e
		}
		sum := krb5.Checksum{Type: key.ChecksumType(), Sum: key.Checksum(krb5.UsageASReqChecksum, request)}
		part.PAData = []krb5.PAData{{Type: krb5.PAReqEncPARep, Value: sum.Append(nil)}}
	} else {
		auth, e := k.authenticate(q)
		if e != nil {
			return nil, e
		}
		rep.Type, part.Type = krb5.MsgTGSRep, krb5.MsgTGSRep
		rep.CName, part.Flags = auth.CName, krb5.FlagPreAuthent
		subkey, err := auth.Subkey.Key()
		if err != nil {
			k.t.Errorf("subkey: %v", err)
		}
		key, usage = subkey, krb5.UsageTGSRepSubkey
	}
	return k.reply(rep, part, key, usage), nil
}

func (k *testKDC) reply(rep krb5.KDCRep, part krb5.EncKDCRepPart, key *crypto.Key, usage uint32) []byte {
	session, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		k.t.Error(err)
	}
	part.Key = krb5.KeyOf(session)
	ticket := krb5.EncTicketPart{
		Flags: part.Flags, Key: part.Key, CRealm: rep.CRealm, CName: rep.CName,
		AuthTime: part.AuthTime, StartTime: part.StartTime, EndTime: part.EndTime,
	}
	sealed := k.encrypt(k.tgsKey, krb5.UsageTicket, ticket.Append(nil))
	rep.Ticket = krb5.Ticket{Realm: part.SRealm, SName: part.SName, EncPart: sealed}.Append(nil)
	if k.change != nil {
		k.change(&rep, &part)
	}
	if k.seal != nil {
		key, usage = k.seal(key, usage)
	}
	etype := rep.EncPart.EType
	rep.EncPart = k.encrypt(key, usage, part.Append(nil))
	if etype != 0 {
		rep.EncPart.EType = etype
	}
	return rep.Append(nil)
}

func (k *testKDC) encrypt(key *crypto.Key, usage uint32, plain []byte) krb5.EncryptedData {
	e, err := krb5.Seal(key, usage, plain, rand.Reader)
	if err != nil {
		k.t.Error(err)
	}
	return e
}

func (k *testKDC) preauth(q krb5.KDCReq) *krb5.KRBError {
	info := k.info
	if info == nil {
		info = krb5.ETypeInfo2{{EType: crypto.AES256SHA1, Salt: userSalt, HasSalt: true}}
	}
	methods := krb5.MethodData{{Type: krb5.PAETypeInfo2, Value: info.Append(nil)}, {Type: krb5.PAEncTimestamp, Value: []byte{}}}
	value, ok := krb5.MethodData(q.PAData).Find(krb5.PAEncTimestamp)
	if !ok {
		return k.fail(krb5.ErrPreauthRequired, methods.Append(nil))
	}
	e, err := krb5.ParseEncryptedData(value)
	if err != nil {
		k.t.Errorf("PA-ENC-TIMESTAMP: %v", err)
	}
	plain, err := e.Open(k.userKey, krb5.UsageASReqTimestamp)
	if err != nil {
		return k.fail(krb5.ErrPreauthFailed, methods.Append(nil))
	}
	ts, err := krb5.ParsePAEncTSEnc(plain)
	if err != nil {
		k.t.Errorf("PA-ENC-TS-ENC: %v", err)
	}
	if ts.Time.Sub(k.now()).Abs() > 5*time.Minute {
		return k.fail(krb5.ErrSkew, nil)
	}
	return nil
}

func (k *testKDC) authenticate(q krb5.KDCReq) (krb5.Authenticator, *krb5.KRBError) {
	value, _ := krb5.MethodData(q.PAData).Find(krb5.PATGSReq)
	auth, session := k.apReq(value, krb5.UsageTGSReqAuthenticator)
	if err := session.VerifyChecksum(krb5.UsageTGSReqChecksum, q.RawBody, auth.Checksum.Sum); err != nil {
		k.t.Errorf("the checksum of the body: %v", err)
	}
	if auth.CTime.Sub(k.now()).Abs() > 5*time.Minute {
		return auth, k.fail(krb5.ErrSkew, nil)
	}
	return auth, nil
}

func (k *testKDC) apReq(b []byte, usage uint32) (krb5.Authenticator, *crypto.Key) {
	check := func(err error) {
		if err != nil {
			k.t.Errorf("AP-REQ: %v", err)
		}
	}
	ap, err := krb5.ParseAPReq(b)
	check(err)
	ticket, err := krb5.ParseTicket(ap.Ticket)
	check(err)
	plain, err := ticket.EncPart.Open(k.tgsKey, krb5.UsageTicket)
	check(err)
	part, err := krb5.ParseEncTicketPart(plain)
	check(err)
	session, err := part.Key.Key()
	check(err)
	plain, err = ap.Authenticator.Open(session, usage)
	check(err)
	auth, err := krb5.ParseAuthenticator(plain)
	check(err)
	return auth, session
}

// answerKpasswd says yes.
func (k *testKDC) answerKpasswd(b []byte) []byte {
	q, err := kpasswd.ParseRequest(b)
	if err != nil {
		k.t.Errorf("kpasswd: %v", err)
		return nil
	}
	auth, session := k.apReq(q.APReq, krb5.UsageAPReqAuthenticator)
	subkey, err := auth.Subkey.Key()
	if err != nil {
		k.t.Errorf("subkey: %v", err)
	}
	part := krb5.EncAPRepPart{CTime: auth.CTime, CUsec: auth.CUsec, SeqNumber: 77}
	body := krb5.MessageBody{UserData: kpasswd.Result{Text: []byte("changed")}.Append(nil), SeqNumber: 77}
	priv, err := krb5.SealPriv(subkey, body, rand.Reader)
	if err != nil {
		k.t.Error(err)
	}
	reply := kpasswd.Reply{Priv: priv.Append(nil)}
	if k.passwd != nil {
		k.passwd(&reply, &part, q)
	}
	reply.APRep = krb5.APRep{EncPart: k.encrypt(session, krb5.UsageAPRepEncPart, part.Append(nil))}.Append(nil)
	return reply.Append(nil)
}

// watched is a list of controllers that remembers which were reported.
type watched struct {
	kclient.Static

	mu     sync.Mutex
	failed []string
}

func (w *watched) Failed(k kclient.KDC) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed = append(w.failed, k.Host)
}

// client makes a client of the KDC; hosts are the controllers, "kdc" by default.
func (k *testKDC) client(t testing.TB, change func(*kclient.Config), hosts ...string) (*kclient.Client, *watched) {
	t.Helper()
	if hosts == nil {
		hosts = []string{"kdc"}
	}
	w := &watched{Static: kclient.StaticKDCs(hosts...)}
	cfg := kclient.Config{Realm: realm, KDCs: w, Dial: k.dial}
	if change != nil {
		change(&cfg)
	}
	c, err := kclient.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, w
}

func (k *testKDC) request() kclient.ASRequest { return user("user", userPass) }

func (k *testKDC) keyRequest() kclient.ASRequest {
	r := k.request()
	r.Secret = kclient.Keys(k.userKey)
	return r
}

func contains(b, part []byte) bool { return bytes.Contains(b, part) }
