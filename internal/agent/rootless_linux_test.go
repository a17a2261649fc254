package agent

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// rootless is a guard that publishes webapp01 to the rootless containers of a user.
func rootless(t *testing.T) (*guard, engine) {
	t.Helper()
	p := lab.NewRootlessPodman(t)
	return guardOf(t, p, policy.ContainerRule{
		CredentialSpecs: []string{"webapp01"}, Runtimes: []string{policy.Rootless}, Owners: []uint32{uint32(rootlessUID(t))},
	})
}

// rootlessUID is the user of the lab's rootless engine.
func rootlessUID(t *testing.T) int {
	t.Helper()
	u, err := user.Lookup(lab.RootlessUser)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	return uid
}

// Podman without root: the files belong to the user, or to an id that the user may map.
func TestRootlessPodman(t *testing.T) {
	g, p := rootless(t)
	for name, args := range map[string][]string{
		"root of the container": nil,
		// Its tmpfs would want a /tmp of the host that all may write to, which not every
		// test machine has.
		"uid 1000":               {"--user", "1000:1000", "--read-only", "--read-only-tmpfs=false", "--cap-drop", "all"},
		"a namespace of its own": {"--user", "1000:1000", "--userns", "auto"},
	} {
		out, err := p.run(append(args, "--device", "gmsa.dev/credentialspec=webapp01", p.image, "sh", "-c", "klist && ls /run/gmsa")...)
		if err != nil || !strings.Contains(out, "Default principal: webapp01$@CONTOSO.COM") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	g.empty(t)
}

// poses is what a container's program does that has the hooks' socket: it plays a runtime
// with a container of its own.
const poses = `sleep 60 & mkdir -p /tmp/b; echo '{"root":{"path":"/"},"process":{"user":{"uid":0,"gid":0}}}' >/tmp/b/config.json
echo '{"id":"posed","bundle":"/tmp/b","pid":'$!'}' | gmsa-hook createRuntime --spec webapp01 --socket /agent/hook.sock 2>&1
ls /run/gmsa; kill $!
gmsa --socket /agent/agent.sock lease create --account webapp01 --until-removed 2>&1 && echo got a lease
gmsa --socket /agent/agent.sock lease list 2>&1 && echo got a list; true`

// security 1: root of a container, or its user, that has the agent's sockets, the host's
// processes, capabilities or a user namespace of its own is no runtime and no caller.
func TestAContainerIsNoRuntime(t *testing.T) {
	lab.Need(t, "users", "runc", "unshare")
	uid := rootlessUID(t)
	g := newGuard(t, func(c *config.Config) {
		c.Containers.Rules = []policy.ContainerRule{{
			CredentialSpecs: []string{"webapp01"}, Runtimes: []string{policy.OtherRuntime, policy.Rootless}, Owners: []uint32{uint32(uid)},
		}}
	})
	g.writeSpec(t, "webapp01", "webapp01")
	g.start(t)
	hostPID := func(spec map[string]any) {
		linux := spec["linux"].(map[string]any)
		linux["namespaces"] = []map[string]any{{"type": "mount"}, {"type": "ipc"}, {"type": "uts"}}
	}
	privileged := func(spec map[string]any) {
		hostPID(spec)
		all := []string{"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_SYS_CHROOT", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"}
		spec["process"].(map[string]any)["capabilities"] = map[string]any{"bounding": all, "effective": all, "permitted": all}
	}
	const pose = `sh -c "$POSES"`
	gmsa := filepath.Join(t.TempDir(), "gmsa")
	if err := os.Symlink(lab.Program(t), gmsa); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		uid    int
		edit   func(map[string]any)
		script string
	}{
		"root":                               {0, nil, pose},
		"the user of a rule":                 {uid, nil, pose},
		"root in a user namespace":           {0, userNamespace, pose},
		"with the host's processes":          {0, hostPID, pose},
		"with capabilities":                  {0, privileged, pose},
		"the user with the host's processes": {uid, hostPID, pose},
		"the user's user namespace":          {uid, hostPID, "unshare --user --map-root-user --mount " + pose},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := lab.Container{
				Programs: []string{"sh", "mkdir", "ls", "sleep", "unshare", lab.BuildHook(t), gmsa},
				Args:     []string{"sh", "-c", c.script}, UID: c.uid, GID: c.uid, Edit: c.edit,
				Mounts: map[string]string{"/agent": g.base}, Env: []string{"POSES=" + poses},
			}.Run(t)
			if strings.Count(out, "serves processes of the host alone") != 3 || strings.Contains(out, "ccache") || strings.Contains(out, "got a") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	g.empty(t)
}

// What a user's own runtime cannot have either.
func TestWhatRootlessPodmanIsRefused(t *testing.T) {
	g, p := rootless(t)
	g.writeSpec(t, "secret", "secret01")
	refused := func(name, want string, args ...string) {
		t.Helper()
		out, err := p.run(append(args, p.image, "klist")...)
		if err == nil || !strings.Contains(out, want) || strings.Contains(out, "Default principal") {
			t.Errorf("%s: %v, want %q in:\n%s", name, err, want, out)
		}
	}
	refused("a spec that is not published", "unresolvable CDI devices", "--device", "gmsa.dev/credentialspec=secret")
	g.setRules(t, policy.ContainerRule{CredentialSpecs: []string{"webapp01"}, Runtimes: []string{policy.Rootless}, Owners: []uint32{61234}})
	refused("a rule for another user", "is not published to this container", "--device", "gmsa.dev/credentialspec=webapp01")
	g.setRules(t, policy.ContainerRule{CredentialSpecs: []string{"webapp01"}, Runtimes: []string{policy.Podman, policy.OtherRuntime}})
	refused("a rule for root's containers alone", "permission denied", "--device", "gmsa.dev/credentialspec=webapp01")
	g.empty(t)
}

// setRules reloads the guard with other rules for containers.
func (g *guard) setRules(t *testing.T, rules ...policy.ContainerRule) {
	t.Helper()
	g.cfg.Config.Containers.Rules = rules
	if _, err := g.Reload(); err != nil {
		t.Fatal(err)
	}
}
