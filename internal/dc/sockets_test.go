package dc

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
)

func TestPortsAreChosenOnceForAllAddresses(t *testing.T) {
	addresses := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")}
	s, err := Listen(t.Context(), addresses, Ports{})
	if err != nil {
		t.Skipf("needs 127.0.0.2: %v", err)
	}
	defer s.Close()
	if len(s.streams) != 14 || len(s.packets) != 8 {
		t.Fatalf("%d streams, %d packets", len(s.streams), len(s.packets))
	}
	for _, port := range s.Ports.all() {
		for _, addr := range addresses {
			conn, err := net.Dial("tcp", netip.AddrPortFrom(addr, *port).String())
			if err != nil {
				t.Errorf("%s:%d: %v", addr, *port, err)
				continue
			}
			conn.Close()
		}
	}
}

// TestAPortThatIsTaken is an error, and what was opened before is closed.
func TestAPortThatIsTaken(t *testing.T) {
	loopback := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	first, err := Listen(t.Context(), loopback, Ports{})
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	ports := Ports{DNS: first.Ports.DNS}
	if _, err := Listen(t.Context(), loopback, ports); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("got %v", err)
	}
	if err := errors.Join(first.Close(), first.Close()); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	again, err := Listen(t.Context(), loopback, first.Ports)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestPortsWithAnOffset(t *testing.T) {
	p, err := StandardPorts().Offset(10000)
	if err != nil || p != (Ports{DNS: 10053, Kerberos: 10088, LDAP: 10389, Kpasswd: 10464, LDAPS: 10636, GC: 13268, GCS: 13269}) {
		t.Errorf("got %+v, %v", p, err)
	}
	if _, err := StandardPorts().Offset(62268); err == nil {
		t.Error("port 65537 is accepted")
	}
}

func TestAnUnspecifiedAddressIsAllOfTheMachines(t *testing.T) {
	all, err := Expand(netip.IPv4Unspecified())
	if err != nil {
		t.Fatal(err)
	}
	loopback := false
	for _, a := range all {
		if !a.Is4() || a.IsUnspecified() {
			t.Errorf("got %s", a)
		}
		loopback = loopback || a.IsLoopback()
	}
	if !loopback {
		t.Errorf("127.0.0.1 is not among %v", all)
	}
	if one, err := Expand(netip.MustParseAddr("192.0.2.1")); err != nil || len(one) != 1 {
		t.Errorf("got %v, %v", one, err)
	}
}
