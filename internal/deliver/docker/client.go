package docker

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// shimMark is the second line of a shim, by which it is known.
const shimMark = "# Written by gmsa runtime install; gmsa runtime uninstall docker removes it."

// Shim is a program to be called docker, in a directory of PATH in front of the client's
// own, that hands its command line to gmsa docker. AgentConfig is the agent's
// configuration, empty where it is at its usual place.
func Shim(program, agentConfig string) []byte {
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	option := ""
	if agentConfig != "" {
		option = " --agent-config " + quote(agentConfig)
	}
	return fmt.Appendf(nil, "#!/bin/sh\n%s\nexec %s docker%s -- \"$@\"\n", shimMark, quote(program), option)
}

// IsShim tells a shim from other programs.
func IsShim(b []byte) bool {
	_, rest, ok := bytes.Cut(b, []byte("\n"))
	return ok && bytes.HasPrefix(rest, []byte(shimMark))
}

// ErrNoClient: PATH has no docker.
var ErrNoClient = errors.New("no docker in PATH")

// Client finds Docker's own client in a PATH: the first docker that is neither a shim
// nor the program self.
func Client(path, self string) (string, error) {
	own, _ := os.Stat(self)
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // as exec.LookPath: nothing of the working directory
		}
		p := filepath.Join(dir, "docker")
		info, err := os.Stat(p)
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || own != nil && os.SameFile(info, own) || isShimFile(p) {
			continue
		}
		return p, nil
	}
	return "", ErrNoClient
}

func isShimFile(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 256)
	n, err := io.ReadFull(f, head)
	return (err == nil || errors.Is(err, io.ErrUnexpectedEOF)) && IsShim(head[:n])
}

// Remote tells whether a command line is for an engine of another host, whose files
// cannot be seen from here.
func Remote(args []string, getenv func(string) string) bool {
	host := getenv("DOCKER_HOST")
	g := grammars[""]
	for i := 0; i < len(args); {
		o, ok := g.option(args[i:])
		if !ok {
			break
		}
		if o.name == "host" {
			host = o.value
		}
		i += o.words
	}
	return host != "" && !slices.ContainsFunc([]string{"unix://", "npipe://"}, func(s string) bool { return strings.HasPrefix(host, s) })
}
