package kdc_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/account"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/dc/kdc"
)

const (
	alicePassword = "Wonder1and!"
	webPassword   = "Comp-web1-Pass!"
)

// realm is a domain with a KDC on loopback, over UDP and TCP on one port.
type realm struct {
	*dctest.Domain
	accounts *account.Accounts
	server   *kdc.Server
	addr     netip.AddrPort
}

// newRealm starts a KDC for a domain with a user, a host and a gMSA.
func newRealm(t testing.TB, change func(*kdc.Config)) *realm {
	t.Helper()
	d := dctest.NewAt(t, time.Now())
	d.Insert(t, dctest.Object{Class: "user", Name: "alice", Password: alicePassword})
	d.Insert(t, dctest.Object{Class: "user", Name: "bob", Password: alicePassword})
	d.Insert(t, dctest.Object{Class: "computer", Name: "web1$", Password: webPassword,
		Values: map[string][]string{"servicePrincipalName": {"HOST/web1.contoso.com", "HOST/web1"}}})
	d.Insert(t, dctest.Object{Class: "msDS-GroupManagedServiceAccount", Name: "webapp01$", ManagedDays: 30,
		Values: map[string][]string{"servicePrincipalName": {"http/app.contoso.com"}}})
	a := account.New(account.Config{Directory: d.Directory, Audit: d.Events})
	cfg := kdc.Config{Accounts: a}
	if change != nil {
		change(&cfg)
	}
	r := &realm{Domain: d, accounts: a, server: kdc.New(cfg)}
	r.serve(t)
	return r
}

func (r *realm) serve(t testing.TB) {
	t.Helper()
	l, err := (&net.ListenConfig{KeepAlive: -1}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.addr = l.Addr().(*net.TCPAddr).AddrPort()
	p, err := net.ListenPacket("udp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	run := func(what string, serve func() error) {
		wg.Go(func() {
			if err := serve(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		})
	}
	run("TCP", func() error { return r.server.Serve(ctx, l) })
	run("UDP", func() error { return r.server.ServePacket(ctx, p) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// env is the environment in which MIT's and Heimdal's programs find the KDC.
func (r *realm) env(t testing.TB) []string {
	t.Helper()
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	text := fmt.Sprintf("[libdefaults]\ndefault_realm = CONTOSO.COM\ndns_lookup_kdc = false\ndns_lookup_realm = false\n"+
		"dns_canonicalize_hostname = false\nrdns = false\n[realms]\nCONTOSO.COM = {\nkdc = %[1]s\n}\n"+
		"[domain_realm]\n.contoso.com = CONTOSO.COM\n", r.addr)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"KRB5_CONFIG=" + conf, "KRB5CCNAME=FILE:" + filepath.Join(dir, "ccache"), "LC_ALL=C", "DIR=" + dir}
}
