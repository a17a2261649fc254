package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/dc"
	"github.com/opengmsa/opengmsa/internal/dc/atrest"
	"github.com/opengmsa/opengmsa/internal/dc/store/memory"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// seed is one entry of testdata/seeds, whose README.txt has the format.
type seed struct {
	lines    []string // DOC:LINE; empty for what documents take for granted
	verdict  string   // "runs as written", "runs corrected", "answered"
	reason   string
	asHost   bool
	byDocker bool // a shell runs it, with the shim
	exit     int
	script   []string
	output   []string
	lookups  [][3]string // filter, attribute, value
	position string
}

var seedLine = regexp.MustCompile(`\b[1-5]:\d+\b`)

func readSeeds(t *testing.T, path string) []seed {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []seed
	for i, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		position := fmt.Sprintf("%s:%d", filepath.Base(path), i+1)
		if head, ok := strings.CutPrefix(line, "@ "); ok {
			list = append(list, parseSeedHead(t, position, head))
			continue
		}
		s := &list[len(list)-1]
		switch kind, rest, _ := strings.Cut(line, " "); kind {
		case "=":
			s.output = append(s.output, rest)
		case "?":
			filter, rest, _ := strings.Cut(rest, " ")
			attr, value, ok := strings.Cut(rest, " ")
			if !ok {
				t.Fatalf("%s: want FILTER ATTRIBUTE VALUE", position)
			}
			s.lookups = append(s.lookups, [3]string{filter, attr, value})
		default:
			s.script = append(s.script, line)
		}
	}
	return list
}

func parseSeedHead(t *testing.T, position, head string) seed {
	t.Helper()
	s := seed{position: position}
	head, s.reason, _ = strings.Cut(head, ": ")
	for _, v := range []string{"runs as written", "runs corrected", "answered", "setup"} {
		if strings.HasSuffix(head, v) {
			s.verdict = v
		}
	}
	s.lines = seedLine.FindAllString(head, -1)
	s.asHost = strings.Contains(head, " as host")
	s.byDocker = strings.Contains(head, " by docker")
	if _, code, ok := strings.Cut(head, " exit "); ok {
		n, err := strconv.Atoi(code[:1])
		if err != nil {
			t.Fatalf("%s: %v", position, err)
		}
		s.exit = n
	}
	if s.verdict == "" || s.verdict == "runs corrected" && s.reason == "" || len(s.lines) == 0 && s.verdict != "setup" {
		t.Fatalf("%s: bad entry %q", position, head)
	}
	return s
}

func seedFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("testdata/seeds/[1-5]-*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	return files
}

// Every command of the documents has an entry, and every entry is of a command.
func TestEveryLineOfTheSeedsHasAnEntry(t *testing.T) {
	b, err := os.ReadFile("testdata/seeds/lines.txt")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(b))
	var covered []string
	for _, f := range seedFiles(t) {
		for _, s := range readSeeds(t, f) {
			covered = append(covered, s.lines...)
		}
	}
	for _, l := range lines {
		if !slices.Contains(covered, l) {
			t.Errorf("line %s has no entry", l)
		}
	}
	for _, l := range covered {
		if !slices.Contains(lines, l) {
			t.Errorf("line %s is not one of lines.txt", l)
		}
	}
}

// seedHosts are the computers that the documents take for granted.
var seedHosts = []string{"ContainerHost01", "ContainerHost02", "ContainerHost03", "Host1", "Host2", "Host3", "server", "server1", "server2"}

// seedDomain is a domain as the documents find it: with hosts, without root keys and
// managed service accounts.
type seedDomain struct {
	ip       string
	password string   // Administrator's
	env      []string // KRB5_CONFIG and what else programs need
	keytab   string   // of ContainerHost01
	keytabOf func(host string) string
}

