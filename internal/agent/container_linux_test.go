package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/hookapi"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// published is a guard that publishes webapp01 to plain runc.
func published(t *testing.T, keytab bool) *guard {
	t.Helper()
	lab.Need(t, "users", "runc", "klist")
	g := newGuard(t, func(c *config.Config) {
		c.Containers.Rules = []policy.ContainerRule{{
			Name: "web", CredentialSpecs: []string{"webapp01", "web_*"}, Runtimes: []string{policy.OtherRuntime}, Keytab: keytab, Annotations: true,
		}}
	})
	g.writeSpec(t, "webapp01", "webapp01", "webapp02")
	g.writeSpec(t, "secret", "secret01")
	return g.start(t)
}

// hookEntries are the entries of config.json for the hook with these arguments.
func hookEntries(t testing.TB, socket string, args ...string) map[string][]lab.Hook {
	t.Helper()
	path := lab.BuildHook(t)
	hook := func(stage string) []lab.Hook {
		argv := append([]string{"gmsa-hook", stage, "--socket", socket}, args...)
		return []lab.Hook{{Path: path, Args: argv, Env: []string{"GOTRACEBACK=none"}, Timeout: 10}}
	}
	return map[string][]lab.Hook{"createRuntime": hook("createRuntime"), "poststop": hook("poststop")}
}

// container is one that prints who it is, without any variable of the environment: as
// a program that docker exec starts.
func (g *guard) container(t *testing.T, args ...string) lab.Container {
	t.Helper()
	return lab.Container{
		Programs: []string{"sh", "cat", "klist", "id", "stat", "ls"},
		Args:     []string{"sh", "-c", "klist && cat /proc/self/mountinfo && stat -c '%n %u:%g %a' -L /run/gmsa/ccache && ls /run/gmsa"},
		Hooks:    hookEntries(t, g.cfg.Config.Containers.HookSocket, args...),
	}
}

