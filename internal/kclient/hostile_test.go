package kclient_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
	"github.com/opengmsa/opengmsa/secret"
)

func TestHonestKDC(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTestKDC(t)
		c, _ := k.client(t, nil)
		res := must[kclient.Result](t)(c.AS(t.Context(), k.request()))
		if !res.Proved || res.PasswordExpires.IsZero() || !res.ClientKey.Equal(k.userKey) {
			t.Errorf("%+v", res)
		}
		service := krb5.NewName(krb5.NameSrvHst, "http", "web.test.example")
		got := must[kclient.Result](t)(c.TGS(t.Context(), kclient.TGSRequest{TGT: res.Credential, Server: service}))
		if !got.Credential.Server.Name.Equal(service) {
			t.Errorf("for %v", got.Credential.Server)
		}
		if err := c.ChangePassword(t.Context(), krb5.NewName(1, "user"), password(userPass), secret.New([]byte("new"))); err != nil {
			t.Error(err)
		}
	})
}

// replyWith changes the encrypted part.
func replyWith(f func(*krb5.KDCRep, *krb5.EncKDCRepPart)) func(*testKDC) {
	return func(k *testKDC) { k.change = f }
}

func otherKey() *crypto.Key {
	k, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
}

// hostile is what someone on the network, or a broken KDC, may answer to any
// request.
var hostile = map[string]func(*testKDC){
	"another nonce": replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.Nonce++ }),
	"another client": replyWith(func(r *krb5.KDCRep, p *krb5.EncKDCRepPart) {
		r.CName = krb5.NewName(1, "root")
		p.Flags &^= krb5.FlagEncPARep
	}),
	"another realm of the client": replyWith(func(r *krb5.KDCRep, _ *krb5.EncKDCRepPart) { r.CRealm = "EVIL.EXAMPLE" }),
	"another server":              replyWith(func(r *krb5.KDCRep, p *krb5.EncKDCRepPart) { rename(r, p, realm, krb5.NewName(3, "http", "evil")) }),
	"another realm of the server": replyWith(func(r *krb5.KDCRep, p *krb5.EncKDCRepPart) { rename(r, p, "EVIL.EXAMPLE", p.SName) }),
	"a ticket of another server": replyWith(func(r *krb5.KDCRep, p *krb5.EncKDCRepPart) {
		sname := p.SName
		rename(r, p, realm, krb5.NewName(3, "http", "evil"))
		p.SName = sname
	}),
	"a session key of RC4": replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) {
		p.Key = krb5.EncryptionKey{EType: crypto.RC4HMAC, Value: secret.New(make([]byte, 16))}
	}),
	"a session key cut short": replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.Key.Value = secret.New(make([]byte, 31)) }),
	"a ticket that has ended": replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.EndTime = p.AuthTime }),
	"a ticket without end":    replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.EndTime = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC) }),
	"a ticket not valid yet":  replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.Flags |= krb5.FlagInvalid }),
	"a part in the wrong key": func(k *testKDC) {
		k.seal = func(_ *crypto.Key, u uint32) (*crypto.Key, uint32) { return otherKey(), u }
	},
	"a part for another usage": func(k *testKDC) {
		k.seal = func(key *crypto.Key, _ uint32) (*crypto.Key, uint32) { return key, krb5.UsageTicket }
	},
	"an empty answer":         func(k *testKDC) { k.frame = func([]byte) []byte { return make([]byte, 4) } },
	"an answer of 4 GiB":      func(k *testKDC) { k.frame = func([]byte) []byte { return []byte{0xff, 0xff, 0xff, 0xff, 1} } },
	"more than was announced": func(k *testKDC) { k.frame = func(b []byte) []byte { return append(b, 0) } },
	"garbage": func(k *testKDC) {
		k.rewrite = func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") }
	},
	"the first half":           func(k *testKDC) { k.rewrite = func(b []byte) []byte { return b[:len(b)/2] } },
	"one byte too many":        func(k *testKDC) { k.rewrite = func(b []byte) []byte { return append(b, 0) } },
	"one byte too few":         func(k *testKDC) { k.rewrite = func(b []byte) []byte { return b[:len(b)-1] } },
	"a bit flipped in the end": func(k *testKDC) { k.rewrite = func(b []byte) []byte { b[len(b)-1] ^= 1; return b } },
	"a KRB-ERROR cut short":    func(k *testKDC) { k.rewrite = func([]byte) []byte { return k.fail(24, nil).Append(nil)[:40] } },
	"the other kind of reply":  func(k *testKDC) { k.rewrite = func(b []byte) []byte { b[0] ^= 0x6b ^ 0x6d; return b } },
	"a request in place of a reply": func(k *testKDC) {
		k.rewrite = func([]byte) []byte { return krb5.KDCReq{Type: krb5.MsgASReq}.Append(nil) }
	},
}

