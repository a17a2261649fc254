//go:build unix

package plugin

import (
	"fmt"
	"os"
	"syscall"
)

// nonblock keeps the open of a named pipe from waiting for a writer; what is
// no regular file is refused afterwards.
const nonblock = syscall.O_NONBLOCK

// checkPrivate refuses an open file that others than its owner may access, or
// whose owner is neither root nor the agent's user.
func checkPrivate(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return storeError(err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%w: %s has mode %04o; hint: chmod 0600 %s", ErrFetch, f.Name(), mode, f.Name())
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s is owned by uid %d, want root or the agent's own user", ErrFetch, f.Name(), st.Uid)
	}
	return nil
}
