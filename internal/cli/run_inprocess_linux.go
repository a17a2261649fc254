package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/identity"
	"github.com/opengmsa/opengmsa/internal/agent/policy"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// quiet is above every level that is logged at.
const quiet = slog.LevelError + 1

// runInProcess does the agent's work for as long as the command runs: it is an
// agent with a directory, a socket and one lease of its own, and the command
// is its child.
func (a *app) runInProcess(ctx context.Context, o runOptions, j job) (err error) {
	// Keys are in this process from here on. The command is not affected: a new
	// program starts dumpable.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("PR_SET_DUMPABLE: %w", err)
	}
	dir, err := newRunDirectory(orElse(o.leaseDir, filepath.Join(filepath.Dir(lease.DefaultPath()), "runs")), o.allowSwap)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.remove()) }()
	cfg, err := a.ownConfig(o, dir)
	if err != nil {
		return err
	}
	// Until there is a lease a failure is the command's own, which is reported.
	var level slog.LevelVar
	level.Set(quiet)
	log := slog.New(slog.NewTextHandler(a.env.Stderr, &slog.HandlerOptions{Level: &level}))
	ac := agent.Config{
		Config: cfg, Log: log, Now: a.env.Now, Version: buildVersion().Version,
		Identities: identity.New(identity.Options{Log: log, Now: a.env.Now}),
	}
	if events, err := a.openEvents(cfg.EventLog); err == nil { // an ordinary user may have none
		ac.Events = events
		defer func() { _ = events.Close() }()
	}
	guard, err := agent.New(ac)
	if err != nil {
		return err
	}
	listener, err := agent.Listen(cfg)
	if err != nil {
		return err
	}
	return a.whileServing(ctx, guard, listener, func(ctx context.Context) error {
		inner := *a
		inner.socket = cfg.Socket
		l, err := inner.leaseForSelf(ctx, o, j)
		if err != nil {
			return err
		}
		j.env = setEnv(j.env, l.GetEnvironment())
		level.Set(slog.LevelWarn)
		err = j.child(a.env)
		level.Set(quiet)
		removeErr := inner.withAgent(context.WithoutCancel(ctx), func(ctx context.Context, client *agentapi.Client) error {
			_, err := client.RemoveLease(ctx, &agentapi.RemoveLeaseRequest{Which: &agentapi.RemoveLeaseRequest_Id{Id: l.GetId()}})
			return err
		})
		return errors.Join(err, removeErr)
	})
}

// whileServing runs f beside the agent. The end of ctx, an interrupt, ends the
// waiting for a lease; but it is the command that ends the agent.
func (a *app) whileServing(ctx context.Context, guard *agent.Agent, l net.Listener, f func(context.Context) error) error {
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- guard.Run(serving, l) }()
	err := f(ctx)
	stop()
	return errors.Join(err, <-ended)
}

// runPatience is how long somebody at a terminal waits for a domain that does not
// answer; an agent has the patience of a boot.
const runPatience = 20 * time.Second

// ownConfig is the host's configuration, changed so that this user may lease
// here what the domain lets the host read.
func (a *app) ownConfig(o runOptions, dir *runDirectory) (config.Config, error) {
	host := o.host
	if host.user != "" && host.keytab == "" && (host.passwordFile == "" || host.passwordFile == "-") {
		password, err := a.passwordFrom(host.passwordFile, fmt.Sprintf("Password of %s: ", printable(host.user)))
		if err != nil {
			return config.Config{}, err
		}
		host.passwordFile = dir.file("password") // in memory, like the lease
		if err := os.WriteFile(host.passwordFile, password.Reveal(), 0o600); err != nil {
			return config.Config{}, err
		}
	}
	inner := *a
	inner.socket = dir.file("agent.sock")
	cfg, err := inner.agentConfig(config.DefaultPath, &host, o.allowSwap)
	if err != nil {
		return config.Config{}, err
	}
	for name, d := range cfg.Domains {
		if d.Host != nil && d.Host.Keytab != "" {
			host := *d.Host
			host.RotatePassword = config.RotateNever // not the business of one command
			d.Host = &host
			cfg.Domains[name] = d
		}
	}
	cfg.SocketMode = 0o600
	cfg.Quotas.RequestTimeout = runPatience
	cfg.RawCredentialSpecs = true
	cfg.StateDirectory = dir.file("state")
	cfg.Leases.Directory, cfg.Leases.Units = dir.file("leases"), dir.file("units")
	cfg.Rules = []policy.Rule{{
		Name: "gmsa run", Users: []uint32{uint32(os.Getuid())}, Accounts: []string{"*"}, CredentialSpecs: []string{"*"}, Keytab: true,
	}}
	return cfg, cfg.Validate()
}

