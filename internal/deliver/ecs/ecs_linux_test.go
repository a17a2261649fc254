package ecs_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/identity"
	"github.com/opengmsa/opengmsa/internal/deliver/ecs"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// host is one that the Amazon ECS agent could run on.
type host struct {
	base  string
	cfg   agent.Config
	log   *lockedBuffer
	stop  func() error
	proto string // directory of Python's messages
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

func newHost(t *testing.T, dc *lab.DC) *host {
	t.Helper()
	base, err := os.MkdirTemp("/dev/shm", "gmsa-ecs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse(fmt.Appendf(nil, `
domains:
  %s:
    servers: [%s]
    host: {keytab: %s, rotate_password: never}
leases: {directory: %[4]s/run/leases, allow_swap: true}
socket: %[4]s/agent.sock
credential_specs: []
state_directory: %[4]s/state
event_log: {path: %[4]s/ccg.jsonl, journal: false}
ecs: {socket: %[4]s/credentials_fetcher.sock, directory: %[4]s/krbdir, accounts: ["webapp*", ecsportable]}
`, dc.DNSDomain, dc.IP, dc.Keytab(t, "web1"), base))
	if err != nil {
		t.Fatal(err)
	}
	h := &host{base: base, log: &lockedBuffer{}, proto: base + "/messages"}
	if err := os.Mkdir(h.proto, 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("protoc", "--python_out="+h.proto, "credentialsfetcher.proto").CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	log := slog.New(slog.NewTextHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.cfg = agent.Config{
		Config: cfg, Log: log, TaskService: func(r grpc.ServiceRegistrar, a *agent.Agent) {
			s := ecs.Server{Guard: a, Directory: cfg.ECS.Directory, Owner: lease.Owner{Mode: 0o400}}
			if err := s.Sweep(); err != nil {
				t.Error(err)
			}
			ecs.RegisterCredentialsFetcherServiceServer(r, s)
		},
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of the agent:\n%s", h.log)
		}
	})
	return h
}

// start runs the agent until the test's end or stop.
func (h *host) start(t *testing.T) {
	t.Helper()
	l, err1 := agent.Listen(h.cfg.Config)
	tasks, err2 := agent.ListenTasks(h.cfg.Config)
	h.cfg.Tasks, h.cfg.Identities = tasks, identity.New(identity.Options{Log: h.cfg.Log})
	a, err3 := agent.New(h.cfg)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx, l) }()
	h.stop = sync.OnceValue(func() error {
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := h.stop(); err != nil {
			t.Errorf("agent ended with %v", err)
		}
	})
}

// answer is a reply or, with a code, a failure.
type answer struct {
	Code, Details string
	Status        string
	LeaseID       string   `json:"lease_id"`
	Created       []string `json:"created_kerberos_file_paths"`
	Renewed       []string `json:"renewed_kerberos_file_paths"`
	Deleted       []string `json:"deleted_kerberos_file_paths"`
}

// client is a client.py that runs, behind a program such as setpriv.
type client struct {
	in    io.WriteCloser
	out   *bufio.Scanner
	close func()
}

func (h *host) client(t *testing.T, before ...string) *client {
	t.Helper()
	script, err := filepath.Abs("testdata/client.py")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	argv := append(before, "/usr/bin/python3", "-c", string(text), h.proto, h.cfg.Config.ECS.Socket)
	cmd := exec.Command(argv[0], argv[1:]...)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	var faults bytes.Buffer
	cmd.Stderr = &faults
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	c := &client{in: in, out: bufio.NewScanner(out), close: sync.OnceFunc(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("client.py: %v\n%s", err, faults.Bytes())
		}
	})}
	t.Cleanup(c.close)
	return c
}

// call makes a call.
func (c *client) call(t *testing.T, method string, request map[string]any) answer {
	t.Helper()
	b, err := json.Marshal([]any{method, request})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.in.Write(append(b, '\n')); err != nil {
		t.Fatal(err)
	}
	var a answer
	if !c.out.Scan() {
		t.Fatalf("%s: no answer", method)
	}
	if err := json.Unmarshal(c.out.Bytes(), &a); err != nil {
		t.Fatalf("%v: %s", err, c.out.Bytes())
	}
	return a
}

// specOf is a credential spec as a task definition of ECS has it: with what names a
// secret of AWS, as an object, for a host that is not joined.
func specOf(account, domain string, joined bool) string {
	host, netbios := "", strings.ToUpper(strings.TrimSuffix(domain, ".com"))
	if !joined {
		host = `,"HostAccountConfig":{"PortableCcgVersion":"1","PluginGUID":"{859E1386-BDB4-49E8-85C7-3070B13920E1}",
"PluginInput":{"CredentialArn":"arn:aws:secretsmanager:eu-west-1:123456789012:secret:reader"}}`
	}
	return fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":%[1]q,"Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":%[2]q,"DnsName":%[2]q,"NetBiosName":%[4]q},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":%[1]q,"Scope":%[2]q}]%[3]s}}`, account, domain, host, netbios)
}

const readerPassword = "Ecs-Reader-Pass1!"

// gRPC's own core, with messages that protoc made of the .proto, makes all seven calls, on
// Samba and on our own controller.
func TestTheInterfaceOfCredentialsFetcher(t *testing.T) {
	lab.Need(t, "users", "python3-grpcio", "protoc", "klist", "runc", "setpriv", "unshare")
	for name, dc := range map[string]func(*testing.T) *lab.DC{
		"Samba": func(t *testing.T) *lab.DC { return lab.Samba(t, lab.SambaConfig{}) },
		"gmsa":  func(t *testing.T) *lab.DC { return lab.Own(t, lab.OwnConfig{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			allCalls(t, dc(t))
		})
	}
}

func allCalls(t *testing.T, dc *lab.DC) {
	dc.AddUser(t, "ecsreader", readerPassword)
	dc.AddGMSA(t, lab.GMSA{Name: "ecsportable", Readers: []string{"ecsreader"}})
	h := newHost(t, dc)
	h.start(t)
	c := h.client(t)

	if a := c.call(t, "HealthCheck", map[string]any{"service": "credentials-fetcher"}); a.Status != "OK" {
		t.Errorf("health %+v", a)
	}
	joined := c.call(t, "AddKerberosLease", map[string]any{"credspec_contents": []string{
		specOf("WebApp01", "contoso.com", true), specOf("webapp02", "contoso.com", true),
	}})
	if !regexp.MustCompile(`^[0-9a-f]{20}$`).MatchString(joined.LeaseID) || len(joined.Created) != 2 ||
		joined.Created[0] != filepath.Join(h.base, "krbdir", joined.LeaseID, "WebApp01") {
		t.Fatalf("AddKerberosLease: %+v", joined)
	}
	for path, want := range map[string]string{joined.Created[0]: "webapp01$", joined.Created[1]: "webapp02$"} {
		if out := dc.Run(t, nil, "klist", "-c", path+"/krb5cc"); !strings.Contains(out, "Default principal: "+want+"@CONTOSO.COM") {
			t.Errorf("%s: %s", path, out)
		}
	}
	inATask(t, joined.Created[0], "webapp01$")

	portable := h.notJoined(t, dc, c)
	c.close() // it would hold the agent's end up
	c = h.renewal(t, dc, portable)
	notConfigured(t, c)
	h.refusals(t, c)

	for _, l := range []answer{joined, portable} {
		if a := c.call(t, "DeleteKerberosLease", map[string]any{"lease_id": l.LeaseID}); a.LeaseID != l.LeaseID || fmt.Sprint(a.Deleted) != fmt.Sprint(l.Created) {
			t.Errorf("DeleteKerberosLease: %+v, want %v", a, l.Created)
		}
	}
	if a := c.call(t, "DeleteKerberosLease", map[string]any{"lease_id": joined.LeaseID}); a.Code != "NOT_FOUND" {
		t.Errorf("a lease that is gone: %+v", a)
	}
	for _, dir := range []string{"krbdir/*", "run/leases/????????????????????????????????"} {
		if left, err := filepath.Glob(filepath.Join(h.base, dir)); err != nil || len(left) > 0 {
			t.Errorf("left in %s: %v, %v", dir, left, err)
		}
	}
	for _, secret := range []string{readerPassword, "Ecs-Reader-Pass2!", "not the password"} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// inATask looks into a container as the ECS agent makes it: the directory at the place
// where tasks have it.
func inATask(t *testing.T, path, principal string) {
	t.Helper()
	const krbdir = "/var/credentials-fetcher/krbdir"
	out, err := lab.Container{
		Programs: []string{"klist"}, Args: []string{"klist"},
		Env: []string{"KRB5CCNAME=" + krbdir + "/krb5cc"}, Mounts: map[string]string{krbdir: path},
	}.Run(t)
	if err != nil || !strings.Contains(out, "Default principal: "+principal+"@CONTOSO.COM") {
		t.Errorf("in a task: %v\n%s", err, out)
	}
}

func (h *host) notJoined(t *testing.T, dc *lab.DC, c *client) answer {
	t.Helper()
	request := map[string]any{
		"credspec_contents": []string{specOf("ecsportable", "contoso.com", false)},
		"username":          "ecsreader", "password": "not the password", "domain": "contoso.com",
	}
	if a := c.call(t, "AddNonDomainJoinedKerberosLease", request); a.Code != "PERMISSION_DENIED" || !strings.Contains(a.Details, "refuses the identity") {
		t.Errorf("a wrong password: %+v", a)
	}
	request["password"], request["domain"] = readerPassword, "fabrikam.com"
	if a := c.call(t, "AddNonDomainJoinedKerberosLease", request); a.Code != "INVALID_ARGUMENT" || !strings.Contains(a.Details, "not configured") {
		t.Errorf("a domain that is not configured: %+v", a)
	}
	request["domain"] = "CONTOSO"
	a := c.call(t, "AddNonDomainJoinedKerberosLease", request)
	if a.Code != "" || len(a.Created) != 1 {
		t.Fatalf("AddNonDomainJoinedKerberosLease: %+v", a)
	}
	if out := dc.Run(t, nil, "klist", "-c", a.Created[0]+"/krb5cc"); !strings.Contains(out, "Default principal: ecsportable$@CONTOSO.COM") {
		t.Error(out)
	}
	// The host itself may not read it, and the reader none of the host's.
	if a := c.call(t, "AddKerberosLease", map[string]any{"credspec_contents": []string{specOf("ecsportable", "contoso.com", true)}}); a.Code != "PERMISSION_DENIED" {
		t.Errorf("the host reads what it may not: %+v", a)
	}
	request["credspec_contents"] = []string{specOf("webapp02", "contoso.com", false)}
	if a := c.call(t, "AddNonDomainJoinedKerberosLease", request); a.Code != "PERMISSION_DENIED" {
		t.Errorf("the reader reads what it may not: %+v", a)
	}
	return a
}

// renewal brings a changed password, to an agent that has forgotten the one before.
func (h *host) renewal(t *testing.T, dc *lab.DC, l answer) *client {
	t.Helper()
	cache := l.Created[0] + "/krb5cc"
	before := endOfTicket(t, dc, cache)
	dc.SetPassword(t, "ecsreader", "Ecs-Reader-Pass2!")
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	h.start(t)
	c := h.client(t)
	renew := func(user, password string) answer {
		return c.call(t, "RenewNonDomainJoinedKerberosLease", map[string]any{"username": user, "password": password, "domain": "contoso.com"})
	}
	if now := endOfTicket(t, dc, cache); now != before {
		t.Errorf("the ticket after a restart: %s, before it: %s", now, before)
	}
	time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second))) // tickets count in seconds
	if a := renew("ecsreader", "not the password"); a.Code != "PERMISSION_DENIED" {
		t.Errorf("a wrong password: %+v", a)
	}
	if a := renew("administrator", lab.AdminPassword); a.Code != "NOT_FOUND" {
		t.Errorf("a user that reads no lease: %+v", a)
	}
	if a := renew("ECSREADER", "Ecs-Reader-Pass2!"); fmt.Sprint(a.Renewed) != fmt.Sprint(l.Created) {
		t.Errorf("RenewNonDomainJoinedKerberosLease: %+v, want %v", a, l.Created)
	}
	lab.Eventually(t, 10*time.Second, func() error {
		if now := endOfTicket(t, dc, cache); now == before {
			return fmt.Errorf("the ticket is still that until %s", now)
		}
		return nil
	})
	return c
}

