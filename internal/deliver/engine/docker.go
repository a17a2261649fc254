package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

const dockerConfig = "/etc/docker/daemon.json"

// The versions of docker that know CDI with a setting, and those that know it by
// themselves: https://docs.docker.com/reference/cli/dockerd/#configure-cdi-devices. The
// former start no container with a device when dockerd starts, whatever its --restart says
// (https://github.com/moby/moby/issues/49989).
const (
	dockerCDI        = 25
	dockerCDIDefault = 2802 // 28.2
)

// dockerCDIDirectories are where docker looks for devices, if it is not told.
func dockerCDIDirectories() []string { return []string{"/etc/cdi", "/var/run/cdi"} }

// docker switches CDI on, and names the runtime that stands for it where docker does not know it
// well. An engine that does not know the device refuses it.
func (s *setup) docker(ctx context.Context) error {
	major, minor, err := s.version(ctx, "dockerd")
	if err != nil {
		return err
	}
	before, err := s.h.read(dockerConfig)
	if err != nil {
		return err
	}
	c := jsonChange{Change: Change{Path: dockerConfig, Before: before, After: before}}
	byDefault := 100*major+minor >= dockerCDIDefault
	if major >= dockerCDI {
		err = s.dockerDevices(&c, byDefault)
	}
	if err == nil && !byDefault {
		err = s.dockerRuntime(&c)
		note := "docker %d.%d knows no devices of CDI: containers get their identity by --runtime gmsa"
		if major >= dockerCDI {
			note = "docker %d.%d starts no container with a device again when it starts itself (https://github.com/moby/moby/issues/49989): those with --restart need --runtime gmsa"
		}
		s.plan.Notes = append(s.plan.Notes, fmt.Sprintf(note+", as docs/containers.md says", major, minor))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dockerConfig, err)
	}
	if len(c.Edits) > 0 {
		s.plan.Changes = append(s.plan.Changes, c.Change)
		s.plan.Restart = "docker"
	}
	return s.afterAgent("docker.service")
}

func (s *setup) dockerDevices(c *jsonChange, byDefault bool) error {
	have, err := getJSON(c.After, "features", "cdi")
	if err != nil {
		return err
	}
	if have != nil || !byDefault {
		if err := c.set("true", "features", "cdi"); err != nil {
			return err
		}
	}
	dirs := dockerCDIDirectories()
	if have, err = getJSON(c.After, "cdi-spec-dirs"); err != nil {
		return err
	}
	if have != nil {
		if err := json.Unmarshal(have, &dirs); err != nil {
			return fmt.Errorf("cdi-spec-dirs: %w", err)
		}
	}
	if slices.Contains(dirs, s.o.CDIDirectory) {
		return nil
	}
	text, err := json.Marshal(append(dirs, s.o.CDIDirectory))
	if err != nil {
		return err
	}
	return c.set(string(text), "cdi-spec-dirs")
}

func (s *setup) dockerRuntime(c *jsonChange) error {
	args := []string{"oci-runtime", "runc"}
	if s.o.AgentConfig != "" {
		args = []string{"oci-runtime", "--config", s.o.AgentConfig, "runc"}
	}
	text, err := json.Marshal(args)
	if err != nil {
		return err
	}
	return c.set(fmt.Sprintf(`{"path": %q, "runtimeArgs": %s}`, s.o.Program, text), "runtimes", "gmsa")
}

// jsonChange is a change of a file of JSON.
type jsonChange struct{ Change }

// set puts one setting into the file, if it is not there.
func (c *jsonChange) set(value string, path ...string) error {
	have, err := getJSON(c.After, path...)
	if err != nil {
		return err
	}
	if have != nil && equalJSON(have, json.RawMessage(value)) {
		return nil
	}
	if c.After, err = setJSON(c.After, json.RawMessage(value), path...); err != nil {
		return err
	}
	c.Edits = append(c.Edits, Edit{Path: path, Before: string(have), After: value})
	return nil
}
