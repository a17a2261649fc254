package doctor

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// PlaceOf is the network of a process, such as a container's first: connections are
// made in its namespace, and its files say which name servers it asks.
func PlaceOf(name string, pid int) Place {
	return Place{
		Name: name,
		Root: fmt.Sprintf("/proc/%d/root", pid),
		Dial: func(ctx context.Context, network, address string) (conn net.Conn, err error) {
			inNetworkOf(pid, func(bad error) {
				if err = bad; err == nil {
					conn, err = new(net.Dialer).DialContext(ctx, network, address)
				}
			})
			return conn, err
		},
	}
}

// inNetworkOf calls f on a thread that is in the network namespace of a process, and
// gives the thread up: a socket stays in the namespace in which it was made.
func inNetworkOf(pid int, f func(error)) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // never unlocked, so that the thread ends with the goroutine
		f(enterNetworkOf(pid))
	}()
	<-done
}

func enterNetworkOf(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter the network of process %d: %w", pid, err)
	}
	return nil
}
