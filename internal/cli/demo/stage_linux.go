package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The files of a demo that others read.
const (
	envFile   = "env"
	clockFile = "clock"
)

// stage is where a story happens: a directory, programs that run, and the narrator.
type stage struct {
	narrator
	cfg    Config
	report Report
	clock  *Clock

	dir, leases string // on a disk, and in memory
	env         []string
	controller  string // its LDAP, host:port
	runtime     string // of the container; empty without one
	daemons     []*daemon
}

// daemon is a program that runs until the end.
type daemon struct {
	name, log string
	cmd       *exec.Cmd
	ended     chan struct{} // closed when it has
}

// maxDir bounds the path of a demo's directory, in bytes: below it lie sockets, whose paths
// have 107 at most (unix(7)).
const maxDir = 88

// newStage makes the directories of a demo.
func newStage(cfg Config) (s *stage, err error) {
	s = &stage{narrator: narrator{out: cfg.Out, colour: cfg.Colour}, cfg: cfg}
	if s.dir, err = makeDir(); err != nil {
		return nil, err
	}
	if s.leases, err = os.MkdirTemp(memory(cfg.Environ), "gmsa-demo-"); err != nil {
		return nil, errors.Join(err, s.close())
	}
	if strings.ContainsAny(s.dir, " \t\n'\"\\$`") || len(s.dir) > maxDir {
		err := fmt.Errorf("directory %q: its path must be short and without blanks and quotes, for sockets and scripts", s.dir)
		return nil, errors.Join(&hintedError{err, "name another one: TMPDIR=DIR gmsa demo"}, s.close())
	}
	if err := s.furnish(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// makeDir makes a directory where temporary files go, or else where the caller is.
func makeDir() (string, error) {
	dir, err := os.MkdirTemp("", "gmsa-demo-")
	if err == nil {
		return dir, nil
	}
	here, hereErr := os.Getwd()
	if hereErr == nil {
		dir, hereErr = os.MkdirTemp(here, "gmsa-demo-")
	}
	if hereErr != nil {
		return "", &hintedError{errors.Join(err, hereErr), "name a directory that you may write to: TMPDIR=DIR gmsa demo"}
	}
	return dir, nil
}

// hintedError is an error with what to do next.
type hintedError struct {
	error
	hint string
}

// Unwrap is the cause, and Hint what to do next.
func (e *hintedError) Unwrap() error { return e.error }
func (e *hintedError) Hint() string  { return e.hint }

// memory is a directory on tmpfs of the user's own, or one that all share.
func memory(environ []string) string {
	for _, e := range environ {
		if dir, ok := strings.CutPrefix(e, "XDG_RUNTIME_DIR="); ok && filepath.IsAbs(dir) {
			if info, err := os.Stat(dir); err == nil && info.IsDir() && syscall.Access(dir, 2) == nil {
				return dir
			}
		}
	}
	return "/dev/shm"
}

// furnish makes gmsa as the demo runs it, and the environment that commands have.
func (s *stage) furnish() error {
	bin := filepath.Join(s.dir, "bin")
	err := errors.Join(os.Mkdir(bin, 0o755), os.Mkdir(filepath.Join(s.dir, "credentialspecs"), 0o755),
		os.Symlink(s.cfg.Program, filepath.Join(s.dir, "program")),
		os.WriteFile(filepath.Join(bin, "gmsa"), Script(filepath.Join(s.dir, "program"), filepath.Join(s.dir, clockFile)), 0o755))
	if err != nil {
		return err
	}
	own := [][2]string{
		{"KRB5_CONFIG", filepath.Join(s.dir, "dc", "krb5.conf")}, {"GMSA_SOCKET", filepath.Join(s.dir, "agent.sock")},
		{"KRB5CCNAME", "FILE:" + filepath.Join(s.dir, "ccache")},
	}
	s.env = slices.DeleteFunc(slices.Clone(s.cfg.Environ), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains([]string{"PATH", "KRB5_KTNAME", "KRB5_CLIENT_KTNAME", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}, name)
	})
	var file strings.Builder
	fmt.Fprintf(&file, "# For the shell of another terminal: . %s\n", filepath.Join(s.dir, envFile))
	for _, v := range own {
		s.env = append(s.env, v[0]+"="+v[1])
		fmt.Fprintf(&file, "export %s=%s\n", v[0], v[1])
	}
	// The directories of an administrator come last: runc is often in one of them.
	s.env = append(s.env, "PATH="+bin+":"+getenv(s.cfg.Environ, "PATH")+":/usr/sbin:/sbin")
	fmt.Fprintf(&file, "export PATH=%s:$PATH:/usr/sbin:/sbin\ncd %s\n", bin, s.dir)
	return os.WriteFile(filepath.Join(s.dir, envFile), []byte(file.String()), 0o644)
}

func getenv(environ []string, name string) string {
	for _, e := range slices.Backward(environ) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v
		}
	}
	return ""
}

