package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/deliver/engine"
)

// runtime sets up container engines.
func (a *app) runtime() []*cobra.Command {
	return []*cobra.Command{noun("runtime", "Container engines of this host", a.runtimeInstall(), a.runtimeUninstall(), a.runtimeStatus())}
}

// runtimeOptions are the flags of gmsa runtime.
type runtimeOptions struct {
	config      string
	dryRun, yes bool
	pods        bool
	shim        string
	services    bool
}

const engineArgument = "{docker | podman | containerd | crio}"

func (o *runtimeOptions) addFlags(c *cobra.Command) {
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "show what would change, and change nothing")
	c.Flags().BoolVarP(&o.yes, "yes", "y", false, "do not ask")
	c.ValidArgs = engine.Names()
	c.Args = cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs)
}

func (a *app) runtimeInstall() *cobra.Command {
	var o runtimeOptions
	c := &cobra.Command{
		Use:   "install " + engineArgument,
		Short: "Set up a container engine",
		Long: `install has an engine give its containers the identities that they ask for. It shows
what it will change as a difference of files, and asks. Other settings of those files stay
as they are, and to install again is safe. The engine is not restarted.

An engine that would start a container without its identity is refused: what decides is the
configuration that is in effect, and not a version.`,
		Example: `  gmsa runtime install docker --dry-run
  gmsa runtime install docker --shim
  gmsa runtime install containerd --yes`,
		RunE: func(c *cobra.Command, args []string) error {
			options, err := o.options()
			if err != nil {
				return err
			}
			var h engine.Host
			p, err := h.Plan(c.Context(), args[0], options)
			if err != nil {
				return planFailure(args[0], err)
			}
			return a.carryOut(c.Context(), p, o, h.Apply)
		},
	}
	o.addFlags(c)
	c.Flags().StringVar(&o.shim, "shim", "", "put a docker into this directory of PATH that knows --security-opt credentialspec=…")
	c.Flags().Lookup("shim").NoOptDefVal = "/usr/local/bin"
	c.Flags().BoolVar(&o.services, "services", false, "give docker's services identities, by its default runtime")
	addConfigFlag(c, &o.config)
	c.Flags().BoolVar(&o.pods, "pods", false, "containerd: pods get their identity by the annotation dev.gmsa.credentialspec too")
	return c
}

func (a *app) runtimeUninstall() *cobra.Command {
	var o runtimeOptions
	c := &cobra.Command{
		Use:   "uninstall " + engineArgument,
		Short: "Undo what install has done to an engine",
		Long: `uninstall takes back what install has changed, and nothing else: a setting that somebody
has changed since stays. It shows the difference, and asks.`,
		Example: "  gmsa runtime uninstall docker",
		RunE: func(c *cobra.Command, args []string) error {
			var h engine.Host
			p, err := h.PlanUndo(args[0])
			if err != nil {
				return planFailure(args[0], err)
			}
			return a.carryOut(c.Context(), p, o, h.Undo)
		},
	}
	o.addFlags(c)
	return c
}

func (a *app) runtimeStatus() *cobra.Command {
	var o runtimeOptions
	c := &cobra.Command{
		Use:   "status [ENGINE…]",
		Short: "Tell which engines give identities, and why others do not",
		Long: `status looks at the engines of this host, or at those that are named: whether each would
give a container its identity or else not start it. The exit code is 6 if one would
start it without.`,
		Example: "  gmsa runtime status\n  gmsa runtime status containerd -o json",
		RunE:    func(c *cobra.Command, args []string) error { return a.engineStates(c.Context(), o, args) },
	}
	c.ValidArgs, c.Args = engine.Names(), cobra.OnlyValidArgs
	addConfigFlag(c, &o.config)
	a.addOutputFlag(c)
	return c
}

