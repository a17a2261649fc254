// Package packaging_test installs the packages where nothing of them has been, uses what
// is in them as the manual says, and removes them again.
package packaging_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// build makes the packages of a version for this machine, and gives the directory.
func build(t *testing.T, version string) string {
	t.Helper()
	lab.Need(t, "go", "git")
	out := t.TempDir()
	cmd := exec.Command("./scripts/package.sh", runtime.GOOS+"/"+runtime.GOARCH)
	cmd.Dir = ".."
	cmd.Env = append(os.Environ(), "VERSION="+version, "OUT="+out)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("package.sh: %v\n%s", err, b)
	}
	return out
}

// machine is a booted Debian 13.
type machine struct {
	*lab.Machine

	t *testing.T
}

// put copies the one file of this machine that a pattern matches into the booted one.
func (m machine) put(pattern, path string) string {
	m.t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		m.t.Fatalf("%s: %v %v", pattern, found, err)
	}
	b, err := os.ReadFile(found[0])
	if err != nil {
		m.t.Fatal(err)
	}
	m.WriteFile(path, b, 0o644)
	return path
}

// want runs a program and looks for texts in what it prints.
func (m machine) want(texts []string, name string, args ...string) {
	m.t.Helper()
	out := m.Run(name, args...)
	for _, text := range texts {
		if !strings.Contains(out, text) {
			m.t.Errorf("%s %s does not say %q:\n%s", name, strings.Join(args, " "), text, out)
		}
	}
}

// administrate runs gmsa as the domain's administrator.
func (m machine) administrate(dc string, args ...string) {
	m.t.Helper()
	m.Run("/usr/bin/gmsa", append(args, "--dc", dc, "--domain", "contoso.com", "-U", "Administrator", "--password-file", "/root/admin.password")...)
}

// makeDomain makes a domain and runs its controller, as docs/install.md says.
func (m machine) makeDomain(dc string) {
	m.t.Helper()
	m.WriteFile("/root/admin.password", []byte("Packages-2026!"), 0o600)
	m.Run("sh", "-c", "runuser -u gmsa-dc -- gmsa dc init --domain contoso.com --admin-password-file - </root/admin.password")
	m.WriteFile("/etc/gmsa/dc.env", []byte("GMSA_DC_OPTIONS=--listen "+dc+"\n"), 0o644)
	m.Run("systemctl", "enable", "--now", "gmsa-dc.service")
	m.want([]string{"contoso.com"}, "runuser", "-u", "gmsa-dc", "--", "gmsa", "dc", "status")
}

// joinHost gives the machine an account of the domain, a gMSA and its credential spec,
// and starts the agent.
func (m machine) joinHost(dc string) {
	m.t.Helper()
	m.administrate(dc, "computer", "join", "web1", "--out", "/etc/krb5.keytab")
	m.administrate(dc, "account", "create", "WebApp01", "--dns", "webapp01.contoso.com", "--hosts", "web1$")
	m.administrate(dc, "credspec", "create", "WebApp01", "--out", "/etc/gmsa/credentialspecs/contoso_webapp01.json")
	m.WriteFile("/etc/gmsa/agent.yaml", fmt.Appendf(nil, `
domains:
  contoso.com:
    servers: ["%s"]
    host: {keytab: /etc/krb5.keytab}
containers:
  rules:
    - {name: web, credential_specs: [contoso_webapp01], runtimes: [podman]}
`, dc), 0o644)
	m.Run("systemctl", "enable", "--now", "gmsa-agent.service")
}

// removed checks what is left after the package: the domain, and what somebody
// configured, are nobody's but theirs.
func (m machine) removed() {
	m.t.Helper()
	if out := m.Run("sh", "-c", "readlink /proc/[0-9]*/exe | grep gmsa; true"); out != "" {
		m.t.Errorf("still running: %s", out)
	}
	m.Run("test", "-s", "/var/lib/gmsa/dc/store.db")
	m.Run("test", "-s", "/etc/gmsa/agent.yaml")
	for path := range strings.FieldsSeq(m.Run("find", "/etc", "/usr", "/var/lib", "/run", "-xdev", "-name", "*gmsa*")) {
		ours := path == "/etc/gmsa" || path == "/var/lib/gmsa"
		others := strings.HasPrefix(path, "/var/lib/dpkg/") || strings.HasPrefix(path, "/var/lib/systemd/") || strings.HasPrefix(path, "/run/systemd/")
		if !ours && !others {
			m.t.Errorf("left behind: %s", path)
		}
	}
}

