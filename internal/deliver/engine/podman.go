package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
)

// hooksDirectory is for an administrator's hooks, and packagedHooks for those of packages:
// oci-hooks(5). Of the two, podman 4 looks in the second alone unless it is told
// (containers.conf(5), hooks_dir), whatever its manual says.
const (
	hooksDirectory = "/etc/containers/oci/hooks.d"
	packagedHooks  = "/usr/share/containers/oci/hooks.d"
)

// podmanDropIn tells it.
const podmanDropIn = "/etc/containers/containers.conf.d/50-gmsa.conf"

// annotationPattern matches the annotation that names a credential spec, ocihook.Annotation.
const annotationPattern = `^dev\.gmsa\.credentialspec$`

// podman makes hooks for containers with the annotation. Devices it knows by itself, and
// a version that does not refuses them.
func (s *setup) podman(ctx context.Context) error {
	major, minor, err := s.version(ctx, "podman")
	if err != nil {
		return err
	}
	if 100*major+minor < 401 {
		s.plan.Notes = append(s.plan.Notes, fmt.Sprintf("podman %d.%d knows no devices of CDI: use the annotation", major, minor))
	}
	files, err := s.containersConf()
	if err != nil {
		return err
	}
	if dirs, ok, err := lastList(files, "engine", "cdi_spec_dirs"); err != nil || ok && !s.o.seen(dirs) {
		return orRefuse(err, Podman, fmt.Sprintf("containers.conf has cdi_spec_dirs without %s, where the agent publishes devices", s.o.CDIDirectory),
			"add it there, or set cdi_directory under containers in /etc/gmsa/agent.yaml")
	}
	dirs, ok, err := lastList(files, "engine", "hooks_dir")
	switch {
	case err != nil:
		return err
	case !ok:
		dirs = []string{packagedHooks, hooksDirectory}
		list, err := literalTOML(dirs)
		if err != nil {
			return err
		}
		if err := s.own(podmanDropIn, marker+"[engine]\nhooks_dir = "+list+"\n"); err != nil {
			return err
		}
	case len(dirs) == 0:
		return &Refusal{Podman, "containers.conf has an empty hooks_dir: a container with the annotation would start without its identity", []string{"add " + hooksDirectory + " there"}}
	}
	if err := s.hooks(dirs[len(dirs)-1]); err != nil { // which wins over the ones before it
		return err
	}
	return s.afterAgent("podman-restart.service")
}

// containersConf are the files of podman's configuration in the order in which they are
// read, containers.conf(5), without our own.
func (s *setup) containersConf() ([]tomlFile, error) {
	files, err := s.tomlFiles("/usr/share/containers/containers.conf", "/etc/containers/containers.conf", "/etc/containers/containers.conf.d/*.conf")
	return slices.DeleteFunc(files, func(f tomlFile) bool { return f.path == podmanDropIn }), err
}

// hooks writes what starts the hook at both stages: oci-hooks(5).
func (s *setup) hooks(dir string) error {
	for _, stage := range []string{"createRuntime", "poststop"} {
		text, err := json.MarshalIndent(map[string]any{
			"version": "1.0.0", "stages": []string{stage},
			"when": map[string]any{"annotations": map[string]string{annotationPattern: ".*"}},
			"hook": map[string]any{
				"path": s.o.Hook, "args": []string{filepath.Base(s.o.Hook), stage, "--socket", s.o.Socket},
				"env": []string{"GOTRACEBACK=none"}, "timeout": 10, // seconds
			},
		}, "", "  ")
		if err != nil {
			return err
		}
		if err := s.own(filepath.Join(dir, "50-gmsa-"+stage+".json"), string(text)+"\n"); err != nil {
			return err
		}
	}
	return nil
}

// tomlFile is one of several that together are a configuration.
type tomlFile struct {
	path string
	text []byte
}

// tomlFiles reads those of the patterns that exist, in this order.
func (s *setup) tomlFiles(patterns ...string) ([]tomlFile, error) {
	var files []tomlFile
	for _, pattern := range patterns {
		paths, err := filepath.Glob(s.h.Root + pattern)
		if err != nil {
			return nil, err
		}
		for _, p := range paths {
			p = p[len(s.h.Root):]
			text, err := s.h.read(p)
			if err != nil {
				return nil, err
			}
			files = append(files, tomlFile{p, text})
		}
	}
	return files, nil
}

// lastList is the list of texts that the last of the files sets.
func lastList(files []tomlFile, path ...string) (list []string, ok bool, err error) {
	for _, f := range files {
		v, err := getTOML(f.text, path...)
		if err != nil {
			return nil, false, fmt.Errorf("%s: %w", f.path, err)
		}
		if v == nil {
			continue
		}
		if list, ok = texts(v); !ok {
			return nil, false, fmt.Errorf("%s: %s is no list of paths", f.path, dotted(path))
		}
	}
	return list, ok, nil
}

// texts is a TOML array of strings.
func texts(v any) ([]string, bool) {
	array, ok := v.([]any)
	list := make([]string, len(array))
	for i, e := range array {
		if list[i], ok = e.(string); !ok {
			break
		}
	}
	return list, ok
}

func orRefuse(err error, engine, reason string, hints ...string) error {
	if err != nil {
		return err
	}
	return &Refusal{engine, reason, hints}
}
