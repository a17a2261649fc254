package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/identity"
	"github.com/opengmsa/opengmsa/internal/deliver/cdi"
	"github.com/opengmsa/opengmsa/internal/deliver/ecs"
	"github.com/opengmsa/opengmsa/internal/deliver/nri"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// serveOptions are the flags of gmsa agent serve.
type serveOptions struct {
	config    string
	debug     bool
	allowSwap bool
	host      domainOptions
}

func (a *app) agentServe() *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the credential guard",
		Long: `serve guards this host until it is ended: it reads the passwords of gMSAs as the
host or through a plug-in, and gives workloads their Kerberos identity. It logs
to standard error, and what an administrator looks for to the event log, which
gmsa events prints. SIGHUP has it read its configuration again.

Without a configuration the host is the computer account in ` + hostKeytab + `,
or whom --keytab or -U with --password-file names.`,
		Example: `  gmsa agent serve
  gmsa agent serve --config ./agent.yaml --socket /tmp/agent.sock
  gmsa agent serve --domain contoso.com -U gmsareader --password-file /etc/gmsa/reader.password`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			level := slog.LevelInfo
			if o.debug {
				level = slog.LevelDebug
			}
			log := slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: level}))
			return a.serveAgent(c.Context(), o, log)
		},
	}
	addConfigFlag(c, &o.config)
	c.Flags().BoolVar(&o.debug, "debug", false, "log more")
	o.host.addHostFlags(c)
	addSwapFlag(c, &o.allowSwap)
	return c
}

func addSwapFlag(c *cobra.Command, allow *bool) {
	c.Flags().BoolVar(allow, "allow-swap", false, "accept lease storage that may be swapped to a disk")
}

func addConfigFlag(c *cobra.Command, path *string) {
	c.Flags().StringVar(path, "config", config.DefaultPath, "the agent's configuration")
}

// serveAgent wires the agent together: this is the one place where its parts
// meet.
func (a *app) serveAgent(ctx context.Context, o serveOptions, log *slog.Logger) error {
	if o.host.user != "" && o.host.keytab == "" && (o.host.passwordFile == "" || o.host.passwordFile == "-") {
		return failure(Usage, errors.New("the agent reads the password again and again, and so from a file")).hint("add --password-file FILE")
	}
	load := func() (config.Config, error) { return a.agentConfig(o.config, &o.host, o.allowSwap) }
	cfg, err := load()
	if err != nil {
		return err
	}
	events, err := a.openEvents(cfg.EventLog)
	if err != nil {
		return fmt.Errorf("event log: %w", err)
	}
	defer func() { _ = events.Close() }()
	engines := pods(ctx, cfg.Containers, log)
	defer engines()
	identities := identity.New(identity.Options{Log: log, Now: a.env.Now})
	err = agent.Serve(ctx, agent.Config{
		Config: cfg, Load: load, Identities: identities, Events: events, Log: log, Version: buildVersion().Version, Now: a.env.Now,
		Publish: publisher(cfg.Containers), TaskService: taskService(cfg.ECS, log),
	})
	// Being told to end is how a service ends.
	if errors.Is(err, context.Canceled) {
		return nil
	}
	if errors.Is(err, agent.ErrRunning) {
		return failure(Failed, err).hint("gmsa agent status")
	}
	return err
}

// taskService is what the Amazon ECS agent calls.
func taskService(c config.ECS, log *slog.Logger) func(grpc.ServiceRegistrar, *agent.Agent) {
	return func(r grpc.ServiceRegistrar, a *agent.Agent) {
		s := ecs.Server{Guard: a, Directory: c.Directory, Owner: lease.Owner{UID: c.UID, GID: c.GID, Mode: fs.FileMode(c.Mode)}}
		if err := s.Sweep(); err != nil {
			log.Error("directories of ECS", slog.Any("error", err))
		}
		ecs.RegisterCredentialsFetcherServiceServer(r, s)
	}
}

