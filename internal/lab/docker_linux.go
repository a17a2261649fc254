package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Docker is an engine on a socket of its own, with storage and configuration that go
// with the test.
type Docker struct {
	t      testing.TB
	dir    string
	daemon *Daemon
}

// A Runtime is one that dockerd knows beside runc.
type Runtime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs,omitempty"`
}

// NewDocker starts dockerd, with these runtimes by name.
func NewDocker(t testing.TB, runtimes map[string]Runtime) *Docker {
	t.Helper()
	Need(t, "users", "dockerd", "runc", "containerd", "tar", "ldd")
	dir, err := os.MkdirTemp("", "gmsa-docker-")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() {
		// dockerd leaves the network namespace of --network host mounted.
		_ = syscall.Unmount(filepath.Join(dir, "exec", "netns", "default"), syscall.MNT_DETACH)
		os.RemoveAll(dir)
	})
	d := &Docker{t: t, dir: dir}
	config, err := json.Marshal(map[string]any{
		"hosts": []string{d.host()}, "data-root": filepath.Join(dir, "data"), "exec-root": filepath.Join(dir, "exec"),
		"pidfile": filepath.Join(dir, "pid"), "bridge": "none", "iptables": false, "ip6tables": false,
		// vfs works on every file system, and the images are small.
		"storage-driver": "vfs", "runtimes": runtimes,
		// Of this kind of machine: no hard limit can be raised.
		"default-ulimits": map[string]any{"nofile": map[string]any{"Name": "nofile", "Hard": 4096, "Soft": 4096}},
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "daemon.json"), config, 0o644)
	}
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	d.daemon = StartDaemon(t, nil, "dockerd", "--config-file", filepath.Join(dir, "daemon.json"))
	Eventually(t, 30*time.Second, func() error {
		if !d.daemon.Alive() {
			t.Fatalf("dockerd ended:\n%s", d.daemon.Log())
		}
		_, err := d.Run("version")
		return err
	})
	return d
}

func (d *Docker) host() string { return "unix://" + filepath.Join(d.dir, "docker.sock") }

// Image makes an image of a container's root file system and gives its name.
func (d *Docker) Image(c Container) string {
	d.t.Helper()
	bundle := c.Bundle(d.t)
	archive := filepath.Join(d.dir, "rootfs.tar")
	name := fmt.Sprintf("%s:1", filepath.Base(d.dir))
	if out, err := run(nil, "", "tar", "-C", filepath.Join(bundle, "rootfs"), "-cf", archive, "."); err != nil {
		d.t.Fatalf("lab: %v\n%s", err, out)
	}
	defer os.Remove(archive)
	if out, err := d.Run("import", archive, name); err != nil {
		d.t.Fatalf("lab: %v\n%s", err, out)
	}
	return name
}

// Run runs a command of Debian's docker.
func (d *Docker) Run(args ...string) (string, error) {
	return run(nil, "", "docker", append([]string{"--host", d.host()}, args...)...)
}
