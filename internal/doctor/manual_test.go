package doctor_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/doctor"
)

const manualHead = "# `gmsa doctor`" + `

    gmsa doctor                                   # this host, and all its credential specs
    gmsa doctor WebApp01 --url http://mysite.contoso.com
    gmsa doctor --spec contoso_webapp01
    gmsa doctor --lease ID                        # a workload, from inside its network too
    gmsa doctor WebApp01 --from desk --host-account ContainerHost01 -U alice@contoso.com
    gmsa doctor --bundle /tmp/gmsa.tar.gz         # for whoever is to help
    gmsa doctor --hosts nodes.txt WebApp01        # many hosts by ssh, in one table

It asks the questions below, each as soon as what it rests on is in order, and prints
what is wrong with the evidence and the command that mends it, the root cause first. A
question whose precondition failed is skipped, with the reason. It changes nothing.
Exit code 6 means that something is an error, 0 that nothing is; warnings do not count.

**From where.** A host has an agent's configuration or a keytab; a container has a lease
in /run/gmsa; everything else is an administrator's desk. ` + "`--from`" + ` overrides that. On a
host the passwords are really retrieved and tried, and dropped. The directory is asked
as the host, or with the caller's tickets or ` + "`-U`" + `: root keys are shown to Enterprise Admins
alone.

**For programs.** ` + "`-o json`" + ` prints host, domain, seen, healthy, cause (check, subject,
problem, remedies), counts and results; a result has check, title, subject, severity (ok,
info, skipped, warning, error), findings (severity, problem, evidence, remedies), and
where it was skipped reason and root, the check that must come out well first. Fields are
only ever added.

**The bundle** has the report, agent.yaml and the credential specs without what plug-ins
are asked, a list of the keytab's and cache's entries without keys, the last 500 events,
the agent's status and leases, resolv.conf, hosts, krb5.conf, nsswitch.conf, os-release and
versions. Keys, passwords and inputs that are found on the way are looked for in all of it,
raw, in hexadecimal, base64 and UTF-16, and taken out.

**Many hosts.** ` + "`--hosts FILE`" + ` has one ` + "`[USER@]HOST[:PORT]`" + ` a line. It runs the system's ssh
with host keys checked and without questions, 16 at once, ten seconds to connect. Each
host needs gmsa, and root's rights for the keytab: ` + "`--remote-command \"sudo gmsa\"`" + `.

**Windows.** ` + "`--windows VERSION`" + ` applies Windows' rules for host names, isolation and users to
containers that are to run there (` + "`--hostname`, `--isolation`, `--container-user`" + `).

**The application.** ` + "`--file`" + ` names Dockerfiles, Compose files and manifests, or a directory of
them: what in them would not use the account is judged by the rules of [lint](lint.md).

## The checks

Guide is the document and line of docs/coverage.md that advises it.
`

// manual is docs/doctor.md, made of the registry.
func manual() string {
	var b strings.Builder
	b.WriteString(manualHead)
	scopes := map[doctor.Scope]string{
		doctor.OfDomain: "host, domain", doctor.OfPlace: "network", doctor.OfSpec: "credential spec", doctor.OfAccount: "account", doctor.OfLease: "lease",
	}
	b.WriteString("\n| check | of | question | needs | guide |\n|---|---|---|---|---|\n")
	for _, c := range doctor.Checks() {
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", c.ID, scopes[c.Of], c.Asks, strings.Join(c.Needs, ", "), c.Guide)
	}
	return b.String()
}

// docs/doctor.md is made of the registry; GMSA_UPDATE=1 writes it.
func TestManualIsCurrent(t *testing.T) {
	const path = "../../docs/doctor.md"
	if os.Getenv("GMSA_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(manual()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if string(read(t, path)) != manual() {
		t.Errorf("%s is not what the registry makes: GMSA_UPDATE=1 go test ./internal/doctor -run %s", path, t.Name())
	}
}

func TestChecksAreWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range doctor.Checks() {
		if seen[c.ID] || c.ID == "" || c.Title == "" || !strings.HasSuffix(strings.TrimSuffix(c.Asks, "."), "?") && !strings.Contains(c.Asks, "? ") {
			t.Errorf("%+v", c)
		}
		for _, id := range append(c.Needs, c.After...) {
			if !seen[id] {
				t.Errorf("%s rests on %s, which does not stand before it", c.ID, id)
			}
		}
		seen[c.ID] = true
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
