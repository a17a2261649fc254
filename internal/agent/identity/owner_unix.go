//go:build unix

package identity

import (
	"io/fs"
	"os"
	"syscall"
)

// chown gives f the owner that info has.
func chown(f *os.File, info fs.FileInfo) error {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	return f.Chown(int(st.Uid), int(st.Gid))
}
