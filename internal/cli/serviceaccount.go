package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/cli/cmdlet"
)

// readerView is who may retrieve a password, for programs.
type readerView struct {
	SID   string       `json:"sid"`
	Name  string       `json:"name,omitempty"`
	Kind  string       `json:"kind,omitempty"`
	DN    string       `json:"distinguishedName,omitempty"`
	Hosts []objectView `json:"hosts,omitempty"`
}

// serviceAccountView is a managed service account for programs.
type serviceAccountView struct {
	objectView
	DNSHostName string   `json:"dNSHostName,omitempty"`
	Description string   `json:"description,omitempty"`
	Enabled     bool     `json:"enabled"`
	Control     uint32   `json:"userAccountControl"`
	Flags       string   `json:"userAccountControlFlags"`
	EncTypes    string   `json:"kerberosEncryptionType"`
	SPNs        []string `json:"servicePrincipalNames"`
	// Interval is in days.
	Interval     int        `json:"managedPasswordIntervalInDays,omitempty"`
	KVNO         uint32     `json:"keyVersionNumber,omitempty"`
	RootKey      string     `json:"rootKey,omitempty"`
	PasswordSet  *time.Time `json:"passwordLastSet,omitempty"`
	NextRollover *time.Time `json:"nextRollover,omitempty"`
	// Rotating: the next rollover was brought forward.
	Rotating bool         `json:"rotating,omitempty"`
	Created  *time.Time   `json:"whenCreated,omitempty"`
	Computer string       `json:"hostComputer,omitempty"`
	Readers  []readerView `json:"principalsAllowedToRetrieveManagedPassword,omitempty"`
	Findings []string     `json:"findings,omitempty"`
}

func viewServiceAccount(x ad.Account) serviceAccountView {
	v := serviceAccountView{
		objectView: viewObject(accountObject(x)), DNSHostName: x.DNSHostName, Description: x.Description, Enabled: !x.Control.Disabled(),
		Control: uint32(x.Control), Flags: x.Control.String(), EncTypes: cmdlet.EncryptionText(x.EncTypes), SPNs: x.SPNs,
		KVNO: x.KVNO, PasswordSet: jsonTime(x.PasswordSet), NextRollover: jsonTime(x.NextRollover()), Rotating: x.Rotating(), Created: jsonTime(x.WhenCreated),
		Findings: x.Findings(),
	}
	if v.SPNs == nil {
		v.SPNs = []string{}
	}
	if x.MSA != nil {
		v.Interval = x.MSA.Interval
		if x.MSA.ID != nil {
			v.RootKey = x.MSA.ID.RootKeyID.String()
		}
	}
	return v
}

func viewReaders(readers []ad.Reader) []readerView {
	var views []readerView
	for _, r := range readers {
		v := readerView{SID: r.SID.String()}
		if r.Object != nil {
			v.Name, v.Kind, v.DN = r.Object.Name, r.Object.Kind.String(), r.Object.DN
		}
		if len(r.Hosts) > 0 {
			v.Hosts = viewObjects(r.Hosts)
		}
		views = append(views, v)
	}
	return views
}

// detail completes the view of one account with what takes further searches.
func detail(ctx context.Context, s *ad.Session, x ad.Account) (serviceAccountView, error) {
	v := viewServiceAccount(x)
	readers, err := s.Readers(ctx, x)
	if err != nil {
		return v, err
	}
	v.Readers = viewReaders(readers)
	if x.Kind == ad.KindSMSA {
		v.Computer, err = s.LinkedComputer(ctx, x)
	}
	return v, err
}

