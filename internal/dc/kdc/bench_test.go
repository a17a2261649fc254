package kdc_test

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// BenchmarkServer measures what an exchange costs the server, in CPU time of this
// process per exchange (server-us/op), while another process is the client. Pin both to
// be compared with other servers: KDC_BENCH_CLIENT_CPU=1 taskset -c 0 go test -bench Server.
func BenchmarkServer(b *testing.B) {
	r := newRealm(b, nil)
	for _, c := range []struct{ name, exchange, transport string }{
		{"AS, PAC, kept TCP", "as", "kept"},
		{"AS, PAC, a TCP connection each", "as", "each"},
		{"AS, no PAC, UDP", "as-nopac", "udp"},
		{"TGS, PAC, kept TCP", "tgs", "kept"},
		{"TGS, PAC, a TCP connection each", "tgs", "each"},
	} {
		b.Run(c.name, func(b *testing.B) {
			args := []string{os.Args[0], "-test.run=^$", "-test.bench=^BenchmarkClient$", "-test.benchtime=1x"}
			if cpu := os.Getenv("KDC_BENCH_CLIENT_CPU"); cpu != "" {
				args = append([]string{"taskset", "-c", cpu}, args...)
			}
			client := exec.Command(args[0], args[1:]...)
			client.Env = append(os.Environ(), "KDC_BENCH="+strings.Join([]string{r.addr.String(), c.exchange, c.transport, strconv.Itoa(b.N)}, " "))
			before := dctest.CPUTime(b)
			b.ResetTimer()
			out, err := client.CombinedOutput()
			b.StopTimer()
			if err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			b.ReportMetric(float64((dctest.CPUTime(b)-before).Microseconds())/float64(b.N), "server-us/op")
		})
	}
}

// BenchmarkClient is the client process of BenchmarkServer, and measures nothing itself.
func BenchmarkClient(b *testing.B) {
	f := strings.Fields(os.Getenv("KDC_BENCH"))
	if len(f) != 4 {
		b.Skip("it is part of BenchmarkServer")
	}
	n, err := strconv.Atoi(f[3])
	if err != nil {
		b.Fatal(err)
	}
	cfg := kclient.Config{Realm: "CONTOSO.COM", KDCs: kclient.Static{{Kerberos: f[0]}}, UDP: f[2] == "udp"}
	if f[2] == "each" {
		cfg.IdleTimeout = -1
	}
	c, err := kclient.New(cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	key, err := crypto.StringToKey(crypto.AES256SHA1, []byte(alicePassword), "CONTOSO.COMalice", nil)
	if err != nil {
		b.Fatal(err)
	}
	as := kclient.ASRequest{Client: krb5.NewName(krb5.NamePrincipal, "alice"), NoPAC: f[1] == "as-nopac",
		Secret: kclient.SaltedKeys("CONTOSO.COMalice", true, key)}
	tgt, err := c.AS(b.Context(), as)
	if err != nil {
		b.Fatal(err)
	}
	exchange := func() (err error) {
		if f[1] == "tgs" {
			_, err = c.TGS(b.Context(), kclient.TGSRequest{TGT: tgt.Credential, Server: krb5.NewName(krb5.NameSrvHst, "host", "web1.contoso.com")})
		} else {
			_, err = c.AS(b.Context(), as)
		}
		return err
	}
	const workers = 16 // at a time, as in bench
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			for range (n + i) / workers {
				if err := exchange(); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// client is our own client of the realm.
func (r *realm) client(t testing.TB) *kclient.Client {
	t.Helper()
	c, err := kclient.New(kclient.Config{Realm: "CONTOSO.COM", KDCs: kclient.Static{{Kerberos: r.addr.String()}}, Now: r.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// logOn gets a TGT for alice with all that a TGT can have.
func (r *realm) logOn(t testing.TB, c *kclient.Client) krb5.Credential {
	t.Helper()
	res, err := c.AS(t.Context(), kclient.ASRequest{Client: krb5.NewName(krb5.NamePrincipal, "alice"),
		Secret:  kclient.Password(secret.Copy([]byte(alicePassword))),
		Options: krb5.OptForwardable | krb5.OptProxiable, RenewLifetime: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return res.Credential
}
