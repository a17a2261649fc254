package cli

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestSambaAgent runs the agent as a program, and everything that a person does
// with it.
func TestSambaAgent(t *testing.T) {
	lab.Need(t, "root") // who may lease without a rule
	dc := lab.Samba(t, lab.SambaConfig{})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, leases := t.TempDir(), filepath.Join(filepath.Dir(runDir(t)), "leases")
	socket, events, conf := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "log", "ccg.jsonl"), filepath.Join(dir, "agent.yaml")
	text := fmt.Sprintf(`socket: %s
leases: {directory: %s, allow_swap: true}
state_directory: %s
event_log: {path: %s, journal: false}
credential_specs: [%s]
domains:
  contoso.com:
    servers: [%s]
    host: {keytab: %s, rotate_password: never}
`, socket, leases, dir, events, dir, dc.IP, dc.Keytab(t, "web1"))
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := gmsa(t, nil, "agent", "check-config", "--config", conf); r.code != 0 {
		t.Fatalf("exit code %d", r.code)
	}
	logFile, err := os.Create(filepath.Join(dir, "agent.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer logFile.Close()
	agent, err := os.StartProcess(self, []string{"gmsa", "agent", "serve", "--config", conf},
		&os.ProcAttr{Env: append(os.Environ(), asGMSA+"=1"), Files: []*os.File{nil, logFile, logFile}})
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			_ = agent.Kill()
			_, _ = agent.Wait()
		}
		if t.Failed() {
			b, _ := os.ReadFile(logFile.Name())
			t.Logf("the agent's log:\n%s", b)
		}
	}()
	lab.Eventually(t, 20*time.Second, func() error { _, err := os.Stat(socket); return err })

	r := gmsa(t, nil, "agent", "serve", "--config", conf)
	if r.code != 1 || !strings.Contains(r.stderr, "another agent is running") || !strings.Contains(r.stderr, "hint: gmsa agent status") {
		t.Errorf("a second agent: exit code %d", r.code)
	}

	// The journey of the guides: verify and klist as the gMSA.
	asAccount := func(command ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), self, append([]string{"run", "--socket", socket, "--account", `CONTOSO\WebApp01$`, "--", self}, command...)...)
		cmd.Env = append(os.Environ(), asGMSA+"=1")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("gmsa %s as the gMSA: %v", strings.Join(command, " "), err)
		}
		t.Logf("gmsa %s as the gMSA:\n%s", strings.Join(command, " "), out)
		return string(out)
	}
	wantMatch(t, verified, asAccount("verify", "contoso.com"))
	wantMatch(t, `
Current LogonId is 0:0x[0-9a-f]+
A ticket to krbtgt has been retrieved successfully.

Cached Tickets: \(2\)

#0>     Client: [Ww]eb[Aa]pp01\$ @ CONTOSO.COM
        Server: krbtgt/CONTOSO.COM @ CONTOSO.COM
        KerbTicket Encryption Type: AES-256-CTS-HMAC-SHA1-96
        Ticket Flags 0x[0-9a-f]+ -> [a-z_ ]*pre_authent[a-z_ ]*
.*        Kdc Called: dc1.contoso.com
.*`, asAccount("klist", "get", "krbtgt"))
	// The lease's own ticket, which the agent got.
	if out := asAccount("klist"); strings.Count(out, "Cached Tickets: (1)\n") != 1 || strings.Count(out, "        Kdc Called: dc1.contoso.com\n") != 1 {
		t.Error("klist of a lease lacks its one ticket, or where it is from")
	}

	r = gmsa(t, nil, "lease", "create", "--socket", socket, "--account", "webapp01", "--until-removed", "--keytab")
	id := filepath.Base(strings.TrimSpace(r.stdout))
	if r.code != 0 || len(id) != 32 {
		t.Fatalf("exit code %d, id %q", r.code, id)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"lease", "list"}, id},
		{[]string{"lease", "show", id}, "until removed"},
		{[]string{"klist", "--lease", id}, "Cached Tickets: (1)"},
		{[]string{"agent", "status"}, "ready"},
		{[]string{"agent", "reload"}, ""},
		{[]string{"lease", "remove", id}, ""},
	} {
		if r := gmsa(t, nil, append(c.args, "--socket", socket)...); r.code != 0 || !strings.Contains(r.stdout, c.want) {
			t.Errorf("%s: exit code %d, want 0 and %q", strings.Join(c.args, " "), r.code, c.want)
		}
	}
	if r := gmsa(t, nil, "lease", "show", id, "--socket", socket); r.code != 3 {
		t.Errorf("a lease that was removed: exit code %d, want 3", r.code)
	}

	r = gmsa(t, nil, "events", "--log", events, "--account", "webapp01")
	if r.code != 0 || !strings.Contains(r.stdout, "fetched gmsa credentials for webapp01@contoso.com using plug-in: keytab") {
		t.Errorf("events: exit code %d", r.code)
	}
	if err := agent.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	state, err := agent.Wait()
	ended = true
	if err != nil || state.ExitCode() != 0 {
		t.Errorf("the agent ended with %v, error %v", state, err)
	}
}

