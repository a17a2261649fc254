package cli

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
)

func (a *app) accountTest() *cobra.Command {
	return a.command(verb{
		use: "test NAME", short: "Check that this host can use an account", args: cobra.ExactArgs(1), complete: []completer{completeAccount},
		long: `test asks as this host (with its keytab, unless told otherwise) for the password of
a gMSA and logs on with it; of a standalone account it checks that it is linked to
this host. It prints True or False, and exits with 6 on False.`,
		example: `  gmsa account test WebApp01
  gmsa account test WebApp01 --keytab /etc/krb5.keytab`,
		run: func(ctx context.Context, s *ad.Session, args []string) error {
			u, err := s.Usable(ctx, args[0])
			if err != nil {
				return err
			}
			err = a.printOutcome(u.OK, u.Warning)
			if failed, ok := err.(*Error); ok && u.Reason != nil { //nolint:errorlint // made by printOutcome
				for _, h := range append([]string{u.Reason.Error()}, hintsOf(u.Reason)...) {
					failed.Hints = append(failed.Hints, oneLine(h))
				}
			}
			return err
		},
	})
}
