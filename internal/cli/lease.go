package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agentapi"
)

func (a *app) lease() *cobra.Command {
	c := &cobra.Command{
		Use:   "lease",
		Short: "Identities that the agent has given to workloads",
		Long: `A lease is a directory on tmpfs with the credentials of one workload: its ticket
cache, krb5.conf and, if asked for, keytabs. The agent renews what is in it for
as long as the workload lives.`,
	}
	c.AddCommand(a.leaseCreate(), a.leaseList(), a.leaseShow(), a.leaseRemove())
	return c
}

// leaseOptions are the flags of gmsa lease create.
type leaseOptions struct {
	subject
	user, group string
	mode        string
	pid         int
	unit        string
	keep        bool
	keytab      bool
	isolated    bool
	forwardable bool
	onRotate    string
	spns        []string
}

func (a *app) leaseCreate() *cobra.Command {
	var o leaseOptions
	c := &cobra.Command{
		Use:   "create",
		Short: "Ask the agent for a lease",
		Long: `create prints the directory of the new lease. The lease lives as long as the
process of --pid, the systemd unit of --unit that the command is a part of, or,
with --until-removed, until gmsa lease remove.`,
		Example: `  gmsa lease create --account webapp01 --pid $$
  gmsa lease create --credspec contoso_webapp01 --user app --keytab --until-removed`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			request, err := a.leaseRequest(o)
			if err != nil {
				return err
			}
			return a.createLease(c.Context(), request, o.unit)
		},
	}
	o.subject.addFlags(a, c)
	f := c.Flags()
	f.StringVar(&o.user, "user", "", "who owns the files (default: the caller)")
	f.StringVar(&o.group, "group", "", "their group (default: the user's)")
	f.StringVar(&o.mode, "mode", "0400", "their mode: 0400 or 0440")
	f.IntVar(&o.pid, "pid", 0, "end with this process")
	f.StringVar(&o.unit, "unit", "", "end with this systemd unit, which the command must be a part of")
	f.BoolVar(&o.keep, "until-removed", false, "end with gmsa lease remove")
	f.BoolVar(&o.keytab, "keytab", false, "also write a keytab to accept with and one to initiate with")
	f.BoolVar(&o.isolated, "isolated", false, "a ticket of its own, not the one that the account's leases share")
	f.BoolVar(&o.forwardable, "forwardable", false, "a ticket that may be delegated")
	f.StringVar(&o.onRotate, "on-rotate", "", "a command of the agent's configuration to run when keys change")
	f.StringSliceVar(&o.spns, "prefetch", nil, "put tickets for these service principal names into the cache")
	c.MarkFlagsOneRequired("pid", "unit", "until-removed")
	c.MarkFlagsMutuallyExclusive("pid", "unit", "until-removed")
	a.addOutputFlag(c)
	return c
}

// addFlags gives c the options --account and --credspec, of which it needs one.
func (s *subject) addFlags(a *app, c *cobra.Command) {
	c.Flags().StringVar(&s.account, "account", "", `the gMSA: NAME, DOMAIN\NAME, NAME@domain or its DN`)
	c.Flags().StringVar(&s.credspec, "credspec", "", "a credential spec: a name that the agent knows, or a file")
	_ = c.RegisterFlagCompletionFunc("account", a.completeHeld)
	_ = c.RegisterFlagCompletionFunc("credspec", a.completeSpec)
	c.MarkFlagsOneRequired("account", "credspec")
	c.MarkFlagsMutuallyExclusive("account", "credspec")
}

func (a *app) leaseRequest(o leaseOptions) (*agentapi.CreateLeaseRequest, error) {
	r, err := a.request(o.subject)
	if err != nil {
		return nil, err
	}
	if r.Uid, r.Gid, err = owner(o.user, o.group, os.Getuid(), os.Getgid()); err != nil {
		return nil, err
	}
	mode, err := strconv.ParseUint(o.mode, 8, 32)
	if err != nil || mode != 0o400 && mode != 0o440 {
		return nil, failure(Usage, fmt.Errorf("--mode %s: want 0400 or 0440", o.mode))
	}
	r.Mode = uint32(mode)
	switch {
	case o.unit != "":
		r.Workload = &agentapi.CreateLeaseRequest_Unit{Unit: true}
	case o.keep:
		r.Workload = &agentapi.CreateLeaseRequest_UntilRemoved{UntilRemoved: true}
	case o.pid > 0:
		r.Workload = &agentapi.CreateLeaseRequest_Process{Process: &agentapi.Process{Pid: int32(o.pid)}}
	default:
		return nil, failure(Usage, fmt.Errorf("--pid %d is not the number of a process", o.pid))
	}
	r.Keytab, r.Isolated, r.Forwardable = o.keytab, o.isolated, o.forwardable
	r.OnRotate, r.PrefetchSpns = o.onRotate, o.spns
	return r, nil
}

// createLease asks the agent and prints the lease. When a unit was named and
// the lease is another's, the lease is taken back.
func (a *app) createLease(ctx context.Context, r *agentapi.CreateLeaseRequest, unit string) error {
	return a.withAgent(ctx, func(ctx context.Context, client *agentapi.Client) error {
		created, err := client.CreateLease(ctx, r)
		if err != nil {
			return err
		}
		for _, w := range created.GetWarnings() {
			a.warn(w)
		}
		l := created.GetLease()
		if unit != "" && l.GetUnit() != unit && l.GetUnit() != unit+".service" {
			_, err := client.RemoveLease(ctx, &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: l.GetId()}})
			return failure(Usage, errors.Join(fmt.Errorf("this command is a part of unit %q, not of %q", l.GetUnit(), unit), err))
		}
		return a.printMessage(l, func(w io.Writer) error {
			_, err := fmt.Fprintln(w, printable(l.GetDirectory()))
			return err
		})
	})
}