// rename gives reply and ticket another server.
func rename(r *krb5.KDCRep, p *krb5.EncKDCRepPart, realm string, name krb5.PrincipalName) {
	t, err := krb5.ParseTicket(r.Ticket)
	if err != nil {
		panic(err)
	}
	t.Realm, t.SName, p.SRealm, p.SName = realm, name, realm, name
	r.Ticket = t.Append(nil)
}

func TestHostileAnswers(t *testing.T) {
	for name, lie := range hostile {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTestKDC(t)
				c, _ := k.client(t, nil)
				tgt := must[kclient.Result](t)(c.AS(t.Context(), k.request())).Credential
				lie(k)
				service := krb5.NewName(krb5.NameSrvHst, "ldap", "dc.test.example")
				exchanges := map[string]func() error{
					"AS":        func() error { _, err := c.AS(t.Context(), k.request()); return err },
					"AS by key": func() error { _, err := c.AS(t.Context(), k.keyRequest()); return err },
					"TGS": func() error {
						_, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: service, Lifetime: time.Hour * 24})
						return err
					},
					"forwarding": func() error { _, err := c.Forward(t.Context(), tgt); return err },
				}
				for what, do := range exchanges {
					err := do()
					if !errors.Is(err, kclient.ErrReply) && !errors.Is(err, kclient.ErrUnreachable) {
						t.Errorf("%s: got %v", what, err)
					}
					if _, ok := errors.AsType[*kclient.Error](err); !ok {
						t.Errorf("%s: %T", what, err)
					}
				}
				if c.Offset() != 0 {
					t.Errorf("offset %v", c.Offset())
				}
			})
		})
	}
}

// TestHostileASAnswers has what only an AS exchange can be told.
// security 13.
func TestHostileASAnswers(t *testing.T) {
	params := func(n uint32) krb5.ETypeInfo2 {
		return krb5.ETypeInfo2{{EType: crypto.AES256SHA1, Salt: userSalt, HasSalt: true, S2KParams: binary.BigEndian.AppendUint32(nil, n)}}
	}
	always := func(code krb5.ErrorCode) func(*testKDC) {
		return func(k *testKDC) {
			k.deny = func(int, krb5.KDCReq) *krb5.KRBError {
				e := k.fail(code, nil)
				e.STime = k.now().Add(3 * time.Hour)
				return e
			}
		}
	}
	for name, c := range map[string]struct {
		lie  func(*testKDC)
		want error
		text string
	}{
		"one iteration":                   {func(k *testKDC) { k.info = params(1) }, kclient.ErrReply, "string-to-key"},
		"two thousand million iterations": {func(k *testKDC) { k.info = params(1 << 31) }, kclient.ErrReply, "string-to-key"},
		"no type but RC4":                 {func(k *testKDC) { k.info = krb5.ETypeInfo2{{EType: crypto.RC4HMAC}} }, kclient.ErrEType, "rc4"},
		"no type at all":                  {func(k *testKDC) { k.info = krb5.ETypeInfo2{} }, kclient.ErrEType, ""},
		"another salt":                    {func(k *testKDC) { k.info = krb5.ETypeInfo2{{EType: 18, Salt: "x", HasSalt: true}} }, kclient.ErrWrongKey, ""},
		"a reply that says RC4": {replyWith(func(r *krb5.KDCRep, _ *krb5.EncKDCRepPart) { r.EncPart.EType = crypto.RC4HMAC }),
			kclient.ErrReply, "not offered"},
		"a reply that says DES": {replyWith(func(r *krb5.KDCRep, _ *krb5.EncKDCRepPart) { r.EncPart.EType = 3 }), kclient.ErrReply, "not offered"},
		"a ticket that is not initial": {replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.Flags &^= krb5.FlagInitial }),
			kclient.ErrReply, "initial"},
		"a time two days ahead": {replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.AuthTime = p.AuthTime.Add(48 * time.Hour) }),
			kclient.ErrSkew, ""},
		"a ticket renewable for ever": {replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.RenewTill = p.EndTime.AddDate(9, 0, 0) }),
			kclient.ErrReply, "renewable"},
		"no proof of the request": {replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.PAData = nil }), kclient.ErrReply, "PA-REQ-ENC-PA-REP"},
		"proof of another request": {replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) {
			sum, _ := krb5.ParseChecksum(p.PAData[0].Value)
			sum.Sum = slices.Clone(sum.Sum)
			sum.Sum[0] ^= 1
			p.PAData[0].Value = sum.Append(nil)
		}), kclient.ErrReply, "another request"},
		"proof without a key": {replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) {
			p.PAData[0].Value = krb5.Checksum{Type: 7, Sum: make([]byte, 16)}.Append(nil)
		}), kclient.ErrReply, "checksum type"},
		"always pre-authentication": {always(krb5.ErrPreauthRequired), kclient.ErrReply, "again"},
		"always another clock":      {always(krb5.ErrSkew), kclient.ErrSkew, ""},
		"always too big":            {always(krb5.ErrResponseTooBig), krb5.ErrResponseTooBig, ""},
		"another realm":             {always(krb5.ErrWrongRealm), kclient.ErrReferral, ""},
		"a code without a name":     {always(12345), krb5.ErrorCode(12345), "12345"},
		"a service that is down":    {always(krb5.ErrServiceUnavailable), kclient.ErrUnreachable, "29"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTestKDC(t)
				cl, _ := k.client(t, nil)
				c.lie(k)
				req := k.request()
				req.RenewLifetime = 7 * 24 * time.Hour
				_, err := cl.AS(t.Context(), req)
				if !errors.Is(err, c.want) || !strings.Contains(errText(err), c.text) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				if cl.Offset() != 0 {
					t.Errorf("offset %v", cl.Offset())
				}
				if k.requests > 5 {
					t.Errorf("%d requests", k.requests)
				}
			})
		})
	}
}

