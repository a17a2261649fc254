package agent

import (
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileID tells a file from another that took its name within the clock's
// resolution: device, inode, and the time of the inode's last change.
func fileID(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d.%d", st.Dev, st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
}

// dirWatch gives a hint when something in the directories that it watches
// changes. Where the kernel has no watches left it gives none, and polling does
// it all.
type dirWatch struct {
	hints chan struct{}

	log  *slog.Logger
	fd   int // -1 without inotify
	file *os.File
	done chan struct{}
}

func newDirWatch(log *slog.Logger) *dirWatch {
	w := &dirWatch{hints: make(chan struct{}, 1), log: log, done: make(chan struct{})}
	var err error
	if w.fd, err = unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err != nil {
		log.Warn("no inotify; credential specs are polled", slog.Any("error", err))
		close(w.done)
		return w
	}
	w.file = os.NewFile(uintptr(w.fd), "inotify")
	go func() {
		defer close(w.done)
		buf := make([]byte, 4096) // what happened does not matter, only that something did
		for {
			if _, err := w.file.Read(buf); err != nil {
				return // closed
			}
			select {
			case w.hints <- struct{}{}:
			default:
			}
		}
	}()
	return w
}

// watch adds directories; one that is watched already stays so, and one that
// does not exist is tried again with the next call.
func (w *dirWatch) watch(dirs []string) {
	if w.file == nil {
		return
	}
	const events = unix.IN_CLOSE_WRITE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE | unix.IN_CREATE | unix.IN_ATTRIB
	for _, dir := range dirs {
		if _, err := unix.InotifyAddWatch(w.fd, dir, events|unix.IN_ONLYDIR); err != nil && err != unix.ENOENT {
			w.log.Debug("cannot watch a directory; it is polled", slog.String("path", dir), slog.Any("error", err))
		}
	}
}

func (w *dirWatch) close() {
	if w.file != nil {
		w.file.Close()
	}
	<-w.done
}