func TestDebianPackage(t *testing.T) {
	t.Parallel()
	lab.Need(t, "root")
	m := machine{lab.SystemdTrixie(t), t}
	first, next := build(t, "v0.8.0"), build(t, "v0.9.0")
	dc := lab.Address(t).String()

	t.Log(m.Run("dpkg", "--install", m.put(first+"/*.deb", "/root/first.deb")))
	m.want([]string{"0.8.0"}, "dpkg-query", "--show", "gmsa")
	for _, unit := range []string{"gmsa-agent.service", "gmsa-dc.service"} {
		if out, err := m.TryRun("systemctl", "is-enabled", unit); err == nil {
			t.Errorf("%s is %s before anybody asked for it", unit, out)
		}
		m.Run("systemd-analyze", "verify", "--man=no", unit)
	}
	m.Run("gzip", "--test", "/usr/share/man/man1/gmsa-account-create.1.gz", "/usr/share/man/man1/gmsa-agent.1.gz", "/usr/share/man/man1/gmsa-dc.1.gz")
	m.Run("bash", "-n", "/usr/share/bash-completion/completions/gmsa")

	// A threshold is in tenths; 2 and less are "OK" in the tool's words.
	m.Run("systemd-analyze", "security", "--no-pager", "--threshold=20", "gmsa-dc.service")

	m.makeDomain(dc)
	m.joinHost(dc)
	m.want([]string{"WebApp01$"}, "gmsa", "run", "--account", "WebApp01", "--", "gmsa", "klist")
	quadlet(m)

	// An upgrade restarts what runs, and leases outlive it.
	m.Run("systemd-run", "--unit=holder", "gmsa", "run", "--account", "WebApp01", "--", "sleep", "600")
	leases := func() string { return m.Run("sh", "-c", "ls -1d /run/gmsa/leases/*/ 2>/dev/null; true") }
	lab.Eventually(t, 10*time.Second, func() error {
		if leases() == "" {
			return fmt.Errorf("no lease yet")
		}
		return nil
	})
	held, pid := leases(), m.Run("systemctl", "show", "--property=MainPID", "gmsa-agent.service")
	m.Run("dpkg", "--install", m.put(next+"/*.deb", "/root/next.deb"))
	m.Run("systemctl", "is-active", "gmsa-agent.service", "gmsa-dc.service", "holder.service")
	if now := m.Run("systemctl", "show", "--property=MainPID", "gmsa-agent.service"); now == pid {
		t.Errorf("the agent of the version before still runs: %s", now)
	}
	if now := leases(); now != held {
		t.Errorf("the lease before the upgrade: %s\nafter it: %s", held, now)
	}
	m.Run("systemctl", "stop", "holder.service")

	m.Run("dpkg", "--remove", "gmsa")
	m.removed()
	m.Run("dpkg", "--purge", "gmsa")
	m.Run("test", "-s", "/etc/gmsa/agent.yaml", "-a", "-s", "/var/lib/gmsa/dc/store.db")
}

// quadlet runs the manual's container unit, from an image of the programs alone.
func quadlet(m machine) {
	m.t.Helper()
	m.put("Containerfile", "/root/image/Containerfile")
	m.Run("sh", "-c", "cp /usr/bin/gmsa /usr/libexec/gmsa/gmsa-hook /root/image && podman build --quiet --tag gmsa /root/image")
	m.want([]string{"gmsa "}, "podman", "run", "--rm", "--network=none", "gmsa", "version")

	m.WriteFile("/etc/containers/systemd/web.container", []byte(`[Unit]
Wants=gmsa-agent.service
After=gmsa-agent.service

[Container]
Image=localhost/gmsa
Exec=verify contoso.com
Network=host
User=1000
ReadOnly=true
DropCapability=all
AddDevice=gmsa.dev/credentialspec=contoso_webapp01

[Service]
Type=oneshot
`), 0o644)
	m.Run("systemctl", "daemon-reload")
	if _, err := m.TryRun("systemctl", "start", "web.service"); err != nil {
		m.t.Errorf("%v\n%s", err, m.Run("journalctl", "--no-pager", "--unit=web", "--unit=gmsa-agent"))
	}
	m.want([]string{"Trust Verification Status = 0 0x0 NERR_Success"}, "journalctl", "--no-pager", "--output=cat", "--unit=web")

	// Without the agent it does not start.
	m.Run("systemctl", "stop", "gmsa-agent.service")
	m.WriteFile("/etc/containers/systemd/web.container.d/alone.conf", []byte("[Unit]\nWants=\n"), 0o644)
	m.Run("systemctl", "daemon-reload")
	if out, err := m.TryRun("podman", "run", "--rm", "--network=host", "--device", "gmsa.dev/credentialspec=contoso_webapp01", "gmsa", "version"); err == nil {
		m.t.Errorf("without an agent a container has started: %s", out)
	}
	m.Run("systemctl", "start", "gmsa-agent.service")
}

func TestRedHatPackage(t *testing.T) {
	t.Parallel()
	lab.Need(t, "root")
	m := machine{lab.SystemdTrixie(t), t}
	dc := lab.Address(t).String()

	// rpm's database knows nothing of what dpkg has installed.
	m.Run("rpm", "--install", "--nodeps", m.put(build(t, "v0.9.0")+"/*.rpm", "/root/gmsa.rpm"))
	m.want([]string{"gmsa-0.9.0"}, "rpm", "--query", "gmsa")
	m.Run("rpm", "--verify", "--nodeps", "gmsa")
	m.makeDomain(dc)
	m.joinHost(dc)
	m.want([]string{"WebApp01$"}, "gmsa", "run", "--account", "WebApp01", "--", "gmsa", "klist")

	m.Run("rpm", "--erase", "gmsa")
	m.removed()
}