// TestForgedClock lets someone forge error 37 before an honest KDC.
// security 14.
func TestForgedClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTestKDC(t)
		c, _ := k.client(t, nil)
		forge := func(ahead time.Duration) {
			k.requests = 0
			k.deny = func(n int, _ krb5.KDCReq) *krb5.KRBError {
				if n > 1 {
					return nil
				}
				e := k.fail(krb5.ErrSkew, nil)
				e.STime = e.STime.Add(ahead)
				return e
			}
		}
		forge(3 * time.Hour)
		if _, err := c.AS(t.Context(), k.keyRequest()); !errors.Is(err, kclient.ErrSkew) {
			t.Errorf("got %v", err)
		}
		forge(25 * time.Hour)
		if _, err := c.AS(t.Context(), k.keyRequest()); !errors.Is(err, kclient.ErrSkew) {
			t.Errorf("got %v", err)
		}
		if k.requests != 1 {
			t.Errorf("asked again with a clock a day off")
		}
		if c.Offset() != 0 {
			t.Errorf("offset %v", c.Offset())
		}
		must[kclient.Result](t)(c.AS(t.Context(), k.keyRequest()))
	})
}

// TestErrorsSetNoClock: what errors say of the time sets no clock, in whichever exchange,
// even where a second controller says the same, because nobody has signed that either. It
// counts for one more request, and not even for that if it is more than a day away.
// security 14.
func TestErrorsSetNoClock(t *testing.T) {
	type exchange func(*testing.T, *kclient.Client, krb5.Credential) error
	as := func(host string) exchange {
		return func(t *testing.T, c *kclient.Client, _ krb5.Credential) error {
			req := user("user", userPass)
			req.Prefer = host
			_, err := c.AS(t.Context(), req)
			return err
		}
	}
	exchanges := map[string]exchange{
		"AS": as("kdc"), "AS at the second controller": as("kdc2"),
		"TGS": func(t *testing.T, c *kclient.Client, tgt krb5.Credential) error {
			_, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(3, "a", "b")})
			return err
		},
		"kpasswd": func(t *testing.T, c *kclient.Client, tgt krb5.Credential) error {
			return c.SetPassword(t.Context(), tgt, krb5.NewName(1, "user"), secret.New([]byte("new")))
		},
	}
	for _, ahead := range []time.Duration{3 * time.Hour, -3 * time.Hour, 25 * time.Hour, -25 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			k := newTestKDC(t)
			c, _ := k.client(t, nil, "kdc", "kdc2")
			tgt := must[kclient.Result](t)(c.AS(t.Context(), k.request())).Credential
			said := 0
			lie := func() *krb5.KRBError {
				said++
				e := k.fail(krb5.ErrSkew, nil)
				e.STime = e.STime.Add(ahead)
				return e
			}
			want := 2
			if ahead.Abs() > 24*time.Hour {
				want = 1
			}
			for name, do := range exchanges {
				said, k.deny, k.passwd = 0, func(int, krb5.KDCReq) *krb5.KRBError { return lie() }, nil
				if name == "kpasswd" { // whose ticket comes honestly
					k.deny, k.passwd = nil, func(r *kpasswd.Reply, _ *krb5.EncAPRepPart, _ kpasswd.Request) { r.Error = lie().Append(nil) }
				}
				if err := do(t, c, tgt); !errors.Is(err, kclient.ErrSkew) {
					t.Errorf("%s, %v ahead: got %v", name, ahead, err)
				}
				if said != want {
					t.Errorf("%s, %v ahead: asked %d times, want %d", name, ahead, said, want)
				}
				if c.Offset() != 0 {
					t.Errorf("%s, %v ahead: offset %v", name, ahead, c.Offset())
				}
			}
		})
	}
}

