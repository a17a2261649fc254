package lab

import (
	"os"
	"strings"
	"testing"
)

func TestDocker26RunsOnTrixie(t *testing.T) {
	t.Parallel()
	m := Trixie(t)
	d := NewDocker26(t, m, CDI)
	image := d.Image(Container{Programs: []string{"sh", "cat", "sleep"}})
	m.WriteFile("/etc/cdi/lab.json", []byte(`{"cdiVersion": "0.5.0", "kind": "lab.test/greeting",
"devices": [{"name": "hello", "containerEdits": {"env": ["GREETING=hello"]}}]}`), 0o644)
	out, err := d.Run("run", "--rm", "--network", "host", "--device", "lab.test/greeting=hello", image, "sh", "-c", `echo "$GREETING"; cat /proc/self/cgroup`)
	if err != nil || !strings.HasPrefix(out, "hello\n") || !strings.Contains(out, ":/docker/") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := d.Run("run", "--detach", "--restart", "always", "--stop-signal", "KILL", "--network", "host", image, "sleep", "600"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	d.Restart()
	if out, err := d.Run("ps", "--quiet"); err != nil || strings.TrimSpace(out) == "" {
		t.Errorf("after a restart: %v\n%s", err, out)
	}
	if _, err := os.Stat("/etc/cdi/lab.json"); err == nil {
		t.Error("the machine writes to this machine's files")
	}
}

func TestContainerdServesCRIOnTrixie(t *testing.T) {
	t.Parallel()
	c := NewContainerd(t, Trixie(t), ContainerdConfig)
	image := c.Image(Container{Programs: []string{"sh", "cat", "sleep", "id"}})
	p, err := c.Run(Pod{Image: image, Args: []string{"sh", "-c", "id -u; cat /proc/self/cgroup; sleep 600"}, UID: 1000, Restricted: true})
	if err != nil {
		t.Fatal(err)
	}
	c.Restart()
	if out, err := p.Exec("id", "-u"); err != nil || out != "1000\n" {
		t.Errorf("exec: %v\n%s", err, out)
	}
	if err := p.Remove(); err != nil {
		t.Error(err)
	}
	if p, err = c.Run(Pod{Image: image, Args: []string{"sh", "-c", "echo here; cat /proc/self/cgroup"}}); err != nil {
		t.Fatal(err)
	}
	if out := p.Wait(); !strings.HasPrefix(out, "here\n") || !strings.Contains(out, p.Container()) {
		t.Errorf("it printed:\n%s", out)
	}
	if _, err := c.Run(Pod{Image: image, Args: []string{"no-such-program"}}); err == nil {
		t.Error("a container without its program started")
	}
}
