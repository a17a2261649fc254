package kdc_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/kdc"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// TestOurOwnClient logs on, renews, forwards, and asks for services, over TCP and UDP.
func TestOurOwnClient(t *testing.T) {
	r := newRealm(t, nil)
	c := r.client(t)
	tgt := r.logOn(t, c)
	service := krb5.NewName(krb5.NameSrvHst, "host", "web1.contoso.com")
	if _, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: service}); err != nil {
		t.Error(err)
	}
	renewed, err := c.Renew(t.Context(), tgt)
	if err != nil {
		t.Fatal(err)
	}
	forwarded, err := c.Forward(t.Context(), renewed.Credential)
	if err != nil {
		t.Fatal(err)
	}
	if !forwarded.Credential.Flags.Has(krb5.FlagForwarded | krb5.FlagForwardable) {
		t.Errorf("forwarded: %v", forwarded.Credential.Flags)
	}
	if _, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: forwarded.Credential, Server: service}); err != nil {
		t.Error(err)
	}
	u2u := kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(krb5.NamePrincipal, "alice"), Options: krb5.OptEncTktInSkey, AdditionalTicket: tgt.Ticket}
	if res, err := c.TGS(t.Context(), u2u); err != nil {
		t.Error(err)
	} else if ticket, err := krb5.ParseTicket(res.Credential.Ticket); err != nil {
		t.Error(err)
	} else if _, err := ticket.EncPart.Open(tgt.SessionKey, krb5.UsageTicket); err != nil {
		t.Errorf("user to user: %v", err)
	}
	_, err = c.AS(t.Context(), kclient.ASRequest{Client: krb5.NewName(krb5.NamePrincipal, "alice"), Secret: kclient.Password(secret.Copy([]byte("wrong")))})
	if !errors.Is(err, krb5.ErrPreauthFailed) {
		t.Errorf("a wrong password: %v", err)
	}
	res, err := c.AS(t.Context(), kclient.ASRequest{Client: krb5.NewName(krb5.NameEnterprise, "alice@contoso.com"), Secret: kclient.Password(secret.Copy([]byte(alicePassword)))})
	if err != nil || res.Credential.Client.String() != "alice@CONTOSO.COM" || !res.Proved || res.SupportedETypes != 0x18 {
		t.Errorf("an enterprise name: %v, %+v", err, res)
	}
	udp, err := kclient.New(kclient.Config{Realm: "CONTOSO.COM", KDCs: kclient.Static{{Kerberos: r.addr.String()}}, Now: r.Clock.Now, UDP: true})
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	r.logOn(t, udp)
}

// TestTypesOfKeys: a ticket is in the type that its server demands, AES where it demands
// none, and RC4 for nobody else.
func TestTypesOfKeys(t *testing.T) {
	r := newRealm(t, nil)
	for name, types := range map[string]string{"unset$": "", "aes128$": "8", "sha2$": "192", "rc4$": "4", "rc4aes$": "28"} {
		values := map[string][]string{"servicePrincipalName": {"svc/" + name}}
		if types != "" {
			values["msDS-SupportedEncryptionTypes"] = []string{types}
		}
		r.Insert(t, dctest.Object{Class: "computer", Name: name, Password: webPassword, Values: values})
	}
	c := r.client(t)
	tgt := r.logOn(t, c)
	for name, want := range map[string]struct{ ticket, session crypto.EType }{
		"unset$": {18, 18}, "aes128$": {17, 17}, "sha2$": {20, 20}, "rc4aes$": {18, 18},
	} {
		res, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(krb5.NameSrvInst, "svc", name)})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		ticket, err := krb5.ParseTicket(res.Credential.Ticket)
		if err != nil || ticket.EncPart.EType != want.ticket || res.Credential.SessionKey.EType() != want.session {
			t.Errorf("%s: ticket in %v, session key of %v, %v", name, ticket.EncPart.EType, res.Credential.SessionKey.EType(), err)
		}
	}
	_, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(krb5.NameSrvInst, "svc", "rc4$")})
	if !errors.Is(err, krb5.ErrETypeNoSupport) {
		t.Errorf("RC4 alone, and the client offers none: %v", err)
	}
}