// TestProvedClockOfMoreThanADay: an authenticated reply's time is taken up to a day away,
// in both exchanges that have one.
// security 14.
func TestProvedClockOfMoreThanADay(t *testing.T) {
	service := krb5.NewName(3, "a", "b")
	for skew, want := range map[time.Duration]error{
		23*time.Hour + 59*time.Minute: nil, -23*time.Hour - 59*time.Minute: nil,
		24*time.Hour + time.Minute: kclient.ErrSkew, -24*time.Hour - time.Minute: kclient.ErrSkew,
	} {
		synctest.Test(t, func(t *testing.T) {
			k := newTestKDC(t)
			first, _ := k.client(t, nil)
			tgt := must[kclient.Result](t)(first.AS(t.Context(), k.request())).Credential
			k.skew = skew
			for name, do := range map[string]func(*kclient.Client) error{
				"AS": func(c *kclient.Client) error { _, err := c.AS(t.Context(), k.request()); return err },
				"TGS": func(c *kclient.Client) error {
					_, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: service})
					return err
				},
				// The error's time is near enough, and only the reply's is not.
				"TGS after a better error": func(c *kclient.Client) error {
					k.deny = func(int, krb5.KDCReq) *krb5.KRBError {
						k.deny = nil
						e := k.fail(krb5.ErrSkew, nil)
						e.STime = e.STime.Add(-skew / 1000)
						return e
					}
					_, err := c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: service})
					return err
				},
			} {
				c, _ := k.client(t, nil)
				if err := do(c); !errors.Is(err, want) {
					t.Errorf("%s, %v ahead: got %v, want %v", name, skew, err, want)
				}
				expect := skew
				if want != nil {
					expect = 0
				}
				if d := (c.Offset() - expect).Abs(); d > time.Second {
					t.Errorf("%s, %v ahead: offset %v", name, skew, c.Offset())
				}
			}
		})
	}
}

// TestClockIsLearnt takes the offset from the encrypted part, with one
// controller and without an error before.
// security 14.
func TestClockIsLearnt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTestKDC(t)
		k.skew = -20 * time.Hour
		c, _ := k.client(t, nil)
		tgt := must[kclient.Result](t)(c.AS(t.Context(), k.request())).Credential
		if d := (c.Offset() - k.skew).Abs(); d > time.Second {
			t.Errorf("offset %v", c.Offset())
		}
		if d := c.Now().Sub(k.now()).Abs(); d > time.Second {
			t.Errorf("now is %v off", d)
		}
		before := k.requests
		must[kclient.Result](t)(c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(3, "a", "b")}))
		if k.requests != before+1 {
			t.Error("the offset was not used")
		}
	})
}