// step makes one step and reports it.
func (s *stage) step(title, what string, do func() error) error {
	step := &Step{Title: title, What: strings.Join(strings.Fields(what), " ")}
	s.report.Steps = append(s.report.Steps, step)
	s.narrator.step(len(s.report.Steps), step)
	start := time.Now()
	err := do()
	step.OK, step.Seconds = err == nil, seconds(start)
	if s.clock != nil {
		step.Time = s.clock.Now().UTC().Truncate(time.Second)
	}
	if err != nil {
		step.Error = err.Error()
		err = &StepError{Number: len(s.report.Steps), Title: title, Err: err}
	}
	s.narrator.end(step)
	return err
}

// StepError is a step that was not made.
type StepError struct {
	Number int
	Title  string
	Err    error
}

// Error names the step and the cause.
func (e *StepError) Error() string {
	return fmt.Sprintf("step %d (%s): %v", e.Number, strings.ToLower(e.Title[:1])+e.Title[1:], e.Err)
}

// Unwrap is the cause.
func (e *StepError) Unwrap() error { return e.Err }

// Hint is what to do next.
func (e *StepError) Hint() string { return "look at it as it is then: gmsa demo --keep" }

// tell adds a command to the step and says that it runs.
func (s *stage) tell(c *Command) *Command {
	step := s.report.Steps[len(s.report.Steps)-1]
	step.Commands = append(step.Commands, c)
	s.narrator.command(c)
	return c
}

// answered tells what a command printed.
func (s *stage) answered(c *Command, output string) {
	c.Output = strings.TrimRight(output, "\n")
	s.narrator.output(c.Output)
}

// write writes a file, for its owner alone.
func (s *stage) write(name, text string) error {
	return os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600)
}

// showFile shows a file that was written in place of an administrator.
func (s *stage) showFile(name, text string) {
	s.tell(&Command{File: name, Output: text})
}

// command is a program of the stage, not yet started, in a process group of its own: what
// is typed at the terminal, Ctrl-C, is for the demo, which ends the others in their order.
func (s *stage) command(ctx context.Context, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.lookPath(args[0]), args[1:]...)
	cmd.Args[0], cmd.Env, cmd.Dir = args[0], s.env, s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = endTime
	return cmd
}

// EndWithParent has the kernel end this process when its parent is killed. Programs that
// the demo starts have that from it, but not what gmsa run becomes: the setting is a
// thread's, and the thread that becomes the new program is another one.
func EndWithParent() error {
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0)
}

// endTime is how long a program may take to end before it is killed.
const endTime = 5 * time.Second

// lookPath finds a program as a shell with the stage's PATH does.
func (s *stage) lookPath(name string) string {
	for _, dir := range filepath.SplitList(getenv(s.env, "PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path
		}
	}
	return name
}

// silent runs a command and returns what it printed.
func (s *stage) silent(ctx context.Context, args ...string) (string, error) {
	out, err := s.command(ctx, args).CombinedOutput()
	if ctx.Err() != nil {
		return string(out), context.Cause(ctx)
	}
	if err != nil {
		return string(out), fmt.Errorf("%s: %w%s", line(args), err, lastLines(string(out)))
	}
	return string(out), nil
}

