package doctor_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/cli"
	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// site is a domain with a host in a network of their own: Samba's controller at
// [lab.NetServer], and the host web1 with its files, from which the doctor looks.
type site struct {
	net  *lab.Net
	dc   *lab.DC
	gmsa string
	// dir has the host's files that the doctor looks at: a fault of a file has its own.
	dir string
	// args are the doctor's, where a fault cannot know them beforehand.
	args []string
}

// The files of a host, in its directory.
const (
	keytabFile = "krb5.keytab"
	agentFile  = "agent.yaml"
	caFile     = "ca.pem"
	specFile   = "specs/contoso_webapp01.json"
	storeFile  = "portable"
)

// adminCache has the tickets of the domain's administrator.
const adminCache = "/run/admin.ccache"

func newSite(t *testing.T) *site {
	lab.Need(t, "root", "iptables", "ip", "openssl")
	n := lab.Netns(t, "web1.contoso.com")
	s := &site{net: n, gmsa: lab.Gmsa(t), dc: lab.Samba(t, lab.SambaConfig{Net: n, Clock: true})}
	n.WriteFile("/etc/krb5.conf", []byte("[libdefaults]\ndefault_realm = CONTOSO.COM\ndns_lookup_kdc = true\nrdns = false\n"), 0o644)
	if out, err := n.Try([]string{"KRB5CCNAME=FILE:" + adminCache}, lab.AdminPassword+"\n", "kinit", lab.Administrator); err != nil {
		t.Fatal(out, err)
	}
	s.hostFiles(t, "/run/site")
	return s
}

// hostFiles writes the files of a healthy host into a directory.
func (s *site) hostFiles(t *testing.T, dir string) {
	s.dir = dir
	s.write(keytabFile, read(t, s.dc.Keytab(t, "web1")), 0o600)
	s.write(caFile, read(t, s.dc.CAFile), 0o644)
	s.write(specFile, []byte(goodSpec), 0o644)
	s.write(agentFile, []byte(s.agentYAML()), 0o644)
}

func (s *site) write(name string, content []byte, mode os.FileMode) {
	s.net.WriteFile(s.path(name), content, mode)
}

func (s *site) path(name string) string { return s.dir + "/" + name }

// agentYAML is the configuration of the agent.
func (s *site) agentYAML() string {
	return strings.ReplaceAll(`domains:
  contoso.com:
    ca: DIR/ca.pem
    protection: ldaps
    host:
      keytab: DIR/krb5.keytab
      rotate_password: never
credential_specs: [DIR/specs]
plugins:
  store:
    guid: "{7a1a6b6e-6f0e-4d7c-9d0f-5d9a3c6d2b11}"
    kind: file
    path: DIR/portable
    allow_input: reader
`, "DIR", s.dir)
}

const goodSpec = `{
    "CmsPlugins": ["ActiveDirectory"],
    "DomainJoinConfig": {
        "Sid": "` + lab.DomainSID + `",
        "MachineAccountName": "webapp01",
        "Guid": "` + lab.DomainGUID + `",
        "DnsTreeName": "contoso.com",
        "DnsName": "contoso.com",
        "NetBiosName": "CONTOSO"
    },
    "ActiveDirectoryConfig": {
        "GroupManagedServiceAccounts": [
            {"Name": "webapp01", "Scope": "contoso.com"},
            {"Name": "webapp01", "Scope": "CONTOSO"}
        ]
    }
}
`

// startAgent starts the credential guard of the host.
func (s *site) startAgent(t *testing.T) {
	s.net.Start("/run/agent.log", s.gmsa, "agent", "serve", "--config", s.path(agentFile))
	lab.Eventually(t, 10*time.Second, func() error {
		_, err := s.net.TryRun(s.gmsa, "agent", "status")
		return err
	})
}

// examine runs gmsa doctor on the host.
func (s *site) examine(t *testing.T, args ...string) doctor.Report {
	t.Helper()
	start := time.Now()
	out, _ := s.net.Try(nil, "", s.gmsa, append([]string{"doctor", "-o", "json", "--config", s.path(agentFile)}, args...)...)
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	return parse(t, out)
}