func (v serviceAccountView) write(w io.Writer) error {
	interval, rollover, set, version := "", "", "", ""
	if v.KVNO > 0 {
		version = fmt.Sprint(v.KVNO)
	}
	if v.Interval > 0 {
		interval = fmt.Sprintf("%d days", v.Interval)
	}
	if v.NextRollover != nil {
		rollover = when(*v.NextRollover)
		if v.Rotating {
			rollover += " (rotated before its time)"
		}
	}
	if v.PasswordSet != nil {
		set = when(*v.PasswordSet)
	}
	err := fields(w, "account", v.Name, "kind", v.Kind, "DNS host name", v.DNSHostName, "description", v.Description, "enabled", yesNo(v.Enabled),
		"flags", v.Flags, "encryption types", v.EncTypes, "SPNs", strings.Join(v.SPNs, ", "), "password interval", interval,
		"password set", set, "key version", version, "next rollover", rollover, "root key", v.RootKey, "computer", v.Computer, "object", v.DN, "SID", v.SID)
	if err != nil {
		return err
	}
	if err := writeReaders(w, v.Readers); err != nil {
		return err
	}
	for _, f := range v.Findings {
		if _, err := fmt.Fprintf(w, "! %s\n", printable(f)); err != nil {
			return err
		}
	}
	return nil
}

func writeReaders(w io.Writer, readers []readerView) error {
	if len(readers) == 0 {
		return nil
	}
	rows := [][]string{{"MAY RETRIEVE THE PASSWORD", "KIND", "HOSTS"}}
	for _, r := range readers {
		var hosts []string
		for _, h := range r.Hosts {
			hosts = append(hosts, h.Name)
		}
		rows = append(rows, []string{orElse(r.Name, r.SID), orElse(r.Kind, "unknown here"), strings.Join(hosts, ", ")})
	}
	return table(w, rows)
}

// newAccountOptions are the flags of gmsa account create.
type newAccountOptions struct {
	ad.NewServiceAccount
	encTypes []string
}

func (a *app) accountCreate() *cobra.Command {
	var o newAccountOptions
	return a.command(verb{
		use: "create NAME", short: "Make a gMSA", args: cobra.ExactArgs(1),
		long: `create makes a group managed service account, ready to be used: enabled, with AES
keys and a password that changes every 30 days. Its name, of 15 characters at
most, and its service principal names must be free in the whole forest. The
interval can only be set here. With --single-computer it makes a standalone one.`,
		example: `  gmsa account create WebApp01 --dns webapp01.contoso.com --hosts WebApp01Hosts --spn host/WebApp01,host/webapp01.contoso.com
  gmsa account create ITFarm1 --outbound-only --hosts 'Host1$' --interval 75
  gmsa account create Service-sMSA --single-computer --computer server1`,
		flags: func(c *cobra.Command) {
			f := c.Flags()
			f.StringVar(&o.DNSHostName, "dns", "", "the DNS host name of the service")
			f.StringSliceVar(&o.SPNs, "spn", nil, "service principal names")
			f.StringSliceVar(&o.Readers, "hosts", nil, "who may retrieve the password: a group, hosts, SIDs")
			f.IntVar(&o.Interval, "interval", ad.DefaultInterval, "days until the password changes")
			f.StringSliceVar(&o.encTypes, "enctypes", nil, "encryption types: None, RC4, AES128, AES256 (default AES128,AES256)")
			f.StringVar(&o.SAM, "sam", "", "the account name (default: the name)")
			f.StringVar(&o.Description, "description", "", "what it is for")
			f.StringVar(&o.DisplayName, "display-name", "", "how it is shown")
			f.StringVar(&o.Path, "path", "", "distinguished name of the container (default: Managed Service Accounts)")
			f.BoolVar(&o.OutboundOnly, "outbound-only", false, "it connects to others and nobody to it: no DNS host name")
			f.BoolVar(&o.Standalone, "single-computer", false, "a standalone managed service account")
			f.StringVar(&o.Computer, "computer", "", "with --single-computer: the computer that it belongs to")
			f.BoolVar(&o.Disabled, "disabled", false, "nobody can log on as it until it is enabled")
			f.BoolVar(&o.TrustedForDelegation, "trusted-for-delegation", false, "unconstrained delegation")
			f.StringSliceVar(&o.Delegates, "delegates", nil, "who may act to it on behalf of others")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			o.Name = args[0]
			return a.createAccount(ctx, s, o)
		},
	})
}

