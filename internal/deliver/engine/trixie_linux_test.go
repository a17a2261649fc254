package engine

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// A guard is an agent on a host with the engines of Debian 13, which publishes webapp01 to them.
type guard struct {
	*testing.T
	m     *lab.Machine
	agent *lab.Service
}

const agentYAML = `domains:
  contoso.com:
    servers: [%s]
    host: {keytab: /etc/krb5.keytab, rotate_password: never}
leases: {allow_swap: true}
event_log: {path: /var/log/gmsa/ccg.jsonl, journal: false}
containers:
  rules:
    - {credential_specs: [webapp01], runtimes: [docker, containerd], keytab: true}
    - {credential_specs: [webapp02], runtimes: [containerd], namespaces: [shop], pods: ["web-*"], annotations: true}
`

func newGuard(t *testing.T) *guard {
	t.Helper()
	lab.Need(t, "users", "mmdebstrap", "klist")
	dc := lab.Own(t, lab.OwnConfig{})
	g := &guard{T: t, m: lab.Trixie(t)}
	g.m.InstallGMSA()
	keytab, err := os.ReadFile(dc.Keytab(t, "web1"))
	if err != nil {
		t.Fatal(err)
	}
	g.m.WriteFile("/etc/krb5.keytab", keytab, 0o600)
	for _, name := range []string{"webapp01", "webapp02", "secret"} { // of which the last is not published
		g.m.WriteFile("/etc/gmsa/credentialspecs/"+name+".json", fmt.Appendf(nil, `{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":%[1]q,"Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":%[1]q,"Scope":"contoso.com"}]}}`, name), 0o644)
	}
	g.m.WriteFile("/etc/gmsa/agent.yaml", fmt.Appendf(nil, agentYAML, dc.IP), 0o644)
	g.agent = g.m.Service("/var/log/agent", "gmsa", "agent", "serve")
	g.publishes()
	return g
}

// ended ends the agent.
func (g *guard) ended(end func() error) {
	g.Helper()
	if err := end(); err != nil {
		g.Fatal(err)
	}
}

// publishes waits until the agent has written its devices.
func (g *guard) publishes() {
	g.Helper()
	lab.Eventually(g, 20*time.Second, func() error {
		_, err := g.m.TryRun("gmsa", "agent", "status")
		if err == nil {
			_, err = os.Stat(g.m.Path("/etc/cdi/gmsa.dev-credentialspec.json"))
		}
		return err
	})
}

// refuses runs a command that fails, with this in what it prints.
func (g *guard) refuses(want, name string, args ...string) {
	g.Helper()
	if out, err := g.m.TryRun(name, args...); err == nil || !strings.Contains(out, want) {
		g.Errorf("%s %s: %v, want %q in:\n%s", name, strings.Join(args, " "), err, want, out)
	}
}

// empty waits until no lease is left, and no mount of one.
func (g *guard) empty() {
	g.Helper()
	lab.Eventually(g, 10*time.Second, func() error {
		out := g.m.Run("sh", "-c", "ls -d /run/gmsa/leases/????????????????????????????????* 2>/dev/null; cat /proc/[0-9]*/mountinfo 2>/dev/null | grep ' /run/gmsa ro'; true")
		if out != "" {
			return fmt.Errorf("leases or mounts are left:\n%s", out)
		}
		return nil
	})
}

// isGMSA wants the identity in what klist has printed, so many times.
func (g *guard) isGMSA(name, out string, err error, times int) {
	g.Helper()
	g.is("webapp01", name, out, err, times)
}

func (g *guard) is(account, name, out string, err error, times int) {
	g.Helper()
	if err != nil || strings.Count(out, "Default principal: "+account+"$@CONTOSO.COM") != times {
		g.Errorf("%s: %v, want the identity %d times in:\n%s", name, err, times, out)
	}
}

// who prints the identity with the environment of the engine, without any, and whose its
// files are.
const who = "klist && env -i /usr/bin/klist && stat -c 'owner %u:%g %a' -L /run/gmsa/ccache"

var image = lab.Container{Programs: []string{"sh", "klist", "env", "stat", "sleep", "ls", "true"}, Args: []string{"sh"}}