// view is what the story looks at of a command's output.
type view struct {
	want  []string // it fails without these
	lines []string // only lines with one of these are shown; nil: all
}

// of is the part of the output that is shown.
func (v view) of(out string) string {
	if v.lines == nil {
		return out
	}
	var b strings.Builder
	gap := false
	for l := range strings.Lines(out) {
		shown := slices.ContainsFunc(v.lines, func(part string) bool { return strings.Contains(l, part) })
		switch {
		case shown:
			b.WriteString(l)
		case !gap:
			b.WriteString("…\n")
		}
		gap = !shown
	}
	return b.String()
}

// run runs a command, tells of it, and fails if its output has not all that is wanted.
func (s *stage) run(ctx context.Context, v view, args ...string) (string, error) {
	c := s.tell(&Command{Line: line(args)})
	out, err := s.silent(ctx, args...)
	if err != nil {
		s.answered(c, out)
		return out, err
	}
	s.answered(c, v.of(out))
	for _, text := range v.want {
		if !strings.Contains(out, text) {
			return out, fmt.Errorf("%s: its answer has no %q", line(args), text)
		}
	}
	return out, nil
}

// start starts a program that runs until the end, and waits until it has printed a text.
func (s *stage) start(ctx context.Context, name, ready string, args ...string) error {
	c := s.tell(&Command{Line: line(args) + " &"})
	d := &daemon{name: name, log: filepath.Join(s.dir, name+".log"), ended: make(chan struct{})}
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	d.cmd = s.command(context.WithoutCancel(ctx), args)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	if err := d.cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", line(args), err)
	}
	go func() { _ = d.cmd.Wait(); close(d.ended) }()
	s.daemons = append(s.daemons, d)
	err = s.eventually(ctx, func() error {
		select {
		case <-d.ended:
			return errEnded
		default:
		}
		if !strings.Contains(s.log(name), ready) {
			return fmt.Errorf("it has not said %q", ready)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w%s", line(args), err, lastLines(s.log(name)))
	}
	s.answered(c, s.log(name))
	return nil
}

// errEnded: a program that should run has ended.
var errEnded = errors.New("it has ended")

// patience is how long something may take that should take milliseconds.
const patience = 20 * time.Second

// eventually calls check until it succeeds.
func (s *stage) eventually(ctx context.Context, check func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil || errors.Is(err, errEnded) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// pid is the process of a daemon.
func (s *stage) pid(name string) int {
	for _, d := range s.daemons {
		if d.name == name {
			return d.cmd.Process.Pid
		}
	}
	return 0
}

// log is what a daemon has printed so far.
func (s *stage) log(name string) string {
	b, err := os.ReadFile(filepath.Join(s.dir, name+".log"))
	if err != nil {
		return ""
	}
	return string(bytes.ToValidUTF8(b, nil))
}

// close ends what was started, the last first, and removes the directories.
func (s *stage) close() error {
	var errs []error
	for _, d := range slices.Backward(s.daemons) {
		errs = append(errs, d.end())
	}
	if s.clock != nil {
		errs = append(errs, s.clock.Close())
	}
	for _, dir := range []string{s.leases, s.dir} {
		if dir != "" {
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// end ends the program and all that it started.
func (d *daemon) end() error {
	select {
	case <-d.ended:
		return nil
	default:
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-d.ended:
		return nil
	case <-time.After(endTime):
	}
	err := syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.ended
	return errors.Join(fmt.Errorf("%s: killed, as it did not end", d.name), err)
}

// line is a command line as one types it.
func line(args []string) string {
	if len(args) == 3 && args[0] == "sh" && args[1] == "-c" {
		return args[2]
	}
	words := make([]string, len(args))
	for i, a := range args {
		if a == "" || strings.ContainsAny(a, " \t\n$;&|<>()*?[]#~'\"\\`") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		words[i] = a
	}
	return strings.Join(words, " ")
}

// lastLines is the end of what a program printed, for an error.
func lastLines(out string) string {
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if len(lines) == 1 && lines[0] == "" {
		return ""
	}
	return "\n" + strings.Join(lines[max(0, len(lines)-8):], "\n")
}
