package agent_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/identity"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

// paced tells when the agent asks its domain something, so that the clock stands
// still meanwhile: no answer shall seem to have taken minutes.
type paced struct {
	agent.Identities

	mu      sync.Mutex
	domains map[account.Domain]*pacedDomain
	asking  int
	last    time.Time // of the machine's clock: when the last question was answered
}

func (p *paced) Identity(domain string, portable *credspec.HostAccountConfig) (agent.Identity, error) {
	id, err := p.Identities.Identity(domain, portable)
	if err != nil {
		return id, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	d := p.domains[id.Domain]
	if d == nil {
		d = &pacedDomain{id.Domain, p}
		p.domains[id.Domain] = d
	}
	id.Domain = d
	return id, nil
}

// quiet is how long nothing must have been asked: the making of keys lies between two
// questions.
const quiet = 40 * time.Millisecond

// settle waits until the agent asks nothing.
func (p *paced) settle() {
	for {
		p.mu.Lock()
		at := p.last.Add(quiet)
		if p.asking > 0 {
			at = time.Now().Add(quiet)
		}
		p.mu.Unlock()
		if !time.Now().Before(at) {
			return
		}
		time.Sleep(time.Until(at))
	}
}

func (p *paced) ask() (answered func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asking++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asking--
		p.last = time.Now()
	}
}

type pacedDomain struct {
	account.Domain
	p *paced
}

func (d *pacedDomain) ReadPassword(ctx context.Context, name string, hint account.ReadHint) (account.Reading, error) {
	defer d.p.ask()()
	return d.Domain.ReadPassword(ctx, name, hint)
}

func (d *pacedDomain) Authenticate(ctx context.Context, r account.AuthRequest) (account.Authentication, error) {
	defer d.p.ask()()
	return d.Domain.Authenticate(ctx, r)
}

func (d *pacedDomain) ServiceTicket(ctx context.Context, tgt krb5.Credential, service krb5.PrincipalName) (krb5.Credential, string, error) {
	defer d.p.ask()()
	return d.Domain.ServiceTicket(ctx, tgt, service)
}

// wayfarer is an agent with one lease, on a host whose clock goes with the
// controller's, and the tickets that the KDC has issued to the account.
type wayfarer struct {
	*sambaGuard
	t       *testing.T
	dc      *lab.DC
	pace    *paced
	kdc     *kclient.Client // of everybody else
	lease   *agentapi.Lease
	tickets []krb5.Ticket
	issued  []time.Time
}

// travel lets time pass up to an instant, in steps that are too small for a jump of
// the clock: the agent does at each what it has planned.
func (w *wayfarer) travel(to time.Time) {
	w.t.Helper()
	const step = 50 * time.Second
	for left := to.Sub(w.dc.Now()); left > 0; left = to.Sub(w.dc.Now()) {
		w.dc.SetClock(w.t, w.dc.ClockOffset()+min(left, step))
		w.look()
	}
}

// look has the agent look at its clock and do what is due.
func (w *wayfarer) look() {
	w.t.Helper()
	if _, err := w.client.Reload(w.t.Context(), &agentapi.ReloadRequest{}); err != nil {
		w.t.Fatal(err)
	}
	time.Sleep(time.Millisecond)
	w.pace.settle()
}

// expiry is when the password in force ends, as the agent knows it.
func (w *wayfarer) expiry() time.Time {
	w.t.Helper()
	s, err := w.client.Status(w.t.Context(), &agentapi.StatusRequest{})
	if err != nil || len(s.GetAccounts()) != 1 || s.GetAccounts()[0].GetNextRollover() == nil {
		w.t.Fatalf("status %v, %v", s, err)
	}
	return s.GetAccounts()[0].GetNextRollover().AsTime()
}

// issue lets a client, web2$, get a ticket to the account.
func (w *wayfarer) issue() {
	w.t.Helper()
	client, err := w.kdc.AS(w.t.Context(), kclient.ASRequest{
		Client: krb5.NewName(krb5.NamePrincipal, "web2$"),
		Secret: kclient.Password(secret.Copy([]byte(lab.ComputerPassword("web2"))))})
	if err != nil {
		w.t.Fatal(err)
	}
	res, err := w.kdc.TGS(w.t.Context(), kclient.TGSRequest{TGT: client.Credential, Server: krb5.NewName(krb5.NamePrincipal, "webapp02$")})
	if err != nil {
		w.t.Fatal(err)
	}
	ticket, err := krb5.ParseTicket(res.Credential.Ticket)
	if err != nil {
		w.t.Fatal(err)
	}
	w.tickets, w.issued = append(w.tickets, ticket), append(w.issued, w.dc.Now())
}