// An engine of a new host starts nothing that asks for an identity; after one command it
// gives it.
func TestEnginesOfDebian13(t *testing.T) {
	g := newGuard(t)
	t.Run("containerd", func(t *testing.T) { h := *g; h.T = t; h.containerd() })
	t.Run("docker", func(t *testing.T) { h := *g; h.T = t; h.docker() })
}

const daemon26 = `{
  "log-driver": "json-file",
  "features": {"buildkit": true}
}
`

func (g *guard) docker() {
	g.m.WriteFile(dockerConfig, []byte(daemon26), 0o644)
	g.refuses("not as it is to be: /etc/docker/daemon.json", "gmsa", "runtime", "status", "docker")
	d := lab.NewDocker26(g, g.m, "")
	image := d.Image(image)
	run := func(args ...string) (string, error) {
		return d.Run(append([]string{"run", "--network", "host"}, args...)...)
	}
	const device = "gmsa.dev/credentialspec=webapp01"
	if out, err := run("--rm", "--device", device, image, "klist"); err == nil {
		g.Errorf("a docker that was not set up has started:\n%s", out)
	}
	g.m.Run("gmsa", "runtime", "install", "docker", "--yes")
	g.refuses("has not read its configuration", "gmsa", "runtime", "status", "docker")
	d.Restart()
	g.m.Run("gmsa", "runtime", "status", "docker")

	for name, args := range map[string][]string{
		"0:0":       nil,
		"1000:1000": {"--user", "1000:1000", "--read-only", "--cap-drop", "all"},
	} {
		out, err := run(append(args, "--rm", "--device", device, image, "sh", "-c", who)...)
		g.isGMSA(name, out, err, 2)
		if !strings.Contains(out, "owner "+name+" 400") {
			g.Errorf("as %s:\n%s", name, out)
		}
	}
	out, err := run("--rm", "--device", device+":keytab", image, "ls", "/run/gmsa")
	if err != nil || !strings.Contains(out, "client.keytab") {
		g.Errorf("with keys: %v\n%s", err, out)
	}
	g.empty()
	for name, c := range map[string]struct {
		device, want string
		more         []string
	}{
		"a spec that is not published": {"gmsa.dev/credentialspec=secret", "unresolvable CDI devices", nil},
		"a spec for containerd":        {"gmsa.dev/credentialspec=webapp02", "is not published to this container", nil},
		"a spec that there is not":     {"gmsa.dev/credentialspec=nothing", "unresolvable CDI devices", nil},
		"a volume over the target":     {device, "something is mounted there", []string{"--volume", "/run/gmsa"}},
	} {
		if out, err := run(append(c.more, "--rm", "--device", c.device, image, "klist")...); err == nil || !strings.Contains(out, c.want) {
			g.Errorf("%s: %v, want %q in:\n%s", name, err, c.want, out)
		}
	}
	g.running(d, image, device)
	g.words(d, image)
	g.m.Run("gmsa", "runtime", "uninstall", "docker", "--yes")
	if _, err := os.Stat(g.m.Path("/usr/local/bin/docker")); err == nil {
		g.Error("the shim is left after uninstall")
	}
	if b, err := os.ReadFile(g.m.Path(dockerConfig)); err != nil || string(b) != daemon26 {
		g.Errorf("daemon.json after uninstall: %v\n%s", err, b)
	}
}

