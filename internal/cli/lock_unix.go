//go:build unix

package cli

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// lockFile takes the write lock that MIT's library takes on a cache; closing
// any descriptor of the file gives it back.
func lockFile(f *os.File) error {
	return syscall.FcntlFlock(f.Fd(), syscall.F_SETLKW, &syscall.Flock_t{Type: syscall.F_WRLCK, Whence: io.SeekStart})
}

func isReadOnly(err error) bool { return errors.Is(err, syscall.EROFS) }
