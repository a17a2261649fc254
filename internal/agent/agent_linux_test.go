package agent

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

func inode(t testing.TB, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// readCCache parses a lease's cache.
func readCCache(t testing.TB, dir string) ccache.Cache {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, lease.CCacheName))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ccache.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// versions lists the kvnos of a lease's keytab, newest first as it is written.
func kvnos(t testing.TB, path string) []uint32 {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	var list []uint32
	for _, e := range kt.Entries {
		if !slices.Contains(list, e.KVNO) {
			list = append(list, e.KVNO)
		}
	}
	return list
}

func TestLeaseFromCreationToRemoval(t *testing.T) {
	g := newGuard(t, nil).start(t)
	r := mine(`CONTOSO\WebApp01$`)
	r.Keytab, r.PrefetchSpns = true, []string{"MSSQLSvc/db1.contoso.com:1433"}
	l := g.create(t, r)

	c := readCCache(t, l.GetDirectory())
	if got := c.Principal.String(); got != "webapp01$@CONTOSO.COM" || len(c.Credentials) != 2 {
		t.Errorf("cache of %s with %d tickets, want webapp01$ with its TGT and the prefetched ticket", got, len(c.Credentials))
	}
	if got := c.Credentials[1].Server.String(); got != "MSSQLSvc/db1.contoso.com:1433@CONTOSO.COM" {
		t.Errorf("second ticket for %s", got)
	}
	if got := kvnos(t, l.GetDirectory()+"/keytab"); fmt.Sprint(got) != "[1]" {
		t.Errorf("keytab has %v", got)
	}
	b, err := os.ReadFile(l.GetDirectory() + "/keytab")
	if err != nil {
		t.Fatal(err)
	}
	kt, _ := keytab.Parse(b)
	var names []string
	for _, p := range kt.Principals() {
		names = append(names, p.String())
	}
	if fmt.Sprint(names) != "[webapp01$@CONTOSO.COM HTTP/webapp01.contoso.com@CONTOSO.COM]" {
		t.Errorf("keytab is for %v", names)
	}
	conf, err := os.ReadFile(l.GetDirectory() + "/krb5.conf")
	if err != nil || !strings.Contains(string(conf), "kdc = dc1.contoso.com") || !strings.Contains(string(conf), "default_ccache_name = FILE:/run/gmsa/..data/ccache") {
		t.Errorf("krb5.conf: %v\n%s", err, conf)
	}
	if got := l.GetEnvironment()["KRB5CCNAME"]; got != "FILE:"+l.GetDirectory()+"/..data/ccache" {
		t.Errorf("KRB5CCNAME=%s", got)
	}
	if a := l.GetAccounts(); len(a) != 1 || a[0].GetState() != agentapi.AccountState_ACCOUNT_STATE_READY || a[0].GetKvno() != 1 || !a[0].GetPrimary() {
		t.Errorf("accounts %v", a)
	}
	if _, err := g.client.RemoveLease(t.Context(), &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: l.GetId()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(l.GetDirectory()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory after removal: %v", err)
	}
	if _, err := g.client.GetLease(t.Context(), &agentapi.GetLeaseRequest{Id: l.GetId()}); kindOf(err) != agentapi.Kind_KIND_NOT_FOUND {
		t.Errorf("lease after removal: %v", err)
	}
	if got := g.events(t); fmt.Sprint(got) != "[2]" {
		t.Errorf("events %v, want 2 alone", got)
	}
}

// What the status says of an account, the times in its keytabs, and the clock in
// its cache.
func TestWhatIsKnownOfAnAccount(t *testing.T) {
	g := newGuard(t, nil)
	g.domain.offset = 7 * time.Minute
	began := time.Now().Truncate(time.Second)
	g.start(t)
	r := mine("webapp01@contoso.com")
	r.Keytab = true
	l := g.create(t, r)
	eventually(t, func() error {
		s, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
		if err != nil {
			return err
		}
		a := s.GetAccounts()[0]
		// The fake domain's passwords live for a month.
		if left := a.GetNextRollover().AsTime().Sub(began); left < 719*time.Hour || left > 721*time.Hour {
			return fmt.Errorf("next password %v from now", left)
		}
		if next := a.GetNextAction().AsTime(); a.GetController() != "dc1.contoso.com" || !next.After(began) {
			return fmt.Errorf("controller %q, next action %v", a.GetController(), next)
		}
		return nil
	})
	for _, name := range []string{lease.KeytabName, lease.ClientKeytabName} {
		b, err := os.ReadFile(filepath.Join(l.GetDirectory(), name))
		if err != nil {
			t.Fatal(err)
		}
		kt, err := keytab.Parse(b)
		if err != nil || len(kt.Entries) == 0 {
			t.Fatalf("%s: %v, %v", name, kt, err)
		}
		for _, e := range kt.Entries {
			if e.Timestamp.Before(began) || e.Timestamp.After(time.Now()) {
				t.Errorf("%s: an entry of %v, want the time of the read", name, e.Timestamp)
			}
		}
	}
	if got := readCCache(t, l.GetDirectory()).KDCOffset; got != g.domain.offset {
		t.Errorf("clock offset in the cache %v, want %v", got, g.domain.offset)
	}
	before, err := os.ReadFile(l.GetDirectory() + "/keytab")
	if err != nil {
		t.Fatal(err)
	}
	reads := g.domain.reads.Load()
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(began.Add(2 * time.Second))) // another second than the first
	g.start(t)
	eventually(t, func() error {
		if g.domain.reads.Load() == reads {
			return errors.New("not read again")
		}
		l, err := g.client.GetLease(t.Context(), &agentapi.GetLeaseRequest{Id: l.GetId()})
		if err == nil && l.GetAccounts()[0].GetState() != agentapi.AccountState_ACCOUNT_STATE_READY {
			err = errors.New("not ready")
		}
		return err
	})
	if after, err := os.ReadFile(l.GetDirectory() + "/keytab"); err != nil || string(after) != string(before) {
		t.Errorf("a restart changed the times in a keytab whose keys are the same: %v", err)
	}
}

