package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// outputFormat is a value of -o.
type outputFormat string

const (
	outputText outputFormat = "text"
	outputJSON outputFormat = "json"
	outputYAML outputFormat = "yaml"
)

// Set, String and Type make outputFormat a flag.
func (f *outputFormat) Set(s string) error {
	switch o := outputFormat(s); o {
	case outputText, outputJSON, outputYAML:
		*f = o
		return nil
	}
	return fmt.Errorf("want text, json or yaml")
}

func (f *outputFormat) String() string { return string(*f) }

// Type is what help calls the value.
func (f *outputFormat) Type() string { return "FORMAT" }

// addOutputFlag gives c the option -o.
func (a *app) addOutputFlag(c *cobra.Command) {
	c.Flags().VarP(&a.output, "output", "o", "how to print the result: text, json or yaml")
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"text", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

// print writes a result: v for programs, or what text writes for people.
func (a *app) print(v any, text func(w io.Writer) error) error {
	switch a.output {
	case outputJSON:
		enc := json.NewEncoder(a.env.Stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(v)
	case outputYAML:
		b, err := toYAML(v)
		if err != nil {
			return err
		}
		_, err = a.env.Stdout.Write(b)
		return err
	}
	return text(a.env.Stdout)
}

// toYAML goes through JSON, so that both forms have the same names and the
// same text for times, SIDs and the like.
func toYAML(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var node yaml.Node
	if err := yaml.Unmarshal(b, &node); err != nil {
		return nil, err
	}
	blockStyle(&node)
	return yaml.Marshal(&node)
}

// blockStyle undoes the flow style and the quotes that come from JSON; Marshal
// quotes again what needs it.
func blockStyle(n *yaml.Node) {
	n.Style = 0
	for _, child := range n.Content {
		blockStyle(child)
	}
}

// table writes rows with aligned columns; the first is the heading.
func table(w io.Writer, rows [][]string) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			if i > 0 {
				_, _ = io.WriteString(tw, "\t")
			}
			_, _ = io.WriteString(tw, printable(cell))
		}
		_, _ = io.WriteString(tw, "\n")
	}
	return tw.Flush()
}
