package ldapd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
)

// loadVariable makes a process of this test the client of a benchmark:
// "ADDRESS REQUEST REQUESTS CONNECTIONS CA", the last "-" for a client without TLS.
const loadVariable = "GMSA_LDAPD_LOAD"

// benchmarkAttributes are the five of reference figures of other servers.
var benchmarkAttributes = []string{"cn", "objectClass", "sAMAccountName", "objectGUID", "whenCreated"}

// load is what a client of a benchmark asks again and again.
func load(name string) []byte {
	switch name {
	case "search":
		return request(1, ldapmsg.OpSearchRequest, searchBody("CN=Domain Admins,CN=Users,DC=contoso,DC=com", 0, "(objectClass=*)", benchmarkAttributes...))
	case "bind":
		return request(1, ldapmsg.OpBindRequest, bindBody("alice@contoso.com", 0x80, []byte(alicePassword)))
	}
	panic("no load " + name)
}

// runLoad is the client process of a benchmark.
func runLoad(text string) {
	var address, name, ca string
	var requests, connections int
	if _, err := fmt.Sscanf(text, "%s %s %d %d %s", &address, &name, &requests, &connections, &ca); err != nil {
		panic(err)
	}
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() { ask(address, ca, load(name), name == "search" && ca != "-", (requests+i)/connections) })
	}
	wg.Wait()
}

// ask sends a request n times, each after the answer to the one before. A search in TLS
// binds first.
func ask(address, ca string, q []byte, bind bool, n int) {
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	conn, err := net.Dial("tcp", address)
	check(err)
	if ca != "-" {
		pem, err := os.ReadFile(ca)
		check(err)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(pem)
		conn = tls.Client(conn, &tls.Config{ServerName: hostName, RootCAs: roots})
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 64<<10)
	answer := func(q []byte) {
		_, err := conn.Write(q)
		check(err)
		for have := 0; ; {
			got, err := conn.Read(buf[have:])
			check(err)
			have += got
			for {
				size, err := adproto.MessageSize(buf[:have], len(buf))
				check(err)
				if size == 0 || size > have {
					break
				}
				m, err := ldapmsg.Parse(buf[:size])
				check(err)
				last := m.Op != ldapmsg.OpSearchEntry
				if last && m.Body[2] != 0 {
					check(fmt.Errorf("result %d", m.Body[2]))
				}
				copy(buf, buf[size:have])
				if have -= size; last {
					return
				}
			}
		}
	}
	if bind {
		answer(load("bind"))
	}
	for range n {
		answer(q)
	}
}

// BenchmarkServer measures what a request costs the server: CPU time of this process
// by request, while eight connections of another process ask. The plain search is on a
// connection that the benchmark has bound, for comparison with servers that take
// passwords in the clear.
func BenchmarkServer(b *testing.B) {
	f := start(b, func(cfg *Config) { cfg.Log = nil })
	who := f.Caller(b, admin)
	plain := f.listen(b, func(ctx context.Context, l net.Listener) error {
		var wg sync.WaitGroup
		defer wg.Wait()
		defer context.AfterFunc(ctx, func() { _ = l.Close() })()
		for {
			sock, err := l.Accept()
			if err != nil {
				return nil
			}
			wg.Go(func() {
				c := newConn(f.server, sock, netip.AddrPort{}, endpoint{})
				c.become(who)
				c.run(ctx)
			})
		}
	})
	for _, c := range []struct{ name, address, load, ca string }{
		{"base search, 5 attributes, plain", plain, "search", "-"},
		{"base search, 5 attributes, TLS", f.tls, "search", f.caFile},
		{"simple bind, TLS", f.tls, "bind", f.caFile},
	} {
		b.Run(c.name, func(b *testing.B) {
			client := exec.Command(os.Args[0])
			client.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %d 8 %s", loadVariable, c.address, c.load, b.N, c.ca))
			before := dctest.CPUTime(b)
			b.ResetTimer()
			out, err := client.CombinedOutput()
			b.StopTimer()
			if err != nil {
				b.Fatalf("%v\n%s", err, out)
			}
			b.ReportMetric(float64((dctest.CPUTime(b)-before).Nanoseconds())/1000/float64(b.N), "server-us/op")
		})
	}
}

// BenchmarkRequest is a base search without the socket and the directory: what reading
// the request and writing its entry cost.
func BenchmarkRequest(b *testing.B) {
	q := load("search")
	values := [][]byte{[]byte("Domain Admins"), []byte("a value")}
	var out []byte
	b.ReportAllocs()
	for b.Loop() {
		m, err := ldapmsg.Parse(q)
		if err != nil {
			b.Fatal(err)
		}
		s, err := m.Search()
		if err != nil {
			b.Fatal(err)
		}
		e := ldapmsg.BeginEntry(out[:0], m.ID, s.Base)
		for _, a := range s.Attributes {
			e.Attribute(a, values)
		}
		out = ldapmsg.AppendResult(e.End(), m.ID, ldapmsg.OpSearchDone, ldapmsg.Result{})
	}
}
