package deptest

import (
	"go/parser"
	"go/token"
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

// webFiles are the files of the product that speak HTTP.
var webFiles = map[string]string{
	"internal/agent/plugin/vault.go": "a client of Vault",
	"internal/cli/demo/site.go":      "the demo's web site, whose own tests hold security 16",
}

// TestOneHTTPEndpoint: whoever adds an HTTP endpoint binds it to loopback or a unix
// socket, checks Host and Origin, tests both and names it here.
// security 16.
func TestOneHTTPEndpoint(t *testing.T) {
	const root = "../.."
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, path)
		if d.IsDir() {
			if d.Name() == "testdata" || name == "bench" || name == filepath.Join("internal", "lab") {
				return filepath.SkipDir // no part of the product
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			if i.Path.Value == `"net/http"` {
				found[filepath.ToSlash(name)] = true
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range found {
		if webFiles[name] == "" {
			t.Errorf("%s speaks HTTP; hint: hold it to security 16 and name it in webFiles", name)
		}
	}
	for name := range webFiles {
		if !found[name] {
			t.Errorf("%s does not speak HTTP", name)
		}
	}
}
