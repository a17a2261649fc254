package lab

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Unpacked is a package of Debian whose files lie in a directory of the lab's cache,
// because it cannot be installed beside the lab's other peers.
type Unpacked struct{ Dir string }

// Libraries is where its libraries are, as LD_LIBRARY_PATH wants it.
func (u Unpacked) Libraries() string {
	dirs, _ := filepath.Glob(filepath.Join(u.Dir, "usr/lib/*-linux-gnu*")) // the pattern is well-formed
	return strings.Join(dirs, ":")
}

// unpackScript downloads a package, $2, and those it depends on whose names contain $3,
// into the directory $1 and unpacks them there.
const unpackScript = `
cd "$1" && apt-get -q download $(apt-cache depends --recurse --important "$2" | grep -v '^ ' | grep -e "$3") &&
for f in *.deb; do dpkg-deb -x "$f" . && rm "$f" || exit; done`

// Unpack downloads a package, and those that it depends on whose names contain a text,
// and unpacks them. What a package does at its installation is not done.
func Unpack(t testing.TB, pkg, related string) Unpacked {
	t.Helper()
	Need(t, "apt-get", "dpkg-deb")
	dir, err := unpack(pkg, related)
	if err != nil {
		t.Fatalf("lab: unpack %s: %v", pkg, err)
	}
	return Unpacked{dir}
}

func unpack(pkg, related string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, pkg)
	lock, err := lockFile(dir+".lock", true)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return dir, err
	}
	unfinished := dir + ".new"
	if err := errors.Join(os.RemoveAll(unfinished), os.Mkdir(unfinished, 0o755)); err != nil {
		return "", err
	}
	if _, err := run(nil, "", "sh", "-c", unpackScript, "sh", unfinished, pkg, related); err != nil {
		return "", err
	}
	return dir, os.Rename(unfinished, dir)
}
