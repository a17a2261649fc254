package ldapd

import (
	"context"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/adproto/ldapmsg"
)

// FuzzConnection lets the whole server read what comes, as a client that has bound as
// an administrator, so that nothing of it is out of reach: it neither panics nor hangs,
// and what it answers is LDAP.
func FuzzConnection(f *testing.F) {
	fx := start(f, func(cfg *Config) { cfg.Log = nil })
	who := fx.Caller(f, admin)
	for _, b := range [][]byte{
		request(1, ldapmsg.OpSearchRequest, rootSearch),
		request(1, ldapmsg.OpSearchRequest, searchBody("DC=contoso,DC=com", 2, "(&(cn=a*)(|(x>=1)(!(objectSid=S-1-1-0))))", "cn", "member;range=0-*")),
		request(1, ldapmsg.OpBindRequest, bindBody("", 0xa3, slices.Concat(octets(mechanismSPNEGO), octets("\x60\x10")))),
		request(1, ldapmsg.OpCompareRequest, slices.Concat(octets("DC=contoso,DC=com"), []byte{0x30, 6}, octets("cn"), octets(""))),
		request(1, ldapmsg.OpModifyRequest, slices.Concat(octets("<WKGUID=x,DC=contoso>"), []byte{0x30, 0})),
		request(1, ldapmsg.OpModifyDNRequest, slices.Concat(octets("CN=a"), octets("CN=b"), []byte{1, 1, 0xff})),
		request(1, ldapmsg.OpAbandonRequest, []byte{1}),
		request(1, ldapmsg.OpExtendedRequest, extended("1.3.6.1.4.1.4203.1.11.3")),
	} {
		f.Add(slices.Concat(b, b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		client, sock := net.Pipe()
		c := newConn(fx.server, sock, netip.AddrPort{}, endpoint{})
		c.become(who)
		var wg sync.WaitGroup
		wg.Go(func() { c.run(context.Background()) })
		wg.Go(func() {
			_, _ = client.Write(append(b, request(9, ldapmsg.OpUnbindRequest, nil)...))
			// Where that is inside of a message, the server waits for more.
			_ = client.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		})
		answers, _ := io.ReadAll(client)
		_ = client.Close()
		wg.Wait()
		for {
			size, err := adproto.MessageSize(answers, 16<<20)
			if err != nil {
				t.Fatal(err)
			}
			if size == 0 || size > len(answers) {
				return // cut off by the deadline, or the end
			}
			if err := adproto.CheckMessage(answers[:size]); err != nil {
				t.Fatalf("% x: %v", answers[:size], err)
			}
			answers = answers[size:]
		}
	})
}
