package doctor

import (
	"context"
	"fmt"

	"github.com/opengmsa/opengmsa/internal/lint"
)

// applicationFiles finds whom the application runs as, and what keeps it from the
// account's tickets, in the files that its container is made of.
func applicationFiles(_ context.Context, f *Facts) []Finding {
	report := lint.Check(f.cfg.Files, lint.Options{Windows: f.cfg.Windows.Version, Account: f.account.name})
	var list []Finding
	for _, x := range report.Findings {
		n := warning("%s", x.Problem)
		if x.Severity == lint.Error {
			n = wrong("%s", x.Problem)
		}
		n = n.because(fmt.Sprintf("%s:%d (%s)", x.File, x.Line, x.Rule))
		for _, fix := range x.Fixes {
			n = n.mend("%s", fix)
		}
		list = append(list, n)
	}
	if len(list) == 0 {
		return []Finding{ok("nothing in %d files is in the way", len(report.Files))}
	}
	return list
}