func TestHostileTGSAnswers(t *testing.T) {
	service := krb5.NewName(krb5.NameSrvHst, "ldap", "dc.other.example")
	for name, c := range map[string]struct {
		lie  func(*testKDC)
		want error
	}{
		"a referral": {replyWith(func(r *krb5.KDCRep, p *krb5.EncKDCRepPart) {
			rename(r, p, realm, krb5.NewName(krb5.NameSrvInst, "krbtgt", "OTHER.EXAMPLE"))
		}), kclient.ErrReferral},
		"a start in two hours": {replyWith(func(_ *krb5.KDCRep, p *krb5.EncKDCRepPart) { p.StartTime = p.StartTime.Add(2 * time.Hour) }), kclient.ErrSkew},
		"always a replay": {func(k *testKDC) {
			k.deny = func(int, krb5.KDCReq) *krb5.KRBError { return k.fail(krb5.ErrRepeat, nil) }
		}, krb5.ErrRepeat},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTestKDC(t)
				cl, _ := k.client(t, nil)
				tgt := must[kclient.Result](t)(cl.AS(t.Context(), k.request())).Credential
				c.lie(k)
				if _, err := cl.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: service}); !errors.Is(err, c.want) {
					t.Errorf("got %v, want %v", err, c.want)
				}
			})
		})
	}
}

func TestReplayIsAnsweredWithANewAuthenticator(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTestKDC(t)
		c, _ := k.client(t, nil)
		tgt := must[kclient.Result](t)(c.AS(t.Context(), k.request())).Credential
		var seen [][]byte
		k.deny = func(_ int, q krb5.KDCReq) *krb5.KRBError {
			seen = append(seen, q.PAData[0].Value)
			if len(seen) == 1 {
				return k.fail(krb5.ErrRepeat, nil)
			}
			return nil
		}
		must[kclient.Result](t)(c.TGS(t.Context(), kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(3, "a", "b")}))
		if len(seen) != 2 || bytes.Equal(seen[0], seen[1]) {
			t.Errorf("%d requests", len(seen))
		}
	})
}

func TestHostileKpasswd(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(*testKDC)
		want error
	}{
		"our own message": {func(k *testKDC) {
			k.passwd = func(r *kpasswd.Reply, _ *krb5.EncAPRepPart, q kpasswd.Request) { r.Priv = q.Priv }
		}, kclient.ErrReply},
		"a proof of another time": {func(k *testKDC) {
			k.passwd = func(_ *kpasswd.Reply, p *krb5.EncAPRepPart, _ kpasswd.Request) { p.CUsec ^= 1 }
		}, kclient.ErrReply},
		"another sequence number": {func(k *testKDC) {
			k.passwd = func(_ *kpasswd.Reply, p *krb5.EncAPRepPart, _ kpasswd.Request) { p.SeqNumber++ }
		}, kclient.ErrReply},
		"garbage in place of the message": {func(k *testKDC) {
			k.passwd = func(r *kpasswd.Reply, _ *krb5.EncAPRepPart, _ kpasswd.Request) { r.Priv = []byte("garbage") }
		}, kclient.ErrReply},
		"a connection that breaks": {func(k *testKDC) {
			k.passwd = func(*kpasswd.Reply, *krb5.EncAPRepPart, kpasswd.Request) {
				k.frame = func([]byte) []byte { return nil }
			}
		},
			kclient.ErrIndeterminate},
		"a silence": {func(k *testKDC) {
			k.passwd = func(*kpasswd.Reply, *krb5.EncAPRepPart, kpasswd.Request) { time.Sleep(time.Minute) }
		},
			kclient.ErrIndeterminate},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTestKDC(t)
				cl, _ := k.client(t, nil)
				c.lie(k)
				err := cl.ChangePassword(t.Context(), krb5.NewName(1, "user"), password(userPass), secret.New([]byte("new")))
				if !errors.Is(err, c.want) || !errors.Is(err, kclient.ErrIndeterminate) {
					t.Errorf("got %v, want %v", err, c.want)
				}
				time.Sleep(time.Minute)
			})
		})
	}
}

func TestFailover(t *testing.T) {
	for name, c := range map[string]struct {
		hosts  []string
		within time.Duration
		failed []string
	}{
		"the first is dead":               {[]string{"dead", "kdc"}, time.Second, []string{"dead"}},
		"the first accepts and is silent": {[]string{"mute", "kdc"}, time.Second, []string{"mute"}},
		"the first refuses":               {[]string{"refusing", "kdc"}, 0, []string{"refusing"}},
		"two are dead":                    {[]string{"dead", "mute", "kdc"}, time.Second, []string{"dead", "mute"}},
		"all is well":                     {[]string{"kdc", "dead"}, 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTestKDC(t)
				cl, w := k.client(t, nil, c.hosts...)
				began := time.Now()
				res := must[kclient.Result](t)(cl.AS(t.Context(), k.keyRequest()))
				if d := time.Since(began); d > c.within {
					t.Errorf("took %v", d)
				}
				if res.KDC.Host != "kdc" {
					t.Errorf("answered by %v", res.KDC)
				}
				if slices.Sort(w.failed); !slices.Equal(w.failed, c.failed) {
					t.Errorf("reported %v, want %v", w.failed, c.failed)
				}
			})
		})
	}
}

