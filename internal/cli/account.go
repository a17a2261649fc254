package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/deliver/systemd"
)

func (a *app) account() *cobra.Command {
	return noun("account", "Managed service accounts",
		a.accountCreate(), a.accountList(), a.accountShow(), a.accountSet(), a.accountRemove(),
		a.accountHosts(), a.accountLink("link"), a.accountLink("unlink"), a.accountKeys(), a.accountRotate(), a.accountDelegate(),
		a.accountTest(), a.accountInstall(), a.accountUninstall())
}

// installOptions are the flags of gmsa account install.
type installOptions struct {
	service, user, group, onRotate string
	credspec                       string
	keytab                         bool
	unitDir                        string
	// admin sets the password of a standalone account.
	admin domainOptions
}

// installed is what install and uninstall report.
type installed struct {
	Account  string   `json:"account"`
	State    string   `json:"state,omitempty"`
	Services []string `json:"services,omitempty"`
	Files    []string `json:"files,omitempty"`
}

func (a *app) accountInstall() *cobra.Command {
	var o installOptions
	c := &cobra.Command{
		Use:   "install {ACCOUNT | --credspec NAME}",
		Short: "Keep a gMSA ready on this host, and give it to a service",
		Long: `install has the agent of this host keep the account ready, also across restarts.
With --service it also gives the account to a service of systemd: it writes a
unit that holds the lease and a drop-in that makes the service need it. The
service is not restarted. Installing again is safe.

Of a standalone account, which must be linked to this host (gmsa account link), it
also sets the password, as the tickets of the caller or as -U says, who need the
right to reset it. From then on the agent keeps the password, and changes it every
30 days as the account itself.`,
		Example: `  gmsa account install webapp01
  gmsa account install webapp01 --service nginx.service
  gmsa account install webapp01 --service apache2 --user www-data --keytab --on-rotate reload-apache
  gmsa account install service-smsa -U Administrator@contoso.com`,
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == (o.credspec != "") || len(args) > 1 {
				return errors.New("want an account or --credspec, one of the two")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return a.install(c.Context(), o, args) },
	}
	c.ValidArgsFunction = a.completeArgs(&o.admin, false, []completer{completeAccount})
	f := c.Flags()
	f.StringVar(&o.service, "service", "", "give the account to this service")
	f.StringVar(&o.credspec, "credspec", "", "the accounts of a credential spec that the agent knows")
	f.StringVar(&o.user, "user", "", "who reads the lease (default: the service's User=)")
	f.StringVar(&o.group, "group", "", "their group (default: the service's Group=)")
	f.BoolVar(&o.keytab, "keytab", false, "for a service that accepts connections: also write keytabs")
	f.StringVar(&o.onRotate, "on-rotate", "", "a command of the agent's configuration to run when keys change")
	addUnitDirFlag(c, &o.unitDir)
	o.admin.addAdminFlags(c)
	a.addOutputFlag(c)
	return c
}

func addUnitDirFlag(c *cobra.Command, dir *string) {
	c.Flags().StringVar(dir, "unit-dir", systemd.DefaultUnitDir, "where systemd's units lie")
}

func (a *app) install(ctx context.Context, o installOptions, args []string) error {
	if o.service == "" && (o.user != "" || o.group != "" || o.keytab || o.onRotate != "") {
		return failure(Usage, errors.New("--user, --group, --keytab and --on-rotate are about a service")).hint("add --service UNIT")
	}
	var name, unit string
	var err error
	if len(args) == 1 {
		if name, err = localName(args[0]); err != nil {
			return err
		}
	}
	if o.service != "" {
		if unit, err = systemd.ParseUnit(o.service); err != nil {
			return failure(Usage, err)
		}
	}
	r := &agentapi.InstallAccountRequest{Subject: &agentapi.InstallAccountRequest_Account{Account: name}}
	if name == "" {
		r.Subject = &agentapi.InstallAccountRequest_CredentialSpec{CredentialSpec: o.credspec}
	}
	account, err := a.handToAgent(ctx, r, func(do func(context.Context, *ad.Session) error) error { return a.session(ctx, &o.admin, do) })
	if err != nil {
		return err
	}
	result := installed{Account: account.GetPrincipal(), State: stateName(account.GetState())}
	if unit != "" {
		if result.Files, err = a.installService(ctx, o, name, unit); err != nil {
			return err
		}
		result.Services = []string{unit}
	}
	return a.print(result, func(w io.Writer) error { return result.write(w) })
}

