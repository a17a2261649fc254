package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/peer"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lease"
)

const (
	// drainTime is how long requests in flight may still take at the end.
	drainTime = 5 * time.Second
	// handshakeTime bounds the time from a connection to its first request.
	handshakeTime = 5 * time.Second
	// idleTime closes connections that nobody uses.
	idleTime = 5 * time.Minute
)

// Config is what an [Agent] is made of.
type Config struct {
	// Config is the agent's configuration, already validated.
	Config config.Config
	// Load reads the configuration again; nil: a reload keeps the present one.
	Load func() (config.Config, error)
	// Identities are who this host is.
	Identities Identities
	// Events is the CCG log; nil: none.
	Events *event.Log
	// Log is for the operator; nil: nowhere.
	Log *slog.Logger
	// Version of the program, for Status.
	Version string
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// SystemdUnits is where systemd links the invocations of its units; empty:
	// /run/systemd/units.
	SystemdUnits string
	// Hooks is where container runtimes' hooks call; nil: nowhere. Run closes it.
	Hooks *net.UnixListener
	// Tasks is where a launcher of tasks calls, which may be a container as root of
	// the host; nil: nowhere. Run closes it. TaskService puts what it calls there.
	Tasks       *net.UnixListener
	TaskService func(grpc.ServiceRegistrar, *Agent)
	// Publish makes container engines know these devices and no others; nil: nobody
	// is told. It is called whenever they may have changed, one call at a time.
	Publish func([]Device) error
	// Notify tells the service manager of a state, as sd_notify(3) has it; nil:
	// nobody.
	Notify func(state string)
}

// Agent is the credential guard. Make one with [New], then [Agent.Run] it once.
type Agent struct {
	cfg     Config
	log     *slog.Logger
	started time.Time
	ccg     *ccg

	root      *lease.Root
	lock      *os.File
	book      *book
	specs     *specStore
	installed *installed
	admission *admission
	rotation  *rotation

	settings  atomic.Pointer[settings]
	reloadMu  sync.Mutex
	publishMu sync.Mutex
}

// settings are everything that a reload replaces at once.
type settings struct {
	resolver
	policy policy.Policy
}

// New opens the lease directory and takes over the leases of an agent before
// this one. There must be no other agent with the same directory.
func New(cfg Config) (a *Agent, err error) {
	cfg = cfg.withDefaults()
	if err := cfg.Identities.Configure(cfg.Config); err != nil {
		return nil, fmt.Errorf("identities: %w", err)
	}
	a = &Agent{cfg: cfg, log: cfg.Log, started: cfg.Now()}
	a.use(cfg.Config)
	own, err := peer.Own()
	if err != nil {
		return nil, fmt.Errorf("own namespaces: %w", err)
	}
	a.admission = newAdmission(own, a.log, func() config.Quotas { return a.settings.Load().cfg.Quotas })
	a.ccg = &ccg{events: cfg.Events, log: a.log}
	a.rotation = newRotation(a.log, func(name string) (config.Command, bool) {
		c, ok := a.settings.Load().cfg.OnRotate[name]
		return c, ok
	})
	a.installed = &installed{path: filepath.Join(cfg.Config.StateDirectory, "installed.json"), log: a.log}
	a.specs = newSpecStore(cfg.Config.CredentialSpecs, a.log, func(s *spec) { a.event(event.SpecUnparsable(s.err)) })
	if err := a.open(); err != nil {
		return nil, err
	}
	return a, nil
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.SystemdUnits == "" {
		c.SystemdUnits = "/run/systemd/units"
	}
	if c.Notify == nil {
		c.Notify = func(string) {}
	}
	return c
}