func kindOf(err error) agentapi.Kind {
	if f, ok := errors.AsType[*agentapi.Failure](err); ok {
		return f.Kind
	}
	return agentapi.Kind_KIND_UNSPECIFIED
}

func TestManyCallersCauseOneRead(t *testing.T) {
	g := newGuard(t, nil).start(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() { g.create(t, mine("webapp01")) })
	}
	wg.Wait()
	if reads, logons := g.domain.reads.Load(), g.domain.logons.Load(); reads != 1 || logons != 1 {
		t.Errorf("%d reads and %d logons for 50 leases, want 1 and 1", reads, logons)
	}
	r := mine("webapp01")
	r.Isolated = true
	l := g.create(t, r)
	if g.domain.logons.Load() != 2 || g.domain.reads.Load() != 1 {
		t.Errorf("an isolated lease: %d reads, %d logons, want 1 and 2", g.domain.reads.Load(), g.domain.logons.Load())
	}
	shared := g.create(t, mine("webapp01"))
	if a, b := readCCache(t, l.GetDirectory()), readCCache(t, shared.GetDirectory()); string(a.Credentials[0].Ticket) == string(b.Credentials[0].Ticket) {
		t.Error("the isolated lease has the shared ticket")
	}
}

func TestLeaseEndsWithItsWorkload(t *testing.T) {
	g := newGuard(t, nil).start(t)
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := mine("webapp01")
	r.Workload = &agentapi.CreateLeaseRequest_Process{Process: &agentapi.Process{Pid: int32(cmd.Process.Pid)}}
	l := g.create(t, r)
	other := g.create(t, mine("webapp01"))
	if l.GetProcess().GetStartTime() == 0 {
		t.Error("the workload has no start time")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, func() error {
		if _, err := os.Stat(l.GetDirectory()); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("directory after the workload's end: %w", err)
		}
		return nil
	})
	if _, err := os.Stat(other.GetDirectory()); err != nil {
		t.Errorf("another workload's lease: %v", err)
	}
	if _, err := g.client.CreateLease(t.Context(), r); kindOf(err) != agentapi.Kind_KIND_NOT_FOUND {
		t.Errorf("lease for a process that has ended: %v", err)
	}
	r.Workload = &agentapi.CreateLeaseRequest_Process{Process: &agentapi.Process{Pid: int32(os.Getpid()), StartTime: 1}}
	if _, err := g.client.CreateLease(t.Context(), r); kindOf(err) != agentapi.Kind_KIND_NOT_FOUND {
		t.Errorf("lease for a pid that was used again: %v", err)
	}
}

func TestAllAccountsOfASpec(t *testing.T) {
	g := newGuard(t, nil)
	g.writeSpec(t, "web", "webapp01", "webapp02")
	g.start(t)
	r := mine("")
	r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "web"}
	l := g.create(t, r)
	for dir, want := range map[string]string{"": "webapp01$", "accounts/webapp01": "webapp01$", "accounts/webapp02": "webapp02$"} {
		if got := readCCache(t, filepath.Join(l.GetDirectory(), dir)).Principal.Name.String(); got != want {
			t.Errorf("%s: ticket of %s, want %s", dir, got, want)
		}
	}
}

// A credential spec may have accounts of several domains, each with its own
// realm, controllers and host identity; accounts of one name stay apart.
func TestSeveralDomains(t *testing.T) {
	g := newGuard(t, func(c *config.Config) {
		c.Domains["fabrikam.com"] = config.Domain{Realm: "FABRIKAM.COM", NetBIOS: "FAB", Protection: config.ProtectionSPNEGO}
	})
	g.writeFile(t, "specs/both.json", `{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":"webapp01","Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":"webapp01","Scope":"contoso.com"},{"Name":"webapp01","Scope":"fabrikam.com"},{"Name":"webapp02","Scope":"fabrikam.com"}]}}`)
	g.start(t)
	r := mine("")
	r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "both"}
	l := g.create(t, r)
	for dir, want := range map[string]string{
		"": "webapp01$@CONTOSO.COM", "accounts/webapp01@contoso.com": "webapp01$@CONTOSO.COM",
		"accounts/webapp01@fabrikam.com": "webapp01$@FABRIKAM.COM", "accounts/webapp02": "webapp02$@FABRIKAM.COM",
	} {
		if got := readCCache(t, filepath.Join(l.GetDirectory(), dir)).Principal.String(); got != want {
			t.Errorf("%s: ticket of %s, want %s", dir, got, want)
		}
	}
	conf, err := os.ReadFile(l.GetDirectory() + "/krb5.conf")
	if err != nil || !strings.Contains(string(conf), "default_realm = CONTOSO.COM") || !strings.Contains(string(conf), "FABRIKAM.COM = {") || !strings.Contains(string(conf), "kdc = dc1.fabrikam.com") {
		t.Errorf("krb5.conf: %v\n%s", err, conf)
	}
	if _, err := g.client.CreateLease(t.Context(), mine("webapp01")); kindOf(err) != agentapi.Kind_KIND_USAGE || !strings.Contains(err.Error(), "2 domains") {
		t.Errorf("a name without a domain: %v", err)
	}
	for _, name := range []string{`FAB\webapp02$`, "webapp02@fabrikam.com", "CN=webapp02,CN=Managed Service Accounts,DC=fabrikam,DC=com"} {
		if got := g.create(t, mine(name)).GetAccounts()[0].GetPrincipal(); got != "webapp02$@FABRIKAM.COM" {
			t.Errorf("%s: %s", name, got)
		}
	}
	if _, err := g.client.CreateLease(t.Context(), mine("webapp01@nowhere.com")); kindOf(err) != agentapi.Kind_KIND_USAGE {
		t.Errorf("a domain that is not configured: %v", err)
	}
}

