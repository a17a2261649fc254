package lease

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/secret"
)

// Storage says where leases lie.
type Storage struct {
	// Path is the directory; empty means [DefaultPath].
	Path string
	// AllowSwap accepts a tmpfs whose pages may be swapped to a disk. Without
	// it, root gets a tmpfs with noswap (Linux 6.4) or a ramfs mounted at Path,
	// and everybody else needs one there.
	AllowSwap bool
	// Size bounds a tmpfs that is mounted here, in bytes; zero means
	// [DefaultSize].
	Size int64
}

// DefaultSize is room for 16,000 leases of 16 KiB.
const DefaultSize = 256 << 20

// The reasons to refuse a directory.
var (
	// ErrDisk is a directory whose file system is kept on a disk.
	ErrDisk = errors.New("leases must lie on tmpfs or ramfs")
	// ErrSwap is a tmpfs whose pages may be swapped out.
	ErrSwap = errors.New("this tmpfs may be swapped to a disk")
	// ErrOwner is a directory that somebody else can write to.
	ErrOwner = errors.New("directory is not the agent's alone")
)

// DefaultPath is /run/gmsa/leases for root; for others gmsa/leases below
// XDG_RUNTIME_DIR or, where that is not set, below /dev/shm in a directory of
// the user's own.
func DefaultPath() string {
	if os.Geteuid() == 0 {
		return "/run/gmsa/leases"
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "gmsa", "leases")
	}
	return filepath.Join("/dev/shm", "gmsa-"+strconv.Itoa(os.Geteuid()), "leases")
}

// Root is the directory of all leases of an agent. Its methods may be used
// concurrently for different leases.
type Root struct {
	dir  dirFD
	seed maphash.Seed // of the sums by which a Dir knows what it shows
}

// Open makes the directory where there is none, mounts what must be mounted,
// and checks that nothing in it can reach a disk.
func (s Storage) Open() (*Root, error) {
	if s.Path == "" {
		s.Path = DefaultPath()
	}
	if s.Size == 0 {
		s.Size = DefaultSize
	}
	if !filepath.IsAbs(s.Path) {
		return nil, fmt.Errorf("lease directory %q: not an absolute path", s.Path)
	}
	if err := s.prepare(); err != nil {
		return nil, fmt.Errorf("lease directory %s: %w", s.Path, err)
	}
	dir, err := dirFD{fd: unix.AT_FDCWD, plain: umaskIsPlain()}.openDir(s.Path)
	if err != nil {
		return nil, fmt.Errorf("lease directory: %w", err)
	}
	return &Root{dir: dir, seed: maphash.MakeSeed()}, nil
}

// Close releases the directory; the leases stay.
func (r *Root) Close() error { return unix.Close(r.dir.fd) }

// Path is the directory's path on the host.
func (r *Root) Path() string { return r.dir.path }

// Kind says in words what keeps the leases: "tmpfs without swap", "ramfs" or
// "tmpfs that may be swapped".
func (r *Root) Kind() string {
	var st unix.Statfs_t
	if err := unix.Fstatfs(r.dir.fd, &st); err == nil && int64(st.Type) == unix.RAMFS_MAGIC {
		return "ramfs"
	}
	if k, err := kindOf(r.dir.path); err == nil && k == memoryOnly {
		return "tmpfs without swap"
	}
	return "tmpfs that may be swapped"
}

// Create makes the directory of a new lease and fills it.
func (r *Root) Create(id ID, owner Owner, c Content) (*Dir, error) {
	if err := owner.Validate(); err != nil {
		return nil, err
	}
	if err := r.dir.mkdir(id.String()); err != nil {
		return nil, fmt.Errorf("lease %s: %w", id, err)
	}
	d := &Dir{root: r, id: id, owner: owner}
	if err := d.Write(c); err != nil {
		return nil, errors.Join(err, r.Remove(id))
	}
	return d, nil
}

// Open takes over the directory that an agent before this one made: what it
// shows stays until [Dir.Write], what that agent left half-done is removed.
func (r *Root) Open(id ID, owner Owner) (*Dir, error) {
	if err := owner.Validate(); err != nil {
		return nil, err
	}
	d := &Dir{root: r, id: id, owner: owner}
	if err := d.recover(); err != nil {
		return nil, fmt.Errorf("take over lease %s: %w", id, err)
	}
	return d, nil
}

// Remove removes a lease's directory; it is no error if there is none. A
// workload that has it mounted sees it empty.
func (r *Root) Remove(id ID) error {
	if err := r.dir.removeAll(id.String(), maxDepth); err != nil {
		return fmt.Errorf("remove lease %s: %w", id, err)
	}
	return nil
}

// Alias gives a file at the top of a lease's directory a second name there, for
// programs that look for it under that one.
func (r *Root) Alias(id ID, alias, file string) error {
	if err := r.dir.below(id.String()).symlink(dataLink+"/"+file, alias); err != nil {
		return fmt.Errorf("lease %s: %w", id, err)
	}
	return nil
}

// maxFile bounds what [Root.Read] reads, in bytes.
const maxFile = 1 << 20