// leases are the directories of all leases.
func (g *guard) leases(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(g.cfg.Config.Leases.Directory, "[0-9a-f]*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// empty waits until no lease is left.
func (g *guard) empty(t *testing.T) {
	t.Helper()
	eventually(t, func() error {
		if list := g.leases(t); len(list) > 0 {
			return fmt.Errorf("leases are left: %v", list)
		}
		return nil
	})
}

// userNamespace puts the container into one of its own.
func userNamespace(spec map[string]any) {
	linux := spec["linux"].(map[string]any)
	linux["namespaces"] = append(linux["namespaces"].([]map[string]any), map[string]any{"type": "user"})
	mapping := []map[string]any{{"containerID": 0, "hostID": 100000, "size": 65536}}
	linux["uidMappings"], linux["gidMappings"] = mapping, mapping
}

// A container's program is the gMSA whoever it runs as, with a read-only root file
// system and no capability: the lab's containers have neither.
func TestAContainerIsTheGMSA(t *testing.T) {
	g := published(t, true)
	for name, c := range map[string]struct {
		uid   int
		edit  func(map[string]any)
		args  []string
		owner string
		files string
	}{
		"root":                   {0, nil, []string{"--spec", "webapp01"}, "0:0", "accounts\nccache\nkrb5.conf\n"},
		"uid 1000":               {1000, nil, []string{"--spec", "webapp01"}, "1000:1000", "accounts\nccache\nkrb5.conf\n"},
		"uid 1000 with keys":     {1000, nil, []string{"--spec", "webapp01:keytab"}, "1000:1000", "accounts\nccache\nclient.keytab\nkeytab\nkrb5.conf\n"},
		"in a user namespace":    {1000, userNamespace, []string{"--spec", "webapp01"}, "1000:1000", "accounts\nccache\nkrb5.conf\n"},
		"by its annotation":      {1000, func(s map[string]any) { s["annotations"] = map[string]string{"dev.gmsa.credentialspec": "webapp01"} }, nil, "1000:1000", "accounts\nccache\nkrb5.conf\n"},
		"with a tmpfs at /run":   {1000, func(s map[string]any) { addMount(s, "/run", "tmpfs", "tmpfs") }, []string{"--spec", "webapp01"}, "1000:1000", "accounts\nccache\nkrb5.conf\n"},
		"with an /etc/krb5.conf": {1000, nil, []string{"--spec", "webapp01"}, "1000:1000", "accounts\nccache\nkrb5.conf\n"},
	} {
		t.Run(name, func(t *testing.T) {
			container := g.container(t, c.args...)
			container.UID, container.GID, container.Edit = c.uid, c.uid, c.edit
			if name == "with an /etc/krb5.conf" {
				container.Files = map[string]string{"/etc/krb5.conf": "[libdefaults]\ndefault_ccache_name = FILE:/nonexistent\n"}
			}
			out, err := container.Run(t)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{
				"Default principal: webapp01$@CONTOSO.COM", "krbtgt/CONTOSO.COM@CONTOSO.COM",
				"/run/gmsa/ccache " + c.owner + " 400", c.files,
			} {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
			for _, target := range []string{"/run/gmsa", "/etc/krb5.conf"} {
				if !regexp.MustCompile(` ` + target + ` ro,nosuid,nodev,noexec`).MatchString(out) {
					t.Errorf("%s is not mounted ro,nosuid,nodev,noexec:\n%s", target, out)
				}
			}
			g.empty(t)
		})
	}
}

func addMount(spec map[string]any, destination, kind, source string) {
	m := map[string]any{"destination": destination, "type": kind, "source": source}
	if kind == "bind" {
		m["options"] = []string{"bind"}
	}
	spec["mounts"] = append(spec["mounts"].([]map[string]any), m)
}

// security 6: what the image or a mount puts into the way fails the start, and
// nothing of the host is touched.
func TestAHostileRootFileSystem(t *testing.T) {
	g := published(t, false)
	outside := t.TempDir()
	link := func(target, name string) func(string) error {
		return func(root string) error {
			path := filepath.Join(root, name)
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				return err
			}
			return os.Symlink(target, path)
		}
	}
	bind := func(destination string) func(map[string]any) {
		return func(s map[string]any) { addMount(s, destination, "bind", outside) }
	}
	for name, c := range map[string]struct {
		prepare func(string) error
		edit    func(map[string]any)
		want    string
	}{
		"the target is a link out":         {link(outside, "run/gmsa"), nil, "/run/gmsa: /run/gmsa: it is a symbolic link"},
		"the target is a link within":      {link("../tmp", "run/gmsa"), nil, "it is a symbolic link"},
		"its directory is a link":          {link(outside, "run"), nil, "/run/gmsa: /run: it is a symbolic link"},
		"its directory is a link up":       {link("../../../../../../"+outside, "run"), nil, "it is a symbolic link"},
		"the target is a magic link":       {link("/proc/self/root", "run/gmsa"), nil, "it is a symbolic link"},
		"the target is a file":             {func(r string) error { return os.WriteFile(r+"/run/gmsa", nil, 0o644) }, nil, "it is not a directory"},
		"a directory of the host over it":  {nil, bind("/run/gmsa"), "/run/gmsa: something is mounted there"},
		"a tmpfs over it":                  {nil, func(s map[string]any) { addMount(s, "/run/gmsa", "tmpfs", "tmpfs") }, "something is mounted there"},
		"a directory of the host above it": {nil, bind("/run"), "/run: something is mounted there"},
		"krb5.conf is a link":              {link("/etc/shadow", "etc/krb5.conf"), nil, "/etc/krb5.conf: /etc/krb5.conf: it is a symbolic link"},
		"krb5.conf is a directory":         {func(r string) error { return os.Mkdir(r+"/etc/krb5.conf", 0o755) }, nil, "it is not a file"},
		"krb5.conf is a named pipe":        {func(r string) error { return unix.Mkfifo(r+"/etc/krb5.conf", 0o644) }, nil, "it is not a file"},
		"the etc of the host":              {nil, bind("/etc"), "/etc: something is mounted there"},
	} {
		t.Run(name, func(t *testing.T) {
			container := g.container(t, "--spec", "webapp01")
			container.UID, container.Prepare, container.Edit = 1000, c.prepare, c.edit
			out, err := container.Run(t)
			if err == nil || !strings.Contains(out, c.want) || strings.Contains(out, "Default principal") {
				t.Errorf("the start: %v; want %q in:\n%s", err, c.want, out)
			}
			if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
				t.Errorf("outside of the container: %v, %v", left, err)
			}
		})
	}
	g.empty(t)
}

// A container whose lease fails does not start, and says why (security 2, 3 and 11).
func TestAContainerWithoutALeaseDoesNotStart(t *testing.T) {
	g := published(t, false)
	g.writeFile(t, "specs/web_broken.json", "{")
	g.writeFile(t, "specs/web_foreign.json", strings.ReplaceAll(portable(credspec.SamplePluginGUID), "contoso.com", "fabrikam.com")) // and CONTOSO
	g.writeFile(t, "specs/web_plugin.json", portable("{11111111-2222-3333-4444-555555555555}"))
	for name, c := range map[string]struct {
		args []string
		edit func(map[string]any)
		want []string
	}{
		"a spec that is not published":   {[]string{"--spec", "secret"}, nil, []string{"is not published to this container", "hint: rules under containers"}},
		"a spec that there is not":       {[]string{"--spec", "nothing"}, nil, []string{"is not published to this container"}},
		"a spec that does not parse":     {[]string{"--spec", "web_broken"}, nil, []string{"not JSON"}},
		"a spec of a foreign domain":     {[]string{"--spec", "web_foreign"}, nil, []string{"is not configured on this host"}},
		"a spec of an unknown plug-in":   {[]string{"--spec", "web_plugin"}, nil, []string{"no such plug-in"}},
		"keys where tickets are allowed": {[]string{"--spec", "webapp01:keytab"}, nil, []string{"is not published"}},
		"a forged annotation":            {nil, func(s map[string]any) { s["annotations"] = map[string]string{"dev.gmsa.credentialspec": "secret"} }, []string{"is not published"}},
		"neither device nor annotation":  {nil, nil, []string{"names no credential spec"}},
		"a name that is a path":          {[]string{"--spec", "../../etc/shadow"}, nil, []string{"is not published"}},
		"a socket where nobody is":       {[]string{"--spec", "webapp01", "--socket", g.base + "/none"}, nil, []string{"no agent answers on", "hint: systemctl start gmsa-agent"}},
		"the agent's other socket":       {[]string{"--spec", "webapp01", "--socket", g.cfg.Config.Socket}, nil, []string{"no agent answers on"}},
		"an owner that is no number":     {[]string{"--spec", "webapp01,uid=root"}, nil, []string{"uid=root", "want uid=N, gid=N, mode=0400 or mode=0440"}},
		"a mode for everybody":           {[]string{"--spec", "webapp01,mode=0444"}, nil, []string{"want uid=N, gid=N, mode=0400 or mode=0440"}},
		"an owner that there is not":     {[]string{"--spec", "webapp01,uid=70000"}, userNamespace, []string{"user 70000:0 does not exist"}},
		"an option that there is not":    {[]string{"--what"}, nil, []string{"flag provided but not defined"}},
	} {
		t.Run(name, func(t *testing.T) {
			container := g.container(t, c.args...)
			container.Edit = c.edit
			out, err := container.Run(t)
			if err == nil || strings.Contains(out, "Default principal") {
				t.Errorf("the container started:\n%s", out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in:\n%s", want, out)
				}
			}
		})
	}
	g.empty(t)
}

// An agent that hangs, and a domain that does, fail the start within 10 s.
func TestAStartFailsInTime(t *testing.T) {
	t.Parallel() // it waits
	g := published(t, false)
	silent := filepath.Join(g.base, "silent.sock")
	l, err := net.ListenUnix(hookapi.Network, &net.UnixAddr{Name: silent, Net: hookapi.Network})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	container := g.container(t, "--spec", "webapp01", "--socket", silent)
	began := time.Now()
	out, err := container.Run(t)
	if took := time.Since(began); err == nil || took > 10*time.Second || !strings.Contains(out, "the agent does not answer in time") {
		t.Errorf("after %v: %v\n%s", took, err, out)
	}
}

// An image that starts as root and becomes another user says whose the files are, or its
// rule does.
func TestWhoseTheFilesAre(t *testing.T) {
	g := published(t, true)
	look := func(args ...string) string {
		container := g.container(t, args...)
		container.Args = []string{"stat", "-c", "%u:%g %a", "-L", "/run/gmsa/ccache"}
		out, err := container.Run(t)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for spec, want := range map[string]string{
		"webapp01":        "0:0 400\n",
		"webapp01,uid=33": "33:0 400\n",
		"webapp01:keytab,uid=33,gid=33,mode=0440": "33:33 440\n",
		"webapp01,mode=0400":                      "0:0 400\n",
	} {
		if got := look("--spec", spec); got != want {
			t.Errorf("%s: %q, want %q", spec, got, want)
		}
	}
	next := g.cfg.Config
	next.Containers.Rules = slices.Clone(next.Containers.Rules)
	next.Containers.Rules[0].Files = &policy.ContainerFiles{UID: 999, GID: 999, Group: true}
	g.use(next)
	for spec, want := range map[string]string{"webapp01": "999:999 440\n", "webapp01,uid=33": "33:0 400\n"} {
		if got := look("--spec", spec); got != want {
			t.Errorf("%s by a rule: %q, want %q", spec, got, want)
		}
	}
	g.empty(t)
}

// A container's first process is told when the keys have changed, and finds the new ones.
func TestTheReloadSignal(t *testing.T) {
	t.Parallel() // it waits
	lab.Need(t, "users", "runc", "klist")
	g := newGuard(t, func(c *config.Config) {
		c.Containers.Rules = []policy.ContainerRule{{CredentialSpecs: []string{"webapp01"}, Runtimes: []string{policy.OtherRuntime}, Keytab: true, ReloadSignal: "USR1"}}
	})
	g.writeSpec(t, "webapp01", "webapp01")
	g.domain.expires = time.Now().Add(11 * time.Second) // the guard believes no version in the last 10
	g.start(t)
	container := g.container(t, "--spec", "webapp01:keytab")
	container.Programs = append(container.Programs, "sleep")
	container.UID, container.GID = 1000, 1000
	container.Args = []string{"sh", "-c", `trap 'echo told; klist -k /run/gmsa/client.keytab; exit 0' USR1
klist -k /run/gmsa/client.keytab; while :; do sleep 0.1; done`}
	out, err := container.Run(t)
	if time.Now().Before(g.domain.expires) {
		t.Error("it was told before the rollover")
	}
	before, after, ok := strings.Cut(out, "told\n")
	if err != nil || !ok || !strings.Contains(before, "1 webapp01$@CONTOSO.COM") || !strings.Contains(after, "2 webapp01$@CONTOSO.COM") {
		t.Errorf("%v\n%s", err, out)
	}
	g.empty(t)
}

// The lease lives as long as the container, and through a restart of the agent; what
// the domain changes shows in the container.
func TestALeaseLivesAsLongAsItsContainer(t *testing.T) {
	g := published(t, false)
	container := g.container(t, "--spec", "webapp01")
	container.Args = []string{"sh", "-c", "echo ready; read line; klist"}
	bundle := container.Bundle(t)
	cmd := exec.Command("runc", "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, "gmsa-life")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out lockedBuffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if !strings.Contains(out.String(), "ready") {
			return errors.New(out.String())
		}
		return nil
	})
	before := g.leases(t)
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	g.start(t)
	if after := g.leases(t); len(before) != 1 || fmt.Sprint(before) != fmt.Sprint(after) {
		t.Errorf("leases before a restart %v, and after it %v", before, after)
	}
	// Another runtime's container of the same name has stopped: this one goes on.
	if _, _, err := hookapi.Call(t.Context(), g.cfg.Config.Containers.HookSocket, hookapi.Request{Op: hookapi.End, Container: "gmsa-life"}); err != nil {
		t.Error(err)
	}
	if _, err := in.Write([]byte("\n")); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "Default principal: webapp01$@CONTOSO.COM") {
		t.Errorf("%v\n%s", err, out.String())
	}
	g.empty(t)
}

