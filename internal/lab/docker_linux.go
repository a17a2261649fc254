package lab

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Docker is an engine whose storage and containers go with the test.
type Docker struct {
	t   testing.TB
	dir string // for archives, where the client reads them
	// Host is what DOCKER_HOST is for a client on this machine; empty for a [Machine]'s.
	Host string
	// client runs a command of Debian's docker.
	client func(args ...string) (string, error)
	// Daemon is that of a [Machine], nil for this machine's.
	Daemon *Service
}

// A Runtime is one that dockerd knows beside runc.
type Runtime struct {
	Path string   `json:"path"`
	Args []string `json:"runtimeArgs,omitempty"`
}

// NewDocker starts this machine's dockerd on a socket of its own, with these runtimes by
// name. Each of edits changes its daemon.json.
func NewDocker(t testing.TB, runtimes map[string]Runtime, edits ...func(daemon map[string]any)) *Docker {
	t.Helper()
	return startDocker(t, nil, runtimes, edits)
}

// NewSwarm is NewDocker for a swarm of one node, with a network of its own: a swarm makes
// bridges.
func NewSwarm(t testing.TB, runtimes map[string]Runtime, edits ...func(daemon map[string]any)) *Docker {
	t.Helper()
	Need(t, "unshare", "ip")
	d := startDocker(t, []string{"unshare", "--net", "sh", "-c", `ip link set lo up && exec "$@"`, "sh"}, runtimes, edits)
	if out, err := d.Run("swarm", "init", "--advertise-addr", "127.0.0.1"); err != nil {
		t.Fatalf("lab: %v\n%s", err, out)
	}
	t.Cleanup(func() { // else its services start their containers again
		if out, err := d.Run("swarm", "leave", "--force"); err != nil {
			t.Logf("lab: %v\n%s", err, out)
		}
	})
	return d
}

// startDocker starts dockerd behind another program.
func startDocker(t testing.TB, before []string, runtimes map[string]Runtime, edits []func(daemon map[string]any)) *Docker {
	t.Helper()
	Need(t, "users", "dockerd", "runc", "containerd", "tar", "ldd")
	dir, err := os.MkdirTemp("", "gmsa-docker-")
	if err == nil {
		err = os.Chmod(dir, 0o711) // root of a container with userns-remap comes through
	}
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() {
		// dockerd leaves network namespaces mounted, and a swarm's configs.
		for _, pattern := range []string{"exec/netns/*", "data/containers/*/mounts/*"} {
			left, _ := filepath.Glob(filepath.Join(dir, pattern))
			for _, path := range left {
				_ = syscall.Unmount(path, syscall.MNT_DETACH)
			}
		}
		os.RemoveAll(dir)
	})
	host := "unix://" + filepath.Join(dir, "docker.sock")
	d := &Docker{t: t, dir: dir, Host: host, client: func(args ...string) (string, error) {
		return run(nil, "", "docker", append([]string{"--host", host}, args...)...)
	}}
	daemonJSON := map[string]any{
		"hosts": []string{host}, "data-root": filepath.Join(dir, "data"), "exec-root": filepath.Join(dir, "exec"),
		"pidfile": filepath.Join(dir, "pid"), "bridge": "none", "iptables": false, "ip6tables": false,
		// vfs works on every file system, and the images are small.
		"storage-driver": "vfs", "runtimes": runtimes,
		// Of this kind of machine: no hard limit can be raised.
		"default-ulimits": map[string]any{"nofile": map[string]any{"Name": "nofile", "Hard": 4096, "Soft": 4096}},
	}
	for _, edit := range edits {
		edit(daemonJSON)
	}
	config, err := json.Marshal(daemonJSON)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "daemon.json"), config, 0o644)
	}
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	daemon := StartDaemon(t, nil, append(before, "dockerd", "--config-file", filepath.Join(dir, "daemon.json"))...)
	d.await(daemon)
	t.Cleanup(d.removeAll)
	return d
}

// removeAll ends the containers that a test has left, which would outlive a daemon that is
// not given the time to end them.
func (d *Docker) removeAll() {
	out, err := d.Run("ps", "--all", "--quiet")
	if ids := strings.Fields(out); err == nil && len(ids) > 0 {
		out, err = d.Run(append([]string{"rm", "--force"}, ids...)...)
	}
	if err != nil {
		d.t.Logf("lab: %v\n%s", err, out)
	}
}

// UsernsRemap has dockerd put every container into a user namespace of [RootlessUser]'s
// subordinate ids, for as long as the test.
func UsernsRemap(t testing.TB) func(daemon map[string]any) {
	t.Helper()
	subordinateIDs(t)
	return func(daemon map[string]any) { daemon["userns-remap"] = RootlessUser }
}

// NewDocker26 starts docker 26 on a [Trixie], with a daemon.json of that text; with none it
// is the machine's, if it has one.
func NewDocker26(t testing.TB, m *Machine, daemonJSON string) *Docker {
	t.Helper()
	if daemonJSON != "" {
		m.WriteFile("/etc/docker/daemon.json", []byte(daemonJSON), 0o644)
	}
	d := &Docker{t: t, dir: m.Path("/var/tmp"), client: func(args ...string) (string, error) { return m.TryRun("docker", args...) }}
	// What belongs to this kind of machine is not in the file, which is the test's. The
	// network is everybody's: dockerd may not touch it.
	d.Daemon = m.Service("/var/log/dockerd", "dockerd", "--bridge", "none", "--iptables=false", "--ip6tables=false", "--default-ulimit", "nofile=4096:4096")
	d.await(d.Daemon)
	t.Cleanup(d.removeAll)
	return d
}

// CDI is a daemon.json that switches CDI on, as docker before 28.2 needs it.
const CDI = `{"features": {"cdi": true}}`

// await waits until the daemon answers.
func (d *Docker) await(daemon interface {
	Alive() bool
	Log() string
}) {
	d.t.Helper()
	Eventually(d.t, 30*time.Second, func() error {
		if !daemon.Alive() {
			d.t.Fatalf("dockerd ended:\n%s", daemon.Log())
		}
		_, err := d.Run("version")
		return err
	})
}

// Restart ends the daemon of a [Machine] and starts it again.
func (d *Docker) Restart() {
	d.t.Helper()
	d.Daemon.mustStop()
	d.Daemon.Start()
	d.await(d.Daemon)
}

// Image makes an image of a container's root file system and gives its name.
func (d *Docker) Image(c Container) string {
	d.t.Helper()
	bundle := c.Bundle(d.t)
	archive := filepath.Join(d.dir, filepath.Base(bundle)+".tar")
	name := strings.ToLower(filepath.Base(bundle)) + ":1"
	if out, err := run(nil, "", "tar", "-C", filepath.Join(bundle, "rootfs"), "-cf", archive, "."); err != nil {
		d.t.Fatalf("lab: %v\n%s", err, out)
	}
	defer os.Remove(archive)
	inside := archive
	if d.Daemon != nil {
		inside = filepath.Join("/var/tmp", filepath.Base(archive))
	}
	if out, err := d.Run("import", inside, name); err != nil {
		d.t.Fatalf("lab: %v\n%s", err, out)
	}
	return name
}

// Run runs a command of Debian's docker.
func (d *Docker) Run(args ...string) (string, error) { return d.client(args...) }