// endOfTicket is klist's line of the ticket-granting ticket.
func endOfTicket(t *testing.T, dc *lab.DC, cache string) string {
	t.Helper()
	for line := range strings.Lines(dc.Run(t, nil, "klist", "-c", cache)) {
		if strings.Contains(line, "krbtgt/") {
			return line
		}
	}
	t.Fatalf("%s has no ticket-granting ticket", cache)
	return ""
}

func notConfigured(t *testing.T, c *client) {
	t.Helper()
	for method, request := range map[string]map[string]any{
		"AddKerberosArnLease":   {"credspec_arns": []string{"arn:aws:s3:::b/k#/WebApp01"}, "access_key_id": "A", "secret_access_key": "S", "session_token": "T", "region": "eu-west-1"},
		"RenewKerberosArnLease": {"access_key_id": "A", "secret_access_key": "S", "session_token": "T", "region": "eu-west-1"},
	} {
		if a := c.call(t, method, request); a.Code != "FAILED_PRECONDITION" || !strings.Contains(a.Details, "AWS is not configured") {
			t.Errorf("%s: %+v", method, a)
		}
	}
}

func (h *host) refusals(t *testing.T, c *client) {
	t.Helper()
	good := specOf("webapp01", "contoso.com", true)
	many := make([]string, 17)
	for i := range many {
		many[i] = good
	}
	for name, r := range map[string]struct {
		specs []string
		code  string
		want  string
	}{
		"no credential spec":             {nil, "INVALID_ARGUMENT", "want 1 to 16"},
		"too many":                       {many, "INVALID_ARGUMENT", "want 1 to 16"},
		"no JSON":                        {[]string{"{"}, "INVALID_ARGUMENT", ""},
		"a domain that is unknown":       {[]string{specOf("webapp01", "fabrikam.com", true)}, "INVALID_ARGUMENT", "not configured"},
		"an account that is not allowed": {[]string{good, specOf("smsa01", "contoso.com", true)}, "PERMISSION_DENIED", "policy"},
		"one account twice":              {[]string{good, good}, "INVALID_ARGUMENT", "two of the credential specs"},
		"a name that is a path":          {[]string{specOf("../webapp01", "contoso.com", true)}, "INVALID_ARGUMENT", ""},
		"a plug-in that there is not":    {[]string{specOf("webapp01", "contoso.com", false)}, "FAILED_PRECONDITION", "plug-in"},
	} {
		if a := c.call(t, "AddKerberosLease", map[string]any{"credspec_contents": r.specs}); a.Code != r.code || !strings.Contains(a.Details, r.want) {
			t.Errorf("%s: %+v, want %s with %q", name, a, r.code, r.want)
		}
	}
	for _, id := range []string{"", "..", "*", strings.Repeat("0", 20) + "/..", "ABCDEF"} {
		if a := c.call(t, "DeleteKerberosLease", map[string]any{"lease_id": id}); a.Code != "INVALID_ARGUMENT" {
			t.Errorf("DeleteKerberosLease %q: %+v", id, a)
		}
	}
	if a := c.call(t, "AddNonDomainJoinedKerberosLease", map[string]any{"credspec_contents": []string{good}, "username": "ecsreader", "domain": "contoso.com"}); a.Code != "INVALID_ARGUMENT" {
		t.Errorf("no password: %+v", a)
	}

	// Root in a container is served, as the ECS agent is one; others are not, whatever
	// the socket's mode, and neither is root of a user namespace.
	if info, err := os.Stat(h.cfg.Config.ECS.Socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v; want 0600", info.Mode(), err)
	}
	if a := h.client(t, "unshare", "--pid", "--fork", "--mount", "--").call(t, "HealthCheck", map[string]any{}); a.Status != "OK" {
		t.Errorf("root in a container: %+v", a)
	}
	if err := os.Chmod(h.cfg.Config.ECS.Socket, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, before := range map[string][]string{
		"another user":             {"setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--"},
		"root of a user namespace": {"setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "--", "unshare", "--user", "--map-root-user", "--"},
	} {
		if a := h.client(t, before...).call(t, "HealthCheck", map[string]any{}); a.Code != "PERMISSION_DENIED" {
			t.Errorf("%s: %+v", name, a)
		}
	}
}
