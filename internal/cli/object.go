package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/cli/cmdlet"
	"github.com/opengmsa/opengmsa/internal/ldapc"
)

func (a *app) object() *cobra.Command {
	return noun("object", "Any object of the directory", a.objectFind(), a.objectSet())
}

// foundObject is an object with its attributes, for programs.
type foundObject struct {
	objectView
	Attributes map[string][]string `json:"attributes,omitempty"`
}

func (a *app) objectFind() *cobra.Command {
	var base string
	var attrs []string
	var limit int
	return a.command(verb{
		use: "find FILTER", short: "Find objects", args: cobra.ExactArgs(1),
		long: `find searches with a filter of LDAP, (sAMAccountName=web*), or of PowerShell,
sAMAccountName -like "web*", with -and, -or, -not, -eq, -ne, -like, -band and so on.
Binary values are printed as SIDs, GUIDs or hexadecimal.`,
		example: `  gmsa object find 'sAMAccountName -like "webapp*"'
  gmsa object find '(servicePrincipalName=http/*)' --attributes servicePrincipalName`,
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&base, "base", "", "search below this object only")
			c.Flags().StringSliceVar(&attrs, "attributes", nil, "attributes to print; * means all")
			c.Flags().IntVar(&limit, "limit", 0, "fail if there are more than this many")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			f, err := parseFilter(args[0])
			if err != nil {
				return err
			}
			wanted := attrs
			if len(wanted) == 0 {
				wanted = []string{"objectClass"}
			}
			list, err := s.Objects(ctx, ad.Query{Filter: f, Base: base, Scope: ldapc.Subtree, Attrs: wanted, Limit: limit})
			if err != nil {
				return err
			}
			views := make([]foundObject, len(list))
			for i, o := range list {
				views[i] = foundObject{objectView: viewObject(o.Object)}
				if len(attrs) > 0 {
					views[i].Attributes = cmdlet.AttributeTexts(o, attrs)
				}
			}
			return a.print(views, func(w io.Writer) error { return writeFound(w, views) })
		},
	})
}

func writeFound(w io.Writer, list []foundObject) error {
	plain := make([]objectView, len(list))
	attributes := false
	for i, o := range list {
		plain[i] = o.objectView
		attributes = attributes || o.Attributes != nil
	}
	if !attributes {
		return writeObjects(w, plain)
	}
	for _, o := range list {
		if _, err := fmt.Fprintln(w, printable(o.DN)); err != nil {
			return err
		}
		for _, name := range sortedKeys(o.Attributes) {
			for _, v := range o.Attributes[name] {
				if _, err := fmt.Fprintf(w, "  %s: %s\n", printable(name), printable(v)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (a *app) objectSet() *cobra.Command {
	var add, remove, replace, clear []string
	return a.command(verb{
		use: "set OBJECT", short: "Change an object's attributes", args: cobra.ExactArgs(1), complete: []completer{completePrincipal},
		long:    "set changes attributes of any object in one request: all or nothing. Values are text.",
		example: `  gmsa object set WebApp01 --replace userAccountControl=4096`,
		flags: func(c *cobra.Command) {
			c.Flags().StringArrayVar(&add, "add", nil, "ATTRIBUTE=VALUE to add")
			c.Flags().StringArrayVar(&remove, "remove", nil, "ATTRIBUTE=VALUE to remove")
			c.Flags().StringArrayVar(&replace, "replace", nil, "ATTRIBUTE=VALUE to replace all values by")
			c.Flags().StringSliceVar(&clear, "clear", nil, "attributes to remove")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			changes, err := parseChanges(add, remove, replace, clear)
			if err != nil {
				return err
			}
			if len(changes) == 0 {
				return failure(Usage, errors.New("nothing to change")).hint("--add, --remove, --replace or --clear")
			}
			o, err := s.SetObject(ctx, args[0], changes...)
			if err != nil {
				return err
			}
			var names []string
			for _, c := range changes {
				names = append(names, c.Attr)
			}
			return a.printChanged(o.DN, "changed", []string{strings.Join(names, ", ")})
		},
	})
}
