package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Containerd is an engine on a [Trixie] that is spoken to as the kubelet does, by CRI.
type Containerd struct {
	t    testing.TB
	m    *Machine
	conn *grpc.ClientConn
	// Daemon is containerd itself.
	Daemon *Service
	// removals are of pods that have not started.
	removals sync.WaitGroup
	// Runtime is the service that makes pods and containers, for what Run does not do.
	Runtime cri.RuntimeServiceClient
}

// ContainerdConfig is a /etc/containerd/config.toml as Debian has it, with what this kind of
// machine needs (no process may be spared from the kernel when memory ends) and with an image of
// the lab's own for the process that holds a pod's namespaces.
const ContainerdConfig = `version = 2

# The lab's.
[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    restrict_oom_score_adj = true
    sandbox_image = "` + pauseImage + `"
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
`

const pauseImage = "lab.gmsa.test/pause:1"

// criTimeout bounds one call, in which a container starts.
const criTimeout = 30 * time.Second

// NewContainerd starts containerd 1.7 on a Trixie, with a config.toml of that text; with
// none it is the machine's.
func NewContainerd(t testing.TB, m *Machine, config string) *Containerd {
	t.Helper()
	if config != "" {
		m.WriteFile("/etc/containerd/config.toml", []byte(config), 0o644)
	}
	conn, err := grpc.NewClient("unix:"+m.Path("/run/containerd/containerd.sock"), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() { conn.Close() })
	c := &Containerd{t: t, m: m, conn: conn, Runtime: cri.NewRuntimeServiceClient(conn), Daemon: m.Service("/var/log/containerd.log", "containerd")}
	c.await()
	t.Cleanup(c.removePods)
	c.load(pauseImage, Container{Programs: []string{"sleep"}, Args: []string{"/usr/bin/sleep", "infinity"}})
	return c
}

// await waits until the daemon serves CRI.
func (c *Containerd) await() {
	c.t.Helper()
	Eventually(c.t, 30*time.Second, func() error {
		if !c.Daemon.Alive() {
			c.t.Fatalf("containerd ended:\n%s", c.Daemon.Log())
		}
		ctx, cancel := context.WithTimeout(context.Background(), criTimeout)
		defer cancel()
		_, err := c.Runtime.Version(ctx, &cri.VersionRequest{}, grpc.WaitForReady(true))
		return err
	})
}

// Restart ends the daemon and starts it again, as after a change of its configuration.
// Containers run on.
func (c *Containerd) Restart() {
	c.t.Helper()
	c.Daemon.mustStop()
	c.Daemon.Start()
	c.await()
}

// removePods removes all pods: else their control groups stay.
func (c *Containerd) removePods() {
	c.removals.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), criTimeout)
	defer cancel()
	pods, err := c.Runtime.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{})
	for _, p := range pods.GetItems() {
		if err == nil {
			err = c.removePod(p.GetId())
		}
	}
	if err != nil {
		c.t.Logf("lab: %v", err)
	}
}

func (c *Containerd) removePod(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), criTimeout)
	defer cancel()
	if _, err := c.Runtime.StopPodSandbox(ctx, &cri.StopPodSandboxRequest{PodSandboxId: id}); err != nil {
		return err
	}
	_, err := c.Runtime.RemovePodSandbox(ctx, &cri.RemovePodSandboxRequest{PodSandboxId: id})
	return err
}

// Image makes an image of a container's root file system and gives its name.
func (c *Containerd) Image(container Container) string {
	c.t.Helper()
	name := fmt.Sprintf("lab.gmsa.test/image-%d:1", time.Now().UnixNano())
	c.load(name, container)
	return name
}

func (c *Containerd) load(name string, container Container) {
	c.t.Helper()
	archive, err := imageArchive(name, filepath.Join(container.Bundle(c.t), "rootfs"), container.Args)
	if err != nil {
		c.t.Fatalf("lab: %v", err)
	}
	path := fmt.Sprintf("/var/tmp/image-%d.tar", time.Now().UnixNano())
	c.m.WriteFile(path, archive, 0o600)
	c.m.Run("ctr", "--namespace", "k8s.io", "images", "import", path)
	if err := os.Remove(c.m.Path(path)); err != nil {
		c.t.Fatalf("lab: %v", err)
	}
}

// imageArchive is a root file system as docker save would write it, in one layer.
func imageArchive(name, rootfs string, args []string) ([]byte, error) {
	var layer bytes.Buffer
	if err := tarDirectory(&layer, rootfs); err != nil {
		return nil, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux", "config": map[string]any{"Cmd": args, "Env": []string{"PATH=/usr/bin:/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{fmt.Sprintf("sha256:%x", sha256.Sum256(layer.Bytes()))}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		data []byte
	}{{"config.json", config}, {"layer.tar", layer.Bytes()}, {"manifest.json", manifest}} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.data))}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// tarDirectory writes what is in a directory, which holds files, directories and links.
