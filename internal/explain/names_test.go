package explain

import (
	"bytes"
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The HRESULTs of these facilities are kept, [MS-ERREF] 2.1: null, RPC, dispatch, ITF,
// Win32, Windows, security and certificates. Nothing here meets those of storage,
// media, fonts and the like.
var keptFacilities = []uint32{0, 1, 2, 4, 7, 8, 9, 11}

// TestNamesAreThoseOfWindows keeps names.txt what golang.org/x/sys/windows has, and
// writes it with GMSA_UPDATE=1.
func TestNamesAreThoseOfWindows(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "windows", "zerrors_windows.go")
	want := renderNames(t, source)
	if os.Getenv("GMSA_UPDATE") != "" {
		if err := os.WriteFile("names.txt", want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile("names.txt")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("names.txt is not what golang.org/x/sys/windows has: go generate ./internal/explain")
	}
}

// windowsConstant is a constant of that file.
type windowsConstant struct {
	kind  Kind
	value uint32
	name  string
}

func renderNames(t *testing.T, source string) []byte {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var all []windowsConstant
	for _, d := range file.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range gen.Specs {
			spec, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			if c, ok := constantOf(spec); ok {
				all = append(all, c)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b windowsConstant) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.value, b.value))
	})
	var b bytes.Buffer
	b.WriteString("# Made by go generate from zerrors_windows.go of golang.org/x/sys (BSD licence); not written by hand.\n")
	for _, c := range all {
		fmt.Fprintf(&b, "%s %x %s\n", c.kind, c.value, c.name)
	}
	return b.Bytes()
}

// constantOf is the code that a line of the file defines. Which kind it is, its type says.
func constantOf(s *ast.ValueSpec) (windowsConstant, bool) {
	typ := ""
	switch t := s.Type.(type) {
	case *ast.SelectorExpr:
		typ = t.Sel.Name
	case *ast.Ident:
		typ = t.Name
	}
	kind, ok := map[string]Kind{"Errno": Win32, "NTStatus": NTStatus, "Handle": HResult}[typ]
	if !ok || len(s.Values) != 1 {
		return windowsConstant{}, false
	}
	lit, ok := s.Values[0].(*ast.BasicLit)
	if !ok {
		return windowsConstant{}, false
	}
	v, err := strconv.ParseUint(lit.Value, 0, 32)
	if err != nil || kind == HResult && !slices.Contains(keptFacilities, uint32(v)>>16&0x7FF) {
		return windowsConstant{}, false
	}
	return windowsConstant{kind, uint32(v), s.Names[0].Name}, true
}