// words has docker understand its own words for credential specs, on the command line and
// in a Compose file, by the shim.
func (g *guard) words(d *lab.Docker, image string) {
	g.Helper()
	g.m.Run("gmsa", "runtime", "install", "docker", "--shim", "--services", "--yes")
	d.Restart()
	g.m.Run("gmsa", "runtime", "status", "docker")
	sh := func(line string) (string, error) { return g.m.TryRun("sh", "-c", line) }
	out, err := sh("docker run --rm --network host --security-opt credentialspec=file://webapp01.json " + image + ` sh -c "` + who + `"`)
	g.isGMSA("--security-opt", out, err, 2)
	out, err = sh("docker run --detach --name restarts --network host --restart always --security-opt credentialspec=file://webapp01.json " + image + " sleep 600 && docker exec restarts klist && docker rm --force restarts")
	g.isGMSA("--restart", out, err, 1)
	if out, err := sh("docker run --rm --network host " + image + " ls /run/gmsa"); err == nil || !strings.Contains(out, "/run/gmsa") {
		g.Errorf("a container that asks for nothing: %v\n%s", err, out)
	}
	g.m.WriteFile("/srv/app/compose.yaml", []byte(`services:
  web:
    image: `+image+`
    command: [sleep, "600"]
    network_mode: host
    credential_spec: {file: webapp01.json}
    user: "1000"
  plain:
    image: `+image+`
    command: [sleep, "600"]
    network_mode: host
`), 0o644)
	out, err = sh("cd /srv/app && docker compose up --detach --quiet-pull && docker compose exec --no-TTY web klist; docker compose exec --no-TTY plain klist; docker compose down --timeout 0")
	g.isGMSA("compose", out, err, 1)
	if left, err := sh("ls -d /tmp/gmsa-compose-*"); err == nil {
		g.Errorf("left of compose: %s", left)
	}
	g.empty()
}

// running follows two containers of docker through restarts of everything else: one by
// its device, and one by the runtime, which docker 26 starts again.
func (g *guard) running(d *lab.Docker, image, device string) {
	g.Helper()
	start := func(args ...string) string {
		g.Helper()
		out, err := d.Run(append(append([]string{"run", "--network", "host", "--detach", "--stop-signal", "KILL", "--user", "1000"}, args...), image, "sleep", "600")...)
		if err != nil {
			g.Fatalf("%v\n%s", err, out)
		}
		return strings.TrimSpace(out)
	}
	byDevice, byRuntime := start("--device", device), start("--restart", "always", "--runtime", "gmsa", "--volume", "/etc/gmsa/credentialspecs/webapp01.json:/run/gmsa")
	exec := func(when string, ids ...string) {
		g.Helper()
		for _, id := range ids {
			out, err := d.Run("exec", id, "env", "-i", "/usr/bin/klist")
			g.isGMSA(when, out, err, 1)
		}
	}
	exec("exec", byDevice, byRuntime)
	g.ended(g.agent.Stop)
	exec("without the agent", byDevice, byRuntime)
	if out, err := d.Run("run", "--rm", "--network", "host", "--device", device, image, "klist"); err == nil || !strings.Contains(out, "no agent answers") {
		g.Errorf("a container that starts without the agent: %v\n%s", err, out)
	}
	g.agent.Start()
	g.publishes()
	exec("after a restart of the agent", byDevice, byRuntime)
	d.Restart() // as at a boot
	lab.Eventually(g, 10*time.Second, func() error {
		_, err := d.Run("exec", byRuntime, "true")
		return err
	})
	exec("after a restart of docker", byRuntime)
	if out, err := d.Run("rm", "--force", byDevice, byRuntime); err != nil {
		g.Errorf("%v\n%s", err, out)
	}
	g.empty()
}

