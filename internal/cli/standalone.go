package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
)

// accountKeys gives a standalone account a new password, as its computer does from
// time to time on Windows.
func (a *app) accountKeys() *cobra.Command {
	var out string
	return a.command(verb{
		use: "keys NAME", short: "Give a standalone account a new password and write its keytab", args: cobra.ExactArgs(1), complete: []completer{completeAccount},
		long: `keys sets a new random password of a standalone managed service account and writes
the keys to a keytab; keys of one generation before stay in it for tickets that are
out. A timer that runs it every 30 days does what Windows does for such an account.
It needs the right to reset the account's password.`,
		example: "  gmsa account keys Service-sMSA --out /etc/gmsa/service-smsa.keytab",
		flags: func(c *cobra.Command) {
			c.Flags().StringVar(&out, "out", "", "the keytab to write")
			_ = c.MarkFlagRequired("out")
		},
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			old, err := readKeytab(out)
			if err != nil {
				return err
			}
			if err := writable(out); err != nil {
				return err
			}
			j, err := s.GiveStandaloneKeys(ctx, args[0])
			if err != nil {
				return err
			}
			if err := writeKeytab(out, mergeKeys(old, s.Domain().Realm(), j, a.env.Now())); err != nil {
				return fmt.Errorf("the account %s has new keys, but they are not in a keytab: %w", j.Account.Name, err)
			}
			v := joinedView{Account: j.Account.Name, DN: j.Account.DN, KVNO: j.KVNO, Keytab: out}
			return a.print(v, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s was given new keys; they are in %s\n", printable(v.DN), printable(v.Keytab))
				return err
			})
		},
	})
}
