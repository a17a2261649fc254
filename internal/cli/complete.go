package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/cli/cmdlet"
	"github.com/opengmsa/opengmsa/internal/ldapc"
)

// The limits of a completion: nobody waits longer for one, or reads more.
const (
	completionTimeout = 3 * time.Second
	completionLimit   = 100
)

// completer looks for what an argument may be, of which the beginning was typed. Each
// answer may have a description behind a tab.
type completer func(ctx context.Context, s *ad.Session, typed string) ([]string, error)

// completeArgs completes the arguments of an administrator's command, each by its
// completer, and those that follow by the last one if the command takes any number. It asks the
// domain as the command would, but for a password. Nothing is told of what goes wrong: the command
// itself does that.
func (a *app) completeArgs(o *domainOptions, many bool, each []completer) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
		if o.asks() || len(args) >= len(each) && !many {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
		defer cancel()
		var found []string
		_ = a.session(ctx, o, func(ctx context.Context, s *ad.Session) (err error) {
			found, err = each[min(len(args), len(each)-1)](ctx, s, typed)
			return err
		})
		return found, cobra.ShellCompDirectiveNoFileComp
	}
}

// asks reports whether the options have somebody type a password, or read it from where
// the shell's own input is.
func (o *domainOptions) asks() bool {
	return o.passwordFile == "-" || o.user != "" && o.passwordFile == "" && o.keytab == ""
}

// The completers of accounts, by their classes. A gMSA is a computer to the schema.
var (
	completeAccount   = completeNames(serviceAccountClasses())
	completeGroup     = completeNames(adproto.Equal("objectClass", "group"))
	completeComputer  = completeNames(adproto.And(adproto.Equal("objectClass", "computer"), adproto.Not(serviceAccountClasses())))
	completePrincipal = completeNames(adproto.Present("objectSid"))
)

func serviceAccountClasses() adproto.Filter {
	return adproto.Or(adproto.Equal("objectClass", "msDS-GroupManagedServiceAccount"), adproto.Equal("objectClass", "msDS-ManagedServiceAccount"))
}

// completeNames completes names of accounts, without their $.
func completeNames(f adproto.Filter) completer {
	return func(ctx context.Context, s *ad.Session, typed string) ([]string, error) {
		begins := adproto.Present("sAMAccountName")
		if typed != "" {
			begins = adproto.Filter{Kind: adproto.FilterSubstrings, Attr: "sAMAccountName", Initial: []byte(typed)}
		}
		objects, err := s.Objects(ctx, ad.Query{
			Filter: adproto.And(f, begins), Scope: ldapc.Subtree, Attrs: []string{"description"}, Limit: completionLimit,
		})
		var found []string
		for _, o := range objects {
			description := ""
			if d := o.Values["description"]; len(d) > 0 {
				description = string(d[0])
			}
			found = append(found, completed(typed, strings.TrimSuffix(o.Name, "$"), description))
		}
		slices.Sort(found)
		return found, err
	}
}

// completeNothing is of what only the caller knows.
func completeNothing(context.Context, *ad.Session, string) ([]string, error) { return nil, nil }

// completeRootKey completes the ids of root keys.
func completeRootKey(ctx context.Context, s *ad.Session, typed string) ([]string, error) {
	keys, err := s.RootKeys(ctx, false)
	var found []string
	for _, k := range keys {
		if id := k.ID.String(); hasPrefixFold(id, typed) {
			found = append(found, completed(typed, id, "effective "+when(k.UseStart)))
		}
	}
	return found, err
}

// completed is a name as a shell takes it: it begins with what was typed, in the same
// letters, for shells compare them; a description stands behind a tab.
func completed(typed, name, description string) string {
	if hasPrefixFold(name, typed) {
		name = typed + name[len(typed):]
	}
	if description == "" {
		return printable(name)
	}
	return printable(name) + "\t" + oneLine(description)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// completeSpec completes names of credential specs in the usual directories; files
// elsewhere are the shell's to complete.
func (a *app) completeSpec(_ *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	files, _ := a.specFiles() // without any there is nothing to complete
	var found []string
	for _, f := range files {
		if hasPrefixFold(f.Name, typed) {
			found = append(found, completed(typed, f.Name, f.Path))
		}
	}
	return found, cobra.ShellCompDirectiveDefault
}

// completeHeld completes the accounts that the agent of this host holds.
func (a *app) completeHeld(c *cobra.Command, _ []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	var found []string
	_ = a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) error {
		status, err := client.Status(ctx, &agentapi.StatusRequest{})
		for _, x := range status.GetAccounts() {
			name, realm, _ := strings.Cut(x.GetPrincipal(), "@")
			if name = strings.TrimSuffix(name, "$"); hasPrefixFold(name, typed) {
				found = append(found, completed(typed, name, realm))
			}
		}
		return err
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeLease completes the ids of leases.
func (a *app) completeLease(c *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	var found []string
	_ = a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) error {
		leases, err := allLeases(ctx, client, "")
		for _, l := range leases {
			if strings.HasPrefix(l.GetId(), typed) && len(args) == 0 {
				found = append(found, completed(typed, l.GetId(), accountNames(l)))
			}
		}
		return err
	})
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeCmdlet completes the names of cmdlets, which are commands of their own.
func completeCmdlet(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var found []string
	for _, name := range cmdlet.Names() {
		if len(args) == 0 && typed != "" && hasPrefixFold(name, typed) {
			synopsis, _ := cmdlet.Synopsis(name)
			found = append(found, completed(typed, name, synopsis))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}

// completeParameter completes the parameters of the cmdlet that args begin with.
func completeParameter(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) == 0 || !strings.HasPrefix(typed, "-") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	var found []string
	for _, p := range cmdlet.Parameters(args[0]) {
		if hasPrefixFold("-"+p, typed) {
			found = append(found, completed(typed, "-"+p, ""))
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
