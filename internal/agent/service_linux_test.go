package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agentapi"
)

const serveEnv = "AGENT_TEST_SERVE"

// serveChild is the agent as a service.
func serveChild(t *testing.T, base string) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := Serve(ctx, Config{
		Config: testConfig(base), Identities: &identities{domain: &domain{seed: "serve"}},
		Load: func() (config.Config, error) {
			c := testConfig(base)
			c.RawCredentialSpecs = true
			return c, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestServe runs the agent as systemd does: with its socket handed over, told
// to reload and to end by signals, and heard on the notification socket.
func TestServe(t *testing.T) {
	if base := os.Getenv(serveEnv); base != "" {
		serveChild(t, base)
		return
	}
	for name, activated := range map[string]bool{"a socket of its own": false, "a socket of systemd's": true} {
		t.Run(name, func(t *testing.T) { serveOnce(t, activated) })
	}
}

func serveOnce(t *testing.T, activated bool) {
	g := newGuard(t, nil)
	notes, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(g.base, "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer notes.Close()
	wait := func(want string) {
		t.Helper()
		buf := make([]byte, 512)
		if err := notes.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		n, err := notes.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Fatalf("notified %q, %v, want %s", buf[:n], err, want)
		}
	}
	// The shell gives its pid, which the agent's will be, as systemd would.
	cmd := exec.Command("/bin/sh", "-c", `export LISTEN_PID=$$; exec "$0" -test.run='^TestServe$'`, os.Args[0])
	cmd.Env = append(os.Environ(), serveEnv+"="+g.base, "NOTIFY_SOCKET="+filepath.Join(g.base, "notify"))
	if activated {
		l, err := Listen(g.cfg.Config)
		if err != nil {
			t.Fatal(err)
		}
		f, err := l.(*net.UnixListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		l.Close()
		cmd.ExtraFiles = []*os.File{f}
		cmd.Env = append(cmd.Env, "LISTEN_FDS=1")
	}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	wait("READY=1")
	client, err := agentapi.Dial(g.cfg.Config.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	r := mine("")
	r.Subject = &agentapi.CreateLeaseRequest_RawCredentialSpec{RawCredentialSpec: []byte("{")}
	if _, err := client.CreateLease(t.Context(), r); kindOf(err) != agentapi.Kind_KIND_DENIED {
		t.Errorf("raw spec before the reload: %v", err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	wait("RELOADING=1\nMONOTONIC_USEC=")
	wait("READY=1")
	_, err = client.CreateLease(t.Context(), r)
	if f, ok := errors.AsType[*agentapi.Failure](err); !ok || f.EventID != 3 {
		t.Errorf("raw spec after the reload: %v, want it to be read", err)
	}
	reply, err := client.CreateLease(t.Context(), mine("webapp01"))
	if err != nil {
		t.Fatal(err)
	}
	// The agent's memory and descriptors are its own.
	if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid)); err != nil || !strings.Contains(strings.Join(strings.Fields(string(b)), " "), "Max core file size 0 0") {
		t.Errorf("limits: %v\n%s", err, b)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	wait("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("the agent ended with %v\n%s", err, out.String())
	}
	if c := readCCache(t, reply.GetLease().GetDirectory()); len(c.Credentials) != 1 {
		t.Errorf("the lease after the agent's end: %v", c)
	}
}
