package peer

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Watcher tells when processes end. One goroutine and one epoll instance serve
// all of them, so that ten thousand workloads cost ten thousand descriptors and
// no stacks. Run must run for it to tell anything.
type Watcher struct {
	epoll int
	// wake is an eventfd that ends Run.
	wake int

	// mu guards the fields below.
	mu    sync.Mutex
	ended map[int32]watched // by pidfd
}

type watched struct {
	process *Process
	notify  func()
}

// NewWatcher opens a watcher. Close releases it.
func NewWatcher() (*Watcher, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("watch processes: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, wake, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(wake)})
	}
	if err != nil {
		unix.Close(epoll)
		return nil, fmt.Errorf("watch processes: %w", err)
	}
	return &Watcher{epoll: epoll, wake: wake, ended: map[int32]watched{}}, nil
}

// Watch takes ownership of p and calls notify once, from Run's goroutine, when
// the process has ended; then p is closed. The returned function takes the
// watch back and closes p; after it returns, notify is not called any more,
// unless its call has begun already.
func (w *Watcher) Watch(p *Process, notify func()) (forget func(), err error) {
	fd := int32(p.fd)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended[fd] = watched{process: p, notify: notify}
	// One-shot: a pidfd stays readable for ever once its process has ended.
	err = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, int(fd), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLONESHOT, Fd: fd})
	if err != nil {
		delete(w.ended, fd)
		return nil, fmt.Errorf("watch process %d: %w", p.PID, err)
	}
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		// The descriptor's number may be another process's by now.
		if e := w.ended[fd]; e.process == p {
			w.drop(fd)
		}
	}, nil
}

// drop removes a watch and closes its process; mu is held.
func (w *Watcher) drop(fd int32) {
	e := w.ended[fd]
	delete(w.ended, fd)
	// Closing the descriptor takes it out of the epoll set; it was not duplicated.
	e.process.Close()
}

// takeEnded removes the watch of a process that has ended and returns whom to
// tell. An event can be older than the watch: its descriptor was closed and the
// number used again since. Then the process is alive, and its own event is
// still to come.
func (w *Watcher) takeEnded(fd int32) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	e, ok := w.ended[fd]
	if !ok || e.process.Alive() {
		return nil
	}
	w.drop(fd)
	return e.notify
}

// Run tells of ended processes until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() {
		// The counter of an eventfd that nobody else writes cannot overflow.
		_, _ = unix.Write(w.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer stop()
	events := make([]unix.EpollEvent, 128)
	for {
		n, err := unix.EpollWait(w.epoll, events, -1)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("watch processes: %w", err)
		}
		for _, e := range events[:n] {
			if int(e.Fd) == w.wake {
				return context.Cause(ctx)
			}
			if notify := w.takeEnded(e.Fd); notify != nil {
				notify()
			}
		}
	}
}

// Close ends all watches without telling anybody. Run must have returned.
func (w *Watcher) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for fd := range w.ended {
		w.drop(fd)
	}
	return errors.Join(unix.Close(w.epoll), unix.Close(w.wake))
}
