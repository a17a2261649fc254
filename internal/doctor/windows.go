package doctor

import "context"

// windowsRules applies Windows' rules, which files are judged by too, to the containers
// that are to run.
func windowsRules(_ context.Context, f *Facts) []Finding {
	var list []Finding
	for _, x := range f.cfg.Windows.Judge(f.account.name) {
		n := wrong("%s", x.Problem)
		if x.Evidence != "" {
			n = n.because(x.Evidence)
		}
		for _, fix := range x.Fixes {
			n = n.mend("%s", fix)
		}
		list = append(list, n)
	}
	if len(list) == 0 {
		return []Finding{ok("nothing is in the way on Windows %s", f.cfg.Windows.Version)}
	}
	return list
}
