//go:build linux

package demo

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// The domain of the journey, beside what the lab's domain has: Microsoft's own
// example, as its page on gMSAs for Windows containers tells it.
const (
	account          = "WebApp01"
	host             = "ContainerHost01"
	hosts            = "WebApp01Hosts"
	portable         = "gmsaccg" // the user that a host outside the domain reads the password as
	portablePassword = "Portable-gmsaccg-1"
)

// A journey is the state that its steps share.
type journey struct {
	*testing.T
	story *narrator
	dc    *lab.DC
	pg    *lab.Postgres
	dir   string // configuration, on disk
	gmsa  string // the program
}

func TestTheJourney(t *testing.T) {
	lab.Need(t, "users", "psql", "podman", "curl", "apache2", "smbclient")
	j := &journey{T: t, story: newNarrator(t)}
	var err error
	j.dir, err = os.MkdirTemp("", "gmsa-demo-")
	j.must(err)
	t.Cleanup(func() { os.RemoveAll(j.dir) })
	j.must(os.Chmod(j.dir, 0o755))
	j.gmsa = build(t)
	j.domain()
	j.database()

	joined := j.joinedHost()
	j.session(joined, "A program of this host", "--account", account)
	j.container(joined)
	j.website(joined)
	j.share(joined)
	joined.end()

	foreign := j.foreignHost()
	j.session(foreign, "The same program, on a host outside the domain", "--credspec", "webapp01")
	j.events(foreign)
	j.story.end()
}

// build builds the program without cgo, so that it runs in any container.
func build(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("GMSA_DEMO_PROGRAM"); p != "" {
		return p
	}
	path := filepath.Join(t.TempDir(), "gmsa")
	cmd := exec.Command("go", "build", "-o", path, "github.com/opengmsa/opengmsa/cmd/gmsa")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build gmsa: %v\n%s", err, out)
	}
	return path
}

// domain starts the domain controller and makes the accounts.
func (j *journey) domain() {
	j.story.step("A domain")
	j.dc = lab.Samba(j.T, lab.SambaConfig{SMB: true})
	j.dc.Delete(j.T, "webapp01$")
	j.dc.AddComputer(j.T, host)
	j.dc.AddUser(j.T, portable, portablePassword)
	j.dc.AddUser(j.T, "alice", "User-alice-Pass!")
	j.dc.AddGroup(j.T, hosts, lab.DomainLocalGroup, host+"$", portable)
	j.dc.AddGMSA(j.T, lab.GMSA{Name: account, Interval: 30, Readers: []string{hosts},
		SPNs: []string{"host/WebApp01", "host/WebApp01.contoso.com", "http/webapp01.contoso.com"}})
	j.story.say("Samba AD DC 4.22 serves %s on %s, with the gMSA %s, whose password", lab.DNSDomain, j.dc.IP, account)
	j.story.say("the members of %s may read: the computer %s and the user %s.", hosts, host, portable)
}

// database starts PostgreSQL, which lets in nobody without a ticket.
func (j *journey) database() {
	j.story.step("A database that knows its users by Kerberos alone")
	j.pg = lab.PostgresServer(j.T, j.dc)
	j.pg.Role(j.T, account+"$")
	j.story.say("PostgreSQL runs on %s. Its pg_hba.conf has no line that takes a password.", j.pg.IP)
	out, err := j.story.try(append(j.dc.Env(), "KRB5CCNAME=FILE:/nonexistent"), "psql", "-AtX", j.pg.ConnInfo(account+"$"), "-c", "select 1")
	if err == nil {
		j.Fatalf("a session without a ticket:\n%s", out)
	}
}

// A guard is a running agent with its socket.
type guard struct {
	*journey
	daemon *lab.Daemon
	socket string
	dir    string
}

// joinedHost starts the guard as on a computer that is joined to the domain.
func (j *journey) joinedHost() *guard {
	j.story.step("The guard of a host that is joined to the domain")
	keytab := j.dc.Keytab(j.T, host)
	return j.guard("joined", fmt.Sprintf(`domains:
  contoso.com:
    servers: [%s]
    host: {keytab: %s, rotate_password: never}
containers:
  hook: %s
  cdi_directory: %s
  rules:
    - {credential_specs: [contoso_webapp01], runtimes: [podman]}
`, j.dc.IP, keytab, lab.BuildHook(j.T), lab.CDIDirectory(j.T, "gmsa.dev-credentialspec.json")), "contoso_webapp01", joinedSpec)
}

