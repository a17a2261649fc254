// Package docker understands Docker's own words for credential specs, and says them again
// in a way that an engine on Linux takes.
//
// docker run --security-opt credentialspec=…, docker service create --credential-spec and
// credential_spec in Compose files are for Windows: an engine on Linux refuses them. What
// stands for them there is a device of CDI, or where an engine knows none the runtime of
// package ocihook. A command line without such words is not looked into any further, and
// is the client's as it is.
//
// The package runs nothing but docker info. Read [Translator.Translate].
package docker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/deliver/cdi"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// Translator translates command lines.
type Translator struct {
	// Ask asks the engine what it is, with the client's global options.
	Ask func(ctx context.Context, global []string) (Engine, error)
	// Specs is where credential specs lie.
	Specs Specs
	// NetworkService is the user of --user "NT AUTHORITY\NETWORK SERVICE"; empty is
	// the image's own.
	NetworkService string
	// Directory is the working directory, and Getenv the environment of Compose.
	Directory string
	Getenv    func(string) string
}

// A Plan is how the client is to be run.
type Plan struct {
	// Args are its arguments.
	Args []string
	// Files, where there are any, are Compose files to write: the arguments name them
	// by [File.Name].
	Files []File
	// Warnings are for the user.
	Warnings []string
}

// File is a translated Compose file.
type File struct {
	// Name stands in Args for the path that the file gets.
	Name string
	Text []byte
}

// Error is what the engine, or the client, would say.
type Error struct {
	// Status is the exit code that Docker has for it.
	Status int
	Err    error
	Hints  []string
}

// Error is the text.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// Exit codes of docker: one of its own before a container runs, and any other fault.
const (
	statusEngine = 125
	statusOther  = 1
)

// Translate says what the client is to be run with. Args are the arguments behind
// "docker".
func (t Translator) Translate(ctx context.Context, args []string) (Plan, error) {
	l := split(args)
	var p Plan
	var err error
	switch {
	case slices.Contains([]string{"run", "create", "exec"}, l.verb):
		p, err = t.container(ctx, l)
	case l.verb == "service create", l.verb == "service update":
		p, err = t.service(ctx, l)
	case l.verb == "compose":
		p, err = t.compose(ctx, l)
	case l.verb == "stack deploy":
		p, err = t.stack(ctx, l)
	default:
		return Plan{Args: args}, nil
	}
	if errors.Is(err, errUntouched) {
		return Plan{Args: args}, nil
	}
	return p, err
}

// errUntouched is a command line that is the client's as it is.
var errUntouched = errors.New("nothing to translate")

// request is what a command line says of identities.
type request struct {
	opts     []string // the values of --security-opt that are about credential specs
	user     string   // a user of Windows
	hostname string
	restarts bool // the engine starts the container again by itself
}

// container translates docker run, create and exec.
func (t Translator) container(ctx context.Context, l line) (Plan, error) {
	r := request{}
	options, rest := l.rewrite(func(name, value string) ([]string, bool) {
		switch {
		case name == "security-opt" && isCredentialSpec(value):
			r.opts = append(r.opts, value)
			return nil, true
		case name == "user" && isWindowsUser(value):
			r.user = value
			return t.user(l.verb, value), true
		case name == "hostname":
			r.hostname = value
		case name == "restart":
			r.restarts = value != "no"
		}
		return nil, false
	})
	if r.opts == nil && r.user == "" {
		return Plan{}, errUntouched
	}
	e, err := t.Ask(ctx, l.global())
	if err != nil {
		return Plan{}, errUntouched // the client has the words for it
	}
	ref, err := credspec.ParseSecurityOpts(r.opts, false)
	if err != nil {
		return Plan{}, l.engineError(err)
	}
	if e.Windows {
		warnings, err := t.Specs.checkHostname(e, ref, r.hostname)
		return Plan{Args: l.args, Warnings: warnings}, err
	}
	p := Plan{Args: slices.Concat(l.before(), options)}
	if ref.Scheme != "" {
		s, err := t.Specs.find(ref)
		if err != nil {
			return Plan{}, l.engineError(err)
		}
		identity, err := e.identity(s, r.restarts)
		if err != nil {
			return Plan{}, err
		}
		p.Args = append(p.Args, identity...)
	}
	p.Args = append(p.Args, rest...)
	return p, nil
}

// identity are the options of docker run that give a container an identity. An engine
// before 28.2 does not start a container with a device again when it starts itself
// (https://github.com/moby/moby/issues/49989): one that restarts has the runtime, where
// there is one.
func (e Engine) identity(s Spec, restarts bool) ([]string, error) {
	switch {
	case e.CDI && !(restarts && e.Runtime != ""):
		return []string{"--device", cdi.Kind + "=" + s.Name}, nil
	case e.Default:
		return []string{"--mount", s.mount()}, nil
	case e.Runtime != "":
		return []string{"--runtime", e.Runtime, "--mount", s.mount()}, nil
	}
	return nil, &Error{
		Status: statusEngine, Err: errors.New("this engine knows neither devices of CDI nor a runtime of gmsa: it would start the container without its identity"),
		Hints: []string{"gmsa runtime install docker"},
	}
}

