package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// liar is a name server that knows what the domain's does, and says of every address that
// it is otherName's.
type liar struct {
	net *lab.Net

	mu       sync.Mutex
	forwards int
	reverses []string // the names whose PTR records were asked for
}

// otherName is a service principal of another computer, so that whoever believes the PTR
// record gets a ticket for the wrong one.
const otherName = "liar.contoso.com"

// startLiar makes it the name server of the Net.
func startLiar(t *testing.T, n *lab.Net) *liar {
	t.Helper()
	s := &liar{net: n}
	at := net.JoinHostPort(lab.NetClient.String(), "53")
	udp, err := n.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := n.Listen("tcp", at)
	if err != nil {
		t.Fatal(errors.Join(err, udp.Close()))
	}
	for _, server := range []*dns.Server{{PacketConn: udp, Handler: s}, {Listener: tcp, Handler: s}} {
		ended := make(chan error, 1)
		ready := make(chan struct{})
		server.NotifyStartedFunc = func() { close(ready) }
		go func() { ended <- server.ActivateAndServe() }()
		<-ready
		t.Cleanup(func() {
			if err := errors.Join(server.Shutdown(), <-ended); err != nil {
				t.Error(err)
			}
		})
	}
	n.WriteFile("/etc/resolv.conf", fmt.Appendf(nil, "nameserver %s\n", lab.NetClient), 0o644)
	return s
}

func (s *liar) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	name := q.Question[0].Name
	reply := new(dns.Msg).SetReply(q)
	if q.Question[0].Qtype == dns.TypePTR || strings.HasSuffix(strings.ToLower(name), ".arpa.") {
		reply.Answer = []dns.RR{&dns.PTR{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: 60}, Ptr: otherName + "."}}
		s.mu.Lock()
		s.reverses = append(s.reverses, name)
		s.mu.Unlock()
	} else if answer, err := s.forward(w.LocalAddr().Network(), q); err == nil {
		reply = answer
	} else {
		reply.Rcode = dns.RcodeServerFailure
	}
	_ = w.WriteMsg(reply)
}

// forward asks the domain's own name server.
func (s *liar) forward(network string, q *dns.Msg) (*dns.Msg, error) {
	s.mu.Lock()
	s.forwards++
	s.mu.Unlock()
	conn, err := s.net.Dial(context.Background(), network, net.JoinHostPort(lab.NetServer.String(), "53"))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	c := &dns.Conn{Conn: conn, UDPSize: dns.MaxMsgSize}
	if err := c.WriteMsg(q); err != nil {
		return nil, err
	}
	return c.ReadMsg()
}

// asked is what was asked since the last call.
func (s *liar) asked() (forwards int, reverses []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	forwards, reverses = s.forwards, s.reverses
	s.forwards, s.reverses = 0, nil
	return forwards, reverses
}

// TestNoNameIsAskedBackwards has a name server whose PTR records lie: gmsa and its agent
// find the controller by DNS, authenticate themselves to it by GSSAPI and use it without
// one: it could not read what a ticket for the other name shows it. MIT's programs do
// the same with a lease's krb5.conf; that they believe the PTR record without it shows that
// it would be believed.
// security 12.
func TestNoNameIsAskedBackwards(t *testing.T) {
	lab.Need(t, "root", "kinit", "kvno", "klist")
	n := lab.Netns(t, "web1.contoso.com")
	dc := lab.Samba(t, lab.SambaConfig{Net: n})
	dc.Replace(t, "evil1$", "servicePrincipalName", "ldap/"+otherName)
	names := startLiar(t, n)
	n.WriteFile("/etc/krb5.conf", []byte("[libdefaults]\ndefault_realm = CONTOSO.COM\ndns_lookup_kdc = true\nudp_preference_limit = 1\n"), 0o644)
	keytab, err := os.ReadFile(dc.Keytab(t, "web1"))
	if err != nil {
		t.Fatal(err)
	}
	n.WriteFile("/run/web1.keytab", keytab, 0o600)
	n.WriteFile("/run/agent.yaml", []byte(`domains: {contoso.com: {host: {keytab: /run/web1.keytab, rotate_password: never}}}
leases: {allow_swap: true}
event_log: {journal: false}
`), 0o600)
	admin := []string{"KRB5CCNAME=FILE:/run/admin.ccache"}
	program := lab.Gmsa(t)
	run := func(env []string, input string, argv ...string) string {
		t.Helper()
		out, err := n.Try(env, input, argv[0], argv[1:]...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
		}
		return out
	}
	run(admin, lab.AdminPassword+"\n", "kinit", lab.Administrator)
	names.asked()
	forwards := func(what string) {
		t.Helper()
		forwards, reverses := names.asked()
		if forwards == 0 || len(reverses) > 0 {
			t.Errorf("%s: asks DNS %d times forwards, and backwards for %q", what, forwards, reverses)
		}
	}

	out := run(admin, "", program, "account", "show", "webapp01")
	forwards("gmsa account show")
	if !strings.Contains(out, "webapp01") {
		t.Errorf("gmsa account show:\n%s", out)
	}

	n.Start("/run/agent.log", program, "agent", "serve", "--config", "/run/agent.yaml")
	lab.Eventually(t, 20*time.Second, func() error {
		_, err := n.TryRun(program, "agent", "status")
		return err
	})
	lease := strings.TrimSpace(run(nil, "", program, "lease", "create", "--account", "webapp01", "--until-removed"))
	forwards("the agent")

	n.Run("cp", lease+"/..data/ccache", "/run/lease.ccache") // to which kvno adds
	cached := []string{"KRB5CCNAME=FILE:/run/lease.ccache"}
	believed := run(cached, "", "kvno", "-S", "ldap", lab.DCHost)
	if _, reverses := names.asked(); !strings.Contains(believed, "ldap/"+otherName+"@") || len(reverses) == 0 {
		t.Errorf("the PTR record deceives nobody, MIT's kvno asks for %q: %s", reverses, believed)
	}
	leased := append(cached, "KRB5_CONFIG="+lease+"/krb5.conf")
	if out := run(leased, "", "kvno", "-S", "ldap", lab.DCHost); !strings.Contains(out, "ldap/"+lab.DCHost+"@") {
		t.Errorf("by the lease's krb5.conf: %s", out)
	}
	if _, reverses := names.asked(); len(reverses) > 0 {
		t.Errorf("by the lease's krb5.conf MIT's kvno asks for %q", reverses)
	}
}
