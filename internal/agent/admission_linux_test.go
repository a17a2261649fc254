package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// as runs a request in a process of its own: with another user, in other
// namespaces, in another control group. The child is this test binary.
type as struct {
	uid     int
	clone   uintptr
	cgroup  string // directory to enter
	account string
	spec    string
	owner   int
	keytab  bool
	remove  string // an id, or "unit"
	unit    bool
	pid     int
}

const clientEnv = "AGENT_TEST_CLIENT"

// run returns what the child printed: the lease's directory, or the failure's
// kind and message.
func (a as) run(t *testing.T, g *guard) string {
	t.Helper()
	lab.Need(t, "users")
	cmd := exec.Command(os.Args[0], "-test.run=^TestClientProcess$")
	cmd.Env = append(os.Environ(), clientEnv+"="+fmt.Sprintf("%s|%d|%s|%s|%d|%t|%s|%t|%d", g.cfg.Config.Socket, a.uid, a.account, a.spec, a.owner, a.keytab, a.remove, a.unit, a.pid))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: a.clone}
	if a.clone&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 65536}}
	}
	if a.cgroup != "" {
		fd, err := os.Open(a.cgroup)
		if err != nil {
			t.Fatal(err)
		}
		defer fd.Close()
		cmd.Env = append(cmd.Env, clientEnv+"_CGROUP="+a.cgroup)
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("client: %v\n%s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if result, ok := strings.CutPrefix(line, "result: "); ok {
			return strings.TrimSpace(result)
		}
	}
	t.Fatalf("no result in %s", out)
	return ""
}

// TestClientProcess is the child of [as]; by itself it does nothing.
func TestClientProcess(t *testing.T) {
	f := strings.Split(os.Getenv(clientEnv), "|")
	if len(f) != 9 {
		return
	}
	if dir := os.Getenv(clientEnv + "_CGROUP"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	uid, _ := strconv.Atoi(f[1])
	if uid != 0 {
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(uid, uid, uid), syscall.Setresuid(uid, uid, uid)); err != nil {
			t.Fatal(err)
		}
	}
	client, err := agentapi.Dial(f[0])
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	fmt.Println("result:", clientRequest(t.Context(), client, f))
}

func clientRequest(ctx context.Context, client *agentapi.Client, f []string) string {
	fail := func(err error) string {
		if failure, ok := errors.AsType[*agentapi.Failure](err); ok {
			return fmt.Sprintf("%s: %s", failure.Kind, failure.Message)
		}
		return err.Error()
	}
	if f[6] != "" {
		r := &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: f[6]}}
		if f[6] == "unit" {
			r.Which = &agentapi.RemoveLeaseRequest_Unit{Unit: true}
		}
		if _, err := client.RemoveLease(ctx, r); err != nil {
			return fail(err)
		}
		return "removed"
	}
	owner, _ := strconv.Atoi(f[4])
	r := &agentapi.CreateLeaseRequest{Uid: uint32(owner), Gid: uint32(owner), Keytab: f[5] == "true"}
	r.Subject = &agentapi.CreateLeaseRequest_Account{Account: f[2]}
	if f[3] != "" {
		r.Subject = &agentapi.CreateLeaseRequest_CredentialSpec{CredentialSpec: f[3]}
	}
	if pid, _ := strconv.Atoi(f[8]); pid != 0 {
		r.Workload = &agentapi.CreateLeaseRequest_Process{Process: &agentapi.Process{Pid: int32(pid)}}
	}
	if f[7] == "true" {
		r.Workload = &agentapi.CreateLeaseRequest_Unit{Unit: true}
	}
	reply, err := client.CreateLease(ctx, r)
	if err != nil {
		return fail(err)
	}
	l := reply.GetLease()
	if r.GetUnit() {
		return l.GetDirectory()
	}
	if _, err := os.ReadFile(filepath.Join(l.GetDirectory(), "ccache")); err != nil {
		return err.Error()
	}
	return l.GetId()
}

const deniedText = "KIND_DENIED: the agent's policy does not allow this"

