package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/lab"
)

const dcPassword = "Passw0rd!Admin"

// controller is gmsa dc serve as a process, with a data directory.
type controller struct {
	t       *testing.T
	program string
	dir     string
	cmd     *exec.Cmd
	log     *bytes.Buffer
	ldaps   string
}

// newController makes a domain in a directory below dir.
func newController(t *testing.T, dir string) *controller {
	t.Helper()
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	c := &controller{t: t, program: path, dir: filepath.Join(dir, "dc")}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte(dcPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out := c.gmsa("dc", "init", "--domain", "contoso.com", "--local", "--data", c.dir, "--admin-password-file", password); out.code != 0 {
		t.Fatalf("init: %+v", out)
	}
	return c
}

func (c *controller) gmsa(args ...string) outcome {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	_ = cmd.Run() // the exit code is what counts
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// serve starts the controller and waits until it says that it serves.
func (c *controller) serve() {
	c.t.Helper()
	args := []string{"dc", "serve", "--data", c.dir}
	for _, service := range []string{"dns", "kerberos", "ldap", "kpasswd", "ldaps", "gc", "gcs"} {
		args = append(args, "--"+service+"-port", "0")
	}
	c.log = &bytes.Buffer{}
	c.cmd = exec.Command(c.program, args...)
	c.cmd.Stderr = c.log
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { c.kill(unix.SIGTERM) })
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var kerberos, ldap int
		if n, _ := fmt.Sscanf(lines.Text(), "ports: kerberos %d, ldap %d, ldaps %s", &kerberos, &ldap, &c.ldaps); n == 3 {
			c.ldaps = "127.0.0.1:" + strings.TrimSuffix(c.ldaps, ",")
			go func() { _, _ = io.Copy(io.Discard, stdout) }() // ends with the process
			return
		}
	}
	c.t.Fatalf("the controller does not serve\n%s", c.log)
}

// kill ends the process, if it runs, and waits for its end.
func (c *controller) kill(sig unix.Signal) {
	c.t.Helper()
	if c.cmd == nil {
		return
	}
	if err := unix.Kill(c.cmd.Process.Pid, sig); err != nil {
		c.t.Error(err)
	}
	err := c.cmd.Wait()
	if sig == unix.SIGTERM && err != nil {
		c.t.Errorf("the controller ended with %v\n%s", err, c.log)
	}
	c.cmd = nil
}

// admin is a connection over TLS, bound as Administrator.
func (c *controller) admin() *ldap.Conn {
	c.t.Helper()
	return c.bind(dcPassword)
}

func (c *controller) bind(password string) *ldap.Conn {
	c.t.Helper()
	pem, err := os.ReadFile(filepath.Join(c.dir, "ca.pem"))
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	conn, err := ldap.DialURL("ldaps://"+c.ldaps, ldap.DialWithTLSConfig(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}))
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	conn.SetTimeout(time.Minute)
	if err := conn.Bind("Administrator@contoso.com", password); err != nil {
		c.t.Fatal(err)
	}
	return conn
}

func addContact(conn *ldap.Conn, cn, description string) error {
	q := ldap.NewAddRequest("CN="+cn+",CN=Users,DC=contoso,DC=com", nil)
	q.Attribute("objectClass", []string{"contact"})
	q.Attribute("description", []string{description})
	return conn.Add(q)
}

func exists(conn *ldap.Conn, cn string) bool {
	res, err := conn.Search(&ldap.SearchRequest{BaseDN: "CN=" + cn + ",CN=Users,DC=contoso,DC=com", Filter: "(objectClass=*)", Attributes: []string{"cn"}})
	return err == nil && len(res.Entries) == 1
}

// kinit logs on as Administrator.
func (c *controller) kinit() {
	c.t.Helper()
	cmd := exec.Command("kinit", "Administrator")
	cmd.Env = append(os.Environ(), "KRB5_CONFIG="+filepath.Join(c.dir, "krb5.conf"), "KRB5CCNAME="+filepath.Join(c.t.TempDir(), "ccache"))
	cmd.Stdin = strings.NewReader(dcPassword + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("kinit: %v\n%s", err, out)
	}
}

// TestAKilledControllerLosesNothing: what was acknowledged before kill -9 is there when the
// controller is started again, as are the clients' files.
func TestAKilledControllerLosesNothing(t *testing.T) {
	c := newController(t, t.TempDir())
	var kept []string
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		c.serve()
		conn := c.admin()
		for _, cn := range kept {
			if !exists(conn, cn) {
				t.Fatalf("round %d: %s is lost", round, cn)
			}
		}
		var adding sync.WaitGroup
		adding.Go(func() {
			for i := 0; ; i++ {
				cn := fmt.Sprintf("c%d-%d", round, i)
				if addContact(conn, cn, "kept") != nil {
					return // it was killed
				}
				kept = append(kept, cn)
			}
		})
		time.Sleep(time.Duration(20+rand.IntN(60)) * time.Millisecond)
		c.kill(unix.SIGKILL)
		adding.Wait()
	}
	if len(kept) == 0 {
		t.Error("nothing was ever added")
	}
	t.Logf("%d objects over %d kills", len(kept), rounds)
}

