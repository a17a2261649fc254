package ldapmsg

import (
	"bytes"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	ber "github.com/go-asn1-ber/asn1-ber"
	"github.com/go-ldap/ldap/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/internal/adproto"
)

// exchange lets do speak to a server that answers each request with what answer makes of
// it, and gives the bytes of the requests. The other side of the wire is go-ldap, which
// nobody here wrote.
func exchange(t testing.TB, do func(*ldap.Conn) error, answer func(m Message) []byte) (requests [][]byte) {
	t.Helper()
	client, server := net.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		defer func() { _ = server.Close() }()
		for {
			p, err := ber.ReadPacket(server)
			if err != nil {
				return
			}
			b := p.Bytes()
			requests = append(requests, b)
			m, err := Parse(b)
			if err != nil {
				t.Errorf("% x: %v", b, err)
				return
			}
			if out := answer(m); out == nil {
				return
			} else if _, err := server.Write(out); err != nil {
				return
			}
		}
	})
	c := ldap.NewConn(client, false)
	c.Start()
	if err := do(c); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	wg.Wait()
	return requests
}

// succeed answers every request with success.
func succeed(m Message) []byte {
	op, ok := m.Op.Response()
	if !ok {
		return nil
	}
	return AppendResult(nil, m.ID, op, Result{})
}