func (a *app) createAccount(ctx context.Context, s *ad.Session, o newAccountOptions) error {
	var err error
	if o.EncTypes, err = parseEncTypes(o.encTypes); err != nil {
		return err
	}
	if o.Computer != "" && !o.Standalone {
		return failure(Usage, errors.New("--computer is for an account of a single computer")).hint("add --single-computer, or name the host with --hosts")
	}
	a.warnRC4(o.EncTypes)
	if o.OutboundOnly && len(o.SPNs) > 0 {
		a.warn("an account that nobody connects to needs no service principal names")
	}
	x, notes, err := s.CreateServiceAccount(ctx, o.NewServiceAccount)
	if err != nil {
		return err
	}
	for _, n := range notes {
		a.warn(n)
	}
	return a.printDone(ctx, s, x, "made")
}

// printDone prints an account that was made or changed. That it cannot be read for that
// undoes nothing.
func (a *app) printDone(ctx context.Context, s *ad.Session, x ad.Account, done string) error {
	v, err := detail(ctx, s, x)
	if err != nil {
		return &ad.StandsError{What: x.DN + " was " + done + ", and cannot be shown", Err: err}
	}
	return a.print(v, v.write)
}

func (a *app) accountList() *cobra.Command {
	var base string
	return a.command(verb{
		use: "list [FILTER]", short: "List managed service accounts", args: cobra.MaximumNArgs(1),
		long:    "list shows the managed service accounts that satisfy a filter of LDAP or PowerShell.",
		example: "  gmsa account list\n" + `  gmsa account list 'name -like "Web*"' -o json`,
		flags:   func(c *cobra.Command) { c.Flags().StringVar(&base, "base", "", "search below this object only") },
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			f, err := parseFilter(strings.Join(args, ""))
			if err != nil {
				return err
			}
			list, err := s.ServiceAccounts(ctx, f, base)
			if err != nil {
				return err
			}
			views := make([]serviceAccountView, len(list))
			rows := [][]string{{"NAME", "KIND", "DNS HOST NAME", "ENABLED", "NEXT ROLLOVER"}}
			for i, x := range list {
				views[i] = viewServiceAccount(x)
				kind := "gMSA"
				if x.Kind == ad.KindSMSA {
					kind = "sMSA"
				}
				rows = append(rows, []string{x.Name, kind, x.DNSHostName, yesNo(views[i].Enabled), when(x.NextRollover())})
			}
			return a.print(views, func(w io.Writer) error { return table(w, rows) })
		},
	})
}

func (a *app) accountShow() *cobra.Command {
	return a.command(verb{
		use: "show NAME", short: "Show a managed service account", args: cobra.ExactArgs(1), complete: []completer{completeAccount},
		long: `show prints an account with its password's age, its next change (and whether account
rotate brought it forward), the root key that makes it, and who may retrieve it, down
to the hosts in groups. What is wrong with the account is marked with an exclamation
mark.`,
		example: "  gmsa account show WebApp01\n  gmsa account show WebApp01 -o yaml",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			x, err := s.ServiceAccount(ctx, args[0])
			if err != nil {
				return err
			}
			v, err := detail(ctx, s, x)
			if err != nil {
				return err
			}
			return a.print(v, v.write)
		},
	})
}

// setOptions are the flags of gmsa account set.
type setOptions struct {
	dns, description, displayName             string
	enable, disable, delegation, noDelegation bool
	encTypes, hosts, delegates                []string
	spnAdd, spnRemove, spns                   []string
	add, remove, replace, clear               []string
	interval                                  int
	repair                                    bool
}