// A changed file takes effect without a restart: for new leases and for those
// that are alive, whose directory keeps its inode.
func TestSpecChanges(t *testing.T) {
	g := newGuard(t, nil)
	g.writeSpec(t, "web", "webapp01")
	g.start(t)
	r := mine("")
	r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "web"}
	l := g.create(t, r)
	before := inode(t, l.GetDirectory())

	g.writeSpec(t, "web", "webapp03", "webapp01")
	g.writeSpec(t, "new", "webapp04")
	g.writeFile(t, "specs/broken.json", `{"CmsPlugins":`)
	eventually(t, func() error {
		b, err := os.ReadFile(l.GetDirectory() + "/ccache")
		if err != nil {
			return err
		}
		if c, err := ccache.Parse(b); err != nil || c.Principal.Name.String() != "webapp03$" {
			return fmt.Errorf("ticket of %s, %w, want webapp03$", c.Principal, err)
		}
		return nil
	})
	if inode(t, l.GetDirectory()) != before {
		t.Error("the directory has another inode")
	}
	if got := readCCache(t, l.GetDirectory()+"/accounts/webapp01").Principal.Name.String(); got != "webapp01$" {
		t.Errorf("second account %s", got)
	}
	r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "new"}
	g.create(t, r)
	r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "broken"}
	_, err := g.client.CreateLease(t.Context(), r)
	if f, ok := errors.AsType[*agentapi.Failure](err); !ok || f.EventID != 3 || len(f.Hints) == 0 {
		t.Errorf("lease of an unparsable spec: %v", err)
	}
	if !slices.Contains(g.events(t), event.IDSpecUnparsable) {
		t.Errorf("events %v, want 3 among them", g.events(t))
	}
	status, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range status.GetCredentialSpecs() {
		names = append(names, fmt.Sprintf("%s:%d", s.GetName(), len(s.GetFaults())))
	}
	if !slices.Equal(names, []string{"broken:1", "new:0", "web:0"}) {
		t.Errorf("specs %v", names)
	}
}

// An account that a spec names from now on, and that this host may not read,
// holds up no other: neither now nor after a restart.
func TestOneAccountOfASpecFails(t *testing.T) {
	g := newGuard(t, nil)
	g.writeSpec(t, "web", "webapp01", "webapp02")
	g.start(t)
	r := mine("")
	r.Subject, r.Keytab = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "web"}, true
	l := g.create(t, r)
	ticket := func(name string) string {
		return string(readCCache(t, filepath.Join(l.GetDirectory(), "accounts", name)).Credentials[0].Ticket)
	}
	first, second := ticket("webapp01"), ticket("webapp02")
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	g.domain.setFail("webapp02$", account.ErrWithheld)
	g.start(t)
	eventually(t, func() error {
		if ticket("webapp01") == first {
			return errors.New("the account that can be read has its old ticket")
		}
		return nil
	})
	if ticket("webapp02") != second || len(kvnos(t, l.GetDirectory()+"/accounts/webapp02/keytab")) != 1 {
		t.Error("the account that cannot be read has lost what it had")
	}
	first = ticket("webapp01")
	g.writeSpec(t, "web", "webapp02", "webapp01", "webapp05")
	g.domain.setFail("webapp05$", account.ErrWithheld)
	time.Sleep(300 * time.Millisecond) // a primary account without a ticket changes nothing
	g.domain.setFail("webapp02$", nil)
	eventually(t, func() error {
		b, err := os.ReadFile(l.GetDirectory() + "/ccache")
		if err != nil {
			return err
		}
		if c, err := ccache.Parse(b); err != nil || c.Principal.Name.String() != "webapp02$" {
			return fmt.Errorf("primary account %s, %w", c.Principal, errors.Join(err, errors.New("want webapp02$")))
		}
		return nil
	})
	if ticket("webapp01") != first {
		t.Error("the account that was there has another ticket")
	}
	if _, err := os.Stat(l.GetDirectory() + "/accounts/webapp05/ccache"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an account without a ticket: %v", err)
	}
}