// TestAFullDisk: writes fail and say so, reads and logons go on, and writes do too when
// there is room.
func TestAFullDisk(t *testing.T) {
	lab.Need(t, "root", "kinit")
	dir := t.TempDir()
	if err := unix.Mount("gmsa-test", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := newController(t, dir)
	ballast := filepath.Join(dir, "ballast")
	c.serve()
	conn := c.admin()
	if err := addContact(conn, "before", "x"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ballast, make([]byte, 16<<20), 0o600); err == nil {
		t.Fatal("16 MiB fit into 8")
	}
	var failed error
	n := 0
	for ; failed == nil && n < 20000; n++ {
		failed = addContact(conn, fmt.Sprintf("n%d", n), strings.Repeat("x", 1000))
	}
	if !ldap.IsErrorAnyOf(failed, ldap.LDAPResultOperationsError, ldap.LDAPResultUnavailable, ldap.LDAPResultBusy, ldap.LDAPResultOther) {
		t.Fatalf("after %d objects: %v", n, failed)
	}
	c.kinit()
	c.admin()
	if !exists(conn, "before") || exists(conn, fmt.Sprintf("n%d", n-1)) {
		t.Error("reads do not go on, or tell of what failed")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := addContact(conn, "after", "x"); err != nil {
		t.Errorf("with room again: %v", err)
	}
	c.kill(unix.SIGTERM)
	if !strings.Contains(c.log.String(), "no space left on device") {
		t.Errorf("the log does not say why:\n%s", c.log)
	}
	c.serve()
	if conn = c.admin(); !exists(conn, "before") || !exists(conn, "after") {
		t.Error("after a restart something is lost")
	}
}

// TestAStoreOfANewerVersionIsRefused, with what to do.
func TestAStoreOfANewerVersionIsRefused(t *testing.T) {
	c := newController(t, t.TempDir())
	db, err := bbolt.Open(filepath.Join(c.dir, "store.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return tx.Bucket([]byte("meta")).Put([]byte("version"), binary.BigEndian.AppendUint64(nil, 1000))
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	out := c.gmsa("dc", "serve", "--data", c.dir, "--port-offset", "30000")
	if out.code != 1 || !strings.Contains(out.stderr, "newer version") || !strings.Contains(out.stderr, "hint: use the program that wrote") {
		t.Errorf("got %+v", out)
	}
}

// TestThePasswordThatIsShownOnce is Administrator's, another in each domain, and no command
// shows it again.
func TestThePasswordThatIsShownOnce(t *testing.T) {
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for range 2 {
		c := &controller{t: t, program: path, dir: filepath.Join(t.TempDir(), "dc")}
		var made struct{ AdminPassword string }
		out := c.gmsa("dc", "init", "--domain", "contoso.com", "--local", "--data", c.dir, "-o", "json")
		if err := json.Unmarshal([]byte(out.stdout), &made); err != nil || len(made.AdminPassword) < 20 || shown[made.AdminPassword] {
			t.Fatalf("init: %+v, %v", out, err)
		}
		shown[made.AdminPassword] = true
		c.serve()
		c.bind(made.AdminPassword)
		for _, command := range [][]string{{"dc", "status"}, {"dc", "status", "-o", "json"}, {"dc", "audit"}, {"dc", "audit", "-o", "json"}} {
			out := c.gmsa(append(command, "--data", c.dir)...)
			if out.code != 0 || strings.Contains(out.stdout+out.stderr, made.AdminPassword) {
				t.Errorf("%s: %+v", strings.Join(command, " "), out)
			}
		}
		c.kill(unix.SIGTERM)
		if strings.Contains(c.log.String(), made.AdminPassword) {
			t.Error("serve logs it")
		}
	}
}

// TestFromAnEmptyDirectoryToTheFirstTicket tells how long that takes and what is in memory
// then, of which no core file can be made.
func TestFromAnEmptyDirectoryToTheFirstTicket(t *testing.T) {
	lab.Need(t, "kinit")
	if _, err := program(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	c := newController(t, t.TempDir())
	made := time.Now()
	c.serve()
	serving := time.Now()
	c.kinit()
	t.Logf("init %v, serving after %v more, first ticket after %v more", made.Sub(start), serving.Sub(made), time.Since(serving))
	if out := c.gmsa("dc", "status", "--data", c.dir, "-o", "json"); out.code != 0 || !strings.Contains(out.stdout, fmt.Sprintf(`"pid": %d`, c.cmd.Process.Pid)) {
		t.Errorf("status: %+v", out)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS:") || strings.HasPrefix(line, "RssAnon:") {
			t.Log(strings.Join(strings.Fields(line), " "))
		}
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", c.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(limits)) {
		if strings.HasPrefix(line, "Max core file size") && !strings.Contains(line, " 0 ") {
			t.Errorf("it may leave a core file: %s", line)
		}
	}
}

// TestAControllerIsFoundByDNS: testdata/dc_journey.sh says what is done.
func TestAControllerIsFoundByDNS(t *testing.T) {
	lab.Need(t, "root", "unshare", "ip", "kinit", "ldapsearch")
	path, err := program()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte(dcPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "unshare", "-mnpf", "--kill-child", "bash", "testdata/dc_journey.sh", path, dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"ms-DS-MachineAccountQuota: 0\n", "\nTrue\n", "Trust Verification Status = 0 0x0 NERR_Success",
		`CONTOSO\web9$`, "CN=webapp01,CN=Managed Service Accounts,DC=contoso,DC=com"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("want %q in\n%s", want, out)
		}
	}
}
