package demo

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"time"
)

// Clock is a clock that all programs of a demo share: the machine's, moved by an offset
// that is 8 bytes of a file.
type Clock struct{ file *os.File }

// CreateClock makes the file of a clock that is offset from the machine's.
func CreateClock(path string, offset time.Duration) (*Clock, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	c := &Clock{file: f}
	return c, c.Set(offset)
}

// OpenClock opens the clock that another program made.
func OpenClock(path string) (*Clock, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return &Clock{file: f}, nil
}

// Set moves the clock: all that ask it from now on see the new time.
func (c *Clock) Set(offset time.Duration) error {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(offset))
	_, err := c.file.WriteAt(b[:], 0)
	return err
}

// Now is the time. A file that cannot be read any more leaves the machine's: it goes with
// the demo, and so does whoever asks.
func (c *Clock) Now() time.Time {
	var b [8]byte
	if _, err := c.file.ReadAt(b[:], 0); err != nil {
		return time.Now()
	}
	return time.Now().Add(time.Duration(binary.BigEndian.Uint64(b[:])))
}

// Close closes the file.
func (c *Clock) Close() error { return c.file.Close() }

// Script is a file that is gmsa by the demo's clock. The kernel starts the program that
// its first line names, with the demo command and the script's own path as arguments, which
// then reads the second line: so that it needs no shell, in a container of one file, and so
// that no option and no variable moves the clock of gmsa itself.
func Script(program, clock string) []byte {
	return fmt.Appendf(nil, "#!%s demo\n%s\n", program, clock)
}

// maxScript bounds a script, in bytes: two paths.
const maxScript = 2*4096 + 64

// ReadScript is the path of the clock that a script names. ok is false if the file is none.
func ReadScript(path string) (clock string, ok bool) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) > maxScript {
		return "", false
	}
	lines := bytes.Split(b, []byte("\n"))
	if len(lines) != 3 || !bytes.HasPrefix(lines[0], []byte("#!")) || !bytes.HasSuffix(lines[0], []byte(" demo")) {
		return "", false
	}
	return string(lines[1]), true
}