// Over a rollover the acceptor has both keys before and after, the initiator
// the one in force, and the command of the configuration runs as the owner.
// security 10: the command has a clean environment and no descriptor of the agent.
func TestRollover(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for a real rollover, 11 s")
	}
	g := newGuard(t, nil)
	out := filepath.Join(g.base, "rotated")
	if err := errors.Join(os.Mkdir(out, 0o777), os.Chmod(out, 0o777)); err != nil {
		t.Fatal(err)
	}
	g.cfg.Config.OnRotate = map[string]config.Command{"reload": {
		Command: []string{"/bin/sh", "-c", "id -u >" + out + "/uid; id -G >" + out + "/groups; env >" + out + "/env; ls /proc/self/fd >" + out + "/fds; mv " + out + "/env " + out + "/done"},
		Timeout: 10 * time.Second,
	}}
	g.domain.expires = time.Now().Add(11 * time.Second) // the guard believes no version in the last 10
	g.start(t)
	r := mine("webapp01")
	r.Keytab, r.OnRotate = true, "reload"
	if os.Geteuid() == 0 {
		r.Uid, r.Gid = 1234, 1234
	}
	l := g.create(t, r)
	if got, client := kvnos(t, l.GetDirectory()+"/keytab"), kvnos(t, l.GetDirectory()+"/client.keytab"); fmt.Sprint(got, client) != "[2 1] [1]" {
		t.Errorf("before: keytab %v, client keytab %v, want [2 1] and [1]", got, client)
	}
	eventually(t, func() error {
		_, err := os.Stat(out + "/done")
		return err
	})
	if time.Now().Before(g.domain.expires) {
		t.Error("the command ran before the rollover")
	}
	if got, client := kvnos(t, l.GetDirectory()+"/keytab"), kvnos(t, l.GetDirectory()+"/client.keytab"); fmt.Sprint(got, client) != "[2 1] [2]" {
		t.Errorf("after: keytab %v, client keytab %v, want [2 1] and [2]", got, client)
	}
	for name, want := range map[string]string{"uid": fmt.Sprintln(r.Uid), "groups": fmt.Sprintln(r.Gid), "fds": "0\n1\n2\n3\n"} {
		b, err := os.ReadFile(filepath.Join(out, name))
		if err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
	env, _ := os.ReadFile(out + "/done")
	if !strings.Contains(string(env), "KRB5CCNAME=FILE:"+l.GetDirectory()+"/..data/ccache\n") || strings.Contains(string(env), "HOME=") || strings.Contains(string(env), "GOCACHE=") {
		t.Errorf("environment of the command:\n%s", env)
	}
}

// A file of any name is a credential spec; where one has the name that another is escaped
// to, it is that one.
func TestNamesOfSpecFiles(t *testing.T) {
	g := newGuard(t, nil)
	g.writeSpec(t, "contoso web", "webapp02")
	g.writeSpec(t, "a b", "webapp03")
	g.writeSpec(t, "ax-20b", "webapp04")
	g.writeSpec(t, ".hidden", "webapp05")
	g.start(t)
	s, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
	if err != nil || len(s.GetCredentialSpecs()) != 2 {
		t.Errorf("%v, %v", s.GetCredentialSpecs(), err)
	}
	for spec, want := range map[string]string{"contosox-20web": "webapp02", "ax-20b": "webapp04"} {
		r := mine("")
		r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: spec}
		if got := g.create(t, r).GetAccounts()[0].GetName(); got != want+"$" {
			t.Errorf("%s: %s, want %s", spec, got, want)
		}
	}
}

// The spec of a lease is removed, while the agent runs or is down: what a plug-in's
// identity has read is never read with the host's own instead. The workload keeps
// its files, and the lease goes on when the spec is back.
func TestHostDoesNotStandInForAPlugin(t *testing.T) {
	for name, removed := range map[string]func(*guard, func()){
		"removed while the agent runs": func(g *guard, remove func()) {
			remove()
			eventually(t, func() error {
				if g.specs.find("portable") != nil || g.specs.find("own") != nil {
					return errors.New("the specs are still there")
				}
				return nil
			})
			g.follow(nil) // behind whatever follows the removal
		},
		"removed while the agent is down": func(g *guard, remove func()) {
			if err := g.stop(); err != nil {
				t.Fatal(err)
			}
			remove()
			g.start(t)
		},
		"unusable after a restart": func(g *guard, remove func()) {
			if err := g.stop(); err != nil {
				t.Fatal(err)
			}
			remove()
			g.writeFile(t, "specs/portable.json", `{"CmsPlugins":`)
			g.start(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, nil)
			g.writeFile(t, "specs/portable.json", portable(credspec.SamplePluginGUID))
			g.writeSpec(t, "own", "webapp01")
			g.start(t)
			leases := map[string]lease.ID{}
			for _, spec := range []string{"portable", "own"} {
				r := mine("")
				r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: spec}
				id, err := lease.ParseID(g.create(t, r).GetId())
				if err != nil {
					t.Fatal(err)
				}
				leases[spec] = id
			}
			reader := func(spec string) string {
				e := g.book.find(leases[spec])
				e.mu.Lock()
				defer e.mu.Unlock()
				if len(e.holds) == 0 {
					return "nobody"
				}
				return e.holds[0].key.Host
			}
			removed(g, func() {
				if err := errors.Join(os.Remove(g.base+"/specs/portable.json"), os.Remove(g.base+"/specs/own.json")); err != nil {
					t.Fatal(err)
				}
			})
			if got := reader("own"); got != "WEB1$@CONTOSO.COM" {
				t.Errorf("the host's own lease is kept up by %s", got)
			}
			if got := reader("portable"); got != "reader@CONTOSO.COM" && got != "nobody" {
				t.Errorf("the plug-in's lease is kept up by %s", got)
			}
			if got := readCCache(t, g.book.find(leases["portable"]).dir.Path()).Principal.Name.String(); got != "webapp09$" {
				t.Errorf("the plug-in's lease shows %s", got)
			}
			g.writeFile(t, "specs/portable.json", portable(credspec.SamplePluginGUID))
			eventually(t, func() error {
				if got := reader("portable"); got != "reader@CONTOSO.COM" {
					return fmt.Errorf("with its spec back the lease is kept up by %s", got)
				}
				return nil
			})
		})
	}
}

