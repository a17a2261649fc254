package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/secret"
)

// newSpec says which credential spec to make and where.
type newSpec struct {
	account    string
	additional []credspec.Account
	plugin     string
	input      secret.Bytes
	path       string // the file; empty means name in the default directory
	name       string // the file's name; empty means NETBIOS_ACCOUNT.json
	noClobber  bool
}

func (a *app) credspecCreate() *cobra.Command {
	var n newSpec
	var additional []string
	var input, inputFile string
	return a.command(verb{
		use: "create ACCOUNT", short: "Make the credential spec of a gMSA", args: cobra.ExactArgs(1), complete: []completer{completeAccount},
		long: `create looks the account and its domain up and writes the file, by default as
netbios_account.json in Docker's CredentialSpecs directory, or in the agent's if
there is no Docker. For a host that is not joined to the domain, --plugin names the
plug-in that gets it an identity.`,
		example: `  gmsa credspec create WebApp01
  gmsa credspec create WebApp01 --additional LogAgentSvc --additional 'OtherSvc@child.contoso.com' --out webapp01.json
  gmsa credspec create WebApp01 --plugin '{CCC2A336-D7F3-4818-A213-272B7924213E}' --plugin-input 'ObjectId=…;SecretUri=…'`,
		flags: func(c *cobra.Command) {
			f := c.Flags()
			f.StringVar(&n.path, "out", "", "the file to write; - for standard output")
			f.StringVar(&n.name, "name", "", "the file's name in the default directory (default: netbios_account)")
			f.BoolVar(&n.noClobber, "no-clobber", false, "fail if the file exists")
			f.StringArrayVar(&additional, "additional", nil, "another gMSA that the container may use: NAME or NAME@DOMAIN, may be repeated")
			f.StringVar(&n.plugin, "plugin", "", "GUID of the plug-in that gives a host outside of the domain an identity")
			f.StringVar(&input, "plugin-input", "", "what the plug-in is given; no place for a secret")
			f.StringVar(&inputFile, "plugin-input-file", "", "the same from a file (- for standard input)")
			c.MarkFlagsMutuallyExclusive("plugin-input", "plugin-input-file")
			c.MarkFlagsMutuallyExclusive("out", "name")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			n.account = args[0]
			for _, text := range additional {
				x, err := additionalAccount(text)
				if err != nil {
					return err
				}
				n.additional = append(n.additional, x)
			}
			n.input = secret.New([]byte(input))
			if inputFile != "" {
				b, err := a.readFile(inputFile, credspec.MaxSize)
				if err != nil {
					return fmt.Errorf("plug-in input: %w", err)
				}
				n.input = secret.New([]byte(strings.TrimRight(string(b), "\r\n")))
			}
			return a.createSpec(ctx, s, n)
		},
	})
}

// additionalAccount reads NAME, NAME@DOMAIN or DOMAIN\NAME.
func additionalAccount(text string) (credspec.Account, error) {
	name, err := adproto.ParseAccountName(text)
	if err != nil {
		return credspec.Account{}, failure(Usage, err)
	}
	return credspec.Account{Name: name.Bare(), Domain: name.Domain}, nil
}

// writtenSpec is what create reports, as New-CredentialSpec does.
type writtenSpec struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

func (a *app) createSpec(ctx context.Context, s *ad.Session, n newSpec) error {
	if n.path == "-" {
		b, _, err := makeSpec(ctx, s, n)
		if err == nil {
			_, err = a.env.Stdout.Write(b)
		}
		return err
	}
	path, err := a.saveSpec(ctx, s, n)
	if err != nil {
		return err
	}
	v := writtenSpec{specName(path), path}
	return a.print(v, func(w io.Writer) error { return fields(w, "name", v.Name, "path", v.Path) })
}

// saveSpec writes the file and says where.
func (a *app) saveSpec(ctx context.Context, s *ad.Session, n newSpec) (string, error) {
	b, file, err := makeSpec(ctx, s, n)
	if err != nil {
		return "", err
	}
	path := n.path
	if path == "" {
		path = filepath.Join(a.specDirectory(ctx), file)
	}
	return path, writeSpec(path, b, n.noClobber)
}