func tarDirectory(to io.Writer, dir string) error {
	w := tar.NewWriter(to)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		link := ""
		if d.Type() == fs.ModeSymlink {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		h, err := tar.FileInfoHeader(info, link)
		if err != nil {
			return err
		}
		h.Name = strings.TrimPrefix(path, dir+"/")
		if err := w.WriteHeader(h); err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	if err != nil {
		return err
	}
	return w.Close()
}

// A Pod is one with a single container, on the host's network.
type Pod struct {
	Namespace, Name string            // "default" and a name of its own, where empty
	Annotations     map[string]string // of the pod
	Image           string
	Args            []string
	UID             int64
	Env             []string
	// Mounts are directories of the host by where they are mounted, read-only.
	Mounts map[string]string
	// Restricted has a read-only root file system and no capability.
	Restricted bool
	// Devices are names of CDI devices, in the field that the kubelet uses, and
	// ContainerAnnotations are of the container, which name some too.
	Devices              []string
	ContainerAnnotations map[string]string
}

// A RunningPod has been started.
type RunningPod struct {
	c              *Containerd
	pod, container string
	log            string
}

// Run makes a pod and starts its container. What has been made when it fails is removed, at
// the latest when the next pod with a name of its own is made.
func (c *Containerd) Run(p Pod) (*RunningPod, error) {
	if p.Namespace == "" {
		p.Namespace = "default"
	}
	if p.Name == "" {
		p.Name = fmt.Sprintf("pod-%d", time.Now().UnixNano())
	} else {
		c.removals.Wait()
	}
	ctx, cancel := context.WithTimeout(context.Background(), criTimeout)
	defer cancel()
	const logs = "/var/tmp"
	sandbox := &cri.PodSandboxConfig{
		Metadata:    &cri.PodSandboxMetadata{Name: p.Name, Namespace: p.Namespace, Uid: p.Name},
		Annotations: p.Annotations, LogDirectory: logs,
		Linux: &cri.LinuxPodSandboxConfig{SecurityContext: &cri.LinuxSandboxSecurityContext{
			NamespaceOptions: &cri.NamespaceOption{Network: cri.NamespaceMode_NODE, Pid: cri.NamespaceMode_CONTAINER},
		}},
	}
	made, err := c.Runtime.RunPodSandbox(ctx, &cri.RunPodSandboxRequest{Config: sandbox})
	if err != nil {
		return nil, err
	}
	r := &RunningPod{c: c, pod: made.GetPodSandboxId(), log: filepath.Join(logs, p.Name)}
	if err := r.start(ctx, p, sandbox); err != nil {
		c.removals.Go(func() {
			if err := r.Remove(); err != nil {
				c.t.Errorf("lab: remove a pod that did not start: %v", err)
			}
		})
		return nil, err
	}
	return r, nil
}

// start makes and starts the container of a pod.
func (r *RunningPod) start(ctx context.Context, p Pod, sandbox *cri.PodSandboxConfig) error {
	config := &cri.ContainerConfig{
		Metadata: &cri.ContainerMetadata{Name: "app"}, Image: &cri.ImageSpec{Image: p.Image}, Command: p.Args,
		Annotations: p.ContainerAnnotations, LogPath: p.Name,
		Linux: &cri.LinuxContainerConfig{SecurityContext: &cri.LinuxContainerSecurityContext{
			RunAsUser: &cri.Int64Value{Value: p.UID}, ReadonlyRootfs: p.Restricted, NoNewPrivs: true,
			NamespaceOptions: sandbox.GetLinux().GetSecurityContext().GetNamespaceOptions(),
		}},
	}
	for _, e := range p.Env {
		key, value, _ := strings.Cut(e, "=")
		config.Envs = append(config.Envs, &cri.KeyValue{Key: key, Value: []byte(value)})
	}
	for to, from := range p.Mounts {
		config.Mounts = append(config.Mounts, &cri.Mount{ContainerPath: to, HostPath: from, Readonly: true})
	}
	if p.Restricted {
		config.Linux.SecurityContext.Capabilities = &cri.Capability{DropCapabilities: []string{"ALL"}}
	}
	for _, d := range p.Devices {
		config.CDIDevices = append(config.CDIDevices, &cri.CDIDevice{Name: d})
	}
	made, err := r.c.Runtime.CreateContainer(ctx, &cri.CreateContainerRequest{PodSandboxId: r.pod, Config: config, SandboxConfig: sandbox})
	if err != nil {
		return err
	}
	r.container = made.GetContainerId()
	_, err = r.c.Runtime.StartContainer(ctx, &cri.StartContainerRequest{ContainerId: r.container})
	return err
}

// Container is the container's id.
func (r *RunningPod) Container() string { return r.container }

// Wait waits for the container's end and gives what it printed, both streams.
func (r *RunningPod) Wait() string {
	r.c.t.Helper()
	Eventually(r.c.t, criTimeout, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), criTimeout)
		defer cancel()
		s, err := r.c.Runtime.ContainerStatus(ctx, &cri.ContainerStatusRequest{ContainerId: r.container})
		if err == nil && s.GetStatus().GetState() != cri.ContainerState_CONTAINER_EXITED {
			err = fmt.Errorf("the container is %v", s.GetStatus().GetState())
		}
		return err
	})
	b, err := os.ReadFile(r.c.m.Path(r.log))
	if err != nil {
		r.c.t.Fatalf("lab: %v", err)
	}
	var text strings.Builder
	for line := range strings.Lines(string(b)) {
		// The time, the stream, whether the line is whole, and the line.
		if f := strings.SplitN(line, " ", 4); len(f) == 4 {
			text.WriteString(f[3])
		}
	}
	return text.String()
}

// Exec runs a program in the container and gives its output, both streams.
func (r *RunningPod) Exec(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), criTimeout)
	defer cancel()
	reply, err := r.c.Runtime.ExecSync(ctx, &cri.ExecSyncRequest{ContainerId: r.container, Cmd: args, Timeout: int64(criTimeout.Seconds())})
	out := string(reply.GetStdout()) + string(reply.GetStderr())
	if err == nil && reply.GetExitCode() != 0 {
		err = fmt.Errorf("%s: exit status %d\n%s", strings.Join(args, " "), reply.GetExitCode(), out)
	}
	return out, err
}

// Remove ends the pod and removes it, with what it printed.
func (r *RunningPod) Remove() error {
	err := r.c.removePod(r.pod)
	if err := os.Remove(r.c.m.Path(r.log)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return err
}
