package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// serviceDir gives a directory and an address for a program that ends with the test.
func serviceDir(t testing.TB) (string, *address) {
	t.Helper()
	dir, err := os.MkdirTemp("", "gmsa-lab-")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil { // the program runs as a user of its own
		t.Fatalf("lab: %v", err)
	}
	addr, err := allotAddress()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return dir, addr
}

// endWithTest ends the program and removes its directory after the test.
func endWithTest(t testing.TB, p *process, dir string, addr *address) {
	t.Cleanup(func() {
		if err := p.stop(); err != nil {
			t.Errorf("lab: %v", err)
		}
		if t.Failed() {
			t.Logf("the end of the log in %s:\n%s", dir, tail(filepath.Join(dir, "log"), 4000))
		}
		addr.release()
		os.RemoveAll(dir)
	})
}

// serviceKeytab gives a keytab for services that run as the computer, with an entry
// for each of the service principal names. It makes the computer, and gives it the
// names, where it is missing.
func (d *DC) serviceKeytab(t testing.TB, computer string, spns ...string) string {
	t.Helper()
	if len(d.Search(t, BaseDN, "(sAMAccountName="+computer+"$)", "dn")) == 0 {
		d.AddComputer(t, computer)
		d.Replace(t, computer+"$", "servicePrincipalName", spns...)
	}
	return d.keytab(t, computer, ComputerPassword(computer), spns...)
}

func copyFile(to, from string, mode os.FileMode) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, mode)
}

// keytab writes a keytab with MIT's ktutil: the keys of a computer with that
// password, AES256 and AES128, for each of the principals.
func (d *DC) keytab(t testing.TB, computer, password string, principals ...string) string {
	t.Helper()
	kvno := d.Attr(t, computer+"$", "msDS-KeyVersionNumber")
	salt := Realm + "host" + strings.ToLower(computer) + "." + DNSDomain
	file := filepath.Join(t.TempDir(), computer+".keytab")
	var script strings.Builder
	for _, p := range principals {
		for _, etype := range []string{"aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96"} {
			fmt.Fprintf(&script, "addent -password -p %s@%s -k %s -e %s -s %s\n%s\n", p, Realm, kvno, etype, salt, password)
		}
	}
	fmt.Fprintf(&script, "wkt %s\nquit\n", file)
	out, err := run(d.Env(), script.String(), "ktutil")
	d.must(t, err)
	if _, err := os.Stat(file); err != nil {
		t.Fatalf("lab: ktutil wrote no keytab: %s", out)
	}
	return file
}
