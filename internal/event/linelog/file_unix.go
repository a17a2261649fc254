//go:build unix

package linelog

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lockFile waits for the lock of the open file: it goes with the descriptor,
// so that a killed process leaves none behind.
func lockFile(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if err != unix.EINTR {
			return err
		}
	}
}

// unlockFile gives the lock back; it cannot fail for a descriptor that is open.
func unlockFile(f *os.File) { _ = unix.Flock(int(f.Fd()), unix.LOCK_UN) }

// sameOwner gives to the owner and group of like, which an administrator may
// have set for a group of auditors.
func sameOwner(to, like *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(like.Fd()), &st); err != nil {
		return fmt.Errorf("owner of %s: %w", like.Name(), err)
	}
	if int(st.Uid) == os.Geteuid() && int(st.Gid) == os.Getegid() {
		return nil
	}
	return to.Chown(int(st.Uid), int(st.Gid))
}
