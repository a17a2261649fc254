package agent

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// dockerGuard is a guard that publishes webapp01 to Docker, and a Docker with the runtime.
func dockerGuard(t *testing.T, edits ...func(map[string]any)) (*guard, *lab.Docker) {
	t.Helper()
	lab.Need(t, "users", "dockerd", "runc", "klist")
	g := newGuard(t, func(c *config.Config) {
		c.Containers.Rules = []policy.ContainerRule{{CredentialSpecs: []string{"webapp01"}, Runtimes: []string{policy.Docker}}}
	})
	g.writeSpec(t, "webapp01", "webapp01")
	g.writeSpec(t, "secret", "secret01")
	g.writeFile(t, "agent.yaml", fmt.Sprintf("containers: {hook: %s, hook_socket: %s}\n", lab.BuildHook(t), g.cfg.Config.Containers.HookSocket))
	g.start(t)
	return g, lab.NewDocker(t, map[string]lab.Runtime{
		"gmsa": {Path: lab.Program(t), Args: []string{"oci-runtime", "--config", filepath.Join(g.base, "agent.yaml"), "runc"}},
	}, edits...)
}

// Docker 20.10 knows neither devices of CDI nor annotations: its containers get their
// identity from a runtime that stands before runc, and do not start without.
func TestDockerByItsRuntime(t *testing.T) {
	g, d := dockerGuard(t)
	image := d.Image(lab.Container{Programs: []string{"sh", "klist", "sleep", "env"}})
	run := func(args ...string) (string, error) {
		return d.Run(append([]string{"run", "--network", "host", "--runtime", "gmsa"}, args...)...)
	}
	spec := func(name string) string { return filepath.Join(g.base, "specs", name+".json") + ":/run/gmsa" }

	for name, args := range map[string][]string{
		"root":     nil,
		"uid 1000": {"--user", "1000", "--read-only", "--cap-drop", "all"},
	} {
		out, err := run(append(args, "--rm", "-v", spec("webapp01"), image, "sh", "-c", "klist && env -i /usr/bin/klist")...)
		if err != nil || strings.Count(out, "Default principal: webapp01$@CONTOSO.COM") != 2 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	g.empty(t)

	for name, c := range map[string]struct {
		want string
		args []string
	}{
		"no credential spec":             {"the container names no credential spec; hint: docker run", nil},
		"one that is not published":      {"is not published to this container", []string{"-v", spec("secret")}},
		"keys where tickets are allowed": {"is not published to this container", []string{"-v", strings.Replace(spec("webapp01"), ":/run/gmsa", ":/run/gmsa/keytab", 1)}},
		"a volume, as an image has them": {"mount at /run/gmsa", []string{"-v", "/run/gmsa"}},
		"a control group of podman's":    {"is not published to this container", []string{"-v", spec("webapp01"), "--cgroup-parent", "/libpod_parent"}},
	} {
		out, err := run(append(c.args, "--rm", image, "klist")...)
		if err == nil || !strings.Contains(out, c.want) || strings.Contains(out, "Default principal") {
			t.Errorf("%s: %v, want %q in:\n%s", name, err, c.want, out)
		}
	}
	g.empty(t)

	out, err := run("--detach", "--user", "1000", "-v", spec("webapp01"), image, "sleep", "600")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	id := strings.TrimSpace(out)
	if out, err := d.Run("exec", id, "env", "-i", "/usr/bin/klist"); err != nil || !strings.Contains(out, "Default principal: webapp01$@CONTOSO.COM") {
		t.Errorf("exec: %v\n%s", err, out)
	}
	if out, err := d.Run("restart", "--time", "0", id); err != nil {
		t.Errorf("restart: %v\n%s", err, out)
	}
	if out, err := d.Run("exec", id, "klist"); err != nil || !strings.Contains(out, "Default principal: webapp01$@CONTOSO.COM") {
		t.Errorf("exec after a restart: %v\n%s", err, out)
	}
	if out, err := d.Run("rm", "--force", id); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	g.empty(t)
}

// With userns-remap, too: the files belong to the ids that the namespace has.
func TestDockerWithUserNamespaces(t *testing.T) {
	lab.Need(t, "users", "dockerd", "runc", "klist")
	g, d := dockerGuard(t, lab.UsernsRemap(t))
	image := d.Image(lab.Container{Programs: []string{"sh", "klist", "stat", "cat"}})
	for _, user := range []string{"0", "1000"} {
		out, err := d.Run("run", "--rm", "--network", "none", "--runtime", "gmsa", "--user", user+":"+user, "--read-only", "--cap-drop", "all",
			"-v", filepath.Join(g.base, "specs", "webapp01.json")+":/run/gmsa", image,
			"sh", "-c", "klist && stat -Lc 'owner %u:%g' /run/gmsa/ccache && cat /proc/self/uid_map")
		for _, want := range []string{"Default principal: webapp01$@CONTOSO.COM", "owner " + user + ":" + user, fmt.Sprint(lab.RootlessFirst)} {
			if err != nil || !strings.Contains(out, want) {
				t.Errorf("uid %s: %v, want %q in:\n%s", user, err, want, out)
			}
		}
	}
	g.empty(t)
}
