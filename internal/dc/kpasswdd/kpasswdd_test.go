package kpasswdd_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/kpasswdd"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
	"github.com/opengmsa/opengmsa/krb5/pac"
	"github.com/opengmsa/opengmsa/krb5/replay"
	"github.com/opengmsa/opengmsa/secret"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	realm       = "CONTOSO.COM"
	oldPassword = "0ld!Passw0rd"
	newPassword = "N3w!Passwörd€"
)

// service is a domain with a user, a host and a gMSA, and its password service.
type service struct {
	*dctest.Domain
	accounts *account.Accounts
	*kpasswdd.Server
}

func newService(t testing.TB) *service {
	t.Helper()
	d := dctest.New(t)
	add(t, d, "alice", "CN=Users", "user", "sAMAccountName", "alice", "userAccountControl", "512", "unicodePwd", quoted(oldPassword))
	add(t, d, "web1", "CN=Computers", "computer", "sAMAccountName", "web1$", "userAccountControl", "4096", "unicodePwd", quoted("Comp-web1-Pass!"))
	add(t, d, "WebApp01", "CN=Managed Service Accounts", "msDS-GroupManagedServiceAccount", "sAMAccountName", "WebApp01$", "msDS-ManagedPasswordInterval", "30")
	d.Clock.Advance(48 * time.Hour) // passwords are at least a day old when they are changed
	s := &service{Domain: d, accounts: account.New(account.Config{Directory: d.Directory})}
	s.Server = kpasswdd.New(kpasswdd.Config{Directory: d.Directory, Accounts: s.accounts, Replay: replay.New(0, 0),
		Log: slog.New(slog.DiscardHandler), Rand: rand.Reader})
	return s
}

// add makes an object as an administrator does, so that it has its descriptor.
func add(t testing.TB, d *dctest.Domain, name, container, class string, attributes ...string) {
	t.Helper()
	q := directory.AddRequest{DN: "CN=" + name + "," + container + "," + d.Domain().DN().String(),
		Attributes: []directory.Attribute{{Name: "objectClass", Values: [][]byte{[]byte(class)}}}}
	for i := 0; i < len(attributes); i += 2 {
		q.Attributes = append(q.Attributes, directory.Attribute{Name: attributes[i], Values: [][]byte{[]byte(attributes[i+1])}})
	}
	if err := d.Add(t.Context(), d.Caller(t, "Administrator"), q); err != nil {
		t.Fatalf("add %s: %v", name, err)
	}
}

// quoted is a password as unicodePwd takes it.
func quoted(password string) string { return string(dctest.Password(`"` + password + `"`).Reveal()) }

