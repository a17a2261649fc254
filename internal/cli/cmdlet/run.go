package cmdlet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/ad"
)

// Host is what cmdlets are run with.
type Host struct {
	// Session is the domain, at the controller that -Server names if it is not
	// empty. The host closes it.
	Session func(ctx context.Context, server string) (*ad.Session, error)
	Getenv  func(name string) string
	// Hostname is this computer's name.
	Hostname func() string
	Now      func() time.Time
	Out      io.Writer
	// JSON prints results as JSON in place of lists.
	JSON bool
	// Warn prints a warning, and Fail an error after which a script goes on.
	Warn func(text string)
	Fail func(err error)
	// Created is told of a new root key.
	Created func(key dtyp.GUID)
	// CreateSpec writes a credential spec, Specs lists those that there are.
	CreateSpec func(ctx context.Context, s *ad.Session, spec Spec) (SpecFile, error)
	Specs      func(ctx context.Context) ([]SpecFile, error)
	// Install hands an account to the agent of this host; the session is the
	// caller's, which a standalone account's password is set in. Uninstall takes it
	// away.
	Install   func(ctx context.Context, account string, session func(context.Context) (*ad.Session, error)) error
	Uninstall func(ctx context.Context, account string) error
	// Program runs another command of gmsa, such as nltest.
	Program func(ctx context.Context, args []string) error
}

// Spec is a credential spec to be written.
type Spec struct {
	Account    string
	Additional []SpecAccount
	Path, Name string
	NoClobber  bool
}

// SpecAccount is another account of a spec; Domain may be empty.
type SpecAccount struct{ Name, Domain string }

// SpecFile is a credential spec by its name and its file.
type SpecFile struct{ Name, Path string }

// computerName is this computer's name as Windows has it in its environment.
func (h Host) computerName() string {
	if name := h.Getenv("COMPUTERNAME"); name != "" {
		return name
	}
	name, _, _ := strings.Cut(h.Hostname(), ".")
	return strings.ToUpper(name)
}

func (h Host) print(list []any) error {
	if len(list) == 0 {
		return nil
	}
	if !h.JSON {
		return write(h.Out, list)
	}
	enc := json.NewEncoder(h.Out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(unflat(list))
}

// ErrContinued is the end of a script that went on after errors, which were shown.
var ErrContinued = errors.New("not all of the script was done")

// ErrNegative is a test that was made and failed, as the last thing that was done.
var ErrNegative = errors.New("the test failed")

// Run runs a script: statements with cmdlets, variables, expressions and pipelines.
// An error says its line; those after which it goes on are shown by the host, and make
// the whole an [ErrContinued] that wraps the last of them.
func Run(ctx context.Context, h Host, script string) error {
	list, err := parseScript(script)
	if err != nil {
		return err
	}
	in := &interpreter{host: h, vars: map[string]any{}}
	if err := in.run(ctx, list); err != nil {
		return err
	}
	switch {
	case in.failed != nil:
		return fmt.Errorf("%w: %w", ErrContinued, in.failed)
	case in.negative:
		return ErrNegative
	}
	return nil
}

// RunArgs runs one cmdlet with arguments as a shell passes them.
func RunArgs(ctx context.Context, h Host, name string, args []string) error {
	in := &interpreter{host: h, vars: map[string]any{}}
	out, err := in.command(ctx, command{line: 1, name: name, args: argvArguments(args)}, nil, false)
	if answer, ok := errors.AsType[*answerError](err); ok {
		return h.print([]any{answer.text})
	}
	if err == nil {
		err = h.print(out)
	}
	if err == nil && in.negative {
		err = ErrNegative
	}
	return err
}

// argvArguments makes arguments of a command line's words. A word that ends with a
// comma, or whose successor begins with one, goes on in the next.
func argvArguments(words []string) []argument {
	var args []argument
	for i := 0; i < len(words); i++ {
		w := words[i]
		if len(w) > 1 && w[0] == '-' && (w[1] < '0' || w[1] > '9') && w[1] != ' ' {
			name, value, ok := strings.Cut(w[1:], ":")
			a := argument{param: name, raw: w}
			if ok {
				a.value = literal{argvText(value)}
			}
			args = append(args, a)
			continue
		}
		items := []node{literal{argvText(strings.TrimSuffix(w, ","))}}
		for i+1 < len(words) && (strings.HasSuffix(words[i], ",") || strings.HasPrefix(words[i+1], ",")) {
			i++
			if next := strings.Trim(words[i], ","); next != "" {
				items = append(items, literal{argvText(next)})
			}
		}
		a := argument{value: items[0], raw: w}
		if len(items) > 1 {
			a.value = array{items}
		}
		args = append(args, a)
	}
	return args
}

// Known reports whether a cmdlet of that name, or an answer to it, exists.
func Known(name string) bool { return find(name) != nil || answerTo(name) != "" }

// Names lists the cmdlets.
func Names() []string {
	var names []string
	for _, d := range definitions() {
		names = append(names, d.name)
	}
	slices.Sort(names)
	return names
}

// Synopsis is what a cmdlet does, and Example how it is called.
func Synopsis(name string) (synopsis, example string) {
	if d := find(name); d != nil {
		return d.synopsis, d.example
	}
	return "", ""
}

// definitions are all cmdlets.
func definitions() []*definition {
	return slices.Concat(keyCmdlets(), groupCmdlets(), accountCmdlets(), objectCmdlets(), specCmdlets(), languageCmdlets())
}

// find is the cmdlet of that name, in any case of letters.
func find(name string) *definition {
	for _, d := range definitions() {
		if strings.EqualFold(d.name, name) {
			return d
		}
	}
	return nil
}

// program runs what is no cmdlet: some of Windows' programs are commands of gmsa, to
// others there is an answer.
func (in *interpreter) program(ctx context.Context, cmd command) ([]any, error) {
	name := strings.ToLower(strings.TrimSuffix(cmd.name, ".exe"))
	if name == "nltest" || name == "klist" {
		args := []string{name}
		for _, a := range cmd.args {
			args = append(args, a.raw)
		}
		return nil, in.host.Program(ctx, args)
	}
	if text := answerTo(cmd.name); text != "" {
		return nil, &answerError{text}
	}
	return nil, fmt.Errorf("%w: %s is not known here; hint: gmsa Get-Help", ErrParameter, cmd.name)
}

// Parameters are the names of a cmdlet's parameters, its own before those of all.
func Parameters(name string) []string {
	var names []string
	if d := find(name); d != nil {
		for _, p := range slices.Concat(d.params, common) {
			names = append(names, p.name)
		}
	}
	return names
}
