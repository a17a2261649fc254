package demo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// newTestStage is a stage whose gmsa is true(1), with a step under way.
func newTestStage(t *testing.T) (s *stage, told *bytes.Buffer) {
	t.Helper()
	told = &bytes.Buffer{}
	s, err := newStage(Config{Program: "/bin/true", Environ: os.Environ(), Out: told})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return s, told
}

func TestStepTellsCommandsAndFailsWithoutEvidence(t *testing.T) {
	s, told := newTestStage(t)
	err := s.step("One", "Something.", func() error {
		_, err := s.run(t.Context(), view{want: []string{"hello"}, lines: []string{"hello"}}, "sh", "-c", "echo a; echo b; echo hello")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = s.step("Two", "", func() error {
		_, err := s.run(t.Context(), view{want: []string{"evidence"}}, "echo", "it's done")
		return err
	})
	var failed *StepError
	if !errors.As(err, &failed) || failed.Number != 2 || !strings.Contains(err.Error(), `has no "evidence"`) {
		t.Errorf("got %v", err)
	}
	err = s.step("Three", "", func() error {
		_, err := s.run(t.Context(), view{}, "sh", "-c", "echo cause >&2; exit 3")
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "exit status 3\ncause") {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{" 1. One\n    Something.\n    $ echo a; echo b; echo hello\n        …\n        hello\n    ok ", `$ echo 'it'\''s done'`, "    failed "} {
		if !strings.Contains(told.String(), want) {
			t.Errorf("no %q in:\n%s", want, told)
		}
	}
	if r := s.report.Steps; len(r) != 3 || !r[0].OK || r[1].OK || r[0].Commands[0].Output != "…\nhello" || r[2].Error == "" {
		t.Errorf("report: %+v", r)
	}
}

func TestWhatIsStartedIsWaitedForAndEnded(t *testing.T) {
	s, _ := newTestStage(t)
	_ = s.step("One", "", func() error { return nil })
	if err := s.start(t.Context(), "good", "ready", "sh", "-c", "echo ready; exec sleep 600"); err != nil {
		t.Fatal(err)
	}
	if err := s.start(t.Context(), "bad", "ready", "sh", "-c", "echo cause; exit 1"); !errors.Is(err, errEnded) || !strings.Contains(err.Error(), "cause") {
		t.Errorf("a program that ends: %v", err)
	}
	if err := s.start(t.Context(), "absent", "ready", "no-such-program"); err == nil {
		t.Error("a program that is not there is started")
	}
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := s.start(ctx, "slow", "ready", "sleep", "600"); !errors.Is(err, context.Canceled) {
		t.Errorf("an interrupt: %v", err)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
	for _, d := range s.daemons {
		select {
		case <-d.ended:
		default:
			t.Errorf("%s goes on", d.name)
		}
	}
	for _, dir := range []string{s.dir, s.leases} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}

func TestDirectoriesThatScriptsAndSocketsCannotHave(t *testing.T) {
	for _, name := range []string{"with blank", strings.Repeat("long", 20)} {
		dir := filepath.Join(t.TempDir(), name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("TMPDIR", dir)
		_, err := newStage(Config{Program: "/bin/true"})
		var hinted interface{ Hint() string }
		if err == nil || !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), "TMPDIR") {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

// TestWithoutTemporaryFiles: a directory of the user's own will do.
func TestWithoutTemporaryFiles(t *testing.T) {
	base, err := os.MkdirTemp("", "here-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(base) })
	t.Setenv("TMPDIR", "/nonexistent")
	t.Chdir(base)
	s, err := newStage(Config{Program: "/bin/true"})
	if err != nil {
		t.Fatal(err)
	}
	if filepath.Dir(s.dir) != base {
		t.Errorf("it is in %s", s.dir)
	}
	if err := s.close(); err != nil {
		t.Error(err)
	}
}

func TestPortsFree(t *testing.T) {
	offset, err := freeOffset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", 636+offset))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	if err := portsFree(t.Context(), offset); err == nil {
		t.Error("a port that is taken is free")
	}
}

func TestStatic(t *testing.T) {
	if err := static("/bin/sh"); err == nil || !strings.Contains(err.Error(), "shared libraries") {
		t.Errorf("a shell: %v", err)
	}
	if err := static("/etc/passwd"); err == nil {
		t.Error("a file that is no program is one")
	}
}
