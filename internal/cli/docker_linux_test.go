package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/deliver/docker"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// dockerHost is a host with Docker 20.10 as a swarm of one node, whose default runtime is
// ours, the agent, and the shim in PATH.
type dockerHost struct {
	t      *testing.T
	base   string
	engine *lab.Docker
}

const dockerHostYAML = `
domains:
  contoso.com:
    servers: [%[2]s]
    host: {keytab: %[3]s, rotate_password: never}
socket: %[1]s/agent.sock
leases: {directory: %[1]s/run/leases, allow_swap: true}
state_directory: %[1]s/state
credential_specs: [%[1]s/specs]
event_log: {path: %[1]s/ccg.jsonl, journal: false}
containers:
  hook: %[4]s
  cdi_directory: none
  network_service: "1000:1000"
  rules: [{credential_specs: ["contoso_webapp*"], runtimes: [docker]}]
`

func newDockerHost(t *testing.T) *dockerHost {
	t.Helper()
	lab.Need(t, "users", "dockerd", "runc", "klist", "script")
	dc := lab.Own(t, lab.OwnConfig{})
	base, err := os.MkdirTemp("/dev/shm", "gmsa-cli-docker-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	h := &dockerHost{t: t, base: base}
	if err := os.Chmod(base, 0o755); err != nil {
		t.Fatal(err)
	}
	h.write("agent.yaml", 0o644, fmt.Sprintf(dockerHostYAML, base, dc.IP, dc.Keytab(t, "web1"), lab.BuildHook(t)))
	for _, account := range []string{"webapp01", "webapp02"} {
		h.write("specs/contoso_"+account+".json", 0o644, dockerSpec(account))
	}
	h.write("specs/secret.json", 0o644, dockerSpec("webapp01"))
	h.write("shim/docker", 0o755, string(docker.Shim(lab.Program(t), h.path("agent.yaml"))))
	agent := exec.Command(lab.Program(t), "agent", "serve", "--config", h.path("agent.yaml"))
	agent.Stderr = t.Output()
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = agent.Process.Signal(syscall.SIGTERM)
		if err := agent.Wait(); err != nil {
			t.Errorf("the agent ended with %v", err)
		}
	})
	h.engine = lab.NewSwarm(t, map[string]lab.Runtime{
		"gmsa": {Path: lab.Program(t), Args: []string{"oci-runtime", "--config", h.path("agent.yaml"), "--optional", "runc"}},
	}, func(daemon map[string]any) { daemon["default-runtime"] = "gmsa" })
	lab.Eventually(t, 20*time.Second, func() error { _, err := os.Stat(h.path("hook.sock")); return err })
	return h
}

func dockerSpec(account string) string {
	return fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":"S-1-5-21-702590844-1001920913-2680819671","MachineAccountName":%[1]q,"Guid":"56d9b66c-d746-4f87-bd26-26760cfdca2e","DnsTreeName":"contoso.com","DnsName":"contoso.com","NetBiosName":"CONTOSO"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":%[1]q,"Scope":"contoso.com"}]}}`, account)
}

func (h *dockerHost) path(name string) string { return filepath.Join(h.base, name) }

func (h *dockerHost) write(name string, mode os.FileMode, text string) {
	h.t.Helper()
	path := h.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), mode)); err != nil {
		h.t.Fatal(err)
	}
}

// image has a program called powershell, under the name of the guide's image and as app.
func (h *dockerHost) image() {
	h.t.Helper()
	name := h.engine.Image(lab.Container{Programs: []string{"sh", "klist", "id", "sleep", "ls", "env"}, Prepare: func(rootfs string) error {
		return os.Symlink("sh", filepath.Join(rootfs, "usr/bin/powershell"))
	}})
	for _, args := range [][]string{
		{"create", "--name", "image", name, "sh"},
		{"commit", "--change", `CMD ["sleep", "600"]`, "image", "app"},
		{"rm", "image"},
		{"tag", "app", "mcr.microsoft.com/windows/servercore:ltsc2019"},
	} {
		if out, err := h.engine.Run(args...); err != nil {
			h.t.Fatalf("%v\n%s", err, out)
		}
	}
}

// shell runs a line as a person would: in a shell, on a terminal, with the shim in PATH
// and input to type.
func (h *dockerHost) shell(line, input string) (string, error) {
	ctx, cancel := context.WithTimeout(h.t.Context(), 40*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "--quiet", "--return", "--command", line, "/dev/null")
	cmd.Stdin = strings.NewReader(input)
	cmd.Dir = h.base
	cmd.Env = []string{"PATH=" + h.path("shim") + ":/usr/bin:/bin", "DOCKER_HOST=" + h.engine.Host, "TERM=dumb", "SHELL=/bin/sh", "HOME=" + h.base}
	out, err := cmd.CombinedOutput()
	return strings.ReplaceAll(string(out), "\r\n", "\n"), err
}

// run is shell, and wants the line to succeed.
func (h *dockerHost) run(line string) string {
	h.t.Helper()
	out, err := h.shell(line, "")
	if err != nil {
		h.t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

// A host with Docker 20.10 and the shim in front of its client.
func TestDocker(t *testing.T) {
	h := newDockerHost(t)
	h.image()
	for name, test := range map[string]func(*testing.T, *dockerHost){"guides": guidesByDocker, "shim": theShimOfDocker, "swarm": servicesOfASwarm} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &dockerHost{t, h.base, h.engine})
		})
	}
}

// The guides' own lines run on Linux.
func guidesByDocker(t *testing.T, h *dockerHost) {
	// The container that the guide calls 85d.
	h.run(`docker run --detach --name 85d --network host --security-opt credentialspec=file://contoso_webapp01.json app sleep 600`)
	for _, file := range seedFiles(t) {
		for _, s := range readSeeds(t, file) {
			if !s.byDocker {
				continue
			}
			line := strings.Join(s.script, "\n")
			out, err := h.shell(line, "klist\nexit\n")
			if err != nil {
				t.Errorf("%s: %s: %v\n%s", s.position, line, err, out)
			}
			for _, want := range s.output {
				if !strings.Contains(out, want) {
					t.Errorf("%s: no %q in:\n%s", s.position, want, out)
				}
			}
		}
	}
}

