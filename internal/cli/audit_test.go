package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/doctor/audit"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestAudit injects each fault alone into a domain that has none, and wants its finding
// and no other.
func TestAudit(t *testing.T) { onEach(t, testAudit) }

func testAudit(t *testing.T, dc *lab.DC, own bool) {
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	if !own {
		dc.Delete(t, "aged01$") // the lab's account that is past its interval
	}
	dc.AddUser(t, "alice", "Some-Pass!1")
	dc.AddGroup(t, "Empty", lab.UniversalGroup)
	dc.AddGroup(t, "Persons", lab.UniversalGroup, "alice")
	dc.AddGroup(t, "Outer", lab.UniversalGroup, "Persons")
	a.auditWants(0)
	for name, f := range auditFaults(dc, domainSID(t, dc)) {
		t.Run(name, func(t *testing.T) {
			b := *a
			b.t = t
			f.inject(t)
			b.auditWants(6, f.want...)
			f.undo(t)
		})
	}
	a.auditWants(0)
	if !own {
		readersAsSambaHasThem(t, a, dc)
	}
	testAuditReport(t, a, dc)
}

// readersAsSambaHasThem compares who may read with what Samba's own tool says.
func readersAsSambaHasThem(t *testing.T, a *administrator, dc *lab.DC) {
	var report audit.Report
	a.json(&report, "audit", "--stale", "3650d")
	for _, x := range report.Accounts {
		if x.Name == "smsa01$" {
			continue
		}
		out := dc.SambaTool(t, "service-account", "group-msa-membership", "show", "--name="+strings.TrimSuffix(x.Name, "$"))
		if got := strings.Count(out, "\n  CN="); got != len(x.Readers) {
			t.Errorf("%s: %d readers, and %d in\n%s", x.Name, len(x.Readers), got, out)
		}
		for _, r := range x.Readers {
			contains(t, out, r.DN)
		}
	}
}

// auditWants runs the audit and compares its findings, check and subject.
func (a *administrator) auditWants(code int, want ...string) {
	a.t.Helper()
	r := a.run(code, "audit", "-o", "json", "--stale", "3650d")
	var report audit.Report
	if err := json.Unmarshal([]byte(r.stdout), &report); err != nil {
		a.t.Fatalf("%v in %s", err, r.stdout)
	}
	var got []string
	for _, f := range report.Findings {
		if f.Severity == doctor.Info {
			continue
		}
		got = append(got, f.Check+" "+f.Subject)
		if len(f.Remedies) == 0 {
			a.t.Errorf("%s has no remedy", f.Check)
		}
	}
	slices.Sort(want)
	if slices.Sort(got); !slices.Equal(got, want) {
		a.t.Errorf("findings %q, want %q\n%s", got, want, r.stdout)
	}
}

// auditFault is what is done to the domain, how that is undone, and what is found.
type auditFault struct {
	inject, undo func(t *testing.T)
	want         []string
}

