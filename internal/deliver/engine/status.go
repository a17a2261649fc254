package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// State is what an engine would do with a container that asks for an identity.
type State struct {
	Engine string `json:"engine"`
	// Ready: it gives the identity, or does not start the container.
	Ready bool `json:"ready"`
	// SetUp: gmsa runtime install has been run for it.
	SetUp bool `json:"setUp"`
	// Reason is why it is not ready.
	Reason string   `json:"reason,omitempty"`
	Hints  []string `json:"hints,omitempty"`
}

// State looks at an engine as it is. ErrNoEngine says that there is none.
func (h Host) State(ctx context.Context, engine string, o Options) (State, error) {
	s := State{Engine: engine}
	done, err := h.record(engine)
	if err != nil {
		return s, err
	}
	s.SetUp = len(done.Changes) > 0
	o.Pods = o.Pods || slices.ContainsFunc(done.Changes, func(c Change) bool { return c.Path == baseSpec })
	p, err := h.Plan(ctx, engine, o)
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		s.Reason, s.Hints = refusal.Reason, refusal.Hints
		return s, nil
	}
	if err != nil {
		return s, err
	}
	if paths := changed(p); len(paths) > 0 {
		s.Reason, s.Hints = "not as it is to be: "+strings.Join(paths, ", "), []string{"gmsa runtime install " + engine}
		return s, nil
	}
	if s.Reason, err = h.running(ctx, engine); err != nil {
		s.Reason = err.Error()
	}
	if s.Ready = s.Reason == ""; !s.Ready {
		s.Hints = []string{"systemctl restart " + engine}
	}
	return s, nil
}

func changed(p Plan) []string {
	var paths []string
	for _, c := range p.Changes {
		paths = append(paths, c.Path)
	}
	return paths
}

// runningContainerd compares the age of the configuration with that of the socket, which
// containerd makes when it starts.
func (h Host) runningContainerd() (string, error) {
	config, err := os.Stat(h.Root + containerdConfig)
	if err != nil {
		return "", err
	}
	socket, err := os.Stat(h.Root + "/run/containerd/containerd.sock")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "containerd does not run", nil
	case err == nil && socket.ModTime().Before(config.ModTime()):
		return "the containerd that runs has not read its configuration since", nil
	}
	return "", err
}

// running tells what the engine that runs has not taken over of its files; empty for
// nothing, and for engines that have no daemon or do not say.
func (h Host) running(ctx context.Context, engine string) (string, error) {
	switch engine {
	case Docker:
	case Containerd:
		return h.runningContainerd()
	default:
		return "", nil
	}
	out, err := h.run(ctx, "docker", "info", "--format", "{{json .}}")
	if err != nil {
		return "", err
	}
	var info struct {
		ServerVersion string
		ServerErrors  []string
		CDISpecDirs   []string
		Runtimes      map[string]any
	}
	if err := json.Unmarshal([]byte(out), &info); err != nil {
		return "", fmt.Errorf("docker info: %w", err)
	}
	var major int
	if n, _ := fmt.Sscanf(info.ServerVersion, "%d.", &major); n != 1 { // a client alone answers too
		return fmt.Sprintf("docker does not run: %s", strings.Join(info.ServerErrors, ", ")), nil
	}
	_, wrapped := info.Runtimes["gmsa"]
	if major >= dockerCDI && len(info.CDISpecDirs) == 0 || major < dockerCDI && !wrapped {
		return "the docker that runs has not read its configuration since", nil
	}
	return "", nil
}

// Present are the engines of this host.
func (h Host) Present(ctx context.Context) []string {
	program := map[string]string{Docker: "dockerd"}
	return slices.DeleteFunc(Names(), func(engine string) bool {
		name := engine
		if p := program[engine]; p != "" {
			name = p
		}
		_, err := h.run(ctx, name, "--version")
		return err != nil
	})
}
