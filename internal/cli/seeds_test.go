package cli

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// seed is one entry of testdata/seeds, whose README.txt has the format.
type seed struct {
	lines    []string // DOC:LINE; empty for what documents take for granted
	verdict  string   // "runs as written", "runs corrected", "answered"
	reason   string
	asHost   bool
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

// seedDomain is a domain as the documents find it: with hosts, without root keys and
// accounts of the lab's own.
func seedDomain(t *testing.T) *lab.DC {
	t.Helper()
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
	for _, base := range []string{"CN=Managed Service Accounts," + lab.BaseDN, "CN=Master Root Keys,CN=Group Key Distribution Service,CN=Services,CN=Configuration," + lab.BaseDN} {
		for _, e := range dc.Search(t, base, "(|(objectClass=msDS-GroupManagedServiceAccount)(objectClass=msDS-ManagedServiceAccount)(objectClass=msKds-ProvRootKey))", "cn") {
			dc.Modify(t, "dn: "+e.DN+"\nchangetype: delete\n")
		}
	}
	dc.Delete(t, "WebHosts")
	for _, host := range []string{"ContainerHost01", "ContainerHost02", "ContainerHost03", "Host1", "Host2", "Host3", "server", "server1", "server2"} {
		dc.AddComputer(t, host)
	}
	return dc
}

// The commands of the documents do here what the documents say: each scenario in a
// fresh domain, against Samba.
func TestSambaSeeds(t *testing.T) {
	lab.Need(t, "ldapsearch", "kinit")
	for _, file := range seedFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			r := newSeedRun(t, seedDomain(t))
			for _, s := range readSeeds(t, file) {
				r.run(s)
			}
		})
	}
}

// seedRun is one scenario under way.
type seedRun struct {
	t     *testing.T
	dc    *lab.DC
	admin *administrator
	host  []string // environment with the host's ticket
	dir   string   // of credential specs
	sock  string   // of an agent
	adm   string   // the administrator's credential cache, for ldapsearch
}

func newSeedRun(t *testing.T, dc *lab.DC) *seedRun {
	t.Helper()
	dir := t.TempDir()
	sock := filepath.Join(dir, "agent.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	agentapi.RegisterAgentServer(server, &fakeAgent{})
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Stop(); <-done })
	r := &seedRun{t: t, dc: dc, admin: newAdministrator(t, dc), dir: dir, sock: sock, adm: dc.Kinit(t, "Administrator", lab.AdminPassword)}
	r.admin.env = []string{"GMSA_CREDENTIALSPECS=" + dir, "COMPUTERNAME=ContainerHost01"}
	return r
}

func (r *seedRun) run(s seed) {
	r.t.Helper()
	args := []string{"pwsh", "-c", strings.Join(s.script, "\n"), "--socket", r.sock}
	var got result
	if s.asHost {
		// A ticket of its own for each entry, as after the restart that documents ask
		// for: groups are in the ticket.
		cache := r.dc.KinitKeytab(r.t, "ContainerHost01$", r.dc.Keytab(r.t, "ContainerHost01"))
		env := append(r.dc.Env(), "KRB5CCNAME=FILE:"+cache, "COMPUTERNAME=ContainerHost01", "GMSA_CREDENTIALSPECS="+r.dir)
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
	out := r.dc.Run(r.t, append(r.dc.HostsEnv(r.t), "KRB5CCNAME=FILE:"+r.adm), "ldapsearch", "-H", "ldap://"+lab.DCHost, "-N", "-Q", "-LLL", "-o", "ldif-wrap=no",
		"-Y", "GSSAPI", "-b", base, filter, attr)
	found := strings.Contains(out, "dn: ")
	switch {
	case value == "-" && found:
		r.t.Errorf("%s: %s is there:\n%s", position, filter, out)
	case value != "-" && !strings.Contains(out, "\n"+attr+": "+value+"\n"):
		r.t.Errorf("%s: %s has no %s: %s:\n%s", position, filter, attr, value, out)
	}
}
