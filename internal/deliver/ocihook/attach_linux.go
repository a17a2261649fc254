package ocihook

import (
	"errors"
	"fmt"
	"os"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/hookapi"
)

// ErrTarget is a root file system in which a mount cannot be attached safely.
var ErrTarget = errors.New("cannot attach the identity")

// attach puts the mounts where they belong, in the mount namespace of the process.
// At createRuntime that namespace has the container's root at the path at which the
// runtime has it, with every mount of the configuration below it.
func attach(process *os.File, root string, mounts []hookapi.Mount, files []*os.File) error {
	// The thread's namespace is changed for good, and the thread with it.
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Setns(int(process.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("mount namespace of the container: %w", err)
	}
	r, err := openRoot(root)
	if err != nil {
		return err
	}
	defer unix.Close(r.fd)
	for i, m := range mounts {
		if err := r.attach(m, int(files[i].Fd())); err != nil {
			return fmt.Errorf("%w at %s: %w", ErrTarget, m.Target, err)
		}
	}
	return nil
}

// rootFS is a container's root file system, open.
type rootFS struct {
	fd    int
	mount uint64 // the id of its mount
}

func openRoot(path string) (rootFS, error) {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return rootFS{}, fmt.Errorf("root file system %s: %w", path, err)
	}
	id, err := mountOf(fd)
	if err != nil {
		unix.Close(fd)
		return rootFS{}, err
	}
	return rootFS{fd: fd, mount: id}, nil
}

// attach attaches one mount.
func (r rootFS) attach(m hookapi.Mount, mount int) error {
	target, err := r.target(m)
	if err != nil {
		return err
	}
	defer unix.Close(target)
	const byDescriptor = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	return unix.MoveMount(mount, "", target, "", byDescriptor)
}

// target opens the mount point, one element at a time, and makes what is missing, as
// runtimes do for their own mounts. No element may be a symbolic link or a mount,
// with one exception: above the target a tmpfs is the runtime's own (podman run
// --read-only puts one at /run).
func (r rootFS) target(m hookapi.Mount) (int, error) {
	at, err := unix.FcntlInt(uintptr(r.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	mount := r.mount
	elements := strings.Split(strings.TrimPrefix(path.Clean(m.Target), "/"), "/")
	for i, name := range elements {
		last := i == len(elements)-1
		next, err := openElement(at, name, m.Directory || !last)
		unix.Close(at)
		if err != nil {
			return -1, fmt.Errorf("/%s: %w", path.Join(elements[:i+1]...), err)
		}
		at = next
		if mount, err = checkMount(at, mount, last); err != nil {
			unix.Close(at)
			return -1, fmt.Errorf("/%s: %w", path.Join(elements[:i+1]...), err)
		}
	}
	return at, nil
}

// openElement opens a directory or a file of the directory at, after making it where
// it is missing.
func openElement(at int, name string, directory bool) (int, error) {
	how := &unix.OpenHow{
		Flags:   unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_SYMLINKS,
	}
	fd, err := unix.Openat2(at, name, how)
	if errors.Is(err, unix.ENOENT) {
		if err := makeElement(at, name, directory); err != nil {
			return -1, err
		}
		fd, err = unix.Openat2(at, name, how)
	}
	if err != nil {
		return -1, err
	}
	if err := checkKind(fd, directory); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkKind refuses what is not the directory or the file that is wanted. A symbolic
// link is opened itself, as O_PATH with O_NOFOLLOW does, and is neither.
func checkKind(fd int, directory bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFLNK:
		return errors.New("it is a symbolic link")
	case directory && kind != unix.S_IFDIR:
		return errors.New("it is not a directory")
	case !directory && kind != unix.S_IFREG:
		return errors.New("it is not a file")
	}
	return nil
}

// makeElement makes an empty directory or file. Somebody who makes it first, in a
// root that two containers share, is no fault: what is there is looked at anew.
func makeElement(at int, name string, directory bool) error {
	var err error
	if directory {
		err = unix.Mkdirat(at, name, 0o755)
	} else {
		var fd int
		fd, err = unix.Openat(at, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o644)
		if err == nil {
			err = unix.Close(fd)
		}
	}
	switch {
	case errors.Is(err, unix.EEXIST):
		return nil
	case errors.Is(err, unix.EROFS):
		return errors.New("it is missing, and the root file system is read-only; hint: make it in the image")
	}
	return err
}

// checkMount finds the mount that an element lies on, and refuses one that is another
// than the mount above it.
func checkMount(fd int, above uint64, last bool) (uint64, error) {
	id, err := mountOf(fd)
	if err != nil || id == above {
		return id, err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return 0, err
	}
	if last || int64(st.Type) != unix.TMPFS_MAGIC {
		return 0, errors.New("something is mounted there")
	}
	return id, nil
}

// mountOf is the id of the mount that a file was opened on.
func mountOf(fd int) (uint64, error) {
	var stx unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &stx); err != nil {
		return 0, fmt.Errorf("statx: %w", err)
	}
	return stx.Mnt_id, nil
}
