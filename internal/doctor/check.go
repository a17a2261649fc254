package doctor

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity is how bad a finding is.
type Severity string

// The severities, from the best to the worst.
const (
	OK      Severity = "ok"
	Info    Severity = "info"    // worth knowing, nothing to mend
	Skipped Severity = "skipped" // not asked, because something else must be mended first
	Warning Severity = "warning" // works now, or works for some
	Error   Severity = "error"   // does not work
)

// rank orders severities, the worst last.
func (s Severity) rank() int { return slices.Index([]Severity{OK, Info, Skipped, Warning, Error}, s) }

// Worse reports whether s is worse than o.
func (s Severity) Worse(o Severity) bool { return s.rank() > o.rank() }

// Finding is one thing that a check found out.
type Finding struct {
	Severity Severity `json:"severity"`
	// Problem is what is so, in words.
	Problem string `json:"problem"`
	// Evidence are the facts it follows from, a line each.
	Evidence []string `json:"evidence,omitempty"`
	// Remedies are commands, or sentences where no command does it.
	Remedies []string `json:"remedies,omitempty"`
}

// ok, info, warning and wrong make findings; because and mend add to them.
func ok(format string, args ...any) Finding {
	return Finding{OK, fmt.Sprintf(format, args...), nil, nil}
}
func info(format string, args ...any) Finding {
	return Finding{Info, fmt.Sprintf(format, args...), nil, nil}
}
func warning(format string, args ...any) Finding {
	return Finding{Warning, fmt.Sprintf(format, args...), nil, nil}
}
func wrong(format string, args ...any) Finding {
	return Finding{Error, fmt.Sprintf(format, args...), nil, nil}
}

// because adds lines of evidence.
func (f Finding) because(lines ...string) Finding {
	f.Evidence = append(slices.Clip(f.Evidence), lines...)
	return f
}

// mend adds a remedy.
func (f Finding) mend(format string, args ...any) Finding {
	f.Remedies = append(slices.Clip(f.Remedies), fmt.Sprintf(format, args...))
	return f
}

// worst is the worst severity among findings.
func worst(findings []Finding) Severity {
	w := OK
	for _, f := range findings {
		if f.Severity.Worse(w) {
			w = f.Severity
		}
	}
	return w
}

// Scope is what a check is made once for.
type Scope string

// The scopes.
const (
	OfDomain  Scope = "domain"
	OfPlace   Scope = "place"   // a network: the host's and a container's
	OfSpec    Scope = "spec"    // a credential spec
	OfAccount Scope = "account" // a managed service account
	OfLease   Scope = "lease"
)

// Check is one question.
type Check struct {
	ID string
	// Title is the question in a few words, Asks in a sentence.
	Title, Asks string
	Of          Scope
	// Needs are the checks without whose good answer this one makes no sense.
	Needs []string
	// After are checks whose answers it uses where there are some.
	After []string
	// Guide is where the guides advise it: document and line, as docs/coverage.md
	// numbers them; empty for what they leave out.
	Guide string
	// Limit is how long it may take; 0 means [defaultLimit].
	Limit time.Duration

	run func(ctx context.Context, f *Facts) []Finding
}

// defaultLimit bounds a check that says nothing else.
const defaultLimit = 4 * time.Second

// Result is what became of one check.
type Result struct {
	Check    string    `json:"check"`
	Title    string    `json:"title"`
	Subject  string    `json:"subject,omitempty"`
	Severity Severity  `json:"severity"`
	Findings []Finding `json:"findings,omitempty"`
	// Reason says why it was skipped, and Root which check must come out well first.
	Reason string `json:"reason,omitempty"`
	Root   string `json:"root,omitempty"`
	Guide  string `json:"guide,omitempty"`
	Millis int64  `json:"milliseconds"`

	order int
}

// Cause is the fault to mend first.
type Cause struct {
	Check    string   `json:"check"`
	Subject  string   `json:"subject,omitempty"`
	Problem  string   `json:"problem"`
	Remedies []string `json:"remedies,omitempty"`
}

// Report is what the doctor found. Its JSON is stable: fields are only added.
type Report struct {
	Host    string    `json:"host"`
	Version string    `json:"version"`
	Time    time.Time `json:"time"`
	Domain  string    `json:"domain"`
	// Seen says from where: host, container or desk.
	Seen string `json:"seen"`
	// Healthy is true when nothing is an error.
	Healthy bool `json:"healthy"`
	// Cause is the root of what is wrong; absent where nothing is.
	Cause *Cause `json:"cause,omitempty"`
	// Counts are the checks by severity.
	Counts map[Severity]int `json:"counts"`
	// Results are the worst first, and of one severity what others rest on first.
	Results []Result `json:"results"`
	Millis  int64    `json:"milliseconds"`
}

// sum fills in what follows from the results.
func (r *Report) sum() {
	slices.SortStableFunc(r.Results, func(a, b Result) int {
		return cmp.Or(cmp.Compare(b.Severity.rank(), a.Severity.rank()), cmp.Compare(a.order, b.order), strings.Compare(a.Subject, b.Subject))
	})
	r.Counts = map[Severity]int{}
	for _, x := range r.Results {
		r.Counts[x.Severity]++
	}
	r.Healthy = r.Counts[Error] == 0
	if len(r.Results) == 0 || r.Results[0].Severity.rank() < Warning.rank() {
		return
	}
	first := r.Results[0]
	for _, f := range first.Findings {
		if f.Severity == first.Severity {
			r.Cause = &Cause{Check: first.Check, Subject: first.Subject, Problem: f.Problem, Remedies: f.Remedies}
			return
		}
	}
}
