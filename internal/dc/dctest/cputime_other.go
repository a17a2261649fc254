//go:build !unix

package dctest

import (
	"testing"
	"time"
)

// CPUTime skips the benchmark: there is no getrusage here.
func CPUTime(tb testing.TB) time.Duration {
	tb.Helper()
	tb.Skip("this system does not tell the processor time of a process")
	return 0
}
