package lease

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secret"
)

// inNamespace runs the calling test again in a child process that has a mount
// namespace of its own. It returns true there, and false in the parent, whose
// test is then over.
func inNamespace(t *testing.T, env ...string) bool {
	t.Helper()
	if os.Getenv("LEASE_TEST_CHILD") == t.Name() {
		return true
	}
	lab.Need(t, "users")
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(append(os.Environ(), "LEASE_TEST_CHILD="+t.Name()), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("child: %v\n%s", err, out)
	}
	return false
}

// dropPrivileges makes the child an ordinary user for good.
func dropPrivileges(t *testing.T) {
	t.Helper()
	const id = 4242
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(id, id, id), syscall.Setresuid(id, id, id)); err != nil {
		t.Fatal(err)
	}
}

func mount(t *testing.T, path, kind, options string) {
	t.Helper()
	if err := unix.Mount("gmsa-test", path, kind, 0, options); err != nil {
		t.Fatal(err)
	}
}

// security 15: tmpfs with noswap, else ramfs.
func TestRootGetsAMountWithoutSwap(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	unix.Umask(0o077) // must not matter
	mount(t, "/run", "tmpfs", "")
	r, err := Storage{}.Open()
	if err != nil {
		t.Fatal(err)
	}
	if r.Path() != "/run/gmsa/leases" {
		t.Errorf("path %s", r.Path())
	}
	var st unix.Statfs_t
	if err := unix.Statfs(r.Path(), &st); err != nil {
		t.Fatal(err)
	}
	table, _ := os.ReadFile("/proc/self/mountinfo")
	if !strings.Contains(string(table), "/run/gmsa/leases") || st.Type != unix.RAMFS_MAGIC && !strings.Contains(string(table), "noswap") {
		t.Errorf("type %#x, mounts:\n%s", st.Type, table)
	}
	if info, err := os.Stat(r.Path()); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("mode %v, %v, want 0711", info.Mode(), err)
	}
	if info, err := os.Stat("/run/gmsa"); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("parent's mode %v, %v, want 0755", info.Mode(), err)
	}
	// A second agent finds the mount and the leases in it.
	d, err := r.Create(NewID(), me(), twoAccounts("1"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := (Storage{}).Open(); err != nil {
		t.Error(err)
	}
	checkTree(t, d.Path(), "1")
}

func TestDiskIsRefused(t *testing.T) {
	dir := os.Getenv("LEASE_TEST_DIR")
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("/var/tmp", "gmsa-test-"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		if k, err := kindOf(dir); err != nil || k != disk {
			t.Skip("/var/tmp is not on a disk here")
		}
		if os.Geteuid() == 0 {
			if err := os.Chown(dir, 4242, 4242); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !inNamespace(t, "LEASE_TEST_DIR="+dir) {
		return
	}
	dropPrivileges(t)
	for _, allow := range []bool{false, true} {
		_, err := Storage{Path: filepath.Join(dir, fmt.Sprint(allow), "leases"), AllowSwap: allow}.Open()
		if !errors.Is(err, ErrDisk) {
			t.Errorf("allow swap %t: %v, want ErrDisk", allow, err)
		}
	}
}

// security 15: storage that may be swapped is refused without --allow-swap.
func TestSwapIsRefusedWithoutPrivilege(t *testing.T) {
	if !inNamespace(t, "XDG_RUNTIME_DIR=") {
		return
	}
	mount(t, "/dev/shm", "tmpfs", "mode=1777")
	dropPrivileges(t)
	parent := "/dev/shm/gmsa-4242"
	if DefaultPath() != parent+"/leases" {
		t.Errorf("default path %s", DefaultPath())
	}
	if _, err := (Storage{}).Open(); !errors.Is(err, ErrSwap) {
		t.Errorf("%v, want ErrSwap", err)
	}
	if _, err := (Storage{AllowSwap: true}).Open(); err != nil {
		t.Errorf("with swap allowed: %v", err)
	}
	if info, err := os.Stat(parent); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("parent's mode %v, %v, want 0700", info.Mode(), err)
	}
}

func TestDirectoryOfAnotherIsRefused(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	mount(t, "/mnt", "ramfs", "mode=0755")
	for name, spoil := range map[string]func(string) error{
		"another's": func(p string) error { return os.Chown(p, 4242, 0) },
		"writable":  func(p string) error { return os.Chmod(p, 0o777) },
		"a link":    func(p string) error { return errors.Join(os.Remove(p), os.Symlink("/mnt", p)) },
	} {
		path := filepath.Join("/mnt", name)
		if err := errors.Join(os.Mkdir(path, 0o711), spoil(path)); err != nil {
			t.Fatal(err)
		}
		if _, err := (Storage{Path: path}).Open(); !errors.Is(err, ErrOwner) {
			t.Errorf("%s: %v, want ErrOwner", name, err)
		}
	}
}

func TestFullAndReadOnly(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const path = "/mnt/leases"
	mount(t, "/mnt", "tmpfs", "size=64k,mode=0755")
	r, err := Storage{Path: path, AllowSwap: true}.Open()
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.Create(NewID(), me(), twoAccounts("1"))
	if err != nil {
		t.Fatal(err)
	}
	big := twoAccounts("2")
	big.Accounts[0].Keytab = secret.New(make([]byte, 100<<10))
	for name, write := range map[string]func() error{
		"swap": func() error { return d.Write(big) },
		"replace": func() error {
			c := twoAccounts("1")
			c.Accounts[0].CCache = secret.New(make([]byte, 100<<10))
			return d.Write(c)
		},
		"create": func() error {
			_, err := r.Create(NewID(), me(), big)
			return err
		},
	} {
		if err := write(); !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v, want ENOSPC", name, err)
		}
		checkTree(t, d.Path(), "1")
		if left := versions(t, d.Path()); len(left) != 2 {
			t.Errorf("%s: left %v", name, left)
		}
		if entries, _ := os.ReadDir(path); len(entries) != 1 {
			t.Errorf("%s: %d leases left", name, len(entries))
		}
	}
	if err := unix.Mount("", "/mnt", "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(twoAccounts("3")); !errors.Is(err, unix.EROFS) {
		t.Errorf("read-only: %v, want EROFS", err)
	}
	checkTree(t, d.Path(), "1")
	if err := unix.Mount("", "/mnt", "", unix.MS_REMOUNT, ""); err != nil {
		t.Fatal(err)
	}
	if err := d.Write(twoAccounts("3")); err != nil {
		t.Fatal(err)
	}
	checkTree(t, d.Path(), "3")
}

func TestLeaseCostsUnder20KiB(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	mount(t, "/mnt", "tmpfs", "mode=0755")
	r, err := Storage{Path: "/mnt/leases", AllowSwap: true}.Open()
	if err != nil {
		t.Fatal(err)
	}
	used := func() uint64 {
		var st unix.Statfs_t
		if err := unix.Statfs("/mnt", &st); err != nil {
			t.Fatal(err)
		}
		return (st.Blocks - st.Bfree) * uint64(st.Bsize)
	}
	before := used()
	const n = 50
	for i := range n {
		d, err := r.Create(NewID(), me(), content(byte(i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(d.Write(content(byte(i+1))), d.Reap()); err != nil {
			t.Fatal(err)
		}
	}
	if cost := (used() - before) / n; cost >= 20<<10 || cost == 0 {
		t.Errorf("a lease with both keytabs costs %d bytes", cost)
	} else {
		t.Logf("a lease with both keytabs costs %d bytes", cost)
	}
}

func TestNoswapInTable(t *testing.T) {
	const table = `30 1 0:26 / /run rw,nosuid,nodev shared:2 - tmpfs tmpfs rw,size=1k
31 30 0:27 / /run/gmsa/leases rw,nosuid - tmpfs gmsa rw,size=1k,mode=711,noswap
32 30 0:28 / /run/no\040swap rw,noswap - tmpfs noswap rw
`
	for mount, want := range map[uint64]bool{30: false, 31: true, 32: false, 33: false} {
		if got := noswapInTable(table, mount); got != want {
			t.Errorf("mount %d: %t, want %t", mount, got, want)
		}
	}
}
