package ocihook

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// A Wrapper stands for a container runtime in an engine that knows no devices of CDI
// and no annotations, as Docker 20.10: it adds the hook to a container's config.json and
// leaves the rest to the runtime.
//
// What names the credential spec is a mount of its file at /run/gmsa (with keys: at
// /run/gmsa/keytab), which the wrapper takes out. Of all that such an engine writes into config.json
// that is what whoever starts the container can choose and its image cannot: an
// environment, labels and a user come with images, and grant nothing (security 3).
//
// A swarm's service can name it by a config at /run/gmsa/NAME.json too. The config's
// content has to be the credential spec NAME of this host, which alone counts.
type Wrapper struct {
	// Hook is the program gmsa-hook, and Socket where the agent waits for it.
	Hook, Socket string
	// Optional lets containers that name no credential spec start as they are: for a
	// runtime that is an engine's default.
	Optional bool
	// Same tells whether a file is what this host has as the credential spec of that
	// name.
	Same func(name, path string) error
}

// ErrUnnamed is a container that names no credential spec.
var ErrUnnamed = errors.New("the container names no credential spec")

// Prepare looks at the runtime's arguments, and edits the bundle of a container that is
// about to be made. Other commands need nothing.
func (w Wrapper) Prepare(args []string) error {
	dir, ok, err := bundleOf(args)
	if err != nil || !ok {
		return err
	}
	path := filepath.Join(dir, "config.json")
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	config := map[string]json.RawMessage{}
	if err := decode(f, &config); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := w.edit(config); errors.Is(err, ErrUnnamed) && w.Optional {
		return nil
	} else if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	b, err := json.Marshal(config)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, info.Mode().Perm())
}

// valued are runc's global options that take a value as an argument of its own: runc(8).
func valued() []string { return []string{"--root", "--log", "--log-format", "--criu", "--rootless"} }

// splitArgs tells runc's global options from the command and what is behind it.
func splitArgs(args []string) (global, command []string) {
	i := 0
	for i < len(args) && strings.HasPrefix(args[i], "-") {
		if slices.Contains(valued(), args[i]) {
			i++
		}
		i++
	}
	i = min(i, len(args))
	return args[:i], args[i:]
}

// Report writes why a container is not made to the log that the engine has named for its runtime
// (--log, --log-format json): that is what it shows to its user.
func Report(args []string, cause error) error {
	global, _ := splitArgs(args)
	path := option(global, "--log", "-log")
	if path == "" {
		return nil
	}
	line, err := json.Marshal(map[string]string{"level": "error", "msg": cause.Error()})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(line, '\n'))
	return errors.Join(err, f.Close())
}

// option is the value of an option by any of its names; empty for none.
func option(args []string, names ...string) (value string) {
	for i, a := range args {
		name, v, joined := strings.Cut(a, "=")
		if !slices.Contains(names, name) {
			continue
		}
		if !joined && i+1 < len(args) {
			v = args[i+1]
		}
		value = v
	}
	return value
}

// bundleOf finds the bundle in the command line of runc (runc-create(8), runc-run(8)).
// Without the option it is the working directory.
func bundleOf(args []string) (dir string, ok bool, err error) {
	_, args = splitArgs(args)
	if len(args) == 0 || args[0] != "create" && args[0] != "run" {
		return "", false, nil
	}
	dir, err = filepath.Abs(option(args, "--bundle", "-bundle", "-b"))
	return dir, true, err
}

// mount is an entry of config.json's mounts, as far as it matters here.
type mount struct {
	Destination string `json:"destination"`
	Source      string `json:"source"`
}

// edit takes the mount that names a credential spec out of a configuration, and puts
// hook and environment in.
func (w Wrapper) edit(config map[string]json.RawMessage) error {
	name, mounts, err := w.takeSpec(config["mounts"])
	if err != nil {
		return err
	}
	process := map[string]json.RawMessage{}
	hooks := map[string][]json.RawMessage{}
	for key, into := range map[string]any{"process": &process, "hooks": &hooks} {
		if raw := config[key]; len(raw) > 0 {
			if err := json.Unmarshal(raw, into); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	var env []string
	if raw := process["env"]; len(raw) > 0 {
		if err := json.Unmarshal(raw, &env); err != nil {
			return fmt.Errorf("process.env: %w", err)
		}
	}
	if process["env"], err = json.Marshal(append(env, lease.Env(lease.MountPoint)...)); err != nil {
		return err
	}
	for stage, args := range map[string][]string{CreateRuntime: {"--spec", name}, Poststop: nil} {
		hook, err := json.Marshal(map[string]any{
			"path": w.Hook, "args": append([]string{filepath.Base(w.Hook), stage, "--socket", w.Socket}, args...),
			"env": []string{"GOTRACEBACK=none"}, "timeout": 10, // seconds
		})
		if err != nil {
			return err
		}
		hooks[stage] = append(hooks[stage], hook)
	}
	for key, value := range map[string]any{"mounts": mounts, "process": process, "hooks": hooks} {
		if config[key], err = json.Marshal(value); err != nil {
			return err
		}
	}
	return nil
}

// takeSpec finds the mount that names a credential spec, and gives the other ones.
func (w Wrapper) takeSpec(raw json.RawMessage) (name string, rest []json.RawMessage, err error) {
	var all []json.RawMessage
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &all); err != nil {
			return "", nil, fmt.Errorf("mounts: %w", err)
		}
	}
	for _, entry := range all {
		var m mount
		if err := json.Unmarshal(entry, &m); err != nil {
			return "", nil, fmt.Errorf("mounts: %w", err)
		}
		named, ok, err := w.specOf(m)
		switch {
		case err != nil:
			return "", nil, fmt.Errorf("mount at %s: %w", m.Destination, err)
		case !ok:
			rest = append(rest, entry)
		case name != "":
			return "", nil, errors.New("the container names two credential specs")
		default:
			name = named
		}
	}
	if name == "" {
		return "", nil, ErrUnnamed
	}
	return name, rest, nil
}

// specOf is the credential spec that a mount names; not ok for a mount that has nothing
// to do with it.
func (w Wrapper) specOf(m mount) (name string, ok bool, err error) {
	at, suffix := filepath.Clean(m.Destination), ""
	file := filepath.Base(m.Source)
	config := false
	switch dir := filepath.Dir(at); {
	case at == lease.MountPoint:
	case at == lease.MountPoint+"/keytab":
		suffix = KeytabSuffix
	case dir == lease.MountPoint, dir == lease.MountPoint+"/keytab":
		if dir != lease.MountPoint {
			suffix = KeytabSuffix
		}
		file, config = filepath.Base(at), true
	default:
		return "", false, nil
	}
	if name, err = credspec.NameOfFile(file); err != nil {
		return "", false, err
	}
	if config {
		// What an image can bring is a volume, which is a directory.
		if info, err := os.Lstat(m.Source); err != nil || !info.Mode().IsRegular() {
			return "", false, errors.New("it is no config of a swarm")
		}
		if err := w.Same(name, m.Source); err != nil {
			return "", false, err
		}
	}
	return name + suffix, true, nil
}
