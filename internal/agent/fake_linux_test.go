package agent

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// domain is a directory and a KDC behind [account.Domain], without a wire: the
// real ones are the tests of package identity. Every account exists, unless its
// name is in fail; its passwords follow from its name, the seed and the period.
type domain struct {
	seed string
	// expires is when the first password ends and the second begins; the zero
	// time is never.
	expires time.Time
	// offset is how far its clock is ahead.
	offset time.Duration
	// salt is that of all accounts' keys; empty: the one that the name gives.
	salt string

	reads, logons atomic.Int64

	mu   sync.Mutex
	fail map[string]error // by sAMAccountName
}

func (d *domain) setFail(name string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fail == nil {
		d.fail = map[string]error{}
	}
	d.fail[name] = err
}

func (d *domain) failure(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail[name]; err != nil {
		return &account.Error{Reason: err}
	}
	return nil
}

// password of a period, without a 16-bit zero in it.
func (d *domain) password(name string, period int) secret.Bytes {
	var b []byte
	for i := range 4 {
		sum := sha512.Sum512(fmt.Appendf(nil, "%s %s %d %d", d.seed, strings.ToLower(name), period, i))
		b = append(b, sum[:]...)
	}
	for i := range b {
		b[i] |= 1
		if i%2 == 1 {
			b[i] &= 0x7f // no surrogates
		}
	}
	return secret.New(b)
}

// period in force now.
func (d *domain) period() int {
	if d.expires.IsZero() || time.Now().Before(d.expires) {
		return 0
	}
	return 1
}

// ReadPassword answers as Active Directory does: in the last five minutes of a
// password's life the next one is already called the current.
func (d *domain) ReadPassword(_ context.Context, name string, _ account.ReadHint) (account.Reading, error) {
	d.reads.Add(1)
	if err := d.failure(name); err != nil {
		return account.Reading{}, err
	}
	const month = 720 * time.Hour
	b := managedpassword.Blob{Current: d.password(name, d.period()), QueryInterval: month, UnchangedInterval: month - 5*time.Minute}
	if left := time.Until(d.expires); !d.expires.IsZero() && left > 0 {
		b = managedpassword.Blob{
			Current: d.password(name, 1), Previous: d.password(name, 0),
			QueryInterval: left, UnchangedInterval: left + month - 5*time.Minute,
		}
	} else if !d.expires.IsZero() {
		b.Previous = d.password(name, 0)
	}
	return account.Reading{
		Blob: b, KVNO: uint32(d.period()) + 1, Name: name, DNSHostName: strings.TrimSuffix(name, "$") + ".contoso.com",
		SPNs: []string{"HTTP/" + strings.TrimSuffix(name, "$") + ".contoso.com"}, Controller: "dc1.contoso.com",
	}, nil
}

func (d *domain) Authenticate(_ context.Context, r account.AuthRequest) (account.Authentication, error) {
	d.logons.Add(1)
	name := r.Client.Name.Components[0]
	if err := d.failure("logon " + name); err != nil {
		return account.Authentication{}, err
	}
	salt := cmp.Or(d.salt, managedpassword.Salt(r.Client.Realm, name))
	if r.Salt != salt {
		return account.Authentication{}, &account.Error{Reason: account.ErrSalt, Salt: salt, Controller: "dc1.contoso.com"}
	}
	want, err := managedpassword.Keys(d.password(name, d.period()), salt, r.Keys[0].EType())
	if err != nil {
		return account.Authentication{}, err
	}
	if !want[0].Equal(r.Keys[0]) {
		return account.Authentication{}, &account.Error{Reason: account.ErrWrongKey, Controller: "dc1.contoso.com"}
	}
	c := d.ticket(r.Client, krb5.NewName(krb5.NameSrvInst, "krbtgt", r.Client.Realm))
	return account.Authentication{Credential: c, KVNO: uint32(d.period()) + 1, Controller: "dc1.contoso.com", Offset: d.offset}, nil
}

func (d *domain) ServiceTicket(_ context.Context, tgt krb5.Credential, service krb5.PrincipalName) (krb5.Credential, string, error) {
	if len(service.Components) == 1 {
		return krb5.Credential{}, "", &account.Error{Reason: account.ErrNotFound} // no user-to-user here
	}
	return d.ticket(tgt.Client, service), "dc1", nil
}

func (d *domain) ticket(client krb5.Principal, service krb5.PrincipalName) krb5.Credential {
	key, err := crypto.Generate(crypto.AES256SHA1, rand.Reader)
	if err != nil {
		panic(err)
	}
	ticket := make([]byte, 1500)
	_, _ = rand.Read(ticket)
	now := time.Now().UTC().Truncate(time.Second)
	return krb5.Credential{
		Client: client, Server: krb5.Principal{Realm: client.Realm, Name: service}, SessionKey: key,
		AuthTime: now, StartTime: now, EndTime: now.Add(10 * time.Hour), Ticket: ticket,
	}
}

// identities have one domain, contoso.com, and one plug-in.
type identities struct {
	domain *domain
}

func (i *identities) Configure(config.Config) error { return nil }