// Read returns a file that a lease shows, of one of its accounts, by the names
// of [AccountFiles]. It follows no link but the directory's own two, and those
// only to where they must lead: who could write to the directory, through a
// mount that was not read-only, must not make the agent read for it.
func (r *Root) Read(id ID, account, name string) (secret.Bytes, error) {
	dir := r.dir.below(id.String())
	version, err := currentVersion(dir)
	if err != nil {
		return secret.Bytes{}, err
	}
	top := dir.below(versionName(version))
	b, err := top.read(AccountsDir+"/"+account+"/"+name, maxFile)
	if errors.Is(err, unix.ELOOP) { // the primary account's link
		b, err = top.read(name, maxFile)
	}
	return secret.New(b), err
}

// Sweep removes the directories of all leases that keep does not want: those
// whose creation or removal an agent did not live to finish. Files that are
// not a lease's directory stay. It reports how many it removed.
func (r *Root) Sweep(keep func(ID) bool) (removed int, err error) {
	names, err := r.dir.list()
	if err != nil {
		return 0, fmt.Errorf("sweep leases: %w", err)
	}
	var errs []error
	for _, name := range names {
		id, err := ParseID(name)
		if err != nil || keep(id) {
			continue
		}
		if err := r.Remove(id); err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}

// File is the path of a file beside the leases, such as the agent's journal,
// which lies here because this is where nothing reaches a disk.
func (r *Root) File(name string) string { return path.Join(r.dir.path, name) }

// prepare makes s.Path a directory that is the agent's own and on a file
// system that never reaches a disk.
func (s Storage) prepare() error {
	if err := s.makeDirectory(); err != nil {
		return err
	}
	kind, err := kindOf(s.Path)
	if err != nil {
		return err
	}
	if kind != memoryOnly && !(kind == swappable && s.AllowSwap) && os.Geteuid() == 0 {
		if err := s.mount(); err != nil {
			return err
		}
		if kind, err = kindOf(s.Path); err != nil {
			return err
		}
	}
	switch {
	case kind == disk:
		return ErrDisk
	case kind == swappable && !s.AllowSwap:
		return ErrSwap
	}
	return checkOwner(s.Path)
}

// makeDirectory makes the last two elements of the path: a directory of the
// agent's, open to all for its socket, and in it the leases, which can be
// entered by who knows an ID, but not listed.
func (s Storage) makeDirectory() error {
	parent := filepath.Dir(s.Path)
	mode := os.FileMode(0o755)
	if os.Geteuid() != 0 {
		mode = 0o700
	}
	switch err := os.Mkdir(parent, mode); {
	case err == nil:
		if err := os.Chmod(parent, mode); err != nil {
			return err
		}
	case !errors.Is(err, os.ErrExist):
		return err
	}
	if os.Geteuid() != 0 {
		// Below /dev/shm anybody may have been here first.
		if err := checkOwner(parent); err != nil {
			return err
		}
	}
	err := os.Mkdir(s.Path, 0o711)
	if errors.Is(err, os.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return os.Chmod(s.Path, 0o711) // whatever the umask
}

// checkOwner refuses a directory that another user owns or may write to, and a
// symbolic link.
func checkOwner(path string) error {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("%s, uid %d, mode %#o: %w", path, st.Uid, st.Mode&0o7777, ErrOwner)
	}
	return nil
}

// kind is what can become of a file system's pages.
type kind int

const (
	disk       kind = iota // they are written to a disk
	swappable              // they may be, to a swap device
	memoryOnly             // they never are
)

func kindOf(path string) (kind, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return disk, &os.PathError{Op: "statfs", Path: path, Err: err}
	}
	switch int64(st.Type) {
	case unix.RAMFS_MAGIC:
		return memoryOnly, nil
	case unix.TMPFS_MAGIC:
		noswap, err := hasNoswap(path)
		if err != nil || !noswap {
			return swappable, err
		}
		return memoryOnly, nil
	}
	return disk, nil
}

// hasNoswap looks the option up in the mount table: no system call tells it.
func hasNoswap(path string) (bool, error) {
	var stx unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, 0, unix.STATX_MNT_ID, &stx); err != nil {
		return false, &os.PathError{Op: "statx", Path: path, Err: err}
	}
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	return noswapInTable(string(table), stx.Mnt_id), nil
}

// noswapInTable reads /proc/self/mountinfo, proc_pid_mountinfo(5): the mount's
// id comes first, the file system's options last.
func noswapInTable(table string, mount uint64) bool {
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 10 || fields[0] != strconv.FormatUint(mount, 10) {
			continue
		}
		for option := range strings.SplitSeq(fields[len(fields)-1], ",") {
			if option == "noswap" {
				return true
			}
		}
	}
	return false
}

// mount mounts a tmpfs that does not swap or, on a kernel that has none, a
// ramfs. It stays when the agent ends: the leases outlive it.
func (s Storage) mount() error {
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	options := fmt.Sprintf("mode=0711,size=%d,nr_inodes=1m,noswap", s.Size)
	err := unix.Mount("gmsa", s.Path, "tmpfs", flags, options)
	if errors.Is(err, unix.EINVAL) {
		err = unix.Mount("gmsa", s.Path, "ramfs", flags, "mode=0711")
	}
	if errors.Is(err, unix.EPERM) {
		return nil // root of a container or user namespace: what is there must do
	}
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return nil
}
