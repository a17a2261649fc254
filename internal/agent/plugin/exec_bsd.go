//go:build unix && !linux

package plugin

import "syscall"

// sealDescriptors keeps descriptors that the agent itself inherited from the
// programs that it starts. Those that Go opens are sealed from the start.
func sealDescriptors() {
	for fd := 3; fd < 1024; fd++ {
		syscall.CloseOnExec(fd)
	}
}
