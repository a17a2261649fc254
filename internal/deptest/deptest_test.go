package deptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A pkg is what go list says of a package.
type pkg struct {
	ImportPath, Name, Dir              string
	Standard                           bool
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

// id is the path inside the module, or the whole path of a package elsewhere.
func (p pkg) id() string { return strings.TrimPrefix(p.ImportPath, module) }

func (p pkg) ours() bool { return strings.HasPrefix(p.ImportPath, module) }

func list(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Dir,Standard,GoFiles,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = "../.."
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var pkgs []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return pkgs
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
}

func TestImportsFollowTheRules(t *testing.T) {
	pkgs := list(t)
	ours := 0
	for _, p := range pkgs {
		if p.ours() {
			ours++
		}
	}
	if ours < 10 {
		t.Fatalf("go list names %d packages of this module", ours)
	}
	for _, fault := range checkImports(pkgs) {
		t.Error(fault)
	}
}

func TestSourcesFollowTheRules(t *testing.T) {
	for _, p := range list(t) {
		if !p.ours() {
			continue
		}
		level, _, ok := layer(p.id())
		fset := token.NewFileSet()
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			if ast.IsGenerated(f) {
				continue
			}
			for _, fault := range checkSource(fset, f, ok && level < codecs) {
				t.Error(fault)
			}
		}
	}
}

// checkImports gives each breach of a rule on imports, with the rule's reason.
func checkImports(pkgs []pkg) (faults []string) {
	byPath := map[string]pkg{}
	for _, p := range pkgs {
		byPath[p.ImportPath] = p
	}
	for _, p := range pkgs {
		if !p.ours() {
			continue
		}
		if slices.Contains(emptyNames, p.Name) {
			faults = append(faults, fmt.Sprintf("%s: a package called %s; rule: %s", p.id(), p.Name, emptyNamesReason))
		}
		if _, ok := isTestOnly(p.id()); ok {
			continue
		}
		level, _, ok := layer(p.id())
		if !ok {
			faults = append(faults, fmt.Sprintf("%s is in no layer; hint: put it into layers in rules_test.go", p.id()))
			continue
		}
		faults = append(faults, checkLayer(p)...)
		if level < codecs {
			faults = append(faults, checkPure(p, byPath)...)
		}
		for _, f := range forbidden {
			for _, imported := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
				if under(p.id(), f.importer) && under(strings.TrimPrefix(imported, module), f.imported) {
					faults = append(faults, fmt.Sprintf("%s imports %s; rule: %s", p.id(), imported, f.reason))
				}
			}
		}
		faults = append(faults, checkControllerServices(p)...)
	}
	return faults
}

// checkControllerServices gives the imports of one of the controller's services by
// another.
func checkControllerServices(p pkg) (faults []string) {
	for _, service := range controllerServices {
		for _, other := range controllerServices {
			if service == other || !under(p.id(), service) {
				continue
			}
			for _, imported := range p.Imports {
				if under(strings.TrimPrefix(imported, module), other) {
					faults = append(faults, fmt.Sprintf("%s imports %s; rule: %s", p.id(), imported, controllerReason))
				}
			}
		}
	}
	return faults
}

func checkLayer(p pkg) (faults []string) {
	level, entry, _ := layer(p.id())
	for _, imported := range p.Imports {
		id, ok := strings.CutPrefix(imported, module)
		if !ok {
			continue
		}
		if e, ok := isTestOnly(id); ok {
			faults = append(faults, fmt.Sprintf("%s imports %s; rule: %s", p.id(), id, testOnly[e]))
			continue
		}
		lower, other, _ := layer(id)
		if lower > level || lower == level && entry != other && level >= sideways {
			faults = append(faults, fmt.Sprintf("%s (%s) imports %s (%s); rule: %s",
				p.id(), layers[level].name, id, layers[lower].name, layersReason))
		}
	}
	return faults
}

func checkPure(p pkg, byPath map[string]pkg) (faults []string) {
	for _, imported := range p.Imports {
		if reason, ok := unimportable[imported]; ok && exceptions[[2]string{p.id(), imported}] == "" {
			faults = append(faults, fmt.Sprintf("%s imports %s; rule: %s", p.id(), imported, reason))
		}
	}
	for bad, reason := range unreachable {
		if way := reach(p.ImportPath, bad, byPath); way != nil {
			faults = append(faults, fmt.Sprintf("%s reaches %s by %s; rule: %s", p.id(), bad, strings.Join(way, " -> "), reason))
		}
	}
	return faults
}

