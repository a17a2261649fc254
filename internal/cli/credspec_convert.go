package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/secret"
)

// conversion is what a spec is converted with.
type conversion struct {
	spec credspec.Spec
	file string // base name, NAME.json
	name string // of the object that is made
}

// converters write a credential spec, or the reference to one, for an engine or an
// orchestrator.
var converters = map[string]func(conversion) ([]byte, error){
	"docker": reference(`docker run --security-opt "credentialspec=file://%[1]s" --hostname %[2]s IMAGE` + "\n"),
	"swarm": reference(`docker service create --credential-spec "file://%[1]s" --hostname %[2]s IMAGE` + "\n" +
		"# or from a config of the swarm, so that no node needs the file:\n" +
		"docker config create %[3]s %[1]s\n" + `docker service create --credential-spec "config://%[3]s" --hostname %[2]s IMAGE` + "\n"),
	"compose": reference("services:\n  app:\n    image: IMAGE\n    credential_spec:\n      file: %[1]s\n"),
	"service-fabric": reference(`<Policies>
  <ContainerHostPolicies CodePackageRef="Code" Isolation="process" Hostname="%[2]s">
    <SecurityOption Value="credentialspec=file://%[1]s"/>
  </ContainerHostPolicies>
</Policies>
`),
	"kubernetes": kubernetes,
	"json":       func(c conversion) ([]byte, error) { return c.spec.Render(), nil },
}

// reference makes a converter that only names the file: its name, the account's and
// the object's.
func reference(format string) func(conversion) ([]byte, error) {
	return func(c conversion) ([]byte, error) {
		// The arguments that a format has no verb for are cut off again.
		text := fmt.Sprintf(format, c.file, strings.ToLower(c.spec.DomainJoinConfig.MachineAccountName), c.name)
		text, _, _ = strings.Cut(text, "%!(EXTRA")
		return []byte(text), nil
	}
}

func (a *app) credspecConvert() *cobra.Command {
	var to, name string
	formats := slices.Sorted(maps.Keys(converters))
	c := &cobra.Command{
		Use: "convert {NAME | FILE}", ValidArgsFunction: a.completeSpec,
		Short: "Write a credential spec as an engine or orchestrator wants it",
		Long: `convert prints what gives a container the credential spec: a command of Docker or
Swarm, a part of a Compose file or of a Service Fabric manifest, or the objects of
Kubernetes: a GMSACredentialSpec and the role that lets pods use it. It also goes
back: the file may be a GMSACredentialSpec in YAML, or any of the others, which name
a credential spec of this host.`,
		Example: `  gmsa credspec convert contoso_webapp01 --to kubernetes
  gmsa credspec convert gmsa-webapp01.yaml --to json`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			convert, ok := converters[to]
			if !ok {
				return failure(Usage, fmt.Errorf("format %q: want one of %s", to, strings.Join(formats, ", ")))
			}
			x, err := a.readConvertible(args[0])
			if err != nil {
				return err
			}
			if x.name = name; name == "" {
				x.name = "gmsa-" + strings.ToLower(x.spec.DomainJoinConfig.MachineAccountName)
			}
			b, err := convert(x)
			if err != nil {
				return err
			}
			return a.print(map[string]string{"format": to, "text": string(b)}, func(w io.Writer) error {
				_, err := w.Write(b)
				return err
			})
		},
	}
	c.Flags().StringVar(&to, "to", "", strings.Join(formats, ", "))
	c.Flags().StringVar(&name, "name", "", "the name of the object that is made (default: gmsa-ACCOUNT)")
	_ = c.MarkFlagRequired("to")
	_ = c.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	a.addOutputFlag(c)
	return c
}

// specReference finds the file that an engine's command or file names.
var specReference = regexp.MustCompile(`(?i)(?:credentialspec=file://|credential-spec[ =]"?file://|credential_spec:\s*\n?\s*file:\s*"?(?:file://)?)([\w.-]+)`)

// readConvertible reads a spec, a GMSACredentialSpec, or a text that names a spec of
// this host.
func (a *app) readConvertible(arg string) (conversion, error) {
	path, err := a.findSpec(arg)
	if isYAML := strings.HasSuffix(arg, ".yaml") || strings.HasSuffix(arg, ".yml"); err != nil && !isYAML {
		return conversion{}, err
	} else if isYAML {
		path = arg
	}
	b, err := a.readFile(path, credspec.MaxSize+1)
	if err != nil {
		return conversion{}, fmt.Errorf("credential spec: %w", err)
	}
	x := conversion{file: filepath.Base(path)}
	if bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(b, []byte("\ufeff"))), []byte("{")) {
		x.spec, _, err = credspec.Parse(b)
		return x, err
	}
	if m := specReference.FindSubmatch(b); m != nil {
		name := strings.TrimSuffix(string(m[1]), ".json")
		if path, err = a.findSpec(name); err != nil {
			return conversion{}, err
		}
		if b, err = a.readFile(path, credspec.MaxSize+1); err != nil {
			return conversion{}, fmt.Errorf("credential spec: %w", err)
		}
		x.file = filepath.Base(path)
		x.spec, _, err = credspec.Parse(b)
		return x, err
	}
	x.spec, err = fromKubernetes(b)
	x.file = credspec.FileName(x.spec.DomainJoinConfig.NetBiosName, x.spec.DomainJoinConfig.MachineAccountName)
	return x, err
}

