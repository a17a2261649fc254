package lease

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// dirFD is an open directory, or one below an open one; names are relative to
// it, and a symbolic link as the last element is never followed. The system
// calls are made directly: a lease takes about twenty, and os.Root triples their
// cost.
type dirFD struct {
	fd     int
	prefix string // from the open directory: empty, or with a final slash
	path   string // for errors
	// plain says that the process's umask leaves 0755 and 0400 as they are.
	plain bool
}

func (d dirFD) fail(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: path.Join(d.path, name), Err: err}
}

// openDir opens a directory below d.
func (d dirFD) openDir(name string) (dirFD, error) {
	fd, err := unix.Openat(d.fd, d.prefix+name, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return dirFD{}, d.fail("open", name, err)
	}
	return dirFD{fd: fd, path: path.Join(d.path, name), plain: d.plain}, nil
}

// below names a directory below d without opening it. It is for directories
// that were just made and that nobody else has seen: in others the owner of a
// mount could have put a link in the way.
func (d dirFD) below(name string) dirFD {
	return dirFD{fd: d.fd, prefix: d.prefix + name + "/", path: path.Join(d.path, name), plain: d.plain}
}

// close closes what openDir opened.
func (d dirFD) close() {
	if d.prefix == "" {
		_ = unix.Close(d.fd)
	}
}

func (d dirFD) symlink(target, name string) error {
	return d.fail("symlink", name, unix.Symlinkat(target, d.fd, d.prefix+name))
}

func (d dirFD) rename(from, to string) error {
	return d.fail("rename", to, unix.Renameat(d.fd, d.prefix+from, d.fd, d.prefix+to))
}

func (d dirFD) link(from, to string) error {
	return d.fail("link", to, unix.Linkat(d.fd, d.prefix+from, d.fd, d.prefix+to, 0))
}

// remove removes what is no directory; it is no error if there is nothing.
func (d dirFD) remove(name string) error {
	err := unix.Unlinkat(d.fd, d.prefix+name, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return d.fail("remove", name, err)
}

// readlink reads a link of at most 255 bytes; a longer one is cut.
func (d dirFD) readlink(name string) (string, error) {
	var buf [255]byte
	n, err := unix.Readlinkat(d.fd, d.prefix+name, buf[:])
	if err != nil {
		return "", d.fail("readlink", name, err)
	}
	return string(buf[:n]), nil
}

// mkdir makes a directory that workloads can enter, whatever the umask.
func (d dirFD) mkdir(name string) error {
	if err := unix.Mkdirat(d.fd, d.prefix+name, 0o755); err != nil {
		return d.fail("mkdir", name, err)
	}
	if d.plain {
		return nil
	}
	return d.fail("chmod", name, unix.Fchmodat(d.fd, d.prefix+name, 0o755, 0))
}

// umaskIsPlain looks the umask up: no system call tells it without a change.
func umaskIsPlain() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(status)) {
		if text, ok := strings.CutPrefix(line, "Umask:"); ok {
			mask, err := strconv.ParseUint(strings.TrimSpace(text), 8, 32)
			return err == nil && mask&0o755 == 0
		}
	}
	return false
}

// removeDir removes a directory that is empty.
func (d dirFD) removeDir(name string) error {
	return d.fail("remove", name, unix.Unlinkat(d.fd, d.prefix+name, unix.AT_REMOVEDIR))
}

// create writes a file that its owner cannot open before it is complete: it is
// the agent's own, and readable at most, until the content is there; then it
// becomes the owner's, by descriptor.
func (d dirFD) create(name string, data []byte, owner Owner) (err error) {
	mode := uint32(owner.Mode.Perm())
	fd, err := d.openPlain(name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY, mode&0o400)
	if err != nil {
		return d.fail("create", name, err)
	}
	defer func() { err = errors.Join(err, d.fail("close", name, unix.Close(fd))) }()
	for len(data) > 0 {
		n, err := unix.Write(fd, data)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return d.fail("write", name, err)
		}
		data = data[n:]
	}
	if err := unix.Fchown(fd, int(owner.UID), int(owner.GID)); err != nil {
		return d.fail("chown", name, err)
	}
	if d.plain && mode == 0o400 {
		return nil
	}
	return d.fail("chmod", name, unix.Fchmod(fd, mode))
}

// openPlain opens a file whose name may have several elements, none of which may
// be a link (openat2, Linux 5.6; before, the last).
func (d dirFD) openPlain(name string, flags int, mode uint32) (int, error) {
	flags |= unix.O_CLOEXEC | unix.O_NOFOLLOW
	fd, err := unix.Openat2(d.fd, d.prefix+name, &unix.OpenHow{
		Flags: uint64(flags), Mode: uint64(mode), Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	})
	if err == unix.ENOSYS {
		return unix.Openat(d.fd, d.prefix+name, flags, mode)
	}
	return fd, err
}

// read reads a file of at most limit bytes.
func (d dirFD) read(name string, limit int64) ([]byte, error) {
	fd, err := d.openPlain(name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	f := os.NewFile(uintptr(fd), path.Join(d.path, name))
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, d.fail("read", name, fmt.Errorf("%v of %d bytes", info.Mode(), info.Size()))
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// list names what is in d.
func (d dirFD) list() ([]string, error) {
	fd, err := unix.Openat(d.fd, d.prefix+".", unix.O_DIRECTORY|unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, d.fail("open", ".", err)
	}
	f := os.NewFile(uintptr(fd), d.path)
	defer f.Close()
	return f.Readdirnames(-1)
}

// maxDepth bounds [dirFD.removeAll]; a lease is three directories deep.
const maxDepth = 8

// removeAll removes a directory and what is in it, following no link; it is no
// error if there is nothing.
func (d dirFD) removeAll(name string, depth int) error {
	err := unix.Unlinkat(d.fd, d.prefix+name, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) {
		return d.fail("remove", name, err)
	}
	if depth == 0 {
		return d.fail("remove", name, fmt.Errorf("over %d directories deep", maxDepth))
	}
	dir, err := d.openDir(name)
	if err != nil {
		return err
	}
	defer dir.close()
	names, err := dir.list()
	if err != nil {
		return err
	}
	for _, entry := range names {
		if err := dir.removeAll(entry, depth-1); err != nil {
			return err
		}
	}
	return d.removeDir(name)
}
