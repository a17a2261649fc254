package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// childEnv makes the test binary connect to the socket it names and wait for
// its standard input to end.
const childEnv = "PEER_TEST_CONNECT"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		c, err := net.Dial("unix", path)
		if err != nil {
			os.Exit(3)
		}
		_, _ = io.Copy(io.Discard, os.Stdin)
		c.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// connectFrom starts a child with attr that connects, and returns the accepted
// connection and the child's pid.
func connectFrom(t *testing.T, attr *syscall.SysProcAttr) (*net.UnixConn, int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.SysProcAttr = attr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c.(*net.UnixConn), cmd.Process.Pid
}

func TestAPeerOfThisHostIsIdentified(t *testing.T) {
	own, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	conn, pid := connectFrom(t, nil)
	p, err := Of(conn, own)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if p.PID != pid || p.UID != uint32(os.Getuid()) || p.GID != uint32(os.Getgid()) || p.StartTime == 0 || !p.Alive() {
		t.Errorf("peer = %+v, want pid %d", p, pid)
	}
}

// Root in a container sees the socket when it is bind-mounted: security 1.
func TestPeersInForeignNamespacesAreRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes namespaces")
	}
	own, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	for name, flags := range map[string]uintptr{
		"mount": syscall.CLONE_NEWNS,
		"PID":   syscall.CLONE_NEWPID,
		"user":  syscall.CLONE_NEWUSER,
		"all":   syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := connectFrom(t, &syscall.SysProcAttr{Cloneflags: flags})
			p, err := Of(conn, own)
			if !errors.Is(err, ErrForeign) {
				t.Errorf("Of = %+v, %v; want ErrForeign", p, err)
			}
		})
	}
}

// A runtime's hook may have left namespaces that nothing else may. What keeps containers
// out beside that is in TestAContainerIsNoRuntime of package agent.
func TestHooksMayHaveLeftTheMountNamespace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root: makes namespaces")
	}
	own, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	mapped := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 1234, Size: 1}}
	for name, c := range map[string]struct {
		attr    syscall.SysProcAttr
		foreign bool
	}{
		"on the host":                        {syscall.SysProcAttr{}, false},
		"podman --userns":                    {syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}, false},
		"in a PID namespace":                 {syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}, true},
		"root in a user namespace of root's": {syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS}, true},
		"another user in one of root's":      {syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS, UidMappings: mapped, GidMappings: mapped}, true},
	} {
		t.Run(name, func(t *testing.T) {
			conn, _ := connectFrom(t, &c.attr)
			p, err := OfHook(conn, own)
			if c.foreign != errors.Is(err, ErrForeign) || !c.foreign && err != nil {
				t.Errorf("OfHook = %+v, %v", p, err)
			}
			if p != nil {
				p.Close()
			}
		})
	}
}

func TestCapabilitiesOfAStatus(t *testing.T) {
	got, err := parseCapabilities("Name:\tx\nCapPrm:\t0000000000000001\nCapEff:\t0000000000200000\n")
	if err != nil || got != 1<<21 {
		t.Errorf("%#x, %v", got, err)
	}
	for _, bad := range []string{"", "CapEff:\n", "CapEff:\tx\n"} {
		if _, err := parseCapabilities(bad); err == nil {
			t.Errorf("parseCapabilities(%q) succeeded", bad)
		}
	}
}

func TestHostRootNeedsTheInitialUserNamespace(t *testing.T) {
	for name, c := range map[string]struct {
		p    Process
		want bool
	}{
		"root of the host":       {Process{UIDMap: []IDMap{{0, 0, 1<<32 - 1}}}, true},
		"a user":                 {Process{UID: 1000, UIDMap: []IDMap{{0, 0, 1<<32 - 1}}}, false},
		"root of a namespace":    {Process{UIDMap: []IDMap{{0, 100000, 65536}}}, false},
		"root with a hole":       {Process{UIDMap: []IDMap{{0, 0, 1}, {1, 1, 1000}}}, false},
		"root without any a map": {Process{}, false},
	} {
		if got := c.p.HostRoot(); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// security 4: a pid is checked by its start time, in /proc itself.
func TestAPidThatIsUsedAgainIsNotTheSameProcess(t *testing.T) {
	p, err := OpenProcess(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := OpenProcess(os.Getpid(), p.StartTime+1); !errors.Is(err, ErrGone) {
		t.Errorf("another start time: %v", err)
	}
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenProcess(cmd.Process.Pid, 0); !errors.Is(err, ErrGone) {
		t.Errorf("an ended process: %v", err)
	}
	for _, pid := range []int{0, -1} {
		if _, err := OpenProcess(pid, 0); !errors.Is(err, ErrGone) {
			t.Errorf("pid %d: %v", pid, err)
		}
	}
}

func TestWatcherTellsOfEachEndOnce(t *testing.T) {
	w, err := NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()

	const n = 20
	ends := make(chan int, 2*n)
	var cmds []*exec.Cmd
	for i := range n {
		cmd := exec.Command("/bin/sleep", "60")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		cmds = append(cmds, cmd)
		p, err := OpenProcess(cmd.Process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		forget, err := w.Watch(p, func() { ends <- i })
		if err != nil {
			t.Fatal(err)
		}
		if i%2 == 1 {
			forget()
			forget() // Twice is safe.
		}
	}
	for _, cmd := range cmds {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	seen := map[int]bool{}
	for len(seen) < n/2 {
		select {
		case i := <-ends:
			if seen[i] || i%2 == 1 {
				t.Errorf("process %d: told twice, or told though it was forgotten", i)
			}
			seen[i] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("told of %d ends, want %d", len(seen), n/2)
		}
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if len(ends) != 0 {
		t.Errorf("told again: %d", <-ends)
	}
}
