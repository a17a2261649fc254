package engine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"
)

// The engines.
const (
	Docker     = "docker"
	Podman     = "podman"
	Containerd = "containerd"
	CRIO       = "crio"
)

// Names are the engines that can be set up.
func Names() []string { return []string{Docker, Podman, Containerd, CRIO} }

// Options say what the engines are to run.
type Options struct {
	// Program is gmsa, which is a runtime of docker before 25.
	Program string
	// Hook is gmsa-hook, and Socket where the agent waits for it.
	Hook, Socket string
	// CDIDirectory is where the agent publishes devices; empty if it publishes none.
	CDIDirectory string
	// AgentConfig is the agent's configuration, where it is not at its usual place.
	AgentConfig string
	// Pods has containerd give pods their identity by an annotation too.
	Pods bool
	// Shim is where a docker is put that knows Docker's own words for credential
	// specs; empty puts none.
	Shim string
	// Services has docker give its services identities: by its default runtime.
	Services bool
}

// seen tells whether an engine that looks in these directories finds the agent's devices.
func (o Options) seen(directories []string) bool {
	return o.CDIDirectory == "" || slices.Contains(directories, o.CDIDirectory)
}

// Host is the machine whose engines are set up. The zero value is this one.
type Host struct {
	// Root goes before every path of a file.
	Root string
	// Command runs a program and gives what it printed; nil runs it here.
	Command func(ctx context.Context, name string, args ...string) (string, error)
}

// ErrNoEngine: the engine is not installed.
var ErrNoEngine = errors.New("it is not installed")

// Refusal is why an engine cannot be relied on: it would start containers without
// their identity.
type Refusal struct {
	Engine string
	Reason string
	Hints  []string
}

func (r *Refusal) Error() string { return r.Engine + ": " + r.Reason }

// Change is a file as it is and as it is to be; nil is no file.
type Change struct {
	Path          string
	Before, After []byte
	// Executable is a file that is a program.
	Executable bool `json:",omitempty"`
	// Edits are the settings that differ, for a file that has others too.
	Edits []Edit
}

// Edit is one setting of a file, as text of that file's language; empty is none.
type Edit struct {
	Path          []string
	Before, After string
}

// Plan is what there is to do for an engine.
type Plan struct {
	Engine  string
	Changes []Change
	// Notes are what a person has to know or to do.
	Notes []string
	// Restart is the unit that has to be restarted for the changes to take effect.
	Restart string
}

// Diff shows the changes as a unified diff.
func (p Plan) Diff() string {
	var b strings.Builder
	for _, c := range p.Changes {
		before, after := c.Path, c.Path
		if c.Before == nil {
			before = os.DevNull
		}
		if c.After == nil {
			after = os.DevNull
		}
		// Its first line is of a command that nobody has run.
		_, text, _ := strings.Cut(string(diff.Diff(before, c.Before, after, c.After)), "\n")
		b.WriteString(text)
	}
	return b.String()
}

// Plan compares a host with what an engine needs. It changes nothing. A [*Refusal]
// says that the engine would start containers without their identity, even then.
func (h Host) Plan(ctx context.Context, engine string, o Options) (Plan, error) {
	if err := h.checkHook(o.Hook); err != nil {
		return Plan{}, err
	}
	s := &setup{h: h, o: o, plan: Plan{Engine: engine}}
	plan := map[string]func(context.Context) error{Docker: s.docker, Podman: s.podman, Containerd: s.containerd, CRIO: s.crio}[engine]
	if plan == nil {
		return Plan{}, fmt.Errorf("engine %q; want one of %s", engine, strings.Join(Names(), ", "))
	}
	if err := plan(ctx); err != nil {
		return Plan{}, err
	}
	s.plan.Changes = slices.DeleteFunc(s.plan.Changes, func(c Change) bool { return c.Before != nil && string(c.Before) == string(c.After) })
	return s.plan, nil
}

// setup gathers the plan of one engine.
type setup struct {
	h    Host
	o    Options
	plan Plan
}

// marker is the first line of the files that are wholly ours.
const marker = "# Written by gmsa runtime install; gmsa runtime uninstall removes it.\n"

// own plans a file that is wholly ours.
func (s *setup) own(path, text string) error {
	before, err := s.h.read(path)
	if err != nil {
		return err
	}
	s.plan.Changes = append(s.plan.Changes, Change{Path: path, Before: before, After: []byte(text)})
	return nil
}

// afterAgent has systemd start the agent before a unit. The unit does not require it: to stop or restart
// the agent would stop the engine then, and its containers with it.
func (s *setup) afterAgent(unit string) error {
	return s.own("/etc/systemd/system/"+unit+".d/50-gmsa.conf", marker+"[Unit]\nWants=gmsa-agent.service\nAfter=gmsa-agent.service\n")
}

// version asks a program for its version, the first number with a point in what it prints.
func (s *setup) version(ctx context.Context, name string) (major, minor int, err error) {
	out, err := s.h.run(ctx, name, "--version")
	if err != nil {
		return 0, 0, err
	}
	for f := range strings.FieldsSeq(out) {
		if n, err := fmt.Sscanf(strings.TrimPrefix(f, "v"), "%d.%d", &major, &minor); err == nil && n == 2 {
			return major, minor, nil
		}
	}
	return 0, 0, fmt.Errorf("%s --version names no version: %q", name, out)
}

// commandTimeout bounds a question to an engine.
const commandTimeout = 20 * time.Second

func (h Host) run(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	if h.Command != nil {
		return h.Command(ctx, name, args...)
	}
	path, err := lookPath(name)
	if err != nil {
		return "", fmt.Errorf("%s: %w", name, ErrNoEngine)
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return string(out), nil
}

// lookPath also looks where daemons lie, which a user's PATH often lacks.
func lookPath(name string) (string, error) {
	for _, dir := range []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/local/bin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return exec.LookPath(name)
}

// read gives the content of a file, nil where there is none.
func (h Host) read(path string) ([]byte, error) {
	b, err := os.ReadFile(h.Root + path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if b == nil && err == nil {
		b = []byte{}
	}
	return b, err
}
