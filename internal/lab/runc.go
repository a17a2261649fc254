package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// Runc keeps the containers of runc alone, which knows no images and is no daemon.
type Runc struct {
	t   testing.TB
	dir string // its state
}

// NewRunc prepares a place for containers, which end with the test.
func NewRunc(t testing.TB) *Runc {
	t.Helper()
	Need(t, "root", "runc")
	dir, err := os.MkdirTemp("", "gmsa-runc-")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	r := &Runc{t: t, dir: dir}
	t.Cleanup(func() {
		left, err := os.ReadDir(dir)
		if err != nil {
			t.Errorf("lab: %v", err)
		}
		for _, c := range left {
			if out, err := r.Run("delete", "--force", c.Name()); err != nil {
				t.Errorf("lab: %v\n%s", err, out)
			}
		}
		os.RemoveAll(dir)
	})
	return r
}

// Start starts a container and gives its name. It runs on until [Runc.Run] deletes it.
func (r *Runc) Start(c Container) (id string, err error) {
	r.t.Helper()
	bundle := c.Bundle(r.t)
	id = fmt.Sprintf("gmsa-lab-%d-%s", os.Getpid(), filepath.Base(bundle))
	// The container keeps what runc has as its output.
	const detached = `log=$1; shift; "$@" </dev/null >"$log" 2>&1 || { cat "$log"; exit 1; }`
	out, err := run(nil, "", "sh", "-c", detached, "sh", filepath.Join(bundle, "log"),
		find("runc"), "--root", r.dir, "run", "--detach", "--bundle", bundle, id)
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return id, nil
}

// Run runs a command of runc.
func (r *Runc) Run(args ...string) (string, error) {
	return run(nil, "", "runc", append([]string{"--root", r.dir}, args...)...)
}
