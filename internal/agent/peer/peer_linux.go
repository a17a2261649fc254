package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// soPeerPIDFD is SO_PEERPIDFD of Linux 6.5: the pidfd of the process that
// connected, without a race.
const soPeerPIDFD = 77

// Process is a running process of this host that is held by its pidfd, so that
// it cannot be confused with a later one of the same pid. Close releases it.
type Process struct {
	// PID is the process as the agent's PID namespace has it.
	PID int
	// StartTime is in clock ticks since boot; together with the pid it names a
	// process across a restart of the agent, though not across a boot.
	StartTime uint64
	// UID and GID are the process's effective ids (for a [Peer], those that the
	// socket had when it connected), in the agent's user namespace.
	UID, GID uint32
	// Cgroup is the path in the service manager's hierarchy; Unit is what
	// [UnitOf] makes of it.
	Cgroup, Unit string
	// Namespaces of the process.
	Namespaces Namespaces
	// UIDMap and GIDMap of its user namespace.
	UIDMap, GIDMap []IDMap

	fd int
}

// Of identifies the process that connected. It returns ErrForeign for one that
// is not on this host, and ErrGone for one that ended meanwhile.
func Of(conn *net.UnixConn, own Namespaces) (*Process, error) {
	return identify(conn, func(p *Process) error { return own.Check(p.Namespaces) })
}

// OfContainer is Of for a caller that may be in a container, as long as its user
// namespace is the host's: root of a namespace of its own is nobody here.
func OfContainer(conn *net.UnixConn, own Namespaces) (*Process, error) {
	return identify(conn, func(p *Process) error { return own.CheckUser(p.Namespaces) })
}

// identify finds out which process connected, and whether it is one for the caller.
func identify(conn *net.UnixConn, check func(*Process) error) (*Process, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	fd := -1
	var credErr, fdErr error
	err = raw.Control(func(s uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(s), unix.SOL_SOCKET, unix.SO_PEERCRED)
		fd, fdErr = unix.GetsockoptInt(int(s), unix.SOL_SOCKET, soPeerPIDFD)
	})
	if err := errors.Join(err, credErr); err != nil {
		return nil, fmt.Errorf("credentials of the socket: %w", err)
	}
	if cred.Pid == 0 {
		closeFD(fd, fdErr)
		return nil, fmt.Errorf("%w: PID", ErrForeign)
	}
	if fdErr != nil {
		// Before Linux 6.5 the pidfd is opened by number. The pid could be another
		// process's by now only if the caller ended while its connection waited;
		// its user is still the one that connected, and the namespaces, the unit
		// and the start time are checked on whoever is found.
		if fd, err = unix.PidfdOpen(int(cred.Pid), 0); err != nil {
			return nil, gone(err)
		}
	}
	p, err := describe(int(cred.Pid), fd)
	if err != nil {
		return nil, err
	}
	p.UID, p.GID = cred.Uid, cred.Gid
	if err := check(p); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// OpenProcess takes hold of a process by its pid, such as the workload that a
// runtime reports. A nonzero start must be the process's own start time.
func OpenProcess(pid int, start uint64) (*Process, error) {
	if pid <= 0 {
		return nil, fmt.Errorf("pid %d: %w", pid, ErrGone)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, gone(err)
	}
	p, err := describe(pid, fd)
	if err != nil {
		return nil, err
	}
	if start != 0 && p.StartTime != start {
		p.Close()
		return nil, fmt.Errorf("pid %d started at tick %d, want %d: %w", pid, p.StartTime, start, ErrGone)
	}
	return p, nil
}

// OpenPIDFD takes hold of the process that a pidfd refers to, which somebody sent: the
// kernel says which one that is. fd stays the caller's.
func OpenPIDFD(fd int) (*Process, error) {
	info, err := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", fd))
	if err != nil {
		return nil, err
	}
	pid, err := pidOf(string(info))
	if err != nil {
		return nil, err
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return describe(pid, own)
}

// Clone takes hold of the same process once more, as it was described before.
// The pidfd is a new one and no duplicate, so that closing it ends its watches.
func (p *Process) Clone() (*Process, error) {
	fd, err := unix.PidfdOpen(p.PID, 0)
	if err != nil {
		return nil, gone(err)
	}
	if !p.Alive() { // then the number may be another's
		unix.Close(fd)
		return nil, fmt.Errorf("process %d: %w", p.PID, ErrGone)
	}
	c := *p
	c.fd = fd
	return &c, nil
}

// Own returns the namespaces of this process.
func Own() (Namespaces, error) { return namespaces("/proc/self") }

// describe reads what /proc says of the process. It owns fd.
func describe(pid, fd int) (p *Process, err error) {
	unix.CloseOnExec(fd)
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	dir := fmt.Sprintf("/proc/%d", pid)
	p = &Process{PID: pid, fd: fd}
	if p.Namespaces, err = namespaces(dir); err != nil {
		return nil, gone(err)
	}
	files := map[string]string{"stat": "", "cgroup": "", "uid_map": "", "gid_map": ""}
	for name := range files {
		b, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			return nil, gone(err)
		}
		files[name] = string(b)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return nil, gone(err)
	}
	p.UID, p.GID = st.Uid, st.Gid
	p.Cgroup = parseCgroup(files["cgroup"], unifiedHost())
	p.Unit = UnitOf(p.Cgroup)
	start, err1 := parseStart(files["stat"])
	uids, err2 := ParseIDMap(files["uid_map"])
	gids, err3 := ParseIDMap(files["gid_map"])
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("process %d: %w", pid, err)
	}
	p.StartTime, p.UIDMap, p.GIDMap = start, uids, gids
	// All of the above was read by number. It is this process's only if this
	// process still is.
	if !p.Alive() {
		return nil, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	return p, nil
}

// Alive reports whether the process still runs. A zombie has ended.
func (p *Process) Alive() bool {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n == 0
	}
}

// Signal sends a signal to the process, and to no later one of its pid.
func (p *Process) Signal(s syscall.Signal) error { return unix.PidfdSendSignal(p.fd, s, nil, 0) }

// Close releases the pidfd. It is idempotent, and does nothing to the process.
func (p *Process) Close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}

// HostRoot reports whether the process is root of the initial user namespace:
// uid 0 there, with the whole range of ids mapped onto itself.
func (p *Process) HostRoot() bool {
	all := len(p.UIDMap) == 1 && p.UIDMap[0] == IDMap{Count: 1<<32 - 1}
	return p.UID == 0 && all
}

func namespaces(dir string) (Namespaces, error) {
	var n Namespaces
	for _, ns := range []struct {
		name string
		to   *string
	}{{"user", &n.User}, {"pid", &n.PID}, {"mnt", &n.Mount}} {
		var st unix.Stat_t
		if err := unix.Stat(dir+"/ns/"+ns.name, &st); err != nil {
			return Namespaces{}, fmt.Errorf("%s namespace: %w", ns.name, err)
		}
		*ns.to = fmt.Sprintf("%d:%d", st.Dev, st.Ino)
	}
	return n, nil
}

// gone turns what the kernel says of a missing process into ErrGone.
func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) || strings.Contains(err.Error(), "no such process") {
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	return err
}

func closeFD(fd int, err error) {
	if err == nil {
		unix.Close(fd)
	}
}

// unifiedHost tells whether control groups have one hierarchy here.
var unifiedHost = sync.OnceValue(func() bool {
	var st unix.Statfs_t
	return unix.Statfs("/sys/fs/cgroup", &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
})
