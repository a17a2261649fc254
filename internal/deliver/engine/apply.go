package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// recordDirectory keeps what was done to each engine, so that exactly that is undone.
const recordDirectory = "/var/lib/gmsa/runtime"

// record is what has been done for an engine. It has whole files in it, and is root's alone.
type record struct {
	Changes []Change
}

func recordPath(engine string) string { return filepath.Join(recordDirectory, engine+".json") }

func (h Host) record(engine string) (record, error) {
	var r record
	b, err := h.read(recordPath(engine))
	if err != nil || b == nil {
		return r, err
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("%s: %w", recordPath(engine), err)
	}
	return r, nil
}

// Apply does what a plan says, and notes it for [Host.Undo]. The note comes first: what
// was begun can be undone.
func (h Host) Apply(ctx context.Context, p Plan) error {
	if len(p.Changes) == 0 {
		return nil
	}
	r, err := h.record(p.Engine)
	if err != nil {
		return err
	}
	for _, c := range p.Changes {
		if err := r.add(c); err != nil {
			return err
		}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := h.write(recordPath(p.Engine), b, 0o600); err != nil {
		return err
	}
	return h.carryOut(ctx, p.Changes)
}

// add notes a change; of a file that was changed by us before, what it would be without
// that.
func (r *record) add(c Change) (err error) {
	i := slices.IndexFunc(r.Changes, func(old Change) bool { return old.Path == c.Path })
	if i < 0 {
		r.Changes = append(r.Changes, c)
		return nil
	}
	old := r.Changes[i]
	if same(c.Before, old.After) {
		c.Before = old.Before
	} else if c.Before, _, err = undo(c.Before, old); err != nil {
		return fmt.Errorf("%s: %w", c.Path, err)
	}
	for _, e := range old.Edits {
		j := slices.IndexFunc(c.Edits, func(x Edit) bool { return slices.Equal(x.Path, e.Path) })
		switch {
		case j < 0:
			c.Edits = append(c.Edits, e)
		case c.Edits[j].Before == e.After:
			c.Edits[j].Before = e.Before
		}
	}
	r.Changes[i] = c
	return nil
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// carryOut writes files, or removes them, and has systemd read its own.
func (h Host) carryOut(ctx context.Context, changes []Change) error {
	units := false
	for _, c := range changes {
		units = units || strings.HasPrefix(c.Path, "/etc/systemd/")
		if c.After != nil {
			mode := fs.FileMode(0o644)
			if c.Executable {
				mode = 0o755
			}
			if err := h.write(c.Path, c.After, mode); err != nil {
				return err
			}
			continue
		}
		if err := os.Remove(h.Root + c.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// A directory stays as long as others have something in it: Remove refuses then.
		if strings.HasSuffix(filepath.Dir(c.Path), ".d") {
			_ = os.Remove(h.Root + filepath.Dir(c.Path))
		}
	}
	if !units {
		return nil
	}
	if _, err := os.Stat(h.Root + "/run/systemd/system"); errors.Is(err, fs.ErrNotExist) {
		return nil // sd_booted(3): another init has the host
	}
	_, err := h.run(ctx, "systemctl", "daemon-reload")
	return err
}

// write replaces a file as a whole. One that was there keeps its mode and its owner.
func (h Host) write(path string, b []byte, mode fs.FileMode) (err error) {
	path = h.Root + path
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real // a link stays one
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".gmsa-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if info, err := os.Stat(path); err == nil {
		mode = info.Mode().Perm()
		if err := keepOwner(f, info); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	_, err = f.Write(b)
	if err := errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// PlanUndo is what takes back what was done for an engine: a file that is as it was left
// becomes what it was before; in one that was changed since, each setting that is as it was
// left becomes what it was.
func (h Host) PlanUndo(engine string) (Plan, error) {
	p := Plan{Engine: engine}
	r, err := h.record(engine)
	if err != nil {
		return p, err
	}
	for _, done := range r.Changes {
		now, err := h.read(done.Path)
		if err != nil {
			return p, err
		}
		if len(done.Edits) > 0 {
			p.Restart = engine
		}
		c := Change{Path: done.Path, Before: now, After: done.Before}
		if !same(now, done.After) {
			var notes []string
			if c.After, notes, err = undo(now, done); err != nil {
				return p, fmt.Errorf("%s: %w", done.Path, err)
			}
			p.Notes = append(p.Notes, notes...)
		}
		if !same(c.Before, c.After) {
			p.Changes = append(p.Changes, c)
		}
	}
	return p, nil
}

// undo takes settings out of a file that somebody has changed since.
func undo(now []byte, done Change) (text []byte, notes []string, err error) {
	if now == nil {
		return nil, nil, nil // somebody has removed it
	}
	if len(done.Edits) == 0 {
		return now, []string{done.Path + " was changed since, and stays"}, nil
	}
	isTOML := strings.HasSuffix(done.Path, ".toml")
	text = now
	for _, e := range done.Edits {
		var changed bool
		if isTOML {
			text, changed, err = undoTOML(text, e)
		} else {
			text, changed, err = undoJSON(text, e)
		}
		if err != nil {
			return nil, nil, err
		}
		if changed {
			notes = append(notes, fmt.Sprintf("%s: %s was changed since, and stays", done.Path, dotted(e.Path)))
		}
	}
	return text, notes, nil
}

func undoJSON(text []byte, e Edit) (_ []byte, changed bool, err error) {
	have, err := getJSON(text, e.Path...)
	switch {
	case err != nil || have == nil:
		return text, false, err
	case !equalJSON(have, json.RawMessage(e.After)):
		return text, true, nil
	case e.Before == "":
		text, err = removeJSON(text, e.Path...)
	default:
		text, err = setJSON(text, json.RawMessage(e.Before), e.Path...)
	}
	return text, false, err
}

func undoTOML(text []byte, e Edit) (_ []byte, changed bool, err error) {
	have, err := getTOML(text, e.Path...)
	if err != nil || have == nil {
		return text, false, err
	}
	literal, err := literalTOML(have)
	switch {
	case err != nil:
	case !equalTOML(literal, e.After):
		return text, true, nil
	case e.Before == "":
		text, err = removeTOML(text, e.Path...)
	default:
		text, err = setTOML(text, e.Before, e.Path...)
	}
	return text, false, err
}

// Undo does what PlanUndo says, and forgets that anything was done.
func (h Host) Undo(ctx context.Context, p Plan) error {
	if err := h.carryOut(ctx, p.Changes); err != nil {
		return err
	}
	if err := os.Remove(h.Root + recordPath(p.Engine)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