// check opens every live ticket with the lease's keytab, and lets MIT's programs use
// each of the lease's files.
func (w *wayfarer) check(when string) {
	w.t.Helper()
	kt := w.keytab("keytab")
	live := 0
	for i, ticket := range w.tickets {
		if w.dc.Now().Sub(w.issued[i]) > account.DefaultTicketLife {
			continue
		}
		live++
		if !opensTicket(kt, ticket) {
			w.t.Errorf("%s: the keytab does not open a ticket of %s, kvno %d", when, w.issued[i].UTC().Format(time.DateTime), ticket.EncPart.KVNO)
		}
	}
	dir := w.t.TempDir()
	cache, err := os.ReadFile(w.lease.GetDirectory() + "/ccache")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/cc", cache, 0o600); err != nil { // kvno writes to its cache
		w.t.Fatal(err)
	}
	for _, argv := range [][]string{
		{"klist", "-s"},
		{"kvno", "-k", w.lease.GetDirectory() + "/keytab", "webapp02$@" + lab.Realm},
		{"kinit", "-k", "-t", w.lease.GetDirectory() + "/client.keytab", "-c", dir + "/other", "webapp02$@" + lab.Realm},
	} {
		cmd := exec.CommandContext(w.t.Context(), argv[0], argv[1:]...)
		cmd.Env = append(append(os.Environ(), w.dc.Env()...), "KRB5CCNAME=FILE:"+dir+"/cc")
		if out, err := cmd.CombinedOutput(); err != nil {
			w.t.Errorf("%s: %s: %v\n%s", when, argv[0], err, out)
		}
	}
	w.t.Logf("%-30s %s  keytab %s, client keytab %s, %d live tickets", when, w.dc.Now().UTC().Format(time.DateTime),
		versions(kt), versions(w.keytab("client.keytab")), live)
}

func (w *wayfarer) keytab(name string) keytab.Keytab {
	w.t.Helper()
	b, err := os.ReadFile(filepath.Join(w.lease.GetDirectory(), name))
	if err != nil {
		w.t.Fatal(err)
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		w.t.Fatal(err)
	}
	return kt
}

// versions lists the key versions of a keytab.
func versions(kt keytab.Keytab) string {
	var list []string
	for _, e := range kt.Entries {
		if v := fmt.Sprint(e.KVNO); len(list) == 0 || list[len(list)-1] != v {
			list = append(list, v)
		}
	}
	return strings.Join(list, " ")
}

// opensTicket tries the key of the ticket's version and type alone, as an acceptor
// does that knows its principal.
func opensTicket(kt keytab.Keytab, ticket krb5.Ticket) bool {
	for _, e := range kt.Entries {
		if e.KVNO != ticket.EncPart.KVNO || e.Key.EType() != ticket.EncPart.EType {
			continue
		}
		if _, err := e.Key.Decrypt(krb5.UsageTicket, ticket.EncPart.Cipher); err == nil {
			return true
		}
	}
	return false
}

// restart ends the agent and starts the next one on what it has left.
func (w *wayfarer) restart() {
	w.t.Helper()
	if err := w.stop(); err != nil {
		w.t.Fatal(err)
	}
	w.renewIdentities()
	w.start(w.t)
	w.look()
}

// renewIdentities gives the agent identities that know nothing, as a new process has.
func (w *wayfarer) renewIdentities() {
	w.pace = &paced{
		Identities: identity.New(identity.Options{Log: w.cfg.Log, Now: w.dc.Now}), domains: map[account.Domain]*pacedDomain{},
	}
	w.cfg.Identities = w.pace
}

// The whole agent, from its socket to the files of a lease, goes through two
// rollovers of a real domain, awake and across restarts. The account's engine alone
// does so in package account, with more instants of doubt.
func TestALeaseGoesThroughRollovers(t *testing.T) {
	lab.Need(t, "kinit", "kvno", "klist")
	onBoth(t, true, leaseGoesThroughRollovers)
}

func leaseGoesThroughRollovers(t *testing.T, dc *lab.DC) {
	kdc, err := kclient.New(kclient.Config{Realm: lab.Realm, KDCs: kclient.StaticKDCs(dc.IP.String()), Now: dc.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kdc.Close() })
	w := &wayfarer{sambaGuard: prepare(t, joined(t, dc), dc.Now), t: t, dc: dc, kdc: kdc}
	w.renewIdentities()
	w.start(t)
	if w.lease, err = w.sambaGuard.lease(t, "webapp02", 1234); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		expiry := w.expiry()
		for _, at := range []struct {
			name  string
			after time.Duration
		}{
			{"9 h before", -9 * time.Hour},
			{"before the window", -30 * time.Minute},
			{"in the window", -2*time.Minute - 30*time.Second},
			{"a second before expiry", -time.Second},
			{"a second after expiry", time.Second},
			{"4 minutes later", 4 * time.Minute},
			{"6 minutes later", 6 * time.Minute},
			{"9 h later", 9 * time.Hour},
		} {
			name := fmt.Sprintf("rollover %d, %s", round+1, at.name)
			w.travel(expiry.Add(at.after))
			w.issue()
			w.check(name)
			w.restart()
			w.issue()
			w.check(name + ", restarted")
		}
	}
}
