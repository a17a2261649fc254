package lab

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// trixiePackages lists the packages of a [Trixie], and says why they are there.
//
//go:embed trixie-packages
var trixiePackages string

// trixie is the first process of a Trixie. Its root file system is a writable one over a
// cached one; what engines store lies on a tmpfs, because an overlay cannot have an
// overlay's files as its own. The shell stays: somebody must wait for orphans, as engines
// leave them. $1 is a directory, $2 the cached file system, and what follows are directories
// of this machine that it shows.
const trixie = `
mount -t tmpfs -o mode=0755 tmpfs "$1" && mkdir "$1/up" "$1/work" "$1/fs" &&
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/up,workdir=$1/work" "$1/fs" && cd "$1/fs" &&
mount --rbind /dev dev && mount --rbind /sys sys && mount -t proc proc proc &&
for d in run tmp var/lib/docker var/lib/containerd; do
	mkdir -p "$d" && mount -t tmpfs -o mode=0755 tmpfs "$d" || exit
done
fs=$PWD; chmod 1777 tmp; shift 2
for d; do mkdir -p "$fs$d" && mount --bind "$d" "$fs$d" || exit; done
cp /etc/hosts /etc/resolv.conf etc/ && hostname trixie && pivot_root . mnt && cd / && umount -l /mnt && : >/run/ready || exit
sleep infinity & wait`

// Trixie gives a host with Debian 13, whose engines start at the call of [NewDocker26] and
// [NewContainerd]. It has mounts and processes of its own, so that an agent is on the same
// host as they only inside, and this machine's network, where the lab's servers are. All
// that runs in it ends with the test. Directories of this machine that are named are at the same
// place in it, and so is all of /dev.
func Trixie(t testing.TB, shown ...string) *Machine {
	t.Helper()
	Need(t, "users", "mmdebstrap", "unshare", "nsenter")
	root, err := cachedRoot("trixie", trixiePackages)
	if err != nil {
		t.Fatalf("lab: make a root file system: %v", err)
	}
	dir := t.TempDir()
	p, err := spawn{
		dir: dir, log: filepath.Join(dir, "console"),
		argv: append([]string{find("unshare"), "--mount", "--uts", "--ipc", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
			"/bin/sh", "-c", trixie, "trixie", dir, root}, shown...),
	}.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	m := &Machine{t: t}
	Eventually(t, 10*time.Second, func() error {
		if m.leader, err = onlyChild(p.pid); err != nil {
			return fmt.Errorf("%w\n%s", err, tail(filepath.Join(dir, "console"), 2000))
		}
		_, err := os.Stat(m.Path("/run/ready"))
		return err
	})
	return m
}

// SystemdTrixie boots Debian 13, whose podman knows container units. It has the one
// hierarchy of control groups, as hosts do nowadays, but no controllers in it: the
// configuration of podman asks for no limits.
func SystemdTrixie(t testing.TB) *Machine {
	t.Helper()
	Need(t, "root", "mmdebstrap")
	root, err := cachedRoot("trixie", trixiePackages)
	if err != nil {
		t.Fatalf("lab: make a root file system: %v", err)
	}
	m := bootMachine(t, root, []string{"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1"},
		// What podman and runc ask of the kernel. An overlay cannot have an overlay's files as its own.
		"--capability=all", "--system-call-filter=bpf add_key keyctl request_key", "--tmpfs=/var/lib/containers")
	m.WriteFile("/etc/containers/containers.conf", []byte(`[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
pids_limit = 0

[engine]
runtime = "runc"
`), 0o644)
	return m
}

// InstallGMSA puts gmsa and gmsa-hook where packages have them.
func (m *Machine) InstallGMSA() {
	m.t.Helper()
	for path, pkg := range map[string]string{"/usr/bin/gmsa": ownProgram, "/usr/libexec/gmsa/gmsa-hook": hookProgram} {
		program, err := built(pkg)
		if err != nil {
			m.t.Fatalf("lab: %v", err)
		}
		b, err := os.ReadFile(program)
		if err != nil {
			m.t.Fatalf("lab: %v", err)
		}
		m.WriteFile(path, b, 0o755)
	}
}

// A Service is a daemon in a [Machine]. It ends with the machine.
type Service struct {
	m    *Machine
	log  string
	argv []string
	pid  string
}

// Service starts a daemon, whose output goes to the file log of the machine.
func (m *Machine) Service(log, name string, args ...string) *Service {
	m.t.Helper()
	s := &Service{m: m, log: log, argv: append([]string{name}, args...)}
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("the end of %s of the machine:\n%s", log, s.Log())
		}
	})
	s.Start()
	return s
}

// Start starts the daemon once more.
func (s *Service) Start() {
	s.m.t.Helper()
	s.pid = strings.TrimSpace(s.m.Run("sh", append([]string{"-c", `log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 & echo $!`, "sh", s.log}, s.argv...)...))
}

// Alive tells whether the daemon runs.
func (s *Service) Alive() bool {
	_, err := s.m.TryRun("sh", "-c", "kill -0 "+s.pid)
	return err == nil
}

// PID is the daemon's process on this machine.
func (s *Service) PID() int {
	s.m.t.Helper()
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", s.m.leader))
	if err != nil {
		s.m.t.Fatalf("lab: %v", err)
	}
	files, _ := filepath.Glob("/proc/[0-9]*/status") // the pattern is well-formed
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(b), "\t"+s.pid+"\nNSpgid:") {
			continue
		}
		if ns, err := os.Readlink(filepath.Dir(file) + "/ns/pid"); err == nil && ns == own {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				return pid
			}
		}
	}
	s.m.t.Fatalf("lab: %s does not run", s.argv[0])
	return 0
}

// Stop ends the daemon with SIGTERM and waits for its end.
func (s *Service) Stop() error { return s.end("TERM") }

// Kill ends the daemon with SIGKILL and waits for its end.
func (s *Service) Kill() error { return s.end("KILL") }

func (s *Service) end(signal string) error {
	if _, err := s.m.TryRun("sh", "-c", "kill -"+signal+" "+s.pid); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); s.Alive(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has outlived SIG%s", s.argv[0], signal)
		}
	}
	return nil
}

// mustStop is Stop, and fails the test when the daemon does not end.
func (s *Service) mustStop() {
	s.m.t.Helper()
	if err := s.Stop(); err != nil {
		s.m.t.Fatalf("lab: %v", err)
	}
}

// Log is the end of what the daemon has printed.
func (s *Service) Log() string { return tail(s.m.Path(s.log), 8000) }
