//go:build unix

package kclient_test

import (
	"context"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
)

// cpu is the processor time of this process.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkSambaRefresh is a ticket asked for anew with the account's key, which
// is what the guard does before a ticket ends. What counts is client-µs/op, our
// own processor time: the rest is Samba's.
func BenchmarkSambaRefresh(b *testing.B) {
	dc := lab.Samba(b, lab.SambaConfig{})
	for name, keep := range map[string]time.Duration{"kept connection": 0, "connection each": -1} {
		b.Run(name, func(b *testing.B) {
			c, err := kclient.New(kclient.Config{Realm: lab.Realm, KDCs: kclient.StaticKDCs(dc.IP.String()), IdleTimeout: keep})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			req := host()
			first, err := c.AS(context.Background(), req)
			if err != nil {
				b.Fatal(err)
			}
			req.Secret = kclient.Keys(first.ClientKey)
			began := cpu(b)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.AS(context.Background(), req); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-began).Microseconds())/float64(b.N), "client-µs/op")
		})
	}
}

// BenchmarkExchange runs the client and the test KDC in one process, over TCP on
// loopback: an upper bound of the client's cost.
func BenchmarkExchange(b *testing.B) {
	k := newTestKDC(b)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go k.serveTCP(conn)
		}
	}()
	c, err := kclient.New(kclient.Config{Realm: realm, KDCs: kclient.Static{{Kerberos: l.Addr().String()}}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	req := k.keyRequest()
	tgt, err := c.AS(b.Context(), req)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("AS", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.AS(b.Context(), req); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("TGS", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.TGS(b.Context(), kclient.TGSRequest{TGT: tgt.Credential, Server: krb5.NewName(3, "ldap", "dc")}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
