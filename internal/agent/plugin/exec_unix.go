//go:build unix

package plugin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
	"time"
)

// run executes the program with request as its standard input. It runs in a
// session of its own, in the root directory, with none of the agent's
// descriptors, variables and groups; its whole process group is killed when
// the context ends.
func (p *execPlugin) run(ctx context.Context, request []byte, stdout, stderr *limited) error {
	if err := checkProgram(p.command[0]); err != nil {
		return err
	}
	credential, err := p.credential()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...)
	cmd.Env = environment()
	cmd.Dir = "/"
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(request), stdout, stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: credential}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	// A grandchild that left the group may keep the pipes open: wait no longer
	// than this for it.
	cmd.WaitDelay = time.Second
	sealDescriptors()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%w: %w", ErrLoad, err)
	}
	err = cmd.Wait()
	switch exit, failed := errors.AsType[*exec.ExitError](err); {
	case stdout.over:
		return storeError(errOutput)
	case failed && ctx.Err() == nil:
		return fmt.Errorf("%w: the program ended with %v", ErrFetch, exit.ProcessState)
	case failed:
		return fmt.Errorf("%w: the program was killed", ErrFetch)
	case err != nil:
		return storeError(err)
	}
	return nil
}

// checkProgram refuses a program that others than root and the agent's user
// could have written.
func checkProgram(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLoad, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch mode := info.Mode(); {
	case !mode.IsRegular() || mode&0o111 == 0:
		return fmt.Errorf("%w: %s is not an executable file", ErrLoad, path)
	case mode&0o022 != 0:
		return fmt.Errorf("%w: %s has mode %04o; hint: chmod go-w %s", ErrLoad, path, mode.Perm(), path)
	case ok && st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fmt.Errorf("%w: %s is owned by uid %d, want root or the agent's own user", ErrLoad, path, st.Uid)
	}
	return nil
}

// credential is the user that the program runs as; nil for the agent's own.
func (p *execPlugin) credential() (*syscall.Credential, error) {
	u, err := lookup(p.user)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLoad, err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%w: user %s: uid %q", ErrLoad, p.user, u.Uid)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("%w: user %s: gid %q", ErrLoad, p.user, u.Gid)
	}
	switch {
	case os.Geteuid() == int(uid) && uid != 0:
		return nil, nil
	case os.Geteuid() != 0:
		return nil, fmt.Errorf("%w: the agent is not root and cannot run a program as %s", ErrLoad, p.user)
	case uid == 0:
		return nil, fmt.Errorf("%w: the program would run as root", ErrLoad)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// lookup finds a user by name or number.
func lookup(name string) (*user.User, error) {
	if u, err := user.Lookup(name); err == nil {
		return u, nil
	}
	return user.LookupId(name)
}