// user is what stands for a user of Windows. In a container that runs it is whoever the
// container runs as, who has the identity.
func (t Translator) user(verb, name string) []string {
	u := t.NetworkService
	if strings.EqualFold(name, `NT AUTHORITY\SYSTEM`) {
		u = "0"
	} else if verb == "exec" {
		u = ""
	}
	if u == "" {
		return nil
	}
	return []string{"--user", u}
}

func isWindowsUser(name string) bool {
	authority, user, ok := strings.Cut(name, `\`)
	return ok && strings.EqualFold(authority, "NT AUTHORITY") &&
		(strings.EqualFold(user, "NETWORK SERVICE") || strings.EqualFold(user, "SYSTEM"))
}

func isCredentialSpec(opt string) bool {
	key, _, _ := strings.Cut(opt, "=")
	return strings.EqualFold(key, "credentialspec")
}

// service translates docker service create and update. A service has no devices: what
// names its credential spec to the runtime on each node is a mount, which the manager
// sets and an image cannot.
func (t Translator) service(ctx context.Context, l line) (Plan, error) {
	var specs []string
	r := request{}
	options, rest := l.rewrite(func(name, value string) ([]string, bool) {
		switch {
		case name == "credential-spec":
			specs = append(specs, value)
			return nil, true
		case name == "user" && isWindowsUser(value):
			r.user = value
			return t.user("run", value), true
		case name == "hostname":
			r.hostname = value
		}
		return nil, false
	})
	if specs == nil && r.user == "" {
		return Plan{}, errUntouched
	}
	e, err := t.Ask(ctx, l.global())
	if err != nil {
		return Plan{}, errUntouched
	}
	if e.Windows {
		return t.windowsService(e, l, specs, r)
	}
	p := Plan{Args: slices.Concat(l.before(), options)}
	if specs != nil {
		identity, err := t.mounts(e, specs[len(specs)-1], l.verb == "service update")
		if err != nil {
			return Plan{}, err
		}
		p.Args = append(p.Args, identity...)
	}
	p.Args = append(p.Args, rest...)
	return p, nil
}

func (t Translator) windowsService(e Engine, l line, specs []string, r request) (Plan, error) {
	p := Plan{Args: l.args}
	if len(specs) == 0 || specs[len(specs)-1] == "" {
		return p, nil
	}
	ref, err := serviceRef(specs[len(specs)-1])
	if err == nil {
		p.Warnings, err = t.Specs.checkHostname(e, ref, r.hostname)
	}
	return p, err
}

// serviceRef reads the value of --credential-spec, and refuses it in the client's words.
func serviceRef(value string) (credspec.Ref, error) {
	ref, err := credspec.ParseRef(value, true)
	if err != nil || ref.Scheme == credspec.SchemeRaw {
		return credspec.Ref{}, &Error{Status: statusOther, Err: fmt.Errorf(
			"invalid argument %q for \"--credential-spec\" flag: invalid credential spec: value must be prefixed with \"config://\", \"file://\", or \"registry://\"", value)}
	}
	return ref, nil
}

// mounts are the options of a service for a credential spec. An update takes the one
// before away, and an empty value is none.
func (t Translator) mounts(e Engine, value string, update bool) ([]string, error) {
	var args []string
	mount, config := "--mount", "--config"
	if update {
		args = []string{"--mount-rm", lease.MountPoint}
		mount, config = "--mount-add", "--config-add"
	}
	if value == "" && update {
		return args, nil
	}
	ref, err := serviceRef(value)
	if err != nil {
		return nil, err
	}
	if !e.Default {
		return nil, notDefault()
	}
	if ref.Scheme == credspec.SchemeConfig {
		if err := credspec.CheckName(ref.Value); err != nil {
			return nil, &Error{Status: statusOther, Err: err, Hints: []string{"a config that holds a credential spec is called as its file, without .json"}}
		}
		return append(args, config, "source="+ref.Value+",target="+ConfigTarget(ref.Value)), nil
	}
	s, err := t.Specs.find(ref)
	if err != nil {
		return nil, &Error{Status: statusOther, Err: err}
	}
	return append(args, mount, s.mount()), nil
}

// ConfigTarget is where a swarm's config of this name names a credential spec to the
// runtime.
func ConfigTarget(name string) string { return lease.MountPoint + "/" + name + ".json" }

func notDefault() error {
	return &Error{
		Status: statusOther, Err: errors.New("services have no runtime of their own, and gmsa's is not this engine's default: their containers would start without an identity"),
		Hints: []string{`gmsa oci-runtime --optional as "default-runtime" in daemon.json of each node: docs/containers.md`},
	}
}

// Specs is where credential specs lie on the engine's host.
type Specs struct {
	// Directories are looked through in this order.
	Directories []string
	// Remote is an engine of another host, whose files cannot be looked at.
	Remote bool
}

// Spec is a credential spec that was found.
type Spec struct {
	Name, Path string
}

// mount is the mount that names the spec to the runtime.
func (s Spec) mount() string {
	return "type=bind,source=" + s.Path + ",target=" + lease.MountPoint + ",readonly"
}

// find looks a reference up. Its errors are the engine's.
func (s Specs) find(ref credspec.Ref) (Spec, error) {
	switch ref.Scheme {
	case credspec.SchemeRaw:
		return s.raw(ref.Value)
	case credspec.SchemeRegistry:
		found, ok := s.named(ref.Value)
		if !ok {
			return Spec{}, fmt.Errorf("registry credential spec %q for container was not found: of the Windows registry there is none on Linux, and no file %s.json is in %s",
				ref.Value, ref.Value, strings.Join(s.Directories, " or "))
		}
		return found, nil
	}
	base := s.Directories[0]
	file, err := ref.Path(base)
	if err != nil {
		return Spec{}, err
	}
	name, err := credspec.NameOfFile(file)
	if err != nil {
		return Spec{}, err
	}
	found, ok := s.named(name)
	if !ok {
		return Spec{}, fmt.Errorf("credential spec for container could not be read from file %q: no such file or directory", filepath.Join(base, file))
	}
	return found, nil
}

// named finds a file by the spec's name, with its extension in any case of letters.
func (s Specs) named(name string) (Spec, bool) {
	if name = credspec.EscapeName(name); credspec.CheckName(name) != nil {
		return Spec{}, false
	}
	if s.Remote {
		return Spec{name, filepath.Join(s.Directories[0], name+".json")}, true
	}
	for _, dir := range s.Directories {
		entries, _ := os.ReadDir(dir) // one that is not there is empty
		for _, entry := range entries {
			if n, err := credspec.NameOfFile(entry.Name()); err == nil && n == name {
				return Spec{name, filepath.Join(dir, entry.Name())}, true
			}
		}
	}
	return Spec{}, false
}

// raw finds the file with the same content: rules publish credential specs by name.
func (s Specs) raw(text string) (Spec, error) {
	want, err := canonical([]byte(text))
	if err != nil {
		return Spec{}, fmt.Errorf("invalid JSON for credential spec: %w", err)
	}
	for _, dir := range s.Directories {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			name, err := credspec.NameOfFile(entry.Name())
			if err != nil {
				continue
			}
			path := filepath.Join(dir, entry.Name())
			if have, err := Canonical(path); err == nil && bytes.Equal(have, want) {
				return Spec{name, path}, nil
			}
		}
	}
	return Spec{}, fmt.Errorf("no file in %s is this raw credential spec: on Linux a rule publishes specs by their names", strings.Join(s.Directories, " or "))
}

// Canonical reads a credential spec's file, in the one form that two files which say the
// same have.
func Canonical(path string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return canonical(b)
}

// Same tells whether a file says the same as the credential spec of that name.
func (s Specs) Same(name, path string) error {
	found, ok := s.named(name)
	if !ok {
		return fmt.Errorf("this host has no credential spec %q", name)
	}
	have, err := Canonical(found.Path)
	if err != nil {
		return err
	}
	want, err := Canonical(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(have, want) {
		return fmt.Errorf("it is another credential spec than this host's %q, %s", name, found.Path)
	}
	return nil
}

func canonical(b []byte) ([]byte, error) {
	s, _, err := credspec.Parse(b)
	if err != nil {
		return nil, err
	}
	return s.Render(), nil
}

// fixedHostname is the build of Windows Server 2019 and Windows 10, version 1809, from
// which on a container has its gMSA's name on the network whatever its own is.
const fixedHostname = 17763

// checkHostname holds the rule of older Windows hosts, and warns on newer ones: of
// containers that share a gMSA and have its name, each disturbs the others.
func (s Specs) checkHostname(e Engine, ref credspec.Ref, hostname string) (warnings []string, err error) {
	account := s.account(ref)
	switch {
	case ref.Scheme == "" || e.Build >= fixedHostname && hostname == "":
		return nil, nil
	case e.Build >= fixedHostname:
		return []string{"this version of Windows needs no --hostname, and several containers with one gMSA and a hostname disturb each other"}, nil
	case account == "":
		return []string{"on this version of Windows --hostname must be the name of the gMSA"}, nil
	case !strings.EqualFold(hostname, account):
		return nil, &Error{
			Status: statusEngine, Err: fmt.Errorf("on this version of Windows --hostname must be the name of the gMSA, %s, and is %q", account, cmp.Or(hostname, "not given")),
			Hints: []string{"--hostname " + account},
		}
	}
	return nil, nil
}

// account is the gMSA that a spec names, where it can be seen from here.
func (s Specs) account(ref credspec.Ref) string {
	text := []byte(ref.Value)
	if ref.Scheme != credspec.SchemeRaw {
		found, err := s.find(ref)
		if err != nil {
			return ""
		}
		if text, err = os.ReadFile(found.Path); err != nil {
			return ""
		}
	}
	parsed, _, err := credspec.Parse(text)
	if err != nil || len(parsed.Accounts()) == 0 {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(parsed.Accounts()[0].Name, "$"))
}
