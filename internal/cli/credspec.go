package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/credspec"
)

// specDirectories are where credential specs of a host lie: our own, then
// Docker's, in either spelling.
var specDirectories = [...]string{
	"/etc/gmsa/credentialspecs",
	"/var/lib/docker/CredentialSpecs",
	"/var/lib/docker/credentialspecs",
}

// specDirVariable names a directory in place of those.
const specDirVariable = "GMSA_CREDENTIALSPECS"

// findingView is a finding for programs.
type findingView struct {
	Path    string `json:"path"`
	Problem string `json:"problem"`
	Remedy  string `json:"remedy,omitempty"`
	Warning bool   `json:"warning"`
}

// specView is what gmsa credspec prints of one file. The plug-in's input is
// not in it: it may hold a password.
type specView struct {
	Name       string        `json:"name"`
	Path       string        `json:"path"`
	Usable     bool          `json:"usable"`
	Domain     domainView    `json:"domain"`
	Accounts   []accountView `json:"accounts"`
	PluginGUID string        `json:"pluginGUID,omitempty"`
	Findings   []findingView `json:"findings"`
}

type domainView struct {
	DNS     string `json:"dnsName"`
	NetBIOS string `json:"netBiosName"`
	Forest  string `json:"dnsTreeName"`
	SID     string `json:"sid"`
	GUID    string `json:"guid"`
}

type accountView struct {
	Name    string `json:"name"`
	Domain  string `json:"domain,omitempty"`
	NetBIOS string `json:"netBiosName,omitempty"`
	Primary bool   `json:"primary"`
}

func (a *app) credspec() *cobra.Command {
	c := &cobra.Command{
		Use:   "credspec",
		Short: "Credential specs: the files that name a container's gMSA",
	}
	c.AddCommand(a.credspecCreate(), a.credspecCheck(), a.credspecShow(), a.credspecList(), a.credspecConvert())
	return c
}

func (a *app) credspecCheck() *cobra.Command {
	var o domainOptions
	var online bool
	c := &cobra.Command{
		Use: "check FILE…", ValidArgsFunction: a.completeSpec,
		Short: "Check credential specs",
		Long: `check reads the files and reports everything that is wrong, each with its JSON
path; with --online it also asks the domain about each field. It exits with 6 when
one of them cannot be used.`,
		Example: `  gmsa credspec check contoso_webapp01.json
  gmsa credspec check contoso_webapp01.json --online
  kubectl get gmsacredentialspec web -o jsonpath={.credspec} | gmsa credspec check -`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !online && !o.isZero() {
				return failure(Usage, errOnline)
			}
			var views []specView
			bad := 0
			for _, path := range args {
				v, err := a.readSpec(path)
				if err != nil {
					return err
				}
				if online {
					if err := a.compareSpec(c.Context(), o, &v); err != nil {
						return err
					}
				}
				if !v.Usable {
					bad++
				}
				views = append(views, v)
			}
			if err := a.print(views, func(w io.Writer) error { return writeFindings(w, views) }); err != nil {
				return err
			}
			if bad > 0 {
				return failure(Negative, fmt.Errorf("%d of %d credential specs cannot be used", bad, len(views)))
			}
			return nil
		},
	}
	o.addFlags(c)
	c.Flags().BoolVar(&online, "online", false, "also ask the domain")
	a.addOutputFlag(c)
	return c
}

// readSpec reads and checks one file; an error is about the file itself.
func (a *app) readSpec(path string) (specView, error) {
	// One byte more than allowed lets Parse say that a file is too large.
	b, err := a.readFile(path, credspec.MaxSize+1)
	if err != nil {
		return specView{}, fmt.Errorf("credential spec: %w", err)
	}
	spec, findings, err := credspec.Parse(b)
	d := spec.DomainJoinConfig
	v := specView{
		Name: strings.TrimSuffix(filepath.Base(path), ".json"), Path: path, Usable: err == nil,
		Domain:   domainView{DNS: d.DnsName, NetBIOS: d.NetBiosName, Forest: d.DnsTreeName, SID: d.Sid, GUID: d.Guid},
		Accounts: []accountView{}, Findings: []findingView{},
	}
	for i, x := range spec.Accounts() {
		v.Accounts = append(v.Accounts, accountView{Name: x.Name, Domain: x.Domain, NetBIOS: x.NetBIOS, Primary: i == 0})
	}
	if h := spec.ActiveDirectoryConfig.HostAccountConfig; h != nil {
		v.PluginGUID = h.PluginGUID
	}
	for _, f := range findings {
		v.Findings = append(v.Findings, findingView{f.Path, f.Problem, f.Remedy, f.Warning})
	}
	return v, nil
}

