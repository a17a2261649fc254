package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/cli/cmdlet"
)

func (a *app) group() *cobra.Command {
	return noun("group", "Groups, such as that of the hosts that may use a gMSA",
		a.groupCreate(), a.groupShow(), a.groupList(), a.groupMembers("add-member"), a.groupMembers("remove-member"), a.groupRemove())
}

// groupView is a group for programs.
type groupView struct {
	objectView
	Scope       string       `json:"scope"`
	Category    string       `json:"category"`
	Description string       `json:"description,omitempty"`
	Members     []objectView `json:"members,omitempty"`
}

func viewGroup(g ad.Group, members []ad.Object) groupView {
	scope, category := cmdlet.GroupScope(g.Type)
	return groupView{objectView: viewObject(g.Object), Scope: scope, Category: category, Description: g.Description, Members: viewObjects(members)}
}

func (v groupView) write(w io.Writer) error {
	err := fields(w, "group", v.Name, "scope", v.Scope+", "+v.Category, "description", v.Description, "object", v.DN, "SID", v.SID)
	if err != nil || len(v.Members) == 0 {
		return err
	}
	return writeObjects(w, v.Members)
}

func (a *app) groupCreate() *cobra.Command {
	var n ad.NewGroup
	scope, category := "Global", "Security"
	return a.command(verb{
		use: "create NAME", short: "Make a group", args: cobra.ExactArgs(1),
		long: `create makes a group, a security group of scope Global unless something else is
asked for. Hosts notice that they are in a group when they get their next ticket.`,
		example: `  gmsa group create WebApp01Hosts --scope DomainLocal
  gmsa group create "WebApp01 Authorized Hosts" --sam WebApp01Hosts --member ContainerHost01`,
		flags: func(c *cobra.Command) {
			f := c.Flags()
			f.StringVar(&scope, "scope", scope, "DomainLocal, Global or Universal")
			f.StringVar(&category, "category", category, "Security or Distribution")
			f.StringVar(&n.SAM, "sam", "", "the account name (default: the name)")
			f.StringVar(&n.Description, "description", "", "what it is for")
			f.StringVar(&n.Path, "path", "", "distinguished name of the container (default: Users)")
			f.StringSliceVar(&n.Members, "member", nil, "who is in it, may be repeated")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			n.Name = args[0]
			var err error
			if n.Type, err = cmdlet.ParseGroupType(scope, category); err != nil {
				return failure(Usage, err)
			}
			g, err := s.CreateGroup(ctx, n)
			if err != nil {
				return err
			}
			v := viewGroup(g, nil)
			return a.print(v, v.write)
		},
	})
}

func (a *app) groupShow() *cobra.Command {
	var nested bool
	return a.command(verb{
		use: "show NAME", short: "Show a group and its members", args: cobra.ExactArgs(1), complete: []completer{completeGroup},
		long:    "show prints a group and its members; with --nested also those of the groups in it.",
		example: "  gmsa group show WebApp01Hosts --nested",
		flags: func(c *cobra.Command) {
			c.Flags().BoolVar(&nested, "nested", false, "also members of groups in it")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			g, err := s.Group(ctx, args[0])
			if err != nil {
				return err
			}
			members, err := s.Members(ctx, g.DN, nested)
			if err != nil {
				return err
			}
			v := viewGroup(g, members)
			return a.print(v, v.write)
		},
	})
}

func (a *app) groupList() *cobra.Command {
	var base string
	return a.command(verb{
		use: "list [FILTER]", short: "List groups", args: cobra.MaximumNArgs(1),
		long:    "list shows the groups that satisfy a filter of LDAP or PowerShell.",
		example: `  gmsa group list 'name -like "*Hosts"'`,
		flags:   func(c *cobra.Command) { c.Flags().StringVar(&base, "base", "", "search below this object only") },
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			f, err := parseFilter(strings.Join(args, ""))
			if err != nil {
				return err
			}
			groups, err := s.Groups(ctx, f, base)
			if err != nil {
				return err
			}
			views := make([]groupView, len(groups))
			rows := [][]string{{"NAME", "SCOPE", "CATEGORY", "DISTINGUISHED NAME"}}
			for i, g := range groups {
				views[i] = viewGroup(g, nil)
				rows = append(rows, []string{g.Name, views[i].Scope, views[i].Category, g.DN})
			}
			return a.print(views, func(w io.Writer) error { return table(w, rows) })
		},
	})
}

// groupMembers is add-member or remove-member.
func (a *app) groupMembers(name string) *cobra.Command {
	v := verb{
		use: name + " GROUP MEMBER…", args: cobra.MinimumNArgs(2), complete: []completer{completeGroup, completePrincipal},
		short: "Put accounts into a group",
		long: `add-member puts accounts or groups into a group, all of them or none. Who is in it
already stays. A host sees a new group with its next ticket.`,
		example: "  gmsa group add-member WebApp01Hosts ContainerHost01 ContainerHost02",
	}
	done, change := "added", (*ad.Session).AddMembers
	if name == "remove-member" {
		done, change = "removed", (*ad.Session).RemoveMembers
		v.short = "Take accounts out of a group"
		v.long = `remove-member takes accounts or groups out of a group, all of them or none. A host
keeps the group until its tickets end, up to 10 hours, and knows the passwords of
gMSAs that it has read until they change: see gmsa account show.`
		v.example = "  gmsa group remove-member WebApp01Hosts ContainerHost02"
	}
	v.run = func(ctx context.Context, s *ad.Session, args []string) error {
		who, err := change(s, ctx, args[0], args[1:]...)
		if err != nil {
			return err
		}
		var names []string
		for _, o := range who {
			names = append(names, orElse(o.Name, o.DN))
		}
		return a.printChanged(args[0], done, names)
	}
	return a.command(v)
}

func (a *app) groupRemove() *cobra.Command {
	return a.command(verb{
		use: "remove NAME", short: "Delete a group", args: cobra.ExactArgs(1), complete: []completer{completeGroup},
		long:    "remove deletes a group. What was granted to it is granted to nobody then.",
		example: "  gmsa group remove WebApp01Hosts",
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			g, err := s.RemoveGroup(ctx, args[0])
			if err != nil {
				return err
			}
			return a.printChanged("groups", "removed", []string{fmt.Sprintf("%s (%s)", g.Name, g.DN)})
		},
	})
}
