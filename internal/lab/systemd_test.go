package lab

import (
	"os"
	"strings"
	"testing"
)

func TestSystemdBootsAndRunsAUnit(t *testing.T) {
	m := Systemd(t)
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
