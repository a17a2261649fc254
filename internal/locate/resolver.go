package locate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// SRV is one service record: RFC 2782.
type SRV struct {
	Target           string // lower case, without the root's dot
	Port             uint16
	Priority, Weight uint16
	// Addrs are the target's addresses, where the answer carried them.
	Addrs []netip.Addr
}

// Resolver asks DNS. A name that does not exist is an empty answer, not an
// error.
type Resolver interface {
	LookupSRV(ctx context.Context, name string) ([]SRV, error)
	LookupHost(ctx context.Context, host string) ([]netip.Addr, error)
}

// DNS is a Resolver that asks name servers itself, because the system's hides
// addresses and priorities.
type DNS struct {
	// Servers are address, address:port or [address]:port; empty means those of
	// /etc/resolv.conf, and host names then go through the system's resolver,
	// so that /etc/hosts counts. Where there is no such file the system's
	// resolver does everything.
	Servers []string
	// Dial connects to a server; nil means a [net.Dialer].
	Dial DialFunc
}

// Limits of what is taken from DNS.
const (
	dnsTimeout   = 2 * time.Second        // for one server
	dnsRetry     = 400 * time.Millisecond // then the next server is asked as well
	maxSRV       = 64                     // records of one answer
	maxAddrs     = 8                      // addresses of one host
	ednsSize     = 1232                   // bytes, of DNS Flag Day 2020
	resolvConf   = "/etc/resolv.conf"
	dnsPort      = "53"
	maxDNSServer = 4
)

// LookupSRV asks for service records. The order is that of the answer.
func (d *DNS) LookupSRV(ctx context.Context, name string) ([]SRV, error) {
	servers, err := d.servers()
	if err != nil {
		return systemSRV(ctx, name)
	}
	msg, err := d.exchange(ctx, servers, name, dns.TypeSRV)
	if err != nil {
		return nil, err
	}
	glue := map[string][]netip.Addr{}
	for _, rr := range msg.Extra {
		if a, ok := addressOf(rr); ok {
			host := canonical(rr.Header().Name)
			glue[host] = append(glue[host], a)
		}
	}
	var out []SRV
	for _, rr := range msg.Answer {
		r, ok := rr.(*dns.SRV)
		if !ok || r.Target == "." || len(out) == maxSRV {
			continue
		}
		target := canonical(r.Target)
		out = append(out, SRV{Target: target, Port: r.Port, Priority: r.Priority, Weight: r.Weight, Addrs: limit(glue[target], maxAddrs)})
	}
	return out, nil
}

// LookupHost asks for a host's addresses of both families.
func (d *DNS) LookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	if len(d.Servers) == 0 {
		return systemHost(ctx, host)
	}
	servers, err := d.servers()
	if err != nil {
		return nil, err
	}
	type answer struct {
		addrs []netip.Addr
		err   error
	}
	ch := make(chan answer, 2)
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		go func() {
			msg, err := d.exchange(ctx, servers, host, qtype)
			var a answer
			if a.err = err; err == nil {
				for _, rr := range msg.Answer {
					if addr, ok := addressOf(rr); ok {
						a.addrs = append(a.addrs, addr)
					}
				}
			}
			ch <- a
		}()
	}
	first, second := <-ch, <-ch
	addrs := limit(append(first.addrs, second.addrs...), maxAddrs)
	if len(addrs) == 0 {
		return nil, errors.Join(first.err, second.err)
	}
	return addrs, nil
}

func limit[T any](s []T, n int) []T { return s[:min(len(s), n)] }

