package systemd_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// machine is a booted systemd with the agent installed in it as a package would,
// joined to a domain.
type machine struct {
	*lab.Machine

	t testing.TB
}

func newMachine(t *testing.T) machine {
	t.Helper()
	lab.Need(t, "kvno", "systemd-nspawn", "root")
	dc := lab.Samba(t, lab.SambaConfig{})
	m := machine{lab.Systemd(t), t}
	program := filepath.Join(t.TempDir(), "gmsa")
	build := exec.Command("go", "build", "-o", program, "github.com/opengmsa/opengmsa/cmd/gmsa")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for path, from := range map[string]string{
		"/usr/bin/gmsa": program,
		"/usr/lib/systemd/system/gmsa-agent.service": "../../../packaging/systemd/gmsa-agent.service",
		"/etc/krb5.keytab":                           dc.Keytab(t, "web1"),
	} {
		b, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		switch filepath.Base(path) {
		case "gmsa":
			mode = 0o755
		case "krb5.keytab":
			mode = 0o600
		}
		m.WriteFile(path, b, mode)
	}
	m.WriteFile("/etc/gmsa/agent.yaml", fmt.Appendf(nil, `
domains:
  contoso.com:
    servers: [%s]
    host: {keytab: /etc/krb5.keytab, rotate_password: never}
`, dc.IP), 0o644)
	m.Run("systemctl", "daemon-reload")
	if _, err := m.TryRun("systemctl", "start", "gmsa-agent.service"); err != nil {
		t.Fatalf("%v\n%s", err, m.journal("gmsa-agent.service"))
	}
	return m
}

func (m machine) journal(unit string) string {
	out, _ := m.TryRun("journalctl", "--no-pager", "--output=cat", "--unit", unit)
	return out
}

// unit writes a service or a timer.
func (m machine) unit(name, text string) {
	m.t.Helper()
	m.WriteFile("/etc/systemd/system/"+name, []byte(text), 0o644)
	m.Run("systemctl", "daemon-reload")
}

// leases are the directories of the leases that are alive.
func (m machine) leases() []string {
	m.t.Helper()
	out := m.Run("/usr/bin/gmsa", "lease", "list", "-o", "json")
	return slices.DeleteFunc(strings.Split(out, "\n"), func(l string) bool { return !strings.Contains(l, `"directory"`) })
}

func (m machine) eventually(what string, ok func() bool) {
	m.t.Helper()
	lab.Eventually(m.t, 20*time.Second, func() error {
		if !ok() {
			return fmt.Errorf("not yet: %s", what)
		}
		return nil
	})
}

// aService is sandboxed as distributions do it, and leaves a note of who it is to
// the domain.
const aService = `[Service]
User=www-data
PrivateTmp=yes
ProtectSystem=strict
ProtectHome=yes
StateDirectory=%[1]s
Restart=on-failure
RestartSec=100ms
ExecStart=/bin/sh -c 'kvno ldap/dc1.contoso.com >/var/lib/%[1]s/note 2>&1 && klist >>/var/lib/%[1]s/note; exec sleep infinity'
`

func TestAServiceGetsItsAccountAndLosesIt(t *testing.T) {
	m := newMachine(t)
	m.unit("web.service", fmt.Sprintf(aService, "web"))
	before := m.files()

	t.Log(m.Run("/usr/bin/gmsa", "account", "install", "WebApp01$", "--service", "web"))
	m.Run("systemctl", "start", "web.service")
	note := func() string {
		b, err := os.ReadFile(m.Path("/var/lib/web/note"))
		if err != nil {
			return err.Error()
		}
		return string(b)
	}
	m.eventually("the service is webapp01$", func() bool {
		return strings.Contains(note(), "kvno = ") && strings.Contains(note(), "Default principal: webapp01$@CONTOSO.COM")
	})
	if got := m.Run("stat", "-L", "-c", "%U %a", "/run/gmsa/units/web.service/ccache"); strings.TrimSpace(got) != "www-data 400" {
		t.Errorf("the ccache belongs to %s", got)
	}

	// The lease survives restarts of the service, its crash, and the agent's.
	link := m.Run("readlink", "/run/gmsa/units/web.service")
	for _, what := range [][]string{
		{"systemctl", "restart", "web.service"},
		{"systemctl", "kill", "--kill-who=main", "--signal=KILL", "web.service"},
		{"systemctl", "restart", "gmsa-agent.service"},
		{"systemctl", "kill", "--kill-who=main", "--signal=KILL", "gmsa-agent.service"},
	} {
		m.Run(what[0], what[1:]...)
		m.eventually(strings.Join(what, " "), func() bool {
			_, active := m.TryRun("systemctl", "is-active", "--quiet", "web.service", "gmsa-agent.service")
			_, answers := m.TryRun("/usr/bin/gmsa", "agent", "status", "--summary")
			return active == nil && answers == nil
		})
		if got := m.Run("readlink", "/run/gmsa/units/web.service"); got != link {
			t.Errorf("after %q the service has another lease", what)
		}
	}
	m.Run("setpriv", "--reuid=www-data", "--clear-groups", "env",
		"KRB5CCNAME=FILE:/run/gmsa/units/web.service/ccache", "KRB5_CONFIG=/run/gmsa/units/web.service/krb5.conf", "kvno", "ldap/dc1.contoso.com")

	// What others may not do: read it, or take it away.
	if out, err := m.TryRun("setpriv", "--reuid=nobody", "--clear-groups", "cat", "/run/gmsa/units/web.service/ccache"); err == nil {
		t.Errorf("nobody reads the ccache: %d bytes", len(out))
	}
	if out, err := m.TryRun("setpriv", "--reuid=nobody", "--clear-groups", "/usr/bin/gmsa", "lease", "create", "--account", "webapp01", "--pid", "1"); err == nil {
		t.Errorf("nobody got a lease: %s", out)
	}

	m.Run("systemctl", "stop", "web.service")
	m.eventually("the lease ends with the service", func() bool { return len(m.leases()) == 0 })
	m.Run("systemctl", "start", "web.service")

	t.Log(m.Run("/usr/bin/gmsa", "account", "uninstall", "webapp01"))
	m.Run("systemctl", "restart", "web.service")
	m.eventually("the lease ends with the installation", func() bool { return len(m.leases()) == 0 })
	if after := m.files(); !slices.Equal(before, after) {
		t.Errorf("traces: before %q, after %q", before, after)
	}
	if status := m.Run("/usr/bin/gmsa", "agent", "status", "-o", "json"); strings.Contains(strings.ToLower(status), "webapp01") {
		t.Errorf("the agent still knows the account:\n%s", status)
	}
	if out, err := m.TryRun("/usr/bin/gmsa", "account", "uninstall", "webapp01"); err == nil {
		t.Errorf("a second uninstall went well: %s", out)
	}
}