// pods gives pods their identity by an annotation, until the function that it returns is
// called.
func pods(ctx context.Context, c config.Containers, log *slog.Logger) (stop func()) {
	if c.NRISocket == "none" || os.Geteuid() != 0 {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&nri.Plugin{Socket: c.NRISocket, Hook: c.Hook, HookSocket: c.HookSocket, Log: log}).Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// publisher writes the devices of containers where the engines look for them.
func publisher(c config.Containers) func([]agent.Device) error {
	if c.CDIDirectory == "none" || os.Geteuid() != 0 {
		return nil
	}
	file := cdi.File{Directory: c.CDIDirectory, Hook: c.Hook, Socket: c.HookSocket}
	return func(devices []agent.Device) error {
		list := make([]cdi.Device, len(devices))
		for i, d := range devices {
			list[i] = cdi.Device(d)
		}
		return file.Write(list)
	}
}

// openEvents opens the CCG log, and makes its directory.
func (a *app) openEvents(c config.EventLog) (*event.Log, error) {
	cfg := event.Config{Path: c.Path, MaxSize: c.MaxSize, MaxFiles: c.MaxFiles, Journal: c.Journal, Now: a.env.Now}
	if c.Path == "none" {
		cfg.Path = ""
	}
	if cfg.Path != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o750); err != nil {
			return nil, err
		}
	}
	return event.Open(cfg)
}

func configFailure(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return failure(NotFound, err).hint("write %s; /usr/share/doc/gmsa/examples/agent.yaml is an example", path)
	case errors.Is(err, fs.ErrPermission):
		return err
	}
	return failure(Usage, err).hint("gmsa agent check-config --config %s", path)
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

// agentConfig is the configuration of an agent of this host: the file, if there
// is one, and what the options say about the host's identity.
func (a *app) agentConfig(path string, host *domainOptions, allowSwap bool) (config.Config, error) {
	cfg, err := config.Load(path)
	if errors.Is(err, fs.ErrNotExist) && path == config.DefaultPath {
		cfg, err = config.Parse(nil)
	}
	if err != nil {
		return config.Config{}, configFailure(path, err)
	}
	if a.socket != "" {
		if cfg.Socket, err = filepath.Abs(a.socket); err != nil {
			return config.Config{}, err
		}
	}
	cfg.Leases.AllowSwap = cfg.Leases.AllowSwap || allowSwap
	if err := a.addHost(&cfg, host); err != nil {
		return config.Config{}, err
	}
	return cfg, cfg.Validate()
}

// addHost puts the identity that the options name into the configuration; or,
// into one without any domain, that of the host's keytab.
func (a *app) addHost(cfg *config.Config, o *domainOptions) error {
	if o.isZero() && len(cfg.Domains) > 0 {
		return nil
	}
	name, host, err := hostOf(o)
	if err != nil {
		return err
	}
	if name == "" {
		return failure(Usage, errors.New("which domain?")).hint("add --domain NAME")
	}
	if cfg.Domains == nil {
		cfg.Domains = map[string]config.Domain{}
	}
	d, known := cfg.Domains[name]
	if !known {
		label, _, _ := strings.Cut(name, ".")
		d = config.Domain{
			Realm: strings.ToUpper(name), NetBIOS: strings.ToUpper(label[:min(len(label), 15)]), Protection: config.ProtectionSPNEGO,
		}
	}
	if host != nil {
		d.Host = host
	}
	if len(o.controllers) > 0 {
		d.Servers = o.controllers
	}
	cfg.Domains[name] = d
	return nil
}

// hostOf is the domain and the identity that the options name. The identity is
// nil when they name a domain or a controller alone.
func hostOf(o *domainOptions) (domain string, host *config.Host, err error) {
	domain = strings.ToLower(o.domain)
	switch {
	case o.user != "" && o.keytab == "":
		user, suffix, ok := strings.Cut(o.user, "@")
		if domain == "" && ok {
			domain = strings.ToLower(suffix)
		}
		if !ok || strings.EqualFold(suffix, domain) {
			return domain, &config.Host{User: user, PasswordFile: o.passwordFile}, nil
		}
		return domain, &config.Host{User: o.user, PasswordFile: o.passwordFile}, nil
	case o.keytab == "" && domain != "" && len(o.controllers) > 0:
		return domain, nil, nil
	}
	path := orElse(o.keytab, hostKeytab)
	b, err := readLimited(path, keytab.MaxSize)
	if err != nil {
		return "", nil, failure(codeOf(err), fmt.Errorf("this host has no identity: %w", err)).
			hint("join it to the domain (adcli join, realm join), or name an account that may read the password: --domain NAME -U USER --password-file FILE")
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	p, err := pickPrincipal(kt, o.user)
	if err != nil {
		return "", nil, failure(NotFound, fmt.Errorf("%s: %w", path, err))
	}
	if domain == "" {
		domain = strings.ToLower(p.Realm)
	}
	return domain, &config.Host{Keytab: path, Principal: p.Name.String(), RotatePassword: config.RotateAuto}, nil
}
