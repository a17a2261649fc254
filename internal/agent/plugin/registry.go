package plugin

import (
	"errors"
	"fmt"
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
	Inline           Kind = "inline"            // the input is domain:user:password
	File             Kind = "file"              // a file of the host
	Systemd          Kind = "systemd"           // a credential of the agent's unit
	KubernetesSecret Kind = "kubernetes-secret" // a Secret mounted as a directory
	Vault            Kind = "vault"             // HashiCorp Vault's KV engine
	Exec             Kind = "exec"              // a program of the administrator's
)

// Config registers one plug-in.
type Config struct {
	// Name appears in events and logs: letters, digits, ".", "_" and "-".
	Name string `yaml:"name"`
	// GUID is what credential specs say in PluginGUID.
	GUID string `yaml:"guid"`
	// Kind is one of the kinds of this package.
	Kind Kind `yaml:"kind"`
	// Allow is a regular expression (RE2) that the whole PluginInput must
	// match. Empty: only an empty PluginInput is admitted.
	Allow string `yaml:"allow"`
	// Timeout bounds one fetch; 0 means DefaultTimeout.
	Timeout time.Duration `yaml:"timeout"`

	// One of these, that of the kind; inline has none.
	File             *FileConfig             `yaml:"file"`
	Systemd          *SystemdConfig          `yaml:"systemd"`
	KubernetesSecret *KubernetesSecretConfig `yaml:"kubernetes-secret"`
	Vault            *VaultConfig            `yaml:"vault"`
	Exec             *ExecConfig             `yaml:"exec"`
}

// Host is what plug-ins take from their process instead of a configuration.
type Host struct {
	// CredentialsDirectory is $CREDENTIALS_DIRECTORY of systemd.exec(5); empty
	// where systemd set none.
	CredentialsDirectory string
	// UID is the effective user id of the agent; -1 where there is none.
	UID int
}

// ThisHost is the Host of the running process.
func ThisHost() Host {
	return Host{CredentialsDirectory: os.Getenv("CREDENTIALS_DIRECTORY"), UID: os.Geteuid()}
}

// Registry finds plug-ins by the GUID of a credential spec. It is immutable.
type Registry struct {
	plugins map[credspec.PluginID]*Registered
}

// NewRegistry registers plug-ins. The error joins all faults of the
// configuration, each beginning with the key path plugins[I]. It touches no
// file: what a plug-in needs is opened when it is asked.
func NewRegistry(configs []Config, host Host) (*Registry, error) {
	r := &Registry{plugins: make(map[credspec.PluginID]*Registered)}
	var faults []error
	names := make(map[string]bool)
	for i, c := range configs {
		path := fmt.Sprintf("plugins[%d]", i)
		fault := func(key, format string, args ...any) {
			faults = append(faults, fmt.Errorf("%s%s: %w", path, key, fmt.Errorf(format, args...)))
		}
		reg := c.register(host, fault)
		if names[c.Name] {
			fault(".name", "%q is taken", c.Name)
		}
		names[c.Name] = true
		if r.plugins[reg.id] != nil && reg.id != "" {
			fault(".guid", "%s is registered already, as %s", c.GUID, r.plugins[reg.id].name)
		}
		r.plugins[reg.id] = reg
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return r, nil
}

// fault reports something wrong with one key of a configuration.
type fault func(key, format string, args ...any)

// register makes the plug-in of c, and reports what is wrong with c.
func (c Config) register(host Host, fault fault) *Registered {
	reg := &Registered{name: c.Name, timeout: c.Timeout}
	if err := credspec.CheckName(c.Name); err != nil {
		fault(".name", "%w", err)
	}
	var err error
	if reg.id, err = credspec.ParsePluginGUID(c.GUID); err != nil {
		fault(".guid", "%w", err)
	}
	if c.Allow != "" {
		if reg.allow, err = regexp.Compile(`\A(?:` + c.Allow + `)\z`); err != nil {
			fault(".allow", "%w", err)
		}
	}
	switch {
	case c.Timeout == 0:
		reg.timeout = DefaultTimeout
	case c.Timeout < 0 || c.Timeout > maxTimeout:
		fault(".timeout", "%v, want up to %v", c.Timeout, maxTimeout)
	}
	c.checkSections(fault)
	reg.plugin = c.plugin(reg, host, fault)
	return reg
}

// checkSections refuses settings of another kind: they would have no effect.
func (c Config) checkSections(fault fault) {
	for kind, present := range map[Kind]bool{
		File: c.File != nil, Systemd: c.Systemd != nil, KubernetesSecret: c.KubernetesSecret != nil,
		Vault: c.Vault != nil, Exec: c.Exec != nil,
	} {
		if present && kind != c.Kind {
			fault("."+string(kind), "settings of kind %s in a plug-in of kind %q", kind, c.Kind)
		}
	}
}

// plugin makes the plug-in of c's kind.
func (c Config) plugin(reg *Registered, host Host, fault fault) Plugin {
	under := func(key, format string, args ...any) { fault("."+string(c.Kind)+key, format, args...) }
	switch c.Kind {
	case Inline:
		if c.Allow == "" {
			fault(".allow", "missing: say which identities credential specs may bring, such as contoso\\.com:gmsaccg:.*")
		}
		reg.warning = "the password stands in the credential spec in clear text: use it for trials only"
		return inlinePlugin{}
	case File:
		return newFile(orZero(c.File), under)
	case Systemd:
		return newSystemd(orZero(c.Systemd), host, under)
	case KubernetesSecret:
		return newKubernetesSecret(orZero(c.KubernetesSecret), under)
	case Vault:
		return newVault(orZero(c.Vault), under)
	case Exec:
		return newExec(orZero(c.Exec), reg, c.GUID, host, under)
	}
	fault(".kind", "%q, want one of %v", c.Kind, []Kind{Inline, File, Systemd, KubernetesSecret, Vault, Exec})
	return nil
}

func orZero[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// checkAbsolute reports a path that is not absolute and clean.
func checkAbsolute(key, path string, fault fault) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		fault(key, "%q, want an absolute path without . and ..", path)
	}
}

// Names lists the registered plug-ins by name.
func (r *Registry) Names() []string {
	names := make([]string, 0, len(r.plugins))
	for _, p := range r.plugins {
		names = append(names, p.name)
	}
	slices.Sort(names)
	return names
}

// Lookup finds the plug-in that a credential spec names. It fails with ErrLoad
// and, for the plug-ins that are known from Windows, says what to register.
func (r *Registry) Lookup(id credspec.PluginID) (*Registered, error) {
	if p := r.plugins[id]; p != nil {
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
