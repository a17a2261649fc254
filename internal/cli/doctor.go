package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/lint"
)

// doctorOptions are the flags of gmsa doctor.
type doctorOptions struct {
	domainOptions
	hostKeytab, config string
	specs              []string
	lease              string
	urls               []string
	hostAccount        string
	ca                 string
	from               string
	windows            lint.Windows
	isolation          string
	files              []string
	timeout            time.Duration
	details            bool
	accounts           []string
	bundle             string
	hosts              string
	sshOptions         []string
	remote             string
	parallel           int
}

const doctorLong = `doctor asks everything that the troubleshooting guide has a person look at, each
question only once what it rests on is in order, and prints what is wrong: the root
cause first, with the evidence and the command that mends it.

It looks at the accounts and credential specs that are named; without any, on a host
at all specs of the host, and else at the domain. Where it runs decides what more it
looks at: a host has a keytab or an agent, a container a lease, and an administrator's
desk neither. Root on a host, with an administrator's tickets or -U, sees most.

With --hosts it runs on many hosts by ssh, which must know them (their host keys are
checked) and log in without asking, and prints the guide's checklist for orchestrated
containers: joined, passwords, credential specs, network.

It exits with 6 when something is an error; warnings do not count.`

func (a *app) doctor() *cobra.Command {
	var o doctorOptions
	c := &cobra.Command{
		Use:   "doctor [ACCOUNT…]",
		Short: "Find out what is wrong, and what mends it",
		Long:  doctorLong,
		Example: `  gmsa doctor
  gmsa doctor WebApp01 --url http://mysite.contoso.com
  gmsa doctor --spec contoso_webapp01
  gmsa doctor --lease 5f0c6a7e9d1b4c3f8e2a7b6c5d4e3f2a
  gmsa doctor WebApp01 --from desk --host-account ContainerHost01 -U alice@contoso.com
  gmsa doctor WebApp01 --windows 1803 --hostname web --isolation hyperv
  gmsa doctor WebApp01 --file Dockerfile --file compose.yaml
  gmsa doctor --bundle /tmp/gmsa.tar.gz
  gmsa doctor --hosts nodes.txt WebApp01`,
		RunE: func(c *cobra.Command, args []string) error {
			o.accounts = args
			if o.hosts != "" {
				return a.runDoctorHosts(c.Context(), o)
			}
			return a.runDoctor(c.Context(), o)
		},
	}
	o.addAdminFlags(c)
	f := c.Flags()
	f.StringVar(&o.hostKeytab, "keytab", "", "the host's keytab (default: the agent's, else "+hostKeytab+")")
	f.StringVar(&o.config, "config", config.DefaultPath, "the agent's configuration")
	f.StringSliceVar(&o.specs, "spec", nil, "a credential spec, file or name")
	f.StringVar(&o.lease, "lease", "", "a lease of this host, and its workload's network")
	f.StringSliceVar(&o.urls, "url", nil, "where clients reach what runs as the first account, or the name that they ask a ticket for")
	f.StringVar(&o.hostAccount, "host-account", "", "the computer that is to retrieve the password (default: this one)")
	f.StringVar(&o.ca, "ca", "", "certificates in PEM that sign the controllers' (default: the agent's, else the system's); TLS must be in order then")
	f.StringVar(&o.from, "from", "", "look from a host, container or desk (default: found out)")
	f.StringVar(&o.windows.Version, "windows", "", "version of a Windows container host: "+strings.Join(lint.WindowsVersions(), ", "))
	f.StringSliceVar(&o.windows.Hostnames, "hostname", nil, "with --windows: --hostname of each container that runs at the same time")
	f.StringVar(&o.isolation, "isolation", "", "with --windows: process or hyperv")
	f.StringVar(&o.windows.User, "container-user", "", "with --windows: whom the application runs as")
	f.StringSliceVar(&o.files, "file", nil, "a Dockerfile, Compose file or manifest of the application, or a directory of them; gmsa lint looks at such files alone")
	f.DurationVar(&o.timeout, "timeout", doctor.DefaultTimeout, "the most that it may take")
	f.BoolVar(&o.details, "details", false, "print what is in order too, with the evidence")
	f.StringVar(&o.bundle, "bundle", "", "write what is found, with configuration, events and versions and without secrets, to this file (tar.gz)")
	f.StringVar(&o.hosts, "hosts", "", "ask many hosts by ssh: one [USER@]HOST[:PORT] a line of this file (- for standard input)")
	f.StringSliceVar(&o.sshOptions, "ssh-option", nil, "with --hosts: an option of ssh, as for its -o")
	f.StringVar(&o.remote, "remote-command", "gmsa", "with --hosts: the program there, such as \"sudo gmsa\"")
	f.IntVar(&o.parallel, "parallel", 16, "with --hosts: how many at once")
	c.MarkFlagsMutuallyExclusive("bundle", "hosts")
	a.addOutputFlag(c)
	return c
}