// handToAgent has the agent keep an account ready. Of a standalone account that it
// does not know it needs the password, which is set anew: by whoever the session is.
func (a *app) handToAgent(ctx context.Context, r *agentapi.InstallAccountRequest, session func(func(context.Context, *ad.Session) error) error) (*agentapi.Account, error) {
	account, err := a.callInstall(ctx, r)
	if f, ok := errors.AsType[*agentapi.Failure](err); !ok || f.Code != agentapi.CodeNotInstalled || r.GetAccount() == "" {
		return account, err
	}
	err = session(func(ctx context.Context, s *ad.Session) error {
		password, err := s.GiveStandalonePassword(ctx, r.GetAccount())
		if err != nil {
			return err
		}
		defer password.Destroy()
		r.StandalonePassword = password.Reveal()
		account, err = a.callInstall(ctx, r)
		if err != nil {
			err = fmt.Errorf("%s has a new password, and the agent does not have it: install it again: %w", r.GetAccount(), err)
		}
		return err
	})
	return account, err
}

func (a *app) callInstall(ctx context.Context, r *agentapi.InstallAccountRequest) (account *agentapi.Account, err error) {
	err = a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) error {
		done, err := client.InstallAccount(ctx, r)
		account = done.GetAccount()
		return err
	})
	return account, err
}

// installService writes the units of one service.
func (a *app) installService(ctx context.Context, o installOptions, name, unit string) ([]string, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("where this program is: %w", err)
	}
	files, err := systemd.Units{Dir: o.unitDir}.Install(ctx, systemd.Service{
		Unit: unit, Account: name, CredentialSpec: o.credspec, User: o.user, Group: o.group,
		Keytab: o.keytab, OnRotate: o.onRotate, Program: program, Socket: a.socket,
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, failure(NotFound, err).hint("systemctl list-unit-files --type=service").hint("the account itself is installed; give it to a service with --service once the service exists")
	case errors.Is(err, systemd.ErrDynamicUser):
		return nil, failure(Usage, err).hint("groupadd --system webapp, then --group webapp")
	case errors.Is(err, systemd.ErrForeign):
		return nil, failure(Denied, err).hint("move the file away, or change it by hand")
	}
	return files, err
}

func (i installed) write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s is installed on this host: %s\n", i.Account, i.State)
	for _, f := range i.Files {
		fmt.Fprintf(&b, "wrote %s\n", f)
	}
	for _, s := range i.Services {
		fmt.Fprintf(&b, "next: systemctl restart %s\n", s)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (a *app) accountUninstall() *cobra.Command {
	var unitDir string
	c := &cobra.Command{
		Use:   "uninstall ACCOUNT",
		Short: "Undo account install, and destroy what is cached of the account",
		Long: `uninstall takes the account from the services of this host that were given it,
has the agent forget it, and destroys its cached credentials. A service that
runs goes on, and has the account no more.`,
		Example: "  gmsa account uninstall webapp01",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeHeld,
		RunE: func(c *cobra.Command, args []string) error { return a.uninstall(c.Context(), args[0], unitDir) },
	}
	addUnitDirFlag(c, &unitDir)
	a.addOutputFlag(c)
	return c
}

func (a *app) uninstall(ctx context.Context, account, unitDir string) error {
	name, err := localName(account)
	if err != nil {
		return err
	}
	systemdUnits := systemd.Units{Dir: unitDir}
	units, err := systemdUnits.Installed(name)
	if err != nil {
		return err
	}
	for _, unit := range units {
		if err := systemdUnits.Uninstall(ctx, unit); err != nil {
			return err
		}
	}
	var known bool
	err = a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) error {
		done, err := client.UninstallAccount(ctx, &agentapi.UninstallAccountRequest{Account: name})
		known = done.GetWasInstalled()
		return err
	})
	if err != nil {
		return err
	}
	if !known && len(units) == 0 {
		return failure(NotFound, fmt.Errorf("%s is not installed on this host", name)).hint("gmsa agent status")
	}
	return a.print(installed{Account: name, Services: units}, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s is no longer installed on this host\n", name)
		for _, u := range units {
			if err == nil {
				_, err = fmt.Fprintf(w, "next: systemctl restart %s\n", u)
			}
		}
		return err
	})
}

// localName is one spelling of an account's name, so that uninstall finds what
// install wrote: NAME, or NAME@domain where a domain was given.
func localName(s string) (string, error) {
	n, err := adproto.ParseAccountName(s)
	if err != nil {
		return "", failure(Usage, fmt.Errorf("account: %w", err))
	}
	name := strings.ToLower(n.Bare())
	if n.Domain != "" {
		name += "@" + strings.ToLower(n.Domain)
	}
	return name, nil
}
