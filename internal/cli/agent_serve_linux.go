package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/identity"
	"github.com/opengmsa/opengmsa/internal/event"
)

func (a *app) agentServe() *cobra.Command {
	var path string
	var debug bool
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the credential guard",
		Long: `serve guards this host until it is ended: it reads the passwords of gMSAs as the
host or through a plug-in, and gives workloads their Kerberos identity. It logs
to standard error, and what an administrator looks for to the event log, which
gmsa events prints. SIGHUP has it read its configuration again.`,
		Example: `  gmsa agent serve
  gmsa agent serve --config ./agent.yaml --socket /tmp/agent.sock`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if debug {
				level = slog.LevelDebug
			}
			log := slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: level}))
			return a.serveAgent(c.Context(), path, log)
		},
	}
	addConfigFlag(c, &path)
	c.Flags().BoolVar(&debug, "debug", false, "log more")
	return c
}

func addConfigFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", config.DefaultPath, "the agent's configuration")
}

// serveAgent wires the agent together: this is the one place where its parts
// meet.
func (a *app) serveAgent(ctx context.Context, path string, log *slog.Logger) error {
	load := func() (config.Config, error) {
		cfg, err := config.Load(path)
		if err == nil && a.socket != "" {
			cfg.Socket = a.socket
		}
		return cfg, err
	}
	cfg, err := load()
	if err != nil {
		return configFailure(path, err)
	}
	events, err := openEvents(cfg.EventLog)
	if err != nil {
		return fmt.Errorf("event log: %w", err)
	}
	defer func() { _ = events.Close() }()
	identities := identity.New(identity.Options{Log: log, Now: a.env.Now})
	err = agent.Serve(ctx, agent.Config{
		Config: cfg, Load: load, Identities: identities, Events: events, Log: log, Version: buildVersion().Version, Now: a.env.Now,
	})
	// Being told to end is how a service ends.
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func openEvents(c config.EventLog) (*event.Log, error) {
	cfg := event.Config{Path: c.Path, MaxSize: c.MaxSize, MaxFiles: c.MaxFiles, Journal: c.Journal}
	if c.Path == "none" {
		cfg.Path = ""
	}
	return event.Open(cfg)
}

func configFailure(path string, err error) error {
	f := failure(Usage, err).hint("gmsa agent check-config --config %s", path)
	if errors.Is(err, fs.ErrNotExist) {
		return failure(NotFound, err).hint("write %s; /usr/share/doc/gmsa/examples/agent.yaml is an example", path)
	}
	return f
}

func (a *app) agentCheckConfig() *cobra.Command {
	var path string
	c := &cobra.Command{
		Use:   "check-config",
		Short: "Check the agent's configuration without starting it",
		Long: `check-config reads the configuration and reports every fault at once, each with
its key. It opens nothing that the configuration names and asks no server.`,
		Example: "  gmsa agent check-config --config ./agent.yaml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := config.Load(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return configFailure(path, err)
			case err != nil:
				return failure(Negative, err)
			}
			return a.print(map[string]any{"config": path, "valid": true}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is valid: %d domains, %d plug-ins, %d rules\n", path, len(cfg.Domains), len(cfg.Plugins), len(cfg.Rules))
				return err
			})
		},
	}
	addConfigFlag(c, &path)
	a.addOutputFlag(c)
	return c
}

// platformAgent are the commands that only this platform has.
func (a *app) platformAgent() []*cobra.Command {
	return []*cobra.Command{a.agentServe(), a.agentCheckConfig()}
}
