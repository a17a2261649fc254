package explain

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// sources are the Go files of the program, by path from the root of the module.
func sources(t *testing.T) map[string]*ast.File {
	t.Helper()
	files := map[string]*ast.File{}
	for _, top := range []string{"krb5", "internal", "cmd", "gkdi", "managedpassword"} {
		err := filepath.WalkDir(filepath.Join("../..", top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			files[path] = f
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// typedConstants are the constants of a type, by name, in the files below dir.
func typedConstants(files map[string]*ast.File, dir, typ string) map[string]uint32 {
	found := map[string]uint32{}
	for path, f := range files {
		if !strings.HasPrefix(path, dir) {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.ValueSpec)
			if !ok || len(s.Values) != 1 {
				return true
			}
			if id, ok := s.Type.(*ast.Ident); !ok || id.Name != typ {
				return true
			}
			if lit, ok := s.Values[0].(*ast.BasicLit); ok {
				if v, err := strconv.ParseUint(lit.Value, 0, 32); err == nil {
					found[s.Names[0].Name] = uint32(v)
				}
			}
			return true
		})
	}
	return found
}

// TestEveryCodeOfTheProgramIsExplained derives the codes that the program's own packages
// answer with, and wants a cause for each.
func TestEveryCodeOfTheProgramIsExplained(t *testing.T) {
	files := sources(t)
	for name, c := range map[string]struct {
		kind     Kind
		dir, typ string
		least    int
	}{
		"the directory's Windows codes": {Win32, "../../internal/dc/directory", "Win32", 30},
		"the directory's result codes":  {LDAP, "../../internal/dc/directory", "Code", 20},
		"statuses of the KDC":           {NTStatus, "../../krb5", "NTStatus", 15},
		"results of kpasswd":            {Kpasswd, "../../krb5/kpasswd", "ResultCode", 8},
	} {
		codes := typedConstants(files, c.dir, c.typ)
		if len(codes) < c.least {
			t.Errorf("%s: %d constants found", name, len(codes))
		}
		for constant, v := range codes {
			kind := c.kind
			if v >= facilityWin32 && kind == Win32 {
				kind = HResult
			}
			wantExplained(t, constant, ref{kind, v})
		}
	}
	protocol := typedConstants(files, "../../krb5/errorcode.go", "ErrorCode")
	used := kerberosCodesInUse(files)
	if len(used) < 20 {
		t.Errorf("%d codes of Kerberos in use", len(used))
	}
	for _, constant := range used {
		wantExplained(t, constant, ref{Kerberos, protocol[constant]})
	}
	for constant, v := range protocol {
		if _, ok := lookup(ref{Kerberos, v}); !ok {
			t.Errorf("%s has no entry", constant)
		}
	}
}

func wantExplained(t *testing.T, constant string, r ref) {
	t.Helper()
	e, ok := lookup(r)
	if !ok || e.Cause == "" {
		t.Errorf("%s, %s %#x, is not explained: %+v", constant, r.kind, r.value, e)
	}
}

// kerberosCodesInUse are the names of the codes that packages other than krb5 name.
func kerberosCodesInUse(files map[string]*ast.File) []string {
	var names []string
	for path, f := range files {
		if strings.HasPrefix(path, "../../krb5") || strings.HasPrefix(path, "../../internal/explain") {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if !ok || !strings.HasPrefix(s.Sel.Name, "Err") {
				return true
			}
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "krb5" && s.Sel.Name != "ErrNone" && s.Sel.Name != "ErrorDataExtended" {
				names = append(names, s.Sel.Name)
			}
			return true
		})
	}
	slices.Sort(names)
	return slices.DeleteFunc(slices.Compact(names), func(n string) bool { return strings.HasPrefix(n, "Error") })
}

// Every advice belongs to a code that has a name, and no next step lacks a reason.
func TestAdviceIsWhole(t *testing.T) {
	for _, r := range advised() {
		e, ok := lookup(r)
		if !ok {
			t.Errorf("advice for %s %#x, which has no name", r.kind, r.value)
			continue
		}
		if e.Cause == "" || e.Meaning == "" {
			t.Errorf("%s %s %s: no cause or meaning", e.Kind, e.Code, e.Name)
		}
		if found := Find(e.Name); !slices.ContainsFunc(found, func(f Entry) bool { return f.Name == e.Name }) && e.Kind != Event {
			t.Errorf("%s is not found by its name: %+v", e.Name, found)
		}
		if found := Find(e.Code, e.Kind); len(found) != 1 || found[0].Name != e.Name {
			t.Errorf("%s %s is not found by its number: %+v", e.Kind, e.Code, found)
		}
	}
}

func TestBrief(t *testing.T) {
	if meaning, hint := Brief(0x52e); meaning != "the password or key is wrong" || hint == "" {
		t.Errorf("%q, %q", meaning, hint)
	}
	if meaning, _ := Brief(0x80090346); meaning == "" {
		t.Error("the channel binding is not explained")
	}
	if meaning, hint := Brief(0xFFFF); meaning+hint != "" {
		t.Errorf("%q, %q for what nobody wrote about", meaning, hint)
	}
}
