package agent

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/deliver/cdi"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// engine is a podman whose devices are what a guard publishes.
type engine struct {
	*lab.Podman
	image string
}

// podmanGuard is a guard that publishes webapp01 to podman, with keys, as
// /etc/cdi has it.
func podmanGuard(t *testing.T, annotations bool) (*guard, engine) {
	t.Helper()
	return guardOf(t, lab.NewPodman(t), policy.ContainerRule{
		CredentialSpecs: []string{"webapp01"}, Runtimes: []string{policy.Podman}, Keytab: true, Annotations: annotations,
	})
}

// guardOf is a guard with this rule, for that podman.
func guardOf(t *testing.T, of *lab.Podman, rule policy.ContainerRule) (*guard, engine) {
	t.Helper()
	p := engine{Podman: of}
	g := newGuard(t, func(c *config.Config) { c.Containers.Rules = []policy.ContainerRule{rule} })
	g.cfg.Load = func() (config.Config, error) { return g.cfg.Config, nil }
	file := cdi.File{Hook: lab.BuildHook(t), Socket: g.cfg.Config.Containers.HookSocket}
	file.Directory = lab.CDIDirectory(t, filepath.Base(file.Path()))
	g.cfg.Publish = func(devices []Device) error {
		var list []cdi.Device
		for _, d := range devices {
			list = append(list, cdi.Device(d))
		}
		return file.Write(list)
	}
	g.writeSpec(t, "webapp01", "webapp01", "webapp02")
	g.writeSpec(t, "secret", "secret01")
	g.start(t)
	p.image = p.Image(lab.Container{Programs: []string{"sh", "cat", "klist", "stat", "ls", "sleep", "env"}})
	eventually(t, func() error {
		_, err := os.Stat(file.Path())
		return err
	})
	return g, p
}

func (e engine) run(args ...string) (string, error) {
	return e.Run(append([]string{"run", "--rm", "--network", "host"}, args...)...)
}