func parse(t *testing.T, out string) doctor.Report {
	t.Helper()
	var r doctor.Report
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&r); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return r
}

// show lists what is not in order.
func show(r doctor.Report) string {
	var b strings.Builder
	for _, x := range r.Results {
		for _, f := range x.Findings {
			if f.Severity == doctor.OK {
				continue
			}
			fmt.Fprintf(&b, "%-8s %s %s: %s (%d ms)\n", f.Severity, x.Check, x.Subject, f.Problem, x.Millis)
			for _, e := range append(f.Evidence, f.Remedies...) {
				fmt.Fprintf(&b, "         %s\n", e)
			}
		}
		if x.Severity == doctor.Skipped {
			fmt.Fprintf(&b, "skipped  %s %s: %s\n", x.Check, x.Subject, x.Reason)
		}
	}
	return b.String()
}

// copies counts the directories of hosts' files.
type copies struct{ n atomic.Int32 }

// of is the site with files of its own.
func (c *copies) of(t *testing.T, s *site) *site {
	own := *s
	own.dir = fmt.Sprintf("/run/site%d", c.n.Add(1))
	s.net.Run("cp", "-a", s.dir, own.dir)
	own.write(agentFile, []byte(own.agentYAML()), 0o644)
	return &own
}

// TestFaultsOfTheNetwork and TestFaultsOfTheDomain run side by side, each with a site of
// its own: the first mostly waits for what does not come.
func TestFaultsOfTheNetwork(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.startAgent(t)
	healthy(t, s)
	for name, f := range networkFaults {
		t.Run(name, func(t *testing.T) { f.test(t, s) })
	}
	t.Run("healthy a lease", func(t *testing.T) {
		own := *s
		leased("sleep 60", inEnvironment)(t, &own)
		wantHealthy(t, own.examine(t, own.args...))
	})
	t.Run("healthy in a container", func(t *testing.T) {
		own := *s
		leased("sleep 60", inEnvironment)(t, &own)
		out, err := s.net.Try([]string{inEnvironment}, "", "unshare", "--mount", "sh", "-c", "mount --bind /run/gmsa/leases/"+own.args[1]+" /run/gmsa && exec "+
			s.gmsa+" doctor -o json --config /none --ca "+s.path(caFile)+" webapp01")
		r := parse(t, out)
		if wantHealthy(t, r); r.Seen != doctor.SeenContainer || err != nil {
			t.Errorf("seen from %s, %v", r.Seen, err)
		}
	})
	for name, f := range leaseFaults {
		t.Run(name, func(t *testing.T) { f.test(t, s) })
	}
	t.Run("a bundle has no secret", func(t *testing.T) { testBundle(t, s) })
	t.Run("many hosts by ssh", func(t *testing.T) { testHosts(t, s) })
}

func TestFaultsOfTheDomain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	portableAccounts(t, s)
	s.startAgent(t)
	var c copies
	t.Run("healthy without a keytab", func(t *testing.T) {
		own := c.of(t, s)
		portable(none)(t, own)
		wantHealthy(t, own.examine(t, asHost...))
	})
	t.Run("files", func(t *testing.T) {
		for _, group := range []map[string]fault{hostFaults, specFaults, portableFaults, windowsFaults} {
			for name, f := range group {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					f.test(t, c.of(t, s))
				})
			}
		}
	})
	t.Run("another user in a Dockerfile", func(t *testing.T) {
		const server = "FROM mcr.microsoft.com/windows/servercore/iis:windowsservercore-ltsc2022\n"
		s.write("Dockerfile", []byte(server+`RUN C:\windows\system32\inetsrv\appcmd.exe set AppPool DefaultAppPool -processModel.identityType:NetworkService`+"\n"), 0o644)
		asked := []string{"--file", s.path("Dockerfile"), "webapp01"}
		wantHealthy(t, s.examine(t, asked...))
		s.write("Dockerfile", []byte(server), 0o644)
		fault{asked, nothing, "files", "the application pool runs as ApplicationPoolIdentity"}.test(t, s)
	})
	t.Run("healthy in a group of a group", func(t *testing.T) {
		s.dc.RemoveMembers(t, "WebHosts", "web1$")
		s.dc.AddGroup(t, "Racks", lab.GlobalGroup, "web1$")
		s.dc.AddMembers(t, "WebHosts", "Racks")
		wantHealthy(t, s.examine(t, asAdmin...))
		s.dc.Delete(t, "Racks")
		s.dc.AddMembers(t, "WebHosts", "web1$")
	})
	for name, f := range accountFaults {
		t.Run(name, func(t *testing.T) { f.test(t, s) })
	}
	for name, f := range warnings {
		t.Run(name, func(t *testing.T) { f.judge(t, f.run(t, c.of(t, s)), true) })
	}
	for _, f := range rootKeyFaults {
		t.Run(f.name, func(t *testing.T) { f.test(t, s) })
	}
}