// What is not about credential specs is the client's, down to its exit codes and signals;
// what is, is refused in the engine's words and with its codes.
func theShimOfDocker(t *testing.T, h *dockerHost) {
	const run = "docker run --rm --network host "
	for line, c := range map[string]struct {
		code int
		want string
	}{
		run + "app sh -c 'ls /run; exit 7'": {7, ""},
		run + "--security-opt credentialspec=file://contoso_webapp02.json --user 'NT AUTHORITY\\NETWORK SERVICE' app sh -c 'id -u; env -i /usr/bin/klist'": {0, "1000\nTicket cache: FILE:/run/gmsa/..data/ccache\nDefault principal: webapp02$@"},
		run + "--security-opt credentialspec=raw://'" + strings.ReplaceAll(dockerSpec("webapp02"), "\n", "") + "' app klist":                               {0, "Default principal: webapp02$@"},
		run + "--security-opt credentialspec=file://nothing.json app":                                                                                      {125, "docker: Error response from daemon: credential spec for container could not be read from file"},
		run + "--security-opt credentialspec=oops app":                                                                                                     {125, "docker: Error response from daemon: invalid credential spec security option - value must be prefixed by"},
		run + "--security-opt credentialspec=file://secret.json app klist":                                                                                 {125, "is not published to this container"},
		run + "--security-opt seccomp=/nonexistent app":                                                                                                    {125, "nonexistent"},
		"docker service create --credential-spec x app":                                                                                                    {1, `docker: invalid argument "x" for "--credential-spec" flag`},
		"docker -H unix:///nonexistent run --security-opt credentialspec=file://contoso_webapp01.json app":                                                 {125, "Cannot connect to the Docker daemon"},
		"docker nonsense": {1, "'nonsense' is not a docker command"},
		// An image can bring a volume, and no identity with it.
		run + "--volume /run/gmsa/contoso_webapp01.json app klist": {125, "it is no config of a swarm"},
	} {
		out, err := h.shell(line, "")
		code := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			code = exit.ExitCode()
		}
		if code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d, want %d with %q\n%s", line, code, c.code, c.want, out)
		}
	}
	// A shim alone leads nowhere, and not to itself.
	out, err := h.shell("PATH="+h.path("shim")+" docker ps", "")
	if err == nil || !strings.Contains(out, "no docker in PATH") {
		t.Errorf("without a client: %v\n%s", err, out)
	}
}

// Services of a swarm of one node have the identity that their manager names and the node's
// policy allows, or none of their tasks starts.
func servicesOfASwarm(t *testing.T, h *dockerHost) {
	h.write("stack.yaml", 0o644, "version: '3.8'\nservices:\n  web:\n    image: app\n    command: [sleep, '600']\n    networks: [host]\n    credential_spec: {file: contoso_webapp01.json}\nnetworks: {host: {external: true, name: host}}\n")
	h.run("docker config create contoso_webapp02 specs/contoso_webapp02.json")
	h.run("docker config create contoso_webapp01 specs/contoso_webapp02.json") // not what this host calls so
	const create = "docker service create --detach --restart-max-attempts 0 --network host "
	h.run(create + "--name file --user 1000 --read-only --cap-drop all --credential-spec file://contoso_webapp01.json app sleep 600")
	h.run(create + "--name config --credential-spec config://contoso_webapp02 app sleep 600")
	h.run(create + "--name plain app sleep 600")
	h.run(create + "--name secret --credential-spec file://secret.json app sleep 600")
	h.run(create + "--name forged --credential-spec config://contoso_webapp01 app sleep 600")
	h.run("docker stack deploy --compose-file stack.yaml stack")

	for service, want := range map[string]string{
		"file": "Default principal: webapp01$@CONTOSO.COM", "config": "Default principal: webapp02$@CONTOSO.COM",
		"stack_web": "Default principal: webapp01$@CONTOSO.COM", "plain": "No credentials cache found",
	} {
		lab.Eventually(t, 30*time.Second, func() error {
			out, _ := h.shell("docker exec $(docker ps --quiet --filter name="+service+") env -i /usr/bin/klist", "") // fails for plain
			if !strings.Contains(out, want) {
				tasks, _ := h.shell("docker service ps --no-trunc "+service, "")
				return fmt.Errorf("%s: no %q in:\n%s\n%s", service, want, out, tasks)
			}
			return nil
		})
	}
	for service, want := range map[string]string{"secret": "is not published to this container", "forged": "it is another credential spec than this host's"} {
		lab.Eventually(t, 30*time.Second, func() error {
			out, err := h.shell("docker service ps --no-trunc "+service, "")
			if err == nil && (strings.Contains(out, "Running ") || !strings.Contains(out, want)) {
				err = fmt.Errorf("%s: no %q in:\n%s", service, want, out)
			}
			return err
		})
	}
}