// security 9: who is not admitted hears the same whether or not the thing exists.
func TestPolicyDecides(t *testing.T) {
	g := newGuard(t, func(c *config.Config) {
		c.Rules = []policy.Rule{
			{Name: "tickets", Users: []uint32{1234}, CredentialSpecs: []string{"web"}, Accounts: []string{"allowed"}},
			{Name: "one", Users: []uint32{1235}, Accounts: []string{"*"}, Leases: 1},
		}
	})
	g.writeSpec(t, "web", "webapp01")
	g.writeSpec(t, "secret", "webapp02")
	g.start(t)
	g.domain.setFail("missing$", account.ErrNotFound)
	sleep := exec.Command("sleep", "600")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Process.Kill()
	for name, tt := range map[string]struct {
		as   as
		want string // "" for a lease
	}{
		"root may":                          {as{account: "webapp02"}, ""},
		"a spec of the rule":                {as{uid: 1234, owner: 1234, spec: "web"}, ""},
		"an account of the rule":            {as{uid: 1234, owner: 1234, account: "Allowed$"}, ""},
		"an account of no rule":             {as{uid: 1234, owner: 1234, account: "webapp02"}, deniedText},
		"an account that does not exist":    {as{uid: 1234, owner: 1234, account: "missing"}, deniedText},
		"a spec of no rule":                 {as{uid: 1234, owner: 1234, spec: "secret"}, deniedText},
		"a spec that does not exist":        {as{uid: 1234, owner: 1234, spec: "nothing"}, deniedText},
		"a spec name that cannot be":        {as{uid: 1234, owner: 1234, spec: "../x"}, deniedText},
		"keys where tickets are granted":    {as{uid: 1234, owner: 1234, spec: "web", keytab: true}, deniedText},
		"files of root":                     {as{uid: 1234, owner: 0, spec: "web"}, deniedText},
		"files of another user":             {as{uid: 1234, owner: 1236, spec: "web"}, deniedText},
		"a user without a rule":             {as{uid: 4321, owner: 4321, spec: "web"}, deniedText},
		"the life of another's process":     {as{uid: 1234, owner: 1234, spec: "web", pid: sleep.Process.Pid}, fmt.Sprintf("KIND_NOT_FOUND: process %d is not there", sleep.Process.Pid)},
		"root in a container's namespaces":  {as{account: "webapp02", clone: syscall.CLONE_NEWUSER | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}, "KIND_DENIED: the agent serves processes of the host alone"},
		"root in another user namespace":    {as{account: "webapp02", clone: syscall.CLONE_NEWUSER}, "KIND_DENIED: the agent serves processes of the host alone"},
		"root in another PID namespace":     {as{account: "webapp02", clone: syscall.CLONE_NEWPID}, "KIND_DENIED: the agent serves processes of the host alone"},
		"root in another mount namespace":   {as{account: "webapp02", clone: syscall.CLONE_NEWNS}, "KIND_DENIED: the agent serves processes of the host alone"},
		"a unit where there is no systemd":  {as{account: "webapp02", unit: true}, "KIND_USAGE: the caller is in no unit of systemd"},
		"a unit by somebody else than root": {as{uid: 1234, owner: 1234, spec: "web", unit: true}, deniedText},
	} {
		t.Run(name, func(t *testing.T) {
			got := tt.as.run(t, g)
			if tt.want == "" && len(got) != 32 || !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s, want %q", got, tt.want)
			}
		})
	}
	// The leases of the children ended with them.
	eventually(t, func() error {
		if n := g.book.count(); n != 0 {
			return fmt.Errorf("%d leases are left", n)
		}
		return nil
	})
}

// A lease may belong to an id of the caller's subordinate ranges: security 5.
func TestSubordinateIDs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(file, []byte("root:5000:10\n61234:100000:65536\n61235:200000:1\nbroken\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		uid, id uint32
		want    bool
	}{
		{61234, 100000, true}, {61234, 165535, true}, {61234, 165536, false}, {61234, 99999, false},
		{61234, 200000, false}, {61235, 200000, true}, {61234, 0, false}, {61236, 100000, false},
		{0, 5009, true}, // by name
	} {
		if got := subordinate(file, tt.uid, tt.id); got != tt.want {
			t.Errorf("uid %d, id %d: %t, want %t", tt.uid, tt.id, got, tt.want)
		}
	}
	if subordinate(file+".gone", 61234, 100000) {
		t.Error("a missing file grants ids")
	}
}

