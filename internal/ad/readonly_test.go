package ad_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// readOnlyDial is a way to a controller by which it says of itself that it is read-only:
// its answers to pings come without the flag of a writable one. All else is as it says.
type readOnlyDial struct {
	domain  dtyp.GUID
	address string // of the controller, on this way
	to      string // where it is
}

func (r readOnlyDial) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host != r.address {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(r.to, port))
	return readOnlyConn{conn, r.domain.Append(nil)}, err
}

type readOnlyConn struct {
	net.Conn
	domain []byte
}

// Read clears the flag in NETLOGON_SAM_LOGON_RESPONSE_EX, [MS-ADTS] 6.3.1.9, where four
// bytes of flags stand before the GUID of the domain.
func (c readOnlyConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if i := bytes.Index(b[:max(n, 0)], c.domain); i >= 4 {
		b[i-3] &^= byte(adproto.DSWritable >> 8)
	}
	return n, err
}

// Where only a read-only controller answers nothing is written, and the error says why;
// where there is a writable one too, it is asked.
func TestReadOnlyControllers(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	guid, err := dtyp.ParseGUID(lab.DomainGUID)
	if err != nil {
		t.Fatal(err)
	}
	way := readOnlyDial{domain: guid, address: relayAddress, to: dc.IP.String()}
	through := func(servers ...string) *ad.Session {
		cfg := config(t, dc)
		cfg.Locate = locate.Config{Domain: lab.DNSDomain, Servers: servers, Dial: way.dial, Now: dc.Now}
		return session(t, domain(t, cfg), password(t, "Administrator"))
	}
	group := ad.NewGroup{Name: "NotOnReadOnly", Type: adproto.GroupGlobal}

	alone := through(relayAddress)
	if _, err := alone.ServiceAccount(t.Context(), "webapp01"); err != nil {
		t.Errorf("read: %v", err)
	}
	_, err = alone.CreateGroup(t.Context(), group)
	if !errors.Is(err, locate.ErrNoController) || !strings.Contains(err.Error(), "is no writable domain controller") {
		t.Errorf("write: %v", err)
	}
	both := through(relayAddress, dc.IP.String())
	if _, err := both.CreateGroup(t.Context(), group); err != nil {
		t.Errorf("write, with a writable controller: %v", err)
	}
	t.Cleanup(func() { dc.Delete(t, "NotOnReadOnly") })
	_, err = alone.RemoveGroup(t.Context(), "NotOnReadOnly")
	if !errors.Is(err, locate.ErrNoController) {
		t.Errorf("delete: %v", err)
	}
}