// makeSpec asks the domain and renders the file, whose default name it gives too.
func makeSpec(ctx context.Context, s *ad.Session, n newSpec) (b []byte, file string, err error) {
	x, err := s.ServiceAccount(ctx, n.account)
	if err != nil {
		return nil, "", err
	}
	if x.Kind != ad.KindGMSA {
		return nil, "", fmt.Errorf("%s is a %v: %w", x.DN, x.Kind, ad.ErrNotGMSA)
	}
	for i, other := range n.additional {
		if other.Domain != "" && !strings.EqualFold(other.Domain, s.Domain().Name()) {
			continue // of another domain, which is not asked
		}
		o, err := s.ServiceAccount(ctx, other.Name)
		if err != nil {
			return nil, "", fmt.Errorf("additional account: %w", err)
		}
		n.additional[i].Name = strings.TrimSuffix(o.Name, "$")
	}
	info, err := s.Info(ctx)
	if err != nil {
		return nil, "", err
	}
	spec := credspec.New(credspec.Domain{SID: info.SID, GUID: info.GUID, DNS: info.DNSName, Forest: info.Forest, NetBIOS: info.NetBIOS}, x.Name, n.additional...)
	if n.plugin != "" {
		spec.ActiveDirectoryConfig.HostAccountConfig = &credspec.HostAccountConfig{
			PortableCcgVersion: credspec.PortableCcgVersion, PluginGUID: n.plugin, PluginInput: n.input,
		}
	}
	if _, err := spec.Check(); err != nil {
		return nil, "", failure(Usage, err)
	}
	file = credspec.FileName(info.NetBIOS, x.Name)
	if n.name != "" {
		name := strings.TrimSuffix(n.name, ".json")
		if err := credspec.CheckName(name); err != nil {
			return nil, "", failure(Usage, err)
		}
		file = name + ".json"
	}
	return spec.Render(), file, nil
}

// writeSpec writes the file as everybody may read it: there is no secret in it,
// unless a plug-in's input is one.
func writeSpec(path string, b []byte, noClobber bool) error {
	if _, err := os.Lstat(path); err == nil && noClobber {
		return failure(Failed, fmt.Errorf("%s: %w", path, fs.ErrExist)).hint("leave out --no-clobber to replace it, or give another name")
	}
	spec, _, err := credspec.Parse(b)
	mode := fs.FileMode(0o644)
	if err == nil && spec.ActiveDirectoryConfig.HostAccountConfig != nil {
		mode = 0o600
	}
	if err := writeFile(path, b, mode); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return failure(NotFound, err).hint("mkdir -p %s", filepath.Dir(path))
		}
		return fmt.Errorf("credential spec: %w", err)
	}
	return nil
}

// specDirectory is where a new credential spec goes: below Docker's root if there is
// a Docker, else to the agent.
func (a *app) specDirectory(ctx context.Context) string {
	if dir := a.env.Getenv(specDirVariable); dir != "" {
		return dir
	}
	root := dockerRoot(ctx)
	for _, name := range []string{"CredentialSpecs", "credentialspecs"} {
		if info, err := os.Stat(filepath.Join(root, name)); err == nil && info.IsDir() {
			return filepath.Join(root, name)
		}
	}
	if info, err := os.Stat(root); err == nil && info.IsDir() {
		dir := filepath.Join(root, "CredentialSpecs")
		if os.Mkdir(dir, 0o700) == nil {
			return dir
		}
	}
	_ = os.MkdirAll(specDirectories[0], 0o755) // writing the file says what is wrong
	return specDirectories[0]
}

// dockerRoot asks Docker for its data directory; without an answer, the default.
func dockerRoot(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "docker", "info", "-f", "{{.DockerRootDir}}").Output()
	if root := strings.TrimSpace(string(out)); err == nil && filepath.IsAbs(root) {
		return root
	}
	return "/var/lib/docker"
}
