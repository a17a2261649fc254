package deptest

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryLineOfSecurityIsHeld wants, for each numbered line of SECURITY.md, a test
// that cites it as "security N".
func TestEveryLineOfSecurityIsHeld(t *testing.T) {
	const root = "../.."
	b, err := os.ReadFile(root + "/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`(?m)^(\d+)\. `).FindAllStringSubmatch(string(b), -1)
	if len(lines) < 22 {
		t.Fatalf("%d numbered lines in SECURITY.md", len(lines))
	}
	cited := map[string]bool{}
	cite := regexp.MustCompile(`security (\d+(?:(?:, | and )\d+)*)`)
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") || d.Name() == "security_test.go" {
			return err
		}
		b, err := os.ReadFile(path)
		for _, m := range cite.FindAllStringSubmatch(string(b), -1) {
			for _, n := range regexp.MustCompile(`\d+`).FindAllString(m[1], -1) {
				cited[n] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		if !cited[l[1]] {
			t.Errorf("no test cites security %s", l[1])
		}
	}
}