func TestRestartKeepsLeases(t *testing.T) {
	g := newGuard(t, nil)
	g.writeSpec(t, "web", "webapp01")
	g.start(t)
	long, short := exec.Command("sleep", "600"), exec.Command("sleep", "600")
	for _, c := range []*exec.Cmd{long, short} {
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		defer c.Process.Kill()
	}
	lease := func(c *exec.Cmd) *agentapi.Lease {
		r := mine("")
		r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "web"}
		r.Keytab = true
		r.Workload = &agentapi.CreateLeaseRequest_Process{Process: &agentapi.Process{Pid: int32(c.Process.Pid)}}
		return g.create(t, r)
	}
	kept, ended := lease(long), lease(short)
	before := inode(t, kept.GetDirectory())
	ticket := readCCache(t, kept.GetDirectory()).Credentials[0].Ticket
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	_ = short.Process.Kill()
	_ = short.Wait()
	// While the domain does not answer, the lease is what it was.
	g.domain.setFail("webapp01$", account.ErrNoController)
	g.start(t)
	if got := readCCache(t, kept.GetDirectory()).Credentials[0].Ticket; string(got) != string(ticket) {
		t.Error("the ticket changed without an answer of the domain")
	}
	if _, err := os.Stat(ended.GetDirectory()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lease of a workload that ended meanwhile: %v", err)
	}
	g.domain.setFail("webapp01$", nil)
	eventually(t, func() error {
		l, err := g.client.GetLease(t.Context(), &agentapi.GetLeaseRequest{Id: kept.GetId()})
		if err != nil {
			return err
		}
		if s := l.GetAccounts()[0].GetState(); s != agentapi.AccountState_ACCOUNT_STATE_READY {
			return fmt.Errorf("state %v", s)
		}
		if got := readCCache(t, kept.GetDirectory()).Credentials[0].Ticket; string(got) == string(ticket) {
			return errors.New("the ticket is the old one")
		}
		return nil
	})
	if inode(t, kept.GetDirectory()) != before {
		t.Error("the directory has another inode")
	}
	_ = long.Process.Kill()
	_ = long.Wait()
	eventually(t, func() error {
		if _, err := os.Stat(kept.GetDirectory()); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("lease after its workload's end: %w", errors.Join(err, errors.New("it is there")))
		}
		return nil
	})
}

// A journal that an agent of the first version wrote, and one of a version that knows
// more, are taken over: the recorded bytes must stay readable for ever.
func TestJournalsOfOtherVersions(t *testing.T) {
	recorded, err := os.ReadFile("testdata/journal-v1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if uid := os.Geteuid(); uid != 0 {
		recorded = bytes.ReplaceAll(recorded, []byte(`"uid":0,"gid":0`), fmt.Appendf(nil, `"uid":%d,"gid":%d`, uid, os.Getegid()))
	}
	later := strings.NewReplacer(
		`"version":1}`, `"version":2,"writer":"gmsa 9"}`,
		`"creator":0,`, `"creator":0,"runtime":{"engine":"podman"},`,
		`{"op":"end"`, `{"op":"move","id":"0123456789abcdef0123456789abcdef","to":"/elsewhere"}`+"\n"+`{"op":"end"`,
	).Replace(string(recorded))
	const id = "0123456789abcdef0123456789abcdef"
	for name, journal := range map[string]string{"version 1": string(recorded), "a later version": later} {
		t.Run(name, func(t *testing.T) {
			g := newGuard(t, nil)
			g.writeSpec(t, "web", "webapp01", "webapp02")
			g.start(t)
			r := mine("")
			r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "web"}
			r.Keytab = true
			before := g.create(t, r)
			if err := g.stop(); err != nil {
				t.Fatal(err)
			}
			leases := filepath.Join(g.base, "run/leases")
			dir := filepath.Join(leases, id)
			if err := errors.Join(os.Rename(before.GetDirectory(), dir), os.WriteFile(filepath.Join(leases, "journal"), []byte(journal), 0o600)); err != nil {
				t.Fatal(err)
			}
			node := inode(t, dir)
			g.start(t)
			l, err := g.client.GetLease(t.Context(), &agentapi.GetLeaseRequest{Id: id})
			if err != nil {
				t.Fatal(err)
			}
			if l.GetCredentialSpec() != "web" || len(l.GetAccounts()) != 2 || !l.GetKeytab() || l.GetMode() != 0o440 || inode(t, dir) != node {
				t.Errorf("taken over: %v", l)
			}
			if n := g.book.count(); n != 1 {
				t.Errorf("%d leases, want the one whose workload may still be there", n)
			}
			if got := readCCache(t, filepath.Join(dir, "accounts/webapp02")).Principal.Name.String(); got != "webapp02$" {
				t.Errorf("second account %s", got)
			}
		})
	}
}

// The domain does not give a password back that was replaced while the agent
// was down; tickets under it still come.
func TestRestartKeepsOldKeys(t *testing.T) {
	g := newGuard(t, nil).start(t)
	r := mine("webapp01")
	r.Keytab = true
	l := g.create(t, r)
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	g.domain.seed = "another password altogether"
	g.domain.expires = time.Now().Add(-time.Hour) // version 2 now, and no way back to 1
	g.start(t)
	eventually(t, func() error {
		if got, client := kvnos(t, l.GetDirectory()+"/keytab"), kvnos(t, l.GetDirectory()+"/client.keytab"); !slices.Contains(got, 1) || fmt.Sprint(client) != "[2]" {
			return fmt.Errorf("keytab %v, client keytab %v, want 1 among the first and [2]", got, client)
		}
		return nil
	})
}