func sambaSeedDomain(t *testing.T) seedDomain {
	t.Helper()
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	for _, base := range []string{"CN=Managed Service Accounts," + lab.BaseDN, "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration," + lab.BaseDN} {
		for _, e := range dc.Search(t, base, "(|(objectClass=msDS-GroupManagedServiceAccount)(objectClass=msDS-ManagedServiceAccount)(objectClass=msKds-ProvRootKey))", "cn") {
			dc.Modify(t, "dn: "+e.DN+"\nchangetype: delete\n")
		}
	}
	dc.Delete(t, "WebHosts")
	for _, host := range seedHosts {
		dc.AddComputer(t, host)
	}
	return seedDomain{dc.IP.String(), lab.AdminPassword, dc.Env(), dc.Keytab(t, "ContainerHost01"), func(host string) string { return dc.Keytab(t, host) }}
}

// ownSeedDomain is one of our own controller, at the standard ports of a loopback
// address, whose hosts gmsa itself has joined.
func ownSeedDomain(t *testing.T) seedDomain {
	t.Helper()
	const password = "Passw0rd!Own"
	utf16, err := managedpassword.UTF16(secret.New([]byte(password)))
	if err != nil {
		t.Fatal(err)
	}
	store, key := memory.New(), secret.New(make([]byte, atrest.KeySize))
	made, err := dc.Create(t.Context(), store, key, dc.DomainConfig{DNSName: lab.DNSDomain, AdminPassword: utf16, NoRootKey: true})
	if err != nil {
		t.Fatal(err)
	}
	controller, err := dc.Open(t.Context(), dc.Config{Store: store, Key: key, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	sockets := listenSomewhere(t)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- controller.Run(ctx, sockets) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, controller.Close()); err != nil {
			t.Error(err)
		}
	})
	dir := t.TempDir()
	conf := filepath.Join(dir, "krb5.conf")
	if err := os.WriteFile(conf, dc.Krb5Conf(made.Domain, sockets), 0o600); err != nil {
		t.Fatal(err)
	}
	keytabOf := func(host string) string { return filepath.Join(dir, host+".keytab") }
	d := seedDomain{sockets.Addresses[0].String(), password, []string{"KRB5_CONFIG=" + conf}, keytabOf("ContainerHost01"), keytabOf}
	a := newAdministrator(t, d.ip, d.password)
	for _, host := range seedHosts {
		a.run(0, "computer", "join", host, "--out", keytabOf(host))
	}
	return d
}

// listenSomewhere opens the standard ports at a loopback address that nobody uses.
func listenSomewhere(t *testing.T) *dc.Sockets {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("the standard ports need root")
	}
	var err error
	for n := range 200 {
		ip := netip.AddrFrom4([4]byte{127, 78, byte(os.Getpid()), byte(n + 2)})
		var sockets *dc.Sockets
		if sockets, err = dc.Listen(t.Context(), []netip.Addr{ip}, dc.StandardPorts()); err == nil {
			return sockets
		}
	}
	t.Fatal(err)
	return nil
}

// The commands of the documents do here what the documents say: each scenario in a
// fresh domain.
func testSeeds(t *testing.T, domain func(*testing.T) seedDomain) {
	lab.Need(t, "ldapsearch", "kinit")
	for _, file := range seedFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			r := newSeedRun(t, domain(t), seedAgentHosts[filepath.Base(file)])
			for _, s := range readSeeds(t, file) {
				if !s.byDocker {
					r.run(s)
				}
			}
		})
	}
}

func TestSambaSeeds(t *testing.T) { testSeeds(t, sambaSeedDomain) }

func TestOwnSeeds(t *testing.T) { testSeeds(t, ownSeedDomain) }

// seedRun is one scenario under way.
type seedRun struct {
	t     *testing.T
	d     seedDomain
	admin *administrator
	dir   string // of credential specs
	sock  string // of the agent of a host; empty for scenarios that install nothing
	pw    string // a file with the administrator's password and nothing else, for ldapsearch
}

// seedAgentHosts are the hosts on which the documents install accounts, by scenario.
var seedAgentHosts = map[string]string{"2-farm.txt": "Host1", "3-guide.txt": "server1"}

