// Package peer says who is on the other end of a unix socket, and watches
// processes until they end.
//
// It answers from what the kernel and the service manager set: the credentials
// of the socket, the pidfd, the namespaces, the control group. What a process
// can choose for itself (its name, its environment, its arguments) is never
// asked. Read [Of] first, then [OpenProcess].
//
// Two rules hold everywhere. A pid alone names nobody, because it is used
// again: facts are read from /proc while a pidfd is held, and count only if the
// process was still there afterwards. And a process in foreign namespaces is
// not on this host: root in a container that has the socket bind-mounted is
// told so and sent away (security 1).
package peer

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

var (
	// ErrForeign: the caller's user, PID or mount namespace is not the host's.
	ErrForeign = errors.New("the caller is in another namespace than the agent")
	// ErrGone: the process ended before it could be looked at.
	ErrGone = errors.New("the process has ended")
	// ErrUnsupported: this system has no pidfds.
	ErrUnsupported = errors.New("peers can be identified on Linux only")
)

// Namespaces are the identities of the three namespaces that make a process
// part of this host: device and inode of /proc/PID/ns/{user,pid,mnt}.
type Namespaces struct {
	User, PID, Mount string
}

// Check returns ErrForeign, with the namespaces that differ, when o is not n.
func (n Namespaces) Check(o Namespaces) error {
	var differ []string
	for _, ns := range []struct{ name, own, peer string }{
		{"user", n.User, o.User}, {"PID", n.PID, o.PID}, {"mount", n.Mount, o.Mount},
	} {
		if ns.own != ns.peer {
			differ = append(differ, ns.name)
		}
	}
	if differ == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrForeign, strings.Join(differ, ", "))
}

// CheckUser is Check for the user namespace alone.
func (n Namespaces) CheckUser(o Namespaces) error {
	return n.Check(Namespaces{User: o.User, PID: n.PID, Mount: n.Mount})
}

// IDRange is Count consecutive ids from First on.
type IDRange struct {
	First, Count uint32
}

// Contains reports whether id lies in the range.
func (r IDRange) Contains(id uint32) bool { return id >= r.First && id-r.First < r.Count }

// ParseSubordinate reads subuid(5) or subgid(5): the ranges of the user, who is
// named there by name or by number. Lines that are not of the form
// name:first:count are passed over, as the system's own tools do.
func ParseSubordinate(file, name string, uid uint32) []IDRange {
	var ranges []IDRange
	for line := range strings.Lines(file) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 3 || f[0] != name && f[0] != strconv.FormatUint(uint64(uid), 10) || f[0] == "" {
			continue
		}
		first, err1 := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		// A range that would wrap around would contain low ids, root's among them.
		if err1 != nil || err2 != nil || count == 0 || first+count > 1<<32 {
			continue
		}
		ranges = append(ranges, IDRange{First: uint32(first), Count: uint32(count)})
	}
	return ranges
}

// IDMap is one line of /proc/PID/uid_map or gid_map: user_namespaces(7).
type IDMap struct {
	Inside, Outside, Count uint32
}

// ParseIDMap reads uid_map or gid_map.
func ParseIDMap(file string) ([]IDMap, error) {
	var maps []IDMap
	for line := range strings.Lines(file) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("id map: got %d fields, want 3", len(f))
		}
		var n [3]uint32
		for i, s := range f {
			v, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("id map: field %d: %w", i+1, err)
			}
			n[i] = uint32(v)
		}
		maps = append(maps, IDMap{Inside: n[0], Outside: n[1], Count: n[2]})
	}
	return maps, nil
}

// ToHost maps an id inside the namespace to the host's.
func ToHost(maps []IDMap, inside uint32) (uint32, bool) {
	for _, m := range maps {
		if inside >= m.Inside && inside-m.Inside < m.Count {
			return m.Outside + (inside - m.Inside), true
		}
	}
	return 0, false
}

// parseCgroup takes the path that the service manager uses from /proc/PID/cgroup: on a
// unified host that of the one hierarchy; on others that of the hierarchy called
// name=systemd, if there is one (cgroups(7)). A kernel may list the latter also where
// nobody has mounted it.
func parseCgroup(file string, unifiedHost bool) string {
	var unified, named string
	for line := range strings.Lines(file) {
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		switch {
		case len(f) != 3:
		case f[1] == "name=systemd":
			named = f[2]
		case f[0] == "0" && f[1] == "":
			unified = f[2]
		}
	}
	if named == "" || unifiedHost && unified != "" {
		return unified
	}
	return named
}

// UnitOf is the unit that a control group belongs to, as the system's service
// manager sees it: the first component below the slices. A process cannot leave
// it, and what a service with a delegated subtree makes below its own group
// does not change it. Empty for a group outside of every unit.
func UnitOf(cgroup string) string {
	for c := range strings.SplitSeq(strings.TrimPrefix(cgroup, "/"), "/") {
		// systemd puts a '_' before names that would clash with the kernel's files.
		c = strings.TrimPrefix(c, "_")
		if strings.HasSuffix(c, ".slice") {
			continue
		}
		if strings.HasSuffix(c, ".service") || strings.HasSuffix(c, ".scope") {
			return c
		}
		return ""
	}
	return ""
}

// pidOf takes the pid from what /proc/PID/fdinfo says of a pidfd: proc_pid_fdinfo(5).
// A process that has ended has -1, one of another PID namespace 0, and what is no
// pidfd has none.
func pidOf(fdinfo string) (int, error) {
	for line := range strings.Lines(fdinfo) {
		text, ok := strings.CutPrefix(line, "Pid:")
		if !ok {
			continue
		}
		pid, err := strconv.Atoi(strings.TrimSpace(text))
		switch {
		case err != nil:
			return 0, fmt.Errorf("pidfd: %w", err)
		case pid == 0:
			return 0, fmt.Errorf("%w: PID", ErrForeign)
		case pid < 0:
			return 0, ErrGone
		}
		return pid, nil
	}
	return 0, errors.New("the descriptor is no pidfd")
}

// parseStart takes field 22 of /proc/PID/stat, the start time in clock ticks
// since boot. The command name before it is in parentheses and may hold
// anything, parentheses and spaces included: fields are counted from the last
// one.
func parseStart(stat string) (uint64, error) {
	i := strings.LastIndexByte(stat, ')')
	if i < 0 {
		return 0, errors.New("stat: no command name")
	}
	const start = 22 - 3 // The field after the name is the third.
	f := strings.Fields(stat[i+1:])
	if len(f) <= start {
		return 0, fmt.Errorf("stat: got %d fields, want more than %d", len(f)+2, start+2)
	}
	return strconv.ParseUint(f[start], 10, 64)
}
