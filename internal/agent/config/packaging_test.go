package config

import (
	"os"
	"regexp"
	"testing"
)

// The example that packages install says what it means, with its comments taken
// away too.
func TestThePackagedExample(t *testing.T) {
	b, err := os.ReadFile("../../../packaging/agent.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Parse(b); err != nil {
		t.Errorf("as installed: %v", err)
	}
	// "# key:" and what is indented below it are examples; "# Text" is prose.
	all := regexp.MustCompile(`(?m)^( *)# ([a-z_]+:|  )`).ReplaceAll(b, []byte("$1$2"))
	c, err := Parse(all)
	if err != nil {
		t.Fatalf("with every example: %v\n%s", err, all)
	}
	if len(c.Plugins) != 1 || len(c.Rules) != 2 || len(c.OnRotate) != 1 || c.Domains["contoso.com"].CA == "" {
		t.Errorf("with every example: %+v", c)
	}
}
