//go:build unix

package cli

import (
	"fmt"
	"syscall"
)

// exec replaces this process by the command; it returns only if that fails.
func (j job) exec() error {
	if j.switches {
		if err := j.become(); err != nil {
			return err
		}
	}
	if err := syscall.Exec(j.path, j.argv, j.env); err != nil {
		return fmt.Errorf("command %s: %w", j.path, err)
	}
	return nil
}

// become takes on the user: groups first, while that is still allowed.
func (j job) become() error {
	if err := syscall.Setgroups(j.groups); err != nil {
		return fmt.Errorf("groups of uid %d: %w", j.uid, err)
	}
	if err := syscall.Setgid(int(j.gid)); err != nil {
		return fmt.Errorf("gid %d: %w", j.gid, err)
	}
	if err := syscall.Setuid(int(j.uid)); err != nil {
		return fmt.Errorf("uid %d: %w", j.uid, err)
	}
	return nil
}