// security 1, 4 and 9: what a caller of the hooks' socket cannot have.
func TestWhoMayCallAsAHook(t *testing.T) {
	g := published(t, false)
	socket := g.cfg.Config.Containers.HookSocket
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v; want 0600", info.Mode(), err)
	}
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	pidfd := os.NewFile(uintptr(self), "pidfd")
	defer pidfd.Close()
	file, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	attach := hookapi.Request{Op: hookapi.Attach, Container: "c", CredentialSpec: "webapp01"}
	for name, c := range map[string]struct {
		request hookapi.Request
		files   []*os.File
		want    string
	}{
		"for a process of the host":   {attach, []*os.File{pidfd}, "is in no container"},
		"without a process":           {attach, nil, "0 descriptors"},
		"with too many":               {attach, []*os.File{pidfd, pidfd}, "2 descriptors"},
		"with what is no process":     {attach, []*os.File{file}, "no pidfd"},
		"a request that is not there": {hookapi.Request{Op: "format", Container: "c"}, nil, "does not know"},
		"a container without a name":  {hookapi.Request{Op: hookapi.End}, nil, "name has 1 to"},
		"a name that is too long":     {hookapi.Request{Op: hookapi.End, Container: strings.Repeat("x", 257)}, nil, "name has 1 to"},
	} {
		if _, _, err := hookapi.Call(t.Context(), socket, c.request, c.files...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	g.empty(t)
	if s, err := g.client.Status(t.Context(), &agentapi.StatusRequest{}); err != nil || s.GetLeases() != 0 {
		t.Errorf("status after it all: %v, %v", s, err)
	}
}

// security 9: a caller that connects and says nothing holds up no container.
func TestSilentCallersHoldUpNoHook(t *testing.T) {
	g := published(t, false)
	for range 3 * g.cfg.Config.Quotas.Connections {
		c, err := net.Dial(hookapi.Network, g.cfg.Config.Containers.HookSocket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	eventually(t, func() error { // they are looked at one beside the other
		if _, _, err := hookapi.Call(t.Context(), g.cfg.Config.Containers.HookSocket, hookapi.Request{Op: hookapi.End, Container: "x"}); err == nil {
			return errors.New("one more call of the same process was served")
		}
		return nil
	})
	if out, err := g.container(t, "--spec", "webapp01").Run(t); err != nil || !strings.Contains(out, "Default principal: webapp01$@CONTOSO.COM") {
		t.Errorf("a container: %v\n%s", err, out)
	}
}
