package explain

import (
	_ "embed"
	"strconv"
	"strings"
	"sync"
)

// namesText has a line for each name: kind, hexadecimal number, name. The first name
// of a number is the one that is printed.
//
//go:embed names.txt
var namesText string

// windowsNames is names.txt both ways.
type windowsNames struct {
	byCode map[ref]string
	byName map[string]ref
}

// windows reads names.txt, once, and only where a code of Windows is asked for.
var windows = sync.OnceValue(func() windowsNames {
	const size = 10_000 // names, or nearly so
	n := windowsNames{make(map[ref]string, size), make(map[string]ref, size)}
	for line := range strings.Lines(namesText) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		hex, name, _ := strings.Cut(rest, " ")
		v, err := strconv.ParseUint(hex, 16, 32)
		if err != nil || name == "" {
			continue // a comment
		}
		r := ref{Kind(kind), uint32(v)}
		if _, ok := n.byCode[r]; !ok {
			n.byCode[r] = name
		}
		n.byName[name] = r
	}
	return n
})

// name is Windows' name of a code; empty if it has none.
func name(r ref) string { return windows().byCode[r] }
