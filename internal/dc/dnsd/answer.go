package dnsd

import (
	"context"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/dc/directory/rows"
)

// ServeDNS answers one message.
func (s *Server) ServeDNS(ctx context.Context, w dns.ResponseWriter, q *dns.Msg) {
	m := s.reply(ctx, q, w.RemoteAddr())
	// Whoever is gone before the answer is written asks again.
	_ = w.WriteMsg(m)
}

// reply makes the answer to a message of one question, which is all that accept lets
// pass, with the size that the way to the peer takes.
func (s *Server) reply(ctx context.Context, q *dns.Msg, peer net.Addr) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	size := dns.MaxMsgSize
	udp, isUDP := peer.(*net.UDPAddr)
	if isUDP {
		size = dns.MinMsgSize
	}
	if opt := q.IsEdns0(); opt != nil {
		if isUDP {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), maxUDP)
		}
		m.SetEdns0(maxUDP, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m
		}
	}
	question := q.Question[0]
	switch {
	case q.Opcode != dns.OpcodeQuery, question.Qclass != dns.ClassINET:
		m.Rcode = dns.RcodeRefused
	case isUDP && (question.Qtype == dns.TypeANY || !s.limit.Allow(time.Now(), udp.AddrPort().Addr())):
		// Over TCP the answer goes to whoever really asked: RFC 8482, Section 4.4.
		m.Truncated = true
	default:
		s.answer(ctx, m, question)
	}
	m.Truncate(size)
	return m
}

// answer fills in what is known of a name: RFC 1034, Section 4.3.2.
func (s *Server) answer(ctx context.Context, m *dns.Msg, q dns.Question) {
	name := key(q.Name)
	zone := s.names.zoneOf(name)
	if zone == "" || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		m.Rcode = dns.RcodeRefused
		return
	}
	records, exists, err := s.lookup(ctx, name)
	if err != nil {
		s.cfg.Log.Warn("DNS question not answered", "name", name, "type", dns.TypeToString[q.Qtype], "error", err)
		m.Rcode = dns.RcodeServerFailure
		return
	}
	m.Authoritative = true
	for _, rr := range records {
		if t := rr.Header().Rrtype; t == q.Qtype || q.Qtype == dns.TypeANY || t == dns.TypeCNAME {
			rr = dns.Copy(rr)
			rr.Header().Name = q.Name // as the client wrote it, which some check
			m.Answer = append(m.Answer, rr)
			s.follow(m, rr, q.Qtype)
		}
	}
	if len(m.Answer) > 0 {
		return
	}
	if !exists {
		m.Rcode = dns.RcodeNameError
	}
	m.Ns = append(m.Ns, s.soa(zone))
}

// follow adds what the client will ask for next: the name behind an alias to the
// answer, the addresses of a target beside it.
func (s *Server) follow(m *dns.Msg, rr dns.RR, qtype uint16) {
	switch rr := rr.(type) {
	case *dns.CNAME:
		for _, next := range s.names.records[key(rr.Target)] {
			if next.Header().Rrtype == qtype {
				m.Answer = append(m.Answer, next)
			}
		}
	case *dns.SRV:
		s.beside(m, rr.Target)
	case *dns.NS:
		s.beside(m, rr.Ns)
	}
}

func (s *Server) beside(m *dns.Msg, host string) {
	for _, rr := range s.names.records[key(host)] {
		switch rr.(type) {
		case *dns.A, *dns.AAAA:
			m.Extra = append(m.Extra, rr)
		}
	}
}

// soa is the record that says for how long a negative answer holds: RFC 2308,
// Section 3.
func (s *Server) soa(zone string) dns.RR {
	for _, rr := range s.names.records[zone] {
		if soa, ok := rr.(*dns.SOA); ok {
			soa = dns.Copy(soa).(*dns.SOA)
			soa.Hdr.Ttl = ttlNegative
			return soa
		}
	}
	panic("dnsd: a zone without an SOA")
}

// lookup finds the records of a name, and whether there is such a name.
func (s *Server) lookup(ctx context.Context, name string) (records []dns.RR, exists bool, err error) {
	if s.names.nodes[name] {
		return s.names.records[name], true, nil
	}
	g, ok := controllerGUID(name, s.names.domain)
	if !ok {
		return nil, false, nil
	}
	ok, err = s.isController(ctx, g)
	if !ok || err != nil {
		return nil, false, err
	}
	return []dns.RR{&dns.CNAME{Hdr: header(name, dns.TypeCNAME), Target: s.names.host}}, true, nil
}

// controllerGUID takes the name GUID._msdcs.DOMAIN apart.
func controllerGUID(name, domain string) (g dtyp.GUID, ok bool) {
	text, ok := strings.CutSuffix(name, "._msdcs."+domain)
	if !ok {
		return g, false
	}
	g, err := dtyp.ParseGUID(text)
	return g, err == nil
}

// isController reports whether the GUID is that of a controller's settings, by which
// its partners find it: DsaGuid._msdcs of [MS-ADTS] 6.3.2.3.
func (s *Server) isController(ctx context.Context, g dtyp.GUID) (found bool, err error) {
	class, _ := s.cfg.Directory.Schema().Attribute("objectClass")
	err = s.cfg.Directory.View(ctx, func(r *directory.Reader) error {
		e, err := r.Get(g)
		if errors.Is(err, rows.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, c := range e.Values[class] {
			found = found || string(c) == "nTDSDSA"
		}
		return nil
	})
	return found, err
}
