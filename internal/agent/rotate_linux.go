package agent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/lease"
)

// maxRotations bounds the commands that run at once.
const maxRotations = 8

// rotation runs on_rotate commands: from the configuration alone, as the lease's
// owner, with a clean environment and no descriptor of the agent's.
type rotation struct {
	log    *slog.Logger
	lookup func(name string) (config.Command, bool)
	queue  chan rotate
}

// rotate is one command to run.
type rotate struct {
	id      lease.ID
	command string
	owner   lease.Owner
	dir     string
}

func newRotation(log *slog.Logger, lookup func(string) (config.Command, bool)) *rotation {
	return &rotation{log: log, lookup: lookup, queue: make(chan rotate, 4096)}
}

// start has the lease's command run, without waiting for it.
func (r *rotation) start(e *entry) {
	job := rotate{e.ID, e.Options.OnRotate, e.Owner, e.dir.Path()}
	select {
	case r.queue <- job:
	default:
		r.log.Error("too many on_rotate commands wait; this one is not run", slog.String("command", job.command), slog.String("lease", job.id.String()))
	}
}

// run runs commands, some at a time, until ctx is done, and ends those that
// still run.
func (r *rotation) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range maxRotations {
		wg.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case job := <-r.queue:
					r.one(ctx, job)
				}
			}
		})
	}
	wg.Wait()
	return nil
}

func (r *rotation) one(ctx context.Context, job rotate) {
	attrs := []any{slog.String("command", job.command), slog.String("lease", job.id.String())}
	command, ok := r.lookup(job.command)
	if !ok {
		r.log.Error("the configuration has no such on_rotate command any more", attrs...)
		return
	}
	began := time.Now()
	err := runCommand(ctx, command, job.owner, job.dir)
	attrs = append(attrs, slog.Duration("took", time.Since(began)))
	if err != nil {
		r.log.Error("on_rotate command failed", append(attrs, slog.Any("error", err))...)
		return
	}
	r.log.Info("on_rotate command", attrs...)
}

// runCommand runs one command. Its output goes nowhere: it is a stranger's, and
// the log is not.
func runCommand(ctx context.Context, c config.Command, owner lease.Owner, dir string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, errors.New("timed out"))
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Command[0], c.Command[1:]...)
	cmd.Dir = "/"
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "GMSA_LEASE=" + filepath.Base(dir),
	}, lease.Env(dir)...)
	// A process group of its own, so that what it starts ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if os.Geteuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.UID, Gid: owner.GID}
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := closeOnExec(); err != nil {
		return err
	}
	err := cmd.Run()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return errors.Join(cause, err)
	}
	return err
}