func (g *guard) containerd() {
	c := lab.NewContainerd(g, g.m, lab.ContainerdConfig)
	image := c.Image(image)
	asks := lab.Pod{Image: image, Args: []string{"sh", "-c", who}, Devices: []string{"gmsa.dev/credentialspec=webapp01"}}
	// containerd 1.7 as it comes ignores the device. That is why its configuration is looked at.
	p, err := c.Run(asks)
	if err != nil {
		g.Fatal(err)
	}
	if out := p.Wait(); strings.Contains(out, "Default principal") {
		g.Errorf("a containerd without enable_cdi:\n%s", out)
	}
	g.removed(p)
	g.refuses("not as it is to be: /etc/containerd/config.toml", "gmsa", "runtime", "status", "containerd")
	g.m.Run("gmsa", "runtime", "install", "containerd", "--yes")
	g.refuses("has not read its configuration", "gmsa", "runtime", "status", "containerd")
	c.Restart()
	g.m.Run("gmsa", "runtime", "status", "containerd")

	byAnnotation := lab.Pod{Image: image, Args: asks.Args, ContainerAnnotations: map[string]string{"cdi.k8s.io/gmsa": "gmsa.dev/credentialspec=webapp01"}, UID: 1000}
	confined := asks
	confined.UID, confined.Restricted = 1000, true
	for name, pod := range map[string]lab.Pod{"the field": asks, "the field, confined": confined, "an annotation of CDI": byAnnotation} {
		p, err := c.Run(pod)
		if err != nil {
			g.Errorf("%s: %v", name, err)
			continue
		}
		out := p.Wait()
		g.isGMSA(name, out, nil, 2)
		if !strings.Contains(out, fmt.Sprintf("owner %d:", pod.UID)) {
			g.Errorf("%s:\n%s", name, out)
		}
		g.removed(p)
	}
	for device, want := range map[string]string{
		"gmsa.dev/credentialspec=secret":   "unresolvable CDI devices",
		"gmsa.dev/credentialspec=nothing":  "unresolvable CDI devices",
		"gmsa.dev/credentialspec=webapp02": "is not published to this container",
	} {
		pod := asks
		pod.Devices = []string{device}
		if _, err := c.Run(pod); err == nil || !strings.Contains(err.Error(), want) {
			g.Errorf("%s: %v, want %q", device, err, want)
		}
	}
	g.runningPod(c, confined)
	g.annotated(c, image)
	g.m.Run("gmsa", "runtime", "uninstall", "containerd", "--yes")
	if b, err := os.ReadFile(g.m.Path(containerdConfig)); err != nil || string(b) != lab.ContainerdConfig {
		g.Errorf("config.toml after uninstall: %v\n%s", err, b)
	}
}

// runningPod follows a pod through restarts of everything else.
func (g *guard) runningPod(c *lab.Containerd, pod lab.Pod) {
	g.Helper()
	pod.Args = []string{"sleep", "600"}
	p, err := c.Run(pod)
	if err != nil {
		g.Fatal(err)
	}
	exec := func(when string) {
		g.Helper()
		out, err := p.Exec("env", "-i", "/usr/bin/klist")
		g.isGMSA(when, out, err, 1)
	}
	exec("exec")
	c.Restart()
	exec("after a restart of containerd")
	g.ended(g.agent.Kill)
	exec("without the agent")
	if _, err := c.Run(pod); err == nil || !strings.Contains(err.Error(), "no agent answers") {
		g.Errorf("a pod that starts without the agent: %v", err)
	}
	g.agent.Start()
	g.publishes()
	exec("after a restart of the agent")
	g.removed(p)
}

