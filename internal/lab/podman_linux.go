package lab

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Podman is an engine with storage, containers and configuration of its own, which go
// with the test. It has no daemon.
type Podman struct {
	t   testing.TB
	dir string
}

// podmanConf is of this kind of machine, not of the product: crun does not run where
// both versions of control groups are mounted, and no hard limit can be raised.
const podmanConf = `[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[network]
network_backend = "netavark"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
`

// NewPodman prepares an engine of root's.
func NewPodman(t testing.TB) *Podman {
	t.Helper()
	Need(t, "users", "podman", "runc", "conmon", "tar", "ldd")
	dir, err := os.MkdirTemp("", "gmsa-podman-")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	p := &Podman{t: t, dir: dir}
	t.Cleanup(func() {
		if out, err := p.Run("rm", "--all", "--force", "--time", "0"); err != nil {
			t.Logf("lab: %v\n%s", err, out)
		}
		os.RemoveAll(dir)
	})
	if err := os.WriteFile(p.conf(), []byte(podmanConf), 0o644); err != nil {
		t.Fatalf("lab: %v", err)
	}
	return p
}

func (p *Podman) conf() string { return filepath.Join(p.dir, "containers.conf") }

// Image makes an image of a container's root file system and gives its name.
func (p *Podman) Image(c Container) string {
	p.t.Helper()
	bundle := c.Bundle(p.t)
	archive := filepath.Join(p.dir, "rootfs.tar")
	name := "localhost/" + strings.ToLower(filepath.Base(bundle)) + ":1"
	if out, err := run(nil, "", "tar", "-C", filepath.Join(bundle, "rootfs"), "-cf", archive, "."); err != nil {
		p.t.Fatalf("lab: %v\n%s", err, out)
	}
	defer os.Remove(archive)
	if out, err := p.Run("import", "--quiet", archive, name); err != nil {
		p.t.Fatalf("lab: %v\n%s", err, out)
	}
	return name
}

// Run runs a command of podman.
func (p *Podman) Run(args ...string) (string, error) {
	// vfs works on every file system, and the images are small.
	argv := append([]string{
		"--root", filepath.Join(p.dir, "root"), "--runroot", filepath.Join(p.dir, "run"), "--tmpdir", filepath.Join(p.dir, "tmp"),
		"--storage-driver", "vfs",
	}, args...)
	return run([]string{"CONTAINERS_CONF=" + p.conf()}, "", "podman", argv...)
}

// CDIDirectory is where engines look for devices, and the test's alone until it ends:
// podman before 5 has no option for another. What was there before comes back.
func CDIDirectory(t testing.TB, file string) string {
	t.Helper()
	const dir = "/etc/cdi"
	Need(t, "root")
	lock, err := os.OpenFile("/run/lock/gmsa-lab-cdi", os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	path := filepath.Join(dir, file)
	before, readErr := os.ReadFile(path)
	t.Cleanup(func() {
		if readErr == nil {
			_ = os.WriteFile(path, before, 0o644)
		} else {
			os.Remove(path)
		}
		lock.Close()
	})
	return dir
}
