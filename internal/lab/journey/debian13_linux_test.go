package journey

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// debian13 is a host with other engines, which finds the files of the lab where they are.
func debian13(t *testing.T) *lab.Machine {
	t.Helper()
	cache, err := os.UserCacheDir()
	if dir := os.Getenv(lab.Cache); dir != "" {
		cache, err = filepath.Abs(dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return lab.Trixie(t, os.TempDir(), cache)
}

// debian13Engines are docker 26, and containerd as the kubelet uses it: by a device and by an
// annotation of the pod.
func debian13Engines() map[string]setup {
	var c *lab.Containerd
	var image string
	by := func(annotation bool) setup {
		return func(t *testing.T, g *guard) engine {
			if c == nil {
				c = newContainerd(t, g)
				image = c.Image(g.container)
			}
			return &pods{c, g, image, annotation, map[string]*lab.RunningPod{}}
		}
	}
	return map[string]setup{"docker 26": newDocker26, "containerd": by(false), "pods": by(true)}
}

// docker26 finds the device that the guard publishes.
type docker26 struct {
	docker
}

func newDocker26(t *testing.T, g *guard) engine {
	g.gmsa("runtime", "install", "docker", "--yes", "--config", g.config)
	d := lab.NewDocker26(t, g.host, "")
	return docker26{docker{d, g, d.Image(g.container)}}
}

func (d docker26) start(w workload) (string, error) {
	args := append([]string{"run", "--detach", "--network", "host", "--device", "gmsa.dev/credentialspec=" + w.spec}, options(d.g.container, w)...)
	image := d.image
	if w.prepare != nil {
		image = d.Image(w.image(d.g.container))
	}
	return lastLine(d.Run(append(append(args, image), idle...)...))
}

func newContainerd(t *testing.T, g *guard) *lab.Containerd {
	t.Helper()
	g.host.WriteFile("/etc/containerd/config.toml", []byte(lab.ContainerdConfig), 0o644)
	g.gmsa("runtime", "install", "containerd", "--pods", "--yes", "--config", g.config)
	c := lab.NewContainerd(t, g.host, "")
	lab.Eventually(t, 10*time.Second, func() error {
		if !strings.Contains(g.host.Run("cat", "/var/log/agent"), "NRI: connected") {
			return errors.New("the agent is not connected to NRI")
		}
		return nil
	})
	return c
}

// pods are containers of containerd, each in a pod of its own.
type pods struct {
	*lab.Containerd
	g          *guard
	image      string
	annotation bool
	running    map[string]*lab.RunningPod
}

func (p *pods) start(w workload) (string, error) {
	c, image := p.g.container, p.image
	if w.prepare != nil {
		image = p.Image(w.image(c))
	}
	pod := lab.Pod{Image: image, Args: idle, UID: int64(w.uid), Restricted: w.confined, Env: c.Env, Mounts: map[string]string{}}
	maps.Copy(pod.Mounts, c.Mounts)
	maps.Copy(pod.Mounts, w.volumes)
	if p.annotation {
		pod.Annotations = map[string]string{"dev.gmsa.credentialspec": w.spec}
	} else {
		pod.Devices = []string{"gmsa.dev/credentialspec=" + w.spec}
	}
	r, err := p.Run(pod)
	if err != nil {
		return "", err
	}
	p.running[r.Container()] = r
	return r.Container(), nil
}

func (p *pods) exec(id string, argv ...string) (string, error) { return p.running[id].Exec(argv...) }

func (p *pods) remove(id string) error { return p.running[id].Remove() }
