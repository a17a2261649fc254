package account

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

// sambaAccount is the lab's gMSA with the shortest interval: 20 h.
const sambaAccount = "webapp02$"

// sambaDomain is the lab's domain as web1$ sees it.
type sambaDomain struct {
	domain  *ad.Domain
	session *ad.Session
	refused map[string]int // by key
	t       *testing.T
}

func openSamba(t *testing.T, dc *lab.DC) *sambaDomain {
	t.Helper()
	pem, err := os.ReadFile(dc.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	d, err := ad.NewDomain(ad.Config{RootCAs: roots,
		Locate: locate.Config{Domain: lab.DNSDomain, Resolver: &locate.DNS{Servers: []string{dc.DNS()}}, Now: dc.Now}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	name, err := adproto.ParseAccountName("web1$")
	if err != nil {
		t.Fatal(err)
	}
	id, err := ad.WithPassword(name, secret.New([]byte(lab.ComputerPassword("web1"))))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ad.Open(d, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return &sambaDomain{domain: d, session: s, refused: make(map[string]int), t: t}
}

func (d *sambaDomain) ReadPassword(ctx context.Context, account string, hint ReadHint) (Reading, error) {
	name, err := adproto.ParseAccountName(account)
	if err != nil {
		return Reading{}, err
	}
	if hint.FreshTicket {
		d.session.Refresh()
	}
	p, err := d.session.ManagedPassword(ctx, name, ad.Hint{Avoid: hint.Avoid})
	if err != nil {
		reason := ErrNoController
		if errors.Is(err, ad.ErrWithheld) {
			reason = ErrWithheld
		}
		return Reading{}, &Error{Reason: reason, Err: err}
	}
	return Reading{Blob: p.Blob, KVNO: p.Account.KVNO, ID: p.Account.MSA.ID, Name: p.Account.Name, SID: p.Account.SID,
		SPNs: p.Account.SPNs, EncTypes: uint32(p.Account.EncTypes), Controller: p.Controller}, nil
}

func (d *sambaDomain) Authenticate(ctx context.Context, req AuthRequest) (Authentication, error) {
	res, err := d.domain.Kerberos().AS(ctx, kclient.ASRequest{
		Client: req.Client.Name, Secret: kclient.SaltedKeys(req.Salt, req.Proven, req.Keys...), Prefer: req.Controller,
	})
	if err == nil {
		if res.KDC.Host != req.Controller {
			d.t.Errorf("the KDC is called %q, the directory %q", res.KDC.Host, req.Controller)
		}
		return Authentication{Credential: res.Credential, KVNO: res.KVNO, Controller: res.KDC.Host}, nil
	}
	e := &Error{Reason: ErrNoController, Err: err}
	if s, ok := errors.AsType[*kclient.SaltError](err); ok {
		e.Reason, e.Salt = ErrSalt, s.Salt
	} else if errors.Is(err, kclient.ErrWrongKey) {
		e.Reason = ErrWrongKey
		k := string(req.Keys[0].Secret().Reveal())
		if d.refused[k]++; d.refused[k] > 1 {
			d.t.Error("a key was refused twice")
		}
	}
	return Authentication{}, e
}

func (d *sambaDomain) ServiceTicket(ctx context.Context, tgt krb5.Credential, service krb5.PrincipalName) (krb5.Credential, error) {
	res, err := d.domain.Kerberos().TGS(ctx, kclient.TGSRequest{TGT: tgt, Server: service})
	if err != nil {
		return krb5.Credential{}, &Error{Reason: ErrNoController, Err: err}
	}
	return res.Credential, nil
}

// journey is a host's agent and the tickets that the KDC has issued to the
// account, at a time that the test sets.
type journey struct {
	t       *testing.T
	dc      *lab.DC
	domain  *sambaDomain
	pool    *Pool
	handle  *Handle
	stop    func()
	tickets []krb5.Ticket
	issued  []time.Time
}

// begin starts an agent with what the one before left.
func (j *journey) begin(restore []KeySet) {
	j.pool = NewPool(Config{Now: j.dc.Now})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		_ = j.pool.Run(ctx)
		close(done)
	}()
	j.handle = j.pool.Open(Request{Key: Key{Realm: lab.Realm, Name: sambaAccount, Host: "web1$"}, Domain: j.domain, Restore: restore})
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

// travel sets the clocks of controller and host, as if the time between had
// passed in sleep.
func (j *journey) travel(to time.Time) {
	j.pool.mu.Lock()
	j.dc.SetClock(j.t, j.dc.ClockOffset()+to.Sub(j.dc.Now()))
	j.pool.wall = time.Time{} // time has passed, the clock has not jumped
	j.pool.mu.Unlock()
}

// settle lets the agent do whatever is due.
func (j *journey) settle() {
	j.t.Helper()
	j.pool.poke()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		j.pool.mu.Lock()
		idle := j.pool.working == 0 && len(j.pool.queue) > 0 && j.pool.queue[0].due.After(j.dc.Now())
		j.pool.mu.Unlock()
		if idle {
			return
		}
		if time.Now().After(deadline) {
			j.t.Fatalf("the agent does not come to rest: %v", j.handle.Err())
		}
	}
}

// issue lets a client, web1$, get a ticket to the account.
func (j *journey) issue() {
	j.t.Helper()
	tgt, err := j.domain.session.TGT(j.t.Context())
	if err != nil {
		j.t.Fatal(err)
	}
	cred, err := j.domain.ServiceTicket(j.t.Context(), tgt, krb5.NewName(krb5.NamePrincipal, sambaAccount))
	if err != nil {
		j.t.Fatal(err)
	}
	tk, err := krb5.ParseTicket(cred.Ticket)
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
		if j.dc.Now().Sub(j.issued[i]) > DefaultTicketLife {
			continue
		}
		live++
		if !opens(snap.Acceptor, tk) {
			j.t.Errorf("%s: the keys %v do not open a ticket of %v, kvno %d, etype %v", when, have,
				j.issued[i].UTC().Format(time.DateTime), tk.EncPart.KVNO, tk.EncPart.EType)
		}
	}
	_, err := j.domain.domain.Kerberos().AS(j.t.Context(), kclient.ASRequest{
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
func (j *journey) askMIT(when string, snap *Snapshot) {
	j.t.Helper()
	dir := j.t.TempDir()
	j.keytab(dir+"/client", snap, []KeySet{snap.Initiator})
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

func (j *journey) keytab(path string, snap *Snapshot, sets []KeySet) {
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

func opens(sets []KeySet, tk krb5.Ticket) bool {
	i := slices.IndexFunc(sets, func(s KeySet) bool { return s.KVNO == tk.EncPart.KVNO })
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
	lab.Need(t, "kinit", "kvno")
	dc := lab.Samba(t, lab.SambaConfig{Clock: true})
	j := &journey{t: t, dc: dc, domain: openSamba(t, dc)}
	j.begin(nil)
	defer func() { j.stop() }()
	for round := range 2 {
		expiry := j.expiry()
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
				if _, err := j.domain.session.ManagedPassword(t.Context(), adproto.AccountName{Name: sambaAccount}, ad.Hint{}); err != nil {
					t.Fatal(err)
				}
				j.issue()
			}
			j.check(name)
			j.settle()
			j.issue()
			j.check(name + ", noticed")
			restore := j.handle.Snapshot().Acceptor
			j.stop()
			j.begin(restore)
			j.check(name + ", restarted")
		}
	}
}

// expiry is when the controller goes on to the next password.
func (j *journey) expiry() time.Time {
	a := j.handle.share.account
	earliest, _ := a.ring.expiry()
	return earliest
}