// requests are one of each kind, as go-ldap writes them.
func requests(t testing.TB) map[Op][]byte {
	t.Helper()
	out := map[Op][]byte{}
	for _, do := range []func(c *ldap.Conn) error{
		func(c *ldap.Conn) error { return c.Bind(`CONTOSO\alice`, "correct horse") },
		func(c *ldap.Conn) error {
			q := ldap.NewSearchRequest("DC=contoso,DC=com", ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 7, 9, true,
				`(&(objectClass=*)(|(cn=a*b*c)(!(x>=1)))(y:1.2.840.113556.1.4.803:=2))`, []string{"cn", "", "member;range=0-*"}, []ldap.Control{
					ldap.NewControlPaging(5), &ldap.ControlString{ControlType: "1.2.3", Criticality: true, ControlValue: "v"}})
			_, err := c.Search(q)
			return err
		},
		func(c *ldap.Conn) error {
			q := ldap.NewModifyRequest("CN=a", nil)
			q.Add("member", []string{"CN=b", ""})
			q.Delete("description", nil)
			q.Replace("cn", []string{"x"})
			return c.Modify(q)
		},
		func(c *ldap.Conn) error {
			q := ldap.NewAddRequest("CN=a", nil)
			q.Attribute("objectClass", []string{"top", "user"})
			q.Attribute("unicodePwd", []string{strings.Repeat("\x00\xff", 200)})
			return c.Add(q)
		},
		func(c *ldap.Conn) error {
			return c.Del(ldap.NewDelRequest("CN=a", []ldap.Control{ldap.NewControlSubtreeDelete()}))
		},
		func(c *ldap.Conn) error {
			return c.ModifyDN(ldap.NewModifyDNRequest("CN=a", "CN=b", true, "OU=c"))
		},
		func(c *ldap.Conn) error {
			_, err := c.Compare("CN=a", "cn", "b")
			return errors.Join(err)
		},
		func(c *ldap.Conn) error { _, err := c.WhoAmI(nil); return err },
	} {
		answer := succeed
		for _, b := range exchange(t, do, func(m Message) []byte {
			switch m.Op {
			case OpCompareRequest:
				return AppendResult(nil, m.ID, OpCompareResponse, Result{Code: 6})
			case OpExtendedRequest:
				return AppendResult(nil, m.ID, OpExtendedResponse, Result{Value: []byte("u:x")})
			}
			return answer(m)
		}) {
			m, err := Parse(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := m.Op.Response(); ok {
				out[m.Op] = b
			}
		}
	}
	return out
}

// parseBody parses the body of any request.
func parseBody(m Message) (v any, err error) {
	switch m.Op {
	case OpBindRequest:
		return m.Bind()
	case OpSearchRequest:
		return m.Search()
	case OpModifyRequest:
		return m.Modify()
	case OpAddRequest:
		return m.Add()
	case OpDelRequest:
		return m.Delete(), nil
	case OpModifyDNRequest:
		return m.ModifyDN()
	case OpCompareRequest:
		return m.Compare()
	case OpAbandonRequest:
		return m.Abandon()
	case OpExtendedRequest:
		return m.Extended()
	}
	return nil, errors.New("no request")
}

func TestRequestsOfAnotherImplementation(t *testing.T) {
	filter, err := adproto.ParseFilter(`(&(objectClass=*)(|(cn=a*b*c)(!(x>=1)))(y:1.2.840.113556.1.4.803:=2))`)
	if err != nil {
		t.Fatal(err)
	}
	byteSlices := func(s ...string) (out [][]byte) {
		for _, v := range s {
			out = append(out, []byte(v))
		}
		return out
	}
	want := map[Op]any{
		OpBindRequest: BindRequest{Version: 3, Name: `CONTOSO\alice`, Auth: AuthSimple, Password: []byte("correct horse")},
		OpSearchRequest: SearchRequest{Base: "DC=contoso,DC=com", Scope: 2, SizeLimit: 7, TimeLimit: 9, TypesOnly: true,
			Filter: filter, Attributes: []string{"cn", "", "member;range=0-*"}},
		OpModifyRequest: ModifyRequest{DN: "CN=a", Changes: []Change{
			{0, Attribute{"member", byteSlices("CN=b", "")}}, {1, Attribute{Name: "description"}}, {2, Attribute{"cn", byteSlices("x")}}}},
		OpAddRequest: AddRequest{DN: "CN=a", Attributes: []Attribute{{"objectClass", byteSlices("top", "user")},
			{"unicodePwd", byteSlices(strings.Repeat("\x00\xff", 200))}}},
		OpDelRequest:      "CN=a",
		OpModifyDNRequest: ModifyDNRequest{DN: "CN=a", NewRDN: "CN=b", DeleteOldRDN: true, NewSuperior: "OU=c", HasNewSuperior: true},
		OpCompareRequest:  CompareRequest{DN: "CN=a", Attribute: "cn", Value: []byte("b")},
		OpExtendedRequest: ExtendedRequest{Name: adproto.OIDWhoAmI},
	}
	got := requests(t)
	for op, w := range want {
		m, err := Parse(got[op])
		if err != nil {
			t.Errorf("%v: %v", op, err)
			continue
		}
		v, err := parseBody(m)
		if diff := cmp.Diff(w, v); err != nil || diff != "" {
			t.Errorf("%v: %v\n%s", op, err, diff)
		}
	}
	m, _ := Parse(got[OpSearchRequest])
	if len(m.Controls) != 2 || m.Controls[0].Type != adproto.ControlPaged || m.Controls[1].Type != "1.2.3" || !m.Controls[1].Critical || string(m.Controls[1].Value) != "v" {
		t.Errorf("controls: %+v", m.Controls)
	}
	if p, err := ParsePaged(m.Controls[0].Value); err != nil || p.Size != 5 || len(p.Cookie) != 0 {
		t.Errorf("paged: %+v, %v", p, err)
	}
}

func TestEveryStrictPrefixIsRefused(t *testing.T) {
	for op, b := range requests(t) {
		for n := range b {
			if m, err := Parse(b[:n]); err == nil {
				t.Errorf("%v: %d of %d bytes are %+v", op, n, len(b), m)
			}
		}
		m, err := Parse(b)
		if err != nil {
			t.Fatal(err)
		}
		if op == OpDelRequest {
			continue // any text is one
		}
		body := m.Body
		for n := range body {
			m.Body = body[:n]
			if op == OpModifyDNRequest && n == len(body)-len("\x80\x04OU=c") {
				continue // the new superior is optional
			}
			if v, err := parseBody(m); err == nil {
				t.Errorf("%v: %d of %d bytes of its body are %+v", op, n, len(body), v)
			}
		}
		m.Body = append(slices.Clone(body), 4, 0)
		if v, err := parseBody(m); err == nil {
			t.Errorf("%v: bytes after its end: %+v", op, v)
		}
	}
}

func TestLimits(t *testing.T) {
	elements := func(tag byte, n int, of []byte) []byte { return adproto.AppendElement(nil, tag, bytes.Repeat(of, n)) }
	message := func(op Op, parts ...[]byte) Message { return Message{ID: 1, Op: op, Body: bytes.Join(parts, nil)} }
	dn := []byte{tagOctetString, 1, 'x'}
	attribute := func(values int) []byte {
		return adproto.AppendElement(nil, tagSequence, append(slices.Clone(dn), elements(tagSet, values, []byte{tagOctetString, 0})...))
	}
	search := func(selection []byte) Message {
		return message(OpSearchRequest, dn, []byte{tagEnumerated, 1, 0, tagEnumerated, 1, 0, tagInteger, 1, 0, tagInteger, 1, 0, tagBoolean, 1, 0, 0x87, 1, 'x'}, selection)
	}
	if _, err := search(elements(tagSequence, MaxSelection, dn)).Search(); err != nil {
		t.Error(err)
	}
	if _, err := message(OpAddRequest, dn, adproto.AppendElement(nil, tagSequence, attribute(MaxValues-1))).Add(); err != nil {
		t.Error(err)
	}
	for name, fn := range map[string]func() error{
		"attributes asked for": func() error { _, err := search(elements(tagSequence, MaxSelection+1, dn)).Search(); return err },
		"values of one attribute": func() error {
			_, err := message(OpAddRequest, dn, adproto.AppendElement(nil, tagSequence, attribute(MaxValues+1))).Add()
			return err
		},
		"attributes without values": func() error {
			_, err := message(OpAddRequest, dn, elements(tagSequence, MaxValues+1, attribute(0))).Add()
			return err
		},
		"controls": func() error {
			control := adproto.AppendElement(nil, tagSequence, dn)
			_, err := Parse(elements(tagSequence, 1, slices.Concat([]byte{tagInteger, 1, 1, byte(OpUnbindRequest), 0}, elements(tagControls, MaxControls+1, control))))
			return err
		},
		"a control twice": func() error {
			control := adproto.AppendElement(nil, tagSequence, dn)
			_, err := Parse(elements(tagSequence, 1, slices.Concat([]byte{tagInteger, 1, 1, byte(OpUnbindRequest), 0}, elements(tagControls, 2, control))))
			return err
		},
		"parts of a filter": func() error {
			filter := elements(0xa0, adproto.MaxFilterParts, []byte{0x87, 1, 'x'})
			_, err := adproto.ParseFilterBER(filter)
			return err
		},
		"message id 0": func() error {
			_, err := Parse([]byte{tagSequence, 5, tagInteger, 1, 0, byte(OpUnbindRequest), 0})
			return err
		},
	} {
		if err := fn(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestAnswersReadByAnotherImplementation(t *testing.T) {
	large := strings.Repeat("x", 70_000)
	var got *ldap.SearchResult
	exchange(t, func(c *ldap.Conn) (err error) {
		got, err = c.Search(ldap.NewSearchRequest("", 0, 0, 0, 0, false, "(a=*)", nil, []ldap.Control{ldap.NewControlPaging(1)}))
		return err
	}, func(m Message) []byte {
		if m.Op != OpSearchRequest {
			return nil
		}
		e := BeginEntry(nil, m.ID, "CN=a,DC=b")
		e.Attribute("cn", [][]byte{[]byte("a"), {}, []byte(large)})
		e.Attribute("none", nil)
		out := BeginEntry(e.End(), m.ID, "")
		return AppendResult(out.End(), m.ID, OpSearchDone, Result{}, Control{Type: adproto.ControlPaged, Value: Paged{Cookie: []byte("more")}.Append(nil)})
	})
	if got == nil || len(got.Entries) != 2 {
		t.Fatalf("%+v", got)
	}
	if e := got.Entries[0]; e.DN != "CN=a,DC=b" || !slices.Equal(e.GetAttributeValues("cn"), []string{"a", "", large}) || len(e.Attributes) != 2 {
		t.Errorf("%q with %d attributes", e.DN, len(e.Attributes))
	}
	if c, ok := ldap.FindControl(got.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging); !ok || string(c.Cookie) != "more" {
		t.Errorf("controls: %v", got.Controls)
	}
	exchange(t, func(c *ldap.Conn) error {
		err := c.Bind("x", "y")
		if le, ok := errors.AsType[*ldap.Error](err); !ok || le.ResultCode != 300 || le.MatchedDN != "DC=b" || le.Err.Error() != "because" {
			t.Errorf("bind: %#v", err)
		}
		r, err := c.WhoAmI(nil)
		if err != nil || r.AuthzID != "u:x" {
			t.Errorf("whoami: %v, %v", r, err)
		}
		m, err := c.ModifyWithResult(ldap.NewModifyRequest("DC=x", nil))
		if m == nil || m.Referral != "ldap://y/DC=x" {
			t.Errorf("referral: %+v, %v", m, err)
		}
		return nil
	}, func(m Message) []byte {
		switch m.Op {
		case OpModifyRequest:
			return AppendResult(nil, m.ID, OpModifyResponse, Result{Code: 10, Referral: "ldap://y/DC=x"})
		case OpBindRequest:
			return AppendResult(nil, m.ID, OpBindResponse, Result{Code: 300, MatchedDN: "DC=b", Diagnostic: "because"})
		case OpExtendedRequest:
			return AppendResult(nil, m.ID, OpExtendedResponse, Result{Value: []byte("u:x")})
		}
		return nil
	})
}

func TestIntegers(t *testing.T) {
	for _, n := range []uint32{0, 1, 127, 128, 255, 256, 32767, 32768, 1<<31 - 1} {
		r := reader{b: appendInteger(nil, tagInteger, n)}
		if got := r.integer(tagInteger); r.err != nil || got != int64(n) {
			t.Errorf("%d: %d, %v", n, got, r.err)
		}
	}
}

func TestControls(t *testing.T) {
	keys, err := ParseSort([]byte{0x30, 0x0c, 0x30, 0x0a, 0x04, 2, 'c', 'n', 0x80, 1, 'r', 0x81, 1, 0xff})
	if err != nil || len(keys) != 1 || keys[0] != (SortKey{"cn", "r", true}) {
		t.Errorf("sort: %+v, %v", keys, err)
	}
	if _, err := ParseSort([]byte{0x30, 0}); err == nil {
		t.Error("a sort without a key")
	}
	if n, err := ParseFlags([]byte{0x30, 3, 2, 1, 7}); err != nil || n != 7 {
		t.Errorf("flags: %d, %v", n, err)
	}
	if p, err := ParsePaged(Paged{Size: 1000, Cookie: []byte("c")}.Append(nil)); err != nil || p.Size != 1000 || string(p.Cookie) != "c" {
		t.Errorf("paged: %+v, %v", p, err)
	}
	r := ber.DecodePacket(AppendSortResult(nil, 16, "cn"))
	if len(r.Children) != 2 || r.Children[0].Value != int64(16) || r.Children[1].Data.String() != "cn" {
		t.Errorf("sort result: %v", r)
	}
}

// FuzzParse: whatever comes, nothing panics, and what is read is inside of the limits.
func FuzzParse(f *testing.F) {
	for _, b := range requests(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		if m.ID <= 0 || len(m.Controls) > MaxControls {
			t.Errorf("%+v", m)
		}
		for _, c := range m.Controls {
			_, _ = ParsePaged(c.Value)
			_, _ = ParseFlags(c.Value)
			if keys, err := ParseSort(c.Value); err == nil && len(keys) == 0 {
				t.Error("sort without a key")
			}
		}
		v, err := parseBody(m)
		if q, ok := v.(SearchRequest); ok && err == nil && (q.Scope > 2 || q.SizeLimit < 0 || len(q.Attributes) > MaxSelection) {
			t.Errorf("%+v", q)
		}
	})
}
