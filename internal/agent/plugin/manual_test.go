package plugin

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// TestTheManualsExamplesAreValid reads the indented blocks of docs/plugins.md
// that configure a plug-in, and checks them as the agent would.
func TestTheManualsExamplesAreValid(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/plugins.md")
	if err != nil {
		t.Fatal(err)
	}
	strict := func(block string, into any) {
		t.Helper()
		d := yaml.NewDecoder(bytes.NewReader([]byte(block)))
		d.KnownFields(true)
		if err := d.Decode(into); err != nil {
			t.Errorf("%v in:\n%s", err, block)
		}
	}
	kinds := make(map[Kind]bool)
	for block := range strings.SplitSeq(indented(string(manual)), "\n\n") {
		block = strings.TrimLeft(block, "\n")
		var file struct {
			Plugins map[string]Config `yaml:"plugins"`
		}
		switch {
		case strings.HasPrefix(block, "plugins:"):
			strict(block, &file)
		case strings.HasPrefix(block, "kind:"):
			var c Config
			strict(block, &c)
			if c.Kind == Exec || c.Kind == Vault {
				c.GUID = testGUID
			}
			kinds[c.Kind] = true
			file.Plugins = map[string]Config{"example": c}
		}
		for _, err := range Check(file.Plugins) {
			t.Errorf("%v in:\n%s", err, block)
		}
	}
	for _, k := range []Kind{File, Systemd, Kubernetes, Vault, Exec} {
		if !kinds[k] {
			t.Errorf("the manual has no example of %s", k)
		}
	}
}

// indented is the blocks of code of a Markdown text, an empty line between
// them.
func indented(markdown string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(markdown, "\n") {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			b.WriteString(code + "\n")
		} else {
			b.WriteString("\n")
		}
	}
	return b.String()
}