// security 9: leases of one user.
func TestQuotaOfLeases(t *testing.T) {
	g := newGuard(t, func(c *config.Config) {
		c.Rules = []policy.Rule{{Users: []uint32{1235}, Accounts: []string{"*"}, Leases: 2}}
		c.Quotas.AllLeases = 3
	}).start(t)
	sleep := exec.Command("sleep", "600")
	sleep.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1235, Gid: 1235}}
	lab.Need(t, "users")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleep.Process.Kill()
	user := as{uid: 1235, owner: 1235, account: "a", pid: sleep.Process.Pid}
	first := user.run(t, g)
	if second := user.run(t, g); len(first) != 32 || len(second) != 32 {
		t.Fatalf("%s, %s", first, second)
	}
	if got := user.run(t, g); !strings.HasPrefix(got, "KIND_DENIED: the user has 2 leases") {
		t.Errorf("third: %s", got)
	}
	// Another's lease cannot be seen nor removed, one's own can.
	l := g.create(t, mine("a"))
	if got := (as{uid: 1235, remove: l.GetId()}).run(t, g); !strings.HasPrefix(got, "KIND_NOT_FOUND") {
		t.Errorf("removal of another's lease: %s", got)
	}
	if _, err := g.client.CreateLease(t.Context(), mine("a")); kindOf(err) != agentapi.Kind_KIND_DENIED {
		t.Errorf("a lease above the limit for all: %v", err)
	}
	if got := (as{uid: 1235, remove: first}).run(t, g); got != "removed" {
		t.Errorf("removal of an own lease: %s", got)
	}
	if got := user.run(t, g); len(got) != 32 {
		t.Errorf("after a removal: %s", got)
	}
}

// hierarchy is where the service manager's control groups are: one called
// systemd, or the only one.
func hierarchy(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(b), ":name=systemd:") {
		return "/sys/fs/cgroup/systemd"
	}
	return "/sys/fs/cgroup"
}

// A lease of a systemd unit ends with the unit's run, and a link leads to it.
func TestUnitLease(t *testing.T) {
	lab.Need(t, "root")
	group := filepath.Join(hierarchy(t), "gmsatest.slice", "gmsa-lease-web.service")
	g := newGuard(t, nil)
	if err := os.MkdirAll(group, 0o755); err != nil {
		t.Skipf("needs control groups that can be made: %v", err)
	}
	t.Cleanup(func() { _ = errors.Join(os.Remove(group), os.Remove(filepath.Dir(group))) })
	invocation := filepath.Join(g.base, "systemd", "invocation:gmsa-lease-web.service")
	if err := errors.Join(os.MkdirAll(filepath.Dir(invocation), 0o755), os.Symlink("0123", invocation)); err != nil {
		t.Fatal(err)
	}
	g.start(t)
	unit := as{account: "webapp01", unit: true, cgroup: group}
	dir := unit.run(t, g)
	link := filepath.Join(g.base, "run", "units", "web.service")
	if target, err := os.Readlink(link); err != nil || target != dir {
		t.Fatalf("link to %s, %v, want %s", target, err, dir)
	}
	b, err := os.ReadFile(link + "/krb5.conf")
	if err != nil || !strings.Contains(string(b), "FILE:"+link+"/..data/ccache") {
		t.Errorf("krb5.conf %v\n%s", err, b)
	}
	// The process that asked has ended; the unit has not. So it is after a
	// restart.
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	g.start(t)
	g.book.checkUnits()
	if _, err := os.Stat(link + "/ccache"); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	// Another lease of the unit takes the place of the first.
	second := unit.run(t, g)
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || second == dir {
		t.Errorf("first lease: %v", err)
	}
	if target, _ := os.Readlink(link); target != second {
		t.Errorf("link to %s, want %s", target, second)
	}
	// A new run of the unit is another one.
	if err := errors.Join(os.Remove(invocation), os.Symlink("4567", invocation)); err != nil {
		t.Fatal(err)
	}
	g.book.checkUnits()
	if _, err := os.Lstat(link); !errors.Is(err, os.ErrNotExist) || g.book.count() != 0 {
		t.Errorf("after the unit's end: %v, %d leases", err, g.book.count())
	}
	unit.run(t, g)
	if got := (as{remove: "unit", cgroup: group}).run(t, g); got != "removed" || g.book.count() != 0 {
		t.Errorf("removal by the unit: %s, %d leases", got, g.book.count())
	}
}

