package event

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestJournal lets a child process, which has a mount namespace of its own,
// write to a socket at the journal's address.
func TestJournal(t *testing.T) {
	const child, socket = "EVENT_TEST_JOURNAL", "/run/systemd/journal/socket"
	if os.Getenv(child) != "" {
		journalChild(t, socket)
		return
	}
	lab.Need(t, "root")
	cmd := exec.Command(os.Args[0], "-test.run=^TestJournal$", "-test.v")
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestJournal") {
		t.Errorf("child: %v\n%s", err, out)
	}
}

func journalChild(t *testing.T, socket string) {
	if err := syscall.Mount("gmsa-test", "/run", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := openLog(t, Config{Journal: true})
	writeAll(t, l, FetchFailed(Account{Name: "webapp01", Domain: "contoso.com"}, Keytab, errors.New("denied")))

	buf := make([]byte, 4096)
	if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, err := conn.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	got := "\n" + string(buf[:n])
	for _, want := range []string{
		"PRIORITY=3", "SYSLOG_IDENTIFIER=gmsa", "CCG_EVENT_ID=8", "CCG_ACCOUNT=webapp01@contoso.com", "CCG_PLUGIN=keytab", "CCG_REASON=denied",
		"MESSAGE=Container Credential Guard failed to fetch gmsa credentials for webapp01@contoso.com using plugin keytab. Error reason: denied",
	} {
		if !strings.Contains(got, "\n"+want+"\n") {
			t.Errorf("no %q in %q", want, got)
		}
	}
}
