package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/deliver/docker"
)

// dockerOptions are gmsa's own options in front of a command line of docker.
type dockerOptions struct {
	config string
	dryRun bool
	target string
}

// docker runs Docker's client.
func (a *app) docker() *cobra.Command {
	var o dockerOptions
	c := &cobra.Command{
		Use:   "docker [--dry-run] [--target ENGINE] [--] COMMAND [ARGUMENT…]",
		Short: "Run docker, with its own words for credential specs",
		Long: `docker runs Docker's client with its arguments. Words for credential specs, which an engine
on Linux refuses, are said in a way that it takes: a device of CDI, or where it knows none
the runtime gmsa. Those words are

  --security-opt credentialspec={file|registry|raw}://…   of run and create
  --credential-spec {file|registry|config}://…            of service create and update
  credential_spec and security_opt                        of Compose files
  --user "NT AUTHORITY\NETWORK SERVICE"                   also of exec

Everything else is the client's as it is, and so is everything for an engine on Windows.`,
		Example: `  gmsa docker run --security-opt credentialspec=file://contoso_webapp01.json app
  gmsa docker --dry-run run --security-opt credentialspec=file://contoso_webapp01.json app
  gmsa docker compose up --detach`,
		DisableFlagParsing: true, // all behind our own options is Docker's
		RunE: func(c *cobra.Command, args []string) error {
			args, help, err := o.take(c, args)
			if err != nil {
				return failure(Usage, err)
			}
			if help {
				return c.Help()
			}
			return a.runDocker(c.Context(), o, args)
		},
	}
	// Docker has a --config of its own.
	c.Flags().StringVar(&o.config, "agent-config", config.DefaultPath, "the agent's configuration")
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "print the client's command line, and run nothing")
	c.Flags().StringVar(&o.target, "target", "auto", "what the engine is, instead of asking it: linux, windows or windows-2016")
	return c
}

// take reads our own options, up to the first argument that is Docker's.
func (o *dockerOptions) take(c *cobra.Command, args []string) (rest []string, help bool, err error) {
	i := 0
	for i < len(args) && args[i] != "--" {
		name, _, joined := strings.Cut(strings.TrimPrefix(args[i], "--"), "=")
		if args[i] == "--help" || args[i] == "-h" {
			return nil, true, nil
		}
		f := c.Flags().Lookup(name)
		if f == nil || !strings.HasPrefix(args[i], "--") {
			break
		}
		i++
		if !joined && f.NoOptDefVal == "" {
			i++
		}
	}
	i = min(i, len(args))
	c.DisableFlagParsing = false
	if err := c.ParseFlags(args[:i]); err != nil {
		return nil, false, err
	}
	if rest = args[i:]; len(rest) > 0 && rest[0] == "--" {
		rest = rest[1:]
	}
	return rest, false, nil
}

// engines are those of --target.
var engines = map[string]docker.Engine{
	"linux":        {CDI: true},
	"windows":      {Windows: true, Build: 20348},
	"windows-2016": {Windows: true, Build: 14393},
}

