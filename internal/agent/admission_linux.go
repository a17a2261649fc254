package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	grpcpeer "google.golang.org/grpc/peer"

	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/peer"
	"github.com/opengmsa/opengmsa/internal/agentapi"
)

// maxConnections bounds the connections of all callers together.
const maxConnections = 1024

// deadlineMargin is taken off a caller's deadline, so that the reason of a
// failure still reaches it.
const deadlineMargin = 200 * time.Millisecond

// whom is the unit of a limit: a user or, for root, a process, since root's
// services have nothing to do with each other.
type whom struct {
	uid uint32
	pid int // for root
}

// admission identifies callers and bounds what each may have open (security 1
// and 9). A caller that is refused gets its connection and hears why with its
// first request: a connection that just closes looks like an agent that is not
// there.
type admission struct {
	own peer.Namespaces
	// identify is who connected: peer.Of, but for callers that may be containers.
	identify func(*net.UnixConn, peer.Namespaces) (*peer.Process, error)
	// rootOnly refuses everybody but root of the host.
	rootOnly bool
	log      *slog.Logger
	quotas   func() config.Quotas

	mu          sync.Mutex
	connections map[whom]int
	requests    map[whom]int
	all         int
}

func newAdmission(own peer.Namespaces, log *slog.Logger, quotas func() config.Quotas) *admission {
	return &admission{own: own, identify: peer.Of, log: log, quotas: quotas, connections: map[whom]int{}, requests: map[whom]int{}}
}

// caller is the identity of a connection; gRPC hands it to every request on it.
type caller struct {
	credentials.CommonAuthInfo
	*peer.Process
	// refused is why none of the connection's requests is served.
	refused error
}

// AuthType names the kind of identity.
func (caller) AuthType() string { return "unix peer" }

func (c caller) whom() whom {
	if c.UID == 0 {
		return whom{0, c.PID}
	}
	return whom{uid: c.UID}
}

// ClientHandshake is not for servers.
func (*admission) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.ErrUnsupported
}

// Info describes the identity.
func (*admission) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: caller{}.AuthType()}
}

// Clone returns the same admission: its counts are of all connections.
func (a *admission) Clone() credentials.TransportCredentials { return a }

// OverrideServerName does nothing; the socket has no name.
func (*admission) OverrideServerName(string) error { return nil }

// ServerHandshake identifies who connected.
func (a *admission) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, fmt.Errorf("a %s connection has no peer credentials", conn.LocalAddr().Network())
	}
	return a.admit(unixConn, a.identify)
}

// admit identifies who connected, and counts the connection.
func (a *admission) admit(conn *net.UnixConn, identify func(*net.UnixConn, peer.Namespaces) (*peer.Process, error)) (net.Conn, credentials.AuthInfo, error) {
	c := caller{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	p, err := identify(conn, a.own)
	leave := func() {
		if p != nil {
			p.Close()
		}
	}
	switch {
	case errors.Is(err, peer.ErrForeign):
		c.refused = &agentapi.Failure{
			Kind: agentapi.Kind_KIND_DENIED, Message: "the agent serves processes of the host alone, and this one is in a container or a sandbox", Err: err,
			Hints: []string{"give the container a lease from the host: its directory is mounted at /run/gmsa"},
		}
		a.log.Warn("caller refused", slog.Any("error", err))
		c.Process = &peer.Process{} // nobody
	case err != nil:
		return nil, nil, fmt.Errorf("identify the caller: %w", err)
	}
	if p != nil {
		c.Process = p
	}
	if a.rootOnly && c.refused == nil && !c.HostRoot() {
		c.refused = denied(errors.New("this socket is root's alone"))
	}
	release, over := a.connect(c.whom())
	if release == nil {
		leave()
		return nil, nil, errors.New("too many connections")
	}
	if over && c.refused == nil {
		c.refused = busy("too many connections of this user to the agent")
	}
	return &countedConn{Conn: conn, release: func() {
		release()
		leave()
	}}, c, nil
}

// connect counts a connection. One over the caller's limit is kept, to be told
// so; from twice the limit on, and over the limit for all, there is no release.
func (a *admission) connect(w whom) (release func(), over bool) {
	limit := a.quotas().Connections
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all >= maxConnections || a.connections[w] >= 2*limit {
		return nil, true
	}
	a.all++
	a.connections[w]++
	return func() { a.disconnect(w) }, a.connections[w] > limit
}

func (a *admission) disconnect(w whom) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all--
	if a.connections[w]--; a.connections[w] == 0 {
		delete(a.connections, w)
	}
}

// countedConn gives its place back when it is closed.
type countedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close closes the connection.
func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}

// begin counts a request.
func (a *admission) begin(w whom) bool {
	limit := a.quotas().Requests
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.requests[w] >= limit {
		return false
	}
	a.requests[w]++
	return true
}

func (a *admission) end(w whom) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.requests[w]--; a.requests[w] == 0 {
		delete(a.requests, w)
	}
}

// callerOf is who made a request.
func callerOf(ctx context.Context) (caller, bool) {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok {
		return caller{}, false
	}
	c, ok := p.AuthInfo.(caller)
	return c, ok
}

// intercept holds what is the same for every request: who calls, how many at
// once, how long, and that a fault of ours ends one request and not the agent.
func (a *admission) intercept(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (reply any, err error) {
	c, ok := callerOf(ctx)
	if !ok {
		return nil, denied(errors.New("a request without a caller"))
	}
	if c.refused != nil {
		return nil, c.refused
	}
	w := c.whom()
	if !a.begin(w) {
		return nil, busy("too many requests of this user at once")
	}
	defer a.end(w)
	timeout := a.quotas().RequestTimeout
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline)-deadlineMargin)
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	defer func() {
		if r := recover(); r != nil {
			a.log.Error("a request failed by a fault of the agent", slog.String("method", info.FullMethod), slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			reply, err = nil, &agentapi.Failure{Kind: agentapi.Kind_KIND_FAILED, Message: "a fault of the agent; its log has the details"}
		}
	}()
	reply, err = handler(ctx, req)
	if err != nil {
		a.logFailure(info.FullMethod, c, err)
	}
	return reply, err
}

// logFailure keeps for the operator what the caller does not hear.
func (a *admission) logFailure(method string, c caller, err error) {
	attrs := []any{slog.String("method", method), slog.Uint64("uid", uint64(c.UID)), slog.Int("pid", c.PID), slog.String("unit", c.Unit), slog.Any("error", err)}
	if f, ok := errors.AsType[*agentapi.Failure](err); ok && f.Err != nil {
		attrs = append(attrs, slog.Any("cause", f.Err))
	}
	a.log.Info("request failed", attrs...)
}
