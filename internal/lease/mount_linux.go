package lease

import (
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// hostConf is the name of the file that becomes a container's /etc/krb5.conf.
const hostConf = "krb5.conf"

// Mount is a detached mount of a lease's directory: read-only, without devices,
// programs and setuid bits, in no mount namespace until somebody attaches it
// (open_tree(2), mount_setattr(2)). It needs CAP_SYS_ADMIN and Linux 5.12.
func (r *Root) Mount(id ID) (*os.File, error) {
	fd, err := r.dir.openPlain(id.String(), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, r.dir.fail("open", id.String(), err)
	}
	defer unix.Close(fd)
	return r.detach(fd, id.String())
}

// MountConf is a detached mount of a krb5.conf for a container's /etc, for programs
// that are started without the environment of a lease, as by docker exec. It takes in
// the lease's own, so that it changes with it.
func (r *Root) MountConf() (*os.File, error) {
	if err := r.writeConf(); err != nil {
		return nil, err
	}
	fd, err := r.dir.openPlain(hostConf, unix.O_PATH, 0)
	if err != nil {
		return nil, r.dir.fail("open", hostConf, err)
	}
	defer unix.Close(fd)
	return r.detach(fd, hostConf)
}

// writeConf writes the file unless it is there already.
func (r *Root) writeConf() error {
	text := "# Written by the gMSA agent.\ninclude " + MountPoint + "/" + Krb5ConfName + "\n"
	if have, err := os.ReadFile(r.File(hostConf)); err == nil && string(have) == text {
		return nil
	}
	f, err := os.CreateTemp(r.dir.path, ".krb5.conf-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Chmod(0o444)
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(f.Name(), r.File(hostConf))
	}
	if err != nil {
		return fmt.Errorf("krb5.conf for containers: %w", err)
	}
	return nil
}

// detach clones the mount below an open file or directory.
func (r *Root) detach(fd int, name string) (*os.File, error) {
	tree, err := unix.OpenTree(fd, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, r.dir.fail("open_tree", name, err)
	}
	attr := unix.MountAttr{
		Attr_set:    unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC,
		Propagation: unix.MS_PRIVATE,
	}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		unix.Close(tree)
		return nil, &fs.PathError{Op: "mount_setattr", Path: r.File(name), Err: err}
	}
	return os.NewFile(uintptr(tree), name), nil
}