// files is what lies where an installation writes.
func (m machine) files() []string {
	out := m.Run("find", "/etc/systemd/system", "/run/gmsa/units", "/run/gmsa/leases", "-mindepth", "1",
		"-not", "-name", "journal", "-not", "-name", "lock")
	files := strings.Fields(out)
	slices.Sort(files)
	return files
}

func TestAScheduledJob(t *testing.T) {
	m := newMachine(t)
	m.unit("report.service", "[Service]\nType=oneshot\nUser=games\nStateDirectory=report\n"+
		"ExecStart=/bin/sh -c 'kvno ldap/dc1.contoso.com >>/var/lib/report/note 2>&1'\n")
	m.unit("report.timer", "[Timer]\nOnActiveSec=1s\nOnUnitActiveSec=1s\nAccuracySec=100ms\n")
	m.Run("/usr/bin/gmsa", "account", "install", "webapp01", "--service", "report.service")
	m.Run("systemctl", "start", "report.timer")
	m.eventually("the job ran twice", func() bool {
		b, _ := os.ReadFile(m.Path("/var/lib/report/note"))
		return strings.Count(string(b), "kvno = ") >= 2
	})
	m.Run("systemctl", "stop", "report.timer")
	m.eventually("no lease outlives the job", func() bool { return len(m.leases()) == 0 })
}

func TestADynamicUser(t *testing.T) {
	m := newMachine(t)
	m.unit("dyn.service", "[Service]\nDynamicUser=yes\nStateDirectory=dyn\n"+
		"ExecStart=/bin/sh -c 'kvno ldap/dc1.contoso.com >/var/lib/dyn/note 2>&1; exec sleep infinity'\n")
	out, err := m.TryRun("/usr/bin/gmsa", "account", "install", "webapp01", "--service", "dyn")
	if err == nil || !strings.Contains(out, "--group") {
		t.Errorf("without a group: %v\n%s", err, out)
	}
	m.Run("groupadd", "--system", "webapp")
	m.Run("/usr/bin/gmsa", "account", "install", "webapp01", "--service", "dyn", "--group", "webapp")
	m.Run("systemctl", "start", "dyn.service")
	m.eventually("the service reaches the domain", func() bool {
		b, _ := os.ReadFile(m.Path("/var/lib/private/dyn/note"))
		return strings.Contains(string(b), "kvno = ")
	})
}

// A service does not start without its identity, and says why.
func TestAServiceWithoutItsAccountDoesNotStart(t *testing.T) {
	m := newMachine(t)
	m.unit("web.service", fmt.Sprintf(aService, "web"))
	m.Run("/usr/bin/gmsa", "account", "install", "webapp01", "--service", "web")
	m.Run("systemctl", "stop", "gmsa-agent.service")
	m.Run("systemctl", "mask", "--runtime", "gmsa-agent.service")
	if _, err := m.TryRun("systemctl", "start", "web.service"); err == nil {
		t.Error("it started")
	}
	if log := m.journal("gmsa-lease-web.service"); !strings.Contains(log, "no agent answers") {
		t.Errorf("the reason is not in the journal:\n%s", log)
	}
}
