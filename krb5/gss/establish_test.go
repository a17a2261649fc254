package gss

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/krb5/replay"
	"github.com/opengmsa/opengmsa/secret"
)

func TestEstablish(t *testing.T) {
	for _, e := range etypes {
		for _, flags := range []Flags{DefaultFlags, DefaultFlags &^ FlagMutual, FlagMutual, FlagInteg} {
			for _, mech := range mechs {
				r := newRealm(t, e)
				ini := asInitiator(r.initiator(t, func(c *InitiatorConfig) { c.Flags = flags }), mech)
				acc := asAcceptor(r.acceptor(t, nil), mech)
				tokens, err := converse(ini, acc)
				if err != nil {
					t.Fatalf("%v, %v, %s: %v", e, flags, mech, err)
				}
				if want := map[bool]int{true: 2, false: 1}[flags.Has(FlagMutual) || mech == "spnego"]; tokens != want {
					t.Errorf("%v, %v, %s: %d tokens, want %d", e, flags, mech, tokens, want)
				}
				i, a := ini.Context(), acc.Context()
				if i.Flags() != flags || a.Flags() != flags {
					t.Errorf("flags %v and %v, want %v", i.Flags(), a.Flags(), flags)
				}
				if !i.Key().Equal(a.Key()) || i.acceptorSubkey != a.acceptorSubkey || i.acceptorSubkey != flags.Has(FlagMutual) {
					t.Errorf("%v, %v: the keys differ", e, flags)
				}
				for _, c := range []*Context{i, a} {
					if !c.Client().Equal(clientName) || !c.Server().Equal(serverName) || !c.EndTime().Equal(r.now.Add(10*time.Hour)) {
						t.Errorf("%v, %v, %v", c.Client(), c.Server(), c.EndTime())
					}
				}
				if !a.Ticket().EndTime.Equal(a.EndTime()) || !i.Ticket().EndTime.IsZero() {
					t.Errorf("tickets end at %v and %v", i.Ticket().EndTime, a.Ticket().EndTime)
				}
				got, _, err := a.Unwrap(nil, wrap(t, i, []byte("x"), false))
				if err != nil || string(got) != "x" {
					t.Errorf("%v, %v: %q, %v", e, flags, got, err)
				}
			}
		}
	}
}

func TestFlagsString(t *testing.T) {
	if got := DefaultFlags.String(); got != "mutual replay sequence conf integ" {
		t.Errorf("got %q", got)
	}
}

// The sum is the MD5 of four zero words, the length and the data; the expected
// value was computed with Python's hashlib.
func TestBindingsSum(t *testing.T) {
	cb := &ChannelBindings{AppData: []byte("tls-server-end-point:")}
	if got, want := cb.sum(), "2ea6e9ae9674d953e9d23afaf703e260"; hex.EncodeToString(got[:]) != want {
		t.Errorf("got %x, want %s", got, want)
	}
	var none *ChannelBindings
	if none.sum() != [16]byte{} {
		t.Error("no bindings are not zeros")
	}
	for name, other := range map[string]*ChannelBindings{
		"other data":     {AppData: []byte("tls-server-end-point;")},
		"an address":     {AppData: cb.AppData, InitiatorAddr: []byte{1}},
		"another family": {AppData: cb.AppData, AcceptorAddrType: 2},
		"moved bytes":    {AcceptorAddr: cb.AppData},
	} {
		if other.sum() == cb.sum() {
			t.Errorf("%s: the same sum", name)
		}
	}
}

