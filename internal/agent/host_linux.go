package agent

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/harden"
	"github.com/opengmsa/opengmsa/internal/hookapi"
)

// Harden keeps other processes of the same user out of this one, and its memory
// out of core files (security 15), and its descriptors out of the programs that
// it starts. It also gives the process the umask that its modes are meant for: with
// a stricter one, workloads could not enter the directories above their leases.
func Harden() error {
	unix.Umask(0o022)
	if err := harden.Process(); err != nil {
		return err
	}
	return closeOnExec()
}

// closeOnExec keeps every descriptor from programs that are started. Our own are
// opened so; this is for those that whoever started us left open.
func closeOnExec() error {
	if err := unix.CloseRange(3, 1<<31-1, unix.CLOSE_RANGE_CLOEXEC); err != nil && !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("close_range: %w", err)
	}
	return nil
}

// ErrRunning means that another agent serves the same socket or leases.
var ErrRunning = errors.New("another agent is running")

// Listen opens the agent's socket. What a killed agent left at its path is
// replaced; a socket on which somebody answers is not.
func Listen(c config.Config) (net.Listener, error) {
	return listen("unix", c.Socket, os.FileMode(c.SocketMode))
}

// ListenHooks opens the socket for the hooks of container runtimes.
func ListenHooks(c config.Config) (*net.UnixListener, error) {
	return listen(hookapi.Network, c.Containers.HookSocket, hookMode(c))
}

// hookMode is the mode of that socket: root's alone, unless a rule is for the containers
// of other users.
func hookMode(c config.Config) os.FileMode {
	if (policy.Policy{Containers: c.Containers.Rules}).AnyRootless() {
		return 0o666
	}
	return 0o600
}

// ListenTasks opens the socket of the ECS agent, which is root's alone.
func ListenTasks(c config.Config) (*net.UnixListener, error) {
	return listen("unix", c.ECS.Socket, 0o600)
}

func listen(network, path string, mode os.FileMode) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != os.ModeSocket {
			return nil, fmt.Errorf("socket %s: there is a file that is no socket", path)
		}
		if conn, err := net.DialTimeout(network, path, time.Second); err == nil {
			conn.Close()
			return nil, fmt.Errorf("socket %s: %w", path, ErrRunning)
		}
	}
	// Bound under another name and with its final mode before it can be found.
	temporary := path + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l, err := net.ListenUnix(network, &net.UnixAddr{Name: temporary, Net: network})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	l.SetUnlinkOnClose(false)
	err = os.Chmod(temporary, mode)
	if err == nil {
		err = os.Rename(temporary, path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close(), os.Remove(temporary))
	}
	return l, nil
}

// lockFile takes a lock that goes with the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if err == unix.EWOULDBLOCK {
			return nil, ErrRunning
		}
		return nil, err
	}
	return f, nil
}