func auditFaults(dc *lab.DC, sid string) map[string]auditFault {
	reader := func(who, finding string) auditFault {
		verb := func(name string) func(t *testing.T) {
			return func(t *testing.T) {
				newAdministrator(t, dc.IP.String(), lab.AdminPassword).run(0, "account", "hosts", name, "webapp01", who)
			}
		}
		return auditFault{verb("add"), verb("remove"), []string{finding + " webapp01$"}}
	}
	attribute := func(account, attr, wrong, right string, want ...string) auditFault {
		set := func(value string) func(t *testing.T) {
			return func(t *testing.T) { dc.Replace(t, account, attr, value) }
		}
		return auditFault{set(wrong), set(right), want}
	}
	member := func(group, account string, want ...string) auditFault {
		return auditFault{
			func(t *testing.T) { dc.AddMembers(t, group, account) },
			func(t *testing.T) { dc.RemoveMembers(t, group, account) }, want,
		}
	}
	faults := map[string]auditFault{
		"everybody reads":                   reader("S-1-1-0", "read-everyone"),
		"everybody who logs on reads":       reader("S-1-5-11", "read-everyone"),
		"every computer reads":              reader(sid+"-515", "read-everyone"),
		"a SID that nobody has reads":       reader(sid+"-987654", "read-unknown"),
		"a SID of another domain reads":     reader("S-1-5-21-11-22-33-1104", "read-foreign"),
		"a user reads":                      reader("alice", "read-user"),
		"a user reads by nested groups":     reader("Outer", "read-user"),
		"a user comes into the hosts":       member("WebHosts", "alice", "read-user webapp01$", "read-user webapp02$"),
		"no AES":                            attribute("webapp02$", "msDS-SupportedEncryptionTypes", "4", "28", "rc4-only webapp02$"),
		"a disabled host":                   attribute("web2$", "userAccountControl", "4098", "4096", "stale-host web2$"),
		"unconstrained delegation":          attribute("webapp02$", "userAccountControl", "528384", "4096", "unconstrained-delegation webapp02$"),
		"a gMSA is an administrator":        member("Domain Admins", "webapp01$", "privileged webapp01$"),
		"an sMSA is an operator of backups": member("Backup Operators", "smsa01$", "privileged smsa01$"),
		"a group with nobody in it reads": {
			func(t *testing.T) { dc.SetReaders(t, "webapp02", "Empty") },
			func(t *testing.T) { dc.SetReaders(t, "webapp02", "WebHosts") }, []string{"unread webapp02$"},
		},
		"nobody reads": {
			func(t *testing.T) { dc.SetReaders(t, "webapp02") },
			func(t *testing.T) { dc.SetReaders(t, "webapp02", "WebHosts") }, []string{"unread webapp02$"},
		},
	}
	for right, name := range map[string]string{"WD": "the list of permissions", "WO": "the owner", "RPWPCRCCDCLCLORCWOWDSDDTSW": "everything"} {
		faults["a user may change "+name] = permission(dc, "(A;;"+right+";;;"+sid+"-513)", "write-access webapp01$")
	}
	faults["a user may write the readers"] = permission(dc, "(OA;;WP;888eedd6-ce04-df40-b462-b8a50e41ba38;;AU)", "write-access webapp01$")
	return faults
}

// permission adds an entry to the permissions of webapp01, as SDDL.
func permission(dc *lab.DC, entry string, want ...string) auditFault {
	var before string
	return auditFault{func(t *testing.T) {
		before = dc.Attr(t, "webapp01$", "nTSecurityDescriptor")
		head, sacl, _ := strings.Cut(before, "S:")
		dc.Replace(t, "webapp01$", "nTSecurityDescriptor", head+entry+sacl[len(sacl):])
	}, func(t *testing.T) { dc.Replace(t, "webapp01$", "nTSecurityDescriptor", before) }, want}
}

// testAuditReport looks at the text and at the page, on which nothing that a name says
// has a meaning.
func testAuditReport(t *testing.T, a *administrator, dc *lab.DC) {
	dc.Modify(t, "dn: CN=\\<script\\>alert(1),CN=Users,"+dc.BaseDN+"\nobjectClass: user\nsAMAccountName: mallory\n")
	a.run(0, "account", "hosts", "add", "webapp02", "mallory")
	file := filepath.Join(t.TempDir(), "audit.html")
	r := a.run(6, "audit", "--html", file, "--stale", "3650d")
	contains(t, r.stdout, "warning  read-user of webapp02$: a person's account may read the password: mallory",
		"do: gmsa account hosts remove webapp02 S-1-5-21-", "WebHosts, web2$", "3 accounts: 0 error, 1 warning")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(b), "webapp01$", "WebHosts", "Content-Security-Policy", "script\\&gt;alert(1)")
	if strings.Contains(strings.ToLower(string(b)), "<script") {
		t.Error("a script in the page")
	}
	contains(t, a.run(2, "audit", "--stale", "3d").stderr, "15d or more")
}