func (a *app) accountSet() *cobra.Command {
	var o setOptions
	var c *cobra.Command
	c = a.command(verb{
		use: "set NAME", short: "Change properties of a managed service account", args: cobra.ExactArgs(1), complete: []completer{completeAccount},
		long: `set changes an account in one request: all or nothing. --hosts says anew who may
retrieve the password; to add or remove some, see gmsa account hosts. --repair makes
an account as usable as create does: enabled, of the right type, with AES keys.`,
		example: `  gmsa account set WebApp01 --description "the shop" --spn-add http/shop.contoso.com
  gmsa account set WebApp01 --hosts 'Host1$,Host2$'
  gmsa account set oldapp --repair`,
		flags: func(c *cobra.Command) {
			f := c.Flags()
			f.StringVar(&o.dns, "dns", "", "the DNS host name")
			f.StringVar(&o.description, "description", "", "what it is for")
			f.StringVar(&o.displayName, "display-name", "", "how it is shown")
			f.BoolVar(&o.enable, "enable", false, "let it log on")
			f.BoolVar(&o.disable, "disable", false, "let it not log on")
			f.BoolVar(&o.delegation, "trusted-for-delegation", false, "unconstrained delegation")
			f.BoolVar(&o.noDelegation, "not-trusted-for-delegation", false, "no unconstrained delegation")
			f.StringSliceVar(&o.encTypes, "enctypes", nil, "encryption types: None, RC4, AES128, AES256")
			f.StringSliceVar(&o.hosts, "hosts", nil, "who may retrieve the password, and nobody else")
			f.StringSliceVar(&o.delegates, "delegates", nil, "who may act to it on behalf of others, and nobody else")
			f.StringSliceVar(&o.spns, "spn", nil, "its service principal names, and no others")
			f.StringSliceVar(&o.spnAdd, "spn-add", nil, "service principal names to add")
			f.StringSliceVar(&o.spnRemove, "spn-remove", nil, "service principal names to remove")
			f.StringArrayVar(&o.add, "add", nil, "ATTRIBUTE=VALUE to add")
			f.StringArrayVar(&o.remove, "remove", nil, "ATTRIBUTE=VALUE to remove")
			f.StringArrayVar(&o.replace, "replace", nil, "ATTRIBUTE=VALUE to replace all values by")
			f.StringSliceVar(&o.clear, "clear", nil, "attributes to remove")
			f.IntVar(&o.interval, "interval", 0, "refused unless it is what the account has: it is set at creation")
			f.BoolVar(&o.repair, "repair", false, "enable it, and set the account type and AES encryption types that it lacks")
			c.MarkFlagsMutuallyExclusive("enable", "disable")
			c.MarkFlagsMutuallyExclusive("trusted-for-delegation", "not-trusted-for-delegation")
			c.MarkFlagsMutuallyExclusive("spn", "spn-add")
			c.MarkFlagsMutuallyExclusive("spn", "spn-remove")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			edit, err := o.edit(c.Flags().Changed)
			if err != nil {
				return err
			}
			a.warnRC4(edit.EncTypes)
			var x ad.Account
			if o.repair {
				x, err = s.RepairServiceAccount(ctx, args[0], edit)
			} else {
				x, err = s.SetServiceAccount(ctx, args[0], edit)
			}
			if errors.Is(err, ad.ErrIntervalFixed) {
				return failure(Usage, err).hint("gmsa account create NEWNAME --interval DAYS")
			}
			if err != nil {
				return err
			}
			return a.printDone(ctx, s, x, "changed")
		},
	})
	return c
}

// edit is what the flags that were given ask for.
func (o setOptions) edit(given func(string) bool) (ad.ServiceAccountEdit, error) {
	var e ad.ServiceAccountEdit
	var err error
	if e.Changes, err = parseChanges(o.add, o.remove, o.replace, o.clear); err != nil {
		return e, err
	}
	for flag, change := range map[string]ad.Change{
		"dns": ad.Replace("dNSHostName", o.dns), "description": ad.Replace("description", o.description), "display-name": ad.Replace("displayName", o.displayName),
	} {
		if !given(flag) {
			continue
		}
		if change.Values[0] == "" {
			change.Values = nil
		}
		e.Changes = append(e.Changes, change)
	}
	choose := func(yes, no bool) *bool {
		if !yes && !no {
			return nil
		}
		return &yes
	}
	e.Enabled, e.TrustedForDelegation = choose(o.enable, o.disable), choose(o.delegation, o.noDelegation)
	if e.EncTypes, err = parseEncTypes(o.encTypes); err != nil {
		return e, err
	}
	if given("hosts") {
		e.Readers = &o.hosts
	}
	if given("delegates") {
		e.Delegates = &o.delegates
	}
	if given("interval") {
		e.Interval = &o.interval
	}
	for flag, change := range map[string]ad.Change{
		"spn": ad.Replace("servicePrincipalName", o.spns...), "spn-add": {Op: ad.AddValues, Attr: "servicePrincipalName", Values: o.spnAdd},
		"spn-remove": {Op: ad.RemoveValues, Attr: "servicePrincipalName", Values: o.spnRemove},
	} {
		if given(flag) {
			e.SPNs = append(e.SPNs, change)
		}
	}
	return e, nil
}

