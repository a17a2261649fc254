//go:build unix

package dctest

import (
	"syscall"
	"testing"
	"time"
)

// CPUTime is the processor time that this process has used, its children left out: what
// a server in a benchmark costs while another process asks it.
func CPUTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
