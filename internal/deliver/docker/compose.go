package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/deliver/cdi"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// maxCompose bounds a Compose file, in bytes.
const maxCompose = 4 << 20

// composeNames are those that Compose looks for, and the ones beside them.
var composeNames = [][2]string{
	{"compose.yaml", "compose.override.yaml"}, {"compose.yml", "compose.override.yml"},
	{"docker-compose.yml", "docker-compose.override.yml"}, {"docker-compose.yaml", "docker-compose.override.yaml"},
}

// composeCommands are those that make containers: others need no translation.
func composeCommands() []string { return []string{"up", "create", "run", "scale", "config", "watch"} }

// compose translates the files of docker compose.
func (t Translator) compose(ctx context.Context, l line) (Plan, error) {
	var files []string
	var dir string
	options, rest := l.rewrite(func(name, value string) ([]string, bool) {
		switch name {
		case "file":
			files = append(files, value)
			return nil, true
		case "project-directory":
			dir = value
		}
		return nil, false
	})
	if len(rest) == 0 || !slices.Contains(composeCommands(), rest[0]) {
		return Plan{}, errUntouched
	}
	if files == nil {
		files = t.composeFiles(dir)
	}
	if len(files) == 0 {
		return Plan{}, errUntouched
	}
	translated, err := t.files(ctx, l, files, false)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Args: slices.Concat(l.before(), options), Files: translated}
	if dir == "" {
		p.Args = append(p.Args, "--project-directory", filepath.Dir(t.absolute(files[0])))
	}
	for i, f := range files {
		p.Args = append(p.Args, "--file", p.nameOf(i, t.absolute(f)))
	}
	p.Args = append(p.Args, rest...)
	return p, nil
}

// nameOf is what stands for the file of that number: itself, if it is as it was.
func (p *Plan) nameOf(i int, path string) string {
	name := fileName(i)
	if slices.ContainsFunc(p.Files, func(f File) bool { return f.Name == name }) {
		return name
	}
	return path
}

// fileName is no path that an argument could be.
func fileName(i int) string { return "\x00compose-" + strconv.Itoa(i) + ".yaml" }

func (t Translator) absolute(path string) string {
	if filepath.IsAbs(path) || path == "-" {
		return path
	}
	return filepath.Join(t.Directory, path)
}

// composeFiles are those that Compose finds by itself: of its environment, else in the
// project's directory or one above it.
func (t Translator) composeFiles(dir string) []string {
	if list := t.Getenv("COMPOSE_FILE"); list != "" {
		separator := t.Getenv("COMPOSE_PATH_SEPARATOR")
		if separator == "" {
			separator = string(os.PathListSeparator)
		}
		return strings.Split(list, separator)
	}
	for at := t.absolute(dir); ; at = filepath.Dir(at) {
		for _, names := range composeNames {
			main := filepath.Join(at, names[0])
			if _, err := os.Stat(main); err != nil {
				continue
			}
			if _, err := os.Stat(filepath.Join(at, names[1])); err == nil {
				return []string{main, filepath.Join(at, names[1])}
			}
			return []string{main}
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// stack translates the files of docker stack deploy.
func (t Translator) stack(ctx context.Context, l line) (Plan, error) {
	var files []string
	options, rest := l.rewrite(func(name, value string) ([]string, bool) {
		if name == "compose-file" {
			files = append(files, value)
			return nil, true
		}
		return nil, false
	})
	if files == nil {
		return Plan{}, errUntouched
	}
	translated, err := t.files(ctx, l, files, true)
	if err != nil {
		return Plan{}, err
	}
	p := Plan{Args: slices.Clone(l.before()), Files: translated}
	for i, f := range files {
		p.Args = append(p.Args, "--compose-file", p.nameOf(i, f))
	}
	p.Args = append(append(p.Args, options...), rest...)
	return p, nil
}

// files translates those that have words for Windows. Without any, or for an engine on
// Windows, nothing is to be done.
func (t Translator) files(ctx context.Context, l line, paths []string, swarm bool) ([]File, error) {
	type document struct {
		name string
		root yaml.Node
	}
	var documents []document
	for i, path := range paths {
		text, err := readCompose(t.absolute(path))
		if errors.Is(err, fs.ErrNotExist) || path == "-" || err == nil && !bytes.Contains(bytes.ToLower(text), []byte("credential")) {
			continue // the client's to complain of, or without such words
		}
		if err != nil {
			return nil, err
		}
		d := document{name: fileName(i)}
		if yaml.Unmarshal(text, &d.root) == nil && len(services(&d.root)) > 0 {
			documents = append(documents, d)
		}
	}
	if documents == nil {
		return nil, errUntouched
	}
	e, err := t.Ask(ctx, l.global())
	if err != nil || e.Windows {
		return nil, errUntouched
	}
	var files []File
	for _, d := range documents {
		changed := false
		for name, service := range services(&d.root) {
			did, err := t.composeService(e, service, swarm)
			if err != nil {
				return nil, &Error{Status: statusOther, Err: fmt.Errorf("service %q: %w", name, err)}
			}
			changed = changed || did
		}
		if !changed {
			continue
		}
		var b bytes.Buffer
		enc := yaml.NewEncoder(&b)
		enc.SetIndent(2)
		if err := errors.Join(enc.Encode(&d.root), enc.Close()); err != nil {
			return nil, err
		}
		files = append(files, File{Name: d.name, Text: b.Bytes()})
	}
	if files == nil {
		return nil, errUntouched
	}
	return files, nil
}

func readCompose(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxCompose+1))
	if err == nil && len(b) > maxCompose {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxCompose)
	}
	return b, err
}