// parseChanges reads ATTRIBUTE=VALUE flags; values of one attribute go together.
func parseChanges(add, remove, replace, clear []string) ([]ad.Change, error) {
	var changes []ad.Change
	for _, list := range []struct {
		op   ad.ChangeOp
		text []string
	}{{ad.RemoveValues, remove}, {ad.AddValues, add}, {ad.ReplaceValues, replace}} {
		at := map[string]int{}
		for _, text := range list.text {
			attr, value, ok := strings.Cut(text, "=")
			if !ok || !adproto.ValidAttribute(attr) {
				return nil, failure(Usage, fmt.Errorf("%q: want ATTRIBUTE=VALUE", text))
			}
			i, seen := at[strings.ToLower(attr)]
			if !seen {
				i, at[strings.ToLower(attr)] = len(changes), len(changes)
				changes = append(changes, ad.Change{Op: list.op, Attr: attr})
			}
			changes[i].Values = append(changes[i].Values, value)
		}
	}
	for _, attr := range clear {
		changes = append(changes, ad.Replace(attr))
	}
	return changes, nil
}

func (a *app) accountRemove() *cobra.Command {
	return a.command(verb{
		use: "remove NAME", short: "Delete a managed service account", args: cobra.ExactArgs(1), complete: []completer{completeAccount},
		long:    "remove deletes an account. Tickets that it has are good until they end.",
		example: "  gmsa account remove WebApp01",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			x, err := s.RemoveServiceAccount(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printChanged("accounts", "removed", []string{x.Name})
		},
	})
}

func (a *app) accountRotate() *cobra.Command {
	return a.command(verb{
		use: "rotate NAME", short: "Change a gMSA's password before its time", args: cobra.ExactArgs(1), complete: []completer{completeAccount},
		long: `rotate ends a password that somebody knows who should not: the domain makes a new
one at the beginning of the next key cycle, up to 10 hours later. OpenGMSA's own
controller can do that. Others cannot, and rotate says until when the password is
good there, and what can be done.`,
		example: "  gmsa account rotate WebApp01",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			x, err := s.Rotate(ctx, args[0])
			if err != nil {
				return err
			}
			v := viewServiceAccount(x)
			return a.print(v, v.write)
		},
	})
}

func (a *app) accountDelegate() *cobra.Command {
	var to, path string
	return a.command(verb{
		use: "delegate --to PRINCIPAL", short: "Let somebody make and manage gMSAs", args: cobra.NoArgs,
		long: `delegate grants the right to create and delete gMSAs in a container, and full
control of those in it, by two entries in the container's permissions. Whoever has
it can read the password of each of these accounts by granting it to itself.`,
		example: `  gmsa account delegate --to GmsaAdmins
  gmsa account delegate --to alice --path "OU=Web,DC=contoso,DC=com"`,
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&to, "to", "", "who is granted it")
			c.Flags().StringVar(&path, "path", "", "distinguished name of the container (default: Managed Service Accounts)")
			_ = c.MarkFlagRequired("to")
		},
		run: func(ctx context.Context, s *ad.Session, _ []string) error {
			d, err := s.Delegate(ctx, to, path)
			if err != nil {
				return err
			}
			var names []string
			if d.Changed {
				names = []string{orElse(d.To.Name, d.To.DN)}
			}
			return a.printChanged(d.Container, "gMSAs may be made and managed by", names)
		},
	})
}