func newSeedRun(t *testing.T, d seedDomain, agentHost string) *seedRun {
	t.Helper()
	r := &seedRun{t: t, d: d, admin: newAdministrator(t, d.ip, d.password), dir: t.TempDir(), pw: filepath.Join(t.TempDir(), "pw")}
	if agentHost != "" {
		r.sock = seedAgent(t, d, agentHost)
	}
	if err := os.WriteFile(r.pw, []byte(d.password), 0o600); err != nil {
		t.Fatal(err)
	}
	r.admin.env = []string{"GMSA_CREDENTIALSPECS=" + r.dir, "COMPUTERNAME=ContainerHost01"}
	return r
}

// seedAgent runs the agent of a host, as a program, and returns its socket.
func seedAgent(t *testing.T, d seedDomain, host string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("/dev/shm", "gmsa-seeds-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	sock, conf := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf(`socket: %s
leases: {directory: %s/leases, allow_swap: true}
state_directory: %s/state
event_log: {path: %s/ccg.jsonl, journal: false}
domains:
  contoso.com:
    servers: [%s]
    host: {keytab: %s, rotate_password: never}
`, sock, dir, dir, dir, d.ip, d.keytabOf(host))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self, "agent", "serve", "--config", conf)
	agent.Env = append(os.Environ(), asGMSA+"=1")
	agent.Stderr = t.Output()
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		if err := agent.Wait(); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	lab.Eventually(t, 20*time.Second, func() error { _, err := os.Stat(sock); return err })
	return sock
}

func (r *seedRun) run(s seed) {
	r.t.Helper()
	args := []string{"pwsh", "-c", strings.Join(s.script, "\n")}
	if r.sock != "" {
		args = append(args, "--socket", r.sock)
	}
	var got result
	if s.asHost {
		// A ticket of its own for each entry, as after the restart that documents ask
		// for: groups are in the ticket.
		cache := filepath.Join(r.t.TempDir(), "ccache")
		lab.Run(r.t, r.d.env, "", "kinit", "-c", "FILE:"+cache, "-k", "-t", r.d.keytab, "ContainerHost01$@CONTOSO.COM")
		env := append(slices.Clone(r.d.env), "KRB5CCNAME=FILE:"+cache, "COMPUTERNAME=ContainerHost01", "GMSA_CREDENTIALSPECS="+r.dir)
		got = gmsa(r.t, env, args...)
	} else {
		got = gmsa(r.t, r.admin.env, append(args, r.admin.args...)...)
	}
	if got.code != s.exit {
		r.t.Fatalf("%s: exit code %d, want %d", s.position, got.code, s.exit)
	}
	for _, want := range s.output {
		if !strings.Contains(got.stdout+got.stderr, want) {
			r.t.Errorf("%s: no %q", s.position, want)
		}
	}
	for _, l := range s.lookups {
		r.lookup(s.position, l[0], l[1], l[2])
	}
}

// lookup checks the directory with OpenLDAP's ldapsearch.
func (r *seedRun) lookup(position, filter, attr, value string) {
	r.t.Helper()
	base := lab.BaseDN
	if strings.Contains(filter, "msKds") {
		base = "CN=Configuration," + base
	}
	out := lab.Run(r.t, append(os.Environ(), "LDAPTLS_REQCERT=never"), "", "ldapsearch", "-H", "ldaps://"+r.d.ip, "-LLL", "-o", "ldif-wrap=no",
		"-x", "-D", "Administrator@"+lab.DNSDomain, "-y", r.pw, "-b", base, filter, attr)
	found := strings.Contains(out, "dn: ")
	switch {
	case value == "-" && found:
		r.t.Errorf("%s: %s is there:\n%s", position, filter, out)
	case value != "-" && !strings.Contains(out, "\n"+attr+": "+value+"\n"):
		r.t.Errorf("%s: %s has no %s: %s:\n%s", position, filter, attr, value, out)
	}
}
