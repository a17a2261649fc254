package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// A running systemd starts the agent before an engine that has been set up; the containerd
// of Debian 12, which is 1.6, is refused on the way.
func TestSystemdStartsTheAgentFirst(t *testing.T) {
	lab.Need(t, "dockerd", "containerd", "podman")
	m := lab.Systemd(t)
	m.InstallGMSA()
	unit, err := os.ReadFile("../../../packaging/systemd/gmsa-agent.service")
	if err != nil {
		t.Fatal(err)
	}
	m.WriteFile("/usr/lib/systemd/system/gmsa-agent.service", unit, 0o644)
	m.Run("mkdir", "-p", "/var/lib/gmsa")
	// What other tests write to files of this machine meanwhile shows through elsewhere.
	m.Run("mkdir", "-p", "/etc/docker", "/etc/containers")
	files := func() string {
		return fmt.Sprint(m.Files("/etc/docker", "/etc/containers", "/etc/systemd", "/var/lib/gmsa"))
	}
	before := files()
	for engine, service := range map[string]string{Docker: "docker.service", Podman: "podman-restart.service"} {
		m.Run("gmsa", "runtime", "install", engine, "--yes")
		out := m.Run("systemctl", "show", "--property=After,Wants,Requires", service)
		for line := range strings.Lines(out) {
			name, units, _ := strings.Cut(line, "=")
			if has := strings.Contains(units, "gmsa-agent.service"); has == (name == "Requires") {
				t.Errorf("%s of %s: %s", name, service, units)
			}
		}
	}
	out, err := m.TryRun("gmsa", "runtime", "install", "containerd", "--yes")
	if strings.Contains(m.Run("containerd", "--version"), " 1.6.") && (err == nil || !strings.Contains(out, "it does not know enable_cdi")) {
		t.Errorf("containerd 1.6: %v\n%s", err, out)
	}
	for _, engine := range []string{Docker, Podman} {
		m.Run("gmsa", "runtime", "uninstall", engine, "--yes")
	}
	if after := files(); after != before {
		t.Errorf("files that are left: %s; before: %s", after, before)
	}
}

// Podman finds the hooks where install puts them: a container with the annotation does not
// start without an agent, and another one does.
func TestPodmanFindsItsHooks(t *testing.T) {
	lab.Need(t, "users", "podman", "runc", "conmon", "tar")
	n := lab.Netns(t, "host.contoso.com")
	hook, err := os.ReadFile(lab.BuildHook(t))
	if err != nil {
		t.Fatal(err)
	}
	n.WriteFile("/etc/gmsa/libexec/gmsa-hook", hook, 0o755)
	n.WriteFile("/etc/gmsa/agent.yaml", []byte("containers: {hook: /etc/gmsa/libexec/gmsa-hook}\n"), 0o644)
	n.WriteFile("/etc/containers/containers.conf.d/lab.conf", []byte(lab.PodmanConf), 0o644)
	gmsa := lab.Program(t)
	n.Run(gmsa, "runtime", "install", "podman", "--yes")
	n.Run(gmsa, "runtime", "status", "podman")
	bundle := lab.Container{Programs: []string{"sh"}, Args: []string{"sh"}}.Bundle(t)
	run := func(annotation string) (string, error) {
		return n.TryRun("podman", "--storage-driver", "vfs", "run", "--rm", "--network", "none", "--annotation", annotation, "--rootfs", bundle+"/rootfs", "sh", "-c", "echo started")
	}
	if out, err := run("dev.gmsa.credentialspec=webapp01"); err == nil || !strings.Contains(out, "no agent answers on /run/gmsa/hook.sock") || strings.Contains(out, "started") {
		t.Errorf("annotated: %v\n%s", err, out)
	}
	if out, err := run("dev.gmsa.other=webapp01"); err != nil || !strings.Contains(out, "started") {
		t.Errorf("not annotated: %v\n%s", err, out)
	}
	n.Run(gmsa, "runtime", "uninstall", "podman", "--yes")
	if out, err := run("dev.gmsa.credentialspec=webapp01"); err != nil || !strings.Contains(out, "started") {
		t.Errorf("annotated, after uninstall: %v\n%s", err, out)
	}
}