// Both of our sides, with an initiator that advertises KERB_AP_OPTIONS_CBT and
// one that does not: [MS-KILE] 3.4.5. "when supported" differs from "always" in
// one case only.
func TestBindingPolicies(t *testing.T) {
	for name, c := range map[string]struct {
		client, server *ChannelBindings
		silent         bool // the initiator does not advertise
		ok             [3]bool
	}{
		"right":                       {ourChannel, ourChannel, false, [3]bool{true, true, true}},
		"right, not advertised":       {ourChannel, ourChannel, true, [3]bool{true, true, true}},
		"wrong":                       {otherChannel, ourChannel, false, [3]bool{true, false, false}},
		"wrong, not advertised":       {otherChannel, ourChannel, true, [3]bool{true, false, false}},
		"none":                        {nil, ourChannel, false, [3]bool{true, false, false}},
		"none, not advertised":        {nil, ourChannel, true, [3]bool{true, true, false}},
		"the acceptor has no channel": {ourChannel, nil, false, [3]bool{true, true, true}},
		"nobody has one":              {nil, nil, false, [3]bool{true, true, true}},
	} {
		for policy, ok := range c.ok {
			r := newRealm(t, crypto.AES256SHA1)
			ini := r.initiator(t, func(cfg *InitiatorConfig) { cfg.ChannelBindings = c.client })
			ini.dialect.hideCBT = c.silent
			acc := r.acceptor(t, func(cfg *AcceptorConfig) {
				cfg.ChannelBindings, cfg.Binding = c.server, BindingPolicy(policy)
			})
			_, err := converse(ini, acc)
			if ok && err != nil || !ok && !errors.Is(err, ErrBindings) {
				t.Errorf("%s, policy %d: %v, want success %t", name, policy, err, ok)
			}
			if ok && acc.Context().Bound() != (c.client == ourChannel && c.server == ourChannel && policy != 0) {
				t.Errorf("%s, policy %d: Bound is %t", name, policy, acc.Context().Bound())
			}
		}
	}
}

