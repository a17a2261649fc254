package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/opengmsa/opengmsa/internal/agent/config"
)

// Serve is the whole life of the agent as a service: it hardens the process,
// listens (on systemd's sockets, if it was given some), reloads at SIGHUP, and
// tells the service manager how it is, until ctx is done.
func Serve(ctx context.Context, cfg Config) error {
	if err := Harden(); err != nil {
		return err
	}
	listeners, err := listeners(cfg)
	if err != nil {
		return err
	}
	if cfg.Notify == nil {
		cfg.Notify = notify
	}
	if cfg.Hooks, err = listenHooks(cfg.Config); err != nil {
		closeListeners(listeners)
		return err
	}
	if cfg.Config.ECS.Socket != "" {
		if cfg.Tasks, err = ListenTasks(cfg.Config); err != nil {
			closeListeners(append(listeners, cfg.Hooks))
			return err
		}
	}
	a, err := New(cfg)
	if err != nil {
		closeListeners(append(listeners, cfg.Hooks, cfg.Tasks))
		return err
	}
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, unix.SIGHUP)
	defer signal.Stop(hup)
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx, listeners...) }()
	for {
		select {
		case err := <-ended:
			return err
		case <-hup:
			a.reloadAtSignal()
		}
	}
}

// listenHooks opens the socket of the runtimes' hooks. An agent that is not root's has none: it
// can mount nothing.
func listenHooks(c config.Config) (*net.UnixListener, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	return ListenHooks(c)
}

func closeListeners(list []net.Listener) {
	for _, l := range list {
		l.Close()
	}
}

// listeners are systemd's, or one of our own.
func listeners(cfg Config) ([]net.Listener, error) {
	given, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("sockets of systemd: %w", err)
	}
	if len(given) > 0 {
		return given, nil
	}
	l, err := Listen(cfg.Config)
	if err != nil {
		return nil, err
	}
	return []net.Listener{l}, nil
}

// reloadAtSignal reloads as systemd's Type=notify-reload wants it.
func (a *Agent) reloadAtSignal() {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err == nil {
		a.cfg.Notify(fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", time.Duration(now.Nano()).Microseconds()))
	}
	warnings, err := a.Reload()
	if err != nil {
		a.log.Error("the new configuration is not used", slog.Any("error", err))
	}
	if len(warnings) > 0 {
		a.log.Warn("reloaded", slog.String("warnings", strings.Join(warnings, "; ")))
	}
	a.cfg.Notify("READY=1")
}

// notify is sd_notify(3); without a service manager it does nothing.
func notify(state string) { _, _ = daemon.SdNotify(false, state) }
