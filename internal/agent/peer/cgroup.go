package peer

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
)

// Populated reports whether any process lives in a control group or below it.
// fsys is /sys/fs/cgroup (os.DirFS) and cgroup a path as [Process] has it. The
// group lies in the unified hierarchy, in the one that a hybrid host mounts at
// "unified", or in the one called "systemd"; a group that is gone has no
// processes.
func Populated(fsys fs.FS, cgroup string) (bool, error) {
	for _, root := range []string{".", "unified", "systemd"} {
		dir := path.Join(root, cgroup)
		events, err := fs.ReadFile(fsys, path.Join(dir, "cgroup.events"))
		if err == nil {
			if bytes.Contains(events, []byte("populated 1")) {
				return true, nil
			}
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		if root != "systemd" {
			continue
		}
		return anyProcs(fsys, dir)
	}
	return false, nil
}

// anyProcs walks a group of the first version, which has no event file: each
// directory lists its own processes alone.
func anyProcs(fsys fs.FS, dir string) (bool, error) {
	found := errors.New("found")
	err := fs.WalkDir(fsys, dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return ignoreGone(err)
		}
		procs, err := fs.ReadFile(fsys, path.Join(p, "cgroup.procs"))
		if len(bytes.TrimSpace(procs)) > 0 {
			return found
		}
		return ignoreGone(err)
	})
	if errors.Is(err, found) {
		return true, nil
	}
	return false, err
}

// ignoreGone drops the error of a group that was removed while it was walked.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
