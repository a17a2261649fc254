package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/internal/deliver/docker"
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
	if s.o.Services, err = s.services(c.After); err != nil {
		return fmt.Errorf("%s: %w", dockerConfig, err)
	}
	byDefault := 100*major+minor >= dockerCDIDefault
	if major >= dockerCDI {
		err = s.dockerDevices(&c, byDefault)
	}
	if err == nil && (!byDefault || s.o.Services) {
		err = s.dockerRuntime(&c)
	}
	if err == nil && !byDefault {
		note := "docker %d.%d knows no devices of CDI: containers get their identity by --runtime gmsa"
		if major >= dockerCDI {
			note = "docker %d.%d starts no container with a device again when it starts itself (https://github.com/moby/moby/issues/49989): those with --restart need --runtime gmsa"
		}
		s.plan.Notes = append(s.plan.Notes, fmt.Sprintf(note+", as docs/containers.md says", major, minor))
	}
	if err == nil && s.o.Services {
		err = c.set(`"gmsa"`, "default-runtime")
	}
	if err != nil {
		return fmt.Errorf("%s: %w", dockerConfig, err)
	}
	if len(c.Edits) > 0 {
		s.plan.Changes = append(s.plan.Changes, c.Change)
		s.plan.Restart = "docker"
	}
	return errors.Join(s.shim(), s.afterAgent("docker.service"))
}

// services tells whether services are to have identities: if it is asked for, or was
// before.
func (s *setup) services(text []byte) (bool, error) {
	have, err := getJSON(text, "default-runtime")
	return s.o.Services || err == nil && string(have) == `"gmsa"`, err
}

// shim plans a docker that stands before the engine's own client. Somebody else's
// program is not replaced.
func (s *setup) shim() error {
	if s.o.Shim == "" {
		return nil
	}
	before, err := s.h.read(s.o.Shim)
	if err != nil {
		return err
	}
	if before != nil && !docker.IsShim(before) {
		return &Refusal{
			Engine: Docker, Reason: s.o.Shim + " is a program of its own, and is not replaced",
			Hints: []string{"--shim=DIRECTORY names another directory of PATH, in front of that one"},
		}
	}
	s.plan.Changes = append(s.plan.Changes, Change{Path: s.o.Shim, Before: before, After: docker.Shim(s.o.Program, s.o.AgentConfig), Executable: true})
	return nil
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
	if s.o.seen(dirs) {
		return nil
	}
	text, err := json.Marshal(append(dirs, s.o.CDIDirectory))
	if err != nil {
		return err
	}
	return c.set(string(text), "cdi-spec-dirs")
}

func (s *setup) dockerRuntime(c *jsonChange) error {
	args := []string{"oci-runtime"}
	if s.o.AgentConfig != "" {
		args = append(args, "--config", s.o.AgentConfig)
	}
	if s.o.Services {
		args = append(args, "--optional")
	}
	args = append(args, "runc")
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
