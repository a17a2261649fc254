package plugin

import (
	"math"
	"syscall"

	"golang.org/x/sys/unix"
)

// sealDescriptors keeps descriptors that the agent itself inherited, sockets
// that systemd handed over for one, from the programs that it starts. Those
// that Go opens are sealed from the start.
func sealDescriptors() {
	if unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC) == nil {
		return
	}
	// Linux before 5.11.
	for fd := 3; fd < 1024; fd++ {
		syscall.CloseOnExec(fd)
	}
}
