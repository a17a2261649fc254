package ocihook

import (
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/hookapi"
)

// Run does what the hook is for. It must run once in a process, which ends
// afterwards: it moves the calling thread into the container's mount namespace.
func Run(ctx context.Context, o Options, stdin io.Reader) error {
	s, err := readState(stdin)
	if err != nil {
		return err
	}
	if o.IfAnnotated && passes(s) {
		return nil
	}
	switch o.Stage {
	case CreateRuntime:
		ctx, cancel := context.WithTimeout(ctx, hookapi.Timeout)
		defer cancel()
		return create(ctx, o, s)
	case Poststop:
		ctx, cancel := context.WithTimeout(ctx, hookapi.EndTimeout)
		defer cancel()
		_, _, err := hookapi.Call(ctx, o.Socket, hookapi.Request{Op: hookapi.End, Container: s.ID})
		return err
	}
	return fmt.Errorf("stage %q: the hook runs as %s and %s", o.Stage, CreateRuntime, Poststop)
}

// passes tells whether a hook that all containers have has nothing to do for this one: it
// holds a pod's namespaces, it is not annotated, or it has a hook of its own. A bundle that
// cannot be read is for create to report.
func passes(s state) bool {
	if s.Annotations[criType] == "sandbox" || SpecOf(s.Annotations, s.Annotations[criContainer]) == "" {
		return true
	}
	b, err := readBundle(s.Bundle)
	return err == nil && b.asks()
}

// create gets a lease for the container and attaches it.
func create(ctx context.Context, o Options, s state) error {
	b, err := readBundle(s.Bundle)
	if err != nil {
		return err
	}
	r, err := request(o, s, b)
	if err != nil {
		return err
	}
	process, err := openProcess(s.PID)
	if err != nil {
		return err
	}
	defer process.Close()
	reply, mounts, err := hookapi.Call(ctx, o.Socket, r, process)
	if err != nil {
		return err
	}
	// The lease of a container that does not start ends with its first process.
	return attach(process, b.Root.Path, reply.Mounts, mounts)
}

// openProcess takes hold of the container's first process, which waits for the hook.
func openProcess(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("process %d of the container: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}
