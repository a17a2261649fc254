//go:build !linux

package peer

import (
	"context"
	"net"
)

// Process is a running process; see the Linux part.
type Process struct {
	PID            int
	StartTime      uint64
	UID, GID       uint32
	Cgroup, Unit   string
	Namespaces     Namespaces
	UIDMap, GIDMap []IDMap
}

// Of fails: ErrUnsupported.
func Of(*net.UnixConn, Namespaces) (*Process, error) { return nil, ErrUnsupported }

// OfHook fails: ErrUnsupported.
func OfHook(*net.UnixConn, Namespaces) (*Process, error) { return nil, ErrUnsupported }

// OpenProcess fails: ErrUnsupported.
func OpenProcess(int, uint64) (*Process, error) { return nil, ErrUnsupported }

// Own fails: ErrUnsupported.
func Own() (Namespaces, error) { return Namespaces{}, ErrUnsupported }

// Clone fails: ErrUnsupported.
func (*Process) Clone() (*Process, error) { return nil, ErrUnsupported }

// Alive reports false.
func (*Process) Alive() bool { return false }

// Close does nothing.
func (*Process) Close() {}

// HostRoot reports false.
func (*Process) HostRoot() bool { return false }

// Watcher watches nothing.
type Watcher struct{}

// NewWatcher fails: ErrUnsupported.
func NewWatcher() (*Watcher, error) { return nil, ErrUnsupported }

// Watch fails: ErrUnsupported.
func (*Watcher) Watch(*Process, func()) (func(), error) { return nil, ErrUnsupported }

// Run fails: ErrUnsupported.
func (*Watcher) Run(context.Context) error { return ErrUnsupported }

// Close does nothing.
func (*Watcher) Close() error { return nil }
