package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
)

// The kinds of plug-ins.
const (
	PluginInline     = "inline"             // the input is domain:user:password
	PluginFile       = "file"               // the input names a file below Directory
	PluginCredential = "systemd-credential" // the input names a credential of the agent's unit
	PluginKubernetes = "kubernetes-secret"  // the input names a mounted Secret below Directory
	PluginVault      = "vault"              // the input is a path of Vault's KV store
	PluginExec       = "exec"               // a program is asked
)

// Plugin is a source of portable identities: an account that may read managed
// passwords, for hosts that are not joined to the domain.
type Plugin struct {
	// GUID is the PluginGUID by which credential specs select the plug-in;
	// without one, only a domain's host may name it.
	GUID string `yaml:"guid"`
	// Kind is inline, file, systemd-credential, kubernetes-secret, vault or exec.
	Kind string `yaml:"kind"`
	// AllowInput is a regular expression (RE2) that the whole PluginInput of a
	// credential spec must match: a spec is somebody else's text, and says what
	// to read. Without one, specs cannot use the plug-in.
	AllowInput string `yaml:"allow_input"`

	// Directory holds what a file or kubernetes-secret plug-in may read.
	Directory string `yaml:"directory"`

	// Address, Mount, Namespace, TokenFile and CA are Vault's: its URL, the KV
	// store's mount path, its namespace, the file with the token, and the
	// certificates to trust.
	Address   string `yaml:"address"`
	Mount     string `yaml:"mount"`
	Namespace string `yaml:"namespace"`
	TokenFile string `yaml:"token_file"`
	CA        string `yaml:"ca"`

	// Command is the program of an exec plug-in and its arguments; it runs as
	// User, a user of its own, or "root" where that is meant.
	Command []string `yaml:"command"`
	User    string   `yaml:"user"`
	// Timeout bounds one request of vault or exec; the default is 10 s.
	Timeout time.Duration `yaml:"timeout"`
}

func (p Plugin) validate(f *faults, name string) {
	path := "plugins." + name
	kinds := []string{PluginInline, PluginFile, PluginCredential, PluginKubernetes, PluginVault, PluginExec}
	if !slices.Contains(kinds, p.Kind) {
		f.add(path+".kind", "%q: want one of %s", p.Kind, strings.Join(kinds, ", "))
	}
	if p.GUID != "" {
		if _, err := credspec.ParsePluginGUID(p.GUID); err != nil {
			f.add(path+".guid", "%v", err)
		}
	}
	if _, err := regexp.Compile(p.AllowInput); err != nil {
		f.add(path+".allow_input", "%v", err)
	}
	if slices.Contains([]string{PluginFile, PluginKubernetes}, p.Kind) {
		f.absolute(path+".directory", p.Directory, false)
	}
	if p.Kind == PluginVault {
		if !strings.HasPrefix(p.Address, "https://") && !strings.HasPrefix(p.Address, "http://127.0.0.1") {
			f.add(path+".address", "%q: want an https URL", p.Address)
		}
		f.absolute(path+".token_file", p.TokenFile, false)
		f.absolute(path+".ca", p.CA, true)
	}
	if p.Kind == PluginExec {
		if len(p.Command) == 0 {
			f.add(path+".command", "is missing")
		} else {
			f.absolute(path+".command[0]", p.Command[0], false)
		}
		if p.User == "" {
			f.add(path+".user", "is missing: the program runs as a user of its own")
		}
	}
	if p.Timeout < 0 {
		f.add(path+".timeout", "is negative")
	}
}