// open opens the directory, the journal and the pool, and restores the leases.
func (a *Agent) open() (err error) {
	c := a.cfg.Config
	a.root, err = lease.Storage{Path: c.Leases.Directory, AllowSwap: c.Leases.AllowSwap, Size: c.Leases.Size}.Open()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			a.root.Close()
			a.lock.Close() // nothing if it was not taken
		}
	}()
	if a.lock, err = lockFile(a.root.File("lock")); err != nil {
		err = fmt.Errorf("lease directory %s: %w", a.root.Path(), err)
		if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOSPC) {
			err = storageFailure(err)
		}
		return err
	}
	units := c.Leases.Units
	if units == "" {
		units = filepath.Join(filepath.Dir(a.root.Path()), "units")
	}
	if err := makeUnits(units); err != nil {
		return err
	}
	watcher, err := peer.NewWatcher()
	if err != nil {
		return err
	}
	journal, leases, unreadable, err := openJournal(a.root.File("journal"))
	if err != nil {
		return errors.Join(err, watcher.Close())
	}
	if unreadable > 0 {
		a.log.Warn("lines of the journal were unreadable", slog.Int("lines", unreadable))
	}
	a.book = newBook(&book{
		root: a.root, units: units, systemd: a.cfg.SystemdUnits, journal: journal, watcher: watcher, log: a.log,
		rotated: a.rotation.start, know: a.ccg.know,
		pool: account.NewPool(account.Config{
			MaxInFlight: c.Tickets.InFlight, TicketLife: c.Tickets.DomainMaximum, Events: a.ccg, Log: a.log, Now: a.cfg.Now,
		}),
	})
	a.specs.scan()
	a.book.restore(leases, a.resolveAgain)
	return a.installed.load(func(i installation) ([]hold, error) { return a.hold(a.settings.Load(), i) })
}

// makeUnits makes the directory of the units' links and removes those that lead
// nowhere.
func makeUnits(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("directory of units: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("directory of units: %w", err)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			_ = os.Remove(path)
		}
	}
	return nil
}

// use makes a configuration the one in force.
func (a *Agent) use(c config.Config) {
	a.settings.Store(&settings{resolver: resolver{cfg: c, identities: a.cfg.Identities}, policy: policy.Policy{Rules: c.Rules, Containers: c.Containers.Rules, Tasks: c.ECS.Accounts}})
}

// resolveAgain finds the accounts of a lease of the journal under the present
// configuration and specs. A lease whose spec is gone goes on by the names of its
// accounts, but only if the host's own identity read them before: it never takes
// the place of a plug-in's, which may be another domain member with other rights.
func (a *Agent) resolveAgain(l lease.Lease) ([]target, account.Profile, error) {
	set := a.settings.Load()
	profile, err := profileOf(l.Options, set.cfg)
	if err != nil {
		return nil, account.Profile{}, err
	}
	if l.Reader != "" {
		targets, err := a.readerTargets(set, l)
		return targets, profile, err
	}
	if l.Spec != "" {
		if s := a.specs.find(l.Spec); s != nil && s.err == nil {
			targets, err := a.specTargets(set, s.parsed)
			return targets, profile, err
		}
	}
	if l.Plugin != "" {
		return nil, account.Profile{}, notFound("credential spec %q is gone or unusable, and nothing else has the input of its plug-in %s", l.Spec, l.Plugin)
	}
	var targets []target
	for _, acc := range l.Accounts {
		t, err := set.target(acc.Name, acc.Domain, nil)
		if err != nil {
			return nil, account.Profile{}, err
		}
		targets = append(targets, t)
	}
	return targets, profile, nil
}

// specTargets resolves the accounts of a credential spec, and tells the event log of
// a plug-in that is not there.
func (a *Agent) specTargets(set *settings, s credspec.Spec) ([]target, error) {
	targets, err := set.spec(s)
	if err != nil {
		a.ccg.unresolved(s, err)
	}
	return targets, err
}

