package agent_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/identity"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// sambaGuard is an agent of the host web1, joined to a real domain.
type sambaGuard struct {
	base   string
	cfg    agent.Config
	client *agentapi.Client
	stop   func() error
	log    bytes.Buffer // complete when the agent has stopped
}

func startOnSamba(t *testing.T, dc *lab.DC) *sambaGuard {
	t.Helper()
	return startWith(t, joined(t, dc))
}

// joined configures the domain for the host web1.
func joined(t *testing.T, dc *lab.DC) string {
	t.Helper()
	return `
domains:
  ` + dc.DNSDomain + `:
    servers: [` + dc.IP.String() + `]
    host: {keytab: ` + dc.Keytab(t, "web1") + `, rotate_password: never}
`
}

// onBoth runs a test on Samba and on our own controller, which are told apart by nothing
// but their answers.
func onBoth(t *testing.T, clock bool, test func(t *testing.T, dc *lab.DC)) {
	t.Run("Samba", func(t *testing.T) { test(t, lab.Samba(t, lab.SambaConfig{Clock: clock})) })
	t.Run("gmsa", func(t *testing.T) { test(t, lab.Own(t, lab.OwnConfig{Clock: clock})) })
}

// startWith runs an agent with this configuration.
func startWith(t *testing.T, domains string) *sambaGuard {
	t.Helper()
	g := prepare(t, domains, time.Now)
	g.start(t)
	return g
}

// prepare makes an agent with this configuration and clock, and its files in a
// directory of its own.
func prepare(t *testing.T, domains string, now func() time.Time) *sambaGuard {
	t.Helper()
	base, err := os.MkdirTemp("/dev/shm", "gmsa-agent-samba-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := errors.Join(os.Chmod(base, 0o755), os.Mkdir(base+"/specs", 0o755)); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse([]byte(domains + `
leases: {directory: ` + base + `/run/leases, allow_swap: true}
socket: ` + base + `/agent.sock
credential_specs: [` + base + `/specs]
state_directory: ` + base + `/state
event_log: {path: ` + base + `/ccg.jsonl, journal: false}
`))
	if err != nil {
		t.Fatal(err)
	}
	events, err := event.Open(event.Config{Path: cfg.EventLog.Path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { events.Close() })
	g := &sambaGuard{base: base}
	log := slog.New(slog.NewTextHandler(io.MultiWriter(t.Output(), &g.log), &slog.HandlerOptions{Level: slog.LevelDebug}))
	g.cfg = agent.Config{
		Config: cfg, Identities: identity.New(identity.Options{Log: log, Now: now}), Events: events, Log: log, Now: now,
	}
	return g
}

// start runs the agent until the test's end or stop.
func (g *sambaGuard) start(t *testing.T) {
	t.Helper()
	l, err := agent.Listen(g.cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	a, err := agent.New(g.cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, l) }()
	g.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := g.stop(); err != nil {
			t.Errorf("agent ended with %v", err)
		}
	})
	client, err := agentapi.Dial(g.cfg.Config.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	g.client = client
}

func (g *sambaGuard) lease(t *testing.T, account string, uid uint32) (*agentapi.Lease, error) {
	t.Helper()
	reply, err := g.client.CreateLease(t.Context(), &agentapi.CreateLeaseRequest{
		Subject: &agentapi.CreateLeaseRequest_Account{Account: account}, Uid: uid, Gid: uid, Keytab: true,
		PrefetchSpns: []string{"ldap/" + lab.DCHost},
	})
	return reply.GetLease(), err
}

// asOwner runs a program as the lease's owner, with its environment alone.
func asOwner(t *testing.T, l *agentapi.Lease, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin"}
	for k, v := range l.GetEnvironment() {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: l.GetUid(), Gid: l.GetGid()}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// MIT's programs use a lease of a real domain, as a user without rights: the
// ticket, both keytabs and the krb5.conf.
func TestMITUsesALease(t *testing.T) {
	lab.Need(t, "klist", "kvno", "kinit")
	onBoth(t, false, mitUsesALease)
}

func mitUsesALease(t *testing.T, dc *lab.DC) {
	g := startOnSamba(t, dc)
	l, err := g.lease(t, `CONTOSO\WebApp01$`, 1234)
	if err != nil {
		t.Fatal(err)
	}
	out := asOwner(t, l, "klist")
	if !strings.Contains(out, "Default principal: webapp01$@CONTOSO.COM") || !strings.Contains(out, "krbtgt/CONTOSO.COM@CONTOSO.COM") || !strings.Contains(out, "ldap/dc1.contoso.com@") {
		t.Errorf("klist:\n%s", out)
	}
	// A ticket to the account itself, opened with the keytab: what its clients
	// will bring.
	if out := asOwner(t, l, "kvno", "-k", l.GetDirectory()+"/keytab", "webapp01$@CONTOSO.COM"); !strings.Contains(out, "keytab entry valid") {
		t.Errorf("kvno:\n%s", out)
	}
	if out := asOwner(t, l, "klist", "-kte", l.GetDirectory()+"/keytab"); !strings.Contains(out, " HTTP/webapp01.contoso.com@CONTOSO.COM (aes256") || !strings.Contains(out, " http/webapp01.contoso.com@") {
		t.Errorf("klist -k:\n%s", out)
	}
	asOwner(t, l, "kinit", "-k", "-t", l.GetDirectory()+"/client.keytab", "-c", "MEMORY:", "webapp01$@CONTOSO.COM")

	status, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
	if err != nil || len(status.GetAccounts()) != 1 || status.GetAccounts()[0].GetState() != agentapi.AccountState_ACCOUNT_STATE_READY {
		t.Errorf("status %v, %v", status, err)
	}
	for e, err := range event.Read(filepath.Join(g.base, "ccg.jsonl"), event.Filter{}) {
		if err != nil || e.ID == event.IDFetched && e.Account != "webapp01@contoso.com" || e.ID > event.IDFetched || e.Plugin != "keytab" {
			t.Errorf("event %+v, %v", e, err)
		}
	}
}

// An account that this host may not read, and then may: the next lease is given
// without a restart.
func TestAReaderAddedWhileTheAgentRuns(t *testing.T) { onBoth(t, false, aReaderIsAdded) }

func aReaderIsAdded(t *testing.T, dc *lab.DC) {
	dc.AddGMSA(t, lab.GMSA{Name: "agentlater", Readers: []string{"web2$"}})
	g := startOnSamba(t, dc)
	_, err := g.lease(t, "agentlater", 0)
	f, ok := errors.AsType[*agentapi.Failure](err)
	if !ok || f.Kind != agentapi.Kind_KIND_DENIED || f.EventID != uint32(event.IDFetchFailed) || len(f.Hints) == 0 {
		t.Fatalf("lease of an account that the host may not read: %v", err)
	}
	if _, err := g.lease(t, "nosuchaccount", 0); kind(err) != agentapi.Kind_KIND_NOT_FOUND {
		t.Errorf("lease of an account that does not exist: %v", err)
	}
	dc.SetReaders(t, "agentlater", "web1$")
	lab.Eventually(t, 20*time.Second, func() error {
		_, err := g.lease(t, "agentlater", 0)
		if err != nil {
			time.Sleep(500 * time.Millisecond)
		}
		return err
	})
}

func kind(err error) agentapi.Kind {
	if f, ok := errors.AsType[*agentapi.Failure](err); ok {
		return f.Kind
	}
	return agentapi.Kind_KIND_UNSPECIFIED
}
