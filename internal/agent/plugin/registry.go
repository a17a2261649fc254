package plugin

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
)

// DefaultTimeout is how long a plug-in may take where its configuration does
// not say.
const DefaultTimeout = 10 * time.Second

// maxTimeout bounds what a configuration may ask for.
const maxTimeout = 5 * time.Minute

// Kind is what a plug-in is made of.
type Kind string

// The built-in kinds.
const (
	Inline     Kind = "inline"             // the input is domain:user:password
	File       Kind = "file"               // a file of the host
	Systemd    Kind = "systemd-credential" // a credential of the agent's unit
	Kubernetes Kind = "kubernetes-secret"  // a Secret mounted as a directory
	Vault      Kind = "vault"              // HashiCorp Vault's KV engine
	Exec       Kind = "exec"               // a program of the administrator's
)

// Config is the configuration of one plug-in: an entry of plugins in
// agent.yaml. Keys that its kind does not use must not be given.
type Config struct {
	// GUID is the PluginGUID by which credential specs select the plug-in;
	// without one, only the agent's configuration may name it.
	GUID string `yaml:"guid"`
	// Kind is one of the kinds of this package.
	Kind Kind `yaml:"kind"`
	// AllowInput is a regular expression (RE2) that the whole PluginInput of a
	// credential spec must match: a spec is somebody else's text, and says what
	// to read. Without one, only an empty input is admitted.
	AllowInput string `yaml:"allow_input"`
	// Timeout bounds one fetch; 0 means DefaultTimeout.
	Timeout time.Duration `yaml:"timeout"`

	// Path is the one file of a file plug-in, whatever the input.
	Path string `yaml:"path"`
	// Directory holds the files of a file plug-in, of which the input names
	// one. For kubernetes-secret it is the mount of a Secret or, where the input
	// is SECRET or NAMESPACE:SECRET, what has SECRET or NAMESPACE/SECRET in it.
	Directory string `yaml:"directory"`
	// Credential is the one credential of a systemd-credential plug-in; without
	// it the input names one.
	Credential string `yaml:"credential"`

	// Address of Vault: https://HOST:PORT, or http:// for a loopback address.
	Address string `yaml:"address"`
	// Namespace is Vault Enterprise's or OpenBao's; empty for none.
	Namespace string `yaml:"namespace"`
	// Mount is where the KV engine is mounted; empty means "secret".
	Mount string `yaml:"mount"`
	// KVVersion is the engine's version, 1 or 2; 0 means 2.
	KVVersion int `yaml:"kv_version"`
	// CA is a file of PEM certificates to trust instead of the system's.
	CA string `yaml:"ca"`
	// TokenFile holds a token, such as one that Vault Agent renews; it is read
	// for each fetch. Either this or AppRole.
	TokenFile string `yaml:"token_file"`
	// AppRole logs in for a token.
	AppRole *AppRole `yaml:"approle"`

	// Command is the program of an exec plug-in, by absolute path, and its
	// arguments. Nothing of a credential spec enters it. The file must be owned
	// by root or the agent's user and writable by its owner alone.
	Command []string `yaml:"command"`
	// User is the name or number of the user that the program runs as. It is
	// not root; an agent that is not root can name itself only.
	User string `yaml:"user"`
}

// AppRole is a login with Vault's AppRole method. Both files must be
// accessible to their owner alone.
type AppRole struct {
	Mount        string `yaml:"mount"` // empty means "approle"
	RoleIDFile   string `yaml:"role_id_file"`
	SecretIDFile string `yaml:"secret_id_file"`
}

// Host is what plug-ins take from their process instead of a configuration.
type Host struct {
	// CredentialsDirectory is $CREDENTIALS_DIRECTORY of systemd.exec(5); empty
	// where systemd set none.
	CredentialsDirectory string
}

// ThisHost is the Host of the running process.
func ThisHost() Host { return Host{CredentialsDirectory: os.Getenv("CREDENTIALS_DIRECTORY")} }

// Registry finds plug-ins by the GUID of a credential spec, or by name. It is
// immutable.
type Registry struct {
	names map[string]*Registered
	ids   map[credspec.PluginID]*Registered
}

// Check reports all faults of the plug-ins of a configuration, each beginning
// with its key path plugins.NAME.KEY. It touches no file.
func Check(configs map[string]Config) []error {
	_, faults := register(configs, Host{})
	return faults
}

// NewRegistry registers the plug-ins of a configuration, by name. It fails
// with what Check reports. What a plug-in needs is opened when it is asked.
func NewRegistry(configs map[string]Config, host Host) (*Registry, error) {
	r, faults := register(configs, host)
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return r, nil
}

// fault reports something wrong with one key of a plug-in's configuration.
type fault func(key, format string, args ...any)

func register(configs map[string]Config, host Host) (*Registry, []error) {
	r := &Registry{names: make(map[string]*Registered), ids: make(map[credspec.PluginID]*Registered)}
	var faults []error
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		c := configs[name]
		fault := func(key, format string, args ...any) {
			faults = append(faults, fmt.Errorf("plugins.%s%s: %w", name, key, fmt.Errorf(format, args...)))
		}
		if err := credspec.CheckName(name); err != nil {
			fault("", "want letters, digits, \".\", \"_\" and \"-\" as a name")
		}
		p := c.register(name, host, fault)
		r.names[name] = p
		if c.GUID == "" {
			continue
		}
		id, err := credspec.ParsePluginGUID(c.GUID)
		if err != nil {
			fault(".guid", "%w", err)
			continue
		}
		if other := r.ids[id]; other != nil {
			fault(".guid", "%s is that of %s already", c.GUID, other.name)
			continue
		}
		r.ids[id] = p
	}
	return r, faults
}