// installation resolves what is installed.
func (a *Agent) installation(set *settings, i installation) ([]target, error) {
	if i.Account != "" {
		t, err := set.account(i.Account)
		return []target{t}, err
	}
	sp := a.specs.find(i.Spec)
	switch {
	case i.Spec == "":
		return nil, usage("name an account or a credential spec")
	case sp == nil:
		return nil, notFound("there is no credential spec %s", i.Spec)
	case sp.err != nil:
		return nil, specFailure(sp.err, sp.path)
	}
	return a.specTargets(set, sp.parsed)
}

// event writes to the CCG log.
func (a *Agent) event(e event.Event) { a.ccg.write(e) }

// Reload reads the configuration again and puts it in force, or changes nothing.
// The warnings name what only a restart changes.
func (a *Agent) Reload() (warnings []string, err error) {
	a.reloadMu.Lock()
	defer a.reloadMu.Unlock()
	next := a.settings.Load().cfg
	if a.cfg.Load != nil {
		if next, err = a.cfg.Load(); err != nil {
			return nil, err
		}
	}
	if err := a.cfg.Identities.Configure(next); err != nil {
		return nil, err
	}
	if a.cfg.Hooks != nil {
		if err := os.Chmod(a.cfg.Config.Containers.HookSocket, hookMode(next)); err != nil {
			return nil, fmt.Errorf("socket for hooks: %w", err)
		}
	}
	a.use(next)
	a.specs.setDirs(next.CredentialSpecs)
	a.specs.scan()
	a.follow(nil)
	a.publish()
	a.book.pool.Wake() // whoever has set the clock reloads, and need not wait until that is noticed
	a.log.Info("configuration reloaded")
	ran := a.cfg.Config // since the start
	for _, fixed := range []struct {
		name string
		same bool
	}{
		{"socket", ran.Socket == next.Socket && ran.SocketMode == next.SocketMode},
		{"containers.hook_socket, hook, cdi_directory and nri_socket", ran.Containers.HookSocket == next.Containers.HookSocket &&
			ran.Containers.NRISocket == next.Containers.NRISocket &&
			ran.Containers.Hook == next.Containers.Hook && ran.Containers.CDIDirectory == next.Containers.CDIDirectory},
		{"ecs, but accounts,", ran.ECS.Socket == next.ECS.Socket && ran.ECS.Directory == next.ECS.Directory &&
			ran.ECS.UID == next.ECS.UID && ran.ECS.GID == next.ECS.GID && ran.ECS.Mode == next.ECS.Mode},
		{"leases", ran.Leases == next.Leases},
		{"state_directory", ran.StateDirectory == next.StateDirectory},
		{"event_log", ran.EventLog == next.EventLog},
		{"tickets", ran.Tickets == next.Tickets},
	} {
		if !fixed.same {
			warnings = append(warnings, fixed.name+" changes with a restart of the agent only")
		}
	}
	return warnings, nil
}

// specsChanged follows credential specs that are new, different or gone.
func (a *Agent) specsChanged(names []string) {
	a.follow(names)
	a.publish()
}

// follow gives leases the accounts that their specs name now: those of the
// specs named, or all with nil.
func (a *Agent) follow(specs []string) {
	wanted := map[string]bool{}
	for _, name := range specs {
		wanted[name] = true
	}
	for _, e := range a.book.all() {
		if specs != nil && !wanted[e.Spec] {
			continue
		}
		targets, profile, err := a.resolveAgain(e.now())
		if err != nil {
			a.log.Error("a lease keeps its accounts as they were", slog.String("lease", e.ID.String()), slog.Any("error", err))
			continue
		}
		a.book.retarget(e, targets, profile)
	}
	a.installed.reopen(func(i installation) ([]hold, error) { return a.hold(a.settings.Load(), i) })
}

// crew are goroutines that live and end together.
type crew struct {
	stop   context.CancelCauseFunc
	failed context.CancelCauseFunc // told of the first that ends by itself
	wg     sync.WaitGroup
}

// newCrew makes a crew, and the context that ends with it alone.
func newCrew(ctx context.Context, failed context.CancelCauseFunc) (context.Context, *crew) {
	ctx, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	return ctx, &crew{stop: stop, failed: failed}
}