func (i *identities) Identity(name string, portable *credspec.HostAccountConfig) (Identity, error) {
	id := Identity{
		Domain: i.domain, Host: "WEB1$@CONTOSO.COM", Plugin: event.Keytab,
		Realm: func() lease.Realm {
			return lease.Realm{Name: strings.ToUpper(name), Domain: name, KDCs: []string{"dc1." + name}}
		},
	}
	if portable != nil && portable.PluginGUID != credspec.SamplePluginGUID {
		return Identity{}, &agentapi.Failure{Kind: agentapi.Kind_KIND_FAILED, EventID: uint32(event.IDPluginFailed), Message: "no such plug-in"}
	}
	if portable != nil {
		id.Host, id.Plugin = "reader@CONTOSO.COM", "sample"
	}
	return id, nil
}

func (i *identities) Status() []*agentapi.HostIdentity {
	return []*agentapi.HostIdentity{{Domain: "contoso.com", Principal: "WEB1$@CONTOSO.COM", Source: "keytab"}}
}

func (i *identities) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// guard is a running agent under test.
type guard struct {
	*Agent
	client *agentapi.Client
	domain *domain
	cfg    Config
	base   string
	log    *lockedBuffer
	stop   func() error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// newGuard prepares an agent whose files lie in a directory of /dev/shm; change
// may be nil.
func newGuard(t testing.TB, change func(*config.Config)) *guard {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the policy without rules admits nobody else")
	}
	base, err := os.MkdirTemp("/dev/shm", "gmsa-agent-test-")
	if err != nil {
		t.Skip(err) // no such file system
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	c := testConfig(base)
	if change != nil {
		change(&c)
	}
	events, err := event.Open(event.Config{Path: filepath.Join(base, "ccg.jsonl")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { events.Close() })
	g := &guard{domain: &domain{seed: "test"}, base: base, log: &lockedBuffer{}}
	g.cfg = Config{
		Config: c, Identities: &identities{domain: g.domain}, Events: events, Version: "test",
		Log:          slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		SystemdUnits: filepath.Join(base, "systemd"),
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the agent:\n%s", g.log)
		}
	})
	return g
}

func testConfig(base string) config.Config {
	c, err := config.Parse([]byte(`
domains: {contoso.com: {}}
leases: {directory: ` + base + `/run/leases, allow_swap: true}
socket: ` + base + `/agent.sock
socket_mode: 0666
credential_specs: [` + base + `/specs]
state_directory: ` + base + `/state
`))
	if err != nil {
		panic(err)
	}
	return c
}

// start runs the agent until the test's end or stop.
func (g *guard) start(t testing.TB) *guard {
	t.Helper()
	l, err := Listen(g.cfg.Config)
	if err != nil {
		t.Fatal(err)
	}
	if g.cfg.Hooks, err = ListenHooks(g.cfg.Config); err != nil {
		t.Fatal(err)
	}
	g.run(t, l)
	client, err := agentapi.Dial(g.cfg.Config.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	g.client = client
	return g
}

func (g *guard) run(t testing.TB, l net.Listener) {
	t.Helper()
	a, err := New(g.cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.Agent = a
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
}

// mine is a request for a lease of the calling process.
func mine(name string) *agentapi.CreateLeaseRequest {
	return &agentapi.CreateLeaseRequest{
		Subject: &agentapi.CreateLeaseRequest_Account{Account: name},
		Uid:     uint32(os.Getuid()), Gid: uint32(os.Getgid()),
	}
}

func (g *guard) create(t testing.TB, r *agentapi.CreateLeaseRequest) *agentapi.Lease {
	t.Helper()
	reply, err := g.client.CreateLease(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return reply.GetLease()
}

// writeSpec puts a credential spec with these accounts, of contoso.com, into the
// agent's directory.
func (g *guard) writeSpec(t testing.TB, name string, accounts ...string) {
	t.Helper()
	var entries []string
	for _, a := range accounts {
		entries = append(entries, fmt.Sprintf(`{"Name":%q,"Scope":"contoso.com"}`, a))
	}
	g.writeFile(t, "specs/"+name+".json", fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":%q,"Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[%s]}}`, accounts[0], strings.Join(entries, ",")))
}

// portable is a spec for a host that is not joined, with this PluginGUID.
func portable(guid string) string {
	return `{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":"webapp09","Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":"webapp09","Scope":"contoso.com"},{"Name":"webapp09","Scope":"CONTOSO"}],
"HostAccountConfig":{"PortableCcgVersion":"1","PluginGUID":"` + guid + `","PluginInput":"contoso.com:gmsaccg:hunter2"}}}`
}

func (g *guard) writeFile(t testing.TB, name, text string) {
	t.Helper()
	path := filepath.Join(g.base, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path+".tmp", []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

// events lists the numbers in the CCG log.
func (g *guard) events(t testing.TB) []event.ID {
	t.Helper()
	var ids []event.ID
	for e, err := range event.Read(filepath.Join(g.base, "ccg.jsonl"), event.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// eventually waits until check is nil.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(15 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatal(err)
}