// runDoctor makes the examination and prints it.
func (a *app) runDoctor(ctx context.Context, o doctorOptions) error {
	x, err := a.examination(ctx, o)
	if err != nil {
		return err
	}
	progress, end := a.doctorProgress()
	report, err := doctor.Run(ctx, x.cfg, progress)
	end()
	if err != nil {
		return failure(Usage, err)
	}
	report.Host, report.Version = hostName(), buildVersion().Version
	if o.bundle != "" {
		if err := a.writeBundle(ctx, o, x, report); err != nil {
			return err
		}
	}
	if err := a.print(report, func(w io.Writer) error { return writeReport(w, report, o.details) }); err != nil {
		return err
	}
	if !report.Healthy {
		return &Error{Code: Negative, Err: fmt.Errorf("%s: %s", report.Cause.Check, report.Cause.Problem), Shown: true}
	}
	return nil
}

func hostName() string {
	name, _ := os.Hostname()
	return name
}

// doctorProgress shows on a terminal how far it is.
func (a *app) doctorProgress() (progress func(doctor.Result), end func()) {
	f, isFile := a.env.Stderr.(*os.File)
	if !isFile || a.output != outputText || !term.IsTerminal(int(f.Fd())) {
		return nil, func() {}
	}
	done := 0
	progress = func(r doctor.Result) {
		done++
		_, _ = fmt.Fprintf(f, "\r\x1b[K%d checks, %s", done, printable(r.Title))
	}
	return progress, func() { _, _ = fmt.Fprint(f, "\r\x1b[K") }
}

// writeReport prints what is wrong with evidence and remedies, then a summary.
func writeReport(w io.Writer, r doctor.Report, details bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, seen from the %s %s\n", printable(r.Domain), r.Seen, printable(r.Host))
	for _, x := range r.Results {
		if !details && x.Severity != doctor.Error && x.Severity != doctor.Warning {
			continue
		}
		writeResult(&b, x, details)
	}
	b.WriteString("\n" + counts(r) + "\n")
	switch {
	case r.Cause == nil:
		b.WriteString("healthy\n")
	case r.Healthy:
		fmt.Fprintf(&b, "healthy, but see %s\n", r.Cause.Check)
	default:
		fmt.Fprintf(&b, "the cause: %s\n", printable(r.Cause.Problem))
		for _, m := range r.Cause.Remedies {
			fmt.Fprintf(&b, "  do: %s\n", printable(m))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeResult(b *strings.Builder, x doctor.Result, details bool) {
	name := x.Check
	if x.Subject != "" {
		name += " of " + printable(x.Subject)
	}
	if x.Severity == doctor.Skipped {
		fmt.Fprintf(b, "\nskipped  %s: %s\n", name, printable(x.Reason))
		return
	}
	for _, f := range x.Findings {
		if !details && f.Severity != doctor.Error && f.Severity != doctor.Warning {
			continue
		}
		fmt.Fprintf(b, "\n%-8s %s: %s\n", f.Severity, name, printable(f.Problem))
		for _, e := range f.Evidence {
			fmt.Fprintf(b, "           %s\n", printable(e))
		}
		for _, m := range f.Remedies {
			fmt.Fprintf(b, "       do: %s\n", printable(m))
		}
	}
}

// counts is how many checks came out how.
func counts(r doctor.Report) string {
	var parts []string
	for _, s := range []doctor.Severity{doctor.Error, doctor.Warning, doctor.Skipped, doctor.Info, doctor.OK} {
		if n := r.Counts[s]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s))
		}
	}
	return fmt.Sprintf("%d checks in %.1f s: %s", len(r.Results), float64(r.Millis)/1000, strings.Join(parts, ", "))
}

// examination is what a run of the doctor is made of.
type examination struct {
	cfg   doctor.Config
	agent config.Config
	creds credentials
	// named says that the caller named the credentials; others are those at hand.
	named bool
}

