// Package control is how the commands of this machine speak to a running controller: over a
// unix socket in its data directory, which only the owner of the directory can reach. A
// connection carries one request and its answer, each a JSON object on a line.
//
// What is asked for is package dc's to do. Read [Serve] and [Call] first.
package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// maxMessage bounds a request or an answer, in bytes: a keytab of 1,000 keys fits.
	maxMessage = 1 << 20
	// patience is how long either side waits for the other.
	patience = 30 * time.Second
)

// ErrUnreachable: no controller listens.
var ErrUnreachable = errors.New("no controller listens")

// Error is a request that the controller refused.
type Error struct{ Message string }

func (e *Error) Error() string { return e.Message }

// Request asks for something by its name.
type Request struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params,omitempty"`
}

type answer struct {
	Error  string          `json:"error,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
}

// Handler does what a request asks for and returns what is to be answered, as JSON.
type Handler func(ctx context.Context, r Request) (any, error)

// Serve answers requests on connections that l accepts until ctx ends, and closes l. It
// returns when the last connection is closed.
func Serve(ctx context.Context, l net.Listener, handle Handler, log *slog.Logger) error {
	var conns sync.WaitGroup
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer func() { stop(); _ = l.Close(); conns.Wait() }()
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("control socket: %w", err)
		}
		conns.Go(func() {
			defer conn.Close()
			if err := serve(ctx, conn, handle); err != nil {
				log.Debug("control request not answered", slog.Any("error", err))
			}
		})
	}
}

func serve(ctx context.Context, conn net.Conn, handle Handler) error {
	// The clock of a connection is the machine's, whatever the domain's shows.
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var r Request
	if err := read(conn, &r); err != nil {
		return err
	}
	var a answer
	result, err := handle(ctx, r)
	if err == nil {
		a.Result, err = json.Marshal(result)
	}
	if err != nil {
		a = answer{Error: err.Error()}
	}
	return json.NewEncoder(conn).Encode(a)
}

func read(conn net.Conn, v any) error {
	line, err := bufio.NewReader(io.LimitReader(conn, maxMessage)).ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return json.Unmarshal(line, v)
}

// Call asks the controller that listens at path, and decodes its answer into result. It
// fails with an *Error, and with ErrUnreachable.
func Call(ctx context.Context, path, method string, params, result any) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	request := Request{Method: method}
	if request.Params, err = json.Marshal(params); err != nil {
		return err
	}
	if err := json.NewEncoder(conn).Encode(request); err != nil {
		return fmt.Errorf("ask the controller: %w", err)
	}
	var a answer
	if err := read(conn, &a); err != nil {
		return fmt.Errorf("answer of the controller: %w", errors.Join(err, ctx.Err()))
	}
	if a.Error != "" {
		return &Error{a.Error}
	}
	return json.Unmarshal(a.Result, result)
}
