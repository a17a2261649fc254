package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/cli/demo"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
)

func (a *app) demo() *cobra.Command {
	var keep bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show the whole of it on this machine, step by step",
		Long: `demo makes a domain, a root key, a group, a host, gMSAs and a credential spec, runs the
guard, and lets a workload log in to a web site that knows its visitors by Kerberos
alone; then 30 days pass, the password changes, and the workload still works. Each step
prints the commands that make it and what they answered.

It needs no root, no network, no other program and no configuration, and takes seconds.
The workload is a container where runc or crun can run one without root, else a process.
All that was started is ended, and all files are removed, unless --keep keeps them
for a look from another terminal until Ctrl-C.`,
		Example: `  gmsa demo
  gmsa demo --keep
  gmsa demo -o json`,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return a.runScript(c.Context(), args)
			}
			return a.tellDemo(c.Context(), keep)
		},
	}
	c.Flags().SetInterspersed(false) // what follows a script is for gmsa
	c.Flags().BoolVar(&keep, "keep", false, "leave all of it running, and tell how to use it from another terminal")
	a.addOutputFlag(c)
	c.AddCommand(a.demoSite(), a.demoVisit(), a.demoIdle())
	return c
}

// runScript is gmsa by the clock of a demo: see demo.Script.
func (a *app) runScript(ctx context.Context, args []string) error {
	path, ok := demo.ReadScript(args[0])
	if !ok {
		return failure(Usage, fmt.Errorf("the demo has no command %q", args[0])).hint("gmsa demo --help")
	}
	clock, err := demo.OpenClock(path)
	if err != nil {
		return fmt.Errorf("clock of the demo: %w", err)
	}
	defer func() { _ = clock.Close() }()
	env := a.env
	env.Now = clock.Now
	if code := Run(ctx, args[1:], env); code != int(OK) {
		return &Error{Code: Code(code), Err: errors.New("the command has told why"), Shown: true}
	}
	return nil
}

func (a *app) tellDemo(ctx context.Context, keep bool) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	cfg := demo.Config{Program: program, Environ: a.env.Environ, Out: a.env.Stdout, Colour: a.colour()}
	told := a.output == outputText
	if !told {
		cfg.Out = io.Discard
	}
	if keep {
		cfg.Kept = func(ctx context.Context, r demo.Report) error {
			if !told {
				if err := a.print(r, nil); err != nil {
					return err
				}
			}
			<-ctx.Done()
			return nil
		}
	}
	report, err := demo.Run(ctx, cfg)
	if !told && report.Kept == "" {
		err = errors.Join(err, a.print(report, nil))
	}
	return err
}

// colour says whether the output is a terminal of somebody who likes colours
// (https://no-color.org).
func (a *app) colour() bool {
	f, ok := a.env.Stdout.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && a.env.Getenv("NO_COLOR") == "" && a.env.Getenv("TERM") != "dumb"
}

func (a *app) demoSite() *cobra.Command {
	var name, listen string
	c := &cobra.Command{
		Use:    "site --name HOST --listen ADDR",
		Short:  "The web site of the demo",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			path, err := cachePath(a.env.Getenv("KRB5_KTNAME"))
			if err != nil || path == "" {
				return failure(Usage, errors.New("KRB5_KTNAME names no keytab")).hint("gmsa run --account NAME --with-keytab -- gmsa demo site")
			}
			l, err := demo.Listen(c.Context(), listen)
			if errors.Is(err, demo.ErrNotLoopback) {
				return failure(Usage, fmt.Errorf("--listen %w", err))
			}
			if err != nil {
				return err
			}
			if err := demo.EndWithParent(); err != nil {
				return errors.Join(err, l.Close())
			}
			_, _ = fmt.Fprintf(a.env.Stdout, "the site listens on %s\n", l.Addr())
			return demo.NewSite(name, path, a.env.Now).Serve(c.Context(), l)
		},
	}
	c.Flags().StringVar(&name, "name", "", "the host name of the site")
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on, of the loopback")
	_ = c.MarkFlagRequired("name")
	return c
}

func (a *app) demoIdle() *cobra.Command {
	return &cobra.Command{
		Use: "idle", Short: "Keep the demo's container", Hidden: true, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return demo.Idle(c.Context(), a.env.Stdout) },
	}
}

// visitOptions are the flags of gmsa demo visit.
type visitOptions struct {
	at, keepTicket string
	domain         domainOptions
}

func (a *app) demoVisit() *cobra.Command {
	var o visitOptions
	c := &cobra.Command{
		Use:    "visit URL",
		Short:  "The workload of the demo: a visit to its site",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(c *cobra.Command, args []string) error { return a.visit(c.Context(), o, args[0]) },
	}
	c.Flags().StringVar(&o.at, "at", "", "where the site is: HOST:PORT")
	c.Flags().StringVar(&o.keepTicket, "keep-ticket", "", "write the ticket for the site into this credential cache")
	c.Flags().StringVar(&o.domain.ccache, "ccache", "", "visit with the tickets of this credential cache")
	return c
}

// visitTimeout bounds a visit.
const visitTimeout = 20 * time.Second

func (a *app) visit(ctx context.Context, o visitOptions, site string) error {
	u, err := url.Parse(site)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" {
		return failure(Usage, fmt.Errorf("%q is no address of a web site", site))
	}
	if o.at == "" {
		o.at = net.JoinHostPort(u.Hostname(), orElse(u.Port(), "80"))
	}
	ctx, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	ticket, err := a.siteTicket(ctx, &o.domain, krb5.NewName(krb5.NameSrvHst, "http", u.Hostname()))
	if err != nil {
		return err
	}
	if o.keepTicket != "" {
		cache := ccache.Cache{Principal: ticket.Client, Credentials: []krb5.Credential{ticket}}
		if err := os.WriteFile(o.keepTicket, cache.Append(nil), 0o600); err != nil {
			return err
		}
	}
	answer, err := demo.Visit{URL: site, Address: o.at, Ticket: ticket, Now: a.env.Now}.Do(ctx)
	if err != nil {
		return fmt.Errorf("visit %s: %w", site, err)
	}
	sealed, err := krb5.ParseTicket(ticket.Ticket)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.env.Stdout, "ticket for %v, issued %s under kvno %d\n%s\n", ticket.Server,
		ticket.StartTime.Local().Format(time.DateTime), sealed.EncPart.KVNO, printable(answer))
	return err
}

// siteTicket is a ticket that the cache has, else a new one.
func (a *app) siteTicket(ctx context.Context, o *domainOptions, server krb5.PrincipalName) (krb5.Credential, error) {
	cache, _, err := a.openCache(a.cacheName(o.ccache))
	if err != nil {
		return krb5.Credential{}, err
	}
	if kept, ok := cache.Find(krb5.Principal{Realm: cache.Principal.Realm, Name: server}); ok {
		return kept, nil
	}
	creds, err := a.credentials(o)
	if err != nil {
		return krb5.Credential{}, err
	}
	d, err := a.openDomain(o, creds)
	if err != nil {
		return krb5.Credential{}, err
	}
	defer func() { _ = d.Close() }()
	session, err := ad.Open(d, creds.identity)
	if err != nil {
		return krb5.Credential{}, err
	}
	defer func() { _ = session.Close() }()
	tgt, err := session.TGT(ctx)
	if err != nil {
		return krb5.Credential{}, err
	}
	res, err := d.Kerberos().TGS(ctx, kclient.TGSRequest{TGT: tgt, Server: server})
	return res.Credential, err
}
