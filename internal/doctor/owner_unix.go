//go:build unix

package doctor

import (
	"io/fs"
	"syscall"
)

// nonblock keeps the opening of a pipe from waiting for its writer.
const nonblock = syscall.O_NONBLOCK

// ownerOf is the user whom a file belongs to.
func ownerOf(st fs.FileInfo) (uid int, known bool) {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		return int(s.Uid), true
	}
	return 0, false
}
