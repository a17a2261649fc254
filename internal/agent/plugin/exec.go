package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opengmsa/opengmsa/secret"
)

// ExecVersion is the version of the contract between the agent and a program
// of kind exec; docs/plugins.md has the contract.
const ExecVersion = 1

const (
	maxOutput = 64 << 10 // bytes of a program's standard output
	maxStderr = 4 << 10  // bytes of its standard error that are kept
)

// execPlugin asks a program.
type execPlugin struct {
	name, guid string
	command    []string
	user       string
}

func newExec(c Config, name string, fault fault) Plugin {
	if len(c.Command) == 0 {
		fault(".command", "is missing")
	} else {
		checkAbsolute(".command[0]", c.Command[0], fault)
	}
	switch c.User {
	case "":
		fault(".user", "is missing: the program runs as a user of its own")
	case "root", "0":
		fault(".user", "%q: the program must not run as root", c.User)
	}
	return &execPlugin{name, c.GUID, c.Command, c.User}
}

// execRequest is what the program reads from its standard input.
type execRequest struct {
	Version int    `json:"version"`
	Plugin  string `json:"plugin"`
	GUID    string `json:"pluginGuid"`
	Input   string `json:"pluginInput"`
}

// execAnswer is what it writes to its standard output.
type execAnswer struct {
	Version int    `json:"version"`
	Error   string `json:"error"`
	fields
}

func (p *execPlugin) Fetch(ctx context.Context, input secret.Bytes) (Credentials, error) {
	request, err := json.Marshal(execRequest{ExecVersion, p.name, p.guid, string(input.Reveal())})
	if err != nil {
		return Credentials{}, storeError(err)
	}
	defer clear(request)
	// At full size from the start, so that growing leaves no copy of a password.
	stdout := limited{b: make([]byte, 0, maxOutput), max: maxOutput}
	stderr := limited{max: maxStderr, drop: true}
	defer stdout.clear()
	if err := p.run(ctx, request, &stdout, &stderr); err != nil {
		// The contract tells authors that stderr is for people, so no secret.
		if text := oneLine(string(stderr.b)); text != "" {
			err = fmt.Errorf("%w: %s", err, text)
		}
		return Credentials{}, err
	}
	return parseAnswer(stdout.b)
}

// parseAnswer reads the one JSON object that the program wrote. Members that
// the contract does not know are ignored; the version must be ours.
func parseAnswer(b []byte) (Credentials, error) {
	var a execAnswer
	if json.Unmarshal(b, &a) != nil {
		return Credentials{}, fmt.Errorf("%w: the program's output is not one JSON object of the contract", ErrFetch)
	}
	switch {
	case a.Version != ExecVersion:
		return Credentials{}, fmt.Errorf("%w: the program answers in version %d of the contract, want %d", ErrLoad, a.Version, ExecVersion)
	case a.Error != "":
		return Credentials{}, fmt.Errorf("%w: %s", ErrFetch, oneLine(a.Error))
	}
	return a.credentials(), nil
}

// errOutput stops a program that writes more than the contract allows.
var errOutput = errors.New("more output than the contract allows")

// limited keeps what is written to it, up to a size. Then it fails, or drops
// the rest.
type limited struct {
	b    []byte
	max  int
	drop bool
	over bool // more came than may
}

func (l *limited) Write(b []byte) (int, error) {
	room := l.max - len(l.b)
	if len(b) > room {
		l.over = true
		if !l.drop {
			return 0, errOutput
		}
	}
	l.b = append(l.b, b[:min(len(b), max(room, 0))]...)
	return len(b), nil
}

func (l *limited) clear() { clear(l.b) }

// environment is all that a program finds: no variable of the agent's reaches
// it.
func environment() []string { return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"} }
