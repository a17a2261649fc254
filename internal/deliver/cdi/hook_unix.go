//go:build unix

package cdi

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// CheckHook refuses a program that the engines, which run as root, would run for
// somebody else.
func CheckHook(path string) error {
	for _, p := range []string{path, filepath.Dir(path)} {
		info, err := os.Lstat(p)
		if err != nil {
			return fmt.Errorf("the hook: %w", err)
		}
		if p == path && !info.Mode().IsRegular() {
			return fmt.Errorf("the hook %s is not a file", p)
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 || info.Mode().Perm()&0o022 != 0 {
			return fmt.Errorf("the hook: %s belongs to uid %d with mode %#o; want root, and nobody else to write to it", p, owner, info.Mode().Perm())
		}
	}
	return nil
}