// annotated has pods get their identity by an annotation, through the plug-in of NRI, and
// by the hook of all containers where the plug-in is not connected.
func (g *guard) annotated(c *lab.Containerd, image string) {
	plain := lab.Pod{Image: image, Args: []string{"sleep", "600"}}
	before := g.configOf(c, plain)
	g.m.Run("gmsa", "runtime", "install", "containerd", "--pods", "--yes")
	c.Restart()
	g.m.Run("gmsa", "runtime", "status", "containerd")
	g.connected(1)
	after := g.configOf(c, plain)
	hooks := after["hooks"]
	delete(after, "hooks")
	if diff := cmp.Diff(before, after); diff != "" || hooks == nil {
		g.Errorf("a container that is not annotated is another one, or has no hook:\n%s", diff)
	}

	pod := lab.Pod{Image: image, Namespace: "shop", Name: "web-1", UID: 1000, Restricted: true, Args: []string{"sh", "-c", who}, Annotations: map[string]string{"dev.gmsa.credentialspec": "webapp02"}}
	starts := func(name string, times int, pod lab.Pod) {
		g.Helper()
		p, err := c.Run(pod)
		if err != nil {
			g.Errorf("%s: %v", name, err)
			return
		}
		g.is("webapp02", name, p.Wait(), nil, times)
		g.removed(p)
	}
	starts("by NRI", 2, pod)
	// The container's own annotation comes before the pod's, and may name nothing.
	one := pod
	one.Annotations = map[string]string{"dev.gmsa.credentialspec": "secret", "dev.gmsa.credentialspec/app": "webapp02"}
	starts("the annotation of a container", 2, one)
	one.Annotations = map[string]string{"dev.gmsa.credentialspec": "webapp02", "dev.gmsa.credentialspec/app": ""}
	starts("a container that is to have none", 0, one)

	elsewhere, forged, other, keys := pod, pod, pod, pod
	elsewhere.Namespace = "default"
	forged.Namespace, forged.Annotations = "default", map[string]string{"dev.gmsa.credentialspec": "webapp02", "io.kubernetes.cri.sandbox-namespace": "shop"}
	forged.ContainerAnnotations = forged.Annotations
	other.Name = "db-1"
	keys.Annotations = map[string]string{"dev.gmsa.credentialspec": "webapp02:keytab"}
	unknown := pod
	unknown.Annotations = map[string]string{"dev.gmsa.credentialspec": "secret"}
	for name, pod := range map[string]lab.Pod{"another namespace": elsewhere, "a forged namespace": forged, "another pod": other, "keys": keys, "another spec": unknown} {
		if _, err := c.Run(pod); err == nil || !strings.Contains(err.Error(), "is not published to this container") {
			g.Errorf("%s: %v", name, err)
		}
	}

	g.ended(g.agent.Kill)
	if _, err := c.Run(pod); err == nil || !strings.Contains(err.Error(), "no agent answers") {
		g.Errorf("an annotated pod without the agent: %v", err)
	}
	p, err := c.Run(plain) // nobody else has to wait for the agent
	if err != nil {
		g.Fatal(err)
	}
	g.removed(p)
	// An agent that is not connected to NRI: the hook of all containers does it, and the
	// environment says nothing.
	config := g.m.Path("/etc/gmsa/agent.yaml")
	b, err := os.ReadFile(config)
	if err != nil {
		g.Fatal(err)
	}
	g.m.WriteFile("/etc/gmsa/agent.yaml", append(b, "  nri_socket: none\n"...), 0o644)
	g.agent.Start()
	g.publishes()
	pod.Args = []string{"sh", "-c", who + "; echo ${KRB5CCNAME-no variable}"}
	if p, err = c.Run(pod); err != nil {
		g.Fatal(err)
	}
	if out := p.Wait(); !strings.Contains(out, "no variable") {
		g.Errorf("NRI was to be switched off:\n%s", out)
	} else {
		g.is("webapp02", "without NRI", out, nil, 2)
	}
	g.removed(p)

	g.m.WriteFile("/etc/gmsa/agent.yaml", b, 0o644)
	g.ended(g.agent.Stop)
	g.agent.Start()
	g.connected(2)
	c.Restart()
	g.connected(3)
	pod.Args = []string{"sh", "-c", who}
	starts("after a restart of containerd", 2, pod)
}

// connected waits until the agent has connected to NRI so many times.
func (g *guard) connected(times int) {
	g.Helper()
	lab.Eventually(g, 20*time.Second, func() error {
		b, err := os.ReadFile(g.m.Path("/var/log/agent"))
		if n := strings.Count(string(b), "NRI: connected"); err == nil && n < times {
			err = fmt.Errorf("connected %d times, want %d", n, times)
		}
		return err
	})
}

// configOf is the configuration of a container, less the names that are new for each one.
func (g *guard) configOf(c *lab.Containerd, pod lab.Pod) map[string]any {
	g.Helper()
	pod.Name = "plain"
	p, err := c.Run(pod)
	if err != nil {
		g.Fatal(err)
	}
	b, err := os.ReadFile(g.m.Path("/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + p.Container() + "/config.json"))
	if err != nil {
		g.Fatal(err)
	}
	g.removed(p)
	var config map[string]any
	text := regexp.MustCompile(`[0-9a-f]{64}|/proc/[0-9]+/ns`).ReplaceAllString(string(b), "X")
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		g.Fatal(err)
	}
	return config
}

// removed removes a pod, of which nothing remains.
func (g *guard) removed(p *lab.RunningPod) {
	g.Helper()
	if err := p.Remove(); err != nil {
		g.Error(err)
	}
	g.empty()
}
