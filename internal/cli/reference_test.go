package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/opengmsa/opengmsa/internal/cli/cmdlet"
)

// docs/commands.md is made of the commands; GMSA_UPDATE=1 writes it.
func TestCommandReferenceIsCurrent(t *testing.T) {
	golden(t, "../../docs/commands.md", commandReference((&app{output: outputText}).root()))
}

func commandReference(root *cobra.Command) string {
	var b strings.Builder
	b.WriteString("# Commands\n\nMade of the commands by TestCommandReferenceIsCurrent; `gmsa COMMAND --help` prints the same.\n" +
		"Man pages: `gmsa man DIRECTORY`. Exit codes:\n\n```\n" + codeTable() + "\n```\n")
	for _, c := range commands(root) {
		if c.HasSubCommands() || c.Hidden || c.Name() == "help" {
			continue
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n    %s\n", c.CommandPath(), c.Short, c.UseLine())
		if c.Long != "" {
			fmt.Fprintf(&b, "\n%s\n", strings.TrimSpace(c.Long))
		}
		if flags := referenceFlags(c); flags != "" {
			fmt.Fprintf(&b, "\n%s", flags)
		}
		fmt.Fprintf(&b, "\n```\n%s\n```\n", c.Example)
	}
	b.WriteString("\n# Cmdlets\n\n`gmsa Get-Help NAME` has the parameters of each.\n\n| cmdlet | what it does | example |\n|---|---|---|\n")
	for _, name := range cmdlet.Names() {
		synopsis, example := cmdlet.Synopsis(name)
		fmt.Fprintf(&b, "| %s | %s | `%s` |\n", name, synopsis, strings.ReplaceAll(example, "|", `\|`))
	}
	b.WriteString("\n# Fields of -o json\n\nFields are only ever added. Times are RFC 3339 in UTC; what is empty may be left out.\n\n| of | fields |\n|---|---|\n")
	for _, a := range jsonAnswers() {
		b.WriteString(a.row())
	}
	return b.String()
}

func referenceFlags(c *cobra.Command) string {
	var b strings.Builder
	c.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		name := "--" + f.Name
		if f.Shorthand != "" {
			name = "-" + f.Shorthand + ", " + name
		}
		fmt.Fprintf(&b, "- `%s`: %s\n", name, f.Usage)
	})
	return b.String()
}
