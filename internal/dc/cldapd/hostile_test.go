package cldapd_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"testing"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/dc/cldapd"
)

// The pings of Samba 4.22's samba-tool domain info and net ads lookup, as captured.
const (
	pingOfSambaTool = "303502030090c6632e04000a01000a0100020100020100010100a00fa30d04054e74566572040406000020300a04084e65744c6f676f6e"
	pingOfNet       = "3034020246d4632e04000a01000a0100020100020100010100a00fa30d04054e74566572040406000000300a04084e65744c6f676f6e"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wire is a socket on which the datagrams of one peer come, one after the other.
type wire struct {
	net.PacketConn
	peer    net.Addr
	in, out [][]byte
}

func (w *wire) ReadFrom(b []byte) (int, net.Addr, error) {
	if len(w.in) == 0 {
		return 0, nil, io.EOF
	}
	n := copy(b, w.in[0])
	w.in = w.in[1:]
	return n, w.peer, nil
}

func (w *wire) WriteTo(b []byte, _ net.Addr) (int, error) {
	w.out = append(w.out, bytes.Clone(b))
	return len(b), nil
}

func (w *wire) Close() error { return nil }

// ask gives the answers to the datagrams of a peer.
func ask(t testing.TB, s *cldapd.Server, peer string, datagrams ...[]byte) [][]byte {
	t.Helper()
	w := &wire{peer: &net.UDPAddr{IP: net.ParseIP(peer), Port: 40000}, in: datagrams}
	if err := s.ServePacket(t.Context(), w); !errors.Is(err, io.EOF) {
		t.Errorf("served until %v", err)
	}
	return w.out
}

func TestCapturedPingsAreAnsweredInOneDatagram(t *testing.T) {
	s, _ := newServer(t)
	for name, text := range map[string]string{"samba-tool": pingOfSambaTool, "net": pingOfNet} {
		question := unhex(t, text)
		answers := ask(t, s, "192.0.2.1", question)
		if len(answers) != 1 {
			t.Fatalf("%s: %d answers", name, len(answers))
		}
		entry, err := adproto.MessageSize(answers[0], len(answers[0]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for part, b := range map[string][]byte{"entry": answers[0][:entry], "end": answers[0][entry:]} {
			if err := adproto.CheckMessage(b); err != nil {
				t.Errorf("%s: the %s of the answer: %v", name, part, err)
			}
		}
		if limit := 8 * len(question); len(answers[0]) > limit {
			t.Errorf("%s: %d bytes for %d", name, len(answers[0]), len(question))
		}
	}
}

func TestWhatIsNoPingIsDropped(t *testing.T) {
	s, _ := newServer(t)
	good := unhex(t, pingOfNet)
	datagrams := map[string][]byte{
		"a byte too many":         append(bytes.Clone(good), 0),
		"two pings":               append(bytes.Clone(good), good...),
		"another scope":           bytes.Replace(bytes.Clone(good), []byte("\x0a\x01\x00"), []byte("\x0a\x01\x02"), 1),
		"another attribute":       bytes.Replace(bytes.Clone(good), []byte("NetLogon"), []byte("NetLogXX"), 1),
		"an element of no ping":   bytes.Replace(bytes.Clone(good), []byte("NtVer"), []byte("Zzzzz"), 1),
		"a bind":                  unhex(t, "300c020101600702010304008000"),
		"an unbind":               unhex(t, "30050201014200"),
		"no operation":            unhex(t, "3003020101"),
		"an id that is no number": bytes.Replace(bytes.Clone(good), []byte("\x02\x02"), []byte("\x04\x02"), 1),
		"more than a ping can be": append([]byte{0x30, 0x83, 0x01, 0x00, 0x00}, make([]byte, 1<<16)...),
		"nothing":                 {},
	}
	for name, b := range datagrams {
		if out := ask(t, s, "192.0.2.1", b); len(out) != 0 {
			t.Errorf("%s: answered %x", name, out[0])
		}
	}
	for n := range good {
		if out := ask(t, s, "127.0.0.1", good[:n]); len(out) != 0 {
			t.Errorf("a prefix of %d bytes: answered %x", n, out[0])
		}
	}
}

// TestAForgedSenderIsNotFlooded: the answers to one network are limited, and others do
// not notice.
func TestAForgedSenderIsNotFlooded(t *testing.T) {
	s, _ := newServer(t)
	flood := make([][]byte, 5000)
	for i := range flood {
		flood[i] = unhex(t, pingOfNet)
	}
	if n := len(ask(t, s, "192.0.2.1", flood...)); n < 200 || n > 1000 {
		t.Errorf("%d of 5000 pings were answered, want some 200", n)
	}
	if n := len(ask(t, s, "198.51.100.1", flood[0])); n != 1 {
		t.Error("another network gets no answer")
	}
}

func FuzzDatagram(f *testing.F) {
	s, contoso := newServer(f)
	for _, text := range []string{pingOfSambaTool, pingOfNet, "30050201014200"} {
		f.Add(unhex(f, text))
	}
	// With a user, so that the directory is asked.
	ping := adproto.Ping{DNSDomain: "contoso.com", User: "web1$", AAC: 0x10, NtVersion: 6, DomainSID: contoso.SID, DomainGUID: contoso.GUID}
	filter := ping.Filter().Append(nil)
	body := append(unhex(f, "04000a01000a0100020100020100010100"), filter...)
	body = append(body, unhex(f, "300a04084e65744c6f676f6e")...)
	search := append([]byte{0x63, 0x81, byte(len(body))}, body...)
	f.Add(append([]byte{0x30, 0x81, byte(len(search) + 3), 2, 1, 1}, search...))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, out := range ask(t, s, "127.0.0.1", b) {
			entry, err := adproto.MessageSize(out, len(out))
			if err != nil || adproto.CheckMessage(out[:entry]) != nil || adproto.CheckMessage(out[entry:]) != nil || len(out) > 1232 {
				t.Errorf("answered %x", out)
			}
		}
	})
}
