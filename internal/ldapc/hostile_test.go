package ldapc

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/gss"
	"github.com/opengmsa/opengmsa/secret"
)

// hostile is a server that does on purpose what no directory does. script gets
// the server's end of the connection; wait ends the connection and waits for
// script.
func hostile(t *testing.T, script func(conn net.Conn)) (client net.Conn, wait func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		script(conn)
	})
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	wait = func() { _, _ = conn.Close(), l.Close(); wg.Wait() }
	t.Cleanup(wait)
	return conn, wait
}

// result is a response: an LDAPResult in the application tag, with SASL
// credentials where creds is not nil.
func result(id int64, tag ber.Tag, code int64, creds []byte) []byte {
	op := ber.Encode(ber.ClassApplication, ber.TypeConstructed, tag, nil, "")
	op.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagEnumerated, code, ""))
	for range 2 {
		op.AppendChild(ber.NewString(ber.ClassUniversal, ber.TypePrimitive, ber.TagOctetString, "", ""))
	}
	if creds != nil {
		op.AppendChild(ber.NewString(ber.ClassContext, ber.TypePrimitive, tagServerCreds, string(creds), ""))
	}
	msg := ber.Encode(ber.ClassUniversal, ber.TypeConstructed, ber.TagSequence, nil, "")
	msg.AppendChild(ber.NewInteger(ber.ClassUniversal, ber.TypePrimitive, ber.TagInteger, id, ""))
	msg.AppendChild(op)
	return msg.Bytes()
}

// service is a Kerberos service that the test plays: its key and a ticket for
// it.
type service struct {
	key  *crypto.Key
	cred krb5.Credential
}

