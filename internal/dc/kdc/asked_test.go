package kdc

import (
	"crypto/rand"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/pac"
)

var web1 = krb5.NewName(krb5.NameSrvHst, "HOST", "web1.contoso.com")

// TestWhatWasSaidOfThePAC stays in the TGT: [MS-PAC] 2.14.
func TestWhatWasSaidOfThePAC(t *testing.T) {
	f := newForger(t, nil)
	for what, c := range map[string]struct {
		change func(*krb5.KDCReq)
		want   pac.Attributes
	}{
		"nothing":  {nil, pac.GivenImplicitly},
		"wanted":   {with(krb5.PAPACRequest, krb5.PACRequest{IncludePAC: true}.Append(nil)), pac.Requested},
		"unwanted": {with(krb5.PAPACRequest, krb5.PACRequest{}.Append(nil)), 0},
	} {
		p, err := pac.Extract(f.inside(f.logOn(alice, c.change), f.key(f.server.tgs)))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Attributes(); err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", what, got, err, c.want)
		}
	}
}

// TestTheReplySaysHowItsKeyIsMade, from which a client with a password learns its salt even
// where it needed no error for it.
func TestTheReplySaysHowItsKeyIsMade(t *testing.T) {
	f := newForger(t, nil)
	rep, e := f.ask(f.asRequest(alice, f.key(alice), nil))
	if e != nil {
		t.Fatal(e)
	}
	value, _ := krb5.MethodData(rep.PAData).Find(krb5.PAETypeInfo2)
	list, err := krb5.ParseETypeInfo2(value)
	if err != nil || len(list) != 1 || list[0].EType != crypto.AES256SHA1 || list[0].Salt != "CONTOSO.COMalice" || rep.EncPart.KVNO != 1 {
		t.Errorf("ETYPE-INFO2 %+v, %v; version %d", list, err, rep.EncPart.KVNO)
	}
}

// TestProxies: a ticket for another address, where the TGT allows it. RFC 4120, Section 2.5.
func TestProxies(t *testing.T) {
	f := newForger(t, nil)
	elsewhere := []krb5.HostAddress{krb5.AddressOf(netip.MustParseAddr("192.0.2.9"))}
	proxy := func(b *krb5.KDCReqBody) { b.Options, b.Addresses = krb5.OptProxy, elsewhere }
	got := f.get(f.logOn(alice, nil), web1, proxy)
	part := f.inside(got, f.key(web1))
	if !part.Flags.Has(krb5.FlagProxy) || len(part.CAddr) != 1 || !slices.Equal(part.CAddr[0].Address, elsewhere[0].Address) {
		t.Errorf("a proxy has the flags %v and the addresses %v", part.Flags, part.CAddr)
	}
	plain := f.logOn(alice, func(r *krb5.KDCReq) { r.Body.Options = 0 })
	f.expect("a proxy of a TGT that is not proxiable", f.tgsRequest(plain, web1, proxy, nil), krb5.ErrBadOption)
	f.expect("one forwarded that is not forwardable", f.tgsRequest(plain, f.server.tgs, func(b *krb5.KDCReqBody) { b.Options = krb5.OptForwarded }, nil), krb5.ErrBadOption)
	f.expect("one renewed that is not renewable", f.tgsRequest(plain, f.server.tgs, func(b *krb5.KDCReqBody) { b.Options = krb5.OptRenew }, nil), krb5.ErrBadOption)
}

