package lab

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestAMissingPeerSkipsWithItsPackage(t *testing.T) {
	t.Setenv(NoSkip, "")
	t.Setenv(Off, "")
	for name, want := range map[string]string{
		"no-such-program": "needs no-such-program; hint: install no-such-program",
		"present":         "",
	} {
		program := name
		if name == "present" {
			program = "sh"
		}
		r := &recorder{TB: t}
		func() {
			defer func() { _ = recover() }() // how the recorder ends
			Need(r, program)
		}()
		if r.skipped != want {
			t.Errorf("%s: skipped with %q, want %q", name, r.skipped, want)
		}
	}
	t.Setenv(NoSkip, "1")
	r := &recorder{TB: t}
	func() {
		defer func() { _ = recover() }()
		Need(r, "no-such-program")
	}()
	if r.failed == "" || r.skipped != "" {
		t.Errorf("where nothing may skip: skipped with %q, failed with %q", r.skipped, r.failed)
	}
}

// A recorder notes how a test was ended, and ends it by a panic.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Skip(args ...any)  { r.skipped = args[0].(string); panic("skip") }
func (r *recorder) Fatal(args ...any) { r.failed = args[0].(string); panic("fatal") }

// TestSetUpInstallsWhatTestsNeed holds the two lists of packages together: the one
// that a skip names and the one that the set-up installs.
func TestSetUpInstallsWhatTestsNeed(t *testing.T) {
	list, err := os.ReadFile("../../scripts/debian-packages")
	if err != nil {
		t.Fatal(err)
	}
	var installed []string
	for line := range strings.Lines(string(list)) {
		line, _, _ = strings.Cut(line, "#")
		installed = append(installed, strings.Fields(line)...)
	}
	check := func(what, pkg string) {
		pkg, _, _ = strings.Cut(pkg, " ") // without the version
		essential := []string{"libc-bin", "util-linux"}
		if !slices.Contains(installed, pkg) && !slices.Contains(essential, pkg) {
			t.Errorf("%s is in %s, which scripts/debian-packages lacks", what, pkg)
		}
	}
	for program, pkg := range packages {
		check(program, pkg)
	}
	for name, lib := range libraries {
		check(name, lib.pkg)
	}
}
