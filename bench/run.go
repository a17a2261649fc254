//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"sync"
	"testing"
	"time"
)

// A run is one section while it is measured. The lab's helpers take it for a test:
// what they start ends with the section, and what fails there ends the section.
type run struct {
	testing.TB // for the methods that nobody calls

	name, profile string
	program       *program
	ctx           context.Context //nolint:containedctx // as testing.T has it
	figures       []figure

	mu       sync.Mutex
	cleanups []func()
	failure  error
}

// sectionTimeout ends a section that hangs. On an idle machine none takes a minute.
const sectionTimeout = 5 * time.Minute

// measure runs a section. What it had measured before it failed is returned too.
func measure(ctx context.Context, s section, p *program, profile string) ([]figure, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sectionTimeout, errors.New("it took too long"))
	defer cancel()
	r := &run{name: s.name, profile: profile, program: p, ctx: ctx}
	done := make(chan struct{})
	go func() { // FailNow ends the goroutine
		defer close(done)
		defer r.tidy()
		s.run(r)
	}()
	<-done
	return r.figures, r.failure
}

func (r *run) tidy() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}

// add reports a figure.
func (r *run) add(f figure) { r.figures = append(r.figures, f) }

// must ends the section with an error.
func (r *run) must(err error) {
	if err != nil {
		r.Fatal(err)
	}
}

// profiled runs f under the CPU profiler where profiles are wanted.
func (r *run) profiled(what string, f func()) {
	if r.profile != "" {
		r.must(os.MkdirAll(r.profile, 0o755))
		out, err := os.Create(filepath.Join(r.profile, what+".cpu"))
		r.must(err)
		defer out.Close()
		r.must(pprof.StartCPUProfile(out))
		defer pprof.StopCPUProfile()
	}
	f()
}

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failure = errors.Join(r.failure, err)
}

// What the lab asks of a test.

func (r *run) Helper()                   {}
func (r *run) Name() string              { return r.name }
func (r *run) Context() context.Context  { return r.ctx }
func (r *run) Output() io.Writer         { return os.Stderr }
func (r *run) Log(args ...any)           { fmt.Fprintln(os.Stderr, args...) }
func (r *run) Logf(f string, a ...any)   { fmt.Fprintf(os.Stderr, f+"\n", a...) }
func (r *run) Errorf(f string, a ...any) { r.fail(fmt.Errorf(f, a...)) }
func (r *run) Error(args ...any)         { r.fail(errors.New(fmt.Sprint(args...))) }
func (r *run) FailNow()                  { runtime.Goexit() }
func (r *run) SkipNow()                  { runtime.Goexit() }
func (r *run) Skip(args ...any)          { r.Fatal(args...) }
func (r *run) Skipf(f string, a ...any)  { r.Fatalf(f, a...) }

// Fatal ends the section.
func (r *run) Fatal(args ...any) {
	r.Error(args...)
	runtime.Goexit()
}

// Fatalf ends the section.
func (r *run) Fatalf(f string, args ...any) {
	r.Errorf(f, args...)
	runtime.Goexit()
}

// Failed says whether the section has failed.
func (r *run) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure != nil
}

// Cleanup has f called after the section, the last first.
func (r *run) Cleanup(f func()) { r.cleanups = append(r.cleanups, f) }

// TempDir makes a directory for the section, which every user can enter.
func (r *run) TempDir() string { return r.tempDir("") }

// tmpfs makes a directory for the section that lies in memory.
func (r *run) tmpfs() string { return r.tempDir("/dev/shm") }

func (r *run) tempDir(base string) string {
	dir, err := os.MkdirTemp(base, "gmsa-bench-")
	r.must(err)
	r.Cleanup(func() { os.RemoveAll(dir) })
	r.must(os.Chmod(dir, 0o755))
	return dir
}