// TestRC4IsForThoseThatDemandIt: an account whose msDS-SupportedEncryptionTypes has nothing
// else, with a client that offers it.
func TestRC4IsForThoseThatDemandIt(t *testing.T) {
	f := newForger(t, nil)
	rc4, err := crypto.StringToKey(crypto.RC4HMAC, []byte(password), "", nil, crypto.AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	inRC4 := func(r *krb5.KDCReq) { r.Body.ETypes = []crypto.EType{crypto.RC4HMAC} }
	f.expect("alice, who does not", f.asRequest(alice, rc4, inRC4), krb5.ErrETypeNoSupport)
	demands := map[string][]string{"msDS-SupportedEncryptionTypes": {"4"}, "servicePrincipalName": {"HOST/old.contoso.com"}}
	f.Insert(t, dctest.Object{Class: "computer", Name: "old$", Password: password, Values: demands})
	old, oldHost := krb5.NewName(krb5.NamePrincipal, "old$"), krb5.NewName(krb5.NameSrvHst, "HOST", "old.contoso.com")
	f.expect("a host that does", f.asRequest(old, rc4, func(r *krb5.KDCReq) {
		r.Body.ETypes = []crypto.EType{crypto.AES256SHA1, crypto.RC4HMAC}
	}), 0)
	f.expect("it in AES", f.asRequest(old, nil, nil), krb5.ErrETypeNoSupport)
	tgt := f.logOn(alice, nil)
	rep, e := f.ask(f.tgsRequest(tgt, oldHost, func(b *krb5.KDCReqBody) { b.ETypes = []crypto.EType{18, 17, 23} }, nil))
	if e != nil {
		t.Fatal(e)
	}
	if ticket, err := krb5.ParseTicket(rep.Ticket); err != nil || ticket.EncPart.EType != crypto.RC4HMAC {
		t.Errorf("a ticket for a host that demands RC4 is in %v, %v", ticket.EncPart.EType, err)
	}
	f.expect("for it, and the client offers AES alone", f.tgsRequest(tgt, oldHost, nil, nil), krb5.ErrETypeNoSupport)
}

// TestWrongKeysLockAnAccount by the domain's policy, and neither a host nor a gMSA: the KDC
// then says so before any proof, and takes the right key no more.
func TestWrongKeysLockAnAccount(t *testing.T) {
	f := newForger(t, nil)
	threshold, _ := f.Schema().Attribute("lockoutThreshold")
	err := f.Update(t.Context(), func(w *directory.Writer) error {
		head, err := w.Get(f.Domain.Domain().GUID)
		if err != nil {
			return err
		}
		head.Values[threshold] = [][]byte{[]byte("3")}
		return w.Replace(head)
	})
	if err != nil {
		t.Fatal(err)
	}
	wrong, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, locked := range map[string]bool{"alice": true, "web1$": false, "webapp01$": false} {
		client := krb5.NewName(krb5.NamePrincipal, name)
		for range 3 {
			f.expect(name+", a guess", f.asRequest(client, wrong, nil), krb5.ErrPreauthFailed)
		}
		want := krb5.ErrorCode(0)
		if locked {
			want = krb5.ErrClientRevoked
		}
		e := f.expect(name+", the right key", f.asRequest(client, f.key(client), nil), want)
		if !locked {
			continue
		}
		if status, _ := e.NTStatus(); status != krb5.StatusAccountLockedOut {
			t.Errorf("%s: %v", name, status)
		}
		f.expect(name+" without proof", f.asRequest(client, nil, nil), krb5.ErrClientRevoked)
	}
	if !strings.Contains(f.events(), "lockout CONTOSO\\alice") {
		t.Error("the lockout is not in the audit log")
	}
}

// flood is a socket on which the same datagram comes from one address again and again.
type flood struct {
	net.PacketConn
	message []byte
	left    int
	answers int
}

func (c *flood) ReadFrom(b []byte) (int, net.Addr, error) {
	if c.left == 0 {
		return 0, nil, net.ErrClosed
	}
	c.left--
	return copy(b, c.message), net.UDPAddrFromAddrPort(peer), nil
}

func (c *flood) WriteTo(b []byte, _ net.Addr) (int, error) { c.answers++; return len(b), nil }
func (c *flood) Close() error                              { return nil }

// TestAFloodOfDatagramsGetsFewAnswers: who may have been forged as their sender is not
// flooded in turn.
func TestAFloodOfDatagramsGetsFewAnswers(t *testing.T) {
	f := newForger(t, func(c *Config) { c.UDPRate = 10 })
	c := &flood{message: f.asRequest(alice, nil, nil), left: 2000}
	begin := time.Now()
	if err := f.server.ServePacket(t.Context(), c); !errors.Is(err, net.ErrClosed) {
		t.Fatal(err)
	}
	most := 20 + 1 + int(10*time.Since(begin).Seconds())
	if c.answers < 20 || c.answers > most {
		t.Errorf("%d answers to 2,000 datagrams, want 20 to %d", c.answers, most)
	}
}