// services are the services of a Compose file, by name.
func services(root *yaml.Node) map[string]*yaml.Node {
	list := map[string]*yaml.Node{}
	if root.Kind != yaml.DocumentNode || len(root.Content) == 0 {
		return list
	}
	all := value(root.Content[0], "services")
	if all == nil || all.Kind != yaml.MappingNode {
		return list
	}
	for i := 0; i+1 < len(all.Content); i += 2 {
		if all.Content[i+1].Kind == yaml.MappingNode {
			list[all.Content[i].Value] = all.Content[i+1]
		}
	}
	return list
}

// value is that of a key in a mapping, nil for none; an alias stands for what it means.
func value(m *yaml.Node, key string) *yaml.Node {
	for i := 0; m.Kind == yaml.MappingNode && i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			if v := m.Content[i+1]; v.Kind != yaml.AliasNode {
				return v
			}
			return m.Content[i+1].Alias
		}
	}
	return nil
}

// remove takes a key out of a mapping.
func remove(m *yaml.Node, key string) {
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			m.Content = slices.Delete(m.Content, i, i+2)
			return
		}
	}
}

// add appends items to the sequence of a key, which is made where there is none.
func add(m *yaml.Node, key string, items ...*yaml.Node) error {
	list := value(m, key)
	if list == nil {
		list = &yaml.Node{Kind: yaml.SequenceNode}
		m.Content = append(m.Content, scalar(key), list)
	}
	if list.Kind != yaml.SequenceNode {
		return fmt.Errorf("%s is no list", key)
	}
	list.Content = append(list.Content, items...)
	return nil
}

func scalar(s string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
}

// mapping is a mapping of strings, in the order given.
func mapping(pairs ...string) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode}
	for _, p := range pairs {
		m.Content = append(m.Content, scalar(p))
	}
	return m
}

// composeService translates one service, and reports whether there was anything to.
func (t Translator) composeService(e Engine, service *yaml.Node, swarm bool) (changed bool, err error) {
	if user := value(service, "user"); user != nil && isWindowsUser(user.Value) {
		changed = true
		if by := t.user("run", user.Value); by != nil {
			*user = *scalar(by[1])
		} else {
			remove(service, "user")
		}
	}
	ref, found, err := composeRef(service)
	if err != nil || !found {
		return changed, err
	}
	remove(service, "credential_spec")
	if swarm {
		return true, t.swarmIdentity(e, service, ref)
	}
	if ref.Scheme == credspec.SchemeConfig {
		return true, credspec.ErrRef
	}
	s, err := t.Specs.find(ref)
	if err != nil {
		return true, err
	}
	return true, e.composeIdentity(service, s)
}

