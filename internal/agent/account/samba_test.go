package account_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/identity"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

// sambaAccount is the lab's gMSA with the shortest interval: 20 h.
const sambaAccount = "webapp02$"

// witness is the domain as the agent's own identity reaches it. It fails the test
// when a key is refused twice, and when directory and KDC have two names for one
// controller.
type witness struct {
	account.Domain
	t *testing.T

	mu      sync.Mutex
	refused map[string]bool // by key
}

func (w *witness) Authenticate(ctx context.Context, req account.AuthRequest) (account.Authentication, error) {
	auth, err := w.Domain.Authenticate(ctx, req)
	if err == nil && auth.Controller != req.Controller {
		w.t.Errorf("the KDC is called %q, the directory %q", auth.Controller, req.Controller)
	}
	if errors.Is(err, account.ErrWrongKey) {
		w.mu.Lock()
		defer w.mu.Unlock()
		k := string(req.Keys[0].Secret().Reveal())
		if w.refused[k] {
			w.t.Error("a key was refused twice")
		}
		w.refused[k] = true
	}
	return auth, err
}

// journey is a host's agent and the tickets that the KDC has issued to the
// account, at a time that the test sets.
type journey struct {
	t       *testing.T
	dc      *lab.DC
	kdc     *kclient.Client // of everybody else
	host    string
	domain  *witness
	pool    *account.Pool
	handle  *account.Handle
	stop    func()
	tickets []krb5.Ticket
	issued  []time.Time
}

func newJourney(t *testing.T) *journey {
	t.Helper()
	lab.Need(t, "kinit", "kvno")
	dc := lab.Samba(t, lab.SambaConfig{Clock: true})
	cfg := config.Default()
	cfg.Domains = map[string]config.Domain{lab.DNSDomain: {
		Realm: lab.Realm, NetBIOS: lab.NetBIOSDomain, Servers: []string{dc.IP.String()},
		Protection: config.ProtectionSPNEGO, Host: &config.Host{Keytab: dc.Keytab(t, "web1")},
	}}
	set := identity.New(identity.Options{Now: dc.Now})
	if err := set.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	id, err := set.Identity(lab.DNSDomain, nil)
	if err != nil {
		t.Fatal(err)
	}
	kdc, err := kclient.New(kclient.Config{Realm: lab.Realm, KDCs: kclient.StaticKDCs(dc.IP.String()), Now: dc.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = kdc.Close() })
	return &journey{t: t, dc: dc, kdc: kdc, host: id.Host,
		domain: &witness{Domain: id.Domain, t: t, refused: make(map[string]bool)}}
}

// begin starts an agent with what the one before left: its last snapshot, nil for none.
func (j *journey) begin(before *account.Snapshot) {
	req := account.Request{Key: account.Key{Realm: lab.Realm, Name: sambaAccount, Host: j.host}, Domain: j.domain}
	if before != nil {
		req.Restore = before.Acceptor
		if before.Initiator.Proven {
			req.Salt = account.KnownSalt{KVNO: before.Initiator.KVNO, Salt: before.Initiator.Salt}
		}
	}
	j.pool = account.NewPool(account.Config{Now: j.dc.Now})
	ctx, cancel := context.WithCancel(context.WithoutCancel(j.t.Context()))
	done := make(chan struct{})
	go func() {
		_ = j.pool.Run(ctx)
		close(done)
	}()
	j.handle = j.pool.Open(req)
	j.stop = func() {
		j.handle.Close()
		cancel()
		<-done
	}
	patience, enough := context.WithTimeout(j.t.Context(), 20*time.Second)
	defer enough()
	if _, err := j.handle.Wait(patience); err != nil {
		j.t.Fatal(err)
	}
	j.settle()
}

// travel sets the clocks of controller and host.
func (j *journey) travel(to time.Time) {
	j.pool.Travel(func() { j.dc.SetClock(j.t, j.dc.ClockOffset()+to.Sub(j.dc.Now())) })
}

// settle lets the agent do whatever is due.
func (j *journey) settle() {
	j.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !j.pool.Idle(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			j.t.Fatalf("the agent does not come to rest: %v", j.handle.Err())
		}
	}
}

// issue lets a client, web2$, get a ticket to the account.
func (j *journey) issue() {
	j.t.Helper()
	client, err := j.kdc.AS(j.t.Context(), kclient.ASRequest{
		Client: krb5.NewName(krb5.NamePrincipal, "web2$"),
		Secret: kclient.Password(secret.Copy([]byte(lab.ComputerPassword("web2"))))})
	if err != nil {
		j.t.Fatal(err)
	}
	res, err := j.kdc.TGS(j.t.Context(), kclient.TGSRequest{TGT: client.Credential, Server: krb5.NewName(krb5.NamePrincipal, sambaAccount)})
	if err != nil {
		j.t.Fatal(err)
	}
	tk, err := krb5.ParseTicket(res.Credential.Ticket)
	if err != nil {
		j.t.Fatal(err)
	}
	j.tickets = append(j.tickets, tk)
	j.issued = append(j.issued, j.dc.Now())
}

