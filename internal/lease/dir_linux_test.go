package lease

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secret"
)

// me owns files without privilege.
func me() Owner { return Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Mode: 0o400} }

// twoAccounts is content whose files all say v.
func twoAccounts(v string) Content {
	s := func(what string) secret.Bytes { return secret.Copy([]byte(what + v)) }
	return Content{Krb5Conf: []byte("conf " + v), Accounts: []AccountFiles{
		{Name: "webapp01", CCache: s("cc1 "), Keytab: s("kt1 "), ClientKeytab: s("ck1 ")},
		{Name: "webapp02", CCache: s("cc2 ")},
	}}
}

// tree reads the directory as its owner sees it: every file that can be
// reached without naming a version.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, name := range []string{"krb5.conf", "ccache", "keytab", "client.keytab", "accounts/webapp01/ccache", "accounts/webapp02/ccache", "accounts/webapp02/keytab"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got[name] = string(b)
	}
	return got
}

func wantTree(v string) string {
	return fmt.Sprint(map[string]string{
		"krb5.conf": "conf " + v, "ccache": "cc1 " + v, "keytab": "kt1 " + v, "client.keytab": "ck1 " + v,
		"accounts/webapp01/ccache": "cc1 " + v, "accounts/webapp02/ccache": "cc2 " + v,
	})
}

func checkTree(t *testing.T, dir, v string) {
	t.Helper()
	if got := fmt.Sprint(tree(t, dir)); got != wantTree(v) {
		t.Errorf("directory shows\n%s\nwant\n%s", got, wantTree(v))
	}
}

// versions lists the hidden entries of a lease's directory.
func versions(t *testing.T, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "..*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range names {
		names[i] = filepath.Base(names[i])
	}
	return names
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestWriteKeepsTheInodeAndChangesAll(t *testing.T) {
	r := benchRoot(t)
	d, err := r.Create(NewID(), me(), twoAccounts("1"))
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, d.Path(), "1")
	before := inode(t, d.Path())
	for _, v := range []string{"2", "3", "4"} {
		if err := d.Write(twoAccounts(v)); err != nil {
			t.Fatal(err)
		}
		checkTree(t, d.Path(), v)
	}
	if inode(t, d.Path()) != before {
		t.Error("the directory has another inode")
	}
	if err := d.Reap(); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(versions(t, d.Path())); got != "[..4 ..data]" {
		t.Errorf("after Reap: %s, want the fourth version alone", got)
	}
}

