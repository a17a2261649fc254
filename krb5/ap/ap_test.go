package ap_test

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ap"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/replay"
)

const realm = "CONTOSO.COM"

// exchange is a client with a ticket and the service that it is for.
type exchange struct {
	now             time.Time
	service, key    *crypto.Key
	ticket          krb5.EncTicketPart
	auth            krb5.Authenticator
	options         krb5.APOptions
	cipherIsChanged bool
}

func newExchange(t *testing.T) *exchange {
	t.Helper()
	x := &exchange{now: time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)}
	for _, k := range []**crypto.Key{&x.service, &x.key} {
		var err error
		if *k, err = crypto.Generate(crypto.AES256SHA1, rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	alice := krb5.NewName(krb5.NamePrincipal, "alice")
	x.ticket = krb5.EncTicketPart{Key: krb5.KeyOf(x.key), CRealm: realm, CName: alice,
		AuthTime: x.now, StartTime: x.now, EndTime: x.now.Add(time.Hour)}
	x.auth = krb5.Authenticator{CRealm: realm, CName: alice, CTime: x.now, CUsec: 7, SeqNumber: 9}
	return x
}

func (x *exchange) seal(t *testing.T, key *crypto.Key, usage uint32, plain []byte) krb5.EncryptedData {
	t.Helper()
	e, err := krb5.Seal(key, usage, plain, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func (x *exchange) request(t *testing.T) krb5.APReq {
	t.Helper()
	ticket := krb5.Ticket{Realm: realm, SName: krb5.NewName(krb5.NameSrvInst, "kadmin", "changepw"),
		EncPart: x.seal(t, x.service, krb5.UsageTicket, x.ticket.Append(nil))}
	req := krb5.APReq{Options: x.options, Ticket: ticket.Append(nil),
		Authenticator: x.seal(t, x.key, krb5.UsageAPReqAuthenticator, x.auth.Append(nil))}
	if x.cipherIsChanged {
		req.Authenticator.Cipher[3] ^= 1
	}
	return req
}

func (x *exchange) acceptor() ap.Acceptor {
	return ap.Acceptor{
		Keys: func(krb5.Principal, uint32, crypto.EType) []*crypto.Key { return []*crypto.Key{x.service} },
		Now:  func() time.Time { return x.now }, Replay: replay.New(0, 0),
	}
}

func TestAClientIsKnownByItsTicketOnce(t *testing.T) {
	x := newExchange(t)
	subkey, err := crypto.Generate(crypto.AES128SHA1, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x.auth.Subkey = krb5.KeyOf(subkey)
	a, req := x.acceptor(), x.request(t)
	r, err := a.Open(req)
	if err != nil {
		t.Fatal(err)
	}
	if r.Client.String() != "alice@"+realm || r.Server.String() != "kadmin/changepw@"+realm || r.Subkey == nil || r.Authenticator.SeqNumber != 9 {
		t.Errorf("%+v", r)
	}
	if err := a.Once(r); err != nil {
		t.Errorf("the first time: %v", err)
	}
	if err := a.Once(r); !errors.Is(err, krb5.ErrRepeat) {
		t.Errorf("the second time: %v", err)
	}
	b, err := r.Reply(nil, 11, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := krb5.ParseAPRep(b)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := rep.EncPart.Open(x.key, krb5.UsageAPRepEncPart)
	if err != nil {
		t.Fatal(err)
	}
	part, err := krb5.ParseEncAPRepPart(plain)
	if err != nil || !part.CTime.Equal(x.now) || part.CUsec != 7 || part.SeqNumber != 11 || !part.Subkey.IsZero() {
		t.Errorf("%+v, %v", part, err)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*exchange)
		want   krb5.ErrorCode
	}{
		"a user-to-user ticket":         {func(x *exchange) { x.options = krb5.APUseSessionKey }, krb5.ErrMethod},
		"another client":                {func(x *exchange) { x.auth.CName = krb5.NewName(krb5.NamePrincipal, "bob") }, krb5.ErrBadMatch},
		"a clock that is ahead":         {func(x *exchange) { x.auth.CTime = x.now.Add(6 * time.Minute) }, krb5.ErrSkew},
		"a clock that is behind":        {func(x *exchange) { x.auth.CTime = x.now.Add(-6 * time.Minute) }, krb5.ErrSkew},
		"a ticket that has ended":       {func(x *exchange) { x.ticket.EndTime = x.now.Add(-6 * time.Minute) }, krb5.ErrTicketExpired},
		"a ticket for later":            {func(x *exchange) { x.ticket.StartTime = x.now.Add(6 * time.Minute) }, krb5.ErrTicketNotYetValid},
		"an invalid ticket":             {func(x *exchange) { x.ticket.Flags = krb5.FlagInvalid }, krb5.ErrTicketNotYetValid},
		"an authenticator changed":      {func(x *exchange) { x.cipherIsChanged = true }, krb5.ErrBadIntegrity},
		"a ticket in another's key":     {func(x *exchange) { x.service = x.key }, krb5.ErrModified},
		"a session key of a wrong size": {func(x *exchange) { x.ticket.Key.EType = crypto.AES128SHA1 }, krb5.ErrModified},
		"an RC4 session key":            {func(x *exchange) { x.ticket.Key.EType = crypto.RC4HMAC }, krb5.ErrInappropriateChecksum},
		"a subkey of a wrong size": {func(x *exchange) {
			x.auth.Subkey = krb5.EncryptionKey{EType: crypto.AES128SHA1, Value: x.key.Secret()}
		}, krb5.ErrModified},
	} {
		x := newExchange(t)
		a := x.acceptor()
		service := x.service
		a.Keys = func(krb5.Principal, uint32, crypto.EType) []*crypto.Key { return []*crypto.Key{service} }
		c.change(x)
		if _, err := a.Open(x.request(t)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	x := newExchange(t)
	a := x.acceptor()
	a.Keys = func(krb5.Principal, uint32, crypto.EType) []*crypto.Key { return nil }
	if _, err := a.Open(x.request(t)); !errors.Is(err, krb5.ErrNoKey) {
		t.Errorf("a service without keys: %v", err)
	}
}
