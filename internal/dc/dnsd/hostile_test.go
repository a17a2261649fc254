package dnsd_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/dnsd"
)

// writer keeps the answer to one message.
type writer struct {
	dns.ResponseWriter
	peer   net.Addr
	answer *dns.Msg
}

func (w *writer) RemoteAddr() net.Addr { return w.peer }

func (w *writer) WriteMsg(m *dns.Msg) error {
	w.answer = m
	return nil
}

func quietServer(t testing.TB) (s *dnsd.Server, settings dtyp.GUID) {
	d, _, settings := newDomain(t)
	return dnsd.New(dnsd.Config{Directory: d, Addresses: []netip.Addr{loopback}, Hosts: hosts, Log: slog.New(slog.DiscardHandler)}), settings
}

// TestAForgedSenderIsNotFlooded: whoever asks too often over UDP gets an answer as
// small as the question, which sends an honest client to TCP.
func TestAForgedSenderIsNotFlooded(t *testing.T) {
	s, _ := quietServer(t)
	q := new(dns.Msg).SetQuestion("_ldap._tcp.contoso.com.", dns.TypeSRV)
	count := func(peer net.Addr) (full int) {
		for range 10000 {
			w := &writer{peer: peer}
			s.ServeDNS(t.Context(), w, q)
			if w.answer.Truncated {
				if w.answer.Len() > q.Len() {
					t.Fatalf("an answer of %d bytes to a question of %d", w.answer.Len(), q.Len())
				}
				continue
			}
			full++
		}
		return full
	}
	if n := count(&net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000}); n < 1000 || n > 6000 {
		t.Errorf("%d of 10000 answers in full, want some 2000", n)
	}
	if n := count(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4000}); n != 10000 {
		t.Errorf("over TCP: %d of 10000 answers", n)
	}
}

// TestBytesThatAreNoMessageDoNoHarm: the service answers the next question.
func TestBytesThatAreNoMessageDoNoHarm(t *testing.T) {
	at := serve(t, dnsd.Config{}, loopback, 0)
	question, err := new(dns.Msg).SetQuestion("contoso.com.", dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	noQuestion := bytes.Clone(question[:12])
	binary.BigEndian.PutUint16(noQuestion[4:], 0)
	manyRecords := bytes.Clone(question)
	binary.BigEndian.PutUint16(manyRecords[6:], 0xffff)
	for name, b := range map[string][]byte{
		"nothing": {}, "half a header": question[:7], "half a question": question[:20], "no question": noQuestion,
		"records that are not there": manyRecords, "a response": append([]byte{0, 1, 0x80}, question[3:]...),
		"an operation that nobody knows": append([]byte{0, 1, 0x78}, question[3:]...),
	} {
		udp, err := net.Dial("udp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		tcp, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = udp.Write(b)
		_, _ = tcp.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...))
		if m := ask(t, at, "udp", "contoso.com", dns.TypeA); len(m.Answer) != 1 {
			t.Errorf("after %s over UDP: %v", name, m)
		}
		if m := ask(t, at, "tcp", "contoso.com", dns.TypeA); len(m.Answer) != 1 {
			t.Errorf("after %s over TCP: %v", name, m)
		}
		udp.Close()
		tcp.Close()
	}
}

// TestASilentConnectionIsClosed: within the 2 s that a first question may take.
func TestASilentConnectionIsClosed(t *testing.T) {
	at := serve(t, dnsd.Config{}, loopback, 0)
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func FuzzMessage(f *testing.F) {
	s, settings := quietServer(f)
	for _, q := range []*dns.Msg{
		new(dns.Msg).SetQuestion("_ldap._tcp.dc._msdcs.CONTOSO.com.", dns.TypeSRV),
		new(dns.Msg).SetQuestion(settings.String()+"._msdcs.contoso.com.", dns.TypeAAAA).SetEdns0(4096, true),
		new(dns.Msg).SetQuestion("1.0.0.127.in-addr.arpa.", dns.TypeANY),
		new(dns.Msg).SetUpdate("contoso.com."),
		new(dns.Msg).SetQuestion(".", dns.TypeNS),
	} {
		b, err := q.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
	}
	f.Fuzz(func(t *testing.T, b []byte, tcp bool) {
		q := new(dns.Msg)
		if q.Unpack(b) != nil || len(q.Question) != 1 || q.Response {
			return
		}
		w, limit := &writer{peer: &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}}, 1232
		if tcp {
			w.peer, limit = &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}, dns.MaxMsgSize
		}
		s.ServeDNS(t.Context(), w, q)
		out, err := w.answer.Pack()
		if err != nil || len(out) > limit || w.answer.Id != q.Id || !w.answer.Response {
			t.Errorf("%v\nanswered %v (%d bytes): %v", q, w.answer, len(out), err)
		}
	})
}