// canonical is a name for comparison: lower case, without the root's dot.
func canonical(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

func addressOf(rr dns.RR) (netip.Addr, bool) {
	var ip net.IP
	switch r := rr.(type) {
	case *dns.A:
		ip = r.A
	case *dns.AAAA:
		ip = r.AAAA
	}
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

// servers lists host:port of the name servers.
func (d *DNS) servers() ([]string, error) {
	if len(d.Servers) == 0 {
		conf, err := dns.ClientConfigFromFile(resolvConf)
		if err != nil {
			return nil, fmt.Errorf("locate: %w", err)
		}
		var out []string
		for _, s := range limit(conf.Servers, maxDNSServer) {
			out = append(out, net.JoinHostPort(s, conf.Port))
		}
		if len(out) == 0 {
			return nil, fmt.Errorf("locate: no name server in %s", resolvConf)
		}
		return out, nil
	}
	var out []string
	for _, s := range d.Servers {
		if _, _, err := net.SplitHostPort(s); err != nil {
			s = net.JoinHostPort(strings.Trim(s, "[]"), dnsPort)
		}
		out = append(out, s)
	}
	return out, nil
}

// exchange asks the servers in turn, the next one as soon as one fails or is
// slow, and returns the first answer. A name that does not exist gives an
// answer without records.
func (d *DNS) exchange(ctx context.Context, servers []string, name string, qtype uint16) (*dns.Msg, error) {
	type result struct {
		msg *dns.Msg
		err error
	}
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	results := make(chan result)
	running := 0
	defer func() {
		cancel()
		for ; running > 0; running-- {
			<-results
		}
	}()
	next := time.NewTimer(0)
	defer next.Stop()
	var errs []error
	for len(servers) > 0 || running > 0 {
		select {
		case <-next.C:
			if len(servers) > 0 {
				server := servers[0]
				servers, running = servers[1:], running+1
				go func() {
					msg, err := d.ask(ctx, server, name, qtype)
					results <- result{msg, err}
				}()
				next.Reset(dnsRetry)
			}
		case r := <-results:
			running--
			if r.err == nil {
				return r.msg, nil
			}
			errs = append(errs, r.err)
			next.Reset(0)
		}
	}
	return nil, errors.Join(errs...)
}

// ask puts one question to one server, over UDP and, if the answer is
// truncated, over TCP.
func (d *DNS) ask(ctx context.Context, server, name string, qtype uint16) (*dns.Msg, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), qtype)
	q.SetEdns0(ednsSize, false)
	for _, network := range []string{"udp", "tcp"} {
		msg, err := d.askOver(ctx, network, server, q)
		switch {
		case err != nil:
			return nil, fmt.Errorf("DNS %s %s at %s: %w", dns.TypeToString[qtype], name, server, err)
		case msg.Truncated && network == "udp":
		case msg.Rcode == dns.RcodeSuccess || msg.Rcode == dns.RcodeNameError:
			return msg, nil
		default:
			return nil, fmt.Errorf("DNS %s %s at %s: %s", dns.TypeToString[qtype], name, server, dns.RcodeToString[msg.Rcode])
		}
	}
	return nil, fmt.Errorf("DNS %s %s at %s: answer truncated over TCP", dns.TypeToString[qtype], name, server)
}

func (d *DNS) askOver(ctx context.Context, network, server string, q *dns.Msg) (*dns.Msg, error) {
	dial := d.Dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	conn, err := dial(ctx, network, server)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := &dns.Conn{Conn: conn, UDPSize: ednsSize}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	for {
		msg, err := c.ReadMsg()
		if err != nil {
			return nil, err
		}
		// Late or forged datagrams are passed over.
		if msg.Id == q.Id && msg.Response && len(msg.Question) == 1 &&
			msg.Question[0].Qtype == q.Question[0].Qtype && strings.EqualFold(msg.Question[0].Name, q.Question[0].Name) {
			return msg, nil
		}
	}
}

// systemSRV asks the system's resolver.
func systemSRV(ctx context.Context, name string) ([]SRV, error) {
	_, records, err := net.DefaultResolver.LookupSRV(ctx, "", "", name)
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && dnsErr.IsNotFound {
		return nil, nil
	}
	var out []SRV
	for _, r := range limit(records, maxSRV) {
		if r.Target != "." {
			out = append(out, SRV{Target: canonical(r.Target), Port: r.Port, Priority: r.Priority, Weight: r.Weight})
		}
	}
	if len(out) > 0 {
		err = nil // some records of the answer were unusable names
	}
	return out, err
}

// systemHost asks the system's resolver, /etc/hosts included.
func systemHost(ctx context.Context, host string) ([]netip.Addr, error) {
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if dnsErr, ok := errors.AsType[*net.DNSError](err); ok && dnsErr.IsNotFound {
		return nil, nil
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return limit(addrs, maxAddrs), err
}

// orderSRV sorts as RFC 2782 says: by priority; within one priority by a draw
// in which a record's chance is its weight. intn returns a number in [0,n).
func orderSRV(records []SRV, intn func(n int) int) []SRV {
	records = slices.Clone(records)
	slices.SortStableFunc(records, func(a, b SRV) int {
		// Weight 0 goes first within its priority, which gives it a small
		// chance in the draw.
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), cmp.Compare(min(a.Weight, 1), min(b.Weight, 1)))
	})
	for start := 0; start < len(records); start++ {
		end, total := start, 0
		for end < len(records) && records[end].Priority == records[start].Priority {
			total += int(records[end].Weight)
			end++
		}
		draw := intn(total + 1)
		for i := start; i < end; i++ {
			if draw -= int(records[i].Weight); draw <= 0 {
				chosen := records[i]
				copy(records[start+1:i+1], records[start:i])
				records[start] = chosen
				break
			}
		}
	}
	return records
}
