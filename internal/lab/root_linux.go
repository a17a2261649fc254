package lab

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// rootPackages lists the packages of a [Root], and says why they are there.
//
//go:embed root-packages
var rootPackages string

// rootTimeout bounds the making of the root file system, most of which is download.
const rootTimeout = 14 * time.Minute

// mountRoot lays a writable file system over a cached one, in the mounts of a Net. $1 is
// the cached one, $2 where the writable one goes.
const mountRoot = `
mkdir -p "$2" && mount -t tmpfs -o mode=0755 tmpfs "$2" && mkdir "$2/up" "$2/work" "$2/fs" &&
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/up,workdir=$2/work" "$2/fs" && cd "$2/fs" &&
mount --rbind /dev dev && mount -t proc proc proc && mount -t tmpfs -o mode=0755 tmpfs run &&
cp /etc/hosts /etc/resolv.conf etc/ && hostname >etc/hostname`

// netRoot is where a Net has its Root.
const netRoot = "/run/root"

// Root is a Debian of its own in a [Net], with the network and the processes of that and
// with the programs of root-packages. What is written to its files nobody else sees.
type Root struct {
	n *Net
}

// Root gives the Net its Root. The first one of a machine is made by mmdebstrap, which
// takes minutes; it is kept in the lab's cache.
func (n *Net) Root() *Root {
	n.t.Helper()
	Need(n.t, "users", "mmdebstrap")
	suite, err := release()
	if err != nil {
		n.t.Fatalf("lab: %v", err)
	}
	dir, err := cachedRoot(suite, rootPackages)
	if err != nil {
		n.t.Fatalf("lab: make a root file system: %v", err)
	}
	n.Run("sh", "-c", mountRoot, "sh", dir, netRoot)
	return &Root{n}
}

// Try runs a program of the Root, with more variables in its environment and text on its
// input, and gives its output, both streams.
func (r *Root) Try(env []string, stdin, name string, args ...string) (string, error) {
	return r.n.Try(append([]string{"LC_ALL=C.UTF-8"}, env...), stdin, "chroot", append([]string{netRoot + "/fs", name}, args...)...)
}

// Run is Try without further environment and input, and fails the test when the program
// fails.
func (r *Root) Run(name string, args ...string) string {
	r.n.t.Helper()
	out, err := r.Try(nil, "", name, args...)
	if err != nil {
		r.n.t.Fatal(err)
	}
	return out
}

// Start starts a program of the Root that ends with the Net. What it prints goes to the
// file log of the Root.
func (r *Root) Start(log, name string, args ...string) {
	r.n.t.Helper()
	r.n.Start(filepath.Join(netRoot, "fs", log), "chroot", append([]string{netRoot + "/fs", name}, args...)...)
}

// Path is where this machine finds a file of the Root.
func (r *Root) Path(path string) string { return r.n.Path(filepath.Join(netRoot, "fs", path)) }

// WriteFile makes a file in the Root, and the directories above it.
func (r *Root) WriteFile(path string, content []byte, mode os.FileMode) {
	r.n.t.Helper()
	r.n.WriteFile(filepath.Join(netRoot, "fs", path), content, mode)
}

// cachedRoot is the directory of a root file system with the packages of a list, which it
// makes where there is none.
func cachedRoot(suite, list string) (string, error) {
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	packages := packageList(list)
	sum := sha256.Sum256([]byte(suite + packages))
	dir := filepath.Join(cache, fmt.Sprintf("root-%x", sum[:6]))
	lock, err := lockFile(dir+".lock", true)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		return dir, err
	}
	unfinished := dir + ".new"
	if err := errors.Join(os.RemoveAll(unfinished), makeRoot(suite, packages, unfinished)); err != nil {
		return "", err
	}
	return dir, os.Rename(unfinished, dir)
}

// makeRoot installs the packages, without what nobody reads. Manual pages stay: Java's
// cannot be configured without their directory.
func makeRoot(suite, packages, dir string) error {
	args := []string{"--quiet", "--variant=minbase", `--aptopt=Apt::Install-Recommends "false"`, `--aptopt=Acquire::Retries "3"`, "--include=" + packages}
	for _, unread := range []string{"doc", "locale", "info"} {
		args = append(args, "--dpkgopt=path-exclude=/usr/share/"+unread+"/*")
	}
	ctx, cancel := context.WithTimeout(context.Background(), rootTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, find("mmdebstrap"), append(args, suite, dir)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mmdebstrap: %w\n%s", err, out)
	}
	return nil
}

// packageList gives the names of a list of packages, separated by commas.
func packageList(text string) string {
	var packages []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			packages = append(packages, strings.Fields(line)...)
		}
	}
	return strings.Join(packages, ",")
}

// release is the release of this machine's Debian.
func release() (string, error) {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return "", err
	}
	m := regexp.MustCompile(`(?m)^VERSION_CODENAME=([a-z]+)$`).FindSubmatch(b)
	if m == nil {
		return "", errors.New("/etc/os-release names no release of Debian; hint: run this on Debian 12 or newer")
	}
	return string(m[1]), nil
}
