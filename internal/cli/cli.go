// Package cli is the program gmsa: its commands, one file for each noun, and
// what they have in common.
//
// A command parses its arguments, calls the package that does the work, and
// prints the result; it decides nothing else. All of them speak alike: results
// go to standard output as text, JSON or YAML; a failure goes to standard error
// as its cause, followed by hints that name the next command, and gives one of
// the exit codes of [Code]. No secret is ever an argument or an environment
// variable: it is typed without echo, or comes from a file.
//
// Read [Run] first.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agentapi"
)

// Env is all that a command sees of its surroundings.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Environ is the environment in the form of [os.Environ]; the last of
	// several values of a variable counts.
	Environ []string
	// Now is the clock that results are judged and printed by.
	Now func() time.Time
	// Prompt asks a person for a secret, without echo. Nil means that nobody is
	// there to ask.
	Prompt func(question string) ([]byte, error)
}

// OS is the process's own environment.
func OS() Env {
	return Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
		Environ: os.Environ(),
		Now:     time.Now,
		Prompt:  terminalPrompt(),
	}
}

// Getenv is the value of a variable, empty if there is none.
func (e Env) Getenv(name string) string {
	for _, entry := range slices.Backward(e.Environ) {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			return v
		}
	}
	return ""
}

// Run runs the program with its arguments (the name of the program is not
// among them) and returns the exit code. It blocks until the command is done
// or ctx is.
func Run(ctx context.Context, args []string, env Env) int {
	a := &app{env: env, output: outputText}
	root := a.root()
	root.SetArgs(cmdletArgs(root, explainArgs(args)))
	err := root.ExecuteContext(ctx)
	if err != nil && !a.started {
		err = usageError(err, root, args)
	}
	a.report(err)
	return int(codeOf(err))
}

// socketVariable names the agent's socket for all commands of a shell.
const socketVariable = "GMSA_SOCKET"

// app is one run of the program.
type app struct {
	env    Env
	output outputFormat
	// socket is the agent's; empty means the default.
	socket string
	// started is set once a command's arguments were understood: an error
	// before that is one of usage.
	started bool
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "gmsa",
		Short: "Group Managed Service Accounts on any system",
		Long: `gmsa administers group Managed Service Accounts, guards a host so that its
containers and services use them without a password, and looks into both.

Exit codes:
` + codeTable(),
		Example: `  gmsa verify contoso.com
  gmsa klist get krbtgt
  gmsa run --account webapp01 -- curl --negotiate -u : https://app.contoso.com/
  gmsa events --id 8 --since 1h`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.env.Stdin)
	root.SetOut(a.env.Stdout)
	root.SetErr(a.env.Stderr)
	root.SetHelpCommand(a.help())
	root.CompletionOptions.DisableDefaultCmd = true
	root.ValidArgsFunction = completeCmdlet
	root.PersistentFlags().StringVar(&a.socket, "socket", a.env.Getenv(socketVariable), "the agent's socket (default $"+socketVariable+" or "+agentapi.DefaultSocket+")")
	root.AddCommand(
		a.doctor(),
		a.explain(),
		a.audit(),
		a.lint(),
		a.verify(),
		a.nltest(),
		a.klist(),
		a.events(),
		a.lease(),
		a.agent(),
		a.account(),
		a.kds(),
		a.group(),
		a.computer(),
		a.spn(),
		a.object(),
		a.credspec(),
		a.pwsh(),
		a.cmdlet(),
		a.dc(),
		a.demo(),
		a.run(),
		a.docker(),
		a.version(),
		a.completion(),
		a.man(),
	)
	root.AddCommand(a.ociRuntime()...)
	root.AddCommand(a.runtime()...)
	for _, c := range commands(root) {
		if c.HasSubCommands() {
			needSubcommand(c)
		}
		a.markStart(c)
	}
	return root
}

// commands lists root and all below it.
func commands(c *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{c}
	for _, sub := range c.Commands() {
		all = append(all, commands(sub)...)
	}
	return all
}

// markStart notes when a command begins its work: cobra checks flags and
// arguments before that.
func (a *app) markStart(c *cobra.Command) {
	run := c.RunE
	if run == nil {
		return
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		a.started = true
		return run(c, args)
	}
}

// needSubcommand makes a noun without a verb, or with one that it does not
// have, an error of usage instead of a page of help on standard output. A
// command that has subcommands and runs by itself too is left alone.
func needSubcommand(c *cobra.Command) {
	if c.Runnable() {
		return
	}
	c.Args = func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return fmt.Errorf("%s needs a command", c.CommandPath())
		}
		text := fmt.Sprintf("%s has no command %q", c.CommandPath(), args[0])
		if near := nearest(c, args[0]); near != "" {
			text += fmt.Sprintf("; did you mean %q?", near)
		}
		return errors.New(text)
	}
	c.RunE = func(*cobra.Command, []string) error { return nil } // unreachable: Args always fails
}

// nearest is the command of c that a mistyped name is most like; empty if none is.
func nearest(c *cobra.Command, name string) string {
	for distance := 1; distance <= 2; distance++ {
		c.SuggestionsMinimumDistance = distance
		if near := c.SuggestionsFor(name); len(near) > 0 {
			return near[0]
		}
	}
	return ""
}

func (a *app) help() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND…]",
		Short: "Explain a command",
		RunE: func(c *cobra.Command, args []string) error {
			about, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return failure(Usage, fmt.Errorf("no help about %q", strings.Join(args, " "))).hint("gmsa help")
			}
			return about.Help()
		},
	}
}

func (a *app) completion() *cobra.Command {
	return &cobra.Command{
		Use:       "completion {bash|zsh|fish|powershell}",
		Short:     "Print a script that completes commands in a shell",
		Example:   "  gmsa completion bash > /etc/bash_completion.d/gmsa",
		ValidArgs: []string{"bash", "zsh", "fish", "powershell"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(c *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return c.Root().GenBashCompletionV2(a.env.Stdout, true)
			case "zsh":
				return c.Root().GenZshCompletion(a.env.Stdout)
			case "fish":
				return c.Root().GenFishCompletion(a.env.Stdout, true)
			default:
				return c.Root().GenPowerShellCompletionWithDesc(a.env.Stdout)
			}
		},
	}
}
