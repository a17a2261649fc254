package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/cli/cmdlet"
	"github.com/opengmsa/opengmsa/internal/event"
)

// maxScript bounds a script in bytes.
const maxScript = 1 << 20

func (a *app) pwsh() *cobra.Command {
	var o domainOptions
	var text string
	c := &cobra.Command{
		Use:   "pwsh {FILE | -c SCRIPT}",
		Short: "Run a script of the PowerShell cmdlets about service accounts",
		Long: `pwsh runs a script of the cmdlets that guides about managed service accounts use:
those of the Active Directory, KDS and CredentialSpec modules, with variables, hash
tables, expressions and pipelines between them. It is no PowerShell: what it does not
know it refuses, by line. An error ends its line and not the script, as in PowerShell,
unless $ErrorActionPreference or -ErrorAction is Stop; the exit code is then that of
the last error. What has no meaning outside of Windows is answered with what is done here. gmsa Get-Help lists the cmdlets; each
is a command of its own too: gmsa New-ADServiceAccount -Name WebApp01 …`,
		Example: `  gmsa pwsh setup.ps1
  gmsa pwsh -c 'Get-ADServiceAccount -Filter *'
  cat setup.ps1 | gmsa pwsh - -U Administrator@contoso.com --password-file /run/admin.pw`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 || (len(args) == 1) == (text != "") {
				return errors.New("want a file or -c, one of the two")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				b, err := a.readFile(args[0], maxScript)
				if err != nil {
					return err
				}
				text = strings.TrimPrefix(string(b), "\ufeff")
			}
			return a.withHost(&o, func(h cmdlet.Host) error { return cmdlet.Run(c.Context(), h, text) })
		},
	}
	o.addFlags(c)
	a.addOutputFlag(c)
	c.Flags().StringVarP(&text, "command", "c", "", "the script itself")
	return c
}

// cmdlet runs one cmdlet by its PowerShell name. Its parameters have one dash; gmsa's
// own options are recognised by two, and -U and -o.
func (a *app) cmdlet() *cobra.Command {
	return &cobra.Command{
		Use: "cmdlet NAME …", Hidden: true, DisableFlagParsing: true, Args: cobra.MinimumNArgs(1), ValidArgsFunction: completeParameter,
		RunE: func(c *cobra.Command, args []string) error {
			var o domainOptions
			own := &cobra.Command{}
			o.addFlags(own)
			a.addOutputFlag(own)
			own.Flags().StringVar(&a.socket, "socket", a.socket, "")
			mine, rest := ownOptions(own.Flags(), args[1:])
			if err := own.ParseFlags(mine); err != nil {
				return failure(Usage, err)
			}
			return a.withHost(&o, func(h cmdlet.Host) error { return cmdlet.RunArgs(c.Context(), h, args[0], rest) })
		},
	}
}

// ownOptions takes gmsa's own options out of a cmdlet's arguments.
func ownOptions(flags *pflag.FlagSet, args []string) (own, rest []string) {
	for i := 0; i < len(args); i++ {
		name, isLong := strings.CutPrefix(args[i], "--")
		name, _, joined := strings.Cut(name, "=")
		known := isLong && flags.Lookup(name) != nil || args[i] == "-U" || args[i] == "-o"
		switch {
		case !known:
			rest = append(rest, args[i])
		case joined || i+1 == len(args):
			own = append(own, args[i])
		default:
			own = append(own, args[i], args[i+1])
			i++
		}
	}
	return own, rest
}

// cmdletArgs makes a cmdlet's name as the first argument the command that runs it,
// unless gmsa has a command of that name; also where a shell asks how it goes on.
func cmdletArgs(root *cobra.Command, args []string) []string {
	if len(args) > 2 && (args[0] == cobra.ShellCompRequestCmd || args[0] == cobra.ShellCompNoDescRequestCmd) {
		return append([]string{args[0]}, cmdletArgs(root, args[1:])...)
	}
	if len(args) == 0 || !cmdlet.Known(args[0]) {
		return args
	}
	for _, c := range root.Commands() {
		if c.Name() == args[0] {
			return args
		}
	}
	return append([]string{"cmdlet"}, args...)
}

