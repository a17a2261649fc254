package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// documents are the titles of those that testdata/seeds covers.
var documents = map[byte]string{
	'1': "Group Managed Service Accounts for Windows containers",
	'2': "Get started with Group Managed Service Accounts",
	'3': "Managed Service Accounts, a guide",
	'4': "Configure your app to use a gMSA",
	'5': "Troubleshoot gMSAs for Windows containers",
}

// docs/coverage.md is made of testdata/seeds; GMSA_UPDATE=1 writes it.
func TestCoverageIsCurrent(t *testing.T) {
	golden(t, "../../docs/coverage.md", coverage(t))
}

// golden compares a generated document with its file, or writes it.
func golden(t *testing.T, path, text string) {
	t.Helper()
	if os.Getenv("GMSA_UPDATE") != "" {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != text {
		t.Errorf("%s is not what it would be made to: GMSA_UPDATE=1 go test ./internal/cli -run %s", path, t.Name())
	}
}

func coverage(t *testing.T) string {
	type row struct{ line, text string }
	var rows []row
	for _, f := range seedFiles(t) {
		scenario := strings.TrimSuffix(filepath.Base(f), ".txt")
		for _, s := range readSeeds(t, f) {
			for _, l := range s.lines {
				verdict := s.verdict
				if s.reason != "" && s.verdict == "runs corrected" {
					verdict += ": " + s.reason
				}
				code := strings.Join(slices.DeleteFunc(slices.Clone(s.script), func(x string) bool { return strings.HasPrefix(x, "#") }), "; ")
				code = strings.ReplaceAll(strings.ReplaceAll(code, "`; ", " "), "|", `\|`)
				test := "TestSambaSeeds/" + scenario
				if s.byDocker {
					test = "TestDocker/guides"
				}
				rows = append(rows, row{l, fmt.Sprintf("| %s | `` %s `` | %s | %s |", l[2:], code, verdict, test)})
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b row) int {
		if a.line[0] != b.line[0] {
			return int(a.line[0]) - int(b.line[0])
		}
		var x, y int
		_, _ = fmt.Sscan(a.line[2:], &x)
		_, _ = fmt.Sscan(b.line[2:], &y)
		return x - y
	})
	var b strings.Builder
	b.WriteString(`# What the guides say, and what it does here

Made of internal/cli/testdata/seeds by TestCoverageIsCurrent; not written by hand. A
test runs each command through ` + "`gmsa pwsh`" + `, and those of docker by the shim of
` + "`gmsa runtime install docker --shim`" + ` and Docker 20.10, where the image of the name
is one of Linux. "Answered" means that the command exists on
Windows alone: gmsa says what is done here instead. That Windows Server accepts the
same over LDAP is unproven without one.
`)
	var document byte
	for _, r := range rows {
		if r.line[0] != document {
			document = r.line[0]
			fmt.Fprintf(&b, "\n## %s\n\n| line | command | verdict | test |\n|---|---|---|---|\n", documents[document])
		}
		b.WriteString(r.text + "\n")
	}
	b.WriteString(guidanceTable(t))
	return b.String()
}
