package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// host is a machine of files alone, whose programs print what they would.
type host struct {
	Host
	options Options
	prints  map[string]string // by the command line
}

func newHost(t *testing.T) *host {
	t.Helper()
	lab.Need(t, "root")
	h := &host{Host: Host{Root: t.TempDir()}, prints: map[string]string{}}
	h.options = Options{Program: "/usr/bin/gmsa", Hook: "/usr/libexec/gmsa/gmsa-hook", Socket: "/run/gmsa/hook.sock", CDIDirectory: "/etc/cdi"}
	b, err := os.ReadFile(lab.BuildHook(t))
	if err != nil {
		t.Fatal(err)
	}
	h.put(t, h.options.Hook, string(b))
	h.Command = func(_ context.Context, name string, args ...string) (string, error) {
		line := strings.Join(append([]string{name}, args...), " ")
		if out, ok := h.prints[line]; ok {
			return out, nil
		}
		return "", fmt.Errorf("%s: %w", line, ErrNoEngine)
	}
	return h
}

func (h *host) put(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.Root+path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.Root+path, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
}

func (h *host) text(t *testing.T, path string) string {
	t.Helper()
	b, err := h.read(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// install plans and applies, and gives the difference.
func (h *host) install(t *testing.T, engine string) string {
	t.Helper()
	p, err := h.Plan(t.Context(), engine, h.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Apply(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p.Diff()
}

func (h *host) uninstall(t *testing.T, engine string) Plan {
	t.Helper()
	p, err := h.PlanUndo(engine)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Undo(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p
}

// files are all files but the hook, with what is in them.
func (h *host) files(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(h.Root, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && filepath.Base(path) != "gmsa-hook" {
			text, err := os.ReadFile(path)
			fmt.Fprintf(&b, "%s:\n%s\n", path, text)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// A docker that knows credential specs is put where there is none, and services get the
// default runtime.
func TestAShimAndServices(t *testing.T) {
	h := newHost(t)
	h.prints = map[string]string{"dockerd --version": "Docker version 26.1.5+dfsg1, build 411e817"}
	before := h.files(t)
	h.options.Shim, h.options.Services = "/usr/local/bin/docker", true
	diff := h.install(t, Docker)
	for _, want := range []string{"+++ /usr/local/bin/docker\n", "+exec '/usr/bin/gmsa' docker -- \"$@\"\n", `"runtimeArgs": ["oci-runtime","--optional","runc"]`, `"default-runtime": "gmsa"`, `"cdi": true`} {
		if !strings.Contains(diff, want) {
			t.Errorf("no %q in:\n%s", want, diff)
		}
	}
	if info, err := os.Stat(h.Root + h.options.Shim); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("the shim: %v, %v", info.Mode(), err)
	}
	if again := h.install(t, Docker); again != "" {
		t.Errorf("to install again changes:\n%s", again)
	}
	h.uninstall(t, Docker)
	if after := h.files(t); after != before {
		t.Errorf("after uninstall:\n%s\nbefore install:\n%s", after, before)
	}
	h.put(t, h.options.Shim, "\x7fELF")
	if _, err := h.Plan(t.Context(), Docker, h.options); err == nil || !strings.Contains(err.Error(), "is not replaced") {
		t.Errorf("another program in its place: %v", err)
	}
}

func TestInstallIsUndoneExactly(t *testing.T) {
	for name, c := range map[string]struct {
		engine  string
		prints  map[string]string
		files   map[string]string
		want    []string // of the difference
		restart string
	}{
		"docker 26": {Docker, map[string]string{"dockerd --version": "Docker version 26.1.5+dfsg1, build 411e817"},
			map[string]string{dockerConfig: daemonJSON},
			[]string{"--- /etc/docker/daemon.json\n", "+  \"features\": {\"buildkit\": true, \"cdi\": true},\n", "+  \"runtimes\": {\"gmsa\": {\"path\": \"/usr/bin/gmsa\"", "--- /dev/null\n+++ /etc/systemd/system/docker.service.d/50-gmsa.conf\n", "+After=gmsa-agent.service\n"}, "docker"},
		"docker without a file": {Docker, map[string]string{"dockerd --version": "Docker version 25.0.0, build 1"}, nil,
			[]string{"--- /dev/null\n+++ /etc/docker/daemon.json\n", `+    "features": {"cdi": true}`}, "docker"},
		"docker with directories of its own": {Docker, map[string]string{"dockerd --version": "Docker version 28.3.0, build 1"},
			map[string]string{dockerConfig: `{"cdi-spec-dirs": ["/opt/cdi"]}`},
			[]string{`+{"cdi-spec-dirs": ["/opt/cdi","/etc/cdi"]}`}, "docker"},
		"docker 28 that was told not to": {Docker, map[string]string{"dockerd --version": "Docker version 28.3.0, build 1"},
			map[string]string{dockerConfig: `{"features": {"cdi": false}}`},
			[]string{`+{"features": {"cdi": true}}`}, "docker"},
		"docker 20.10": {Docker, map[string]string{"dockerd --version": "Docker version 20.10.24+dfsg1, build 297e128"},
			map[string]string{dockerConfig: daemonJSON},
			[]string{`+  "runtimes": {"gmsa": {"path": "/usr/bin/gmsa", "runtimeArgs": ["oci-runtime","runc"]}}`}, "docker"},
		"podman": {Podman, map[string]string{"podman --version": "podman version 4.3.1"}, nil,
			[]string{"+++ /etc/containers/containers.conf.d/50-gmsa.conf\n", "+hooks_dir = ['/usr/share/containers/oci/hooks.d', '/etc/containers/oci/hooks.d']\n", "+++ /etc/containers/oci/hooks.d/50-gmsa-createRuntime.json\n", `+      "^dev\\.gmsa\\.credentialspec$": ".*"`, "50-gmsa-poststop.json", "podman-restart.service.d"}, ""},
		"podman with hooks elsewhere": {Podman, map[string]string{"podman --version": "podman version 5.4.2"},
			map[string]string{"/etc/containers/containers.conf": "[engine]\nhooks_dir = [\"/a\"]\n", "/etc/containers/containers.conf.d/x.conf": "[engine]\nhooks_dir = [\"/b\", \"/c\"]\n"},
			[]string{"+++ /c/50-gmsa-createRuntime.json\n"}, ""},
		"cri-o": {CRIO, map[string]string{"crio --version": "crio version 1.34.2\nVersion: 1.34.2"},
			map[string]string{"/etc/crio/crio.conf.d/10-crio.conf": "[crio.runtime]\nhooks_dir = [\"/opt/hooks\"]\n"},
			[]string{"+++ /etc/crio/crio.conf.d/90-gmsa.conf\n", "+hooks_dir = ['/opt/hooks', '/etc/containers/oci/hooks.d']\n", "50-gmsa-poststop.json", "crio.service.d"}, "crio"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t)
			h.prints = c.prints
			for path, text := range c.files {
				h.put(t, path, text)
			}
			before := h.files(t)
			p, err := h.Plan(t.Context(), c.engine, h.options)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(p.Diff(), want) {
					t.Errorf("no %q in:\n%s", want, p.Diff())
				}
			}
			if p.Restart != c.restart {
				t.Errorf("to be restarted: %q, want %q", p.Restart, c.restart)
			}
			if now := h.files(t); now != before {
				t.Errorf("a plan has changed files:\n%s", now)
			}
			h.install(t, c.engine)
			if again := h.install(t, c.engine); again != "" {
				t.Errorf("to install again changes:\n%s", again)
			}
			h.uninstall(t, c.engine)
			if after := h.files(t); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// What somebody has changed since stays, and what we added goes.
func TestAFileThatWasChangedSinceKeepsThat(t *testing.T) {
	h := newHost(t)
	h.prints["dockerd --version"] = "Docker version 26.1.5, build 1"
	h.put(t, dockerConfig, daemonJSON)
	h.install(t, Docker)
	h.put(t, dockerConfig, strings.Replace(h.text(t, dockerConfig), "journald", "local", 1))
	h.options.CDIDirectory = "/opt/cdi" // one more setting, on top
	h.install(t, Docker)
	h.put(t, "/etc/systemd/system/docker.service.d/50-gmsa.conf", "mine")
	p := h.uninstall(t, Docker)
	if got, want := h.text(t, dockerConfig), strings.Replace(daemonJSON, "journald", "local", 1); got != want {
		t.Errorf("daemon.json:\n%s\nwant\n%s", got, want)
	}
	if got := h.text(t, "/etc/systemd/system/docker.service.d/50-gmsa.conf"); got != "mine" || !slices.ContainsFunc(p.Notes, func(n string) bool { return strings.Contains(n, "50-gmsa.conf was changed since, and stays") }) {
		t.Errorf("a drop-in that is somebody's became %q; notes %q", got, p.Notes)
	}

	h.install(t, Docker)
	h.put(t, dockerConfig, strings.Replace(strings.Replace(h.text(t, dockerConfig), `"cdi": true`, `"cdi": false`, 1), "local", "none", 1))
	p = h.uninstall(t, Docker)
	if got := h.text(t, dockerConfig); !strings.Contains(got, `"cdi": false`) || strings.Contains(got, "/opt/cdi") || !strings.Contains(fmt.Sprint(p.Notes), "features.cdi was changed since, and stays") {
		t.Errorf("notes %q\n%s", p.Notes, got)
	}
}

// The record has whole files in it, and a file keeps its mode.
func TestTheRecordIsRootsAlone(t *testing.T) {
	h := newHost(t)
	h.prints["dockerd --version"] = "Docker version 26.1.5, build 1"
	h.put(t, dockerConfig, "{}")
	if err := os.Chmod(h.Root+dockerConfig, 0o640); err != nil {
		t.Fatal(err)
	}
	h.install(t, Docker)
	for path, want := range map[string]os.FileMode{recordPath(Docker): 0o600, dockerConfig: 0o640} {
		if info, err := os.Stat(h.Root + path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
}

func TestEnginesThatCannotBeReliedOnAreRefused(t *testing.T) {
	const dump17 = "version = 2\ndisabled_plugins = [%s]\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = %s\ncdi_spec_dirs = [\"/etc/cdi\"]\n"
	for name, c := range map[string]struct {
		engine string
		prints map[string]string
		files  map[string]string
		want   string
	}{
		"containerd 1.6": {Containerd, map[string]string{"containerd --config /etc/containerd/config.toml config dump": "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"x\"\n"},
			nil, "containerd 1.6 does not): it ignores the devices"},
		"containerd without CRI": {Containerd, map[string]string{"containerd --config /etc/containerd/config.toml config dump": fmt.Sprintf(dump17, `"cri"`, "true")},
			nil, "its CRI is switched off"},
		"a configuration of version 1": {Containerd, map[string]string{"containerd --config /etc/containerd/config.toml config dump": "version = 1\n"}, nil, "has version 1"},
		"a base spec of somebody else": {Containerd, map[string]string{"containerd --config /etc/containerd/config.toml config dump": fmt.Sprintf(dump17, "", "true") +
			"[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\nbase_runtime_spec = \"/etc/mine.json\"\n"},
			nil, "has a base_runtime_spec already, /etc/mine.json"},
		"no runtime with hooks": {Containerd, map[string]string{"containerd --config /etc/containerd/config.toml config dump": fmt.Sprintf(dump17, "", "true") +
			"[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.kata]\nruntime_type = \"io.containerd.kata.v2\"\n"},
			nil, "no runtime of the type io.containerd.runc.v2"},
		"podman without hooks": {Podman, map[string]string{"podman --version": "podman version 4.3.1"}, map[string]string{"/etc/containers/containers.conf": "[engine]\nhooks_dir = []\n"}, "an empty hooks_dir"},
		"podman with devices elsewhere": {Podman, map[string]string{"podman --version": "podman version 5.4.2"},
			map[string]string{"/usr/share/containers/containers.conf": "[engine]\ncdi_spec_dirs = [\"/opt/cdi\"]\n"}, "cdi_spec_dirs without /etc/cdi"},
	} {
		h := newHost(t)
		h.prints, h.options.Pods = c.prints, true
		for path, text := range c.files {
			h.put(t, path, text)
		}
		_, err := h.Plan(t.Context(), c.engine, h.options)
		if refusal, ok := errors.AsType[*Refusal](err); !ok || !strings.Contains(err.Error(), c.want) || len(refusal.Hints) == 0 {
			t.Errorf("%s: %v, want a refusal with %q and a hint", name, err, c.want)
		}
		if s, err := h.State(t.Context(), c.engine, h.options); err != nil || s.Ready || !strings.Contains(s.Reason, c.want) {
			t.Errorf("%s: state %+v, %v", name, s, err)
		}
	}
}

// A drop-in replaces the whole section in containerd 1.7: the edited file is without effect then, and
// containerd's own word decides.
func TestContainerdsOwnWordDecides(t *testing.T) {
	h := newHost(t)
	h.put(t, containerdConfig, containerdTOML)
	ask := func(takesEffect bool) {
		h.Command = func(_ context.Context, name string, args ...string) (string, error) {
			b, err := h.read(args[1])
			on := takesEffect && strings.Contains(string(b), "enable_cdi = true")
			return fmt.Sprintf("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nenable_cdi = %v\ncdi_spec_dirs = [\"/etc/cdi\"]\n", on), err
		}
	}
	ask(false)
	if _, err := h.Plan(t.Context(), Containerd, h.options); err == nil || !strings.Contains(err.Error(), "would start a container without its identity") {
		t.Errorf("err = %v", err)
	}
	ask(true)
	before := h.files(t)
	if d := h.install(t, Containerd); !strings.Contains(d, "+    enable_cdi = true # one day\n") {
		t.Errorf("difference:\n%s", d)
	}
	if again := h.install(t, Containerd); again != "" {
		t.Errorf("to install again changes:\n%s", again)
	}
	h.put(t, containerdConfig, h.text(t, containerdConfig)+"\n# mine\n")
	h.uninstall(t, Containerd)
	if got := h.text(t, containerdConfig); !strings.Contains(got, "enable_cdi = false # one day\n") || !strings.HasSuffix(got, "# mine\n") {
		t.Errorf("before:\n%s\nafter:\n%s", before, got)
	}
}

func TestAHookThatLoadsLibrariesIsRefused(t *testing.T) {
	h := newHost(t)
	h.prints["podman --version"] = "podman version 4.3.1"
	b, err := os.ReadFile("/usr/bin/env")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{string(b): "is not static", "#!/bin/sh\n": "is no program of Linux"} {
		h.put(t, h.options.Hook, text)
		if _, err := h.Plan(t.Context(), Podman, h.options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("err = %v, want %q", err, want)
		}
	}
	if err := os.Remove(h.Root + h.options.Hook); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Plan(t.Context(), Podman, h.options); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a hook: %v", err)
	}
}

// The containerd of Debian 12 is 1.6: it says itself that it knows no devices.
func TestContainerd16IsRefusedByItsOwnWord(t *testing.T) {
	lab.Need(t, "containerd")
	h := newHost(t)
	h.Command = func(ctx context.Context, name string, args ...string) (string, error) {
		args[1] = h.Root + args[1]
		return Host{}.run(ctx, name, args...)
	}
	h.put(t, containerdConfig, "version = 2\n")
	out, err := Host{}.run(t.Context(), "containerd", "--version")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, " 1.6.") {
		return // Debian 13 has another, which is set up for real on a lab.Trixie
	}
	if _, err := h.Plan(t.Context(), Containerd, h.options); err == nil || !strings.Contains(err.Error(), "it does not know enable_cdi") {
		t.Errorf("err = %v", err)
	}
}

// What is written for CRI-O are settings that its manual has, in the tables where it has
// them: crio.conf(5) of CRI-O 1.34, "CRIO.RUNTIME TABLE". No CRI-O has read it.
func TestCRIOsSettingsAreThoseOfItsManual(t *testing.T) {
	h := newHost(t)
	h.prints["crio --version"] = "crio version 1.34.2"
	h.options.CDIDirectory = "/opt/cdi"
	h.install(t, CRIO)
	runtime, err := getTOML([]byte(h.text(t, crioDropIn)), "crio", "runtime")
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range runtime.(map[string]any) {
		if _, ok := texts(value); !ok || !slices.Contains([]string{"hooks_dir", "cdi_spec_dirs"}, key) {
			t.Errorf("%s = %v", key, value)
		}
	}
	if n := len(runtime.(map[string]any)); n != 2 {
		t.Errorf("%d settings, want 2", n)
	}
}