// composeRef is what a service refers to, by credential_spec or by security_opt, which
// loses that.
func composeRef(service *yaml.Node) (ref credspec.Ref, found bool, err error) {
	if opts := value(service, "security_opt"); opts != nil && opts.Kind == yaml.SequenceNode {
		var about []string
		opts.Content = slices.DeleteFunc(opts.Content, func(n *yaml.Node) bool {
			if !isCredentialSpec(n.Value) {
				return false
			}
			about = append(about, n.Value)
			return true
		})
		if about != nil {
			if len(opts.Content) == 0 {
				remove(service, "security_opt")
			}
			if ref, err = credspec.ParseSecurityOpts(about, false); err != nil {
				return ref, true, err
			}
			found = true
		}
	}
	spec := value(service, "credential_spec")
	if spec == nil {
		return ref, found, nil
	}
	var given []string
	for _, key := range []string{"config", "file", "registry"} {
		if v := value(spec, key); v != nil && v.Value != "" {
			given = append(given, strconv.Quote(strings.ToUpper(key[:1])+key[1:]))
			// Users write the scheme too, which the field does without.
			ref = credspec.Ref{Scheme: credspec.Scheme(key), Value: strings.TrimPrefix(v.Value, key+"://")}
		}
	}
	switch len(given) {
	case 0:
		return ref, found, nil
	case 1:
		return ref, true, nil
	case 2:
		return ref, true, fmt.Errorf("invalid credential spec: cannot specify both %s and %s", given[0], given[1])
	}
	return ref, true, fmt.Errorf("invalid credential spec: cannot specify both %s, and %s", strings.Join(given[:2], ", "), given[2])
}

// composeIdentity gives a service its identity. The form of a reservation is the one that
// every Compose passes on to an engine with CDI; the capability is one that it demands,
// and means nothing.
func (e Engine) composeIdentity(service *yaml.Node, s Spec) error {
	restart := value(service, "restart")
	restarts := restart != nil && restart.Value != "no"
	switch {
	case e.CDI && !(restarts && e.Runtime != ""):
		at := service
		for _, key := range []string{"deploy", "resources", "reservations"} {
			next := value(at, key)
			if next == nil {
				next = &yaml.Node{Kind: yaml.MappingNode}
				at.Content = append(at.Content, scalar(key), next)
			}
			at = next
		}
		device := mapping("driver", "cdi")
		device.Content = append(device.Content,
			scalar("device_ids"), &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{scalar(cdi.Kind + "=" + s.Name)}},
			scalar("capabilities"), &yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{scalar("gmsa")}})
		return add(at, "devices", device)
	case e.Runtime != "":
		if !e.Default {
			remove(service, "runtime")
			service.Content = append(service.Content, scalar("runtime"), scalar(e.Runtime))
		}
		return add(service, "volumes", scalar(s.Path+":"+lease.MountPoint+":ro"))
	}
	_, err := e.identity(s, restarts)
	return err
}

// swarmIdentity is [Translator.mounts] for a service of a stack.
func (t Translator) swarmIdentity(e Engine, service *yaml.Node, ref credspec.Ref) error {
	if !e.Default {
		return notDefault()
	}
	if ref.Scheme == credspec.SchemeConfig {
		if err := credspec.CheckName(ref.Value); err != nil {
			return err
		}
		// A config that is listed already, as Windows demands, is the same one.
		if configs := value(service, "configs"); configs != nil && configs.Kind == yaml.SequenceNode {
			configs.Content = slices.DeleteFunc(configs.Content, func(n *yaml.Node) bool { return n.Value == ref.Value })
		}
		return add(service, "configs", mapping("source", ref.Value, "target", ConfigTarget(ref.Value)))
	}
	s, err := t.Specs.find(ref)
	if err != nil {
		return err
	}
	mount := mapping("type", "bind", "source", s.Path, "target", lease.MountPoint)
	mount.Content = append(mount.Content, scalar("read_only"), &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
	return add(service, "volumes", mount)
}
