// Package agentapi is the protocol of the credential guard, gmsa.agent.v1, and
// its client. The protocol is agent.proto; the server is package agent. Read
// [Dial] first: the calls are those of [AgentClient].
package agentapi

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
)

// DefaultSocket is where the agent of a host listens.
const DefaultSocket = "/run/gmsa/agent.sock"

// MaxMessage is the largest message on the socket in either direction, in
// bytes (security 9). A credential spec, 64 KiB, fits with room to spare.
const MaxMessage = 256 << 10

// Window is how much either side sends before the other has read it, in bytes: what
// HTTP/2 begins with (RFC 9113, Section 6.9.2). That it stays saves each call the ping
// that gRPC measures a network with.
const Window = 1<<16 - 1

// Client is a connection to the agent. Its calls fail with a [*Failure], with
// [ErrNoAgent] or with the context's error.
type Client struct {
	AgentClient

	conn *grpc.ClientConn
}

// Dial prepares a connection to the agent's socket; the empty string is
// [DefaultSocket]. The connection is made at the first call. The socket needs no
// TLS: the kernel tells the agent who calls, and the file's owner tells the
// caller who answers.
func Dial(socket string) (*Client, error) {
	if socket == "" {
		socket = DefaultSocket
	}
	conn, err := grpc.NewClient("passthrough:///gmsa-agent",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage)),
		grpc.WithStaticStreamWindowSize(Window),
		grpc.WithStaticConnWindowSize(Window),
		grpc.WithDisableRetry(), // no service config asks for any
		grpc.WithUnaryInterceptor(translate),
		// The socket is local: an agent that was restarted is found at once.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 2, MaxDelay: time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("agent socket %s: %w", socket, err)
	}
	return &Client{AgentClient: NewAgentClient(conn), conn: conn}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// translate gives every call's error its Go form, in one place.
func translate(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return fromStatus(invoke(ctx, method, req, reply, cc, opts...))
}