// foreignHost starts the guard as on a computer outside the domain, which reads
// passwords as the user that a plug-in names: the example spec's own plug-in.
func (j *journey) foreignHost() *guard {
	j.story.step("The guard of a host that is not joined, with Microsoft's complete example file")
	return j.guard("foreign", fmt.Sprintf(`domains:
  contoso.com: {servers: [%s]}
plugins:
  sample:
    guid: "{GDMA0342-266A-4D1P-831J-20990E82944F}"
    kind: inline
    allow_input: 'contoso\.com:gmsaccg:.*'
`, j.dc.IP), "webapp01", strings.Replace(exampleSpec, "<password>", portablePassword, 1))
}

// guard writes a configuration and a credential spec, starts the agent and waits until
// it answers.
func (j *journey) guard(name, config, specName, spec string) *guard {
	g := &guard{journey: j, dir: filepath.Join(j.dir, name)}
	specs := filepath.Join(g.dir, "credentialspecs")
	g.socket = filepath.Join(g.dir, "agent.sock")
	specFile := filepath.Join(specs, specName+".json")
	j.must(os.MkdirAll(specs, 0o755))
	j.must(os.WriteFile(specFile, []byte(spec), 0o644))
	leases, err := os.MkdirTemp("/dev/shm", "gmsa-demo-") // tmpfs: the guard writes keys nowhere else
	j.must(err)
	j.Cleanup(func() { os.RemoveAll(leases) })
	j.must(os.Chmod(leases, 0o711)) // a lease's owner goes through it
	file := filepath.Join(g.dir, "agent.yaml")
	config = fmt.Sprintf(`socket: %s
leases: {directory: %s/leases, allow_swap: true}
credential_specs: [%s]
state_directory: %s/state
event_log: {path: %s/ccg.jsonl}
%s`, g.socket, leases, specs, g.dir, g.dir, config)
	j.must(os.WriteFile(file, []byte(config), 0o644))
	j.story.file(file, config)
	j.story.file(specFile, spec)
	g.daemon = lab.StartDaemon(j.T, nil, j.gmsa, "agent", "serve", "--config", file)
	lab.Eventually(j.T, 20*time.Second, func() error {
		if !g.daemon.Alive() {
			j.Fatalf("the agent ended:\n%s", g.daemon.Log())
		}
		out, err := exec.Command(j.gmsa, "--socket", g.socket, "agent", "status").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	j.story.run(nil, j.gmsa, "--socket", g.socket, "agent", "status")
	return g
}

func (g *guard) end() { g.must(g.daemon.Stop()) }

func (j *journey) must(err error) {
	j.Helper()
	if err != nil {
		j.Fatal(err)
	}
}

// session opens a database session through gmsa run.
func (j *journey) session(g *guard, title string, what ...string) {
	j.story.step(title)
	argv := append([]string{j.gmsa, "--socket", g.socket, "run"}, what...)
	argv = append(argv, "--", "psql", "-AtX", j.pg.ConnInfo(account+"$"), "-c", lab.GSSQuery)
	out := j.story.run(nil, argv...)
	j.story.want(out, "t|WebApp01$@CONTOSO.COM|t|WebApp01$")
	j.story.say("gss_authenticated is t for %s$. The program was given no password: there is none to give.", account)
}

// lease asks the guard for a lease and gives its directory.
func (g *guard) lease(args ...string) string {
	argv := append([]string{g.gmsa, "--socket", g.socket, "lease", "create", "--account", account, "--until-removed"}, args...)
	out := g.story.run(nil, argv...)
	dir := strings.TrimSpace(out)
	if fi, err := os.Stat(dir); err != nil || !fi.IsDir() {
		g.Fatalf("gmsa lease create printed %q: %v", out, err)
	}
	return dir
}

// container runs the same in a container, which has the identity by one flag.
func (j *journey) container(g *guard) {
	j.story.step("A container with one flag, read-only, without any capability, as user 1000")
	p := lab.NewPodman(j.T)
	image := p.Image(lab.Container{Programs: []string{"psql", "sleep", j.gmsa}, UID: 1000, GID: 1000})
	_, err := p.Run("tag", image, "localhost/app")
	j.must(err)
	j.story.podman(p, "run", "--detach", "--name", "app", "--device", "gmsa.dev/credentialspec=contoso_webapp01", "--network", "host", "--dns", j.dc.IP.String(),
		"--env", "TZ=UTC", "--user", "1000", "--read-only", "--cap-drop", "all", "app", "sleep", "600")
	j.story.want(j.story.run(nil, j.gmsa, "--socket", g.socket, "lease", "list"), "WebApp01$@CONTOSO.COM", "container ")
	exec := func(argv ...string) string { return j.story.podman(p, append([]string{"exec", "app"}, argv...)...) }
	j.story.want(exec("psql", "-AtX", j.pg.ConnInfo(account+"$"), "-c", lab.GSSQuery), "t|WebApp01$@CONTOSO.COM|t|WebApp01$")
	j.story.want(exec("gmsa", "verify", lab.DNSDomain),
		"Flags: b0 HAS_IP  HAS_TIMESERV",
		`Trusted DC Name \\`+lab.DCHost,
		"Trusted DC Connection Status Status = 0 0x0 NERR_Success",
		"Trust Verification Status = 0 0x0 NERR_Success",
		"The command completed successfully")
	j.story.want(exec("gmsa", "klist", "get", "krbtgt"),
		"A ticket to krbtgt has been retrieved successfully.",
		"Cached Tickets: (",
		"Client: WebApp01$ @ CONTOSO.COM",
		"Server: krbtgt/CONTOSO.COM @ CONTOSO.COM",
		"KerbTicket Encryption Type: AES-256-CTS-HMAC-SHA1-96")
	j.story.podman(p, "rm", "--force", "--time", "0", "app")
}

// website lets the gMSA accept connections: Apache with the lease's keytab.
func (j *journey) website(g *guard) {
	j.story.step("A web server that accepts tickets, with the lease's keytab")
	www, err := user.Lookup("www-data")
	j.must(err)
	dir := g.lease("--keytab", "--user", www.Username, "--group", "www-data")
	web := lab.ApacheNegotiate(j.T, lab.ApacheConfig{Host: "webapp01.contoso.com", Keytab: filepath.Join(dir, "keytab"), Env: j.dc.Env()})
	cc := "KRB5CCNAME=FILE:" + j.dc.Kinit(j.T, "alice", "User-alice-Pass!")
	out := j.story.run(append(j.dc.Env(), cc), append([]string{"curl"}, web.CurlArgs()...)...)
	j.story.want(out, "HTTP/1.1 200 OK", "X-Remote-User: alice@CONTOSO.COM")
	j.story.say("Alice's ticket for http/%s was opened with a key that no file of this host's disk holds.", web.Host)
}

// share reads a file share as the gMSA.
func (j *journey) share(g *guard) {
	j.story.step("A file share, read as the gMSA")
	dir := g.lease()
	argv := []string{"smbclient", "//" + lab.DCHost + "/sysvol", "-I", j.dc.IP.String(),
		"--use-krb5-ccache=" + filepath.Join(dir, "..data", "ccache"), "-c", "cd " + lab.DNSDomain + "; ls"}
	j.story.want(j.story.run([]string{"KRB5_CONFIG=" + filepath.Join(dir, "krb5.conf")}, argv...), "Policies", "scripts")
	j.story.run(nil, j.gmsa, "--socket", g.socket, "lease", "list")
}

// events shows the guard's log.
func (j *journey) events(g *guard) {
	j.story.step("What the guard logged")
	j.story.run(nil, j.gmsa, "events", "--file", filepath.Join(g.dir, "ccg.jsonl"))
}

// joinedSpec is the credential spec of Microsoft's page on gMSAs for containers, for a host
// of the domain.
const joinedSpec = `{
    "CmsPlugins": ["ActiveDirectory"],
    "DomainJoinConfig": {
        "Sid": "S-1-5-21-702590844-1001920913-2680819671",
        "MachineAccountName": "WebApp01",
        "Guid": "56d9b66c-d746-4f87-bd26-26760cfdca2e",
        "DnsTreeName": "contoso.com",
        "DnsName": "contoso.com",
        "NetBiosName": "CONTOSO"
    },
    "ActiveDirectoryConfig": {
        "GroupManagedServiceAccounts": [
            {"Name": "WebApp01", "Scope": "contoso.com"},
            {"Name": "WebApp01", "Scope": "CONTOSO"}
        ]
    }
}
`

// exampleSpec is the complete credential spec of Microsoft's troubleshooting guide,
// sample plug-in GUID included, which is not a GUID.
const exampleSpec = `{
    "CmsPlugins": [
    "ActiveDirectory"
    ],
    "DomainJoinConfig": {
        "Sid": "S-1-5-21-702590844-1001920913-2680819671",
        "MachineAccountName": "webapp01",
        "Guid": "56d9b66c-d746-4f87-bd26-26760cfdca2e",
        "DnsTreeName": "contoso.com",
        "DnsName": "contoso.com",
        "NetBiosName": "CONTOSO"
    },
    "ActiveDirectoryConfig": {
        "GroupManagedServiceAccounts": [
            {
                "Name": "webapp01",
                "Scope": "contoso.com"
            },
            {
                "Name": "webapp01",
                "Scope": "CONTOSO"
            }
        ],
        "HostAccountConfig": {
            "PortableCcgVersion": "1",
            "PluginGUID": "{GDMA0342-266A-4D1P-831J-20990E82944F}",
            "PluginInput": "contoso.com:gmsaccg:<password>"
        }
    }
}
`
