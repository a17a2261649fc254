package control

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
)

// echo answers with what was asked for.
func echo(_ context.Context, r Request) (any, error) {
	if r.Method == "refuse" {
		return nil, errors.New("not today")
	}
	return r, nil
}

func serveEcho(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "control")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, l, echo, slog.New(slog.NewTextHandler(t.Output(), nil))) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return path
}

func TestARequestIsAnswered(t *testing.T) {
	path := serveEcho(t)
	var got Request
	if err := Call(t.Context(), path, "status", []string{"a"}, &got); err != nil || got.Method != "status" || string(got.Params) != `["a"]` {
		t.Errorf("got %+v, %v", got, err)
	}
	var refused *Error
	if err := Call(t.Context(), path, "refuse", nil, &got); !errors.As(err, &refused) || refused.Message != "not today" {
		t.Errorf("got %v", err)
	}
	if err := Call(t.Context(), path+"-of-nobody", "status", nil, &got); !errors.Is(err, ErrUnreachable) {
		t.Errorf("nobody listens: got %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Call(canceled, path, "status", nil, &got); !errors.Is(err, context.Canceled) {
		t.Errorf("a call that was given up: got %v", err)
	}
}

// TestWhatIsNoRequestEndsItsConnectionOnly: the next caller is answered.
func TestWhatIsNoRequestEndsItsConnectionOnly(t *testing.T) {
	path := serveEcho(t)
	for name, text := range map[string]string{"nothing": "", "no JSON": "hello\n", "another type": "[1]\n", "endless": strings.Repeat("x", maxMessage+1)} {
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, text) // the server may have closed it already
		_ = conn.(*net.UnixConn).CloseWrite()
		if answer, err := io.ReadAll(conn); err == nil && json.Valid(answer) {
			t.Errorf("%s: answered with %s", name, answer)
		}
		conn.Close()
	}
	var got Request
	if err := Call(t.Context(), path, "status", nil, &got); err != nil {
		t.Error(err)
	}
}