// reach gives the imports that lead from one package to another, or nothing.
func reach(from, to string, byPath map[string]pkg) []string {
	seen := map[string]bool{from: true}
	var walk func(string) []string
	walk = func(at string) []string {
		if at == to {
			return []string{at}
		}
		for _, next := range byPath[at].Imports {
			if seen[next] {
				continue
			}
			seen[next] = true
			if way := walk(next); way != nil {
				return append([]string{at}, way...)
			}
		}
		return nil
	}
	return walk(from)
}

func under(pkg, parent string) bool { return pkg == parent || strings.HasPrefix(pkg, parent+"/") }

// checkSource gives each breach of a rule on source text.
func checkSource(fset *token.FileSet, f *ast.File, pure bool) (faults []string) {
	report := func(at token.Pos, what, reason string) {
		faults = append(faults, fmt.Sprintf("%s: %s; rule: %s", fset.Position(at), what, reason))
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv == nil && n.Name.Name == "init" {
				report(n.Pos(), "func init", initReason)
			}
		case *ast.GoStmt:
			if pure {
				report(n.Pos(), "go statement", goReason)
			}
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && pure && x.Name == "time" && uncallable[n.Sel.Name] {
				report(n.Pos(), "time."+n.Sel.Name, uncallableReason)
			}
		}
		return true
	})
	return faults
}

func TestTheRulesFindABreach(t *testing.T) {
	ours := func(id string, imports ...string) pkg {
		return pkg{ImportPath: module + id, Name: filepath.Base(id), Imports: imports}
	}
	for name, c := range map[string]struct {
		pkgs []pkg
		want string // a part of the one fault; empty for none
	}{
		"downwards":                      {[]pkg{ours("internal/ad", module+"krb5/crypto")}, ""},
		"inside one service":             {[]pkg{ours("internal/agent", module+"internal/agent/policy")}, ""},
		"codec to codec":                 {[]pkg{ours("managedpassword", module+"krb5/crypto")}, ""},
		"upwards":                        {[]pkg{ours("krb5", module+"internal/kclient")}, "krb5 (codecs) imports internal/kclient"},
		"sideways":                       {[]pkg{ours("internal/deliver/cdi", module+"internal/agent")}, "rule: imports run downwards"},
		"the agent and the domain":       {[]pkg{{ImportPath: module + "internal/agent", Name: "agent", XTestImports: []string{module + "internal/dc/kdc"}}}, "meet on the wire"},
		"two services of the controller": {[]pkg{ours("internal/dc/kdc", module+"internal/dc/ldapd")}, "is read and tested without the others"},
		"shipped test support":           {[]pkg{ours("internal/cli", module+"internal/lab")}, "test support"},
		"an unknown package":             {[]pkg{ours("internal/new")}, "internal/new is in no layer"},
		"an empty name":                  {[]pkg{ours("internal/agent/util")}, "called util"},
		"a codec with files":             {[]pkg{ours("gkdi", "os")}, "gkdi imports os; rule: a codec knows no file"},
		"a codec with a logger":          {[]pkg{ours("gkdi", "log/slog")}, "gkdi imports log/slog"},
		"secret and its LogValuer":       {[]pkg{ours("secret", "log/slog")}, ""},
		"a socket two steps away": {[]pkg{ours("krb5/gss", "crypto/x509"), {ImportPath: "crypto/x509", Imports: []string{"net"}}},
			"krb5/gss reaches net by " + module + "krb5/gss -> crypto/x509 -> net"},
	} {
		t.Run(name, func(t *testing.T) {
			faults := checkImports(c.pkgs)
			switch {
			case c.want == "" && len(faults) > 0:
				t.Errorf("faults: %q", faults)
			case c.want != "" && (len(faults) != 1 || !strings.Contains(faults[0], c.want)):
				t.Errorf("faults: %q; want one with %q", faults, c.want)
			}
		})
	}
	const source = `package p
		import "time"
		func init() { go f(time.Now()) }`
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "p.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	if faults := checkSource(fset, f, true); len(faults) != 3 {
		t.Errorf("faults of a codec: %q; want init, go and time.Now", faults)
	}
	if faults := checkSource(fset, f, false); len(faults) != 1 {
		t.Errorf("faults of a service: %q; want init", faults)
	}
}
