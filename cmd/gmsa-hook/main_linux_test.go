package main

import (
	"bytes"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/hookapi"
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

// security 16: what an engine hands to a container, the hook neither passes on to the
// agent nor prints, although it reads the file that has it.
func TestTheHookTellsNoSecrets(t *testing.T) {
	lab.Need(t, "users", "runc", "true")
	const key = "wJalrXUtnFEMI"
	bundle := lab.Container{Programs: []string{"true"}, Args: []string{"true", "--password", key}, Env: []string{"AWS_SECRET_ACCESS_KEY=" + key}}.Bundle(t)
	state, err := json.Marshal(map[string]any{"id": "x", "pid": os.Getpid(), "bundle": bundle, "annotations": map[string]string{"password": key}})
	if err != nil {
		t.Fatal(err)
	}
	if config, err := os.ReadFile(filepath.Join(bundle, "config.json")); err != nil || strings.Count(string(config), key) != 2 {
		t.Fatalf("%v, or the bundle has not the secret", err)
	}
	socket := filepath.Join(t.TempDir(), "hook.sock")
	l, err := net.ListenUnix(hookapi.Network, &net.UnixAddr{Name: socket, Net: hookapi.Network})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		conn, err := l.AcceptUnix()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer conn.Close()
		var request json.RawMessage
		files, err := hookapi.Receive(conn, &request)
		for _, f := range files {
			err = errors.Join(err, f.Close())
		}
		heard <- fmt.Sprint(string(request), errors.Join(err, hookapi.Send(conn, hookapi.Reply{Failure: &hookapi.Failure{Message: "not today"}})))
	}()
	cmd := exec.CommandContext(t.Context(), lab.BuildHook(t), "createRuntime", "--spec", "web", "--socket", socket)
	cmd.Stdin, cmd.Env = bytes.NewReader(state), []string{"AWS_SECRET_ACCESS_KEY=" + key}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "not today") {
		t.Errorf("%v: %s", err, out)
	}
	_ = l.Close()
	request := <-heard
	if !strings.Contains(request, `"credentialSpec":"web"`) {
		t.Errorf("the agent heard %s", request)
	}
	for who, text := range map[string]string{"the agent": request, "the runtime": string(out)} {
		if strings.Contains(text, key) {
			t.Errorf("%s is told the container's secret: %s", who, text)
		}
	}
}
