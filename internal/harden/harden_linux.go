package harden

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Process makes the process undumpable: no other process of its user may trace it or read
// its memory, and it leaves no core file. Programs that it starts are not affected by the
// former and inherit the latter.
func Process() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_DUMPABLE: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("RLIMIT_CORE: %w", err)
	}
	return nil
}
