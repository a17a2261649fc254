package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/doctor"
	"github.com/opengmsa/opengmsa/internal/lint"
)

// guidance is one line of testdata/seeds/guidance.txt.
type guidance struct{ line, checks, fault, advice string }

func readGuidance(t *testing.T) []guidance {
	b, err := os.ReadFile("testdata/seeds/guidance.txt")
	if err != nil {
		t.Fatal(err)
	}
	var list []guidance
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.Split(line, " | ")
		if len(parts) != 4 {
			t.Fatalf("guidance.txt: %q", line)
		}
		list = append(list, guidance{parts[0], parts[1], parts[2], parts[3]})
	}
	return list
}

// TestGuidanceNamesChecksAndFaults keeps the list from naming what is not there.
func TestGuidanceNamesChecksAndFaults(t *testing.T) {
	var known []string
	for _, c := range doctor.Checks() {
		known = append(known, c.ID)
	}
	var tests strings.Builder
	files, err := filepath.Glob("../doctor/*_test.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(b)
	}
	for _, g := range readGuidance(t) {
		if strings.HasPrefix(g.checks, "lint:") {
			checkLintGuidance(t, g)
			continue
		}
		for id := range strings.FieldsSeq(g.checks) {
			if !slices.Contains(known, id) {
				t.Errorf("%s: there is no check %s", g.line, id)
			}
		}
		if name := strings.TrimPrefix(g.fault, "healthy "); !strings.Contains(tests.String(), `"`+name) && !strings.Contains(tests.String(), `"`+g.fault+`"`) {
			t.Errorf("%s: no test of the doctor is called %q", g.line, g.fault)
		}
	}
}

// checkLintGuidance wants the case of gmsa lint that a line names to find something by one of
// the rules that it names.
func checkLintGuidance(t *testing.T, g guidance) {
	t.Helper()
	b, err := os.ReadFile("../lint/testdata/cases/" + g.fault + ".txtar")
	if err != nil {
		t.Errorf("%s: %v", g.line, err)
	}
	_, want, _ := strings.Cut(string(b), "-- want --\n")
	found := false
	for id := range strings.FieldsSeq(g.checks) {
		rule := strings.TrimPrefix(id, "lint:")
		if !slices.ContainsFunc(lint.Rules(), func(r lint.Rule) bool { return r.Name == rule }) {
			t.Errorf("%s: there is no rule %s", g.line, id)
		}
		found = found || strings.Contains(want, "["+rule+" ")
	}
	if !found {
		t.Errorf("%s: the case %q finds nothing by %s", g.line, g.fault, g.checks)
	}
}

// guidanceTable is the part of docs/coverage.md about what the documents advise.
func guidanceTable(t *testing.T) string {
	var b strings.Builder
	b.WriteString("\n# What the guides advise, and what looks after it\n\nThe checks are those of `gmsa doctor`; the test is the fault of internal/doctor that has the check\nfail, or the healthy case. Those with lint: are rules of `gmsa lint`, and the test is the case of\ninternal/lint/testdata/cases.\n")
	document := byte(0)
	for _, g := range readGuidance(t) {
		if g.line[0] != document {
			document = g.line[0]
			fmt.Fprintf(&b, "\n## %s\n\n| line | advice | checks | test |\n|---|---|---|---|\n", documents[document])
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", g.line[2:], g.advice, strings.ReplaceAll(g.checks, " ", ", "), g.fault)
	}
	return b.String()
}