// runDirectory is where one gmsa run without an agent keeps its lease: on
// storage as safe as an agent's, beside an agent's.
type runDirectory struct {
	path string
	lock *os.File // locked for as long as the directory is in use
}

// newRunDirectory makes a directory below base, and removes those that were left behind
// by processes that were killed.
func newRunDirectory(base string, allowSwap bool) (*runDirectory, error) {
	root, err := lease.Storage{Path: base, AllowSwap: allowSwap}.Open()
	if errors.Is(err, lease.ErrSwap) || errors.Is(err, lease.ErrDisk) {
		return nil, failure(Failed, err).hint("as root it mounts what it needs; else --allow-swap accepts a tmpfs that may be swapped to a disk")
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = root.Close() }()
	guard, err := lockExclusive(root.File(".lock"), unix.LOCK_EX)
	if err != nil {
		return nil, err
	}
	defer func() { _ = guard.Close() }()
	sweepRuns(base)
	d := &runDirectory{path: filepath.Join(base, strconv.Itoa(os.Getpid()))}
	if err := os.Mkdir(d.path, 0o711); err != nil {
		return nil, err
	}
	if err := os.Chmod(d.path, 0o711); err != nil { // whatever the umask
		return nil, err
	}
	if d.lock, err = lockExclusive(d.file("lock"), unix.LOCK_EX); err != nil {
		return nil, err
	}
	return d, os.Mkdir(d.file("state"), 0o700)
}

// sweepRuns removes the directories that nobody holds the lock of.
func sweepRuns(base string) {
	entries, _ := os.ReadDir(base)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(base, e.Name())
		lock, err := lockExclusive(filepath.Join(dir, "lock"), unix.LOCK_EX|unix.LOCK_NB)
		if errors.Is(err, unix.EWOULDBLOCK) {
			continue
		}
		_ = os.RemoveAll(dir)
		if err == nil {
			_ = lock.Close()
		}
	}
}

func lockExclusive(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

func (d *runDirectory) file(name string) string { return filepath.Join(d.path, name) }

func (d *runDirectory) remove() error {
	return errors.Join(os.RemoveAll(d.path), d.lock.Close())
}

// child runs the command and passes signals to it. Its exit status is the
// result; one that a signal ended has 128 and the signal's number.
func (j job) child(env Env) error {
	// The kernel sends the child its signal when the thread that started it
	// ends, so that thread must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := &exec.Cmd{
		Path: j.path, Args: j.argv, Env: j.env, Stdin: env.Stdin, Stdout: env.Stdout, Stderr: env.Stderr,
		SysProcAttr: &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM},
	}
	if j.switches {
		groups := make([]uint32, len(j.groups))
		for i, g := range j.groups {
			groups[i] = uint32(g)
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: j.uid, Gid: j.gid, Groups: groups}
	}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2, unix.SIGALRM, unix.SIGINT, unix.SIGQUIT)
	defer signal.Stop(signals)
	stdin, ok := env.Stdin.(*os.File)
	terminal := ok && term.IsTerminal(int(stdin.Fd()))
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("command %s: %w", j.path, err)
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-signals:
				// What is typed at a terminal reaches the child directly, being in
				// the same process group: passed on it would come twice.
				if !terminal || s != unix.SIGINT && s != unix.SIGQUIT {
					_ = cmd.Process.Signal(s)
				}
			case <-done:
				return
			}
		}
	}()
	return exitStatus(cmd.Wait())
}

// exitStatus turns the end of the command into our own.
func exitStatus(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	code := exit.ExitCode()
	if status, ok := exit.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	return &Error{Code: Code(code), Err: err, Shown: true}
}
