package lab

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func TestSystemdBootsAndRunsAUnit(t *testing.T) {
	Need(t, "root", "systemd-nspawn", "unshare", "nsenter") // here too: a subtest that skips has no machine
	var leader int
	t.Run("while it runs", func(t *testing.T) {
		m := Systemd(t)
		leader = m.leader
		useMachine(t, m)
	})
	if leader == 0 {
		t.Fatal("no machine")
	}
	// A machine that stays holds inotify instances, of which there are 128: some
	// thirty of them, and no other boots.
	Eventually(t, 5*time.Second, func() error {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", leader)); err == nil {
			return fmt.Errorf("systemd, pid %d, has outlived its test", leader)
		}
		return nil
	})
}

func useMachine(t *testing.T, m *Machine) {
	t.Helper()
	m.WriteFile("/etc/systemd/system/hello.service", []byte("[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/touch /etc/hello\n"), 0o644)
	m.Run("systemctl", "daemon-reload")
	m.Run("systemctl", "start", "hello.service")
	if _, err := os.Stat(m.Path("/etc/hello")); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat("/etc/hello"); err == nil {
		t.Error("the machine writes to this machine's files")
	}
	if got := m.Files("/etc"); !strings.Contains(strings.Join(got, " "), "/etc/hello") {
		t.Errorf("Files = %q", got)
	}
	if _, err := m.TryRun("systemctl", "start", "nosuch.service"); err == nil {
		t.Error("starting a unit that is not there went well")
	}
}
