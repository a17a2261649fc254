package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A Container describes one run of runc: the programs named, with the libraries they
// need, in a root file system of their own, on the host's network.
type Container struct {
	Programs []string          // names or paths of this machine; put at /usr/bin/NAME
	Args     []string          // the command
	Env      []string          // beside PATH
	Mounts   map[string]string // destination: directory of this machine, mounted read-only
	UID, GID int
	Hosts    []string          // lines of /etc/hosts, "address name"
	Hooks    map[string][]Hook // OCI hooks by stage, such as createRuntime
	Files    map[string]string // more files of the root file system, by path
	// Prepare, if not nil, changes the root file system after all else, and Edit the
	// configuration: for images and settings that no test but one has.
	Prepare func(rootfs string) error
	Edit    func(config map[string]any)
}

// A Hook is one entry of the OCI runtime configuration's hooks.
type Hook struct {
	Path    string   `json:"path"`
	Args    []string `json:"args,omitempty"`
	Env     []string `json:"env,omitempty"`
	Timeout int      `json:"timeout,omitempty"` // seconds
}

// Run runs the container to its end and gives what it printed, on both streams.
func (c Container) Run(t testing.TB) (string, error) {
	t.Helper()
	bundle := c.Bundle(t)
	id := fmt.Sprintf("gmsa-lab-%d-%s", os.Getpid(), filepath.Base(bundle))
	return run(nil, "", "runc", "--root", filepath.Join(bundle, "state"), "run", "--bundle", bundle, id)
}

// Bundle writes the container's bundle (config.json and rootfs) into a directory that
// goes with the test, for a test that calls runc itself.
func (c Container) Bundle(t testing.TB) string {
	t.Helper()
	Need(t, append([]string{"root", "runc", "ldd"}, c.Programs...)...)
	dir, err := os.MkdirTemp("", "gmsa-bundle-")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = c.write(dir)
	}
	if err != nil {
		t.Fatalf("lab: make a bundle: %v", err)
	}
	return dir
}

func (c Container) write(dir string) error {
	root := filepath.Join(dir, "rootfs")
	for _, d := range []string{"proc", "dev", "sys", "tmp", "run", "etc", "usr/bin"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return err
		}
	}
	// The tmpfs at /tmp takes the mode of what it covers.
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Join(root, "tmp"), 0o777|os.ModeSticky)); err != nil {
		return err
	}
	for dest := range c.Mounts {
		if err := os.MkdirAll(filepath.Join(root, dest), 0o755); err != nil {
			return err
		}
	}
	files := map[string]string{
		"etc/passwd":        fmt.Sprintf("root:x:0:0::/:/bin/sh\napp:x:%d:%d::/tmp:/bin/sh\n", max(c.UID, 1), max(c.GID, 1)),
		"etc/group":         "root:x:0:\n",
		"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
		"etc/hosts":         "127.0.0.1 localhost\n" + strings.Join(c.Hosts, "\n") + "\n",
	}
	for name, text := range c.Files {
		files[strings.TrimPrefix(name, "/")] = text
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, p := range c.Programs {
		if err := installProgram(root, p); err != nil {
			return err
		}
	}
	if c.Prepare != nil {
		if err := c.Prepare(root); err != nil {
			return err
		}
	}
	spec := c.spec()
	if c.Edit != nil {
		c.Edit(spec)
	}
	config, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.json"), config, 0o644)
}

// installProgram copies a program, and the shared libraries that ldd names, each to
// the path at which its loader looks for it.
func installProgram(root, name string) error {
	path := find(name)
	if filepath.IsAbs(name) {
		path = name
	}
	path, err := filepath.EvalSymlinks(path) // psql is a Perl wrapper behind a link: see clientProgram
	if err != nil {
		return err
	}
	path = clientProgram(path, name)
	if err := copyFile(filepath.Join(root, "usr/bin", filepath.Base(name)), path, 0o755); err != nil {
		return err
	}
	out, err := run(nil, "", "ldd", path)
	if err != nil {
		if strings.Contains(out, "not a dynamic executable") {
			return nil
		}
		return err
	}
	for line := range strings.Lines(out) {
		for field := range strings.FieldsSeq(line) {
			if !filepath.IsAbs(field) {
				continue
			}
			to := filepath.Join(root, field)
			if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
				return err
			}
			if err := copyFile(to, field, 0o755); err != nil {
				return err
			}
		}
	}
	return nil
}

// clientProgram finds the real program behind Debian's wrapper for PostgreSQL's clients.
func clientProgram(path, name string) string {
	if filepath.Base(path) != "pg_wrapper" {
		return path
	}
	return lastMatch("/usr/lib/postgresql/*/bin/" + filepath.Base(name))
}

// spec is the OCI runtime configuration: a read-only root, no capabilities, no
// terminal, no limits (raising one needs a capability that test machines often lack).
func (c Container) spec() map[string]any {
	mounts := []map[string]any{
		{"destination": "/proc", "type": "proc", "source": "proc"},
		{"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "mode=755", "size=64k"}},
		{"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": []string{"nosuid", "nodev", "mode=1777", "size=16m"}},
	}
	for dest, source := range c.Mounts {
		mounts = append(mounts, map[string]any{"destination": dest, "type": "bind", "source": source,
			"options": []string{"bind", "ro", "nosuid", "nodev", "noexec"}})
	}
	spec := map[string]any{
		"ociVersion": "1.0.2",
		"root":       map[string]any{"path": "rootfs", "readonly": true},
		"process": map[string]any{
			"args": c.Args, "cwd": "/", "noNewPrivileges": true,
			"env":  append([]string{"PATH=/usr/bin:/bin", "HOME=/tmp"}, c.Env...),
			"user": map[string]any{"uid": c.UID, "gid": c.GID},
		},
		"mounts": mounts,
		"linux": map[string]any{"namespaces": []map[string]any{
			{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"},
		}},
	}
	if len(c.Hooks) > 0 {
		spec["hooks"] = c.Hooks
	}
	return spec
}

// clockLibrary is where a container has libfaketime.
const clockLibrary = "/usr/lib/libfaketime.so.1"

// Clocked gives a container this domain's clock: a library of its image, variables and a
// mount. Without [DC.SetClock] it is the machine's.
func (d *DC) Clocked(t testing.TB, c Container) Container {
	t.Helper()
	if d.clock == "" {
		return c
	}
	library, err := os.ReadFile(find("libfaketime"))
	d.must(t, err)
	const mount = "/usr/lib/clock"
	c.Files = with(c.Files, clockLibrary, string(library))
	c.Mounts = with(c.Mounts, mount, filepath.Dir(d.clock))
	c.Env = append(append(slices.Clip(c.Env), d.fakeEnv()...), "LD_PRELOAD="+clockLibrary, "FAKETIME_TIMESTAMP_FILE="+mount+"/"+filepath.Base(d.clock))
	return c
}

// with is a map with one more entry.
func with(m map[string]string, key, value string) map[string]string {
	m = maps.Clone(m)
	if m == nil {
		m = map[string]string{}
	}
	m[key] = value
	return m
}