func (a *app) leaseList() *cobra.Command {
	var account string
	c := &cobra.Command{
		Use:   "list",
		Short: "List the caller's leases, or all for root",
		Example: `  gmsa lease list
  gmsa lease list --account webapp01 -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withAgent(c.Context(), func(ctx context.Context, client *agentapi.Client) error {
				all, err := allLeases(ctx, client, account)
				if err != nil {
					return err
				}
				return a.printMessage(&agentapi.ListLeasesResponse{Leases: all}, func(w io.Writer) error { return writeLeases(w, all) })
			})
		},
	}
	c.Flags().StringVar(&account, "account", "", "only leases that hold this account")
	_ = c.RegisterFlagCompletionFunc("account", a.completeHeld)
	a.addOutputFlag(c)
	return c
}

// allLeases turns the pages of the list.
func allLeases(ctx context.Context, client *agentapi.Client, account string) ([]*agentapi.Lease, error) {
	var all []*agentapi.Lease
	r := &agentapi.ListLeasesRequest{Account: account}
	for {
		page, err := client.ListLeases(ctx, r)
		if err != nil {
			return nil, err
		}
		all = append(all, page.GetLeases()...)
		if r.PageToken = page.GetNextPageToken(); r.PageToken == "" {
			return all, nil
		}
	}
}

func writeLeases(w io.Writer, leases []*agentapi.Lease) error {
	rows := [][]string{{"ID", "ACCOUNTS", "OWNER", "WORKLOAD", "CREATED"}}
	for _, l := range leases {
		rows = append(rows, []string{l.GetId(), accountNames(l), fmt.Sprintf("%d:%d", l.GetUid(), l.GetGid()), workload(l), stamp(l.GetCreated())})
	}
	return table(w, rows)
}

func accountNames(l *agentapi.Lease) string {
	var names []string
	for _, x := range l.GetAccounts() {
		names = append(names, x.GetPrincipal())
	}
	return strings.Join(names, ",")
}

func workload(l *agentapi.Lease) string {
	switch {
	case l.GetUnit() != "":
		return l.GetUnit()
	case l.GetContainer() != "":
		return "container " + shortID(l.GetContainer())
	case l.GetProcess().GetPid() != 0:
		return fmt.Sprintf("process %d", l.GetProcess().GetPid())
	}
	return "until removed"
}

// shortID is a container's name as engines list it: 12 digits of the 64.
func shortID(name string) string {
	if len(name) == 64 {
		return name[:12]
	}
	return name
}

func (a *app) leaseShow() *cobra.Command {
	c := &cobra.Command{
		Use:     "show ID",
		Short:   "Show one lease",
		Example: "  gmsa lease show 5f0c0f6e2b7a4c1d9e8f7a6b5c4d3e2f",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: a.completeLease,
		RunE: func(c *cobra.Command, args []string) error {
			return a.withAgent(c.Context(), func(ctx context.Context, client *agentapi.Client) error {
				l, err := client.GetLease(ctx, &agentapi.GetLeaseRequest{Id: args[0]})
				if err != nil {
					return err
				}
				return a.printMessage(l, func(w io.Writer) error { return writeLease(w, l) })
			})
		},
	}
	a.addOutputFlag(c)
	return c
}

func writeLease(w io.Writer, l *agentapi.Lease) error {
	rows := [][]string{
		{"id", l.GetId()},
		{"directory", l.GetDirectory()},
		{"owner", fmt.Sprintf("%d:%d %04o", l.GetUid(), l.GetGid(), l.GetMode())},
		{"workload", workload(l)},
		{"created", stamp(l.GetCreated())},
	}
	if l.GetCredentialSpec() != "" {
		rows = append(rows, []string{"credential spec", l.GetCredentialSpec()})
	}
	for _, name := range slices.Sorted(maps.Keys(l.GetEnvironment())) {
		rows = append(rows, []string{name, l.GetEnvironment()[name]})
	}
	if err := table(w, rows); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "\n"); err != nil {
		return err
	}
	return table(w, accountRows(l.GetAccounts(), false))
}

func (a *app) leaseRemove() *cobra.Command {
	var unit string
	c := &cobra.Command{
		Use:   "remove {ID | --unit NAME}",
		Short: "End a lease before its workload ends",
		Example: `  gmsa lease remove 5f0c0f6e2b7a4c1d9e8f7a6b5c4d3e2f
  gmsa lease remove --unit nginx.service`,
		ValidArgsFunction: a.completeLease,
		Args: func(_ *cobra.Command, args []string) error {
			if (len(args) == 1) == (unit != "") || len(args) > 1 {
				return errors.New("want the ID of a lease or --unit, one of the two")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			r := &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Unit{Unit: true}}
			if unit == "" {
				r.Which = &agentapi.RemoveLeaseRequest_Id{Id: args[0]}
			}
			return a.withAgent(c.Context(), func(ctx context.Context, client *agentapi.Client) error {
				_, err := client.RemoveLease(ctx, r)
				return err
			})
		},
	}
	c.Flags().StringVar(&unit, "unit", "", "the lease of this systemd unit, which the command must be a part of")
	return c
}