// An agent without a domain in its configuration is who its options name: a user
// and a password in a file. It stays so across a reload.
func TestSambaAgentOfAUser(t *testing.T) {
	lab.Need(t, "root")
	dc := lab.Samba(t, lab.SambaConfig{})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, leases := t.TempDir(), filepath.Join(filepath.Dir(runDir(t)), "leases")
	socket, conf, password := filepath.Join(dir, "agent.sock"), filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "password")
	text := fmt.Sprintf("leases: {directory: %s}\nstate_directory: %s\nevent_log: {path: none, journal: false}\n", leases, dir)
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o600), os.WriteFile(password, []byte(lab.ComputerPassword("web2")+"\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if r := gmsa(t, nil, "agent", "serve", "--config", conf, "-U", "web2$@contoso.com"); r.code != 2 || !strings.Contains(r.stderr, "--password-file FILE") {
		t.Errorf("without a file: exit code %d, want 2 and what to add", r.code)
	}
	agent := exec.Command(self, "agent", "serve", "--config", conf, "--socket", socket, "--allow-swap",
		"--dc", dc.IP.String(), "-U", "web2$@contoso.com", "--password-file", password)
	agent.Env = append(os.Environ(), asGMSA+"=1")
	agent.Stderr = t.Output()
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		if err := agent.Wait(); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	lab.Eventually(t, 20*time.Second, func() error { _, err := os.Stat(socket); return err })
	for range 2 {
		r := gmsa(t, nil, "lease", "create", "--socket", socket, "--account", "webapp01", "--until-removed", "-o", "json")
		if r.code != 0 || !strings.Contains(r.stdout, `"principal": "webapp01$@CONTOSO.COM"`) || !strings.Contains(r.stdout, `"controller": "dc1.contoso.com"`) || strings.Contains(r.stdout, `"nextRollover": null`) {
			t.Errorf("lease: exit code %d", r.code)
		}
		if r := gmsa(t, nil, "agent", "reload", "--socket", socket); r.code != 0 {
			t.Errorf("reload: exit code %d", r.code)
		}
	}
	r := gmsa(t, nil, "agent", "status", "--socket", socket)
	if r.code != 0 || !strings.Contains(r.stdout, "web2$@CONTOSO.COM") || !strings.Contains(r.stdout, "password") || !strings.Contains(r.stdout, "dc1.contoso.com") {
		t.Errorf("status: exit code %d", r.code)
	}
	// security 16: nothing secret where everybody can look.
	for _, name := range []string{"cmdline", "environ"} {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", agent.Process.Pid, name)); err != nil || strings.Contains(string(b), lab.ComputerPassword("web2")) {
			t.Errorf("%s of the agent: %v, or the password is in it", name, err)
		}
	}
}
