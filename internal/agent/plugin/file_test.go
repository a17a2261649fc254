//go:build unix

package plugin

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// write makes a file of that mode.
func write(t testing.TB, path, content string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}

const stored = `contoso.com\gmsaccg:s3cret`

func TestOneFile(t *testing.T) {
	path := write(t, t.TempDir()+"/id", stored+"\n", 0o600)
	p := registered(t, Config{Kind: File, Path: path}, Host{})
	expect(t, p, "whatever", "contoso.com|gmsaccg|s3cret")
	for _, mode := range []os.FileMode{0o640, 0o604, 0o610, 0o601, 0o620, 0o602} {
		write(t, path, stored, mode)
		expect(t, p, "", "!hint: chmod 0600")
	}
	write(t, path, stored, 0o400)
	expect(t, p, "", "contoso.com|gmsaccg|s3cret")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect(t, p, "", "!no such file")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, p, "", "!not a regular file")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, strings.Repeat("s3cret", maxStored), 0o600)
	expect(t, p, "", "!more than 16384 bytes")
}

func TestAFileOfSomebodyElse(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	path := write(t, t.TempDir()+"/id", stored, 0o600)
	if err := os.Chown(path, 65534, -1); err != nil {
		t.Fatal(err)
	}
	expect(t, registered(t, Config{Kind: File, Path: path}, Host{}), "", "!owned by uid 65534")
}

func TestADirectoryOfFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/ids/web", stored, 0o600)
	write(t, dir+"/outside", stored, 0o600)
	write(t, dir+"/ids/sub/web", stored, 0o600)
	if err := os.Symlink("../outside", dir+"/ids/link"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("web", dir+"/ids/alias"); err != nil {
		t.Fatal(err)
	}
	p := registered(t, Config{Kind: File, Directory: dir + "/ids"}, Host{})
	for input, want := range map[string]string{
		"web": "contoso.com|gmsaccg|s3cret", "alias": "contoso.com|gmsaccg|s3cret",
		"link": "!escapes", "../outside": "!not the name of an entry", "sub/web": "!not the name of an entry",
		"": "!not the name of an entry", ".": "!not the name of an entry", "..": "!not the name of an entry",
		"sub": "!", "absent": "!no such file", "/etc/passwd": "!not the name of an entry", "web\x00": "!not the name",
	} {
		expect(t, p, input, want)
	}
}

func TestSystemdCredentials(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/gmsa.id", stored, 0o440)
	host := Host{CredentialsDirectory: dir}
	expect(t, registered(t, Config{Kind: Systemd}, host), "gmsa.id", "contoso.com|gmsaccg|s3cret")
	expect(t, registered(t, Config{Kind: Systemd}, host), "other", "!no such file")
	expect(t, registered(t, Config{Kind: Systemd}, host), "../x", "!not the name of an entry")
	fixed := registered(t, Config{Kind: Systemd, Credential: "gmsa.id"}, host)
	expect(t, fixed, "other", "contoso.com|gmsaccg|s3cret")
	expect(t, registered(t, Config{Kind: Systemd}, Host{}), "gmsa.id", "!LoadCredential=")
}

// project writes a Secret as the kubelet does: a directory of a new name and
// then the link ..data, changed in one step.
func project(t testing.TB, dir, version, password string) {
	t.Helper()
	for name, content := range map[string]string{"username": "user-" + password, "password": password, "domainName": "contoso.com"} {
		write(t, dir+"/"+version+"/"+name, content, 0o644)
		link := dir + "/" + name
		if err := os.Symlink("..data/"+name, link); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(version, dir+"/..data_tmp"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/..data_tmp", dir+"/..data"); err != nil {
		t.Fatal(err)
	}
}

func TestKubernetesSecret(t *testing.T) {
	dir := t.TempDir()
	project(t, dir+"/prod/web", "..1", "one")
	write(t, dir+"/plain/username", "u\n", 0o644)
	write(t, dir+"/plain/password", "p \n", 0o644)
	write(t, dir+"/half/username", "u", 0o644)
	project(t, dir+"/evil", "..1", "one")
	if err := os.Remove(dir + "/evil/..data"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../prod/web/..1", dir+"/evil/..data"); err != nil {
		t.Fatal(err)
	}
	p := registered(t, Config{Kind: Kubernetes, Directory: dir}, Host{})
	for input, want := range map[string]string{
		"prod:web": "contoso.com|user-one|one",
		"plain":    "|u|p ",
		"half":     "!no such file",
		"evil":     "!..data leaves its directory",
		"":         "!no such file",
		"a:b:c":    "!neither SECRET nor NAMESPACE:SECRET",
		"..:web":   "!neither SECRET nor NAMESPACE:SECRET",
		"prod/web": "!neither SECRET nor NAMESPACE:SECRET",
		"prod:":    "!neither SECRET nor NAMESPACE:SECRET",
		"absent":   "!no such file",
	} {
		expect(t, p, input, want)
	}
	project(t, dir+"/prod/web", "..2", "two")
	expect(t, p, "prod:web", "contoso.com|user-two|two")
	direct := registered(t, Config{Kind: Kubernetes, Directory: dir + "/prod/web"}, Host{})
	expect(t, direct, "", "contoso.com|user-two|two")
}

// TestKubernetesSecretIsNeverReadHalf changes a Secret as fast as it can,
// removing the old version each time, while it is read: user and password must
// always be of one version, and no read may fail.
func TestKubernetesSecretIsNeverReadHalf(t *testing.T) {
	dir := t.TempDir()
	project(t, dir, "..0", "0")
	p := registered(t, Config{Kind: Kubernetes, Directory: dir}, Host{})
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 1; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			project(t, dir, fmt.Sprintf("..%d", i), strconv.Itoa(i))
			if err := os.RemoveAll(fmt.Sprintf("%s/..%d", dir, i-1)); err != nil {
				t.Error(err)
			}
		}
	})
	seen := make(map[string]bool)
	for range 2000 {
		got, err := fetch(t, p, "")
		if err != nil {
			t.Error(err)
			break
		}
		_, user, _ := strings.Cut(got, "|user-")
		if user, password, _ := strings.Cut(user, "|"); user != password {
			t.Errorf("mixed versions: %s", got)
		}
		seen[got] = true
	}
	close(stop)
	wg.Wait()
	if len(seen) < 2 {
		t.Error("the Secret never changed; the test proves nothing")
	}
}
