package doctor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/miekg/dns"

	"github.com/opengmsa/opengmsa/internal/locate"
)

// file is a file of the place.
func (p *placeFacts) file(name string) string { return path.Join("/", p.Root, name) }

// maxFile bounds a file of a place, in bytes.
const maxFile = 1 << 20

// read reads a file of the place, which nothing but a regular one is.
func (p *placeFacts) read(name string) ([]byte, error) {
	f, err := p.open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%s is no regular file", p.file(name)))
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// open opens a file of the place. A container's files are its own work: no link leads
// out of its root directory.
func (p *placeFacts) open(name string) (*os.File, error) {
	if p.Root == "" {
		return os.OpenFile(name, os.O_RDONLY|nonblock, 0)
	}
	root, err := os.OpenRoot(p.Root)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return root.OpenFile(strings.TrimPrefix(name, "/"), os.O_RDONLY|nonblock, 0)
}

// resolvConf is the resolver configuration of the place.
func (p *placeFacts) resolvConf() (*dns.ClientConfig, error) {
	b, err := p.read("/etc/resolv.conf")
	if err != nil {
		return nil, err
	}
	return dns.ClientConfigFromReader(bytes.NewReader(b))
}

// resolver asks the name servers of the place. The own network of a process on a
// system without resolv.conf is asked as the system does.
func (p *placeFacts) resolver() locate.Resolver {
	conf, err := p.resolvConf()
	if err != nil || len(conf.Servers) == 0 {
		return &locate.DNS{Dial: p.Dial}
	}
	return &locate.DNS{Servers: conf.Servers, Dial: p.Dial}
}

// resolverConf reads which name servers there are.
func resolverConf(_ context.Context, f *Facts) []Finding {
	name := f.place.file("/etc/resolv.conf")
	conf, err := f.place.resolvConf()
	switch {
	case errors.Is(err, fs.ErrNotExist) && filepath.Separator == '\\':
		return []Finding{info("the system keeps its name servers itself")}
	case err != nil && f.place.Root != "":
		// Such as a link of the image to where only its own programs find something.
		if home, err := f.home.resolvConf(); err == nil {
			f.place.use(home)
		}
		return []Finding{info("%s cannot be read: the host's name servers are asked from there", name).because(err.Error())}
	case err != nil:
		return []Finding{wrong("%s cannot be read", name).because(err.Error()).mend("write a nameserver line with a controller's address into it")}
	case len(conf.Servers) == 0:
		return []Finding{wrong("%s names no name server", name).mend("echo 'nameserver ADDRESS-OF-A-CONTROLLER' >>%s", name)}
	}
	f.place.use(conf)
	return []Finding{ok("%d name servers", len(conf.Servers)).because("nameserver "+strings.Join(conf.Servers, ", "), "search "+strings.Join(conf.Search, ", "))}
}

// use takes the name servers of a configuration.
func (p *placeFacts) use(conf *dns.ClientConfig) {
	for _, s := range conf.Servers {
		p.servers = append(p.servers, net.JoinHostPort(s, conf.Port))
	}
}

// each asks all name servers one thing and returns the answers in their order.
func (p *placeFacts) each(ctx context.Context, network, name string, qtype uint16) ([]*dns.Msg, []error) {
	answers, errs := make([]*dns.Msg, len(p.servers)), make([]error, len(p.servers))
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	var wg sync.WaitGroup
	for i, s := range p.servers {
		wg.Go(func() { answers[i], errs[i] = p.question(ctx, network, s, name, qtype) })
	}
	wg.Wait()
	return answers, errs
}

// dnsPort wants every name server to answer over one network. One that does not
// while another does costs every program that asks it first some seconds.
func dnsPort(network string) func(context.Context, *Facts) []Finding {
	return func(ctx context.Context, f *Facts) []Finding {
		_, errs := f.place.each(ctx, network, f.domain.Name(), dns.TypeSOA)
		var list []Finding
		bad := 0
		for i, err := range errs {
			if err == nil {
				list = append(list, ok("%s answers", f.place.servers[i]))
				continue
			}
			bad++
			list = append(list, wrong("the name server %s does not answer over %s", f.place.servers[i], strings.ToUpper(network)).because(blocked(err)).
				mend("allow %s 53 from %s to it", strings.ToUpper(network), f.place.Name).
				mend("or name another server in %s", f.place.file("/etc/resolv.conf")))
		}
		for i := range list {
			if bad < len(errs) && list[i].Severity == Error {
				list[i].Severity = Warning
			}
		}
		return list
	}
}

// dnsDomain wants every name server to know the domain: one that does not, beside one
// that does, gives failures that come and go.
func dnsDomain(ctx context.Context, f *Facts) []Finding {
	answers, errs := f.place.each(ctx, "udp", f.domain.Name(), dns.TypeSOA)
	var list []Finding
	for i, m := range answers {
		server := f.place.servers[i]
		switch {
		case errs[i] != nil:
		case m.Rcode == dns.RcodeSuccess:
			list = append(list, ok("%s knows %s", server, f.domain.Name()))
		default:
			list = append(list, wrong("the name server %s does not know the domain %s: %s", server, f.domain.Name(), dns.RcodeToString[m.Rcode]).
				because("it is not one of the domain's, and forwards to none").
				mend("name a controller in %s: nameserver ADDRESS", f.place.file("/etc/resolv.conf")).
				mend("or let %s forward %s to a controller", server, f.domain.Name()))
		}
	}
	return list
}

// The names of [MS-ADTS] 6.3.2.3 without which nobody finds a controller.
func serviceNames(domain string) []string {
	return []string{"_ldap._tcp.dc._msdcs." + domain, "_kerberos._tcp.dc._msdcs." + domain, "_ldap._tcp." + domain, "_kerberos._tcp." + domain}
}

// dnsSRV wants the records by which a controller is found.
func dnsSRV(ctx context.Context, f *Facts) []Finding {
	var list []Finding
	r := f.place.resolver()
	for _, name := range serviceNames(f.domain.Name()) {
		records, err := r.LookupSRV(ctx, name)
		switch {
		case err != nil:
			list = append(list, wrong("the look-up of %s fails", name).because(err.Error()).mend("dig SRV %s", name))
		case len(records) == 0:
			list = append(list, wrong("there is no SRV record %s: no controller can be found by it", name).
				mend("samba_dnsupdate on the controller, or restart Netlogon there").mend("dig SRV %s shows whether it is back", name))
		default:
			list = append(list, ok("%s", name).because(targets(records)...))
			for _, x := range records {
				if !slices.ContainsFunc(f.place.srv, func(have locate.SRV) bool { return have.Target == x.Target }) {
					f.place.srv = append(f.place.srv, x)
				}
			}
		}
	}
	return list
}

func targets(records []locate.SRV) (lines []string) {
	for _, r := range records {
		lines = append(lines, fmt.Sprintf("%s:%d", r.Target, r.Port))
	}
	return lines
}

// dnsForward wants an address of each controller.
func dnsForward(ctx context.Context, f *Facts) []Finding {
	var list []Finding
	r := f.place.resolver()
	for _, x := range f.place.srv {
		addrs, err := r.LookupHost(ctx, x.Target)
		if err != nil || len(addrs) == 0 {
			n := wrong("the controller %s has no address in DNS", x.Target).mend("samba_dnsupdate on the controller, or restart Netlogon there")
			if err != nil {
				n = n.because(err.Error())
			}
			list = append(list, n)
			continue
		}
		text := make([]string, len(addrs))
		for i, a := range addrs {
			text[i] = a.String()
		}
		list = append(list, ok("%s is %s", x.Target, strings.Join(text, ", ")))
		f.place.controllers = append(f.place.controllers, &controller{name: x.Target, addr: addrs[0]})
	}
	return list
}

// hostsFile reads /etc/hosts of the place.
func (p *placeFacts) hostsFile() (names map[netip.Addr][]string, err error) {
	b, err := p.read("/etc/hosts")
	if err != nil {
		return nil, err
	}
	names = map[netip.Addr][]string{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		text, _, _ := strings.Cut(lines.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		if a, err := netip.ParseAddr(fields[0]); err == nil {
			names[a.Unmap()] = append(names[a.Unmap()], fields[1:]...)
		}
	}
	return names, lines.Err()
}

// dnsHosts wants no line of /etc/hosts to send a controller's name elsewhere.
func dnsHosts(_ context.Context, f *Facts) []Finding {
	hosts, err := f.place.hostsFile()
	if err != nil {
		return []Finding{info("no hosts file").because(err.Error())}
	}
	var list []Finding
	for _, c := range f.place.controllers {
		for addr, names := range hosts {
			named := slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, c.name) })
			if named && addr != c.addr && !slices.Contains(hosts[c.addr], c.name) {
				list = append(list, wrong("%s says that %s is %v, and DNS says %v", f.place.file("/etc/hosts"), c.name, addr, c.addr).
					mend("remove the line with %s from %s", c.name, f.place.file("/etc/hosts")))
			}
		}
	}
	if len(list) == 0 {
		return []Finding{ok("no line of the hosts file contradicts DNS")}
	}
	return list
}

