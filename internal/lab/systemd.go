package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// boot lays a writable file system over a root and boots systemd in it, as far as
// basic.target: none of the root's services start. The mounts are in a mount namespace
// that ends with the process. nspawn gets a /run of its own, where it finds nothing of
// another machine with the same name. $1 is the directory, $2 the root; then come
// options of nspawn.
const boot = `
mount -t tmpfs -o mode=0755 tmpfs /run &&
mount -t tmpfs -o mode=0755 tmpfs "$1" && mkdir "$1/up" "$1/work" "$1/root" &&
mount -t overlay overlay -o "lowerdir=$2,upperdir=$1/up,workdir=$1/work" "$1/root" &&
cd "$1/root" && shift 2 &&
exec systemd-nspawn --register=no --keep-unit --quiet --console=pipe --link-journal=no \
	--resolv-conf=off --directory="$PWD" "$@" --boot systemd.unit=basic.target`

// Machine is a running systemd with the files of this machine, whose changes
// nobody else sees. It shares this machine's network, so that it reaches what the
// lab started, and has its own processes, mounts and users.
type Machine struct {
	t      testing.TB
	leader int // systemd's pid
}

// Systemd boots a machine with this one's files and ends it with the test.
func Systemd(t testing.TB) *Machine {
	t.Helper()
	return bootMachine(t, "/", nil)
}

// bootMachine boots the systemd of a root file system, which stays as it is.
func bootMachine(t testing.TB, root string, env []string, options ...string) *Machine {
	t.Helper()
	Need(t, "root", "systemd-nspawn", "unshare", "nsenter")
	dir := t.TempDir()
	p, err := spawn{
		dir: dir, log: filepath.Join(dir, "console"), sig: "TERM", env: env,
		// The machine outlives an nspawn that is killed, but no process outlives
		// the first of its PID namespace, which goes when unshare does.
		argv: append([]string{find("unshare"), "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
			"/bin/sh", "-c", boot, "boot", dir, root}, options...),
	}.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of the machine's console:\n%s", tail(filepath.Join(dir, "console"), 4000))
		}
		// nspawn asks systemd for an orderly end, which is slow and which nobody
		// looks at: the machine's files are gone a moment later.
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	m := &Machine{t: t}
	Eventually(t, 30*time.Second, func() error {
		nspawn, err := onlyChild(p.pid)
		if err != nil {
			return err
		}
		// nspawn's first child only prepares the namespaces; systemd is the next.
		if m.leader, err = onlyChild(nspawn); err != nil {
			return err
		}
		out, err := m.TryRun("systemctl", "is-system-running")
		if s := strings.TrimSpace(out); s != "running" && s != "degraded" {
			return fmt.Errorf("systemd is %q: %w", s, errors.Join(err, errors.New("not up yet")))
		}
		return nil
	})
	return m
}

// onlyChild is the pid of a process's only child.
func onlyChild(pid int) (int, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	if len(f) != 1 {
		return 0, fmt.Errorf("process %d has %d children, want 1", pid, len(f))
	}
	return strconv.Atoi(f[0])
}

// TryRun runs a program in the machine, as root and outside of every unit, and
// gives its output, both streams.
func (m *Machine) TryRun(name string, args ...string) (string, error) {
	return m.Try(nil, "", name, args...)
}

// Try is TryRun with more variables in the program's environment, and text on its
// input.
func (m *Machine) Try(env []string, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	argv := append([]string{"--target", strconv.Itoa(m.leader), "--all", "--", name}, args...)
	cmd := exec.CommandContext(ctx, find("nsenter"), argv...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("in the machine: %s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// Run is TryRun, and fails the test when the program fails.
func (m *Machine) Run(name string, args ...string) string {
	m.t.Helper()
	out, err := m.TryRun(name, args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// Path is where this machine finds a file of the booted one.
func (m *Machine) Path(path string) string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", m.leader), path)
}

// WriteFile makes a file in the machine, and the directories above it.
func (m *Machine) WriteFile(path string, content []byte, mode os.FileMode) {
	m.t.Helper()
	if err := os.MkdirAll(filepath.Dir(m.Path(path)), 0o755); err != nil {
		m.t.Fatal(err)
	}
	if err := os.WriteFile(m.Path(path), content, mode); err != nil {
		m.t.Fatal(err)
	}
	// A file that was there keeps its mode, and the umask takes from a new one's.
	if err := os.Chmod(m.Path(path), mode); err != nil {
		m.t.Fatal(err)
	}
}

// Files lists everything below the directories that was made or changed since the
// machine booted, without /run and /var/log, which every boot fills.
func (m *Machine) Files(dirs ...string) []string {
	m.t.Helper()
	out := m.Run("find", append(dirs, "-xdev", "-newer", "/proc/1/cmdline", "-not", "-type", "d")...)
	var files []string
	for l := range bytes.Lines([]byte(out)) {
		files = append(files, string(bytes.TrimSpace(l)))
	}
	return files
}
