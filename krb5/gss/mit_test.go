package gss

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// These tests talk to MIT Kerberos through testdata/peer.py. No KDC is needed:
// the test forges the service ticket and gives it to MIT in a credential cache,
// and the server's key in a keytab, both written by our own packages.

// mitPeer is a running peer.py.
type mitPeer struct {
	t      *testing.T
	in     io.WriteCloser
	out    *bufio.Reader
	stderr *bytes.Buffer
}

type mitAnswer struct {
	Data      []byte `json:"data"`
	Complete  bool   `json:"complete"`
	Conf      bool   `json:"conf"`
	Error     string `json:"error"`
	Initiator string `json:"initiator"`
	Acceptor  string `json:"acceptor"`
	Flags     int    `json:"flags"`
}

type mitConfig struct {
	role, mech string
	flags      Flags
	bindings   *ChannelBindings
	// aware makes MIT advertise KERB_AP_OPTIONS_CBT.
	aware bool
}

// startMIT runs a peer that has a ticket from r and the key of the server.
func startMIT(t *testing.T, r *realm, cfg mitConfig) *mitPeer {
	t.Helper()
	lab.Need(t, "python3-gssapi")
	dir := t.TempDir()
	write := func(name string, b []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	conf := write("krb5.conf", fmt.Appendf(nil, `[libdefaults]
	default_realm = CONTOSO.COM
	dns_lookup_kdc = false
	dns_canonicalize_hostname = false
	permitted_enctypes = aes256-cts aes128-cts aes256-sha2 aes128-sha2
	client_aware_channel_bindings = %t
	default_rcache_name = none:
`, cfg.aware))
	cache := ccache.Cache{Principal: clientName, Credentials: []krb5.Credential{
		r.ticket(t, tgsName, r.serverKey.EType()), r.ticket(t, serverName, r.serverKey.EType()),
	}}
	kt, err := r.keytab().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	bindings := "none"
	if cfg.bindings != nil {
		bindings = hex.EncodeToString(cfg.bindings.AppData)
	}
	cmd := exec.CommandContext(t.Context(), "/usr/bin/python3", "testdata/peer.py", cfg.role, cfg.mech, serverName.String(), fmt.Sprint(int(cfg.flags)), bindings)
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "LC_ALL=C",
		"KRB5_CONFIG=" + conf,
		"KRB5CCNAME=FILE:" + write("ccache", cache.Append(nil)),
		"KRB5_KTNAME=FILE:" + write("keytab", kt),
		"KRB5_TRACE=" + filepath.Join(dir, "trace"),
	}
	p := &mitPeer{t: t, stderr: new(bytes.Buffer)}
	cmd.Stderr = p.stderr
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.in.Close()
		_ = cmd.Wait()
		if t.Failed() {
			trace, _ := os.ReadFile(filepath.Join(dir, "trace"))
			t.Logf("stderr:\n%s\ntrace:\n%s", p.stderr, trace)
		}
	})
	return p
}

