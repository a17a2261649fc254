package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Code is an exit code of the program. The table is stable: scripts depend on it.
type Code int

// The exit codes.
const (
	OK           Code = 0
	Failed       Code = 1
	Usage        Code = 2
	NotFound     Code = 3
	Denied       Code = 4
	NoController Code = 5
	Negative     Code = 6
)

var codeMeanings = []string{
	OK:           "done",
	Failed:       "failed for a reason that is none of those below",
	Usage:        "the command line or a file that it names is malformed",
	NotFound:     "something that was named does not exist",
	Denied:       "the domain or the agent refused",
	NoController: "no domain controller answers",
	Negative:     "the check was made and came out negative",
}

func codeTable() string {
	var b strings.Builder
	for code, meaning := range codeMeanings {
		fmt.Fprintf(&b, "  %d  %s\n", code, meaning)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Error is a failure as a command reports it.
type Error struct {
	Code  Code
	Err   error
	Hints []string
	// Shown says that the command has printed the failure in its own words, as
	// a check does whose result is its output; only hints are left to print.
	Shown bool
}

// failure is an error with an exit code of its own.
func failure(code Code, err error) *Error { return &Error{Code: code, Err: err} }

// hint adds a line that says what to do next.
func (e *Error) hint(format string, args ...any) *Error {
	e.Hints = append(e.Hints, fmt.Sprintf(format, args...))
	return e
}

// Error is the cause.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Err }

// codeOf gives every error its exit code: the one place where that is decided.
// What a command has decided itself comes first.
func codeOf(err error) Code {
	var own *Error
	var agent *agentapi.Failure
	switch {
	case err == nil:
		return OK
	case errors.As(err, &own) && own.Code != OK:
		return own.Code
	case errors.As(err, &agent):
		return agentCode(agent.Kind)
	case isAny(err, locate.ErrNoController, kclient.ErrUnreachable):
		return NoController
	case isAny(err, ad.ErrNotFound, ldapc.ErrNoSuchObject, kclient.ErrUnknownClient, kclient.ErrUnknownServer, fs.ErrNotExist):
		return NotFound
	case isAny(err, ad.ErrIdentity, ad.ErrWithheld, ad.ErrSecretWithheld, ldapc.ErrAccess, ldapc.ErrCredentials, ldapc.ErrChannelBinding,
		kclient.ErrWrongKey, kclient.ErrExpired, kclient.ErrRevoked, kclient.ErrTicket, fs.ErrPermission):
		return Denied
	}
	return Failed
}

func isAny(err error, targets ...error) bool {
	return slices.ContainsFunc(targets, func(t error) bool { return errors.Is(err, t) })
}

func agentCode(k agentapi.Kind) Code {
	switch k {
	case agentapi.Kind_KIND_USAGE:
		return Usage
	case agentapi.Kind_KIND_NOT_FOUND:
		return NotFound
	case agentapi.Kind_KIND_DENIED:
		return Denied
	case agentapi.Kind_KIND_NO_CONTROLLER:
		return NoController
	case agentapi.Kind_KIND_NEGATIVE:
		return Negative
	}
	return Failed
}

// hintsOf collects what every error in the tree of err suggests, outermost
// first, each line once.
func hintsOf(err error) []string {
	var hints []string
	add := func(lines ...string) {
		for _, l := range lines {
			if l != "" && !slices.Contains(hints, l) {
				hints = append(hints, l)
			}
		}
	}
	var walk func(error)
	walk = func(err error) {
		switch e := err.(type) { //nolint:errorlint // each error of the tree is visited by itself
		case *Error:
			add(e.Hints...)
		case *agentapi.Failure:
			add(e.Hints...)
		case interface{ Hint() string }:
			add(e.Hint())
		}
		switch e := err.(type) { //nolint:errorlint // as above
		case interface{ Unwrap() error }:
			walk(e.Unwrap())
		case interface{ Unwrap() []error }:
			for _, inner := range e.Unwrap() {
				walk(inner)
			}
		}
	}
	walk(err)
	return hints
}

// usageError is err with a hint to the help of the command that args mean.
func usageError(err error, root *cobra.Command, args []string) error {
	c, _, findErr := root.Find(args)
	if findErr != nil {
		c = root
	}
	return failure(Usage, err).hint("%s --help", c.CommandPath())
}

// report prints a failure on standard error.
func (a *app) report(err error) {
	if err == nil {
		return
	}
	if errors.Is(err, context.Canceled) && codeOf(err) == Failed {
		err = failure(Failed, errors.New("interrupted"))
	}
	var own *Error
	shown := errors.As(err, &own) && own.Shown
	hints := hintsOf(err)
	if h := explainHint(err); h != "" {
		hints = append(hints, h)
	}
	if a.output == outputJSON {
		a.reportJSON(err, hints)
		return
	}
	if !shown {
		_, _ = fmt.Fprintf(a.env.Stderr, "gmsa: %s\n", oneLine(err.Error()))
	}
	for _, h := range hints {
		_, _ = fmt.Fprintf(a.env.Stderr, "hint: %s\n", oneLine(h))
	}
}

// warn prints what the user should know although the command goes on.
func (a *app) warn(text string) {
	_, _ = fmt.Fprintf(a.env.Stderr, "warning: %s\n", oneLine(text))
}

// reportJSON prints a failure as one line, for programs that asked for JSON.
func (a *app) reportJSON(err error, hints []string) {
	line, _ := json.Marshal(struct {
		Error string   `json:"error"`
		Code  Code     `json:"code"`
		Hints []string `json:"hints,omitempty"`
	}{err.Error(), codeOf(err), hints})
	_, _ = fmt.Fprintf(a.env.Stderr, "%s\n", line)
}

// oneLine indents what follows the first line of s, and makes it printable.
func oneLine(s string) string {
	lines := strings.Split(strings.TrimRight(s, "\n"), "\n")
	for i, l := range lines {
		lines[i] = printable(l)
	}
	return strings.Join(lines, "\n      ")
}

// printable keeps what a controller or a file said from moving the cursor or
// forging a line of ours: control characters become spaces.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
