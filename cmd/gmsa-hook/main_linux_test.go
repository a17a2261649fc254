package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// security 7: a program of its own that needs no library.
func TestTheHookIsStatic(t *testing.T) {
	lab.Need(t, "go")
	f, err := elf.Open(lab.BuildHook(t))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("it has a segment %v", p.Type)
		}
	}
}

// security 7: it executes nothing, whatever environment and working directory the runtime
// leaves it, at whichever stage it is told to run.
func TestTheHookExecutesNothing(t *testing.T) {
	lab.Need(t, "users", "runc", "strace", "true")
	trap := t.TempDir() // a working directory and a PATH of somebody else's
	for _, name := range []string{"sh", "mount", "nsenter", "ip"} {
		if err := os.WriteFile(filepath.Join(trap, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hook := lab.BuildHook(t)
	for stage, want := range map[string]string{
		"createRuntime": "no agent answers", "poststop": "no agent answers",
		"prestart": "the hook runs as", "createContainer": "the hook runs as", "startContainer": "the hook runs as", "poststart": "the hook runs as",
	} {
		t.Run(stage, func(t *testing.T) {
			bundle := lab.Container{Programs: []string{"true"}, Args: []string{"true"}}.Bundle(t)
			state, err := json.Marshal(map[string]any{"id": "x", "pid": os.Getpid(), "bundle": bundle})
			if err != nil {
				t.Fatal(err)
			}
			trace := filepath.Join(t.TempDir(), "trace")
			cmd := exec.Command("strace", "-f", "-e", "trace=execve,execveat,chdir", "-o", trace, hook, stage, "--spec", "web", "--socket", filepath.Join(trap, "none"))
			cmd.Dir, cmd.Stdin = trap, bytes.NewReader(state)
			cmd.Env = []string{"PATH=" + trap, "LD_PRELOAD=" + filepath.Join(trap, "x.so"), "GODEBUG=http2debug=2", "KRB5CCNAME=FILE:" + trap}
			out, err := cmd.CombinedOutput()
			if _, failed := errors.AsType[*exec.ExitError](err); !failed || !strings.Contains(string(out), want) {
				t.Errorf("%v: %s; want %q", err, out, want)
			}
			b, err := os.ReadFile(trace)
			if err != nil {
				t.Fatal(err)
			}
			if calls := string(b); strings.Count(calls, "execve") != 1 || !strings.Contains(calls, `chdir("/")`) {
				t.Errorf("it calls:\n%s", calls)
			}
		})
	}
}