// register makes the plug-in of c, and reports what is wrong with c.
func (c Config) register(name string, host Host, fault fault) *Registered {
	p := &Registered{name: name, timeout: c.Timeout}
	if c.AllowInput != "" {
		var err error
		if p.allow, err = regexp.Compile(`\A(?:` + c.AllowInput + `)\z`); err != nil {
			fault(".allow_input", "%w", err)
		}
	}
	switch {
	case c.Timeout == 0:
		p.timeout = DefaultTimeout
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		fault(".timeout", "%v: want up to %v", c.Timeout, maxTimeout)
	}
	c.checkKeys(fault)
	switch c.Kind {
	case Inline:
		if c.AllowInput == "" {
			fault(".allow_input", "is missing: say which identities credential specs may bring, such as contoso\\.com:gmsaccg:.*")
		}
		p.warning = "the password stands in the credential spec in clear text: use it for trials only"
		p.plugin = inlinePlugin{}
	case File:
		p.plugin = newFile(c, fault)
	case Systemd:
		p.plugin = newSystemd(c, host, fault)
	case Kubernetes:
		p.plugin = newKubernetes(c, fault)
	case Vault:
		p.plugin = newVault(c, fault)
	case Exec:
		p.plugin = newExec(c, name, fault)
	default:
		fault(".kind", "%q: want one of %s, %s, %s, %s, %s, %s", c.Kind, Inline, File, Systemd, Kubernetes, Vault, Exec)
	}
	return p
}

// checkKeys refuses keys that the kind does not use: they would have no
// effect.
func (c Config) checkKeys(fault fault) {
	for _, k := range []struct {
		key   string
		given bool
		kinds []Kind
	}{
		{".path", c.Path != "", []Kind{File}},
		{".directory", c.Directory != "", []Kind{File, Kubernetes}},
		{".credential", c.Credential != "", []Kind{Systemd}},
		{".address", c.Address != "", []Kind{Vault}},
		{".namespace", c.Namespace != "", []Kind{Vault}},
		{".mount", c.Mount != "", []Kind{Vault}},
		{".kv_version", c.KVVersion != 0, []Kind{Vault}},
		{".ca", c.CA != "", []Kind{Vault}},
		{".token_file", c.TokenFile != "", []Kind{Vault}},
		{".approle", c.AppRole != nil, []Kind{Vault}},
		{".command", len(c.Command) > 0, []Kind{Exec}},
		{".user", c.User != "", []Kind{Exec}},
	} {
		if k.given && !slices.Contains(k.kinds, c.Kind) {
			fault(k.key, "is not a key of kind %q", c.Kind)
		}
	}
}

// checkAbsolute reports a path that is not absolute and clean.
func checkAbsolute(key, path string, fault fault) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		fault(key, "%q is not an absolute path", path)
	}
}

// Named finds the plug-in that the agent's configuration names. It fails with
// ErrLoad.
func (r *Registry) Named(name string) (*Registered, error) {
	if p := r.names[name]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%w: %q is not among plugins in the agent's configuration", ErrLoad, name)
}

// Lookup finds the plug-in that a credential spec names. It fails with ErrLoad
// and, for the plug-ins that are known from Windows, says what to register.
func (r *Registry) Lookup(id credspec.PluginID) (*Registered, error) {
	if p := r.ids[id]; p != nil {
		return p, nil
	}
	if hint := windowsPlugin(id); hint != "" {
		return nil, fmt.Errorf("%w: {%s} is not registered; hint: %s", ErrLoad, id, hint)
	}
	return nil, fmt.Errorf("%w: {%s} is not registered; hint: add it to plugins in the agent's configuration", ErrLoad, id)
}

// windowsPlugin tells what to use here in place of a known plug-in of Windows.
func windowsPlugin(id credspec.PluginID) string {
	switch id {
	case "ccc2a336-d7f3-4818-a213-272b7924213e":
		return "it is the plug-in for Azure Key Vault; register its GUID with kind exec and a program that reads the secret (PluginInput is ObjectId=…;SecretUri=…)"
	case "859e1386-bdb4-49e8-85c7-3070b13920e1":
		return "it is the plug-in for AWS Secrets Manager and SSM; register its GUID with kind exec and a program that reads the secret (PluginInput has credentialArn)"
	case "e4781092-f116-4b79-b55e-28eb6a224e26":
		return "it is Rancher's plug-in; register its GUID with kind kubernetes-secret (PluginInput is namespace:secret)"
	case credspec.SamplePlugin:
		return "it is Microsoft's example; register its GUID with kind inline for a trial"
	}
	return ""
}

// unixOnly fails on systems without unix ownership of files.
func unixOnly(what string) error {
	if runtime.GOOS == "windows" {
		return fmt.Errorf("%w: %s need a unix system", ErrLoad, what)
	}
	return nil
}
