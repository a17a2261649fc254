package gss

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

var (
	etypes = []crypto.EType{crypto.AES128SHA1, crypto.AES256SHA1, crypto.AES128SHA2, crypto.AES256SHA2}

	clientName = krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NamePrincipal, "WebApp01$")}
	serverName = krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NameSrvHst, "HTTP", "web.contoso.com")}
	tgsName    = krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NameSrvInst, "krbtgt", "CONTOSO.COM")}
)

// realm plays the KDC: it knows the server's key and issues tickets for it.
type realm struct {
	serverKey *crypto.Key
	kvno      uint32
	now       time.Time
	// change may alter the ticket before it is encrypted.
	change func(*krb5.EncTicketPart)
}

func newRealm(t testing.TB, e crypto.EType) *realm {
	return &realm{serverKey: newKey(t, e), kvno: 3, now: time.Now().UTC().Truncate(time.Second)}
}

func newKey(t testing.TB, e crypto.EType) *crypto.Key {
	t.Helper()
	k, err := crypto.Generate(e, rand.Reader, crypto.AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// ticket issues a ticket for a server with a session key of type e.
func (r *realm) ticket(t testing.TB, server krb5.Principal, e crypto.EType) krb5.Credential {
	t.Helper()
	session := newKey(t, e)
	part := krb5.EncTicketPart{
		Flags:  krb5.FlagPreAuthent | krb5.FlagForwardable,
		Key:    krb5.EncryptionKey{EType: e, Value: session.Secret()},
		CRealm: clientName.Realm, CName: clientName.Name,
		AuthTime: r.now, StartTime: r.now, EndTime: r.now.Add(10 * time.Hour),
	}
	if r.change != nil {
		r.change(&part)
	}
	cipher, err := r.serverKey.Encrypt(nil, krb5.UsageTicket, part.Append(nil), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return krb5.Credential{
		Client: clientName, Server: server, SessionKey: session,
		AuthTime: part.AuthTime, StartTime: part.StartTime, EndTime: part.EndTime, Flags: part.Flags,
		Ticket: krb5.Ticket{
			Realm: server.Realm, SName: server.Name,
			EncPart: krb5.EncryptedData{EType: r.serverKey.EType(), KVNO: r.kvno, Cipher: cipher},
		}.Append(nil),
	}
}

func (r *realm) clock() time.Time { return r.now }

func (r *realm) keytab() keytab.Keytab {
	return keytab.Keytab{Entries: []keytab.Entry{
		{Principal: serverName, KVNO: r.kvno, Timestamp: r.now, Key: r.serverKey},
	}}
}

// initiator prepares an initiator with a fresh ticket.
func (r *realm) initiator(t testing.TB, change func(*InitiatorConfig)) *Initiator {
	t.Helper()
	cfg := InitiatorConfig{Credential: r.ticket(t, serverName, r.serverKey.EType()), Now: r.clock, Rand: rand.Reader}
	if change != nil {
		change(&cfg)
	}
	i, err := NewInitiator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (r *realm) acceptor(t testing.TB, change func(*AcceptorConfig)) *Acceptor {
	t.Helper()
	cfg := AcceptorConfig{Keys: KeytabKeys(r.keytab()), Now: r.clock, Rand: rand.Reader}
	if change != nil {
		change(&cfg)
	}
	a, err := NewAcceptor(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// stepper is what all four parties have in common.
type stepper interface {
	Step(in []byte) (out []byte, finished bool, err error)
	Context() *Context
}

// converse carries tokens between two parties until both are done, and returns
// how many there were.
func converse(ini, acc stepper) (tokens int, err error) {
	var token []byte
	from, to := ini, acc
	done := map[stepper]bool{}
	for !done[ini] || !done[acc] {
		out, finished, err := from.Step(token)
		if err != nil {
			return tokens, err
		}
		done[from] = finished
		if len(out) > 0 {
			tokens++
		}
		token = out
		from, to = to, from
	}
	return tokens, nil
}

func established(t testing.TB, ini, acc stepper) (i, a *Context) {
	t.Helper()
	if _, err := converse(ini, acc); err != nil {
		t.Fatal(err)
	}
	return ini.Context(), acc.Context()
}

// pair is two ends of a context with the given flags.
func pair(t testing.TB, e crypto.EType, flags Flags) (i, a *Context) {
	t.Helper()
	r := newRealm(t, e)
	return established(t, r.initiator(t, func(c *InitiatorConfig) { c.Flags = flags }), r.acceptor(t, nil))
}

func fill(n int) []byte { return bytes.Repeat([]byte{0xa5}, n) }

// rc4 is a key that contexts refuse.
func rc4Key(t testing.TB) *crypto.Key {
	t.Helper()
	k, err := crypto.NewKey(crypto.RC4HMAC, secret.New(make([]byte, 16)), crypto.AllowRC4)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
