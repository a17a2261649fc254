package ecs

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lease"
)

// After a boot nothing is left of leases that were on tmpfs, and what is alive stays.
func TestSweep(t *testing.T) {
	base := t.TempDir()
	s := Server{Directory: filepath.Join(base, "krbdir")}
	alive, gone := lease.NewID().String(), lease.NewID().String()
	link := func(id, account, target string) string {
		path := filepath.Join(s.Directory, id, account)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(target, path)); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(base, alive), 0o755); err != nil {
		t.Fatal(err)
	}
	stays := link("00000000000000000001", "webapp01", filepath.Join(base, alive))
	half := link("00000000000000000001", "webapp02", filepath.Join(base, gone))
	whole := link("00000000000000000002", "webapp01", filepath.Join(base, gone))
	foreign := link("00000000000000000003", "x", "/nonexistent")
	if err := s.Sweep(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{stays: true, half: false, whole: false, filepath.Dir(whole): false, foreign: true} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s: %v, want it there: %v", path, err, want)
		}
	}
	if err := (Server{Directory: filepath.Join(base, "nothing")}).Sweep(); err != nil {
		t.Errorf("without a directory: %v", err)
	}
}
