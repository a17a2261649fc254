package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestEmptyFileIsTheDefault(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		c, err := Parse([]byte(text))
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if c.Socket != "/run/gmsa/agent.sock" || c.SocketMode != 0o600 || c.Quotas.Connections != 16 || c.Quotas.Requests != 64 || c.RawCredentialSpecs {
			t.Errorf("%q: %+v", text, c)
		}
	}
}

// The example is the manual's: every key is in it.
func TestExample(t *testing.T) {
	b, err := os.ReadFile(filepath.Join("testdata", "agent.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	d := c.Domains["contoso.com"]
	if d.Realm != "CONTOSO.COM" || d.NetBIOS != "CONTOSO" || d.Protection != ProtectionSPNEGO || d.Host.RotatePassword != RotateAuto {
		t.Errorf("domain defaults: %+v, host %+v", d, d.Host)
	}
	if c.SocketMode != 0o666 {
		t.Errorf("socket mode %#o, want 0666: there are rules", c.SocketMode)
	}
	if got := c.OnRotate["reload-nginx"].Timeout; got != 30*time.Second {
		t.Errorf("timeout %s", got)
	}
	if c.Leases.Units != "/run/gmsa/units" {
		t.Errorf("units %s", c.Leases.Units)
	}
	if c.Rules[0].Users[0] != 1000 || c.Plugins["vault"].Timeout != 5*time.Second {
		t.Errorf("rules %+v, plug-ins %+v", c.Rules, c.Plugins)
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	const text = `
socket: agent.sock
sokcet: /x
quotas: {connections: 0, request_timeout: -1s}
domains:
  contoso.com:
    protection: none
    host: {keytab: /etc/krb5.keytab, user: svc, colour: red}
    prefetch_spns: [HTTP]
  "bad domain": {servers: [""]}
plugins:
  v: {kind: vault, guid: nonsense, address: "http://vault", allow_input: "("}
  e: {kind: exec}
rules:
  - {name: empty}
  - {users: [1], accounts: [a], cgroup: /x}
on_rotate:
  x: {command: [reload]}
event_log: {path: ccg.jsonl}
ecs: {socket: ecs.sock, mode: 0644}
`
	_, err := Parse([]byte(text))
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`ecs.socket: "ecs.sock" is not an absolute path`,
		`ecs.accounts: the ECS agent may use no account`,
		`ecs: mode of a lease's files must be 0400 or 0440`,
		`sokcet: unknown key in line 3; known are containers, credential_specs, `,
		`socket: "agent.sock" is not an absolute path`,
		`quotas.connections: want at least 1`,
		`quotas.request_timeout: must be positive`,
		`domains.contoso.com.protection: "none": want gssapi`,
		`domains.contoso.com.host: want exactly one of keytab, user and plugin, got 2`,
		`domains.contoso.com.host: user and password_file go together`,
		`domains.contoso.com.host.colour: unknown key in line 8`,
		`domains.contoso.com.prefetch_spns[0]: "HTTP" is no service principal name`,
		`domains.bad domain: "bad domain" is no DNS name`,
		`domains.bad domain.servers[0]: "" is no host name`,
		`plugins.v.guid: `,
		`plugins.v.address: "http://vault": want an https URL`,
		`plugins.v.allow_input: `,
		`plugins.v: want either token_file or approle`,
		`plugins.e.command: is missing`,
		`plugins.e.user: is missing`,
		`rules[0].users: the rule matches nobody`,
		`rules[1].cgroup: unknown key in line 16`,
		`on_rotate.x.command[0]: "reload" is not an absolute path`,
		`event_log.path: "ccg.jsonl" is not an absolute path`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"no YAML":             {"a: [", "did not find"},
		"a list":              {"- a", "cannot unmarshal"},
		"wrong type":          {"domains: 5", "cannot unmarshal"},
		"duplicate key":       {"socket: /a\nsocket: /b", "already defined"},
		"two documents":       {"socket: /a\n---\nsocket: /b", "more than one"},
		"decimal mode":        {"socket_mode: 0680", "no file mode"},
		"mode beyond 0777":    {"socket_mode: 01777", "no file mode"},
		"one domain twice":    {"domains: {a.b: {}, A.B: {}}", "another spelling"},
		"unknown plug-in":     {"domains: {a.b: {host: {plugin: x}}}", "not among plugins"},
		"password in argv":    {"domains: {a.b: {host: {user: x, password: y}}}", "unknown key"},
		"negative lease size": {"leases: {size: -1}", "negative"},
		"too large":           {strings.Repeat("#", maxSize+1), "over"},
	} {
		if _, err := Parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestSocketModeIsOctal(t *testing.T) {
	for _, text := range []string{"0660", "0o660", `"0660"`, "660"} {
		c, err := Parse([]byte("socket_mode: " + text))
		if err != nil || c.SocketMode != 0o660 {
			t.Errorf("%s: %#o, %v", text, c.SocketMode, err)
		}
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte("x: 1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.HasPrefix(err.Error(), path) {
		t.Errorf("%v", err)
	}
}

func FuzzParse(f *testing.F) {
	b, err := os.ReadFile(filepath.Join("testdata", "agent.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(b))
	f.Add("a: &a [*a]")
	f.Add("domains: {a.b: {host: {keytab: /x}}}")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse([]byte(text))
		if err == nil && c.Validate() != nil {
			t.Errorf("accepted, and not valid: %v", c.Validate())
		}
	})
}
