package lint

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// caseOf is a file of testdata/cases: options on the first line, files, and what is to be
// found in them as the last one, called want.
func caseOf(t testing.TB, path string) (*txtar.Archive, []File, Options) {
	t.Helper()
	a, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var files []File
	for _, f := range a.Files {
		if f.Name != "want" {
			files = append(files, File{f.Name, f.Data})
		}
	}
	var o Options
	for word := range strings.FieldsSeq(string(a.Comment)) {
		if v, ok := strings.CutPrefix(word, "windows="); ok {
			o.Windows = v
		}
		if v, ok := strings.CutPrefix(word, "account="); ok {
			o.Account = v
		}
	}
	return a, files, o
}

// TestCases compares the findings of each case with what is to be found; GMSA_UPDATE=1
// writes them down, for a person to read.
func TestCases(t *testing.T) {
	paths, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil || len(paths) < 10 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, files, o := caseOf(t, path)
			r := Check(files, o)
			var b strings.Builder
			for _, f := range r.Findings {
				fmt.Fprintf(&b, "%s:%d: %s: %s [%s %s]\n", f.File, f.Line, f.Severity, f.Problem, f.Rule, f.Guide)
				for _, fix := range f.Fixes {
					fmt.Fprintf(&b, "  write: %s\n", fix)
				}
			}
			if len(r.Files) != len(files) {
				t.Errorf("of %d files %v are known", len(files), r.Files)
			}
			i := slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })
			if os.Getenv("GMSA_UPDATE") != "" {
				if i < 0 {
					a.Files, i = append(a.Files, txtar.File{Name: "want"}), len(a.Files)
				}
				a.Files[i].Data = []byte(b.String())
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if i < 0 || string(a.Files[i].Data) != b.String() {
				t.Errorf("got\n%s", b.String())
			}
		})
	}
}

func FuzzCheck(f *testing.F) {
	paths, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		_, files, _ := caseOf(f, path)
		for _, file := range files {
			f.Add(file.Name, file.Content)
		}
	}
	f.Fuzz(func(t *testing.T, name string, content []byte) {
		for _, version := range []string{"", "1803"} {
			r := Check([]File{{name, content}}, Options{Windows: version})
			lines := strings.Count(string(content), "\n") + 1
			for _, x := range r.Findings {
				if x.Line < 1 || x.Line > lines+1 || x.Rule == "" || x.Problem == "" || x.File != name {
					t.Errorf("%+v in a file of %d lines", x, lines)
				}
			}
			if len(r.Findings) > maxFindings {
				t.Errorf("%d findings", len(r.Findings))
			}
		}
	})
}

// Every rule is shown by a case, every finding is of a rule, and the manual has them all.
func TestRulesAreShownAndDocumented(t *testing.T) {
	paths, err := filepath.Glob("testdata/cases/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, path := range paths {
		_, files, o := caseOf(t, path)
		for _, f := range Check(files, o).Findings {
			shown[f.Rule] = true
		}
	}
	manual, err := os.ReadFile("../../docs/lint.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rules() {
		if !shown[r.Name] {
			t.Errorf("no case shows %s", r.Name)
		}
		delete(shown, r.Name)
		if row := fmt.Sprintf("| %s | %s | %s | %s |\n", r.Name, r.Of, r.Asks, r.Guide); !strings.Contains(string(manual), row) {
			t.Errorf("docs/lint.md lacks\n%s", row)
		}
	}
	for name := range shown {
		t.Errorf("there is no rule %s", name)
	}
}

func TestKinds(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		want    Kind
	}{
		"Dockerfile":             {"", Dockerfile},
		"web.Dockerfile":         {"", Dockerfile},
		"build.txt":              {"# a comment\nARG A=1\nFROM x\n", Dockerfile},
		"notes.txt":              {"FROMAGE is cheese\n", ""},
		"compose.prod.yaml":      {"}{", Compose},
		"x.yaml":                 {"services: {}\n", Compose},
		"list.yaml":              {"a: 1\n---\napiVersion: v1\nkind: List\n", Kubernetes},
		"spec.json":              {"\ufeff{\"CmsPlugins\": []}", CredSpec},
		`C:\x\ServiceManifest.x`: {"<?xml version=\"1.0\"?><ServiceManifest/>", ServiceFabric},
		"web.config":             {"<configuration/>", ""},
		"package.json":           {"{\"name\": \"x\"}", ""},
	} {
		if got, ok := KindOf(File{name, []byte(c.content)}); got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v, want %q", name, got, ok, c.want)
		}
	}
	if err := UnknownKind("x"); !strings.Contains(err.Error(), "Dockerfile, Compose, Kubernetes, Service Fabric, credential spec") {
		t.Error(err)
	}
}

// What one file can cost is bounded.
func TestLimits(t *testing.T) {
	many := "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n" + strings.Repeat("RUN sc config a obj=b\n", 1000)
	if r := Check([]File{{"Dockerfile", []byte(many)}}, Options{}); len(r.Findings) != maxFindings {
		t.Errorf("%d findings", len(r.Findings))
	}
	bomb := "apiVersion: v1\nkind: GMSACredentialSpec\na0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 9 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	bomb += "credspec: {x: *a9}\n"
	r := Check([]File{{"bomb.yaml", []byte(bomb)}}, Options{})
	if r.Errors() == 0 {
		t.Error("a file that unfolds without end is in order")
	}
	large := []File{{"a.yaml", []byte(strings.Repeat("services: {}\n", MaxSize))}, {"Dockerfile", []byte(strings.Repeat("FROM x\n", MaxSize))}}
	if r := Check(large, Options{}); r.Errors() == 0 {
		t.Error("files that are too large are in order")
	}
}