// withHost runs do with what cmdlets need, and closes the sessions that it opened.
func (a *app) withHost(o *domainOptions, do func(cmdlet.Host) error) error {
	h := &cmdletHost{a: a, o: o, sessions: map[string]*ad.Session{}}
	defer h.close()
	err := do(cmdlet.Host{
		Session: h.session, Getenv: a.env.Getenv, Now: a.env.Now, Out: a.env.Stdout, JSON: a.output != outputText,
		Hostname: func() string { name, _ := os.Hostname(); return name },
		Warn:     func(text string) { _, _ = fmt.Fprintf(a.env.Stderr, "WARNING: %s\n", oneLine(text)) },
		Fail:     func(err error) { a.report(explainCmdlet(err)) },
		Created:  func(key dtyp.GUID) { a.writeEvent("", event.RootKeyCreated(key)) },
		CreateSpec: func(ctx context.Context, s *ad.Session, spec cmdlet.Spec) (cmdlet.SpecFile, error) {
			return a.cmdletSpec(ctx, s, spec)
		},
		Specs:     func(context.Context) ([]cmdlet.SpecFile, error) { return a.specFiles() },
		Install:   a.installAccount,
		Uninstall: a.uninstallAccount,
		Program: func(ctx context.Context, args []string) error {
			sub := &app{env: a.env, output: a.output, socket: a.socket}
			root := sub.root()
			root.SetArgs(append(args, o.args()...))
			return root.ExecuteContext(ctx)
		},
	})
	switch {
	case errors.Is(err, cmdlet.ErrNegative):
		e := failure(Negative, err)
		e.Shown = true
		return e
	case errors.Is(err, cmdlet.ErrContinued):
		return failure(codeOf(explainCmdlet(err)), cmdlet.ErrContinued)
	}
	return explainCmdlet(err)
}

// explainCmdlet gives an error of a cmdlet its exit code and hints.
func explainCmdlet(err error) error {
	if isAny(err, cmdlet.ErrSyntax, cmdlet.ErrParameter) {
		return failure(Usage, err).hint("gmsa Get-Help")
	}
	return judged(err)
}

// args are the options as arguments, for another command of the program.
func (o *domainOptions) args() []string {
	var args []string
	for _, p := range [][2]string{
		{"--domain", o.domain}, {"-U", o.user}, {"--password-file", o.passwordFile}, {"--keytab", o.keytab}, {"--ccache", o.ccache},
		{"--dc", strings.Join(o.controllers, ",")},
	} {
		if p[1] != "" && (p[0] != "--domain" || o.user != "") {
			args = append(args, p[0], p[1])
		}
	}
	return args
}

// cmdletHost opens one session for each controller that cmdlets name.
type cmdletHost struct {
	a        *app
	o        *domainOptions
	sessions map[string]*ad.Session
	domains  []*ad.Domain
}

func (h *cmdletHost) session(_ context.Context, server string) (*ad.Session, error) {
	if s := h.sessions[server]; s != nil {
		return s, nil
	}
	o := *h.o
	if server != "" {
		o.controllers = []string{server}
	}
	creds, err := h.a.credentials(&o)
	if err != nil {
		return nil, err
	}
	d, err := h.a.openDomain(&o, creds)
	if err != nil {
		return nil, err
	}
	h.domains = append(h.domains, d)
	s, err := ad.Open(d, creds.identity)
	if err == nil {
		h.sessions[server] = s
	}
	return s, err
}

func (h *cmdletHost) close() {
	for _, s := range h.sessions {
		_ = s.Close()
	}
	for _, d := range h.domains {
		_ = d.Close()
	}
}

// cmdletSpec writes a credential spec for New-CredentialSpec.
func (a *app) cmdletSpec(ctx context.Context, s *ad.Session, spec cmdlet.Spec) (cmdlet.SpecFile, error) {
	n := newSpec{account: spec.Account, path: spec.Path, name: spec.Name, noClobber: spec.NoClobber}
	for _, x := range spec.Additional {
		account, err := additionalAccount(x.Name)
		if err != nil {
			return cmdlet.SpecFile{}, err
		}
		account.Domain = orElse(x.Domain, account.Domain)
		n.additional = append(n.additional, account)
	}
	path, err := a.saveSpec(ctx, s, n)
	return cmdlet.SpecFile{Name: specName(path), Path: path}, err
}

func specName(path string) string { return strings.TrimSuffix(filepath.Base(path), ".json") }

// specFiles are the credential specs of this host, whatever is in them.
func (a *app) specFiles() ([]cmdlet.SpecFile, error) {
	var files []cmdlet.SpecFile
	for _, dir := range a.specDirs(nil) {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if _, err := credspec.NameOfFile(e.Name()); err == nil {
				files = append(files, cmdlet.SpecFile{Name: specName(e.Name()), Path: filepath.Join(dir, e.Name())})
			}
		}
	}
	return files, nil
}

// installAccount has the agent keep an account ready; the session is whose who may set
// the password of a standalone one.
func (a *app) installAccount(ctx context.Context, account string, session func(context.Context) (*ad.Session, error)) error {
	name, err := localName(account)
	if err != nil {
		return err
	}
	r := &agentapi.InstallAccountRequest{Subject: &agentapi.InstallAccountRequest_Account{Account: name}}
	_, err = a.handToAgent(ctx, r, func(do func(context.Context, *ad.Session) error) error {
		s, err := session(ctx)
		if err != nil {
			return err
		}
		return do(ctx, s)
	})
	return err
}

// uninstallAccount has it forget the account.
func (a *app) uninstallAccount(ctx context.Context, account string) error {
	name, err := localName(account)
	if err != nil {
		return err
	}
	return a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) error {
		_, err := client.UninstallAccount(ctx, &agentapi.UninstallAccountRequest{Account: name})
		return err
	})
}