func newService(t *testing.T) service {
	t.Helper()
	generate := func() *crypto.Key {
		k, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	s := service{key: generate()}
	session := generate()
	now := time.Now().UTC().Truncate(time.Second)
	client := krb5.Principal{Realm: "D", Name: krb5.NewName(krb5.NamePrincipal, "c")}
	name := krb5.NewName(krb5.NameSrvInst, "ldap", "dc.d", "d")
	part := krb5.EncTicketPart{
		Key:    krb5.EncryptionKey{EType: session.EType(), Value: session.Secret()},
		CRealm: client.Realm, CName: client.Name, AuthTime: now, EndTime: now.Add(time.Hour),
	}
	cipher, err := s.key.Encrypt(nil, krb5.UsageTicket, part.Append(nil), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s.cred = krb5.Credential{
		Client: client, Server: krb5.Principal{Realm: "D", Name: name}, SessionKey: session, AuthTime: now, StartTime: now, EndTime: part.EndTime,
		Ticket: krb5.Ticket{Realm: "D", SName: name, EncPart: krb5.EncryptedData{EType: s.key.EType(), Cipher: cipher}}.Append(nil),
	}
	return s
}

// bindRound reads one SASL bind request and returns its id and token.
func bindRound(conn net.Conn) (int64, []byte) {
	p, err := ber.ReadPacket(conn)
	if err != nil {
		return 0, nil
	}
	return p.Children[0].Value.(int64), p.Children[1].Children[2].Children[1].ByteValue
}

// acceptor has the service's key.
func (s service) acceptor() (*gss.Acceptor, error) {
	return gss.NewAcceptor(gss.AcceptorConfig{
		Keys: func(krb5.Principal, uint32, crypto.EType) []*crypto.Key { return []*crypto.Key{s.key} },
		Now:  time.Now, Rand: rand.Reader,
	})
}

// accept plays the server of a GSSAPI bind up to the established context.
func (s service) accept(t *testing.T, conn net.Conn, spnego bool) *gss.Context {
	a, err := s.acceptor()
	if err != nil {
		t.Error(err)
		return nil
	}
	step := a.Step
	if spnego {
		step = gss.NewSPNEGOAcceptor(a).Step
	}
	id, token := bindRound(conn)
	out, _, err := step(token)
	if err != nil {
		t.Error(err)
		return nil
	}
	if spnego {
		_, _ = conn.Write(result(id, ldap.ApplicationBindResponse, 0, out))
		return a.Context()
	}
	_, _ = conn.Write(result(id, ldap.ApplicationBindResponse, ldap.LDAPResultSaslBindInProgress, out))
	id, _ = bindRound(conn)
	c := a.Context()
	offer, _ := c.Wrap(nil, adproto.SASLNegotiation{Layers: s.layers(), MaxBuffer: 1 << 16}.Append(nil), false)
	_, _ = conn.Write(result(id, ldap.ApplicationBindResponse, ldap.LDAPResultSaslBindInProgress, offer))
	if id, _ = bindRound(conn); id != 0 {
		_, _ = conn.Write(result(id, ldap.ApplicationBindResponse, 0, nil))
	}
	return c
}

func (service) layers() adproto.SASLLayers { return adproto.SASLNone | adproto.SASLIntegrity }

func config(s *service) Config {
	c := Config{ServerName: "dc.d", Now: time.Now, Rand: rand.Reader, Timeout: 2 * time.Second}
	if s == nil {
		c.Simple = &Simple{Name: "x", Password: secret.Copy([]byte("correct horse"))}
	} else {
		c.Kerberos = &s.cred
	}
	return c
}

// security 13: no step from sealed to plain.
func TestStartTLSIsNotSteppedAroundNorInjectedInto(t *testing.T) {
	cfg := config(nil)
	cfg.Protection = StartTLS
	for name, answer := range map[string]func(int64) []byte{
		"refused":                   func(id int64) []byte { return result(id, ldap.ApplicationExtendedResponse, 2, nil) },
		"plain bytes after success": func(id int64) []byte { return append(result(id, ldap.ApplicationExtendedResponse, 0, nil), 0x30) },
	} {
		var after []byte
		conn, wait := hostile(t, func(conn net.Conn) {
			p, err := ber.ReadPacket(conn)
			if err != nil {
				return
			}
			_, _ = conn.Write(answer(p.Children[0].Value.(int64)))
			after, _ = io.ReadAll(conn)
		})
		_, err := Open(t.Context(), conn, cfg)
		wait()
		if !errors.Is(err, ErrNotEncrypted) {
			t.Errorf("%s: %v", name, err)
		}
		if bytes.Contains(after, []byte("correct horse")) {
			t.Errorf("%s: the password was sent", name)
		}
	}
}

// TestNothingIsAskedOfWhoHasNotProvedToBeTheController: an impostor, who does not have the
// service's key, is sent the ticket and nothing after it, also where TLS is around.
// security 12: nothing is read before mutual authentication.
func TestNothingIsAskedOfWhoHasNotProvedToBeTheController(t *testing.T) {
	cert, pool := certificate(t, "dc.d", time.Now().Add(time.Hour))
	for name, proof := range map[string]func(token []byte, spnego bool) []byte{
		"no proof":                      func([]byte, bool) []byte { return nil },
		"nothing for a proof":           func([]byte, bool) []byte { return []byte{} },
		"our own token":                 func(token []byte, _ bool) []byte { return token },
		"the proof of another exchange": func(_ []byte, spnego bool) []byte { return anotherProof(t, spnego) },
		"a layer before the proof": func([]byte, bool) []byte {
			return adproto.SASLNegotiation{Layers: adproto.SASLNone | adproto.SASLPrivacy, MaxBuffer: 1 << 16}.Append(nil)
		},
	} {
		for _, mechanism := range []Mechanism{SPNEGO, GSSAPI} {
			for _, protection := range []Protection{Sealed, LDAPS} {
				s := newService(t)
				var after []byte
				conn, wait := hostile(t, func(conn net.Conn) {
					if protection == LDAPS {
						conn = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}})
					}
					id, token := bindRound(conn)
					if len(token) == 0 {
						t.Errorf("%s, %v, %v: no bind", name, mechanism, protection)
					}
					code := int64(ldap.LDAPResultSuccess)
					if mechanism == GSSAPI {
						code = ldap.LDAPResultSaslBindInProgress
					}
					_, _ = conn.Write(result(id, ldap.ApplicationBindResponse, code, proof(token, mechanism == SPNEGO)))
					after, _ = io.ReadAll(conn)
				})
				cfg := config(&s)
				cfg.Mechanism, cfg.Protection, cfg.RootCAs = mechanism, protection, pool
				if c, err := Open(t.Context(), conn, cfg); err == nil {
					_ = c.Close()
					t.Errorf("%s, %v, %v: the impostor is believed", name, mechanism, protection)
				}
				if wait(); len(after) > 0 {
					t.Errorf("%s, %v, %v: is sent %d bytes more", name, mechanism, protection, len(after))
				}
			}
		}
	}
}

