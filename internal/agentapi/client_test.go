package agentapi

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// failing is a server whose answer the test chooses.
type failing struct {
	UnimplementedAgentServer
	err error
}

func (f failing) RemoveLease(context.Context, *RemoveLeaseRequest) (*RemoveLeaseResponse, error) {
	return &RemoveLeaseResponse{}, f.err
}

func call(t *testing.T, serverErr error) error {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	RegisterAgentServer(s, failing{err: serverErr})
	go func() { _ = s.Serve(l) }()
	defer s.Stop()
	c, err := Dial(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.RemoveLease(t.Context(), &RemoveLeaseRequest{})
	return err
}

func TestAFailureCrossesTheSocketWhole(t *testing.T) {
	sent := &Failure{
		Kind: Kind_KIND_DENIED, Message: "the domain does not let this host read webapp01$", Code: "LDAP 50",
		Hints: []string{"gmsa account hosts add webapp01 web1"}, EventID: 8,
		Err: errors.New("for the log only"),
	}
	var got *Failure
	if err := call(t, sent); !errors.As(err, &got) {
		t.Fatalf("err = %v", err)
	}
	if got.Err != nil {
		t.Errorf("the wrapped error crossed the socket: %v", got.Err)
	}
	got.Err = sent.Err
	if d := cmp.Diff(sent, got, cmp.Comparer(func(a, b error) bool { return a.Error() == b.Error() })); d != "" {
		t.Error(d)
	}
}

func TestErrorsOfTheTransport(t *testing.T) {
	if err := call(t, nil); err != nil {
		t.Errorf("no error became %v", err)
	}
	for code, want := range map[codes.Code]Kind{
		codes.ResourceExhausted: Kind_KIND_DENIED,
		codes.PermissionDenied:  Kind_KIND_DENIED,
		codes.InvalidArgument:   Kind_KIND_USAGE,
		codes.Unimplemented:     Kind_KIND_FAILED,
		codes.Internal:          Kind_KIND_FAILED,
	} {
		var f *Failure
		if err := call(t, status.Error(code, "x")); !errors.As(err, &f) || f.Kind != want {
			t.Errorf("%v: %v", code, err)
		}
	}
	if err := call(t, status.Error(codes.DeadlineExceeded, "x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("deadline: %v", err)
	}
}

func TestNoAgentIsToldApart(t *testing.T) {
	c, err := Dial(filepath.Join(t.TempDir(), "nothing"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := c.Status(ctx, &StatusRequest{}); !errors.Is(err, ErrNoAgent) {
		t.Errorf("err = %v", err)
	}
}
