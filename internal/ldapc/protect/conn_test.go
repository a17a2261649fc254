package protect

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/gss"
)

// contexts are both sides of one, from a ticket that the test makes.
func contexts(t *testing.T) (client, server *gss.Context) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	must(err)
	session, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	must(err)
	now := time.Now().UTC().Truncate(time.Second)
	name := krb5.NewName(krb5.NameSrvInst, "ldap", "dc.d")
	part := krb5.EncTicketPart{
		Key:    krb5.EncryptionKey{EType: session.EType(), Value: session.Secret()},
		CRealm: "D", CName: krb5.NewName(krb5.NamePrincipal, "c"), AuthTime: now, EndTime: now.Add(time.Hour),
	}
	cipher, err := key.Encrypt(nil, krb5.UsageTicket, part.Append(nil), rand.Reader)
	must(err)
	i, err := gss.NewInitiator(gss.InitiatorConfig{Now: time.Now, Rand: rand.Reader, Credential: krb5.Credential{
		Client: krb5.Principal{Realm: "D", Name: part.CName}, Server: krb5.Principal{Realm: "D", Name: name}, SessionKey: session, EndTime: part.EndTime,
		Ticket: krb5.Ticket{Realm: "D", SName: name, EncPart: krb5.EncryptedData{EType: key.EType(), Cipher: cipher}}.Append(nil),
	}})
	must(err)
	a, err := gss.NewAcceptor(gss.AcceptorConfig{Now: time.Now, Rand: rand.Reader,
		Keys: func(krb5.Principal, uint32, crypto.EType) []*crypto.Key { return []*crypto.Key{key} }})
	must(err)
	token, _, err := i.Step(nil)
	must(err)
	token, _, err = a.Step(token)
	must(err)
	_, _, err = i.Step(token)
	must(err)
	return i.Context(), a.Context()
}

// pair is a connection of which each side has its own idea of protection.
func pair(t *testing.T, client, server Config) (*Conn, *Conn) {
	t.Helper()
	a, b := net.Pipe()
	t.Cleanup(func() { _, _ = a.Close(), b.Close() })
	client.Context, server.Context = contexts(t)
	c, err := NewConn(a, client)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewConn(b, server)
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func TestBothSidesReadWhatTheOtherWrote(t *testing.T) {
	large := bytes.Repeat([]byte("0123456789abcdef"), 20_000) // several frames
	for name, cfg := range map[string]Config{
		"sealed": {Seal: true, MaxRead: 1 << 16}, "signed": {MaxRead: 1 << 16}, "in small frames": {Seal: true, MaxRead: 1 << 12, PeerMax: 1 << 12},
	} {
		client, server := pair(t, cfg, cfg)
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, b := range [][]byte{[]byte("short"), large, []byte("end")} {
				if _, err := client.Write(b); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
		want := "short" + string(large) + "end"
		got := make([]byte, len(want))
		if _, err := io.ReadFull(server, got); err != nil || string(got) != want {
			t.Errorf("%s: %v", name, err)
		}
		wg.Wait()
		wg.Go(func() { _, _ = server.Write([]byte("back")) })
		if _, err := io.ReadFull(client, got[:4]); err != nil || string(got[:4]) != "back" {
			t.Errorf("%s: %v", name, err)
		}
		wg.Wait()
	}
}

func TestFramesThatAreRefused(t *testing.T) {
	read := func(send, receive Config, raw []byte) error {
		client, server := pair(t, send, receive)
		var wg sync.WaitGroup
		wg.Go(func() {
			if raw != nil {
				_, _ = client.Conn.Write(raw)
			} else {
				_, _ = client.Write([]byte("a message that is longer than its frame may be"))
			}
			_ = client.Close()
		})
		_, err := io.ReadAll(server)
		_ = server.Close()
		wg.Wait()
		return err
	}
	sealed, signed := Config{Seal: true, MaxRead: 1 << 16}, Config{MaxRead: 1 << 16}
	if err := read(signed, sealed, nil); !errors.Is(err, ErrNotSealed) {
		t.Errorf("signed where sealing was agreed: %v", err)
	}
	if err := read(sealed, Config{Seal: true, MaxRead: 50}, nil); err == nil || !strings.Contains(err.Error(), "limit 50") {
		t.Errorf("a frame larger than announced: %v", err)
	}
	if err := read(sealed, sealed, []byte{0, 0, 0, 0}); !errors.Is(err, adproto.ErrEmptyFrame) {
		t.Errorf("an empty frame: %v", err)
	}
	if err := read(sealed, sealed, []byte{0, 0, 0, 60, 5, 4}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the end in a frame: %v", err)
	}
	if err := read(sealed, sealed, append([]byte{0, 0, 0, 60}, make([]byte, 60)...)); !errors.Is(err, gss.ErrToken) {
		t.Errorf("no token in a frame: %v", err)
	}
	client, _ := contexts(t)
	if _, err := NewConn(nil, Config{Context: client, Seal: true, PeerMax: 20}); err == nil {
		t.Error("a peer that takes nothing")
	}
}