func (s *service) keyOf(t testing.TB, n krb5.PrincipalName) *crypto.Key {
	t.Helper()
	acct, err := s.accounts.Server(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.accounts.CurrentKeys(acct, dtyp.FiletimeOf(s.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return set.Find(crypto.AES256SHA1)
}

func (s *service) kvno(t testing.TB, name string) uint32 {
	t.Helper()
	acct, err := s.accounts.Client(t.Context(), krb5.NewName(krb5.NamePrincipal, name))
	if err != nil {
		t.Fatal(err)
	}
	set, err := s.accounts.CurrentKeys(acct, dtyp.FiletimeOf(s.Now()))
	if err != nil {
		t.Fatal(err)
	}
	return set.KVNO
}

var changepw = krb5.NewName(krb5.NameSrvInst, "kadmin", "changepw")

// client is somebody with a ticket for the service, and what it sends.
type client struct {
	name    string
	server  krb5.PrincipalName
	flags   krb5.TicketFlags
	authAge time.Duration // since the password was proven
	version uint16
	data    []byte

	// What a hostile client does.
	noSubkey bool
	seqOff   uint32
	changed  bool // a bit of the KRB-PRIV

	session, subkey *crypto.Key
	auth            krb5.Authenticator
	request         kpasswd.Request
}

// change is alice's own change, as MIT's kpasswd makes it.
func change(password string) *client {
	return &client{name: "alice", server: changepw, flags: krb5.FlagInitial, version: kpasswd.VersionChange, data: []byte(password)}
}

// set is a caller's setting of another's password, with a ticket of the TGS.
func set(caller, target, password string) *client {
	data := kpasswd.ChangePasswdData{NewPassword: secret.New([]byte(password)), TargetName: krb5.NewName(krb5.NamePrincipal, target), TargetRealm: realm}
	return &client{name: caller, server: changepw, version: kpasswd.VersionSet, data: data.Append(nil)}
}

func (c *client) build(t testing.TB, s *service) []byte {
	t.Helper()
	generate := func() *crypto.Key {
		k, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	seal := func(k *crypto.Key, usage uint32, plain []byte) krb5.EncryptedData {
		e, err := krb5.Seal(k, usage, plain, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	c.session, c.subkey = generate(), generate()
	name := krb5.NewName(krb5.NamePrincipal, c.name)
	acct, err := s.accounts.Client(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	now := s.Now()
	part := krb5.EncTicketPart{Flags: c.flags, Key: krb5.KeyOf(c.session), CRealm: realm, CName: name,
		AuthTime: now.Add(-c.authAge), StartTime: now, EndTime: now.Add(5 * time.Minute)}
	p := pac.PAC{Buffers: []pac.Buffer{
		{Type: pac.TypeLogonInfo, Data: acct.Buffers(dtyp.FiletimeOf(now)).LogonInfo},
		{Type: pac.TypeClientInfo, Data: pac.ClientInfo{ID: dtyp.FiletimeOf(part.AuthTime), Name: c.name}.Append(nil)},
	}}
	key := s.keyOf(t, c.server)
	part, err = pac.Seal(part, p, pac.Service, pac.Keys{Server: key, KDC: s.keyOf(t, krb5.NewName(krb5.NameSrvInst, "krbtgt", realm))})
	if err != nil {
		t.Fatal(err)
	}
	ticket := krb5.Ticket{Realm: realm, SName: c.server, EncPart: seal(key, krb5.UsageTicket, part.Append(nil))}
	c.auth = krb5.Authenticator{CRealm: realm, CName: name, CTime: now, CUsec: 1, SeqNumber: 77}
	if !c.noSubkey {
		c.auth.Subkey = krb5.KeyOf(c.subkey)
	}
	ap := krb5.APReq{Options: krb5.APMutualRequired, Ticket: ticket.Append(nil), Authenticator: seal(c.session, krb5.UsageAPReqAuthenticator, c.auth.Append(nil))}
	body := krb5.MessageBody{UserData: c.data, SeqNumber: c.auth.SeqNumber + c.seqOff, SAddress: krb5.AddressOf(netip.MustParseAddr("192.0.2.1"))}
	priv, err := krb5.SealPriv(c.subkey, body, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if c.changed {
		priv.EncPart.Cipher[20] ^= 1
	}
	c.request = kpasswd.Request{Version: c.version, APReq: ap.Append(nil), Priv: priv.Append(nil)}
	return c.request.Append(nil)
}

// read judges an answer as MIT's client does. An error of the protocol is code, with the
// result in its e-data.
func (c *client) read(t testing.TB, b []byte) (res kpasswd.Result, code krb5.ErrorCode, from krb5.HostAddress) {
	t.Helper()
	reply, err := kpasswd.ParseReply(b)
	if err != nil {
		t.Fatal(err)
	}
	if reply.Error != nil {
		e, err := krb5.ParseKRBError(reply.Error)
		if err != nil {
			t.Fatal(err)
		}
		if res, err = kpasswd.ParseResult(e.EData); err != nil {
			t.Fatal(err)
		}
		return res, e.Code, from
	}
	rep, err := krb5.ParseAPRep(reply.APRep)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := rep.EncPart.Open(c.session, krb5.UsageAPRepEncPart)
	if err != nil {
		t.Fatal(err)
	}
	part, err := krb5.ParseEncAPRepPart(plain)
	if err != nil || part.CTime.Unix() != c.auth.CTime.Unix() || part.CUsec != c.auth.CUsec {
		t.Fatalf("%+v, %v", part, err)
	}
	priv, err := krb5.ParseKRBPriv(reply.Priv)
	if err != nil {
		t.Fatal(err)
	}
	body, err := priv.Open(c.subkey)
	if err != nil || body.SeqNumber != part.SeqNumber {
		t.Fatalf("sequence number %d, the AP-REP has %d; %v", body.SeqNumber, part.SeqNumber, err)
	}
	if res, err = kpasswd.ParseResult(body.UserData); err != nil {
		t.Fatal(err)
	}
	return res, 0, body.SAddress
}

// serve runs the service over both transports on any port of this machine.
func serve(t testing.TB, s *service) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().(*net.TCPAddr).AddrPort()
	conn, err := net.ListenPacket("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 2)
	go func() { done <- s.Serve(ctx, l) }()
	go func() { done <- s.ServePacket(ctx, conn) }()
	t.Cleanup(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
	return at
}

// exchange sends a message over a transport; no answer is nil.
func exchange(t testing.TB, network string, at netip.AddrPort, b []byte) []byte {
	t.Helper()
	conn, err := net.Dial(network, at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if network == "udp" {
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		return buf[:n]
	}
	if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
		t.Fatal(err)
	}
	var length [4]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil
	}
	out := make([]byte, binary.BigEndian.Uint32(length[:]))
	if _, err := io.ReadFull(conn, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func (s *service) binds(t testing.TB, name, password string) bool {
	t.Helper()
	_, err := s.accounts.Bind(t.Context(), `CONTOSO\`+name, secret.New([]byte(password)), netip.AddrPort{})
	return err == nil
}

func TestAUserChangesTheirOwnPassword(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		s := newService(t)
		at := serve(t, s)
		before := s.kvno(t, "alice")
		c := change(newPassword)
		res, code, from := c.read(t, exchange(t, network, at, c.build(t, s)))
		if code != 0 || res.Code != kpasswd.ResultSuccess || string(res.Text) != "Password changed" {
			t.Fatalf("%s: %v, %v", network, code, res)
		}
		if n := s.kvno(t, "alice"); n != before+1 {
			t.Errorf("%s: kvno %d after %d", network, n, before)
		}
		if !s.binds(t, "alice", newPassword) || s.binds(t, "alice", oldPassword) {
			t.Errorf("%s: the old password is in force", network)
		}
		if string(from.Address) != "\x7f\x00\x00\x01" {
			t.Errorf("%s: the answer comes from %v", network, from)
		}
	}
}

func TestAnAdministratorSetsTheirPasswords(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		s := newService(t)
		at := serve(t, s)
		before := s.kvno(t, "alice")
		c := set("Administrator", "alice", newPassword)
		res, code, _ := c.read(t, exchange(t, network, at, c.build(t, s)))
		if code != 0 || res.Code != kpasswd.ResultSuccess || string(res.Text) != "Password changed" {
			t.Fatalf("%s: %v, %v", network, code, res)
		}
		if n := s.kvno(t, "alice"); n != before+1 || !s.binds(t, "alice", newPassword) || s.binds(t, "alice", oldPassword) {
			t.Errorf("%s: kvno %d after %d, or the old password is in force", network, n, before)
		}
	}
}

func TestResultsOfChangesAndSets(t *testing.T) {
	s := newService(t)
	at := serve(t, s)
	other := set("Administrator", "web1$", newPassword)
	other.data = kpasswd.ChangePasswdData{NewPassword: secret.New([]byte(newPassword)), TargetName: krb5.NewName(krb5.NamePrincipal, "web1$"), TargetRealm: "FABRIKAM.COM"}.Append(nil)
	malformed := set("Administrator", "web1$", newPassword)
	malformed.data = malformed.data[:10]
	service := change(newPassword)
	service.flags = krb5.FlagForwardable
	stale := change(newPassword)
	stale.authAge = time.Hour
	ownByVersion2 := set("alice", "alice", newPassword)
	ownByVersion2.data = kpasswd.ChangePasswdData{NewPassword: secret.New([]byte(newPassword))}.Append(nil)
	for _, c := range []struct {
		name string
		*client
		code kpasswd.ResultCode
		text string
	}{
		{"a password that is too short", change("Sh0rt!"), kpasswd.ResultSoftError, "Password too short, password must be at least 7 characters long."},
		{"the present password again", change(oldPassword), kpasswd.ResultSoftError, "Password is already in password history. New password must not match any of your 24 previous passwords."},
		{"a password without variety", change("aaaaaaaaaa"), kpasswd.ResultSoftError, "Password does not meet complexity requirements."},
		{"bytes that are not UTF-8", change("\xff\xfe\xfd-Passw0rd"), kpasswd.ResultMalformed, "UTF-8"},
		{"a password of 2000 bytes", change(strings.Repeat("aA1!", 500)), kpasswd.ResultMalformed, "at most 1024"},
		{"a ticket of the TGS", service, kpasswd.ResultInitialFlagNeeded, "present password"},
		{"a ticket of an hour ago", stale, kpasswd.ResultInitialFlagNeeded, "present password"},
		{"an own change without a target and a fresh ticket", ownByVersion2, kpasswd.ResultInitialFlagNeeded, "present password"},
		{"Heimdal's first try for oneself", set("alice", "alice", newPassword), kpasswd.ResultAccessDenied, "Not permitted to change password"},
		{"a user sets a host's", set("alice", "web1$", newPassword), kpasswd.ResultAccessDenied, "Not permitted to change password"},
		{"an account that is not there", set("Administrator", "web9$", newPassword), kpasswd.ResultHardError, "web9$"},
		{"a name that lacks its $", set("Administrator", "web1", newPassword), kpasswd.ResultHardError, "no such account"},
		{"another realm", other, kpasswd.ResultHardError, "FABRIKAM.COM"},
		{"user-data that is cut", malformed, kpasswd.ResultMalformed, "malformed"},
		{"a gMSA, which has none of its own", set("Administrator", "WebApp01$", newPassword), kpasswd.ResultAccessDenied, "Not permitted to change password"},
		{"an administrator sets a host's", set("Administrator", "web1$", newPassword), kpasswd.ResultSuccess, "Password changed"},
		{"and a user's, too short", set("Administrator", "alice", "Sh0rt!"), kpasswd.ResultSoftError, "Password too short"},
		{"and a user's", set("Administrator", "alice@contoso.com", newPassword), kpasswd.ResultSuccess, "Password changed"},
		{"a password that is too young", change("An0ther!Passw0rd"), kpasswd.ResultSoftError, "too young"},
	} {
		res, code, _ := c.read(t, exchange(t, "tcp", at, c.build(t, s)))
		if code != 0 || res.Code != c.code || !strings.Contains(string(res.Text), c.text) {
			t.Errorf("%s: %v %v, want %d %q", c.name, code, res, c.code, c.text)
		}
	}
	if n := s.kvno(t, "web1$"); n != 2 {
		t.Errorf("kvno %d of web1$ after one set", n)
	}
	if !s.binds(t, "alice", newPassword) {
		t.Error("the administrator's password for alice is not in force")
	}
}

func TestWhoIsNotKnownLearnsTheCodeAlone(t *testing.T) {
	s := newService(t)
	at := serve(t, s)
	with := func(f func(*client)) *client {
		c := change(newPassword)
		f(c)
		return c
	}
	for name, c := range map[string]struct {
		*client
		code   krb5.ErrorCode
		result kpasswd.ResultCode
	}{
		"a version that nobody knows":        {with(func(c *client) { c.version = 2 }), krb5.ErrGeneric, kpasswd.ResultBadVersion},
		"a ticket for another service":       {with(func(c *client) { c.server = krb5.NewName(krb5.NameSrvHst, "host", "dc1.contoso.com") }), krb5.ErrNotUs, kpasswd.ResultAuthError},
		"a request without a subkey":         {with(func(c *client) { c.noSubkey = true }), krb5.ErrNoKey, kpasswd.ResultAuthError},
		"a KRB-PRIV of another request":      {with(func(c *client) { c.seqOff = 1 }), krb5.ErrBadOrder, kpasswd.ResultAuthError},
		"a KRB-PRIV that was changed":        {with(func(c *client) { c.changed = true }), krb5.ErrModified, kpasswd.ResultAuthError},
		"a ticket of the future's authority": {with(func(c *client) { c.flags |= krb5.FlagInvalid }), krb5.ErrTicketNotYetValid, kpasswd.ResultAuthError},
	} {
		res, code, _ := c.read(t, exchange(t, "tcp", at, c.build(t, s)))
		if code != c.code || res.Code != c.result {
			t.Errorf("%s: %v, %v; want %v, %d", name, code, res, c.code, c.result)
		}
	}
	once := change(newPassword)
	b := once.build(t, s)
	if res, code, _ := once.read(t, exchange(t, "tcp", at, b)); code != 0 || res.Code != kpasswd.ResultSuccess {
		t.Fatalf("%v, %v", code, res)
	}
	for _, network := range []string{"tcp", "udp"} {
		if _, code, _ := once.read(t, exchange(t, network, at, b)); code != krb5.ErrRepeat {
			t.Errorf("the same request again over %s: %v", network, code)
		}
	}
	disabled := change("An0ther!Passw0rd")
	b = disabled.build(t, s)
	s.Put(t, "alice", "userAccountControl", "514")
	if _, code, _ := disabled.read(t, exchange(t, "tcp", at, b)); code != krb5.ErrClientRevoked {
		t.Errorf("a disabled account: %v", code)
	}
}

func TestWhatIsNoRequestIsNotAnswered(t *testing.T) {
	s := newService(t)
	at := serve(t, s)
	good := change(newPassword).build(t, s)
	for name, b := range map[string][]byte{
		"nothing": {}, "a length alone": good[:2], "half": good[:len(good)/2], "text": []byte("GET / HTTP/1.1\r\n\r\n"),
		"a byte too many": append(bytes.Clone(good), 0),
	} {
		if out := exchange(t, "tcp", at, b); out != nil {
			t.Errorf("%s: answered %x", name, out)
		}
	}
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte{0xff, 0xff, 0xff, 0xff})
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("a message of 4 GiB is waited for: %v", err)
	}
}

func TestASilentConnectionDoesNotOutliveTheService(t *testing.T) {
	s := newService(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte{0, 0}); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the service waits for a connection that says nothing")
	}
}

// FuzzRequest sends requests whose parts are whatever the fuzzer makes of good ones,
// sealed anew where the service would not look at them otherwise.
func FuzzRequest(f *testing.F) {
	s := newService(f)
	for _, c := range []*client{change("Sh0rt!"), set("Administrator", "web1$", "Comp-web1-Pass?")} {
		f.Add(c.build(f, s), c.version, c.data)
	}
	peer := netip.MustParseAddrPort("192.0.2.1:4000")
	f.Fuzz(func(t *testing.T, raw []byte, version uint16, data []byte) {
		if out := s.Answer(t.Context(), raw, peer, peer.Addr()); out != nil {
			if _, err := kpasswd.ParseReply(out); err != nil {
				t.Errorf("%x is answered with %x: %v", raw, out, err)
			}
		}
		c := &client{name: "alice", server: changepw, version: version, data: data[:min(len(data), 1<<15)]}
		if res, _, _ := c.read(t, s.Answer(t.Context(), c.build(t, s), peer, peer.Addr())); res.Code == kpasswd.ResultSuccess {
			t.Errorf("alice changed a password with %x: %v", data, res)
		}
	})
}