// What an acceptor refuses, the code that it tells the initiator, and that the
// initiator understands it.
func TestRefusals(t *testing.T) {
	someKey := newKey(t, crypto.AES256SHA1)
	for name, c := range map[string]struct {
		ticket   func(*krb5.EncTicketPart)
		initiate func(*InitiatorConfig)
		accept   func(*AcceptorConfig)
		want     krb5.ErrorCode
	}{
		"a clock that is behind": {
			initiate: func(c *InitiatorConfig) {
				now := c.Now()
				c.Now = func() time.Time { return now.Add(-6 * time.Minute) }
			},
			want: krb5.ErrSkew},
		"a clock that is ahead": {
			initiate: func(c *InitiatorConfig) { now := c.Now(); c.Now = func() time.Time { return now.Add(6 * time.Minute) } },
			want:     krb5.ErrSkew},
		"a ticket that has ended": {
			ticket: func(p *krb5.EncTicketPart) { p.EndTime = p.AuthTime.Add(-6 * time.Minute) }, want: krb5.ErrTicketExpired},
		"a ticket of the future": {
			ticket: func(p *krb5.EncTicketPart) { p.StartTime = p.AuthTime.Add(6 * time.Minute) }, want: krb5.ErrTicketNotYetValid},
		"an invalid ticket": {
			ticket: func(p *krb5.EncTicketPart) { p.Flags |= krb5.FlagInvalid }, want: krb5.ErrTicketNotYetValid},
		"a ticket of another client": {
			ticket: func(p *krb5.EncTicketPart) { p.CName = krb5.NewName(krb5.NamePrincipal, "Other$") }, want: krb5.ErrBadMatch},
		"a ticket of another realm": {
			ticket: func(p *krb5.EncTicketPart) { p.CRealm = "FABRIKAM.COM" }, want: krb5.ErrBadMatch},
		"an RC4 session key": {
			ticket: func(p *krb5.EncTicketPart) {
				p.Key = krb5.EncryptionKey{EType: crypto.RC4HMAC, Value: rc4Key(t).Secret()}
			}, want: krb5.ErrInappropriateChecksum},
		"a session key of the wrong size": {
			ticket: func(p *krb5.EncTicketPart) { p.Key.Value = secret.New(make([]byte, 31)) }, want: krb5.ErrModified},
		"no key": {
			accept: func(c *AcceptorConfig) {
				c.Keys = func(krb5.Principal, uint32, crypto.EType) []*crypto.Key { return nil }
			}, want: krb5.ErrNoKey},
		"another key": {
			accept: func(c *AcceptorConfig) {
				c.Keys = func(krb5.Principal, uint32, crypto.EType) []*crypto.Key { return []*crypto.Key{someKey} }
			}, want: krb5.ErrModified},
		"another session key": {
			initiate: func(c *InitiatorConfig) { c.Credential.SessionKey = someKey }, want: krb5.ErrBadIntegrity},
		"a session key of another type": {
			initiate: func(c *InitiatorConfig) { c.Credential.SessionKey = newKey(t, crypto.AES128SHA1) }, want: krb5.ErrModified},
		"another channel": {
			initiate: func(c *InitiatorConfig) { c.ChannelBindings = otherChannel },
			accept:   func(c *AcceptorConfig) { c.ChannelBindings, c.Binding = ourChannel, BindAlways }, want: krb5.ErrModified},
	} {
		r := newRealm(t, crypto.AES256SHA1)
		r.change = c.ticket
		for _, mech := range mechs {
			ini := asInitiator(r.initiator(t, c.initiate), mech)
			acc := asAcceptor(r.acceptor(t, c.accept), mech)
			token, _, err := ini.Step(nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			answer, finished, err := acc.Step(token)
			if !errors.Is(err, c.want) || finished || acc.Context() != nil {
				t.Errorf("%s, %s: %v, want %v", name, mech, err, c.want)
			}
			_, _, err = ini.Step(answer)
			var peer *PeerError
			if !errors.As(err, &peer) || !errors.Is(err, c.want) || ini.Context() != nil {
				t.Errorf("%s, %s: the initiator reads %v", name, mech, err)
			} else if !strings.Contains(err.Error(), c.want.String()) {
				t.Errorf("%s: the error says %q, not %v", name, err, c.want)
			} else if !peer.STime.Equal(r.now) {
				t.Errorf("%s: server time %v, want %v", name, peer.STime, r.now)
			}
			if _, _, err := acc.Step(token); err == nil {
				t.Errorf("%s, %s: a second try is accepted", name, mech)
			}
		}
	}
}

// The largest skew and the edges of a ticket's life are still accepted.
func TestTimesWithinTheSkew(t *testing.T) {
	for name, change := range map[string]func(*krb5.EncTicketPart){
		"ends 5 minutes ago": func(p *krb5.EncTicketPart) { p.EndTime = p.AuthTime.Add(-DefaultSkew) },
		"starts in 5":        func(p *krb5.EncTicketPart) { p.StartTime = p.AuthTime.Add(DefaultSkew) },
		"has no start":       func(p *krb5.EncTicketPart) { p.StartTime = time.Time{} },
	} {
		r := newRealm(t, crypto.AES256SHA1)
		r.change = change
		now := r.now
		ini := r.initiator(t, func(c *InitiatorConfig) { c.Now = func() time.Time { return now.Add(-DefaultSkew) } })
		if _, err := converse(ini, r.acceptor(t, nil)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReplayedToken(t *testing.T) {
	r, cache := newRealm(t, crypto.AES256SHA1), replay.New(2*DefaultSkew, 0)
	token, _, err := r.initiator(t, nil).Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	with := func(c *AcceptorConfig) { c.Replay = cache }
	if _, _, err := r.acceptor(t, with).Step(token); err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(DefaultSkew)
	if _, _, err := r.acceptor(t, with).Step(token); !errors.Is(err, krb5.ErrRepeat) {
		t.Errorf("replayed as late as it would be accepted: %v", err)
	}
	if _, err := converse(r.initiator(t, nil), r.acceptor(t, with)); err != nil {
		t.Errorf("another authenticator: %v", err)
	}
	full := replay.New(0, 1)
	for n := 0; err == nil && n < 100; n++ {
		_, err = converse(r.initiator(t, nil), r.acceptor(t, func(c *AcceptorConfig) { c.Replay = full }))
	}
	if !errors.Is(err, replay.ErrFull) {
		t.Errorf("a full cache: %v", err)
	}
}

func TestDelegationIsExposed(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	deleg := fill(3000)
	i, a := established(t, r.initiator(t, func(c *InitiatorConfig) { c.Delegated = deleg }), r.acceptor(t, nil))
	if !bytes.Equal(a.Delegated(), deleg) || !a.Flags().Has(FlagDelegate) || !i.Flags().Has(FlagDelegate) {
		t.Errorf("%d bytes, flags %v", len(a.Delegated()), a.Flags())
	}
	long := r.initiator(t, func(c *InitiatorConfig) { c.Delegated = make([]byte, 65536) })
	if _, _, err := long.Step(nil); err == nil {
		t.Error("65,536 bytes fit into a field of 16 bits")
	}
	// The flag alone does not make a delegation.
	_, a = established(t, r.initiator(t, func(c *InitiatorConfig) { c.Flags = DefaultFlags | FlagDelegate }), r.acceptor(t, nil))
	if a.Delegated() != nil || a.Flags().Has(FlagDelegate) {
		t.Errorf("flags %v", a.Flags())
	}
}

func TestRC4IsRefused(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	cred := r.ticket(t, serverName, crypto.AES256SHA1)
	cred.SessionKey = rc4Key(t)
	if _, err := NewInitiator(InitiatorConfig{Credential: cred, Now: r.clock, Rand: rand.Reader}); !errors.Is(err, ErrEType) {
		t.Errorf("initiator: %v", err)
	}
	r.serverKey = rc4Key(t)
	ini := r.initiator(t, func(c *InitiatorConfig) { c.Credential = r.ticket(t, serverName, crypto.AES256SHA1) })
	token, _, err := ini.Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.acceptor(t, nil).Step(token); !errors.Is(err, ErrEType) {
		t.Errorf("acceptor: %v", err)
	}
}

// The initiator accepts an AP-REP of its own request only.
func TestMutualAuthentication(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	cred := r.ticket(t, serverName, crypto.AES256SHA1)
	same := func(c *InitiatorConfig) { c.Credential = cred }
	first, second := r.initiator(t, same), r.initiator(t, same)
	token, _, err := first.Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	r.now = r.now.Add(time.Second)
	if _, _, err := second.Step(nil); err != nil {
		t.Fatal(err)
	}
	answer, _, err := r.acceptor(t, nil).Step(token)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := second.Step(answer); !errors.Is(err, ErrMutual) {
		t.Errorf("the answer to another request: %v", err)
	}
	for at := range answer {
		fresh := *first
		bad := bytes.Clone(answer)
		bad[at] ^= 1
		if _, done, err := fresh.Step(bad); err == nil && done && at > 40 {
			t.Errorf("byte %d changed: accepted", at)
		}
		fresh = *first
		if _, _, err := fresh.Step(answer[:at]); err == nil {
			t.Errorf("%d bytes: accepted", at)
		}
	}
	if _, done, err := first.Step(answer); err != nil || !done {
		t.Errorf("the answer itself: %v", err)
	}
	if _, _, err := first.Step(answer); !errors.Is(err, ErrState) {
		t.Errorf("a second time: %v", err)
	}
}

// An acceptor without a subkey of its own, as RFC 4121 allows.
func TestAcceptorWithoutSubkey(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	ini := r.initiator(t, nil)
	if _, _, err := ini.Step(nil); err != nil {
		t.Fatal(err)
	}
	session := ini.cfg.Credential.SessionKey
	plain := krb5.EncAPRepPart{CTime: ini.sent.Truncate(time.Second), CUsec: microseconds(ini.sent), SeqNumber: 77}.Append(nil)
	cipher, err := session.Encrypt(nil, krb5.UsageAPRepEncPart, plain, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rep := krb5.APRep{EncPart: krb5.EncryptedData{EType: session.EType(), Cipher: cipher}}
	if _, done, err := ini.Step(frameMessage(tokenAPRep, rep.Append(nil))); err != nil || !done {
		t.Fatal(err)
	}
	c := ini.Context()
	if !c.Key().Equal(ini.subkey) || c.acceptorSubkey || c.recv.next != 77 {
		t.Errorf("key %v, acceptor subkey %t, next %d", c.Key(), c.acceptorSubkey, c.recv.next)
	}
}

func TestKeytabKeysOrder(t *testing.T) {
	other := krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NamePrincipal, "WebApp01$")}
	upper := krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NameUnknown, "http", "WEB.contoso.com")}
	k := make([]*crypto.Key, 5)
	for i := range k {
		k[i] = newKey(t, crypto.AES256SHA1)
	}
	kt := keytab.Keytab{Entries: []keytab.Entry{
		{Principal: other, KVNO: 1, Key: k[3]},
		{Principal: other, KVNO: 2, Key: k[2]},
		{Principal: serverName, KVNO: 1, Key: k[1]},
		{Principal: serverName, KVNO: 2, Key: newKey(t, crypto.AES128SHA1)},
		{Principal: serverName, KVNO: 2, Other: keytab.OtherKey{EType: 3}},
		{Principal: upper, KVNO: 2, Key: k[0]},
	}}
	got := KeytabKeys(kt)(serverName, 2, crypto.AES256SHA1)
	if len(got) != 4 {
		t.Fatalf("%d keys, want 4", len(got))
	}
	for i := range got {
		if !got[i].Equal(k[i]) {
			t.Errorf("key %d is another one", i)
		}
	}
}

// A ticket whose version number the keytab does not have opens with another
// key of the type.
func TestAnotherVersionNumber(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	acc := r.acceptor(t, func(c *AcceptorConfig) {
		kt := r.keytab()
		kt.Entries[0].KVNO = 99
		kt.Entries = append([]keytab.Entry{{Principal: serverName, KVNO: r.kvno, Key: newKey(t, crypto.AES256SHA1)}}, kt.Entries...)
		c.Keys = KeytabKeys(kt)
	})
	if _, err := converse(r.initiator(t, nil), acc); err != nil {
		t.Error(err)
	}
}

func TestConfigurationFaults(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	good := InitiatorConfig{Credential: r.ticket(t, serverName, crypto.AES256SHA1), Now: r.clock, Rand: rand.Reader}
	for name, change := range map[string]func(*InitiatorConfig){
		"no clock":       func(c *InitiatorConfig) { c.Now = nil },
		"no randomness":  func(c *InitiatorConfig) { c.Rand = nil },
		"no session key": func(c *InitiatorConfig) { c.Credential.SessionKey = nil },
		"DCE style":      func(c *InitiatorConfig) { c.Flags = DefaultFlags | FlagDCEStyle },
	} {
		cfg := good
		change(&cfg)
		if _, err := NewInitiator(cfg); !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewAcceptor(AcceptorConfig{}); !errors.Is(err, ErrState) {
		t.Errorf("empty acceptor: %v", err)
	}
	for n := range 60 {
		good.Rand = io.LimitReader(rand.Reader, int64(n))
		i, err := NewInitiator(good)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := i.Step(nil); err == nil && n < 52 {
			t.Errorf("%d random bytes are enough", n)
		}
	}
}

// First tokens that are not what they should be.
func TestMalformedTokens(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	token, _, err := r.initiator(t, nil).Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, req, err := parseMessage(token)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		token []byte
		want  error
	}{
		"empty":                 {nil, ErrToken},
		"a bare AP-REQ":         {req, ErrToken},
		"another mechanism":     {frame([]byte{1, 2, 3}, req), ErrMechanism},
		"an AP-REP's id":        {frameMessage(tokenAPRep, req), ErrToken},
		"no id":                 {frame(oidKerberos), ErrToken},
		"no message":            {frameMessage(tokenAPReq, nil), ErrToken},
		"something behind":      {append(bytes.Clone(token), 0), ErrToken},
		"something behind, in":  {frameMessage(tokenAPReq, append(bytes.Clone(req), 0)), ErrToken},
		"a token that is large": {make([]byte, MaxToken+1), ErrToken},
	} {
		if _, _, err := r.acceptor(t, nil).Step(c.token); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for n := range token {
		if _, _, err := r.acceptor(t, nil).Step(token[:n]); err == nil {
			t.Errorf("%d bytes of %d: accepted", n, len(token))
		}
	}
	// Windows' number of the mechanism is as good.
	if _, _, err := r.acceptor(t, nil).Step(frame(oidMSKerberos, []byte{1, 0}, req)); err != nil {
		t.Errorf("the OID of Windows: %v", err)
	}
}

func TestChecksumField(t *testing.T) {
	good, err := checksum{flags: DefaultFlags | FlagDelegate, deleg: fill(10), bindings: ourChannel.sum()}.build()
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseChecksum(good)
	if err != nil || got.flags != DefaultFlags|FlagDelegate || got.bindings != ourChannel.sum() || !bytes.Equal(got.deleg, fill(10)) {
		t.Errorf("%+v, %v", got, err)
	}
	extended := krb5.Checksum{Type: checksumType, Sum: append(bytes.Clone(good.Sum), 0, 0, 0, 0, 0, 0, 0, 0)}
	if got, err := parseChecksum(extended); err != nil || len(got.deleg) != 10 {
		t.Errorf("with an extension: %+v, %v", got, err)
	}
	for n := range good.Sum {
		if _, err := parseChecksum(krb5.Checksum{Type: checksumType, Sum: good.Sum[:n]}); !errors.Is(err, ErrToken) {
			t.Errorf("%d bytes of %d: %v", n, len(good.Sum), err)
		}
	}
	for name, change := range map[string]func(*krb5.Checksum){
		"another type":            func(c *krb5.Checksum) { c.Type = 16 },
		"no checksum":             func(c *krb5.Checksum) { *c = krb5.Checksum{} },
		"bindings of 20 bytes":    func(c *krb5.Checksum) { c.Sum[0] = 20 },
		"an option that is not":   func(c *krb5.Checksum) { c.Sum[24] = 2 },
		"more delegation than is": func(c *krb5.Checksum) { c.Sum[26] = 11 },
	} {
		bad := krb5.Checksum{Type: good.Type, Sum: bytes.Clone(good.Sum)}
		change(&bad)
		if _, err := parseChecksum(bad); !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzAccept(f *testing.F) {
	r := newRealm(f, crypto.AES128SHA1)
	for _, mech := range mechs {
		token, _, err := asInitiator(r.initiator(f, nil), mech).Step(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(token)
	}
	f.Add(negTokenInit{mechList: mechListOf([]byte{1, 2}, oidMSKerberos), mic: []byte("mic")}.build())
	f.Fuzz(func(t *testing.T, token []byte) {
		acc := NewSPNEGOAcceptor(r.acceptor(t, nil))
		_, finished, err := acc.Step(token)
		if finished != (acc.Context() != nil) || finished && err != nil {
			t.Errorf("finished %t, context %v, %v", finished, acc.Context(), err)
		}
	})
}

func FuzzInitiate(f *testing.F) {
	r := newRealm(f, crypto.AES128SHA1)
	first := r.initiator(f, nil)
	token, _, err := first.Step(nil)
	if err != nil {
		f.Fatal(err)
	}
	answer, _, err := r.acceptor(f, nil).Step(token)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(negTokenResp{state: acceptCompleted, mech: oidKerberos, token: answer}.build())
	f.Add(negTokenResp{state: requestMIC, mech: oidMSKerberos, token: answer, mic: []byte("mic")}.build())
	f.Add(negTokenResp{state: reject, token: r.acceptor(f, nil).errorToken(krb5.Ticket{}, krb5.ErrSkew)}.build())
	f.Fuzz(func(t *testing.T, token []byte) {
		mech := *first
		ini := &SPNEGOInitiator{mech: &mech, mechList: mechListOf(oidKerberos), state: spnegoOffered}
		_, finished, err := ini.Step(token)
		if finished != (ini.Context() != nil) || finished && err != nil {
			t.Errorf("finished %t, context %v, %v", finished, ini.Context(), err)
		}
		bare := *first
		_, _, _ = bare.Step(token)
	})
}

func FuzzParseChecksum(f *testing.F) {
	good, err := checksum{flags: FlagDelegate, deleg: fill(10)}.build()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.Sum)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseChecksum(krb5.Checksum{Type: checksumType, Sum: b})
		if err != nil {
			return
		}
		again, err := c.build()
		if err != nil || !bytes.HasPrefix(b, again.Sum) {
			t.Errorf("%x became %x, %v", b, again.Sum, err)
		}
	})
}

func BenchmarkEstablish(b *testing.B) {
	r := newRealm(b, crypto.AES256SHA1)
	cred := r.ticket(b, serverName, crypto.AES256SHA1)
	b.ReportAllocs()
	for b.Loop() {
		ini := NewSPNEGOInitiator(r.initiator(b, func(c *InitiatorConfig) { c.Credential = cred }))
		if _, err := converse(ini, NewSPNEGOAcceptor(r.acceptor(b, nil))); err != nil {
			b.Fatal(err)
		}
	}
}
