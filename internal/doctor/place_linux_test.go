package doctor

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The files of a container are its own work: a link out of it, a pipe without a writer
// and a file without end must not make the doctor read for it or wait.
func TestFilesOfAContainerStayInIt(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	root := t.TempDir()
	p := &placeFacts{Place: Place{Root: root}}
	if err := os.MkdirAll(root+"/etc/more", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(outside, []byte("nameserver 192.0.2.1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/etc/more/inside", []byte("nameserver 192.0.2.2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		make func(path string) error
		want string // a part of the error; empty: it is read
	}{
		"a file":          {func(path string) error { return os.WriteFile(path, []byte("nameserver 192.0.2.2\n"), 0o600) }, ""},
		"a link inside":   {func(path string) error { return os.Symlink("more/inside", path) }, ""},
		"a link outside":  {func(path string) error { return os.Symlink(outside, path) }, "escapes"},
		"a way up":        {func(path string) error { return os.Symlink("../../../../../.."+outside, path) }, "escapes"},
		"a pipe":          {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "no regular file"},
		"a directory":     {func(path string) error { return os.Mkdir(path, 0o755) }, "no regular file"},
		"nothing at all":  {func(string) error { return nil }, "no such file"},
		"an endless file": {func(path string) error { return os.Truncate(create(path), 1<<40) }, ""},
	} {
		path := root + "/etc/resolv.conf"
		os.RemoveAll(path)
		if err := c.make(path); err != nil {
			t.Fatal(err)
		}
		b, err := p.read("/etc/resolv.conf")
		switch {
		case c.want == "" && (err != nil || len(b) > maxFile):
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

// create makes an empty file and gives its path.
func create(path string) string {
	f, err := os.Create(path)
	if err == nil {
		f.Close()
	}
	return path
}