// check opens every live ticket with the acceptor keys, as an acceptor that knows
// its principal does, and authenticates with the client keys alone.
func (j *journey) check(when string) {
	j.t.Helper()
	snap := j.handle.Snapshot()
	var have []string
	for _, s := range snap.Acceptor {
		have = append(have, fmt.Sprint(s.KVNO))
	}
	live := 0
	for i, tk := range j.tickets {
		if j.dc.Now().Sub(j.issued[i]) > account.DefaultTicketLife {
			continue
		}
		live++
		if !opens(snap.Acceptor, tk) {
			j.t.Errorf("%s: the keys %v do not open a ticket of %v, kvno %d, etype %v", when, have,
				j.issued[i].UTC().Format(time.DateTime), tk.EncPart.KVNO, tk.EncPart.EType)
		}
	}
	_, err := j.kdc.AS(j.t.Context(), kclient.ASRequest{
		Client: snap.Principal.Name, Secret: kclient.Keys(snap.Initiator.Keys...)})
	if err != nil {
		j.t.Errorf("%s: AS exchange with the client keys, kvno %d: %v", when, snap.Initiator.KVNO, err)
	}
	j.askMIT(when, snap)
	j.t.Logf("%-28s %s  acceptor kvno %v, initiator kvno %d, %d live tickets", when,
		j.dc.Now().UTC().Format(time.DateTime), have, snap.Initiator.KVNO, live)
}

// askMIT lets MIT's programs use the same keys: kinit takes the highest number of
// the client keytab, kvno opens a new ticket with the acceptor keytab.
func (j *journey) askMIT(when string, snap *account.Snapshot) {
	j.t.Helper()
	dir := j.t.TempDir()
	j.keytab(dir+"/client", snap, []account.KeySet{snap.Initiator})
	j.keytab(dir+"/acceptor", snap, snap.Acceptor)
	principal := snap.Principal.String()
	for _, argv := range [][]string{
		{"kinit", "-k", "-t", dir + "/client", principal},
		{"kvno", "-k", dir + "/acceptor", principal},
	} {
		cmd := exec.CommandContext(j.t.Context(), argv[0], argv[1:]...)
		cmd.Env = append(append(os.Environ(), j.dc.Env()...), "KRB5CCNAME=FILE:"+dir+"/cc")
		if out, err := cmd.CombinedOutput(); err != nil {
			j.t.Errorf("%s: %s: %v\n%s", when, argv[0], err, out)
		}
	}
}

func (j *journey) keytab(path string, snap *account.Snapshot, sets []account.KeySet) {
	j.t.Helper()
	var kt keytab.Keytab
	for _, s := range sets {
		for _, k := range s.Keys {
			kt.Entries = append(kt.Entries, keytab.Entry{Principal: snap.Principal, KVNO: s.KVNO, Key: k})
		}
	}
	b, err := kt.Append(nil)
	if err != nil {
		j.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		j.t.Fatal(err)
	}
}

func opens(sets []account.KeySet, tk krb5.Ticket) bool {
	i := slices.IndexFunc(sets, func(s account.KeySet) bool { return s.KVNO == tk.EncPart.KVNO })
	if i < 0 {
		return false
	}
	return slices.ContainsFunc(sets[i].Keys, func(k *crypto.Key) bool {
		if k.EType() != tk.EncPart.EType {
			return false
		}
		_, err := k.Decrypt(krb5.UsageTicket, tk.EncPart.Cipher)
		return err == nil
	})
}

// TestRolloverOfSamba goes through two rollovers of a real domain, the first of
// which leaves no previous password: at each instant, before the agent notices
// what time it is and after, and again after a restart, every ticket to the
// account opens and the client keys authenticate.
func TestRolloverOfSamba(t *testing.T) {
	j := newJourney(t)
	j.begin(nil)
	defer func() { j.stop() }()
	for round := range 2 {
		expiry := j.handle.Expiry()
		for _, at := range []struct {
			name  string
			after time.Duration
		}{
			{"9 h before", -9 * time.Hour},
			{"before the window", -30 * time.Minute},
			{"as the agent looks round", -9 * time.Minute},
			{"in the window", -2*time.Minute - 30*time.Second},
			{"a second before expiry", -time.Second},
			{"a second after expiry", time.Second},
			{"at expiry, agent awake", 0},
			{"4 minutes later", 4 * time.Minute},
			{"6 minutes later", 6 * time.Minute},
			{"an hour later", time.Hour},
			{"9 h later", 9 * time.Hour},
		} {
			name := fmt.Sprintf("rollover %d, %s", round+1, at.name)
			if at.after != 0 {
				j.travel(expiry.Add(at.after))
			}
			j.issue()
			if at.after == 0 || at.after == time.Second {
				// Another host's logon rolls the account over.
				if _, err := j.domain.ReadPassword(t.Context(), sambaAccount, account.ReadHint{}); err != nil {
					t.Fatal(err)
				}
				j.issue()
			}
			j.check(name)
			j.settle()
			j.issue()
			j.check(name + ", noticed")
			before := j.handle.Snapshot()
			j.stop()
			j.begin(before)
			j.check(name + ", restarted")
		}
	}
}