func (c *crew) run(ctx context.Context, name string, f func(context.Context) error) {
	c.wg.Go(func() {
		if err := f(ctx); err != nil && ctx.Err() == nil {
			c.failed(fmt.Errorf("%s: %w", name, err))
		}
	})
}

// end tells all to end and waits for them.
func (c *crew) end(cause error) {
	c.stop(cause)
	c.wg.Wait()
}

// Run serves on the listeners until ctx is done, and then ends in this order:
// no new connections, requests in flight finished, accounts and commands ended,
// the sessions with the domains closed; the leases stay as they are for the next
// agent.
func (a *Agent) Run(ctx context.Context, listeners ...net.Listener) error {
	serving, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	// The crews outlive the serving: a request in flight at the end still needs
	// its accounts, and these the sessions.
	sessions, identities := newCrew(ctx, failed)
	identities.run(sessions, "identities", a.cfg.Identities.Run)
	working, work := newCrew(ctx, failed)
	work.run(working, "accounts", a.book.pool.Run)
	work.run(working, "processes", a.book.watcher.Run)
	work.run(working, "leases", a.book.run)
	work.run(working, "credential specs", func(ctx context.Context) error { return a.specs.run(ctx, a.specsChanged) })
	work.run(working, "commands", a.rotation.run)

	if a.cfg.Hooks != nil {
		work.run(working, "hooks", func(ctx context.Context) error { return a.serveHooks(ctx, a.cfg.Hooks) })
	}
	s := grpcServer(a.admission)
	agentapi.RegisterAgentServer(s, server{a: a})
	servers := map[net.Listener]*grpc.Server{}
	for _, l := range listeners {
		servers[l] = s
	}
	if a.cfg.Tasks != nil {
		servers[a.cfg.Tasks] = a.taskServer()
	}
	for l, s := range servers {
		work.run(working, "serve on "+l.Addr().String(), func(context.Context) error { return s.Serve(l) })
	}
	a.publish()
	a.cfg.Notify("READY=1")
	<-serving.Done()
	a.cfg.Notify("STOPPING=1")

	drain(slices.Collect(maps.Values(servers)))
	cause := context.Cause(serving)
	work.end(cause)
	identities.end(cause)
	a.installed.close()
	err := errors.Join(a.book.close(), a.root.Close(), a.lock.Close())
	if ctx.Err() == nil {
		err = errors.Join(cause, err)
	}
	return err
}

// drain ends servers when their requests in flight are finished, or after drainTime.
func drain(servers []*grpc.Server) {
	timer := time.AfterFunc(drainTime, func() {
		for _, s := range servers {
			s.Stop()
		}
	})
	defer timer.Stop()
	for _, s := range servers {
		s.GracefulStop()
	}
}

func grpcServer(callers *admission) *grpc.Server {
	return grpc.NewServer(
		grpc.Creds(callers),
		grpc.UnaryInterceptor(callers.intercept),
		grpc.MaxRecvMsgSize(agentapi.MaxMessage),
		grpc.MaxSendMsgSize(agentapi.MaxMessage),
		grpc.MaxHeaderListSize(16<<10),
		grpc.StaticStreamWindowSize(agentapi.Window),
		grpc.StaticConnWindowSize(agentapi.Window),
		grpc.MaxConcurrentStreams(64),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTime}),
		grpc.ReadBufferSize(8<<10),
		// Goroutines that stay keep the stack that a request needs.
		grpc.NumStreamWorkers(uint32(4*runtime.NumCPU())),
		grpc.WriteBufferSize(8<<10),
	)
}

// close gives up what the leases hold, and leaves the leases.
func (b *book) close() error {
	for _, e := range b.all() {
		e.mu.Lock()
		closeHolds(e.holds)
		e.mu.Unlock()
	}
	return errors.Join(b.watcher.Close(), b.journal.close())
}