func (a *app) accountHosts() *cobra.Command {
	return noun("hosts", "Who may retrieve a gMSA's password",
		a.hostsEdit("add"), a.hostsEdit("remove"), a.hostsList())
}

// hostsEdit is add or remove.
func (a *app) hostsEdit(name string) *cobra.Command {
	v := verb{
		use: name + " ACCOUNT PRINCIPAL…", args: cobra.MinimumNArgs(2), complete: []completer{completeAccount, completePrincipal},
		short: "Let hosts or groups retrieve the password",
		long: `add grants hosts, groups or SIDs the right to retrieve the password by entries of
their own in msDS-GroupMSAMembership; what others wrote there stays in its place.`,
		example: "  gmsa account hosts add WebApp01 ContainerHost03 'Host4$'",
	}
	done, change := "may now be retrieved by", (*ad.Session).AddReaders
	if name == "remove" {
		done, change = "may no more be retrieved by", (*ad.Session).RemoveReaders
		v.short = "Take that right from hosts or groups"
		v.long = `remove takes the right to retrieve the password from hosts, groups or SIDs. A host
that has read the password knows it until it changes: the answer says when. After a
compromise see gmsa account rotate. A host that is in a group with the right keeps it.`
		v.example = "  gmsa account hosts remove WebApp01 ContainerHost03"
	}
	v.run = func(ctx context.Context, s *ad.Session, args []string) error {
		x, sids, err := change(s, ctx, args[0], args[1:]...)
		if err != nil {
			return err
		}
		var names []string
		for _, sid := range sids {
			names = append(names, sid.String())
		}
		if name == "remove" && len(sids) > 0 {
			if until := x.NextRollover(); !until.IsZero() {
				a.warn(fmt.Sprintf("who has read the password of %s can use it until %s; after a compromise: gmsa account rotate %s", x.Name, when(until), strings.TrimSuffix(x.Name, "$")))
			}
		}
		return a.printChanged(x.Name, done, names)
	}
	return a.command(v)
}

func (a *app) hostsList() *cobra.Command {
	return a.command(verb{
		use: "list ACCOUNT", short: "List who may retrieve the password", args: cobra.ExactArgs(1), complete: []completer{completeAccount},
		long:    "list resolves who may retrieve the password: the principals, and the hosts in groups, through groups in them too.",
		example: "  gmsa account hosts list WebApp01",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			x, err := s.ServiceAccount(ctx, args[0])
			if err != nil {
				return err
			}
			readers, err := s.Readers(ctx, x)
			if err != nil {
				return err
			}
			views := viewReaders(readers)
			if views == nil {
				views = []readerView{}
			}
			return a.print(views, func(w io.Writer) error { return writeReaders(w, views) })
		},
	})
}

// linkCommand is link or unlink.
func (a *app) accountLink(name string) *cobra.Command {
	v := verb{
		use: name + " COMPUTER ACCOUNT…", args: cobra.MinimumNArgs(2), complete: []completer{completeComputer, completeAccount},
		short:   "Make a standalone account a computer's own",
		long:    "link makes standalone managed service accounts a computer's own (msDS-HostServiceAccount). An account has one computer.",
		example: "  gmsa account link server1 Service-sMSA",
	}
	done, change := "is given", (*ad.Session).LinkServiceAccounts
	if name == "unlink" {
		done, change = "is no more given", (*ad.Session).UnlinkServiceAccounts
		v.short, v.long = "Undo account link", "unlink takes standalone managed service accounts from a computer."
		v.example = "  gmsa account unlink server1 Service-sMSA"
	}
	v.run = func(ctx context.Context, s *ad.Session, args []string) error {
		list, err := change(s, ctx, args[0], args[1:]...)
		if err != nil {
			return err
		}
		var names []string
		for _, x := range list {
			names = append(names, x.Name)
		}
		return a.printChanged(args[0], done, names)
	}
	return a.command(v)
}