func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTestKDC(t)
		c, w := k.client(t, nil, "dead", "mute", "refusing")
		began := time.Now()
		_, err := c.AS(t.Context(), k.request())
		if !errors.Is(err, kclient.ErrUnreachable) || len(w.failed) != 3 {
			t.Errorf("got %v, reported %v", err, w.failed)
		}
		for _, host := range []string{"dead", "mute", "refusing"} {
			if !strings.Contains(errText(err), host+" ("+host+":88)") {
				t.Errorf("%v: does not name %s", err, host)
			}
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

func TestCallerGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTestKDC(t)
		c, w := k.client(t, nil, "mute")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.AS(ctx, k.request())
		if !errors.Is(err, context.DeadlineExceeded) || len(w.failed) != 0 {
			t.Errorf("got %v, reported %v", err, w.failed)
		}
	})
}

func TestDatagrams(t *testing.T) {
	for host, wait := range map[string]time.Duration{"kdc": 0, "lossy": 2 * time.Second} {
		t.Run(host, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newTestKDC(t)
				c, _ := k.client(t, func(cfg *kclient.Config) { cfg.UDP = true }, host)
				began := time.Now()
				must[kclient.Result](t)(c.AS(t.Context(), k.keyRequest()))
				if d := time.Since(began); d != wait {
					t.Errorf("took %v, want %v", d, wait)
				}
				if k.dials("udp "+host+":88") != 1 || k.dials("tcp "+host+":88") != 1 {
					t.Errorf("dialled %v", k.dialled)
				}
			})
		})
	}
}

func TestKeptConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newTestKDC(t)
		c, w := k.client(t, nil)
		ask := func(dials int) {
			t.Helper()
			must[kclient.Result](t)(c.AS(t.Context(), k.keyRequest()))
			if got := k.dials("tcp kdc:88"); got != dials {
				t.Errorf("%d connections, want %d", got, dials)
			}
		}
		ask(1)
		ask(1)
		// The controller closes it: the next request takes a new one.
		k.once(func([]byte) []byte { return nil })
		ask(2)
		if w.failed != nil {
			t.Errorf("reported %v", w.failed)
		}
		// A router forgets it: the request is lost without a word.
		began := time.Now()
		k.once(func([]byte) []byte { time.Sleep(time.Minute); return nil })
		ask(3)
		if d := time.Since(began); d != 2*time.Second {
			t.Errorf("took %v", d)
		}
		time.Sleep(20 * time.Second)
		ask(3)
		time.Sleep(61 * time.Second)
		if n := k.connections(); n != 0 {
			t.Errorf("%d connections are open after a minute", n)
		}
		ask(4)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if n := k.connections(); n != 0 {
			t.Errorf("%d connections are open after Close", n)
		}
		ask(5)
	})
}

func TestNewRefuses(t *testing.T) {
	kdcs := kclient.StaticKDCs("kdc")
	for name, cfg := range map[string]kclient.Config{
		"no realm":            {KDCs: kdcs},
		"a name for a realm":  {Realm: "user@REALM", KDCs: kdcs},
		"no controllers":      {Realm: realm},
		"RC4 without consent": {Realm: realm, KDCs: kdcs, ETypes: []crypto.EType{crypto.RC4HMAC}},
		"no types":            {Realm: realm, KDCs: kdcs, ETypes: []crypto.EType{}},
	} {
		if _, err := kclient.New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// TestSecretsDoNotPrint looks for the password in what a request prints.
func TestSecretsDoNotPrint(t *testing.T) {
	s := kclient.Password(secret.New([]byte(userPass)))
	for _, out := range []string{fmt.Sprintf("%v", s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%+v", user("u", userPass))} {
		if strings.Contains(out, userPass) || contains([]byte(out), []byte(strings.ToLower(fmt.Sprintf("%x", userPass)))) {
			t.Error(out)
		}
	}
}