// TestAGMSALogsOn with the keys of its managed password, whose salt the KDC tells.
func TestAGMSALogsOn(t *testing.T) {
	r := newRealm(t, nil)
	name := krb5.NewName(krb5.NamePrincipal, "webapp01$")
	acct, err := r.accounts.Client(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	set, err := r.accounts.CurrentKeys(acct, dtyp.FiletimeOf(r.Clock.Now()))
	if err != nil {
		t.Fatal(err)
	}
	res, err := r.client(t).AS(t.Context(), kclient.ASRequest{Client: name, Secret: kclient.SaltedKeys("CONTOSO.COMhostwebapp01.contoso.com", false, set.Keys...)})
	if err != nil {
		t.Fatal(err)
	}
	if !res.PasswordExpires.IsZero() || res.KVNO != 1 {
		t.Errorf("its password expires at %v, kvno %d", res.PasswordExpires, res.KVNO)
	}
}

// dial connects and ends with the test.
func (r *realm) dial(t testing.TB, network string) net.Conn {
	t.Helper()
	conn, err := net.Dial(network, r.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// asRequest asks for a ticket without proof.
func asRequest() []byte {
	return krb5.KDCReq{Type: krb5.MsgASReq, Body: krb5.KDCReqBody{CName: krb5.NewName(1, "alice"), Realm: "CONTOSO.COM",
		SName: krb5.NewName(2, "krbtgt", "CONTOSO.COM"), Till: time.Unix(1<<31-1, 0), Nonce: 1, ETypes: []crypto.EType{18}}}.Append(nil)
}

func frame(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

// code reads a framed KRB-ERROR.
func code(t *testing.T, conn net.Conn) krb5.ErrorCode {
	t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	e, err := krb5.ParseKRBError(b)
	if err != nil {
		t.Fatal(err)
	}
	return e.Code
}

func closed(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("the connection is open: %d bytes, %v", n, err)
	} else if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		t.Error("the connection is open")
	}
}

func TestMessagesOverTCP(t *testing.T) {
	r := newRealm(t, func(c *kdc.Config) { c.RequestTimeout = 200 * time.Millisecond })
	t.Run("several, in pieces", func(t *testing.T) {
		conn := r.dial(t, "tcp")
		all := slices.Concat(frame(asRequest()), frame(asRequest()), frame(asRequest()))
		for _, part := range [][]byte{all[:2], all[2:7], all[7 : len(all)-3], all[len(all)-3:]} {
			if _, err := conn.Write(part); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		for range 3 {
			if got := code(t, conn); got != krb5.ErrPreauthRequired {
				t.Errorf("got %v", got)
			}
		}
	})
	t.Run("an announced length of 2 GiB and more", func(t *testing.T) {
		for _, size := range []uint32{krb5.MaxMessage + 1, 1 << 31, 1<<32 - 1} {
			conn := r.dial(t, "tcp")
			if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, size)); err != nil {
				t.Fatal(err)
			}
			if got := code(t, conn); got != krb5.ErrFieldTooLong {
				t.Errorf("got %v", got)
			}
			closed(t, conn)
		}
	})
	t.Run("what is no request", func(t *testing.T) {
		for _, message := range [][]byte{{}, []byte("GET / HTTP/1.1"), krb5.KRBError{Realm: "X"}.Append(nil)} {
			conn := r.dial(t, "tcp")
			if _, err := conn.Write(frame(message)); err != nil {
				t.Fatal(err)
			}
			closed(t, conn)
		}
	})
	t.Run("a request that does not end", func(t *testing.T) {
		conn := r.dial(t, "tcp")
		if _, err := conn.Write(frame(asRequest())[:20]); err != nil {
			t.Fatal(err)
		}
		closed(t, conn)
	})
}

func TestDatagramsThatAreNoRequestsGetNoAnswer(t *testing.T) {
	r := newRealm(t, nil)
	conn := r.dial(t, "udp")
	for _, junk := range [][]byte{{}, []byte("garbage"), krb5.KRBError{Realm: "X"}.Append(nil), make([]byte, 20_000)} {
		if _, err := conn.Write(junk); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Write(asRequest()); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, err := conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	if e, err := krb5.ParseKRBError(b[:n]); err != nil || e.Code != krb5.ErrPreauthRequired {
		t.Errorf("the first answer is %v, %v", e.Code, err)
	}
}

// TestIdleConnections: many are held, and a client that comes is served; past the limit
// new ones are closed; silent ones go.
func TestIdleConnections(t *testing.T) {
	const limit = 500
	r := newRealm(t, func(c *kdc.Config) { c.MaxConnections, c.IdleTimeout = limit, 3*time.Second })
	conns := make([]net.Conn, limit-1)
	for i := range conns {
		conns[i] = r.dial(t, "tcp")
	}
	last := r.dial(t, "tcp")
	if _, err := last.Write(frame(asRequest())); err != nil {
		t.Fatal(err)
	}
	if got := code(t, last); got != krb5.ErrPreauthRequired {
		t.Errorf("got %v", got)
	}
	closed(t, r.dial(t, "tcp"))
	for _, conn := range conns {
		closed(t, conn)
	}
	r.logOn(t, r.client(t))
}