// security 9: connections of one user.
func TestConnectionsAreLimited(t *testing.T) {
	g := newGuard(t, func(c *config.Config) { c.Quotas.Connections, c.Quotas.Requests = 3, 2 }).start(t)
	status := func(c *agentapi.Client) error {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := c.Status(ctx, &agentapi.StatusRequest{})
		return err
	}
	var clients []*agentapi.Client
	dial := func() *agentapi.Client {
		c, err := agentapi.Dial(g.cfg.Config.Socket)
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		t.Cleanup(func() { c.Close() })
		return c
	}
	for i := range 3 {
		if err := status(dial()); err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
	}
	fourth := dial()
	if err := status(fourth); kindOf(err) != agentapi.Kind_KIND_DENIED || !strings.Contains(err.Error(), "too many connections") {
		t.Errorf("connection above the limit: %v", err)
	}
	fourth.Close()
	// Twice the limit: closed at once, and others are still served.
	var raw []net.Conn
	for range 10 {
		if c, err := net.Dial("unix", g.cfg.Config.Socket); err == nil {
			raw = append(raw, c)
			defer c.Close()
		}
	}
	if err := status(clients[0]); err != nil {
		t.Errorf("an open connection: %v", err)
	}
	if os.Geteuid() == 0 {
		if got := (as{uid: 1236, owner: 1236, account: "a"}).run(t, g); got != deniedText {
			t.Errorf("another user: %s, want an answer", got)
		}
	}
	for _, c := range raw {
		c.Close()
	}
	clients[1].Close()
	eventually(t, func() error {
		c := dial()
		err := status(c)
		if err != nil {
			c.Close() // else it counts against the next attempt
		}
		return err
	})
}

// security 9: requests of one user.
func TestRequestsInFlightAreLimited(t *testing.T) {
	g := newGuard(t, func(c *config.Config) { c.Quotas.Requests, c.Quotas.RequestTimeout = 2, 3*time.Second }).start(t)
	g.domain.setFail("slow$", account.ErrNoController) // its callers wait
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = g.client.CreateLease(ctx, mine("slow"))
			}
		})
	}
	eventually(t, func() error {
		_, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
		if kindOf(err) != agentapi.Kind_KIND_DENIED || !strings.Contains(err.Error(), "too many requests") {
			return fmt.Errorf("third request: %w", err)
		}
		return nil
	})
	cancel()
	wg.Wait()
	eventually(t, func() error {
		_, err := g.client.Status(t.Context(), &agentapi.StatusRequest{})
		return err
	})
}

// security 9: 256 KiB a message.
func TestLargeMessagesAreRefused(t *testing.T) {
	g := newGuard(t, func(c *config.Config) { c.RawCredentialSpecs = true }).start(t)
	r := mine("")
	r.Subject = &agentapi.CreateLeaseRequest_RawCredentialSpec{RawCredentialSpec: make([]byte, agentapi.MaxMessage+1)}
	if _, err := g.client.CreateLease(t.Context(), r); err == nil {
		t.Error("accepted")
	}
	r.Subject = &agentapi.CreateLeaseRequest_RawCredentialSpec{RawCredentialSpec: make([]byte, 65<<10)}
	if _, err := g.client.CreateLease(t.Context(), r); kindOf(err) != agentapi.Kind_KIND_USAGE {
		t.Errorf("spec of 65 KiB: %v", err)
	}
	g.create(t, mine("webapp01"))
}

// Bytes that are no HTTP/2 end their connection and nothing else.
func TestGarbageOnTheSocket(t *testing.T) {
	g := newGuard(t, nil).start(t)
	for _, text := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff"} {
		c, err := net.Dial("unix", g.cfg.Config.Socket)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(text))
		_ = c.Close()
	}
	g.create(t, mine("webapp01"))
}

func TestSocketMode(t *testing.T) {
	g := newGuard(t, func(c *config.Config) { c.SocketMode = 0o600 }).start(t)
	var st unix.Stat_t
	if err := unix.Stat(g.cfg.Config.Socket, &st); err != nil || st.Mode&0o777 != 0o600 {
		t.Errorf("mode %#o, %v", st.Mode&0o777, err)
	}
}