func writeFindings(w io.Writer, views []specView) error {
	for _, v := range views {
		verdict := "usable"
		if !v.Usable {
			verdict = "cannot be used"
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", printable(v.Path), verdict); err != nil {
			return err
		}
		for _, f := range v.Findings {
			if _, err := fmt.Fprintf(w, "  %s\n", printable(f.String())); err != nil {
				return err
			}
		}
	}
	return nil
}

// String is the finding on one line.
func (f findingView) String() string {
	return credspec.Finding{Path: f.Path, Problem: f.Problem, Remedy: f.Remedy, Warning: f.Warning}.String()
}

func (a *app) credspecShow() *cobra.Command {
	c := &cobra.Command{
		Use: "show {NAME | FILE}", ValidArgsFunction: a.completeSpec,
		Short: "Show what a credential spec says",
		Long: `show prints the domain and the accounts of a credential spec, which is a file or
the name of one in the directories that gmsa credspec list reads. The input of a
plug-in is not printed: it may hold a password.`,
		Example: `  gmsa credspec show contoso_webapp01
  gmsa credspec show ./contoso_webapp01.json -o yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			path, err := a.findSpec(args[0])
			if err != nil {
				return err
			}
			v, err := a.readSpec(path)
			if err != nil {
				return err
			}
			return a.print(v, v.write)
		},
	}
	a.addOutputFlag(c)
	return c
}

// findSpec is the file of a credential spec that was named by its path or by
// its name.
func (a *app) findSpec(s string) (string, error) {
	if s == "-" || isSpecFile(s) {
		return s, nil
	}
	if err := credspec.CheckName(s); err != nil {
		return "", failure(Usage, err)
	}
	for _, dir := range a.specDirs(nil) {
		path := filepath.Join(dir, s+".json")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", failure(NotFound, fmt.Errorf("there is no credential spec %s in %s", s, strings.Join(specDirectories[:], ", "))).
		hint("gmsa credspec list")
}

func (v specView) write(w io.Writer) error {
	rows := [][]string{
		{"domain", v.Domain.DNS},
		{"NetBIOS name", v.Domain.NetBIOS},
		{"forest", v.Domain.Forest},
		{"domain SID", v.Domain.SID},
		{"domain GUID", v.Domain.GUID},
	}
	for _, x := range v.Accounts {
		kind := "account"
		if x.Primary {
			kind = "primary account"
		}
		domain := x.Domain
		if domain == "" {
			domain = x.NetBIOS
		}
		rows = append(rows, []string{kind, x.Name + "@" + domain})
	}
	if v.PluginGUID != "" {
		rows = append(rows, []string{"plug-in", v.PluginGUID})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	return writeFindings(w, []specView{v})
}

func (a *app) credspecList() *cobra.Command {
	c := &cobra.Command{
		Use:   "list [DIRECTORY…]",
		Short: "List the credential specs of this host",
		Long:  "list reads " + strings.Join(specDirectories[:], ", ") + ", or the directories named; " + specDirVariable + " replaces them.",
		Example: `  gmsa credspec list
  gmsa credspec list /srv/credentialspecs`,
		RunE: func(_ *cobra.Command, args []string) error {
			views := []specView{}
			for _, dir := range a.specDirs(args) {
				found, err := a.specsIn(dir)
				if err != nil && (len(args) > 0 || !errors.Is(err, fs.ErrNotExist)) {
					return err
				}
				views = append(views, found...)
			}
			return a.print(views, func(w io.Writer) error { return writeSpecs(w, views) })
		},
	}
	a.addOutputFlag(c)
	return c
}

func (a *app) specDirs(args []string) []string {
	if len(args) > 0 {
		return args
	}
	if dir := a.env.Getenv(specDirVariable); dir != "" {
		return []string{dir}
	}
	return specDirectories[:]
}

func (a *app) specsIn(dir string) ([]specView, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var views []specView
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" {
			continue
		}
		v, err := a.readSpec(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

func writeSpecs(w io.Writer, views []specView) error {
	rows := [][]string{{"NAME", "ACCOUNTS", "USABLE", "PATH"}}
	for _, v := range views {
		var names []string
		for _, x := range v.Accounts {
			names = append(names, x.Name)
		}
		usable := "yes"
		if !v.Usable {
			usable = "no"
		}
		rows = append(rows, []string{v.Name, strings.Join(names, ","), usable, v.Path})
	}
	return table(w, rows)
}