// ask sends a request and returns the answer, whose Error may be set.
func (p *mitPeer) ask(request map[string]any) mitAnswer {
	p.t.Helper()
	b, err := json.Marshal(request)
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.in.Write(append(b, '\n')); err != nil {
		p.t.Fatalf("%v\n%s", err, p.stderr)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		p.t.Fatalf("%v\n%s", err, p.stderr)
	}
	var a mitAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

// must is ask for what has to succeed.
func (p *mitPeer) must(request map[string]any) mitAnswer {
	p.t.Helper()
	a := p.ask(request)
	if a.Error != "" {
		p.t.Fatalf("%v: MIT says: %s", request["op"], a.Error)
	}
	return a
}

// Step and Context make the peer a stepper.
func (p *mitPeer) Step(in []byte) (out []byte, finished bool, err error) {
	p.t.Helper()
	a := p.ask(map[string]any{"op": "step", "data": in})
	if a.Error != "" {
		return a.Data, false, errors.New(a.Error)
	}
	return a.Data, a.Complete, nil
}

func (p *mitPeer) Context() *Context { return nil }

// exchange proves that messages pass in both directions in all forms.
func (p *mitPeer) exchange(t *testing.T, c *Context) {
	t.Helper()
	for _, n := range []int{0, 1, 15, 16, 17, 1000, 70000} {
		msg := fill(n)
		for _, conf := range []bool{false, true} {
			token, err := c.Wrap(nil, msg, conf)
			if err != nil {
				t.Fatal(err)
			}
			a := p.must(map[string]any{"op": "unwrap", "data": token})
			if !bytes.Equal(a.Data, msg) || a.Conf != conf {
				t.Errorf("MIT unwraps %d bytes, conf %t: got %d bytes, conf %t", n, conf, len(a.Data), a.Conf)
			}
			a = p.must(map[string]any{"op": "wrap", "data": msg, "conf": conf})
			got, gotConf, err := c.Unwrap([]byte("x"), a.Data)
			if err != nil || !bytes.Equal(got[1:], msg) || gotConf != conf {
				t.Errorf("we unwrap %d bytes, conf %t: got %d bytes, conf %t, %v", n, conf, len(got), gotConf, err)
			}
		}
		p.must(map[string]any{"op": "verify", "data": msg, "token": c.GetMIC(nil, msg)})
		if err := c.VerifyMIC(msg, p.must(map[string]any{"op": "sign", "data": msg}).Data); err != nil {
			t.Errorf("MIT's MIC of %d bytes: %v", n, err)
		}
	}
}

// mechs are both ways to speak Kerberos.
var mechs = []string{"krb5", "spnego"}

func asInitiator(i *Initiator, mech string) stepper {
	if mech == "spnego" {
		return NewSPNEGOInitiator(i)
	}
	return i
}

func asAcceptor(a *Acceptor, mech string) stepper {
	if mech == "spnego" {
		return NewSPNEGOAcceptor(a)
	}
	return a
}

func TestMITAccepts(t *testing.T) {
	for _, e := range etypes {
		for _, mech := range mechs {
			for _, flags := range []Flags{DefaultFlags, DefaultFlags &^ FlagMutual, FlagMutual | FlagConf | FlagInteg} {
				t.Run(fmt.Sprintf("%v/%s/%v", e, mech, flags), func(t *testing.T) {
					r := newRealm(t, e)
					peer := startMIT(t, r, mitConfig{role: "accept", mech: mech})
					ini := asInitiator(r.initiator(t, func(c *InitiatorConfig) { c.Flags = flags }), mech)
					if _, err := converse(ini, peer); err != nil {
						t.Fatal(err)
					}
					names := peer.must(map[string]any{"op": "names"})
					if names.Initiator != clientName.String() {
						t.Errorf("MIT accepted %q", names.Initiator)
					}
					if got := Flags(names.Flags) & DefaultFlags; got != flags {
						t.Errorf("MIT sees the flags %v, want %v", got, flags)
					}
					peer.exchange(t, ini.Context())
				})
			}
		}
	}
}

func TestMITInitiates(t *testing.T) {
	for _, e := range etypes {
		for _, mech := range mechs {
			for _, flags := range []Flags{DefaultFlags, DefaultFlags &^ FlagMutual, FlagMutual | FlagConf | FlagInteg} {
				t.Run(fmt.Sprintf("%v/%s/%v", e, mech, flags), func(t *testing.T) {
					r := newRealm(t, e)
					peer := startMIT(t, r, mitConfig{role: "initiate", mech: mech, flags: flags})
					acc := asAcceptor(r.acceptor(t, nil), mech)
					tokens, err := converse(peer, acc)
					if err != nil {
						t.Fatal(err)
					}
					if want := 2; tokens > want {
						t.Errorf("%d tokens, want %d: one round trip", tokens, want)
					}
					c := acc.Context()
					if !c.Client().Equal(clientName) || !c.Server().Equal(serverName) {
						t.Errorf("accepted %v for %v", c.Client(), c.Server())
					}
					if got := c.Flags() & DefaultFlags; !got.Has(flags) {
						t.Errorf("flags %v, want %v", got, flags)
					}
					peer.exchange(t, c)
				})
			}
		}
	}
}

var (
	ourChannel   = TLSServerEndPoint(bytes.Repeat([]byte{1}, 32))
	otherChannel = TLSServerEndPoint(bytes.Repeat([]byte{2}, 32))
)

func TestMITChecksOurBindings(t *testing.T) {
	for name, c := range map[string]struct {
		ours, theirs *ChannelBindings
		ok           bool
	}{
		"the same channel":         {ourChannel, ourChannel, true},
		"another channel":          {otherChannel, ourChannel, false},
		"MIT is on no channel":     {ourChannel, nil, true},
		"we hide that we are in":   {nil, ourChannel, false}, // because we advertise
		"neither is on a channel":  {nil, nil, true},
		"we are on an empty name":  {&ChannelBindings{}, ourChannel, false},
		"both are on an empty one": {&ChannelBindings{}, &ChannelBindings{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRealm(t, crypto.AES256SHA1)
			peer := startMIT(t, r, mitConfig{role: "accept", mech: "krb5", bindings: c.theirs})
			_, err := converse(r.initiator(t, func(cfg *InitiatorConfig) { cfg.ChannelBindings = c.ours }), peer)
			if c.ok && err != nil || !c.ok && (err == nil || !strings.Contains(err.Error(), "hannel binding")) {
				t.Errorf("MIT says %v, want success %t", err, c.ok)
			}
		})
	}
}

func TestWeCheckMITsBindings(t *testing.T) {
	type want struct{ ok, bound bool }
	for name, c := range map[string]struct {
		theirs *ChannelBindings
		aware  bool
		want   map[BindingPolicy]want
	}{
		"the same channel": {ourChannel, false, map[BindingPolicy]want{
			BindNever: {true, false}, BindWhenSupported: {true, true}, BindAlways: {true, true}}},
		"the same channel, advertised": {ourChannel, true, map[BindingPolicy]want{
			BindNever: {true, false}, BindWhenSupported: {true, true}, BindAlways: {true, true}}},
		"another channel": {otherChannel, false, map[BindingPolicy]want{
			BindNever: {true, false}, BindWhenSupported: {false, false}, BindAlways: {false, false}}},
		"no bindings": {nil, false, map[BindingPolicy]want{
			BindNever: {true, false}, BindWhenSupported: {true, false}, BindAlways: {false, false}}},
		"no bindings, yet advertised": {nil, true, map[BindingPolicy]want{
			BindNever: {true, false}, BindWhenSupported: {false, false}, BindAlways: {false, false}}},
	} {
		for policy, w := range c.want {
			t.Run(fmt.Sprintf("%s, policy %d", name, policy), func(t *testing.T) {
				r := newRealm(t, crypto.AES256SHA1)
				peer := startMIT(t, r, mitConfig{role: "initiate", mech: "spnego", flags: DefaultFlags, bindings: c.theirs, aware: c.aware})
				acc := NewSPNEGOAcceptor(r.acceptor(t, func(cfg *AcceptorConfig) { cfg.ChannelBindings, cfg.Binding = ourChannel, policy }))
				_, err := converse(peer, acc)
				if w.ok && err != nil || !w.ok && !errors.Is(err, ErrBindings) {
					t.Fatalf("%v, want success %t", err, w.ok)
				}
				if w.ok && acc.Context().Bound() != w.bound {
					t.Errorf("Bound is %t", !w.bound)
				}
			})
		}
	}
}

// MIT understands our KRB-ERROR.
func TestMITReadsOurError(t *testing.T) {
	r := newRealm(t, crypto.AES256SHA1)
	peer := startMIT(t, r, mitConfig{role: "initiate", mech: "krb5", flags: DefaultFlags})
	acc := r.acceptor(t, func(c *AcceptorConfig) { c.Now = func() time.Time { return r.now.Add(time.Hour) } })
	token, _, err := peer.Step(nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, _, err := acc.Step(token)
	if !errors.Is(err, krb5.ErrSkew) || len(answer) == 0 {
		t.Fatalf("we say %v with a token of %d bytes", err, len(answer))
	}
	if _, _, err = peer.Step(answer); err == nil || !strings.Contains(err.Error(), "Clock skew too great") {
		t.Errorf("MIT reads %v", err)
	}
}