// anotherProof is what a service that has its key answers to another client's token.
func anotherProof(t *testing.T, spnego bool) []byte {
	s := newService(t)
	mech, err := gss.NewInitiator(gss.InitiatorConfig{Credential: s.cred, Flags: gss.DefaultFlags, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Error(err)
		return nil
	}
	a, err := s.acceptor()
	if err != nil {
		t.Error(err)
		return nil
	}
	init, step := initiator(mech), a.Step
	if spnego {
		init, step = gss.NewSPNEGOInitiator(mech), gss.NewSPNEGOAcceptor(a).Step
	}
	token, _, err := init.Step(nil)
	if err == nil {
		token, _, err = step(token)
	}
	if err != nil {
		t.Error(err)
	}
	return token
}

// security 13: no step from sealed to plain.
func TestServerThatOffersNoSealingIsRefused(t *testing.T) {
	s := newService(t)
	conn, _ := hostile(t, func(conn net.Conn) { s.accept(t, conn, false) })
	cfg := config(&s)
	cfg.Mechanism = GSSAPI
	if _, err := Open(t.Context(), conn, cfg); !errors.Is(err, ErrNotEncrypted) {
		t.Error(err)
	}
}

func TestFramesThatAreNotSealedEndTheConnection(t *testing.T) {
	whoAmI := result(1, ldap.ApplicationExtendedResponse, 0, nil)
	for name, send := range map[string]func(*gss.Context) []byte{
		"signed only": func(c *gss.Context) []byte {
			token, _ := c.Wrap(nil, whoAmI, false)
			return adproto.AppendSASLFrame(nil, token)
		},
		"plain":     func(*gss.Context) []byte { return whoAmI },
		"of 2 GiB":  func(*gss.Context) []byte { return []byte{0x7f, 0xff, 0xff, 0xff, 5, 4} },
		"empty":     func(*gss.Context) []byte { return make([]byte, 8) },
		"cut short": func(*gss.Context) []byte { return []byte{0, 0, 1, 0, 5, 4} },
		"changed on the way": func(c *gss.Context) []byte {
			token, _ := c.Wrap(nil, whoAmI, true)
			token[len(token)-1] ^= 1
			return adproto.AppendSASLFrame(nil, token)
		},
		"sealed, but no LDAP": func(c *gss.Context) []byte {
			token, _ := c.Wrap(nil, []byte("HTTP/1.1 400 Bad Request"), true)
			return adproto.AppendSASLFrame(nil, token)
		},
	} {
		s := newService(t)
		conn, _ := hostile(t, func(conn net.Conn) {
			if c := s.accept(t, conn, true); c != nil {
				_, _ = conn.Write(send(c))
			}
		})
		c, err := Open(t.Context(), conn, config(&s))
		if err == nil {
			_, err = c.WhoAmI(t.Context())
			_ = c.Close()
		} else if !errors.Is(err, ErrNotEncrypted) { // the bytes came together with the bind's answer
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !errors.Is(err, ErrConnection) && !errors.Is(err, ErrNotEncrypted) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGuardTakesWholeMessagesOnly(t *testing.T) {
	good := result(1, ldap.ApplicationExtendedResponse, 0, nil)
	g := newGuard(reader{bytes.NewReader(append(bytes.Clone(good), good...))}, 100)
	for range 2 {
		got := make([]byte, 3*len(good))
		n, err := g.Read(got)
		if err != nil || !bytes.Equal(got[:n], good) {
			t.Errorf("%x, %v", got[:n], err)
		}
	}
	if _, err := g.Read(make([]byte, 9)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	for name, b := range map[string]string{
		"a message over the limit":           "\x30\x65",
		"one that claims 2 GiB":              "\x30\x84\x7f\xff\xff\xff",
		"an inner length beyond the message": "\x30\x06\x04\x84\x7f\xff\xff\xff",
		"an indefinite length":               "\x30\x80\x00\x00",
		"an indefinite length inside":        "\x30\x04\x61\x80\x00\x00",
		"a message that stops":               "\x30\x05\x02",
		"something else":                     "HTTP/1.1",
		"no message":                         "\x30",
	} {
		if n, err := newGuard(reader{strings.NewReader(b)}, 100).Read(make([]byte, 200)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%s: %d bytes, %v", name, n, err)
		}
	}
}

// reader is a connection that is only read.
type reader struct{ io.Reader }

func (reader) Write(b []byte) (int, error)      { return len(b), nil }
func (reader) Close() error                     { return nil }
func (reader) LocalAddr() net.Addr              { return nil }
func (reader) RemoteAddr() net.Addr             { return nil }
func (reader) SetDeadline(time.Time) error      { return nil }
func (reader) SetReadDeadline(time.Time) error  { return nil }
func (reader) SetWriteDeadline(time.Time) error { return nil }

// certificate makes a self-signed certificate for a name, and the pool that
// trusts it.
func certificate(t *testing.T, name string, notAfter time.Time) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// security 12: nothing is read before a verified certificate for the name.
func TestCertificateMustBeForTheController(t *testing.T) {
	for name, c := range map[string]struct {
		host     string
		notAfter time.Time
		want     string
	}{
		"of another host": {"other.d", time.Now().Add(time.Hour), "not dc.d"},
		"that is expired": {"dc.d", time.Now().Add(-time.Minute), "expired"},
	} {
		cert, pool := certificate(t, c.host, c.notAfter)
		var got bytes.Buffer
		conn, wait := hostile(t, func(conn net.Conn) {
			_, _ = io.Copy(&got, tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{cert}}))
		})
		cfg := config(nil)
		cfg.Protection, cfg.RootCAs = LDAPS, pool
		if _, err := Open(t.Context(), conn, cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("a certificate %s: %v", name, err)
		}
		wait()
		if got.Len() > 0 {
			t.Errorf("a certificate %s: %d bytes were sent", name, got.Len())
		}
	}
}

func TestConfigurationsThatCannotBeMeant(t *testing.T) {
	s := newService(t)
	for name, change := range map[string]func(*Config){
		"no name":             func(c *Config) { c.ServerName = "" },
		"nobody to bind as":   func(c *Config) { c.Kerberos = nil },
		"two identities":      func(c *Config) { c.Simple = &Simple{Name: "x", Password: secret.Copy([]byte("y"))} },
		"an empty password":   func(c *Config) { c.Kerberos, c.Protection, c.Simple = nil, LDAPS, &Simple{Name: "x"} },
		"a password unsealed": func(c *Config) { c.Kerberos, c.Simple = nil, &Simple{Name: "x", Password: secret.Copy([]byte("y"))} },
		"no clock":            func(c *Config) { c.Now = nil },
	} {
		cfg := config(&s)
		change(&cfg)
		conn, other := net.Pipe()
		if _, err := Open(t.Context(), conn, cfg); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := bufio.NewReader(other).ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection stays open: %v", name, err)
		}
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	conn, _ := hostile(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	s := newService(t)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, conn, config(&s)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func FuzzGuard(f *testing.F) {
	f.Add(result(1, ldap.ApplicationExtendedResponse, 0, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(newGuard(reader{bytes.NewReader(b)}, 1<<16))
		for {
			if _, err := ber.ReadPacket(r); err != nil {
				return
			}
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	f.Add(result(1, ldap.ApplicationBindResponse, 14, []byte("token")))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if adproto.CheckMessage(b) == nil {
			_, _ = parseResponse(b, 1, ldap.ApplicationBindResponse)
		}
	})
}
