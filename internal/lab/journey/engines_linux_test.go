package journey

import (
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// An engine starts containers as its users have it do.
type engine interface {
	// start starts a container that goes on until it is removed, and gives its name.
	start(w workload) (id string, err error)
	// exec runs a program in a container that runs.
	exec(id string, argv ...string) (string, error)
	remove(id string) error
}

// A workload describes a container of the journey.
type workload struct {
	// spec names the credential spec, as devices do: NAME, or NAME:keytab for keys too.
	spec string
	uid  int
	// confined: its root file system is read-only, and it has no capability.
	confined bool
	// prepare, if not nil, changes the root file system of its image.
	prepare func(root string) error
	// volumes are directories of the host by where they are mounted, read-only.
	volumes map[string]string
}

// image is the container's root file system.
func (w workload) image(c lab.Container) lab.Container {
	c.Prepare = w.prepare
	return c
}

// A setup prepares an engine for a guard. The engine and all that it leaves behind ends
// with the test.
type setup func(t *testing.T, g *guard) engine

// engines are those of this machine, by the runtime's name in a rule for containers.
var engines = map[string]setup{"podman": podmanWith(), "docker": newDocker, "other": newRunc}

// idle is what the first program of a container does.
var idle = []string{"sleep", "3600"}

// podman finds the device that the guard publishes.
type podman struct {
	*lab.Podman
	c     lab.Container
	image string
	more  []string
}

// podmanWith is podman whose containers have more options.
func podmanWith(more ...string) setup {
	return func(t *testing.T, g *guard) engine {
		p := lab.NewPodman(t)
		return podman{p, g.container, p.Image(g.container), more}
	}
}

func (p podman) start(w workload) (string, error) {
	image := p.image
	if w.prepare != nil {
		image = p.Image(w.image(p.c))
	}
	args := append([]string{"run", "--detach", "--network", "host", "--device", "gmsa.dev/credentialspec=" + w.spec}, append(options(p.c, w), p.more...)...)
	return lastLine(p.Run(append(append(args, image), idle...)...))
}

func (p podman) exec(id string, argv ...string) (string, error) {
	return p.Run(append([]string{"exec", id}, argv...)...)
}

func (p podman) remove(id string) error { return p.Remove(id) }

// options are those that podman and Docker have in common.
func options(c lab.Container, w workload) []string {
	args := []string{"--user", fmt.Sprintf("%d:%[1]d", w.uid)}
	if w.confined {
		args = append(args, "--read-only", "--cap-drop", "all")
	}
	for _, e := range c.Env {
		args = append(args, "--env", e)
	}
	for _, mounts := range []map[string]string{c.Mounts, w.volumes} {
		for to, from := range mounts {
			args = append(args, "--volume", from+":"+to+":ro")
		}
	}
	return args
}

// lastLine is where an engine prints the name of a container, behind its warnings.
func lastLine(out string, err error) (string, error) {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1], err
}

// docker is one that knows no devices of CDI: a runtime stands before its own, and a
// mount of the credential spec's file names it.
type docker struct {
	*lab.Docker
	g     *guard
	image string
}

func newDocker(t *testing.T, g *guard) engine {
	program, env := g.dc.OwnProgram(t)
	d := lab.NewDocker(t, map[string]lab.Runtime{
		"gmsa": {Path: "/usr/bin/env", Args: append(env, program, "oci-runtime", "--config", g.config, "runc")},
	})
	return docker{d, g, d.Image(g.container)}
}

func (d docker) start(w workload) (string, error) {
	name, keytab := strings.CutSuffix(w.spec, ":keytab")
	at := filepath.Join(d.g.dir, "specs", name+".json") + ":/run/gmsa"
	if keytab {
		at += "/keytab"
	}
	image := d.image
	if w.prepare != nil {
		image = d.Image(w.image(d.g.container))
	}
	args := append([]string{"run", "--detach", "--network", "host", "--runtime", "gmsa", "--volume", at}, options(d.g.container, w)...)
	return lastLine(d.Run(append(append(args, image), idle...)...))
}

func (d docker) exec(id string, argv ...string) (string, error) {
	return d.Run(append([]string{"exec", id}, argv...)...)
}

func (d docker) remove(id string) error {
	_, err := d.Run("rm", "--force", id)
	return err
}

// runc has the hook in its configuration, as its manual's section says.
type runc struct {
	*lab.Runc
	g *guard
}

func newRunc(t *testing.T, g *guard) engine { return runc{lab.NewRunc(t), g} }

func (r runc) start(w workload) (string, error) {
	c := w.image(r.g.container)
	c.UID, c.GID, c.Args = w.uid, w.uid, idle
	c.Mounts = map[string]string{}
	maps.Copy(c.Mounts, r.g.container.Mounts)
	maps.Copy(c.Mounts, w.volumes)
	c.Hooks = r.g.hooks(w.spec)
	c.Edit = func(config map[string]any) {
		if !w.confined {
			config["root"].(map[string]any)["readonly"] = false
		}
	}
	return r.Start(c)
}

func (r runc) exec(id string, argv ...string) (string, error) {
	return r.Run(append([]string{"exec", id}, argv...)...)
}

func (r runc) remove(id string) error {
	_, err := r.Run("delete", "--force", id)
	return err
}