func TestOneChangedFileIsReplacedInPlace(t *testing.T) {
	r := benchRoot(t)
	c := twoAccounts("1")
	d, err := r.Create(NewID(), me(), c)
	if err != nil {
		t.Fatal(err)
	}
	config := inode(t, filepath.Join(d.Path(), "krb5.conf"))
	for i, change := range []func(*Content){
		func(c *Content) { c.Accounts[0].CCache = secret.Copy([]byte("new")) },
		func(c *Content) { c.Accounts[1].CCache = secret.Copy([]byte("new")) },
	} {
		c := twoAccounts("1")
		change(&c)
		if err := d.Write(c); err != nil {
			t.Fatal(err)
		}
		name := []string{"ccache", "accounts/webapp02/ccache"}[i]
		if got := tree(t, d.Path()); got[name] != "new" || got["keytab"] != "kt1 1" {
			t.Errorf("%s: %v", name, got)
		}
		if err := d.Write(twoAccounts("1")); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(versions(t, d.Path())); got != "[..1 ..data]" {
		t.Errorf("versions %s, want the first alone", got)
	}
	// A key that changes with its ccache comes as a version; what is as before
	// keeps its inode and costs nothing.
	c.Accounts[0].CCache, c.Accounts[0].Keytab = secret.Copy([]byte("a")), secret.Copy([]byte("b"))
	if err := d.Write(c); err != nil {
		t.Fatal(err)
	}
	if inode(t, filepath.Join(d.Path(), "krb5.conf")) != config {
		t.Error("the unchanged krb5.conf was written again")
	}
}

func TestAccountsAndFilesComeAndGo(t *testing.T) {
	r := benchRoot(t)
	c := twoAccounts("1")
	c.Accounts = c.Accounts[:1]
	c.Accounts[0].Keytab = secret.Bytes{}
	d, err := r.Create(NewID(), me(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got := tree(t, d.Path()); got["keytab"] != "" || got["accounts/webapp02/ccache"] != "" {
		t.Errorf("too much: %v", got)
	}
	if err := d.Write(twoAccounts("2")); err != nil {
		t.Fatal(err)
	}
	checkTree(t, d.Path(), "2")
	if err := d.Write(c); err != nil {
		t.Fatal(err)
	}
	if got := tree(t, d.Path()); got["keytab"] != "" || got["accounts/webapp02/ccache"] != "" {
		t.Errorf("what is no longer in the content stays: %v", got)
	}
}

func TestContentIsRefused(t *testing.T) {
	r := benchRoot(t)
	for name, accounts := range map[string][]AccountFiles{
		"none":       nil,
		"parent":     {{Name: ".."}},
		"hidden":     {{Name: ".x"}},
		"path":       {{Name: "a/b"}},
		"empty":      {{Name: ""}},
		"NUL":        {{Name: "a\x00"}},
		"duplicates": {{Name: "a"}, {Name: "a"}},
	} {
		id := NewID()
		if _, err := r.Create(id, me(), Content{Accounts: accounts}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := os.Lstat(filepath.Join(r.Path(), id.String())); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: a directory was left: %v", name, err)
		}
	}
}

func TestOwnerAndModes(t *testing.T) {
	lab.Need(t, "users")
	defer unix.Umask(unix.Umask(0o077)) // must not matter
	r := benchRoot(t)
	d, err := r.Create(NewID(), Owner{UID: 1234, GID: 4321, Mode: 0o440}, twoAccounts("1"))
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	err = filepath.WalkDir(d.Path(), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Type() == fs.ModeSymlink {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		uid, gid, mode := uint32(0), uint32(0), uint32(0o755)
		if !entry.IsDir() {
			files++
			uid, gid, mode = 1234, 4321, 0o440
		}
		if st.Uid != uid || st.Gid != gid || st.Mode&0o7777 != mode {
			t.Errorf("%s: %d:%d %#o, want %d:%d %#o", path, st.Uid, st.Gid, st.Mode&0o7777, uid, gid, mode)
		}
		return nil
	})
	if err != nil || files != 5 {
		t.Errorf("%d files, %v, want 5", files, err)
	}
	// The owner reads; another user does not, and cannot list the leases.
	for uid, want := range map[uint32]bool{1234: true, 5678: false} {
		cmd := exec.Command("/bin/cat", filepath.Join(d.Path(), "ccache"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.Output()
		if got := err == nil && string(out) == "cc1 1"; got != want {
			t.Errorf("uid %d reads %q, %v", uid, out, err)
		}
	}
	ls := exec.Command("/bin/ls", r.Path())
	ls.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 1234, Gid: 1234}}
	if out, err := ls.Output(); err == nil {
		t.Errorf("uid 1234 lists the leases: %s", out)
	}
}

// TestReadersSeeOneVersion reads while the content changes: never an error,
// never two versions through one open directory.
func TestReadersSeeOneVersion(t *testing.T) {
	r := benchRoot(t)
	d, err := r.Create(NewID(), me(), twoAccounts("0"))
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var reads atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for !stop.Load() {
				if err := readOnce(d.Path()); err != nil {
					t.Error(err)
					return
				}
				reads.Add(1)
			}
		})
	}
	for i := 1; i <= 300 || reads.Load() < 100; i++ {
		if err := d.Write(twoAccounts(fmt.Sprint(i))); err != nil {
			t.Error(err)
			break
		}
	}
	stop.Store(true)
	wg.Wait()
	if err := d.Reap(); err != nil || len(versions(t, d.Path())) != 2 {
		t.Errorf("after Reap: %v, %v", versions(t, d.Path()), err)
	}
}

