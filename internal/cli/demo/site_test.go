package demo

import (
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/domaintest"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// siteOf serves a site of a computer of the domain, and says where.
func siteOf(t *testing.T, d *domaintest.Domain) (address string) {
	t.Helper()
	web := d.Computer("web1")
	d.AddSPN(web, "http/mysite.contoso.com")
	l, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	site := NewSite("mysite.contoso.com", d.Keytab(web, "http/mysite.contoso.com"), d.Now)
	ended := make(chan error, 1)
	go func() { ended <- site.Serve(t.Context(), l) }()
	t.Cleanup(func() {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l.Addr().String()
}

// ticketOf is a ticket of an account for a service, got with its keys.
func ticketOf(t *testing.T, d *domaintest.Domain, a domaintest.Account, service ...string) krb5.Credential {
	t.Helper()
	b, err := os.ReadFile(d.Keytab(a))
	if err != nil {
		t.Fatal(err)
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kclient.New(kclient.Config{Realm: d.Realm, KDCs: kclient.Static{{Host: d.Host, Kerberos: d.KDC()}}, Now: d.Now})
	if err != nil {
		t.Fatal(err)
	}
	tgt, err := client.AS(t.Context(), kclient.ASRequest{Client: kt.Entries[0].Principal.Name, Secret: kclient.Keys(kt.Entries[0].Key)})
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.TGS(t.Context(), kclient.TGSRequest{TGT: tgt.Credential, Server: krb5.NewName(krb5.NameSrvHst, service...)})
	if err != nil {
		t.Fatal(err)
	}
	return res.Credential
}

func TestVisit(t *testing.T) {
	d := domaintest.New(t)
	address := siteOf(t, d)
	alice := d.User("alice")
	v := Visit{URL: "http://mysite.contoso.com/", Address: address, Now: d.Now, Ticket: ticketOf(t, d, alice, "http", "mysite.contoso.com")}
	answer, err := v.Do(t.Context())
	if err != nil || !strings.Contains(answer, "http/mysite.contoso.com@CONTOSO.COM let in alice@CONTOSO.COM") {
		t.Fatalf("%q, %v", answer, err)
	}
	other := v
	other.Ticket = ticketOf(t, d, alice, "ldap", "dc1.contoso.com")
	if answer, err := other.Do(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a ticket for another service: %q, %v", answer, err)
	}
	late := v
	late.Now = func() time.Time { return d.Now().Add(time.Hour) }
	if answer, err := late.Do(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("by a clock that is wrong by an hour: %q, %v", answer, err)
	}
	d.Advance(11 * time.Hour)
	if answer, err := v.Do(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("with a ticket that has ended: %q, %v", answer, err)
	}
}

// TestAVisitorKnowsTheSite: an answer without proof is refused.
func TestAVisitorKnowsTheSite(t *testing.T) {
	d := domaintest.New(t)
	siteOf(t, d)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	impostor := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("WWW-Authenticate", r.Header.Get("Authorization")) // its own token back
	})}
	go func() { _ = impostor.Serve(l) }()
	t.Cleanup(func() { _ = impostor.Close() })
	ticket := ticketOf(t, d, d.User("alice"), "http", "mysite.contoso.com")
	answer, err := Visit{URL: "http://mysite.contoso.com/", Address: l.Addr().String(), Now: d.Now, Ticket: ticket}.Do(t.Context())
	if err == nil || !strings.Contains(err.Error(), "has not proved who it is") {
		t.Errorf("%q, %v", answer, err)
	}
}

func TestSiteRefuses(t *testing.T) {
	address := siteOf(t, domaintest.New(t))
	for name, c := range map[string]struct {
		authorization string
		status        int
	}{
		"nobody":               {"", http.StatusUnauthorized},
		"a password":           {"Basic YWxpY2U6c2VjcmV0", http.StatusUnauthorized},
		"what is no base64":    {"Negotiate %%%", http.StatusBadRequest},
		"an empty token":       {"Negotiate ", http.StatusUnauthorized},
		"what is no token":     {"Negotiate " + base64.StdEncoding.EncodeToString([]byte("hello")), http.StatusUnauthorized},
		"NTLM, which is older": {"Negotiate TlRMTVNTUAABAAAAB4IIogAAAAAAAAAAAAAAAAAAAAAKAGFKAAAADw==", http.StatusUnauthorized},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "mysite.contoso.com"
		if c.authorization != "" {
			req.Header.Set("Authorization", c.authorization)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", name, res.Status, c.status)
		}
	}
}

// TestSiteIsForItsOwnVisitors: a page of another site in a browser of this machine learns
// nothing, neither by a name of its own that points to the loopback nor across sites,
// although the browser would add the proof of who sits before it.
// security 16.
func TestSiteIsForItsOwnVisitors(t *testing.T) {
	address := siteOf(t, domaintest.New(t))
	for name, c := range map[string]struct {
		host    string
		origins []string
		status  int
	}{
		"the site's name":               {"mysite.contoso.com", nil, http.StatusUnauthorized},
		"with a port":                   {"MySite.contoso.com:8080", nil, http.StatusUnauthorized},
		"its own page":                  {"mysite.contoso.com:8080", []string{"http://mysite.contoso.com:8080"}, http.StatusUnauthorized},
		"a name that points here":       {"rebound.example", nil, http.StatusForbidden},
		"the address":                   {address, nil, http.StatusForbidden},
		"localhost":                     {"localhost", nil, http.StatusForbidden},
		"a name that begins like it":    {"mysite.contoso.com.evil.example", nil, http.StatusForbidden},
		"another site's page":           {"mysite.contoso.com", []string{"http://evil.example"}, http.StatusForbidden},
		"a page of nowhere":             {"mysite.contoso.com", []string{"null"}, http.StatusForbidden},
		"a page of another scheme":      {"mysite.contoso.com", []string{"https://mysite.contoso.com"}, http.StatusForbidden},
		"a page of another port":        {"mysite.contoso.com", []string{"http://mysite.contoso.com:8080"}, http.StatusForbidden},
		"its own page and another's":    {"mysite.contoso.com", []string{"http://mysite.contoso.com", "http://evil.example"}, http.StatusForbidden},
		"an origin that begins like it": {"mysite.contoso.com", []string{"http://mysite.contoso.com.evil.example"}, http.StatusForbidden},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Header["Origin"] = c.host, c.origins
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != c.status {
			t.Errorf("%s: %s, want %d", name, res.Status, c.status)
		}
		if challenge := res.Header.Get("WWW-Authenticate"); (challenge == "") != (c.status == http.StatusForbidden) {
			t.Errorf("%s: the browser is asked for %q", name, challenge)
		}
	}
}

// security 16.
func TestSiteListensOnTheLoopbackAlone(t *testing.T) {
	for address, ok := range map[string]bool{
		"127.0.0.1:0": true, "127.1.2.3:0": true, "[::1]:0": true,
		"0.0.0.0:0": false, ":0": false, "[::]:0": false, "10.77.0.10:0": false, "[::ffff:0.0.0.0]:0": false, "example.com:0": false, "127.0.0.1": false, "": false,
	} {
		l, err := Listen(t.Context(), address)
		if err == nil {
			if ip := l.Addr().(*net.TCPAddr).IP; !ip.IsLoopback() {
				t.Errorf("%q: listens on %v", address, ip)
			}
			_ = l.Close()
		}
		if errors.Is(err, ErrNotLoopback) == ok {
			t.Errorf("%q: %v", address, err)
		}
	}
}

// TestCurlLogsIn with MIT's library.
func TestCurlLogsIn(t *testing.T) {
	lab.Need(t, "curl", "kinit")
	d := domaintest.New(t)
	address := siteOf(t, d)
	alice := d.User("alice")
	env := d.Env()
	kinit := exec.CommandContext(t.Context(), "kinit", "-k", "-t", d.Keytab(alice), alice.Principal())
	kinit.Env = env
	if out, err := kinit.CombinedOutput(); err != nil {
		t.Fatalf("kinit: %v\n%s", err, out)
	}
	curl := exec.CommandContext(t.Context(), "curl", "-sS", "--noproxy", "*", "--negotiate", "-u", ":", "--connect-to", "mysite.contoso.com:80:"+address, "http://mysite.contoso.com/")
	curl.Env = env
	if out, err := curl.CombinedOutput(); err != nil || !strings.Contains(string(out), "let in alice@CONTOSO.COM") {
		t.Errorf("curl: %v\n%s", err, out)
	}
}

func TestClockIsShared(t *testing.T) {
	path := filepath.Join(t.TempDir(), "clock")
	mine, err := CreateClock(path, -time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := OpenClock(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, offset := range []time.Duration{-time.Hour, 0, 30 * 24 * time.Hour} {
		if err := mine.Set(offset); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*Clock{mine, theirs} {
			if off := time.Until(c.Now()) - offset; off.Abs() > time.Minute {
				t.Errorf("offset %v: the clock is off by %v", offset, off)
			}
		}
	}
	if err := theirs.Set(0); err == nil {
		t.Error("whoever is given the clock can move it")
	}
	if _, err := CreateClock(path, 0); err == nil {
		t.Error("a clock takes the place of another")
	}
	if err := mine.Close(); err != nil {
		t.Error(err)
	}
	if off := time.Until(mine.Now()); off.Abs() > time.Minute {
		t.Errorf("without its file the clock is off by %v", off)
	}
	if err := theirs.Close(); err != nil {
		t.Error(err)
	}
}

func TestScript(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gmsa")
	for name, c := range map[string]struct {
		text  string
		clock string
		ok    bool
	}{
		"a script":      {string(Script("/usr/bin/gmsa", "/tmp/demo/clock")), "/tmp/demo/clock", true},
		"a shell's":     {"#!/bin/sh\necho\n", "", false},
		"more lines":    {string(Script("/usr/bin/gmsa", "/tmp/clock")) + "exit\n", "", false},
		"no clock":      {"#!/usr/bin/gmsa demo\n", "", false},
		"another file":  {"demo\n/tmp/clock\n", "", false},
		"a large file":  {"#!" + strings.Repeat("x", maxScript) + " demo\n/tmp/clock\n", "", false},
		"an empty file": {"", "", false},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if clock, ok := ReadScript(path); clock != c.clock || ok != c.ok {
			t.Errorf("%s: got %q, %v", name, clock, ok)
		}
	}
	if _, ok := ReadScript(filepath.Join(t.TempDir(), "none")); ok {
		t.Error("a file that is not there is a script")
	}
}