// The salt that a KDC has told once is not asked for again after a restart, also where
// the account's name does not tell it. A journal of an earlier version has none.
func TestRestartKeepsSalts(t *testing.T) {
	g := newGuard(t, nil)
	g.domain.salt = "CONTOSO.COMhostbeforetherename.contoso.com"
	g.start(t)
	l := g.create(t, mine("webapp01"))
	for name, c := range map[string]struct {
		edit   func(journal []byte) []byte
		logons int64
	}{
		"the journal as it is":    {bytes.Clone, 1},
		"of an earlier version":   {func(b []byte) []byte { return regexp.MustCompile(`"salts":\[[^]]*\],`).ReplaceAll(b, nil) }, 2},
		"of another password":     {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"kvno":1`), []byte(`"kvno":7`)) }, 2},
		"what nobody would write": {func(b []byte) []byte { return bytes.ReplaceAll(b, []byte(`"salts":[`), []byte(`"salts":[{},`)) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			if err := g.stop(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(g.base, "run/leases/journal")
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if edited := c.edit(b); name != "the journal as it is" && bytes.Equal(edited, b) {
				t.Fatalf("nothing to edit in %s", b)
			} else if err := os.WriteFile(path, edited, 0o600); err != nil {
				t.Fatal(err)
			}
			ticket := readCCache(t, l.GetDirectory()).Credentials[0].Ticket
			g.domain.logons.Store(0)
			g.start(t)
			eventually(t, func() error {
				if got := readCCache(t, l.GetDirectory()).Credentials[0].Ticket; string(got) == string(ticket) {
					return errors.New("the ticket is the old one")
				}
				return nil
			})
			if n := g.domain.logons.Load(); n != c.logons {
				t.Errorf("%d exchanges, want %d", n, c.logons)
			}
		})
	}
}

func TestFailuresSayWhatToDo(t *testing.T) {
	g := newGuard(t, func(c *config.Config) { c.Quotas.RequestTimeout = time.Second }).start(t)
	for _, tt := range []struct {
		name   string
		reason error
		kind   agentapi.Kind
		event  event.ID
	}{
		{"withheld", account.ErrWithheld, agentapi.Kind_KIND_DENIED, 8},
		{"missing", account.ErrNotFound, agentapi.Kind_KIND_NOT_FOUND, 8},
		{"noroot", account.ErrNoRootKey, agentapi.Kind_KIND_FAILED, 8},
		{"unsealed", account.ErrUnsealed, agentapi.Kind_KIND_FAILED, 8},
		{"skew", account.ErrSkew, agentapi.Kind_KIND_FAILED, 8},
		{"badhost", account.ErrHost, agentapi.Kind_KIND_DENIED, 8},
		{"badstore", account.ErrStore, agentapi.Kind_KIND_FAILED, 6},
		{"badanswer", account.ErrAnswer, agentapi.Kind_KIND_FAILED, 8},
		{"badticket", account.ErrTicket, agentapi.Kind_KIND_FAILED, 8},
		{"badplugin", plugin.ErrLoad, agentapi.Kind_KIND_FAILED, 4},
		{"unanswered", account.ErrNoController, agentapi.Kind_KIND_NO_CONTROLLER, 8}, // last: it stops the rest
	} {
		t.Run(tt.name, func(t *testing.T) {
			name := strings.TrimPrefix(tt.name, "logon ")
			g.domain.setFail(tt.name+"$", tt.reason)
			_, err := g.client.CreateLease(t.Context(), mine(name))
			f, ok := errors.AsType[*agentapi.Failure](err)
			if !ok || f.Kind != tt.kind || f.EventID != uint32(tt.event) || len(f.Hints) == 0 || !strings.Contains(f.Message, name) {
				t.Errorf("%v: %+v", err, f)
			}
			g.domain.setFail(tt.name+"$", nil)
		})
	}
	// A failure harms nobody else, and leaves nothing behind.
	eventually(t, func() error {
		_, err := g.client.CreateLease(t.Context(), mine("webapp01"))
		return err
	})
	if entries, err := filepath.Glob(g.base + "/run/leases/*-*/"); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if n := g.book.count(); n != 1 {
		t.Errorf("%d leases, want 1", n)
	}
	if got := g.events(t); !slices.Contains(got, 4) || !slices.Contains(got, 6) || !slices.Contains(got, 8) {
		t.Errorf("events %v, want 4, 6 and 8 among them", got)
	}
}

// security 16: a secret that arrives on the API is not logged, journalled or echoed.
func TestPluginEvents(t *testing.T) {
	g := newGuard(t, func(c *config.Config) { c.RawCredentialSpecs = true })
	g.writeFile(t, "specs/good.json", portable(credspec.SamplePluginGUID))
	g.writeFile(t, "specs/bad.json", portable("{859E1386-BDB4-49E8-85C7-3070B13920E1}"))
	g.start(t)
	r := mine("")
	r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "good"}
	g.create(t, r)
	g.create(t, r)
	if got := g.events(t); fmt.Sprint(got) != "[1 2]" {
		t.Errorf("a plug-in that works: events %v, want 1 and 2 once", got)
	}
	r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "bad"}
	var told []string
	_, err := g.client.CreateLease(t.Context(), r)
	if told = append(told, fmt.Sprintf("%+v", err)); kindOf(err) != agentapi.Kind_KIND_FAILED {
		t.Errorf("a plug-in that is not registered: %v", err)
	}
	good := portable(credspec.SamplePluginGUID)
	const input = `"contoso.com:gmsaccg:hunter2"`
	none := []string{
		"{", `{"hunter2`, good + "hunter2", portable("nonsense"),
		strings.Replace(good, input, "["+input+"]", 1), strings.Replace(good, input, input[1:], 1),
	}
	for _, raw := range none {
		r.Subject = &agentapi.CreateLeaseRequest_RawCredentialSpec{RawCredentialSpec: []byte(raw)}
		_, err := g.client.CreateLease(t.Context(), r)
		if told = append(told, fmt.Sprintf("%+v", err)); kindOf(err) != agentapi.Kind_KIND_USAGE {
			t.Errorf("a raw spec that is none, %s: %v", raw, err)
		}
	}
	r.Subject = &agentapi.CreateLeaseRequest_RawCredentialSpec{RawCredentialSpec: []byte(good)}
	created, err := g.client.CreateLease(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	status, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	told = append(told, created.String(), status.String())
	if got := g.events(t); !slices.Equal(got, append([]event.ID{1, 2, 4}, slices.Repeat([]event.ID{3}, len(none))...)) {
		t.Errorf("events %v, want 4 and then 3 for each that is none behind 1 and 2", got)
	}
	for _, name := range []string{"ccg.jsonl", "run/leases/journal"} {
		if b, err := os.ReadFile(filepath.Join(g.base, name)); err != nil || strings.Contains(string(b), "hunter2") {
			t.Errorf("%s: %v, or the plug-in's input is in it", name, err)
		}
	}
	if strings.Contains(g.log.String(), "hunter2") {
		t.Error("the plug-in's input is in the log")
	}
	for _, answer := range told {
		if strings.Contains(answer, "hunter2") {
			t.Errorf("the plug-in's input is in the answer %s", answer)
		}
	}
}

// A full and a read-only file system cost the leases that would be made, and no
// others.
func TestFullLeaseDirectory(t *testing.T) {
	const child = "AGENT_TEST_FULL"
	if os.Getenv(child) == "" {
		lab.Need(t, "root")
		cmd := exec.Command(os.Args[0], "-test.run=^TestFullLeaseDirectory$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFullLeaseDirectory") {
			t.Errorf("child: %v\n%s", err, out)
		}
		return
	}
	g := newGuard(t, nil)
	run := g.base + "/run"
	if err := errors.Join(os.Mkdir(run, 0o755), unix.Mount("gmsa-test", run, "tmpfs", 0, "size=200k,mode=0755")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(run, unix.MNT_DETACH) })
	g.start(t)
	r := mine("webapp01")
	r.Keytab = true
	var made []*agentapi.Lease
	var err error
	for range 100 {
		var reply *agentapi.CreateLeaseResponse
		if reply, err = g.client.CreateLease(t.Context(), r); err != nil {
			break
		}
		made = append(made, reply.GetLease())
	}
	if f, ok := errors.AsType[*agentapi.Failure](err); !ok || f.Code != "ENOSPC" || len(f.Hints) == 0 || len(made) < 5 {
		t.Fatalf("%d leases, then %v", len(made), err)
	}
	whole := func(l *agentapi.Lease) {
		t.Helper()
		if err := checkLease(l.GetDirectory()); err != nil {
			t.Errorf("lease %s: %v", l.GetId(), err)
		}
	}
	for _, l := range made {
		whole(l)
	}
	if entries, _ := os.ReadDir(run + "/leases"); len(entries) != len(made)+2 { // and journal and lock
		t.Errorf("%d entries for %d leases", len(entries), len(made))
	}
	if _, err := g.client.RemoveLease(t.Context(), &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: made[0].GetId()}}); err != nil {
		t.Fatal(err)
	}
	made[0] = g.create(t, r)
	whole(made[0])

	// While the agent has its journal open, the kernel lets nobody make the file
	// system read-only; before it starts, anybody can.
	if err := errors.Join(g.stop(), unix.Mount("", run, "", unix.MS_REMOUNT|unix.MS_RDONLY, "")); err != nil {
		t.Fatal(err)
	}
	if _, err := New(g.cfg); !errors.Is(err, unix.EROFS) {
		t.Errorf("start on a read-only file system: %v", err)
	}
	whole(made[0])
	if err := unix.Mount("", run, "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	g.start(t)
	for _, l := range made {
		whole(l)
	}
}

// security 4 and 8: no text of a caller becomes a path.
func TestRequestsThatCannotBeMeant(t *testing.T) {
	g := newGuard(t, func(c *config.Config) { c.Domains["fabrikam.com"] = config.Domain{Realm: "FABRIKAM.COM"} }).start(t)
	for name, change := range map[string]func(*agentapi.CreateLeaseRequest){
		"no subject":      func(r *agentapi.CreateLeaseRequest) { r.Subject = nil },
		"no account name": func(r *agentapi.CreateLeaseRequest) { r.Subject = &agentapi.CreateLeaseRequest_Account{Account: "a/b"} },
		"ambiguous": func(r *agentapi.CreateLeaseRequest) {
			r.Subject = &agentapi.CreateLeaseRequest_Account{Account: "webapp01"}
		},
		"foreign domain": func(r *agentapi.CreateLeaseRequest) {
			r.Subject = &agentapi.CreateLeaseRequest_Account{Account: "w@evil.com"}
		},
		"mode":              func(r *agentapi.CreateLeaseRequest) { r.Mode = 0o644 },
		"uid":               func(r *agentapi.CreateLeaseRequest) { r.Uid = 1<<32 - 1 },
		"on_rotate command": func(r *agentapi.CreateLeaseRequest) { r.OnRotate = "/bin/sh" },
		"service name":      func(r *agentapi.CreateLeaseRequest) { r.PrefetchSpns = []string{"nothing"} },
		"many services":     func(r *agentapi.CreateLeaseRequest) { r.PrefetchSpns = slices.Repeat([]string{"a/b"}, 17) },
		"path as a spec": func(r *agentapi.CreateLeaseRequest) {
			r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: "../../etc/passwd"}
		},
		"raw spec": func(r *agentapi.CreateLeaseRequest) {
			r.Subject = &agentapi.CreateLeaseRequest_RawCredentialSpec{RawCredentialSpec: []byte("{}")}
		},
	} {
		r := mine("webapp01@contoso.com")
		change(r)
		_, err := g.client.CreateLease(t.Context(), r)
		want := agentapi.Kind_KIND_USAGE
		if name == "raw spec" {
			want = agentapi.Kind_KIND_DENIED
		}
		if kindOf(err) != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	if g.book.count() != 0 {
		t.Errorf("%d leases", g.book.count())
	}
}

func TestReload(t *testing.T) {
	g := newGuard(t, nil)
	next := g.cfg.Config
	var loadErr error
	g.cfg.Load = func() (config.Config, error) { return next, loadErr }
	g.start(t)
	r := mine("webapp01@contoso.com")
	r.OnRotate = "later"
	if _, err := g.client.CreateLease(t.Context(), r); kindOf(err) != agentapi.Kind_KIND_USAGE {
		t.Fatalf("before: %v", err)
	}
	next.OnRotate = map[string]config.Command{"later": {Command: []string{"/bin/true"}, Timeout: time.Second}}
	next.Socket = "/elsewhere"
	reply, err := g.client.Reload(t.Context(), &agentapi.ReloadRequest{})
	if err != nil || len(reply.GetWarnings()) != 1 || !strings.Contains(reply.GetWarnings()[0], "socket") {
		t.Errorf("reload: %v, %v", reply, err)
	}
	g.create(t, r)
	loadErr = errors.New("sokcet: unknown key")
	if _, err := g.client.Reload(t.Context(), &agentapi.ReloadRequest{}); kindOf(err) != agentapi.Kind_KIND_USAGE || !strings.Contains(err.Error(), "sokcet") {
		t.Errorf("reload of a bad file: %v", err)
	}
	g.create(t, r) // the present one stays
}

func TestInstalledAccountsSurviveARestart(t *testing.T) {
	g := newGuard(t, nil).start(t)
	in := &agentapi.InstallAccountRequest{Subject: &agentapi.InstallAccountRequest_Account{Account: "webapp01@contoso.com"}}
	reply, err := g.client.InstallAccount(t.Context(), in)
	if err != nil || !reply.GetAccount().GetInstalled() || reply.GetAccount().GetKvno() != 1 {
		t.Fatalf("install: %v, %v", reply, err)
	}
	g.domain.setFail("webapp02$", account.ErrWithheld)
	bad := &agentapi.InstallAccountRequest{Subject: &agentapi.InstallAccountRequest_Account{Account: "webapp02@contoso.com"}}
	if _, err := g.client.InstallAccount(t.Context(), bad); kindOf(err) != agentapi.Kind_KIND_DENIED {
		t.Errorf("install of an account that the host may not read: %v", err)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	g.start(t)
	eventually(t, func() error {
		s, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
		if err != nil {
			return err
		}
		if a := s.GetAccounts(); len(a) != 1 || !a[0].GetInstalled() || a[0].GetState() != agentapi.AccountState_ACCOUNT_STATE_READY {
			return fmt.Errorf("accounts %v", a)
		}
		return nil
	})
	for _, want := range []bool{true, false} {
		reply, err := g.client.UninstallAccount(t.Context(), &agentapi.UninstallAccountRequest{Account: `CONTOSO\webapp01$`})
		if want && err != nil || reply.GetWasInstalled() != want {
			t.Errorf("uninstall: %v, %v, want %t", reply, err, want)
		}
	}
	if b, err := os.ReadFile(g.base + "/state/installed.json"); err != nil || strings.Contains(string(b), "webapp") {
		t.Errorf("after uninstall: %s, %v", b, err)
	}
}

func TestOneAgentForADirectory(t *testing.T) {
	g := newGuard(t, nil).start(t)
	if _, err := New(g.cfg); !errors.Is(err, ErrRunning) {
		t.Errorf("second agent: %v", err)
	}
	if _, err := Listen(g.cfg.Config); !errors.Is(err, ErrRunning) {
		t.Errorf("second listener: %v", err)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	g.start(t) // what is left of the socket is replaced
	g.create(t, mine("webapp01@contoso.com"))
}

// security 15: neither dumpable nor with a core file.
func TestHarden(t *testing.T) {
	if os.Getenv("AGENT_TEST_HARDEN") == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^TestHarden$", "-test.v")
		cmd.Env = append(os.Environ(), "AGENT_TEST_HARDEN=1")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestHarden") {
			t.Errorf("child: %v\n%s", err, out)
		}
		return
	}
	if err := Harden(); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 0 {
		t.Errorf("dumpable %d, %v", n, err)
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("core limit %+v, %v", limit, err)
	}
}
