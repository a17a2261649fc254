package cli

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// runDir is a directory in memory for the leases of one test.
func runDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "gmsa-cli-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "runs")
}

// leftovers are the directories of runs that have not been removed.
func leftovers(t *testing.T, base string) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(base, "[0-9]*"))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// TestSambaRun reads a managed password as the host web1 and runs MIT's klist
// and kvno as the gMSA.
func TestSambaRun(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	lab.Need(t, "klist", "kvno")
	base := runDir(t)
	run := func(options []string, command ...string) result {
		t.Helper()
		args := append([]string{"run", "--lease-dir", base, "--allow-swap", "--domain", "contoso.com", "--dc", dc.IP.String()}, options...)
		return gmsa(t, append(dc.Env(), "PATH="+os.Getenv("PATH")), append(append(args, "--"), command...)...)
	}
	host := []string{"--keytab", dc.Keytab(t, "web1"), "--account", "webapp01"}

	r := run(host, "sh", "-c", "klist && kvno ldap/dc1.contoso.com && echo $KRB5CCNAME && stat -Lc %a $(dirname ${KRB5CCNAME#FILE:})/ccache")
	for _, want := range []string{"Default principal: webapp01$@CONTOSO.COM", "krbtgt/CONTOSO.COM@CONTOSO.COM", "ldap/dc1.contoso.com@CONTOSO.COM: kvno = ", "FILE:" + base, "\n400\n"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("the command does not print %q", want)
		}
	}
	if r.code != 0 {
		t.Errorf("exit code %d", r.code)
	}

	t.Run("exit status", func(t *testing.T) {
		if r := run(host, "sh", "-c", "exit 7"); r.code != 7 || r.stderr != "" {
			t.Errorf("exit code %d, want 7 and no word", r.code)
		}
		if r := run(host, "sh", "-c", "kill -9 $$"); r.code != 137 {
			t.Errorf("exit code %d, want 137", r.code)
		}
	})
	t.Run("a password instead of a keytab", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		if err := os.WriteFile(file, []byte(lab.ComputerPassword("web1")), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := run([]string{"-U", "web1$@contoso.com", "--password-file", file, "--account", "webapp01$"}, "klist"); r.code != 0 || !strings.Contains(r.stdout, "webapp01$@CONTOSO.COM") {
			t.Errorf("exit code %d", r.code)
		}
	})
	t.Run("another user", func(t *testing.T) {
		lab.Need(t, "root")
		r := run(append(host, "--user", "nobody"), "sh", "-c", "id -un; klist | head -2")
		if r.code != 0 || !strings.Contains(r.stdout, "nobody\n") || !strings.Contains(r.stdout, "webapp01$@CONTOSO.COM") {
			t.Errorf("exit code %d", r.code)
		}
	})
	t.Run("an account that the host may not read", func(t *testing.T) {
		r := run([]string{"--keytab", dc.Keytab(t, "evil1"), "--account", "webapp01"}, "touch", filepath.Join(base, "ran"))
		if r.code != 4 || !strings.HasPrefix(r.stderr, "gmsa: ") || !strings.Contains(r.stderr, "hint: ") {
			t.Errorf("exit code %d, want 4, the cause and a hint", r.code)
		}
		if _, err := os.Stat(filepath.Join(base, "ran")); err == nil {
			t.Error("the command ran all the same")
		}
	})
	t.Run("an account that does not exist", func(t *testing.T) {
		if r := run([]string{"--keytab", dc.Keytab(t, "web1"), "--account", "nothing01"}, "true"); r.code != 3 {
			t.Errorf("exit code %d, want 3", r.code)
		}
	})
	if left := leftovers(t, base); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestSambaRunSignals sends signals to gmsa run, and kills it.
func TestSambaRunSignals(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	base := runDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	start := func(before, script string) (*os.Process, string) {
		t.Helper()
		ready := filepath.Join(t.TempDir(), "ready")
		p, err := os.StartProcess(self, []string{"gmsa", "run", "--lease-dir", base, "--allow-swap", "--account", "webapp01",
			"--keytab", dc.Keytab(t, "web1"), "--dc", dc.IP.String(), "--domain", "contoso.com", "--", "sh", "-c",
			before + "; echo $$ > " + ready + ".new; mv " + ready + ".new " + ready + "; " + script},
			&os.ProcAttr{Env: append(dc.Env(), "PATH="+os.Getenv("PATH"), asGMSA+"=1"), Files: []*os.File{nil, os.Stdout, os.Stderr}})
		if err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 20*time.Second, func() error { _, err := os.Stat(ready); return err })
		pid, _ := os.ReadFile(ready)
		return p, strings.TrimSpace(string(pid))
	}

	p, _ := start(`trap "exit 42" TERM`, "while :; do sleep 0.05; done")
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if state, err := p.Wait(); err != nil || state.ExitCode() != 42 {
		t.Errorf("after SIGTERM: %v, error %v, want the command's exit code 42", state, err)
	}
	if left := leftovers(t, base); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}

	p, child := start(":", "exec sleep 300")
	_ = p.Kill()
	_, _ = p.Wait()
	lab.Eventually(t, 5*time.Second, func() error {
		if pid, err := strconv.Atoi(child); err == nil && syscall.Kill(pid, 0) == nil {
			return os.ErrExist
		}
		return nil
	})
	if left := leftovers(t, base); len(left) != 1 {
		t.Fatalf("a killed run leaves its directory until the next: %v", left)
	}
	r := gmsa(t, append(dc.Env(), "PATH="+os.Getenv("PATH")), "run", "--lease-dir", base, "--allow-swap", "--account", "webapp01",
		"--keytab", dc.Keytab(t, "web1"), "--dc", dc.IP.String(), "--domain", "contoso.com", "--", "true")
	if left := leftovers(t, base); r.code != 0 || len(left) > 0 {
		t.Errorf("exit code %d; the next run leaves %v", r.code, left)
	}
}
