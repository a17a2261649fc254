package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/doctor/audit"
)

func (a *app) audit() *cobra.Command {
	var stale, html string
	return a.command(verb{
		use: "audit", short: "Find out who can use which managed service account, and what of that is wrong", args: cobra.NoArgs,
		long: `audit reads the managed service accounts of the domain once, with the computers and
groups, and reports who may read which password, through groups too, and who could
make himself a reader by the permissions of the account. It changes nothing. Of
these it says what is wrong, with the evidence and the command that mends it:

  read-everyone, read-foreign, read-unknown, read-user   readers that are no hosts of the domain
  write-access              who is no administrator, and can make itself a reader
  unread                    accounts that no host can use
  stale-host                readers that are disabled, or have not logged on for long
  not-rotated               passwords past their interval
  rc4-only, unconstrained-delegation, privileged, admin-count
  root-key-missing, root-key-idle                        root keys and what they reach
  readers-unseen, permissions-unseen, root-keys-unseen   what whoever asks may not see

Ask as an administrator of the domain: others do not see the permissions. It exits
with 6 when something is an error or a warning. Access through other domains of the
forest is reported by its SID.`,
		example: `  gmsa audit
  gmsa audit --stale 30d -o json
  gmsa audit --html audit.html -U alice@contoso.com`,
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&stale, "stale", "90d", "how long a host may not have logged on: 90d, 2160h; 15d at least, for the directory notes logons up to 14 days late")
			c.Flags().StringVar(&html, "html", "", "also write the report to this file, as one page without scripts")
		},
		run: func(ctx context.Context, s *ad.Session, _ []string) error {
			after, err := parseDays(stale)
			if err != nil || after < audit.LeastStale {
				return failure(Usage, fmt.Errorf("--stale %s: want 15d or more", stale))
			}
			inv, err := s.Inventory(ctx)
			if err != nil {
				return err
			}
			return a.reportAudit(audit.Judge(inv, audit.Config{Now: a.env.Now(), Stale: after, Version: buildVersion().Version}), html)
		},
	})
}

// parseDays reads a span of days, such as 90d, or one as Go writes them.
func parseDays(text string) (time.Duration, error) {
	days, isDays := strings.CutSuffix(text, "d")
	if !isDays {
		return time.ParseDuration(text)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	return time.Duration(n) * 24 * time.Hour, err
}

func (a *app) reportAudit(r audit.Report, html string) error {
	if html != "" {
		var b bytes.Buffer
		if err := r.WriteHTML(&b); err != nil {
			return err
		}
		// The report names the ways to take over accounts: it is its reader's alone.
		if err := writeFile(html, b.Bytes(), 0o600); err != nil {
			return err
		}
	}
	if err := a.print(r, func(w io.Writer) error { return writeAudit(w, r) }); err != nil {
		return err
	}
	if !r.Sound {
		return &Error{Code: Negative, Err: fmt.Errorf("%s: %s: %s", r.Findings[0].Check, r.Findings[0].Subject, r.Findings[0].Problem), Shown: true}
	}
	return nil
}

// writeAudit prints the findings, who can use what, and a summary.
func writeAudit(w io.Writer, r audit.Report) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", printable(r.Domain))
	for _, f := range r.Findings {
		writeResult(&b, doctor.Result{Check: f.Check, Subject: f.Subject, Findings: []doctor.Finding{f.Finding}}, true)
	}
	rows := [][]string{{"ACCOUNT", "MAY READ", "HOSTS", "CAN BECOME READERS"}}
	for _, x := range r.Accounts {
		var readers, writers []string
		for _, y := range x.Readers {
			readers = append(readers, y.Name)
		}
		for _, y := range x.Writers {
			writers = append(writers, y.Name)
		}
		rows = append(rows, []string{x.Name, strings.Join(readers, ", "), strconv.Itoa(x.Hosts), strings.Join(writers, ", ")})
	}
	b.WriteString("\n")
	if err := table(&b, rows); err != nil {
		return err
	}
	for _, k := range r.RootKeys {
		fmt.Fprintf(&b, "\nroot key %v makes %d passwords in force, and %d before them", k.ID, k.Current, k.Previous)
	}
	fmt.Fprintf(&b, "\n\n%d accounts: %d error, %d warning, %d info\n", len(r.Accounts), r.Counts[doctor.Error], r.Counts[doctor.Warning], r.Counts[doctor.Info])
	_, err := io.WriteString(w, b.String())
	return err
}
