package dc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// Ports are where the services of a controller listen; 0 lets the system choose.
type Ports struct {
	DNS      uint16 `json:"dns"`      // 53, UDP and TCP
	Kerberos uint16 `json:"kerberos"` // 88, UDP and TCP
	LDAP     uint16 `json:"ldap"`     // 389, TCP, and UDP for the netlogon ping
	Kpasswd  uint16 `json:"kpasswd"`  // 464, UDP and TCP
	LDAPS    uint16 `json:"ldaps"`    // 636
	GC       uint16 `json:"gc"`       // 3268
	GCS      uint16 `json:"gcs"`      // 3269
}

// StandardPorts are those that clients look for first.
func StandardPorts() Ports {
	return Ports{DNS: 53, Kerberos: 88, LDAP: 389, Kpasswd: 464, LDAPS: 636, GC: 3268, GCS: 3269}
}

// Offset adds n to every port. It fails where one would be beyond the last.
func (p Ports) Offset(n uint16) (Ports, error) {
	for _, port := range p.all() {
		if *port > ^uint16(0)-n {
			return p, fmt.Errorf("port %d + %d is beyond %d", *port, n, ^uint16(0))
		}
		*port += n
	}
	return p, nil
}

// The services, as the index of their port in all.
const (
	serviceDNS = iota
	serviceKerberos
	serviceLDAP
	serviceKpasswd
	serviceLDAPS
	serviceGC
	serviceGCS
)

func (p *Ports) all() []*uint16 {
	return []*uint16{&p.DNS, &p.Kerberos, &p.LDAP, &p.Kpasswd, &p.LDAPS, &p.GC, &p.GCS}
}

// overUDP reports whether a service answers datagrams too.
func overUDP(service int) bool { return service <= serviceKpasswd }

// Sockets are the open sockets of a controller.
type Sockets struct {
	// Addresses are those that were asked for, and Ports what they listen on.
	Addresses []netip.Addr
	Ports     Ports

	streams []stream
	packets []packet
}

type stream struct {
	service int
	net.Listener
}

type packet struct {
	service int
	net.PacketConn
}

// Listen opens the sockets of all services on each of the addresses. A port that is left
// to the system is the same on all of them, and for UDP and TCP.
func Listen(ctx context.Context, addresses []netip.Addr, ports Ports) (_ *Sockets, err error) {
	s := &Sockets{Addresses: slices.Clone(addresses), Ports: ports}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for service, port := range s.Ports.all() {
		if *port != 0 {
			if err := s.listen(ctx, service, *port); err != nil {
				return nil, err
			}
			continue
		}
		if *port, err = s.listenSomewhere(ctx, service); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// attempts is how many free ports are tried that turn out to be taken on another address
// or for UDP.
const attempts = 50

func (s *Sockets) listenSomewhere(ctx context.Context, service int) (uint16, error) {
	for try := 1; ; try++ {
		port, err := freePort(ctx, s.Addresses[0])
		if err == nil {
			err = s.listen(ctx, service, port)
		}
		if err == nil || !errors.Is(err, syscall.EADDRINUSE) || try == attempts {
			return port, err
		}
	}
}

// freePort is a port that nobody listens on at this moment.
func freePort(ctx context.Context, addr netip.Addr) (uint16, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}

// listen opens the sockets of a service on one port of all addresses, or none.
func (s *Sockets) listen(ctx context.Context, service int, port uint16) error {
	streams, packets := len(s.streams), len(s.packets)
	for _, addr := range s.Addresses {
		if err := s.open(ctx, service, netip.AddrPortFrom(addr, port).String()); err != nil {
			err = errors.Join(err, closeAll(s.streams[streams:]), closeAll(s.packets[packets:]))
			s.streams, s.packets = s.streams[:streams], s.packets[:packets]
			return err
		}
	}
	return nil
}

func (s *Sockets) open(ctx context.Context, service int, at string) error {
	// Every service closes connections that are silent, so that TCP need not look after
	// them: that is four system calls for a connection.
	cfg := net.ListenConfig{KeepAlive: -1}
	l, err := cfg.Listen(ctx, "tcp", at)
	if err != nil {
		return err
	}
	s.streams = append(s.streams, stream{service, l})
	if !overUDP(service) {
		return nil
	}
	p, err := cfg.ListenPacket(ctx, "udp", at)
	if err != nil {
		return err
	}
	s.packets = append(s.packets, packet{service, p})
	return nil
}

func closeAll[T interface{ Close() error }](sockets []T) (err error) {
	for _, s := range sockets {
		if closeErr := s.Close(); !errors.Is(closeErr, net.ErrClosed) {
			err = errors.Join(err, closeErr)
		}
	}
	return err
}

// Close closes what [Controller.Run] has not closed. It is idempotent.
func (s *Sockets) Close() error { return errors.Join(closeAll(s.streams), closeAll(s.packets)) }

// Expand replaces an unspecified address, 0.0.0.0 or ::, by the addresses of this machine
// of its kind, because clients are told where to find the controller, and answers must come
// from where they were asked. Link-local addresses are left out.
func Expand(addr netip.Addr) ([]netip.Addr, error) {
	if !addr.IsUnspecified() {
		return []netip.Addr{addr}, nil
	}
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of this machine: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ok && ip.Is4() == addr.Is4() && !ip.IsLinkLocalUnicast() {
			out = append(out, ip)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("this machine has no address of the kind of %s", addr)
	}
	return out, nil
}
