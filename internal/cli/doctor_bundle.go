package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

// bundleEvents is how many of the newest events go into a bundle.
const bundleEvents = 500

// systemFiles are configuration without secrets.
var systemFiles = []string{"/etc/krb5.conf", "/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/os-release", "/proc/version"}

// writeBundle writes what the doctor found, and what it is about, to a file.
func (a *app) writeBundle(ctx context.Context, o doctorOptions, x *examination, r doctor.Report) error {
	b := new(doctor.Bundle)
	g := &gatherer{b: b}
	defer g.destroy()
	g.json("report.json", r)
	var text bytes.Buffer
	if err := writeReport(&text, r, true); err != nil {
		return err
	}
	b.Add("report.txt", text.Bytes())
	g.json("version.json", buildVersion())
	b.Add("system.txt", fmt.Appendf(nil, "host %s\n%s/%s, %d processors\n", hostName(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU()))
	for _, path := range systemFiles {
		if content, err := readLimited(path, 1<<20); err == nil {
			b.Add("system"+path, content)
		}
	}
	g.configuration(o.config)
	for i, f := range x.cfg.Specs {
		g.spec(fmt.Sprintf("specs/%d-%s", i+1, filepath.Base(f.Path)), f)
	}
	g.keytab(x)
	g.cache(a, a.cacheName(o.ccache))
	g.events(x.agent.EventLog.Path)
	a.addAgentState(ctx, g, x)
	return writeWhole(o.bundle, func(w io.Writer) error { return b.Write(w, a.env.Now()) })
}

// writeWhole writes a file that its owner alone can read, or none.
func writeWhole(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".gmsa-bundle-*")
	if err != nil {
		return fmt.Errorf("bundle: %w", err)
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

// gatherer puts files into a bundle, and notes the secrets that it comes across.
type gatherer struct {
	b       *doctor.Bundle
	secrets []secret.Bytes
}

func (g *gatherer) destroy() {
	for _, s := range g.secrets {
		s.Destroy()
	}
}

func (g *gatherer) hide(s secret.Bytes) {
	g.secrets = append(g.secrets, s)
	g.b.Hide(s)
}

// hideKey notes a key's bytes.
func (g *gatherer) hideKey(k *crypto.Key) {
	if k != nil {
		g.hide(k.Secret())
	}
}

func (g *gatherer) json(name string, v any) {
	content, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		content = []byte(err.Error())
	}
	g.b.Add(name, content)
}

// wordsOfConfig are the keys of agent.yaml whose values go into the bundle as they are;
// of all others only the key does, and whoever misses one can be asked.
var wordsOfConfig = []string{
	"socket", "socket_mode", "leases", "directory", "units", "size", "allow_swap", "quotas", "connections", "requests", "all_leases", "request_timeout",
	"credential_specs", "raw_credential_specs", "state_directory", "domains", "realm", "netbios", "servers", "site", "protection", "ca", "host", "keytab",
	"principal", "rotate_password", "user", "password_file", "plugin", "prefetch_spns", "plugins", "guid", "kind", "allow_input", "timeout", "path",
	"mount", "kv_version", "token_file", "approle", "role_id_file", "secret_id_file", "rules", "name", "users", "groups", "accounts", "uid", "gid", "mode",
	"containers", "hook_socket", "hook", "cdi_directory", "event_log", "max_size", "max_files", "journal", "tickets", "lifetime", "domain_maximum", "in_flight",
}

// configuration is the agent's, without what a plug-in is asked, without the arguments
// of programs, and without comments.
func (g *gatherer) configuration(path string) {
	content, err := readLimited(path, 1<<20)
	if err != nil {
		g.b.Add("agent.yaml", []byte(err.Error()))
		return
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(content, &doc); err != nil || len(doc.Content) != 1 {
		g.b.Add("agent.yaml", fmt.Appendf(nil, "not YAML: %d bytes, which are not shown\n", len(content)))
		return
	}
	// Of a file that is not in order no value can be trusted to be what its key says.
	_, err = config.Parse(content)
	g.prune(doc.Content[0], err == nil, false)
	text, err := yaml.Marshal(doc.Content[0])
	if err != nil {
		text = []byte(err.Error())
	}
	g.b.Add("agent.yaml", text)
}

// prune leaves of a YAML tree the values of known keys. Names below domains, plugins and
// on_rotate are the administrator's, and stay.
func (g *gatherer) prune(n *yaml.Node, valid, names bool) {
	n.HeadComment, n.LineComment, n.FootComment, n.Anchor = "", "", "", ""
	if n.Kind != yaml.MappingNode {
		for _, child := range n.Content {
			g.prune(child, valid, false)
		}
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		key.HeadComment, key.LineComment, key.FootComment = "", "", ""
		switch {
		case names && value.Kind == yaml.MappingNode, slices.Contains(wordsOfConfig, key.Value) && value.Kind != yaml.AliasNode && (valid || value.Kind == yaml.MappingNode):
			g.prune(value, valid, slices.Contains([]string{"domains", "plugins"}, key.Value))
			if key.Value == "password_file" {
				g.passwordFile(value.Value)
			}
		default:
			g.hideTexts(value)
			*value = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: "[left out]"}
		}
	}
}

// wordLength is from how many bytes on a text that may be a secret, or a mere word, is
// looked for everywhere. It is left out of its own place in any case.
const wordLength = 10

// hideTexts notes the texts of a value that is left out.
func (g *gatherer) hideTexts(n *yaml.Node) {
	if n.Kind == yaml.ScalarNode && len(n.Value) >= wordLength && !strings.Contains(n.Value, "/") {
		g.hide(secret.Copy([]byte(n.Value)))
	}
	for _, child := range n.Content {
		g.hideTexts(child)
	}
}

func (g *gatherer) passwordFile(path string) {
	if content, err := readLimited(path, 64<<10); err == nil {
		defer clear(content)
		g.hide(secret.Copy(bytes.TrimRight(content, "\r\n")))
	}
}

// spec is a credential spec without what its plug-in is asked.
func (g *gatherer) spec(name string, f doctor.SpecFile) {
	spec, findings, err := credspec.Parse(f.Content)
	if h := spec.ActiveDirectoryConfig.HostAccountConfig; h != nil {
		g.input(h.PluginInput)
		h.PluginInput = secret.Copy([]byte("[left out]"))
	}
	if err != nil {
		var text strings.Builder
		fmt.Fprintf(&text, "%s: %d bytes, which cannot be used and are not shown\n", f.Path, len(f.Content))
		for _, x := range findings {
			fmt.Fprintln(&text, x)
		}
		g.b.Add(name+".txt", []byte(text.String()))
		return
	}
	g.b.Add(name, spec.Render())
}

// input notes what a plug-in is asked, and its parts: the simplest has a password in
// the third.
func (g *gatherer) input(s secret.Bytes) {
	if s.Len() >= wordLength {
		g.hide(secret.Copy(s.Reveal()))
	}
	if parts := bytes.SplitN(s.Reveal(), []byte(":"), 3); len(parts) == 3 {
		g.hide(secret.Copy(parts[2]))
	}
}

// keytab lists what the host's keytab has, without the keys.
func (g *gatherer) keytab(x *examination) {
	if x.cfg.Host == nil || x.cfg.Host.Keytab == "" {
		return
	}
	content, err := readLimited(x.cfg.Host.Keytab, keytab.MaxSize)
	if err != nil {
		g.b.Add("keytab.txt", []byte(err.Error()))
		return
	}
	defer clear(content)
	kt, err := keytab.Parse(content)
	if err != nil {
		g.b.Add("keytab.txt", []byte("not a keytab"))
		return
	}
	var text strings.Builder
	for _, e := range kt.Entries {
		if e.Key == nil {
			continue
		}
		g.hideKey(e.Key)
		fmt.Fprintf(&text, "%v version %d %v\n", e.Principal, e.KVNO, e.Key.EType())
	}
	g.b.Add("keytab.txt", []byte(text.String()))
}

// cache lists the caller's tickets, without their keys.
func (g *gatherer) cache(a *app, name string) {
	cache, path, err := a.openCache(name)
	if err != nil {
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%s\n", path)
	for _, c := range cache.Credentials {
		g.ticket(&text, c)
	}
	g.b.Add("tickets.txt", []byte(text.String()))
}

func (g *gatherer) ticket(text *strings.Builder, c krb5.Credential) {
	g.hideKey(c.SessionKey)
	fmt.Fprintf(text, "%v for %v, from %v until %v\n", c.Client, c.Server, c.AuthTime, c.EndTime)
}

// events are the newest of the log.
func (g *gatherer) events(path string) {
	var lines [][]byte
	for e, err := range event.Read(path, event.Filter{}) {
		if err != nil {
			continue // a line that is none
		}
		if line, err := json.Marshal(e); err == nil {
			lines = append(lines, line)
		}
	}
	g.b.Add("events.jsonl", append(bytes.Join(lines[max(0, len(lines)-bundleEvents):], []byte("\n")), '\n'))
}

// addAgentState adds what the agent says of itself and of its leases.
func (a *app) addAgentState(ctx context.Context, g *gatherer, x *examination) {
	h, isHost := x.cfg.Agent.(*hostAgent)
	if !isHost {
		return
	}
	client, err := agentapi.Dial(h.socket)
	if err != nil {
		return
	}
	defer func() { _ = client.Close() }()
	out := protojson.MarshalOptions{Multiline: true}
	if s, err := client.Status(ctx, &agentapi.StatusRequest{}); err == nil {
		g.b.Add("agent-status.json", []byte(out.Format(s)))
	} else {
		g.b.Add("agent-status.json", []byte(err.Error()))
	}
	if l, err := client.ListLeases(ctx, &agentapi.ListLeasesRequest{}); err == nil {
		g.b.Add("leases.json", []byte(out.Format(l)))
	}
}
