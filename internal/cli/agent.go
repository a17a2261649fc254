package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agentapi"
)

func (a *app) agent() *cobra.Command {
	c := &cobra.Command{
		Use:   "agent",
		Short: "The credential guard of this host",
	}
	c.AddCommand(a.platformAgent()...)
	c.AddCommand(a.agentStatus(), a.agentReload())
	return c
}

func (a *app) agentStatus() *cobra.Command {
	var summary bool
	c := &cobra.Command{
		Use:   "status",
		Short: "Tell how the agent, its accounts and its credential specs are",
		Long: `status prints what the running agent holds. It exits with 6 when an account has
no valid ticket, a credential spec cannot be used or a host identity has failed.`,
		Example: `  gmsa agent status
  gmsa agent status -o json`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withAgent(c.Context(), func(ctx context.Context, client *agentapi.Client) error {
				s, err := client.Status(ctx, &agentapi.StatusRequest{Summary: summary})
				if err != nil {
					return err
				}
				if err := a.printMessage(s, func(w io.Writer) error { return writeStatus(w, s) }); err != nil {
					return err
				}
				return judgeStatus(s)
			})
		},
	}
	c.Flags().BoolVar(&summary, "summary", false, "leave out the accounts")
	a.addOutputFlag(c)
	return c
}

func writeStatus(w io.Writer, s *agentapi.StatusResponse) error {
	if _, err := fmt.Fprintf(w, "agent %s, up %v, %d leases in %s (%s)\n", printable(s.GetVersion()),
		s.GetUptime().AsDuration().Round(time.Second), s.GetLeases(), printable(s.GetLeaseDirectory()), printable(s.GetLeaseStorage())); err != nil {
		return err
	}
	identities := [][]string{{"HOST IDENTITY", "DOMAIN", "SOURCE", "TICKET UNTIL", "ERROR"}}
	for _, i := range s.GetIdentities() {
		identities = append(identities, []string{i.GetPrincipal(), i.GetDomain(), i.GetSource(), stamp(i.GetTicketExpires()), errorText(i.GetError())})
	}
	specs := [][]string{{"CREDENTIAL SPEC", "FILE", "FAULTS"}}
	for _, c := range s.GetCredentialSpecs() {
		specs = append(specs, []string{c.GetName(), c.GetPath(), strings.Join(append(c.GetFaults(), c.GetWarnings()...), "; ")})
	}
	for _, rows := range [][][]string{identities, accountRows(s.GetAccounts(), true), specs} {
		if len(rows) == 1 {
			continue
		}
		if _, err := io.WriteString(w, "\n"); err != nil {
			return err
		}
		if err := table(w, rows); err != nil {
			return err
		}
	}
	return nil
}

// accountRows is a table of accounts, with how many leases use each where that is known.
func accountRows(accounts []*agentapi.Account, leases bool) [][]string {
	rows := [][]string{{"ACCOUNT", "STATE", "KVNO", "LEASES", "TICKET UNTIL", "NEXT PASSWORD", "CONTROLLER", "ERROR"}}
	for _, x := range accounts {
		rows = append(rows, []string{
			x.GetPrincipal(), stateName(x.GetState()), strconv.Itoa(int(x.GetKvno())), strconv.Itoa(int(x.GetLeases())),
			stamp(x.GetTicketExpires()), stamp(x.GetNextRollover()), x.GetController(), errorText(x.GetError()),
		})
	}
	if !leases {
		for i, row := range rows {
			rows[i] = slices.Delete(row, 3, 4)
		}
	}
	return rows
}

func errorText(e *agentapi.Error) string {
	if e == nil {
		return ""
	}
	return (&agentapi.Failure{Message: e.GetMessage(), Code: e.GetCode()}).Error()
}

// judgeStatus makes a negative check of what is broken.
func judgeStatus(s *agentapi.StatusResponse) error {
	var broken []string
	var hints []string
	for _, i := range s.GetIdentities() {
		if i.GetError() != nil {
			broken = append(broken, "host identity "+i.GetDomain())
			hints = append(hints, i.GetError().GetHints()...)
		}
	}
	for _, x := range s.GetAccounts() {
		if x.GetState() == agentapi.AccountState_ACCOUNT_STATE_FAILED {
			broken = append(broken, "account "+x.GetPrincipal())
			hints = append(hints, x.GetError().GetHints()...)
		}
	}
	for _, c := range s.GetCredentialSpecs() {
		if len(c.GetFaults()) > 0 {
			broken = append(broken, "credential spec "+c.GetName())
			hints = append(hints, "gmsa credspec check "+c.GetPath())
		}
	}
	if len(broken) == 0 {
		return nil
	}
	err := failure(Negative, fmt.Errorf("not well: %s", strings.Join(broken, ", ")))
	err.Hints = hints
	return err
}

func (a *app) agentReload() *cobra.Command {
	return &cobra.Command{
		Use:   "reload",
		Short: "Have the agent read its configuration again",
		Long: `reload has the running agent read its configuration again. A configuration with
faults changes nothing: the agent goes on with the one that it has.`,
		Example: "  gmsa agent reload",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return a.withAgent(c.Context(), func(ctx context.Context, client *agentapi.Client) error {
				r, err := client.Reload(ctx, &agentapi.ReloadRequest{})
				for _, w := range r.GetWarnings() {
					a.warn(w)
				}
				return err
			})
		},
	}
}
