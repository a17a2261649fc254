package agentapi

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrNoAgent means that nothing answers on the agent's socket.
var ErrNoAgent = errors.New("no agent answers")

// CodeNotInstalled is the code of a [Failure] for a standalone account whose password
// the agent lacks: whoever may set it hands it over with InstallAccount.
const CodeNotInstalled = "standalone account not installed"

// Failure is an [Error] message as a Go error, on both sides of the socket: the
// server returns one, and the client's calls fail with one.
type Failure struct {
	// Kind says what a program's exit code is made of.
	Kind Kind
	// Message is the cause in words.
	Message string
	// Code is the protocol's own code; may be empty.
	Code string
	// Hints say what to do next.
	Hints []string
	// EventID is the CCG event that was logged; 0 for none.
	EventID uint32
	// Err is wrapped, on the server's side only: it may hold details that are for
	// the log and not for the caller.
	Err error
}

// Error is the message and the code, unless the message has it. Hints are the
// caller's to show.
func (f *Failure) Error() string {
	if f.Code == "" || strings.Contains(f.Message, f.Code) {
		return f.Message
	}
	return fmt.Sprintf("%s: %s", f.Message, f.Code)
}

// Unwrap returns the error behind it, on the server's side.
func (f *Failure) Unwrap() error { return f.Err }

// Proto is the message of f, without what it wraps.
func (f *Failure) Proto() *Error {
	return &Error{Kind: f.Kind, Message: f.Message, Code: f.Code, Hints: f.Hints, EventId: f.EventID}
}

// GRPCStatus makes a Failure what a gRPC handler can return as it is.
func (f *Failure) GRPCStatus() *status.Status {
	s := status.New(grpcCode(f.Kind), f.Message)
	if d, err := s.WithDetails(f.Proto()); err == nil {
		return d
	}
	return s
}

func grpcCode(k Kind) codes.Code {
	switch k {
	case Kind_KIND_USAGE:
		return codes.InvalidArgument
	case Kind_KIND_NOT_FOUND:
		return codes.NotFound
	case Kind_KIND_DENIED:
		return codes.PermissionDenied
	case Kind_KIND_NO_CONTROLLER:
		return codes.Unavailable
	default:
		return codes.FailedPrecondition
	}
}

// fromStatus turns what a call returned into a Failure. A status without our
// detail comes from gRPC itself: the socket, a deadline or a limit.
func fromStatus(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range s.Details() {
		if e, ok := d.(*Error); ok {
			return &Failure{Kind: e.GetKind(), Message: e.GetMessage(), Code: e.GetCode(), Hints: e.GetHints(), EventID: e.GetEventId()}
		}
	}
	switch s.Code() {
	case codes.Unavailable:
		return fmt.Errorf("%w: %s", ErrNoAgent, s.Message())
	case codes.DeadlineExceeded:
		return context.DeadlineExceeded
	case codes.Canceled:
		return context.Canceled
	case codes.ResourceExhausted:
		return &Failure{Kind: Kind_KIND_DENIED, Message: s.Message(), Hints: []string{"the agent limits what one caller may have open at once; wait and try again"}}
	case codes.PermissionDenied, codes.Unauthenticated:
		return &Failure{Kind: Kind_KIND_DENIED, Message: s.Message()}
	case codes.InvalidArgument:
		return &Failure{Kind: Kind_KIND_USAGE, Message: s.Message()}
	case codes.Unimplemented:
		return &Failure{Kind: Kind_KIND_FAILED, Message: "this agent does not know the call: " + s.Message(), Hints: []string{"the agent is of an older version than this program; restart it after an upgrade"}}
	default:
		return &Failure{Kind: Kind_KIND_FAILED, Message: s.Message()}
	}
}
