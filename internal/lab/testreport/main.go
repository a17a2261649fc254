// Command testreport reads the output of go test -json on its standard input and
// prints what a person wants to see of it: a line for each package, the output of
// what failed, which tests were skipped and what each of them needs, and a summary.
//
// With -no-skip a skipped test is a failure.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

func main() {
	noSkip := flag.Bool("no-skip", false, "fail when a test is skipped")
	flag.Parse()
	r := newReport(os.Stdout)
	if err := r.read(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, "testreport:", err)
		os.Exit(1)
	}
	if !r.finish(*noSkip) {
		os.Exit(1)
	}
}

// An event is one line of go test -json (see go doc test2json).
type event struct {
	Action, Package, Test, Output string
	ImportPath                    string // of build-output
	Elapsed                       float64
	FailedBuild                   string
}

// A report collects the events of one run.
type report struct {
	out     io.Writer
	output  map[string]*strings.Builder // by package, or package and test
	built   map[string]*strings.Builder // the compiler's output by import path
	skips   map[string][]string         // reason to tests
	passed  int
	failed  int
	skipped int
	broken  []string // packages that failed
}

func newReport(out io.Writer) *report {
	return &report{out: out, output: map[string]*strings.Builder{}, built: map[string]*strings.Builder{}, skips: map[string][]string{}}
}

func (r *report) read(in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Fprintln(r.out, lines.Text()) // what go itself says before it starts
			continue
		}
		r.add(e)
	}
	return lines.Err()
}

func (r *report) add(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		text(r.output, key).WriteString(e.Output)
	case "build-output":
		text(r.built, e.ImportPath).WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
		} else {
			r.endTest(e, key)
		}
	}
}

func text(m map[string]*strings.Builder, key string) *strings.Builder {
	if m[key] == nil {
		m[key] = new(strings.Builder)
	}
	return m[key]
}

func (r *report) endTest(e event, key string) {
	out := text(r.output, key).String()
	delete(r.output, key)
	switch e.Action {
	case "pass":
		r.passed++
	case "skip":
		r.skipped++
		r.skips[reason(out)] = append(r.skips[reason(out)], e.Test)
	case "fail":
		r.failed++
		fmt.Fprint(r.out, out)
	}
}

func (r *report) endPackage(e event) {
	out := text(r.output, e.Package+" ").String()
	delete(r.output, e.Package+" ")
	switch e.Action {
	case "pass":
		fmt.Fprintf(r.out, "ok  \t%s\t%.3fs\n", e.Package, e.Elapsed)
	case "fail":
		if b := r.built[e.FailedBuild]; b != nil {
			fmt.Fprint(r.out, b)
		}
		// A test that a panic or a time limit cut short has no end of its own.
		for _, key := range slices.Sorted(maps.Keys(r.output)) {
			if strings.HasPrefix(key, e.Package+" ") {
				fmt.Fprint(r.out, r.output[key])
				delete(r.output, key)
			}
		}
		fmt.Fprint(r.out, out)
		fmt.Fprintf(r.out, "FAIL\t%s\t%.3fs\n", e.Package, e.Elapsed)
		r.broken = append(r.broken, e.Package)
	}
}

// reason takes the text of t.Skip out of a test's output, whose lines are "=== RUN",
// "    file.go:12: the text" and "--- SKIP".
func reason(out string) string {
	for line := range strings.Lines(out) {
		if _, text, ok := strings.Cut(line, ".go:"); ok {
			if _, text, ok := strings.Cut(text, ": "); ok {
				return strings.TrimSpace(text)
			}
		}
	}
	return "no reason given"
}

// finish prints the skips and the summary, and says whether the run was a success.
func (r *report) finish(noSkip bool) bool {
	for _, why := range slices.Sorted(maps.Keys(r.skips)) {
		tests := r.skips[why]
		shown := strings.Join(tests[:min(len(tests), 3)], ", ")
		if len(tests) > 3 {
			shown += fmt.Sprintf(" and %d more", len(tests)-3)
		}
		fmt.Fprintf(r.out, "skipped: %s: %s\n", shown, why)
	}
	ok := r.failed == 0 && len(r.broken) == 0 && r.passed > 0
	if noSkip && r.skipped > 0 {
		ok = false
		fmt.Fprintln(r.out, "a test was skipped where none may be")
	}
	word := "PASS"
	if !ok {
		word = "FAIL"
	}
	fmt.Fprintf(r.out, "%s: %d passed, %d failed, %d skipped", word, r.passed, r.failed, r.skipped)
	if len(r.broken) > 0 {
		fmt.Fprintf(r.out, "; failed: %s", strings.Join(r.broken, " "))
	}
	fmt.Fprintln(r.out)
	return ok
}