// dnsReverse wants each controller's address to lead back to its name, or nowhere.
// gmsa does not look, but MIT Kerberos does by its default (rdns) and asks for a
// ticket for the name that it finds.
func dnsReverse(ctx context.Context, f *Facts) []Finding {
	hosts, _ := f.place.hostsFile()
	var list []Finding
	for _, c := range f.place.controllers {
		names, source := hosts[c.addr], f.place.file("/etc/hosts")
		if len(names) > 0 {
			names = names[:1] // the first is the canonical one, hosts(5)
		} else {
			names, source = f.place.reverse(ctx, c.addr), "DNS"
		}
		switch {
		case len(names) == 0:
			list = append(list, info("%v has no reverse record", c))
		case slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(strings.TrimSuffix(n, "."), c.name) }):
			list = append(list, ok("%v leads back to %s", c.addr, c.name))
		default:
			list = append(list, wrong("the address %v of %s leads back to %s", c.addr, c.name, strings.Join(names, ", ")).
				because("by "+source, "MIT Kerberos asks for a ticket for that name unless rdns = false").
				mend("correct the record: samba-tool dns update, or the line of the hosts file").mend("or set rdns = false in krb5.conf, as every lease does"))
		}
	}
	return list
}

// reverse asks DNS for the names of an address.
func (p *placeFacts) reverse(ctx context.Context, a netip.Addr) (names []string) {
	name, err := dns.ReverseAddr(a.String())
	if err != nil {
		return nil
	}
	answers, _ := p.each(ctx, "udp", name, dns.TypePTR)
	for _, m := range answers {
		if m == nil {
			continue
		}
		for _, rr := range m.Answer {
			if ptr, ok := rr.(*dns.PTR); ok && !slices.Contains(names, ptr.Ptr) {
				names = append(names, ptr.Ptr)
			}
		}
	}
	return names
}
