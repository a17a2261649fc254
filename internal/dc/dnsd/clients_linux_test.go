package dnsd_test

import (
	"context"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/dnsd"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestMITFindsTheKDCByName: with an empty krb5.conf, as a host that knows its name
// server and nothing else.
func TestMITFindsTheKDCByName(t *testing.T) {
	lab.Need(t, "kinit", "getent")
	n := lab.Netns(t, "client1.contoso.com")
	n.WriteFile("/etc/krb5.conf", []byte("[libdefaults]\ndns_lookup_kdc = true\n"), 0o644)
	n.WriteFile("/etc/nsswitch.conf", []byte("hosts: files dns\n"), 0o644)
	d, _, _ := newDomain(t)
	serveIn(t, n, dnsd.Config{Directory: d, Addresses: []netip.Addr{lab.NetServer}, Hosts: map[string][]netip.Addr{"client1": {lab.NetClient}}})
	// A KDC that is found, and then ends each connection.
	l, err := n.Listen("tcp", netip.AddrPortFrom(lab.NetServer, 88).String())
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan int, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			close(asked)
			return
		}
		var b [4]byte
		n, _ := io.ReadFull(conn, b[:])
		_ = conn.Close()
		asked <- n
	}()
	out, err := n.Try([]string{"KRB5_TRACE=/dev/stdout"}, "secret\n", "kinit", "alice@CONTOSO.COM")
	_ = l.Close()
	if err == nil {
		t.Error("kinit succeeds without a KDC")
	}
	if got := <-asked; got != 4 {
		t.Errorf("the KDC was asked with %d bytes", got)
	}
	for _, want := range []string{"Sending DNS SRV query for _kerberos._tcp.CONTOSO.COM", "SRV answer: 0 100 88 \"dc1.contoso.com.\"", "stream " + lab.NetServer.String() + ":88"} {
		if !strings.Contains(out, want) {
			t.Errorf("the trace lacks %q:\n%s", want, out)
		}
	}
	// libc finds both ways, which OpenLDAP's clients name services by.
	for _, name := range []string{"dc1.contoso.com", lab.NetServer.String()} {
		if out := n.Run("getent", "hosts", name); !strings.Contains(out, "dc1.contoso.com") || !strings.Contains(out, lab.NetServer.String()) {
			t.Errorf("getent hosts %s: %q", name, out)
		}
	}
	if out, err := n.TryRun("getent", "hosts", "www.example.com"); err == nil {
		t.Errorf("a foreign name is known: %q", out)
	}
}

// serveIn runs a server in a Net, on the port that its resolver asks.
func serveIn(t *testing.T, n *lab.Net, cfg dnsd.Config) {
	t.Helper()
	s := newServer(t, cfg)
	at := netip.AddrPortFrom(lab.NetServer, 53).String()
	l, err := n.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := n.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	run(t, func(ctx context.Context) error { return s.Serve(ctx, l) }, func(ctx context.Context) error { return s.ServePacket(ctx, conn) })
}
