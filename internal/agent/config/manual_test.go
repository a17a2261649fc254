package config

import (
	"os"
	"strings"
	"testing"
)

// TestTheManualsExamples reads the indented blocks of docs/agent.md that are
// configuration: each must be valid by itself.
func TestTheManualsExamples(t *testing.T) {
	manual, err := os.ReadFile("../../../docs/agent.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, block := range blocks(string(manual)) {
		key, _, _ := strings.Cut(block, ":")
		if strings.HasPrefix(block, "gmsa ") {
			continue // commands: package cli's test
		}
		seen[key] = true
		if _, err := Parse([]byte(block)); err != nil {
			t.Errorf("%v in:\n%s", err, block)
		}
	}
	for _, key := range []string{"domains", "rules", "quotas", "leases", "on_rotate", "event_log"} {
		if !seen[key] {
			t.Errorf("the manual has no example of %s", key)
		}
	}
}

// blocks are the indented blocks of a Markdown text.
func blocks(markdown string) []string {
	var list []string
	var b strings.Builder
	for line := range strings.SplitSeq(markdown+"\n", "\n") {
		if code, ok := strings.CutPrefix(line, "    "); ok {
			b.WriteString(code + "\n")
		} else if b.Len() > 0 {
			list = append(list, b.String())
			b.Reset()
		}
	}
	return list
}
