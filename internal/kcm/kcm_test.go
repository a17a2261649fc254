package kcm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/opengmsa/opengmsa/krb5/ccache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// reply is one as a manager writes it.
func reply(code int32, body string) string {
	b := binary.BigEndian.AppendUint64(nil, uint64(4+len(body))<<32) // the length, and the transport's code
	return string(binary.BigEndian.AppendUint32(b, uint32(code))) + body
}

// manager answers requests in turn, and sees the operations that were asked for.
func manager(t *testing.T, replies ...string) *Client {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "kcm"))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = conn.Close() }()
		for _, r := range replies {
			var head [4]byte
			if _, err := io.ReadFull(conn, head[:]); err != nil {
				return
			}
			if _, err := io.CopyN(io.Discard, conn, int64(binary.BigEndian.Uint32(head[:]))); err != nil {
				return
			}
			_, _ = io.WriteString(conn, r)
		}
	}()
	c, err := Dial(t.Context(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = l.Close(); <-done })
	return c
}

const principal = "\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x01R\x00\x00\x00\x01u" // u@R

func TestReadKeepsTheOffsetOfTheClock(t *testing.T) {
	c := manager(t, reply(0, principal), reply(0, "\xff\xff\xff\xfe"), reply(0, ""))
	b, err := c.Read("0")
	if err != nil {
		t.Fatal(err)
	}
	cache, err := ccache.Parse(b)
	if err != nil || cache.Principal.String() != "u@R" || cache.KDCOffset.Seconds() != -2 {
		t.Errorf("%+v, %v", cache, err)
	}
}

func TestHostileReplies(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	read := func(c *Client) error { _, err := c.Read("0"); return err }
	names := func(c *Client) error { _, err := c.Names(); return err }
	first := func(c *Client) error { _, err := c.Default(); return err }
	for name, c := range map[string]struct {
		replies []string
		ask     func(*Client) error
		want    error
	}{
		"a huge length":             {[]string{"\xff\xff\xff\xff\x00\x00\x00\x00"}, read, ErrProtocol},
		"a length without the code": {[]string{"\x00\x00\x00\x03\x00\x00\x00\x00"}, read, ErrProtocol},
		"a reply that ends":         {[]string{"\x00\x00\x00\xff\x00\x00\x00\x00\x00\x00\x00\x00abc"}, read, io.ErrUnexpectedEOF},
		"silence":                   {[]string{""}, read, io.EOF},
		"no such cache":             {[]string{reply(codeNoFile, "")}, read, ErrNotFound},
		"no principal":              {[]string{reply(0, "")}, read, ErrNotFound},
		"half a UUID":               {[]string{reply(0, principal), reply(0, ""), reply(0, "12345678")}, read, ErrProtocol},
		"too many tickets":          {[]string{reply(0, principal), reply(0, ""), reply(0, strings.Repeat("u", 16*(maxEntries+1)))}, read, ErrProtocol},
		"too many caches":           {[]string{reply(0, strings.Repeat("u", 16*(maxEntries+1)))}, names, ErrProtocol},
		"a name without an end":     {[]string{reply(0, "abc")}, first, ErrProtocol},
		"two names":                 {[]string{reply(0, "abc\x00def\x00")}, first, ErrProtocol},
		"a long name":               {[]string{reply(0, long+"\x00")}, first, ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.ask(manager(t, c.replies...)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
	if err := read(manager(t, reply(5, ""))); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("another code: %v", err)
	}
	if _, err := manager(t).Read("a\x00b"); err == nil {
		t.Error("a name with a zero byte was sent")
	}
}

// FuzzReply: whatever a manager says is an error, or a reply within the limits that the
// parsers of what it holds take or refuse.
func FuzzReply(f *testing.F) {
	f.Add([]byte(reply(0, "0\x00")))
	f.Add([]byte(reply(codeNoFile, "")))
	f.Add([]byte(reply(0, strings.Repeat("u", 32))))
	f.Fuzz(func(t *testing.T, b []byte) {
		body, err := readReply(bytes.NewReader(b))
		if err != nil {
			return
		}
		if len(body) > maxReply || len(body)+12 > len(b) {
			t.Fatalf("%d bytes of %d", len(body), len(b))
		}
		if name, err := parseName(body); err == nil && (len(name) > maxName || strings.ContainsRune(name, 0)) {
			t.Fatalf("%q", name)
		}
		if ids, err := parseUUIDs(body); err == nil && len(ids)*16 != len(body) {
			t.Fatalf("%d UUIDs of %d bytes", len(ids), len(body))
		}
	})
}
