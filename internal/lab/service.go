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
	if len(d.Search(t, d.BaseDN, "(sAMAccountName="+computer+"$)", "dn")) == 0 {
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
	salt := d.Realm + "host" + strings.ToLower(computer) + "." + d.DNSDomain
	file := filepath.Join(t.TempDir(), computer+".keytab")
	var script strings.Builder
	for _, p := range principals {
		for _, etype := range []string{"aes256-cts-hmac-sha1-96", "aes128-cts-hmac-sha1-96"} {
			fmt.Fprintf(&script, "addent -password -p %s@%s -k %s -e %s -s %s\n%s\n", p, d.Realm, kvno, etype, salt, password)
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

// A Daemon is a program that runs as long as the test, or until it is stopped.
type Daemon struct {
	Dir  string // of its own, removed after the test
	proc *process
}

// StartDaemon starts a program with more variables in its environment. It gets
// SIGTERM when the test ends, and its log is shown when the test has failed.
func StartDaemon(t testing.TB, env []string, argv ...string) *Daemon {
	t.Helper()
	Need(t, "setsid")
	dir, err := os.MkdirTemp("", "gmsa-lab-")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	d := &Daemon{Dir: dir}
	d.proc, err = spawn{dir: dir, log: filepath.Join(dir, "log"), env: env, argv: argv}.start()
	if err != nil {
		os.RemoveAll(dir)
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() {
		if err := d.halt((*process).stop); err != nil {
			t.Errorf("lab: end %s: %v", argv[0], err)
		}
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", argv[0], d.Log())
		}
		os.RemoveAll(dir)
	})
	return d
}

// Log is the end of what the program has printed.
func (d *Daemon) Log() string { return tail(filepath.Join(d.Dir, "log"), 8000) }

// PID is the program's process.
func (d *Daemon) PID() int { return d.proc.pid }

// Alive says whether the program still runs.
func (d *Daemon) Alive() bool { return d.proc != nil && d.proc.alive() }

// Stop ends the program with SIGTERM and waits for its end.
func (d *Daemon) Stop() error { return d.halt((*process).stop) }

// Kill ends the program with SIGKILL and waits for its end.
func (d *Daemon) Kill() error { return d.halt((*process).kill) }

func (d *Daemon) halt(how func(*process) error) error {
	if d.proc == nil {
		return nil
	}
	p := d.proc
	d.proc = nil
	return how(p)
}
