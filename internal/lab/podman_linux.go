package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Podman is an engine with storage, containers and configuration of its own, which go
// with the test. It has no daemon.
type Podman struct {
	t   testing.TB
	dir string
	// as is a command that runs one as the engine's user; empty for root.
	as []string
}

// PodmanConf is of this kind of machine, not of the product: crun does not run where
// both versions of control groups are mounted, and no hard limit can be raised.
const PodmanConf = `[containers]
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
	p := &Podman{t: t, dir: podmanDir(t)}
	t.Cleanup(p.removeAll)
	return p
}

// podmanDir makes the directory of an engine.
func podmanDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gmsa-podman-")
	if err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		err = errors.Join(os.Chmod(dir, 0o755), os.WriteFile(filepath.Join(dir, "containers.conf"), []byte(PodmanConf), 0o644))
	}
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return dir
}

// Remove ends a container and removes it. Podman's own clean-up of a container that has
// just ended may hold its mounts for a moment, and a removal then fails: it is asked for again.
func (p *Podman) Remove(id string) error {
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err := p.Run("rm", "--force", "--ignore", "--time", "0", id)
		if err == nil || !strings.Contains(err.Error(), "device or resource busy") || time.Now().After(deadline) {
			return err
		}
	}
}

func (p *Podman) removeAll() {
	if out, err := p.Run("rm", "--all", "--force", "--time", "0"); err != nil {
		p.t.Logf("lab: %v\n%s", err, out)
	}
}

// The user of [NewRootlessPodman], whom every Debian has, and the first of its 65536
// subordinate ids.
const (
	RootlessUser  = "games"
	RootlessFirst = 400000
)

// NewRootlessPodman prepares an engine of [RootlessUser].
func NewRootlessPodman(t testing.TB) *Podman {
	t.Helper()
	Need(t, "users", "podman", "runc", "conmon", "newuidmap", "setpriv", "tar", "ldd")
	subordinateIDs(t)
	dir := podmanDir(t)
	runtimeDir := filepath.Join(dir, "xdg")
	p := &Podman{t: t, dir: dir, as: []string{
		find("setpriv"), "--reuid=" + RootlessUser, "--regid=" + RootlessUser, "--clear-groups", "--",
		"env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=" + dir, "XDG_RUNTIME_DIR=" + runtimeDir, "TMPDIR=" + runtimeDir, "CONTAINERS_CONF=" + filepath.Join(dir, "containers.conf"),
	}}
	out, err := run(nil, "", "install", "-d", "-m", "700", "-o", RootlessUser, "-g", RootlessUser, runtimeDir)
	if err == nil {
		out, err = run(nil, "", "chown", RootlessUser+":"+RootlessUser, dir)
	}
	if err != nil {
		t.Fatalf("lab: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		p.removeAll()
		// It leaves a process that keeps its namespaces.
		if out, err := p.Run("system", "migrate"); err != nil {
			t.Logf("lab: %v\n%s", err, out)
		}
	})
	return p
}

// subordinateIDs gives RootlessUser its ids, for as long as the test.
func subordinateIDs(t testing.TB) {
	t.Helper()
	lock, err := lockFile("/run/lock/gmsa-lab-subid", true)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() { lock.Close() })
	line := fmt.Sprintf("%s:%d:65536\n", RootlessUser, RootlessFirst)
	for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
		before, err := os.ReadFile(file)
		if err == nil {
			t.Cleanup(func() { _ = os.WriteFile(file, before, 0o644) })
			err = os.WriteFile(file, append(slices.Clip(before), line...), 0o644)
		}
		if err != nil {
			t.Fatalf("lab: %v", err)
		}
	}
}

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
	if len(p.as) > 0 {
		return run(nil, "", p.as[0], append(append(slices.Clip(p.as[1:]), "podman"), argv...)...)
	}
	return run([]string{"CONTAINERS_CONF=" + filepath.Join(p.dir, "containers.conf")}, "", "podman", argv...)
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