// options are what the agent's configuration says of engines.
func (o *runtimeOptions) options() (engine.Options, error) {
	cfg, err := config.Load(o.config)
	if errors.Is(err, fs.ErrNotExist) && o.config == config.DefaultPath {
		cfg, err = config.Parse(nil)
	}
	if err != nil {
		return engine.Options{}, configFailure(o.config, err)
	}
	program, err := os.Executable()
	if err != nil {
		return engine.Options{}, err
	}
	e := engine.Options{Program: program, Hook: cfg.Containers.Hook, Socket: cfg.Containers.HookSocket, CDIDirectory: cfg.Containers.CDIDirectory, Pods: o.pods, Services: o.services}
	if o.shim != "" {
		if e.Shim, err = filepath.Abs(filepath.Join(o.shim, "docker")); err != nil {
			return engine.Options{}, err
		}
	}
	if e.CDIDirectory == "none" {
		e.CDIDirectory = ""
	}
	if o.config != config.DefaultPath {
		e.AgentConfig = o.config
	}
	return e, nil
}

func planFailure(name string, err error) error {
	if r, ok := errors.AsType[*engine.Refusal](err); ok {
		f := failure(Negative, r)
		f.Hints = r.Hints
		return f
	}
	if errors.Is(err, engine.ErrNoEngine) {
		return failure(NotFound, err).hint("install %s first", name)
	}
	return err
}

// carryOut shows a plan, asks, and does it.
func (a *app) carryOut(ctx context.Context, p engine.Plan, o runtimeOptions, do func(context.Context, engine.Plan) error) error {
	say := func(format string, args ...any) {
		_, _ = fmt.Fprintf(a.env.Stdout, format+"\n", args...)
	}
	for _, n := range p.Notes {
		say("note: %s", n)
	}
	if len(p.Changes) == 0 {
		say("%s: nothing to change", p.Engine)
		if o.dryRun {
			return nil
		}
		return do(ctx, p)
	}
	_, _ = io.WriteString(a.env.Stdout, p.Diff())
	if o.dryRun {
		return nil
	}
	if err := a.confirm(fmt.Sprintf("Change %d files of this host? [y/N] ", len(p.Changes)), o.yes); err != nil {
		return err
	}
	if err := do(ctx, p); err != nil {
		return err
	}
	say("%s: done", p.Engine)
	if p.Restart != "" {
		say("it takes effect with: systemctl restart %s", p.Restart)
	}
	return nil
}

// confirm asks a person, unless yes has been said.
func (a *app) confirm(question string, yes bool) error {
	if yes {
		return nil
	}
	if a.env.Prompt == nil {
		return failure(Usage, errors.New("nobody is there to be asked")).hint("add --yes, or --dry-run to look alone")
	}
	_, _ = io.WriteString(a.env.Stderr, question)
	answer, err := bufio.NewReader(a.env.Stdin).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return failure(Failed, errors.New("nothing was changed"))
	}
	return nil
}

func (a *app) engineStates(ctx context.Context, o runtimeOptions, names []string) error {
	options, err := o.options()
	if err != nil {
		return err
	}
	var h engine.Host
	if len(names) == 0 {
		if names = h.Present(ctx); len(names) == 0 {
			return failure(NotFound, errors.New("this host has no container engine that gmsa knows"))
		}
	}
	states, ready := make([]engine.State, len(names)), true
	for i, name := range names {
		if states[i], err = h.State(ctx, name, options); err != nil {
			return planFailure(name, err)
		}
		ready = ready && states[i].Ready
	}
	err = a.print(states, func(w io.Writer) error {
		rows := [][]string{{"ENGINE", "READY", "REASON"}}
		for _, s := range states {
			rows = append(rows, []string{s.Engine, yesNo(s.Ready), s.Reason})
		}
		return table(w, rows)
	})
	if err != nil || ready {
		return err
	}
	f := &Error{Code: Negative, Err: errors.New("an engine would start containers without their identity"), Shown: true}
	for _, s := range states {
		f.Hints = append(f.Hints, s.Hints...)
	}
	return f
}
