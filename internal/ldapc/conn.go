package ldapc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/krb5"
)

// Info describes an open connection.
type Info struct {
	// TLS is the state of the TLS layer; nil where sealing protects.
	TLS *tls.ConnectionState
	// Client is the Kerberos principal that is bound; zero after a simple bind.
	Client krb5.Principal
	// Expires is when the ticket ends, after which a controller closes the
	// connection; zero after a simple bind.
	Expires time.Time
}

// Conn is a protected and bound connection. It is safe for concurrent use; its
// requests may run side by side.
//
// A request whose context ends returns at once; its answer is dropped when it
// comes, and the connection lives on.
type Conn struct {
	info    Info
	net     net.Conn // the outermost protected layer
	ldap    *ldap.Conn
	timeout time.Duration
	broken  atomic.Bool // a request found the connection dead

	closeOnce sync.Once
	closeErr  error
}

// newConn starts the LDAP library on a protected connection. It is told that
// TLS is in use, so that it refuses StartTLS.
func newConn(conn net.Conn, cfg *Config, info Info) *Conn {
	c := &Conn{info: info, net: conn, ldap: ldap.NewConn(newGuard(conn, cfg.MaxMessage), true), timeout: cfg.Timeout}
	c.ldap.SetTimeout(cfg.Timeout)
	c.ldap.Start()
	return c
}

// Info describes the connection.
func (c *Conn) Info() Info { return c.info }

// Close ends the connection; requests under way fail. It may be called more
// than once.
func (c *Conn) Close() error {
	c.closeOnce.Do(func() {
		// The socket first: the library's own Close waits for a write that a dead
		// peer may never take.
		c.closeErr = c.net.Close()
		_ = c.ldap.Close()
	})
	return c.closeErr
}

// Alive reports whether the connection can still carry requests, as far as is
// known without sending one.
func (c *Conn) Alive() bool { return !c.broken.Load() && !c.ldap.IsClosing() }

// Scope says how far below the base a search goes: RFC 4511, Section 4.5.1.2.
type Scope int

// The scopes.
const (
	Base     Scope = ldap.ScopeBaseObject
	OneLevel Scope = ldap.ScopeSingleLevel
	Subtree  Scope = ldap.ScopeWholeSubtree
)

// Search is a search request.
type Search struct {
	Base  string // a distinguished name; empty is the rootDSE
	Scope Scope
	// Filter is what entries must satisfy; the zero value means every entry.
	Filter adproto.Filter
	// Attrs are the attributes to return; empty means all that are not
	// operational or constructed.
	Attrs []string
	// Limit is how many entries the caller can use; more are an error. 0 means
	// no limit, and the search is paged.
	Limit    int
	Controls []ldap.Control
}

// pageSize is the number of entries asked for at once: Active Directory gives
// out 1,000 at most (MaxPageSize, [MS-ADTS] 3.1.1.3.4.6).
const pageSize = 1000

// request makes the library's form. References to other domains' entries are
// not followed: nothing here looks for entries of other domains.
func (s Search) request() *ldap.SearchRequest {
	filter := s.Filter
	if filter.Kind == adproto.FilterAnd && len(filter.Children) == 0 {
		filter = adproto.Present("objectClass")
	}
	return ldap.NewSearchRequest(s.Base, int(s.Scope), ldap.NeverDerefAliases, s.Limit, 0, false, filter.String(), s.Attrs, s.Controls)
}

// Search returns the entries that satisfy the request.
func (c *Conn) Search(ctx context.Context, s Search) ([]*ldap.Entry, error) {
	op := fmt.Sprintf("search %q", s.Base)
	if s.Base == "" {
		op = "read rootDSE"
	}
	var entries []*ldap.Entry
	err := c.do(ctx, op, func() error {
		search := func() (*ldap.SearchResult, error) { return c.ldap.Search(s.request()) }
		if s.Limit == 0 && s.Scope != Base {
			search = func() (*ldap.SearchResult, error) { return c.ldap.SearchWithPaging(s.request(), pageSize) }
		}
		res, err := search()
		if err == nil {
			entries = res.Entries
		}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case s.Limit > 0 && len(entries) > s.Limit: // Samba does not count
		return nil, newError(op, ldap.LDAPResultSizeLimitExceeded, "")
	}
	return entries, nil
}

// Read returns one entry by its name: [ErrNoSuchObject] if there is none or the
// caller may not see it.
func (c *Conn) Read(ctx context.Context, dn string, attrs ...string) (*ldap.Entry, error) {
	entries, err := c.Search(ctx, Search{Base: dn, Scope: Base, Attrs: attrs})
	if err != nil {
		return nil, err
	}
	if len(entries) != 1 {
		return nil, fmt.Errorf("read %q: %d entries: %w", dn, len(entries), ErrNoSuchObject)
	}
	return entries[0], nil
}

// WhoAmI asks who the directory takes us for: RFC 4532. Active Directory
// answers "u:DOMAIN\name".
func (c *Conn) WhoAmI(ctx context.Context) (string, error) {
	var id string
	err := c.do(ctx, "who am I", func() error {
		res, err := c.ldap.WhoAmI(nil)
		if err == nil {
			id = res.AuthzID
		}
		return err
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// Add makes an entry.
func (c *Conn) Add(ctx context.Context, req *ldap.AddRequest) error {
	return c.do(ctx, fmt.Sprintf("add %q", req.DN), func() error { return c.ldap.Add(req) })
}

// Modify changes an entry.
func (c *Conn) Modify(ctx context.Context, req *ldap.ModifyRequest) error {
	return c.do(ctx, fmt.Sprintf("modify %q", req.DN), func() error { return c.ldap.Modify(req) })
}

// ModifyDN renames or moves an entry.
func (c *Conn) ModifyDN(ctx context.Context, req *ldap.ModifyDNRequest) error {
	return c.do(ctx, fmt.Sprintf("rename %q", req.DN), func() error { return c.ldap.ModifyDN(req) })
}

// Delete removes an entry.
func (c *Conn) Delete(ctx context.Context, req *ldap.DelRequest) error {
	return c.do(ctx, fmt.Sprintf("delete %q", req.DN), func() error { return c.ldap.Del(req) })
}

// do runs a request of the library, which knows no context, and leaves when ctx
// ends: the request ends by itself at the connection's timeout at the latest.
// Results are written by f, so a caller must not look at them after an error.
func (c *Conn) do(ctx context.Context, op string, f func() error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
	done := make(chan error, 1)
	start := time.Now()
	go func() { done <- f() }()
	select {
	case err := <-done:
		err = typed(op, err)
		if errors.Is(err, ErrConnection) && time.Since(start) < c.timeout {
			// Not the silence of a slow server: the library may notice later than
			// its caller that a write has failed.
			c.broken.Store(true)
		}
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", op, context.Cause(ctx))
	}
}