// One flag, and a container of podman is the gMSA, whoever its program runs as.
func TestPodmanGivesADevicesIdentity(t *testing.T) {
	g, p := podmanGuard(t, false)
	const script = "klist && KRB5CCNAME= KRB5_CONFIG= env -i /usr/bin/klist && stat -c 'owner %u:%g %a' -L /run/gmsa/ccache && ls /run/gmsa"
	for name, c := range map[string]struct {
		args  []string
		owner string
		more  string
	}{
		"root":                 {nil, "0:0 400", "ccache"},
		"uid 1000, read-only":  {[]string{"--user", "1000:1000", "--read-only", "--cap-drop", "all"}, "1000:1000 400", "ccache"},
		"read-only throughout": {[]string{"--user", "1000:1000", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"}, "1000:1000 400", "ccache"},
		"keys":                 {[]string{"--user", "1000:1000"}, "1000:1000 400", "client.keytab"},
		"a user namespace":     {[]string{"--user", "1000:1000", "--uidmap", "0:200000:65536", "--gidmap", "0:200000:65536"}, "1000:1000 400", "ccache"},
	} {
		t.Run(name, func(t *testing.T) {
			device := "gmsa.dev/credentialspec=webapp01"
			if name == "keys" {
				device += ":keytab"
			}
			out, err := p.run(append(c.args, "--device", device, p.image, "sh", "-c", script)...)
			if err != nil || strings.Count(out, "Default principal: webapp01$@CONTOSO.COM") != 2 || !strings.Contains(out, "owner "+c.owner) || !strings.Contains(out, c.more) {
				t.Errorf("%v\n%s", err, out)
			}
			g.empty(t)
		})
	}
}

// An annotation names the spec where the hooks directory and a rule say so, and
// nowhere else.
func TestPodmanByAnnotation(t *testing.T) {
	g, p := podmanGuard(t, true)
	dir, hook := t.TempDir(), lab.BuildHook(t)
	for _, stage := range []string{"createRuntime", "poststop"} {
		text := fmt.Sprintf(`{"version": "1.0.0", "stages": [%[1]q], "when": {"annotations": {"^dev\\.gmsa\\.credentialspec$": ".*"}},
"hook": {"path": %[2]q, "args": ["gmsa-hook", %[1]q, "--socket", %[3]q], "env": ["GOTRACEBACK=none"], "timeout": 10}}`,
			stage, hook, g.cfg.Config.Containers.HookSocket)
		if err := os.WriteFile(filepath.Join(dir, stage+".json"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	run := func(annotation string) (string, error) {
		return p.Run("--hooks-dir", dir, "run", "--rm", "--network", "host", "--user", "1000", "--annotation", annotation, p.image, "klist")
	}
	if out, err := run("dev.gmsa.credentialspec=webapp01"); err != nil || !strings.Contains(out, "Default principal: webapp01$@CONTOSO.COM") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := run("dev.gmsa.credentialspec=secret"); err == nil || !strings.Contains(out, "is not published") {
		t.Errorf("a forged annotation: %v\n%s", err, out)
	}
	if out, err := run("dev.gmsa.credentialspec="); err == nil || !strings.Contains(out, "names no credential spec") {
		t.Errorf("an empty annotation: %v\n%s", err, out)
	}
	g.empty(t)
}

// security 2, 3: no device, no spec that is not published, no forged annotation; and
// no start without the agent.
func TestPodmanStartsNothingWithoutItsIdentity(t *testing.T) {
	g, p := podmanGuard(t, false)
	refused := func(name, want string, args ...string) {
		t.Helper()
		out, err := p.run(append(args, p.image, "klist")...)
		if err == nil || !strings.Contains(out, want) || strings.Contains(out, "Default principal") {
			t.Errorf("%s: %v, want %q in:\n%s", name, err, want, out)
		}
	}
	refused("a spec that is not published", "unresolvable CDI devices", "--device", "gmsa.dev/credentialspec=secret")
	refused("a spec that is not there", "unresolvable CDI devices", "--device", "gmsa.dev/credentialspec=nothing")
	refused("a volume over the target", "something is mounted there", "--device", "gmsa.dev/credentialspec=webapp01", "-v", t.TempDir()+":/run/gmsa")
	refused("two identities", "something is mounted there", "--device", "gmsa.dev/credentialspec=webapp01", "--device", "gmsa.dev/credentialspec=webapp01:keytab")
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	refused("an agent that is down", "no agent answers", "--device", "gmsa.dev/credentialspec=webapp01")
	g.empty(t)
}

// What changes shows in a running container, exec sees the identity without any
// variable, and nothing remains.
func TestARunningContainerOfPodman(t *testing.T) {
	g, p := podmanGuard(t, false)
	out, err := p.Run("run", "--detach", "--network", "host", "--user", "1000", "--read-only", "--device", "gmsa.dev/credentialspec=webapp01", p.image, "sleep", "600")
	if err != nil {
		t.Fatal(err)
	}
	id := strings.TrimSpace(out)
	if out, err := p.Run("exec", id, "env", "-i", "/usr/bin/klist"); err != nil || !strings.Contains(out, "Default principal: webapp01$@CONTOSO.COM") {
		t.Errorf("exec: %v\n%s", err, out)
	}
	g.writeSpec(t, "webapp01", "webapp01", "webapp03")
	eventually(t, func() error {
		out, err := p.Run("exec", id, "ls", "/run/gmsa/accounts")
		if err == nil && !strings.Contains(out, "webapp03") {
			err = fmt.Errorf("accounts in the container:\n%s", out)
		}
		return err
	})
	if out, err := p.Run("restart", "--time", "0", id); err != nil {
		t.Errorf("restart: %v\n%s", err, out)
	}
	if out, err := p.Run("exec", id, "klist"); err != nil || !strings.Contains(out, "Default principal: webapp01$@CONTOSO.COM") {
		t.Errorf("exec after a restart: %v\n%s", err, out)
	}
	if n := len(g.leases(t)); n != 1 {
		t.Errorf("%d leases, want 1", n)
	}
	if err := p.Remove(id); err != nil {
		t.Error(err)
	}
	g.empty(t)
}
