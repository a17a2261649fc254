package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// OfHook is [Of] for the hook of a container runtime. Podman with --userns leaves the
// host's mount namespace before it starts its runtime, and podman of a user leaves the
// user namespace as well. They are told from what runs in containers by what a container
// is not given, all of it together: the host's PID namespace, the host's root directory,
// and CAP_SYS_ADMIN in its user namespace; and that namespace is the host's for root, or
// one that the user has made in it. Who has all that in a container (privileged, with the
// host's processes and its root directory) is the host's user in every other respect too.
func OfHook(conn *net.UnixConn, own Namespaces) (*Process, error) {
	return identify(conn, func(p *Process) error { return p.checkHook(own) })
}

func (p *Process) checkHook(own Namespaces) error {
	foreign := own.Check(p.Namespaces)
	if foreign == nil {
		return nil
	}
	if p.Namespaces.PID != own.PID {
		return foreign
	}
	for _, check := range []func() error{p.checkRoot, p.checkAdmin, func() error { return p.checkUserNamespace(own) }} {
		if err := check(); err != nil {
			return fmt.Errorf("%w; %w", foreign, err)
		}
	}
	if !p.Alive() { // then all of that was read of another process, maybe
		return fmt.Errorf("process %d: %w", p.PID, ErrGone)
	}
	return nil
}

// checkRoot compares the process's root directory with our own.
func (p *Process) checkRoot() error {
	var own, its unix.Stat_t
	if err := errors.Join(unix.Stat("/", &own), unix.Stat(fmt.Sprintf("/proc/%d/root/", p.PID), &its)); err != nil {
		return err
	}
	if own.Dev != its.Dev || own.Ino != its.Ino {
		return errors.New("its root directory is not the host's")
	}
	return nil
}

// checkAdmin looks for CAP_SYS_ADMIN in the process's own user namespace.
func (p *Process) checkAdmin() error {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	if err != nil {
		return gone(err)
	}
	effective, err := parseCapabilities(string(b))
	if err != nil {
		return err
	}
	if effective&(1<<unix.CAP_SYS_ADMIN) == 0 {
		return errors.New("it lacks CAP_SYS_ADMIN")
	}
	return nil
}

// parseCapabilities takes the effective set from /proc/PID/status.
func parseCapabilities(status string) (uint64, error) {
	for line := range strings.Lines(status) {
		if text, ok := strings.CutPrefix(line, "CapEff:"); ok {
			return strconv.ParseUint(strings.TrimSpace(text), 16, 64)
		}
	}
	return 0, errors.New("status has no CapEff")
}

// checkUserNamespace wants the host's of root, and of another user one that the same user
// has made in the host's (ioctl_ns(2)).
func (p *Process) checkUserNamespace(own Namespaces) error {
	if p.UID == 0 {
		if p.Namespaces.User != own.User {
			return errors.New("it is root of another user namespace")
		}
		return nil
	}
	if p.Namespaces.User == own.User {
		return errors.New("it is not root")
	}
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", p.PID))
	if err != nil {
		return gone(err)
	}
	defer ns.Close()
	owner, err := unix.IoctlGetUint32(int(ns.Fd()), unix.NS_GET_OWNER_UID)
	if err != nil {
		return fmt.Errorf("owner of the user namespace: %w", err)
	}
	if owner != p.UID {
		return fmt.Errorf("uid %d is in a user namespace of uid %d", p.UID, owner)
	}
	fd, err := unix.IoctlRetInt(int(ns.Fd()), unix.NS_GET_PARENT)
	if err != nil {
		return fmt.Errorf("parent of the user namespace: %w", err)
	}
	defer unix.Close(fd)
	var parent unix.Stat_t
	if err := unix.Fstat(fd, &parent); err != nil {
		return err
	}
	if fmt.Sprintf("%d:%d", parent.Dev, parent.Ino) != own.User {
		return errors.New("its user namespace is not one below the host's")
	}
	return nil
}