func (a *app) runDocker(ctx context.Context, o dockerOptions, args []string) error {
	t := a.dockerTranslator(o, args)
	client := "docker"
	if e, ok := engines[o.target]; ok {
		t.Ask = func(context.Context, []string) (docker.Engine, error) { return e, nil }
	} else if o.target != "auto" {
		return failure(Usage, fmt.Errorf("--target %q: want auto, linux, windows or windows-2016", o.target))
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	if t.Ask == nil || !o.dryRun {
		if client, err = docker.Client(a.env.Getenv("PATH"), self); err != nil {
			return failure(NotFound, err)
		}
	}
	if t.Ask == nil {
		t.Ask = func(ctx context.Context, global []string) (docker.Engine, error) {
			return docker.Ask(ctx, client, global)
		}
	}
	p, err := t.Translate(ctx, args)
	if err != nil {
		return a.dockerFailure(err)
	}
	for _, w := range p.Warnings {
		a.warn(w)
	}
	if o.dryRun {
		return printDocker(a.env.Stdout, p)
	}
	return a.execDocker(client, p)
}

// dockerTranslator has what the agent's configuration says, where the user may read it.
func (a *app) dockerTranslator(o dockerOptions, args []string) docker.Translator {
	cfg, err := config.Load(o.config)
	if err != nil {
		cfg = config.Default()
	}
	dir, err := os.Getwd()
	if err != nil {
		dir = "/"
	}
	t := docker.Translator{
		Specs:          docker.Specs{Directories: cfg.CredentialSpecs, Remote: docker.Remote(args, a.env.Getenv)},
		NetworkService: cfg.Containers.NetworkService, Directory: dir, Getenv: a.env.Getenv,
	}
	if dir := a.env.Getenv(specDirVariable); dir != "" {
		t.Specs.Directories = slices.Insert(slices.Clone(t.Specs.Directories), 0, dir)
	}
	return t
}

// dockerFailure says what the engine would have said, with Docker's own exit code.
func (a *app) dockerFailure(err error) error {
	e, ok := errors.AsType[*docker.Error](err)
	if !ok {
		return err
	}
	_, _ = fmt.Fprintf(a.env.Stderr, "docker: %s.\n", oneLine(e.Error()))
	return &Error{Code: Code(e.Status), Err: e, Hints: e.Hints, Shown: true}
}

// printDocker shows a command line as a shell would take it, and the files that it names.
func printDocker(w io.Writer, p docker.Plan) error {
	words := []string{"docker"}
	for _, arg := range p.Args {
		words = append(words, quoteWord(strings.TrimPrefix(arg, "\x00")))
	}
	if _, err := fmt.Fprintln(w, strings.Join(words, " ")); err != nil {
		return err
	}
	for _, f := range p.Files {
		if _, err := fmt.Fprintf(w, "\n# %s\n%s", strings.TrimPrefix(f.Name, "\x00"), f.Text); err != nil {
			return err
		}
	}
	return nil
}

// quoteWord is a word of a shell's.
func quoteWord(s string) string {
	plain := func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || strings.ContainsRune("_-./:=,@%+", r))
	}
	if s != "" && !strings.ContainsFunc(s, plain) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// dockerDepth counts how often this program has started a docker that started it: a shim
// of somebody else's may lead back here.
const (
	dockerDepth    = "GMSA_DOCKER_DEPTH"
	maxDockerDepth = 16
)

// execDocker becomes the client or, where files have to be removed after it, runs it.
func (a *app) execDocker(client string, p docker.Plan) error {
	depth, _ := strconv.Atoi(a.env.Getenv(dockerDepth))
	if depth >= maxDockerDepth {
		return failure(Failed, fmt.Errorf("%s leads back to gmsa docker", client)).hint("take it out of PATH, or have it start Docker's client by its path")
	}
	j := job{path: client, argv: append([]string{"docker"}, p.Args...), env: append(slices.Clone(a.env.Environ), fmt.Sprintf("%s=%d", dockerDepth, depth+1))}
	if len(p.Files) == 0 && runtime.GOOS != "windows" {
		return j.exec()
	}
	dir, err := os.MkdirTemp("", "gmsa-compose-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	for _, f := range p.Files {
		path := filepath.Join(dir, strings.TrimPrefix(f.Name, "\x00"))
		if err := os.WriteFile(path, f.Text, 0o600); err != nil {
			return err
		}
		for i, arg := range j.argv {
			if arg == f.Name {
				j.argv[i] = path
			}
		}
	}
	return j.wait()
}

// wait runs the command to its end, on our own standard streams. The terminal tells both
// of an interrupt; what somebody sends to us alone is passed on.
func (j job) wait() error {
	cmd := exec.Command(j.path)
	cmd.Args, cmd.Env = j.argv, j.env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer close(signals)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() {
		for s := range signals {
			if s == syscall.SIGTERM {
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	err := cmd.Wait()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return &Error{Code: Code(max(e.ExitCode(), 1)), Err: err, Shown: true}
	}
	return err
}
