package harden

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNobodyLooksIntoTheProcess(t *testing.T) {
	if err := Process(); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0); err != nil || n != 0 {
		t.Errorf("dumpable is %d, %v", n, err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &limit); err != nil || limit.Cur != 0 || limit.Max != 0 {
		t.Errorf("core files of %+v, %v", limit, err)
	}
}