// examination finds out what to look at, and from where.
func (a *app) examination(ctx context.Context, o doctorOptions) (*examination, error) {
	x := &examination{cfg: doctor.Config{
		Servers: o.controllers, Accounts: o.accounts, URLs: o.urls, HostAccount: o.hostAccount,
		Windows: o.windows, Now: a.env.Now, Timeout: o.timeout,
	}}
	if err := checkWindows(&x.cfg.Windows, o); err != nil {
		return nil, err
	}
	for _, name := range o.files {
		found, err := a.lintFiles(name, "standard input")
		if err != nil {
			return nil, err
		}
		x.cfg.Files = append(x.cfg.Files, found...)
	}
	var confErr error
	if x.agent, confErr = config.Load(o.config); confErr != nil {
		x.agent = config.Default()
	}
	if err := a.askAs(x, o); err != nil {
		return nil, err
	}
	if err := a.addSpecs(x, o); err != nil {
		return nil, err
	}
	if err := a.seenFrom(x, o, confErr); err != nil {
		return nil, err
	}
	if x.cfg.Domain = doctorDomain(x, o); x.cfg.Domain == "" {
		return nil, failure(Usage, errors.New("which domain?")).hint("add --domain NAME, or -U NAME@DOMAIN")
	}
	if x.named || x.creds.domain == x.cfg.Domain {
		x.cfg.Asker = &x.creds.identity
	}
	if len(x.cfg.Servers) == 0 {
		x.cfg.Servers = x.agent.Domains[x.cfg.Domain].Servers
	}
	if err := x.trust(o); err != nil {
		return nil, err
	}
	return x, a.addLease(ctx, x, o)
}

func checkWindows(w *lint.Windows, o doctorOptions) error {
	switch o.isolation {
	case "", "process", "hyperv":
		w.HyperV = o.isolation == "hyperv"
	default:
		return failure(Usage, fmt.Errorf("--isolation %s: want process or hyperv", o.isolation))
	}
	if w.Version == "" && (o.isolation != "" || len(w.Hostnames) > 0 || w.User != "") {
		return failure(Usage, errors.New("the options of a Windows container need --windows VERSION"))
	}
	if w.Version != "" && !slices.Contains(lint.WindowsVersions(), w.Version) {
		return failure(Usage, fmt.Errorf("--windows %s: want one of %s", w.Version, strings.Join(lint.WindowsVersions(), ", ")))
	}
	return nil
}

// askAs takes the credentials that are named; the caller's tickets where there are
// some; and else leaves the asking to the host.
func (a *app) askAs(x *examination, o doctorOptions) (err error) {
	if x.named = o.user != "" || o.passwordFile != "" || o.ccache != ""; x.named {
		x.creds, err = a.credentials(&o.domainOptions)
	} else if creds, cacheErr := a.fromCache(a.cacheName("")); cacheErr == nil {
		x.creds = creds
	}
	return err
}

// addSpecs reads the credential specs that are named, or else, where nothing is, all
// of the host.
func (a *app) addSpecs(x *examination, o doctorOptions) error {
	dirs := x.agent.CredentialSpecs
	if dir := a.env.Getenv(specDirVariable); dir != "" {
		dirs = []string{dir}
	}
	var paths []string
	for _, s := range o.specs {
		path, err := specPath(s, dirs)
		if err != nil {
			return err
		}
		paths = append(paths, path)
	}
	if len(o.specs) == 0 && len(o.accounts) == 0 && o.lease == "" {
		for _, dir := range dirs {
			found, _ := filepath.Glob(filepath.Join(dir, "*.json"))
			paths = append(paths, found...)
		}
	}
	for _, path := range paths {
		b, err := a.readFile(path, credspec.MaxSize+1)
		x.cfg.Specs = append(x.cfg.Specs, doctor.SpecFile{Path: path, Content: b, Err: err, Directories: dirs})
	}
	return nil
}

// specPath is the file of a credential spec that was named by its path or its name.
func specPath(s string, dirs []string) (string, error) {
	if isSpecFile(s) {
		return filepath.Abs(s)
	}
	if err := credspec.CheckName(s); err != nil {
		return "", failure(Usage, err)
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, s+".json")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return filepath.Join(dirs[0], s+".json"), nil // the check of the file says that there is none
}
