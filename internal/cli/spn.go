package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
)

func (a *app) spn() *cobra.Command {
	return noun("spn", "Service principal names, by which clients ask for tickets",
		a.spnEdit("add"), a.spnList(), a.spnEdit("remove"), a.spnDuplicates())
}

// spnEdit is add or remove.
func (a *app) spnEdit(name string) *cobra.Command {
	v := verb{
		use: name + " ACCOUNT SPN…", args: cobra.MinimumNArgs(2), complete: []completer{completePrincipal, completeNothing},
		short: "Give an account service principal names",
		long: `add gives an account service principal names: class/host, class/host:port,
class/host:instance or class/host/service. Each must be free in the whole forest: a
name that two accounts have is nobody's.`,
		example: "  gmsa spn add WebApp01 http/mysite.contoso.com",
	}
	done, change := "added", (*ad.Session).AddSPNs
	if name == "remove" {
		done, change = "removed", (*ad.Session).RemoveSPNs
		v.short, v.long = "Take service principal names from an account", "remove takes service principal names from an account."
		v.example = "  gmsa spn remove WebApp01 http/mysite.contoso.com"
	}
	v.run = func(ctx context.Context, s *ad.Session, args []string) error {
		x, names, err := change(s, ctx, args[0], args[1:]...)
		if err != nil {
			return err
		}
		return a.printChanged(x.Name, done, names)
	}
	return a.command(v)
}

func (a *app) spnList() *cobra.Command {
	return a.command(verb{
		use: "list ACCOUNT", short: "List an account's service principal names", args: cobra.ExactArgs(1), complete: []completer{completePrincipal},
		long:    "list prints the service principal names of an account, one a line.",
		example: "  gmsa spn list WebApp01",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			o, err := s.Object(ctx, args[0], "servicePrincipalName")
			if err != nil {
				return err
			}
			names := []string{}
			for _, v := range o.Values["servicePrincipalName"] {
				names = append(names, string(v))
			}
			return a.print(names, func(w io.Writer) error {
				for _, n := range names {
					if _, err := fmt.Fprintln(w, printable(n)); err != nil {
						return err
					}
				}
				return nil
			})
		},
	})
}

// duplicateView is a name that several accounts have.
type duplicateView struct {
	SPN    string   `json:"servicePrincipalName"`
	Owners []string `json:"owners"`
}

func (a *app) spnDuplicates() *cobra.Command {
	return a.command(verb{
		use: "duplicates", short: "Find names that several accounts have", args: cobra.NoArgs,
		long: `duplicates searches the forest for service principal names that more than one
account has; no ticket is issued for them. It exits with 6 when there are any.`,
		example: "  gmsa spn duplicates",
		run: func(ctx context.Context, s *ad.Session, _ []string) error {
			list, err := s.DuplicateSPNs(ctx)
			if err != nil {
				return err
			}
			views := []duplicateView{}
			rows := [][]string{{"NAME", "ACCOUNTS"}}
			for _, d := range list {
				views = append(views, duplicateView(d))
				rows = append(rows, []string{d.SPN, strings.Join(d.Owners, "; ")})
			}
			err = a.print(views, func(w io.Writer) error {
				if len(list) == 0 {
					_, err := fmt.Fprintln(w, "no name belongs to two accounts")
					return err
				}
				return table(w, rows)
			})
			if err == nil && len(list) > 0 {
				return failure(Negative, fmt.Errorf("%d service principal names belong to several accounts", len(list))).hint("gmsa spn remove ACCOUNT SPN")
			}
			return err
		},
	})
}
