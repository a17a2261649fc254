//go:build unix

package lab

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFile opens the file and locks it for this process and those that inherit it.
// Without wait it fails when another process holds the lock.
func lockFile(path string, wait bool) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	how := syscall.LOCK_EX
	if !wait {
		how |= syscall.LOCK_NB
	}
	for {
		err = syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// ownSession puts the program out of reach of the terminal's signals, so that ^C
// lets it tidy up after the tests.
func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// signalGroup signals a process group that the lab started.
func signalGroup(pid int, sig syscall.Signal) error { return syscall.Kill(-pid, sig) }

const (
	sigStop     = syscall.SIGSTOP
	sigContinue = syscall.SIGCONT
)
