package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/explain"
)

// explainOptions are the flags of gmsa explain.
type explainOptions struct {
	kinds []string
	list  bool
}

const explainLong = `explain says what a code means that a domain, Windows or Kerberos printed: its name,
why it happens where a group Managed Service Account is used, and what to type next.

A code is a number in any form, a name, or a whole line of somebody's log, in which the
codes are found. A number that several systems use is explained for each of them; --kind
picks one. ad is what stands behind "data" in LDAP error 49.`

func (a *app) explain() *cobra.Command {
	var o explainOptions
	c := &cobra.Command{
		Use:   "explain {CODE… | LINE | -} [flags]",
		Short: "Say what a code means, and what to do",
		Long:  explainLong,
		Example: `  gmsa explain KDC_ERR_PREAUTH_FAILED
  gmsa explain event 8
  gmsa explain 0xc000006d
  gmsa explain 24 --kind kerberos
  gmsa explain "80090308: LdapErr: DSID-0C090439, comment: AcceptSecurityContext error, data 52e, v4563"
  journalctl -u sshd -n 20 | gmsa explain -
  gmsa explain --list --kind event`,
		ValidArgsFunction: completeCode,
		RunE:              func(_ *cobra.Command, args []string) error { return a.runExplain(args, o) },
	}
	c.Flags().StringSliceVar(&o.kinds, "kind", nil, "only these: "+kindList())
	c.Flags().BoolVar(&o.list, "list", false, "print all codes that somebody wrote advice for")
	_ = c.RegisterFlagCompletionFunc("kind", cobra.FixedCompletions(strings.Split(kindList(), ", "), cobra.ShellCompDirectiveNoFileComp))
	a.addOutputFlag(c)
	return c
}

func kindList() string {
	var names []string
	for _, k := range explain.Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

func (a *app) runExplain(args []string, o explainOptions) error {
	kinds, err := o.chosen()
	if err != nil {
		return err
	}
	if o.list {
		if len(args) > 0 {
			return failure(Usage, errors.New("--list takes no code"))
		}
		return a.printEntries(explain.Advised(kinds...))
	}
	text := strings.Join(args, " ")
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(a.env.Stdin, explain.MaxText))
		if err != nil {
			return fmt.Errorf("read standard input: %w", err)
		}
		text = string(b)
	}
	if strings.TrimSpace(text) == "" {
		return failure(Usage, errors.New("which code?")).hint("gmsa explain --help")
	}
	entries := explain.Find(text, kinds...)
	if len(entries) == 0 {
		return unknownCode(text, kinds)
	}
	return a.printEntries(entries)
}

// chosen are the kinds of --kind.
func (o explainOptions) chosen() ([]explain.Kind, error) {
	var kinds []explain.Kind
	for _, s := range o.kinds {
		k := explain.Kind(strings.ToLower(s))
		if !slices.Contains(explain.Kinds(), k) {
			return nil, failure(Usage, fmt.Errorf("--kind %s: want one of %s", s, kindList()))
		}
		kinds = append(kinds, k)
	}
	return kinds, nil
}

// unknownCode is the failure for what nothing is known of, with what is most like it.
func unknownCode(text string, kinds []explain.Kind) error {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	if len(line) > 80 {
		line = strings.ToValidUTF8(line[:80], "") + "…"
	}
	e := failure(NotFound, fmt.Errorf("no code that is known in %q", line))
	near := explain.Nearest(text, kinds...)
	for _, n := range near {
		e = e.hint("gmsa explain --kind %s %s  # %s: %s", n.Kind, n.Code, n.Name, n.Meaning)
	}
	if len(near) == 0 {
		e = e.hint("gmsa explain --list prints the codes there is advice for; a number in a line counts behind its kind, as in \"LDAP 49\" or \"event 8\"")
	}
	return e
}

func (a *app) printEntries(entries []explain.Entry) error {
	return a.print(entries, func(w io.Writer) error {
		var b strings.Builder
		for i, e := range entries {
			if i > 0 {
				b.WriteString("\n")
			}
			writeEntry(&b, e)
		}
		_, err := io.WriteString(w, b.String())
		return err
	})
}

func writeEntry(b *strings.Builder, e explain.Entry) {
	fmt.Fprintf(b, "%s %s", e.Kind.Title(), e.Code)
	if e.Other != "" {
		fmt.Fprintf(b, " (%s)", e.Other)
	}
	fmt.Fprintf(b, " %s\n  %s\n", e.Name, e.Meaning)
	if e.Cause != "" {
		fmt.Fprintf(b, "  why: %s\n", e.Cause)
	}
	for _, n := range e.Next {
		fmt.Fprintf(b, "  do:  %s\n", n)
	}
	fmt.Fprintf(b, "  source: %s\n", e.Source)
}

// completeCode completes names of codes.
func completeCode(_ *cobra.Command, args []string, typed string) ([]cobra.Completion, cobra.ShellCompDirective) {
	var found []string
	for _, e := range explain.Advised() {
		if len(args) == 0 && typed != "" && hasPrefixFold(e.Name, typed) && e.Kind != explain.AD && e.Kind != explain.Event {
			found = append(found, completed(typed, e.Name, e.Meaning))
		}
	}
	slices.Sort(found)
	return slices.Compact(found), cobra.ShellCompDirectiveNoFileComp
}

// explainArgs writes negative numbers after explain without their sign, in 32 bits: MIT
// Kerberos and Windows print them, and a parser of flags takes them for options.
func explainArgs(args []string) []string {
	if len(args) == 0 || args[0] != "explain" {
		return args
	}
	args = slices.Clone(args)
	for i, arg := range args {
		if v, err := strconv.ParseInt(arg, 10, 32); err == nil && v < 0 {
			args[i] = strconv.FormatUint(uint64(uint32(v)), 10) //nolint:gosec // two's complement is what is meant
		}
	}
	return args
}

// explainHint is the hint of an error that carries a protocol's own code, where
// something is known of it; empty otherwise.
func explainHint(err error) string {
	var coded interface{ ProtocolCode() string }
	var agent *agentapi.Failure
	var code string
	switch {
	case errors.As(err, &agent):
		code = agent.Code
	case errors.As(err, &coded):
		code = coded.ProtocolCode()
	}
	if code == "" || len(explain.Find(code)) == 0 {
		return ""
	}
	return "gmsa explain " + code
}