// readOnce opens what ..data points to and compares its files.
func readOnce(path string) error {
	if _, err := os.ReadFile(filepath.Join(path, "ccache")); err != nil {
		return err
	}
	dir, err := os.OpenRoot(filepath.Join(path, dataLink))
	if err != nil {
		return err
	}
	defer dir.Close()
	cc, err1 := dir.ReadFile("ccache")
	kt, err2 := dir.ReadFile("keytab")
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if strings.TrimPrefix(string(cc), "cc1 ") != strings.TrimPrefix(string(kt), "kt1 ") {
		return fmt.Errorf("half a change: %q and %q", cc, kt)
	}
	return nil
}

func TestTakeOver(t *testing.T) {
	r := benchRoot(t)
	id := NewID()
	d, err := r.Create(id, me(), twoAccounts("1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Write(twoAccounts("2")); err != nil { // leaves ..1
		t.Fatal(err)
	}
	// What killed agents leave: a version half written, a link not yet turned,
	// a file not yet renamed.
	for _, name := range []string{"..3", "..3/accounts"} {
		if err := os.Mkdir(filepath.Join(d.Path(), name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"..3/ccache", "..2/..new", "..2/accounts/webapp02/..new"} {
		if err := os.WriteFile(filepath.Join(d.Path(), name), []byte("half"), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("..3", filepath.Join(d.Path(), "..data_new")); err != nil {
		t.Fatal(err)
	}
	orphan := NewID()
	if _, err := r.Create(orphan, me(), twoAccounts("x")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.File("journal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}

	if n, err := r.Sweep(func(i ID) bool { return i == id }); n != 1 || err != nil {
		t.Errorf("swept %d, %v, want the orphan alone", n, err)
	}
	before := inode(t, d.Path())
	again, err := r.Open(id, me())
	if err != nil {
		t.Fatal(err)
	}
	checkTree(t, again.Path(), "2")
	if got := fmt.Sprint(versions(t, d.Path())); got != "[..2 ..data]" {
		t.Errorf("left: %s", got)
	}
	if hidden, _ := filepath.Glob(filepath.Join(d.Path(), "..2", "..new")); hidden != nil {
		t.Errorf("left: %v", hidden)
	}
	if hidden, _ := filepath.Glob(filepath.Join(d.Path(), "..2/accounts/webapp02/..new")); hidden != nil {
		t.Errorf("left: %v", hidden)
	}
	if err := again.Write(twoAccounts("3")); err != nil {
		t.Fatal(err)
	}
	checkTree(t, again.Path(), "3")
	if inode(t, d.Path()) != before {
		t.Error("the directory has another inode")
	}
	if _, err := os.Stat(r.File("journal")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(r.Remove(id), r.Remove(id)); err != nil {
		t.Errorf("remove, twice: %v", err)
	}
	if _, err := r.Open(id, me()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("open what is gone: %v", err)
	}
}

func TestReadFollowsNobodysLinks(t *testing.T) {
	r := benchRoot(t)
	id := NewID()
	d, err := r.Create(id, me(), twoAccounts("1"))
	if err != nil {
		t.Fatal(err)
	}
	for account, want := range map[string]string{"webapp01": "cc1 1", "webapp02": "cc2 1"} {
		if got, err := r.Read(id, account, CCacheName); err != nil || string(got.Reveal()) != want {
			t.Errorf("%s: %q, %v, want %q", account, got.Reveal(), err, want)
		}
	}
	if _, err := r.Read(id, "webapp02", KeytabName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
	secretFile := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secretFile, []byte("another's"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What root of a container could do through a mount that was not read-only.
	replace := func(name, target string) {
		t.Helper()
		if err := errors.Join(os.RemoveAll(filepath.Join(d.Path(), name)), os.Symlink(target, filepath.Join(d.Path(), name))); err != nil {
			t.Fatal(err)
		}
	}
	replace("..1/ccache", secretFile)
	if got, err := r.Read(id, "webapp01", CCacheName); err == nil {
		t.Errorf("through a link for a file: %q", got.Reveal())
	}
	replace("..1/accounts/webapp02", filepath.Dir(secretFile))
	if got, err := r.Read(id, "webapp02", "secret"); err == nil {
		t.Errorf("through a link for an account: %q", got.Reveal())
	}
	replace("..1", filepath.Dir(secretFile))
	if got, err := r.Read(id, "webapp01", "secret"); err == nil {
		t.Errorf("through a link for a version: %q", got.Reveal())
	}
	before := twoAccounts("1")
	before.Accounts[0].CCache = secret.Copy([]byte("new"))
	if err := d.Write(before); err == nil {
		t.Error("wrote through a link for a version")
	}
	if b, err := os.ReadFile(secretFile); err != nil || string(b) != "another's" {
		t.Errorf("another's file: %q, %v", b, err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(secretFile)); len(entries) != 1 {
		t.Errorf("another's directory: %v", entries)
	}
	replace("..data", "../../..")
	if got, err := r.Read(id, "webapp01", CCacheName); err == nil {
		t.Errorf("through a link that leaves the directory: %q", got.Reveal())
	}
	if err := d.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(secretFile); err != nil {
		t.Errorf("removal followed a link: %v", err)
	}
}

// TestKilledWhileWriting kills a process that creates, rewrites and removes
// leases, and looks at what is left: whole sets of one version, right modes,
// nothing that Sweep and Open do not clear.
func TestKilledWhileWriting(t *testing.T) {
	const child = "LEASE_TEST_WRITER"
	if path := os.Getenv(child); path != "" {
		writeForever(path)
	}
	r := benchRoot(t)
	kept := NewID()
	if _, err := r.Create(kept, me(), twoAccounts("0")); err != nil {
		t.Fatal(err)
	}
	rounds := 40
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		cmd := exec.Command(os.Args[0], "-test.run=^TestKilledWhileWriting$")
		cmd.Env = append(os.Environ(), child+"="+r.Path(), child+"_ID="+kept.String())
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(round) * 97 * time.Microsecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()

		got := tree(t, filepath.Join(r.Path(), kept.String()))
		v := strings.TrimPrefix(got["keytab"], "kt1 ")
		cc, found := strings.CutPrefix(got["ccache"], "cc1 ")
		if !found || !strings.HasPrefix(cc, v) || len(got) != 6 || got["krb5.conf"] != "conf "+v {
			t.Fatalf("round %d: a half-changed lease: %v", round, got)
		}
		if _, err := r.Sweep(func(id ID) bool { return id == kept }); err != nil {
			t.Fatal(err)
		}
		d, err := r.Open(kept, me())
		if err != nil {
			t.Fatal(err)
		}
		if left := versions(t, d.Path()); len(left) != 2 {
			t.Fatalf("round %d: left %v", round, left)
		}
		if entries, _ := os.ReadDir(r.Path()); len(entries) != 1 {
			t.Fatalf("round %d: %d leases left", round, len(entries))
		}
		checkModes(t, d.Path())
	}
}

// checkModes fails for a file without its final mode.
func checkModes(t *testing.T, dir string) {
	t.Helper()
	_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type().IsRegular() {
			if info, err := entry.Info(); err != nil || info.Mode().Perm() != 0o400 {
				t.Errorf("%s: %v, %v", path, info.Mode(), err)
			}
		}
		return err
	})
}

// writeForever is the process that is killed.
func writeForever(path string) {
	r, err := Storage{Path: path, AllowSwap: true}.Open()
	if err != nil {
		panic(err)
	}
	id, err := ParseID(os.Getenv("LEASE_TEST_WRITER_ID"))
	if err != nil {
		panic(err)
	}
	d, err := r.Open(id, me())
	if err != nil {
		panic(err)
	}
	fmt.Print("x")
	for i := 0; ; i++ {
		c := twoAccounts(fmt.Sprint(i))
		err := d.Write(c)
		c.Accounts[0].CCache = secret.Copy([]byte(fmt.Sprintf("cc1 %d again", i)))
		other := NewID()
		_, err2 := r.Create(other, me(), c)
		if err := errors.Join(err, d.Write(c), err2, r.Remove(other)); err != nil {
			panic(err)
		}
	}
}
