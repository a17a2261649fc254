package kclient_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/kpasswd"
)

// TestMITAndSambaMessagesComeBack lets MIT's programs and Samba speak through a
// proxy that reads every message with our codecs and writes it again: the bytes
// must be the same. KCLIENT_CAPTURE names a directory for what came by, from
// which the files of krb5/testdata/captured were taken.
func TestMITAndSambaMessagesComeBack(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	lab.Need(t, "kinit", "kvno", "kpasswd")
	dc.AddUser(t, "kclient-mit", "Passw0rd!Mit")
	p := &proxy{seen: map[string]int{}}
	kdc := p.listen(t, dc.IP.String()+":88", false)
	admin := p.listen(t, dc.IP.String()+":464", true)
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	text := fmt.Sprintf("[libdefaults]\ndefault_realm = %[1]s\ndns_lookup_kdc = false\ndns_canonicalize_hostname = false\nudp_preference_limit = 1\n"+
		"[realms]\n%[1]s = {\nkdc = %[2]s\nkpasswd_server = %[3]s\n}\n", lab.Realm, kdc, admin)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"KRB5_CONFIG=" + conf, "KRB5CCNAME=FILE:" + filepath.Join(dir, "ccache")}
	run := func(script string) {
		t.Helper()
		if out, err := dc.Try(env, "sh", "-c", script); err != nil {
			t.Errorf("%s: %v\n%s", script, err, out)
		}
	}
	run(`echo 'Passw0rd!Mit' | kinit -f -r 7d kclient-mit`)
	run(`kvno ldap/` + lab.DCHost)
	run(`kinit -R`)
	run(`! echo wrong | kinit kclient-mit`)
	run(`! kvno http/nowhere.example`)
	run(`printf 'Passw0rd!Mit\nPassw0rd!Neu1\nPassw0rd!Neu1\n' | kpasswd kclient-mit; true`)
	run(`echo "` + lab.AdminPassword + `" | kinit -E administrator@contoso.com`)
	p.mu.Lock()
	defer p.mu.Unlock()
	t.Log(p.seen)
	for _, m := range []string{"AS-REQ", "AS-REP", "TGS-REQ", "TGS-REP", "KRB-ERROR", "AP-REQ", "AP-REP", "KRB-PRIV", "Ticket"} {
		if p.seen[m] == 0 {
			t.Errorf("no %s came by", m)
		}
	}
}

// proxy passes frames on and reads them.
type proxy struct {
	mu   sync.Mutex
	seen map[string]int
}

func (p *proxy) listen(t *testing.T, to string, passwd bool) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer client.Close()
				server, err := net.Dial("tcp", to)
				if err != nil {
					t.Error(err)
					return
				}
				defer server.Close()
				for p.pass(t, client, server, passwd, true) && p.pass(t, server, client, passwd, false) {
				}
			})
		}
	})
	return l.Addr().String()
}

// pass moves one message.
func (p *proxy) pass(t *testing.T, from io.Reader, to io.Writer, passwd, request bool) bool {
	var size [4]byte
	if _, err := io.ReadFull(from, size[:]); err != nil {
		return false
	}
	b := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(from, b); err != nil {
		return false
	}
	switch {
	case !passwd:
		p.message(t, b)
	case request:
		r, err := kpasswd.ParseRequest(b)
		p.check(t, "kpasswd request", b, r.Append(nil), err)
		p.message(t, r.APReq)
		p.message(t, r.Priv)
	default:
		r, err := kpasswd.ParseReply(b)
		p.check(t, "kpasswd reply", b, r.Append(nil), err)
		p.message(t, r.APRep)
		p.message(t, r.Priv)
	}
	_, err := to.Write(append(size[:], b...))
	return err == nil
}

func (p *proxy) check(t *testing.T, what string, b, again []byte, err error) {
	p.mu.Lock()
	p.seen[what]++
	n := p.seen[what]
	p.mu.Unlock()
	if dir := os.Getenv("KCLIENT_CAPTURE"); dir != "" {
		_ = os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d.bin", what, n)), b, 0o600)
	}
	if err != nil || !bytes.Equal(b, again) {
		t.Errorf("%s: %v\ncame %x\n out %x", what, err, b, again)
	}
}

// message reads a Kerberos message and the ticket in it.
func (p *proxy) message(t *testing.T, b []byte) {
	kind, ok := krb5.TypeOf(b)
	if !ok {
		t.Errorf("not a message: %x", b)
		return
	}
	var again, ticket []byte
	var err error
	switch kind {
	case krb5.MsgASReq, krb5.MsgTGSReq:
		var q krb5.KDCReq
		q, err = krb5.ParseKDCReq(b)
		q.RawBody = nil
		again = q.Append(nil)
		if ap, ok := krb5.MethodData(q.PAData).Find(krb5.PATGSReq); ok {
			p.message(t, ap)
		}
	case krb5.MsgASRep, krb5.MsgTGSRep:
		var r krb5.KDCRep
		r, err = krb5.ParseKDCRep(b)
		again, ticket = r.Append(nil), r.Ticket
	case krb5.MsgAPReq:
		var r krb5.APReq
		r, err = krb5.ParseAPReq(b)
		again, ticket = r.Append(nil), r.Ticket
	case krb5.MsgAPRep:
		var r krb5.APRep
		r, err = krb5.ParseAPRep(b)
		again = r.Append(nil)
	case krb5.MsgPriv:
		var r krb5.KRBPriv
		r, err = krb5.ParseKRBPriv(b)
		again = r.Append(nil)
	case krb5.MsgError:
		var e krb5.KRBError
		e, err = krb5.ParseKRBError(b)
		again = e.Append(nil)
	}
	p.check(t, kind.String(), b, again, err)
	if ticket != nil {
		x, err := krb5.ParseTicket(ticket)
		p.check(t, "Ticket", ticket, x.Append(nil), err)
	}
}