// wantHealthy wants nothing at all to be wrong, and everything to have been asked.
func wantHealthy(t *testing.T, r doctor.Report) {
	t.Helper()
	if !r.Healthy || r.Cause != nil || r.Counts[doctor.Skipped] > 0 {
		t.Errorf("%s", show(r))
	}
}

// healthy wants nothing at all to be wrong, from wherever one asks.
func healthy(t *testing.T, s *site) {
	for name, args := range map[string][]string{
		"as the administrator": asAdmin, "as the host": asHost, "the domain": {"--ccache", adminCache}, "an account by name": {"webapp01"},
		"as a desk": {"--from", "desk", "--ccache", adminCache, "--host-account", "web2", "--ca", s.path(caFile), "webapp01"},
	} {
		t.Run("healthy "+name, func(t *testing.T) {
			r := s.examine(t, args...)
			wantHealthy(t, r)
			t.Logf("%d ms", r.Millis)
		})
	}
}

func (f fault) test(t *testing.T, s *site) { f.judge(t, f.run(t, s), false) }

// run injects the fault and examines the host.
func (f fault) run(t *testing.T, s *site) doctor.Report {
	t.Helper()
	own := *s
	f.inject(t, &own)
	args := asAdmin
	if f.args != nil {
		args = f.args
	}
	if own.args != nil {
		args = own.args
	}
	start := time.Now()
	r := own.examine(t, args...)
	t.Logf("%d ms", time.Since(start).Milliseconds())
	return r
}

// judge wants the fault to be the cause, with a remedy that is a command, and nothing
// else to be an error.
func (f fault) judge(t *testing.T, r doctor.Report, healthy bool) {
	t.Helper()
	if r.Healthy != healthy || r.Cause == nil {
		t.Fatalf("healthy is %v:\n%s", r.Healthy, show(r))
	}
	if r.Cause.Check != f.check || !strings.Contains(r.Cause.Problem, f.problem) {
		t.Errorf("the cause is %s: %q; want %s: %q\n%s", r.Cause.Check, r.Cause.Problem, f.check, f.problem, show(r))
	}
	if len(r.Cause.Remedies) == 0 {
		t.Errorf("no remedy for %q", r.Cause.Problem)
	}
	for _, x := range r.Results {
		for _, finding := range x.Findings {
			for _, m := range finding.Remedies {
				checkRemedy(t, m)
			}
		}
		if x.Severity == doctor.Error && x.Check != f.check {
			t.Errorf("%s is an error too:\n%s", x.Check, show(r))
		}
	}
}

// checkRemedy wants a remedy that is a command of ours to be one, with options that it
// has.
func checkRemedy(t *testing.T, remedy string) {
	t.Helper()
	command, _, _ := strings.Cut(remedy, "  # ")
	words := shellWords(command)
	if words[0] != "gmsa" {
		return
	}
	var out bytes.Buffer
	env := cli.Env{Stdin: strings.NewReader(""), Stdout: &out, Stderr: &out, Now: time.Now}
	if code := cli.Run(t.Context(), append(words[1:], "--help"), env); code != 0 {
		t.Errorf("the remedy %q is no command:\n%s", remedy, out.String())
	}
}

// shellWords splits a command line with single quotes.
func shellWords(s string) (words []string) {
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			words = append(words, part)
		} else {
			words = append(words, strings.Fields(part)...)
		}
	}
	return words
}