// The custom resource windows.k8s.io/v1 GMSACredentialSpec, whose fields have the
// names of the file's; its credspec is not below spec.
type (
	k8sObject struct {
		APIVersion string      `yaml:"apiVersion"`
		Kind       string      `yaml:"kind"`
		Metadata   k8sMetadata `yaml:"metadata"`
		CredSpec   *k8sSpec    `yaml:"credspec,omitempty"`
		Rules      []k8sRule   `yaml:"rules,omitempty"`
	}
	k8sMetadata struct {
		Name string `yaml:"name"`
	}
	k8sSpec struct {
		ActiveDirectoryConfig struct {
			GroupManagedServiceAccounts []k8sAccount    `yaml:"GroupManagedServiceAccounts"`
			HostAccountConfig           *k8sHostAccount `yaml:"HostAccountConfig,omitempty"`
		} `yaml:"ActiveDirectoryConfig"`
		CmsPlugins       []string  `yaml:"CmsPlugins"`
		DomainJoinConfig k8sDomain `yaml:"DomainJoinConfig"`
	}
	k8sAccount struct {
		Name  string `yaml:"Name"`
		Scope string `yaml:"Scope"`
	}
	k8sHostAccount struct {
		PluginGUID         string `yaml:"PluginGUID"`
		PluginInput        string `yaml:"PluginInput"`
		PortableCcgVersion string `yaml:"PortableCcgVersion"`
	}
	k8sDomain struct {
		DNSName            string `yaml:"DnsName"`
		DNSTreeName        string `yaml:"DnsTreeName"`
		GUID               string `yaml:"Guid"`
		MachineAccountName string `yaml:"MachineAccountName"`
		NetBIOSName        string `yaml:"NetBiosName"`
		SID                string `yaml:"Sid"`
	}
	k8sRule struct {
		APIGroups     []string `yaml:"apiGroups"`
		Resources     []string `yaml:"resources"`
		Verbs         []string `yaml:"verbs"`
		ResourceNames []string `yaml:"resourceNames"`
	}
)

// kubernetes writes the custom resource and the role that lets service accounts use
// it.
func kubernetes(c conversion) ([]byte, error) {
	s := new(k8sSpec)
	for _, e := range c.spec.ActiveDirectoryConfig.GroupManagedServiceAccounts {
		s.ActiveDirectoryConfig.GroupManagedServiceAccounts = append(s.ActiveDirectoryConfig.GroupManagedServiceAccounts, k8sAccount(e))
	}
	if h := c.spec.ActiveDirectoryConfig.HostAccountConfig; h != nil {
		s.ActiveDirectoryConfig.HostAccountConfig = &k8sHostAccount{h.PluginGUID, string(h.PluginInput.Reveal()), h.PortableCcgVersion}
	}
	d := c.spec.DomainJoinConfig
	s.CmsPlugins, s.DomainJoinConfig = c.spec.CmsPlugins, k8sDomain{d.DnsName, d.DnsTreeName, d.Guid, d.MachineAccountName, d.NetBiosName, d.Sid}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	for _, o := range []k8sObject{
		{APIVersion: "windows.k8s.io/v1", Kind: "GMSACredentialSpec", Metadata: k8sMetadata{c.name}, CredSpec: s},
		{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Metadata: k8sMetadata{c.name + "-use"}, Rules: []k8sRule{{
			APIGroups: []string{"windows.k8s.io"}, Resources: []string{"gmsacredentialspecs"}, Verbs: []string{"use"}, ResourceNames: []string{c.name},
		}}},
	} {
		if err := enc.Encode(o); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), enc.Close()
}

// fromKubernetes reads the first GMSACredentialSpec among the documents of a file.
func fromKubernetes(b []byte) (credspec.Spec, error) {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	for {
		var o k8sObject
		if err := dec.Decode(&o); err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("it has no GMSACredentialSpec")
			}
			return credspec.Spec{}, failure(Usage, fmt.Errorf("neither a credential spec nor a file that has or names one: %w", err))
		}
		if o.Kind != "GMSACredentialSpec" || o.CredSpec == nil {
			continue
		}
		s := credspec.Spec{CmsPlugins: o.CredSpec.CmsPlugins}
		d := o.CredSpec.DomainJoinConfig
		s.DomainJoinConfig = credspec.DomainJoinConfig{
			Sid: d.SID, MachineAccountName: d.MachineAccountName, Guid: d.GUID, DnsTreeName: d.DNSTreeName, DnsName: d.DNSName, NetBiosName: d.NetBIOSName,
		}
		for _, e := range o.CredSpec.ActiveDirectoryConfig.GroupManagedServiceAccounts {
			s.ActiveDirectoryConfig.GroupManagedServiceAccounts = append(s.ActiveDirectoryConfig.GroupManagedServiceAccounts, credspec.GroupManagedServiceAccount(e))
		}
		if h := o.CredSpec.ActiveDirectoryConfig.HostAccountConfig; h != nil {
			s.ActiveDirectoryConfig.HostAccountConfig = &credspec.HostAccountConfig{
				PortableCcgVersion: h.PortableCcgVersion, PluginGUID: h.PluginGUID, PluginInput: secret.New([]byte(h.PluginInput)),
			}
		}
		_, err := s.Check()
		return s, err
	}
}
