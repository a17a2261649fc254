package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// programDir is where the program is built; TestMain removes it.
var programDir string

// program is the program as it is shipped, built once from the tree by the first
// test that needs it.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(programDir, "gmsa")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if socket := os.Getenv(occupyEnv); socket != "" {
		occupied(socket)
		return
	}
	dir, err := os.MkdirTemp("", "gmsa-program-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	programDir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// outcome is what one run of the program gave.
type outcome struct {
	code           int
	stdout, stderr string
}

// A guard is a running gmsa agent with everything that belongs to it.
type guard struct {
	t      *testing.T
	dir    string // configuration, specs, event log; removed after the test
	leases string // a tmpfs of its own
	bin    string
	agent  *lab.Daemon
	seen   bytes.Buffer // all that the program printed
}

// site is what a guard is configured with.
type site struct {
	server     string // the controller's address
	host       string // lines of domains.contoso.com.host
	protection string
	ca         string
	extra      string // more lines of the configuration
}

// other is the credential spec of the lease beside the fault: another account,
// read with an identity of its own, that of web2$.
const other = "other"

// newGuard configures and starts an agent, with more files in its directory.
func newGuard(t *testing.T, s site, files map[string]string) *guard {
	t.Helper()
	bin, err := program()
	if err != nil {
		t.Fatal(err)
	}
	g := &guard{t: t, bin: bin, dir: t.TempDir(), leases: leaseDir(t)}
	g.write("web2", "contoso.com\\web2$:"+lab.ComputerPassword("web2")+"\n")
	g.spec(other, spec("webapp01", `{"PortableCcgVersion":"1","PluginGUID":"`+fileGUID+`","PluginInput":""}`))
	for name, content := range files {
		g.write(name, content)
	}
	g.write("agent.yaml", g.config(s))
	g.start()
	return g
}

// fileGUID is the plug-in of the neighbour's identity.
const fileGUID = "{6f1d4a0e-3c1b-4e55-9b0a-0f5c1c2d7e11}"

// spec is a credential spec for one account; host may be empty.
func spec(account, host string) string {
	if host != "" {
		host = `,"HostAccountConfig":` + host
	}
	return fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],"DomainJoinConfig":{"Sid":%q,"MachineAccountName":%q,"Guid":%q,`+
		`"DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[`+
		`{"Name":%q,"Scope":"contoso.com"},{"Name":%q,"Scope":"CONTOSO"}]%s}}`,
		lab.DomainSID, account, lab.DomainGUID, account, account, host)
}

func (g *guard) config(s site) string {
	if s.protection == "" {
		s.protection = "gss-spnego"
	}
	var b strings.Builder
	fmt.Fprintf(&b, `
socket: %[1]s/agent.sock
leases: {directory: %[2]s}
credential_specs: [%[1]s/specs]
raw_credential_specs: true
state_directory: %[1]s/state
event_log: {path: %[1]s/ccg.jsonl, journal: false}
quotas: {request_timeout: 12s}
plugins:
  store: {kind: file, guid: "%[3]s", path: %[1]s/web2}
  lost: {kind: file, guid: "%[4]s", path: %[1]s/nothing}
  sample: {kind: inline, guid: "%[5]s", allow_input: ".*"}
domains:
  contoso.com:
    servers: [%[6]s]
    protection: %[7]s
`, g.dir, g.leases, fileGUID, lostGUID, sampleGUID, s.server, s.protection)
	if s.ca != "" {
		fmt.Fprintf(&b, "    ca: %s\n", s.ca)
	}
	if s.host != "" {
		fmt.Fprintf(&b, "    host: %s\n", strings.ReplaceAll(s.host, "DIR", g.dir))
	}
	return b.String() + s.extra
}

const (
	lostGUID   = "{6f1d4a0e-3c1b-4e55-9b0a-0f5c1c2d7e12}"
	sampleGUID = "{GDMA0342-266A-4D1P-831J-20990E82944F}"
)

// leaseDir is a tmpfs as leases need it.
func leaseDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "leases")
	if err := os.Mkdir(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID|unix.MS_NOEXEC, "size=8m,mode=0711,noswap"); err != nil {
		// Linux before 6.4: the agent mounts a ramfs over it.
		t.Skipf("mount a tmpfs without swap: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func (g *guard) start() {
	g.t.Helper()
	g.agent = lab.StartDaemon(g.t, nil, g.bin, "agent", "serve", "--debug", "--config", g.path("agent.yaml"))
	lab.Eventually(g.t, 10e9, func() error {
		if !g.agent.Alive() {
			g.t.Fatalf("the agent has ended:\n%s", g.agent.Log())
		}
		if r := g.run("agent", "status"); r.code != 0 && r.code != 6 {
			return errors.New(r.stderr)
		}
		return nil
	})
}

func (g *guard) path(name string) string { return filepath.Join(g.dir, name) }

func (g *guard) write(name, content string) string {
	g.t.Helper()
	path := g.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		g.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		g.t.Fatal(err)
	}
	return path
}

// spec writes a credential spec for the agent to find.
func (g *guard) spec(name, content string) { g.write("specs/"+name+".json", content) }

// run runs the program as a client of the agent.
func (g *guard) run(args ...string) outcome {
	g.t.Helper()
	cmd := exec.CommandContext(g.t.Context(), g.bin, append([]string{"--socket", g.path("agent.sock")}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=/nonexistent"}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		g.t.Fatal(err)
	}
	g.seen.Write(stdout.Bytes())
	g.seen.Write(stderr.Bytes())
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// lease makes a lease that ends with the agent's directory.
func (g *guard) lease(args ...string) outcome {
	g.t.Helper()
	return g.run(append([]string{"lease", "create", "--until-removed"}, args...)...)
}

// good makes a lease that must succeed, and gives its directory.
func (g *guard) good(args ...string) string {
	g.t.Helper()
	r := g.lease(args...)
	if r.code != 0 {
		g.t.Fatalf("gmsa lease create %s: exit code %d\n%s\nthe agent:\n%s", strings.Join(args, " "), r.code, r.stderr, g.agent.Log())
	}
	return strings.TrimSpace(r.stdout)
}

// event is one line of the event log.
type event struct {
	ID      int    `json:"id"`
	Message string `json:"message"`
	Account string `json:"account"`
	Plugin  string `json:"plugin"`
	Reason  string `json:"reason"`
}

func (g *guard) events() []event {
	g.t.Helper()
	r := g.run("events", "--file", g.path("ccg.jsonl"), "-o", "json")
	var list []event
	for line := range strings.SplitSeq(strings.TrimSpace(r.stdout), "\n") {
		var e event
		if line == "" {
			continue
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			g.t.Fatalf("gmsa events: %v\n%s", err, r.stdout)
		}
		list = append(list, e)
	}
	return list
}

// mit runs one of MIT's programs with a lease.
func (g *guard) mit(lease string, argv ...string) error {
	cmd := exec.CommandContext(g.t.Context(), argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "KRB5CCNAME=FILE:" + lease + "/ccache", "KRB5_CONFIG=" + lease + "/krb5.conf"}
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, out)
	}
	return nil
}

// works says whether a lease is one that a service accepts. The ticket goes into
// a cache of its own, since a lease's is the agent's to write.
func (g *guard) works(lease string) error {
	if err := g.mit(lease, "klist", "-s"); err != nil {
		return err
	}
	return g.mit(lease, "kvno", "--out-cache", "FILE:"+filepath.Join(g.t.TempDir(), "out"), "ldap/"+lab.DCHost)
}
