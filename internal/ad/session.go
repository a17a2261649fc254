package ad

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
)

// ticketMargin is how long before its end a ticket or a connection is replaced:
// more than the clock skew that Kerberos allows would be wasted, less is risky.
const ticketMargin = 2 * time.Minute

// refreshOnce is the time within which several wishes for a fresh ticket are
// one.
const refreshOnce = time.Second

// Session asks a domain as one identity. It opens connections when they are
// needed, keeps them, and is safe for concurrent use.
type Session struct {
	d  *Domain
	id Identity

	tgtLock lock // held while a ticket is fetched

	mu     sync.Mutex
	closed bool
	tgt    krb5.Credential  // zero until it is needed
	ends   time.Time        // of the identity's password, as the KDC says with its ticket
	epoch  int              // counts the calls of Refresh that had an effect
	fresh  time.Time        // when the last of them was
	slots  map[string]*slot // by endpoint: a controller may have several addresses
	open   map[*conn]bool   // every connection, retired ones too
	names  map[string]string
}

// slot is the place of the one connection to a controller.
type slot struct {
	lock lock  // held while the connection is opened
	conn *conn // guarded by Session.mu
}

// conn is a connection with the requests under way on it. Session.mu guards its
// fields.
type conn struct {
	*ldapc.Conn
	epoch   int // of the tickets it was opened with
	users   int
	retired bool // closes when the last user leaves
}

// lock is a mutex whose waiters give up with their context.
type lock chan struct{}

func (l lock) acquire(ctx context.Context) error {
	select {
	case l <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (l lock) release() { <-l }

// Open begins a session. It sends nothing; close it with [Session.Close].
func Open(d *Domain, id Identity) (*Session, error) {
	if d.cfg.SimpleBind && id.password.IsZero() {
		return nil, fmt.Errorf("ad: simple bind: %w", ErrNoSecret)
	}
	s := &Session{d: d, id: id, tgtLock: make(lock, 1), slots: map[string]*slot{}, open: map[*conn]bool{}, names: map[string]string{}}
	if id.tgt != nil {
		s.tgt = *id.tgt
	}
	return s, nil
}

// Domain is the domain that is asked.
func (s *Session) Domain() *Domain { return s.d }

// Close closes the connections. Requests under way fail.
func (s *Session) Close() error {
	s.mu.Lock()
	s.closed = true
	conns := s.open
	s.open = nil
	s.mu.Unlock()
	for c := range conns {
		_ = c.Close()
	}
	return nil
}

// Refresh makes the next request use a new ticket-granting ticket and a new
// bind, so that the groups count in which the identity is now: universal and
// global ones enter the ticket-granting ticket, domain-local ones the ticket for
// the directory. Requests under way keep their connection. An identity that is
// a ticket gets a new ticket for the directory alone.
//
// Calls within a second of each other count as one: when a host is taken out of
// a group, all of its accounts notice at once.
func (s *Session) Refresh() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.d.kerberos.Now()
	if age := now.Sub(s.fresh); age >= 0 && age < refreshOnce {
		return
	}
	s.epoch, s.fresh = s.epoch+1, now
	if s.id.tgt == nil {
		s.tgt = krb5.Credential{}
	}
}

// TGT is the identity's ticket-granting ticket, fetched when there is none or
// the old one is about to end. Failures are [ErrIdentity].
func (s *Session) TGT(ctx context.Context) (krb5.Credential, error) {
	if err := s.tgtLock.acquire(ctx); err != nil {
		return krb5.Credential{}, err
	}
	defer s.tgtLock.release()
	s.mu.Lock()
	tgt, epoch := s.tgt, s.epoch
	s.mu.Unlock()
	if s.d.kerberos.Now().Add(ticketMargin).Before(tgt.EndTime) {
		return tgt, nil
	}
	if s.id.tgt != nil {
		if !s.d.kerberos.Now().Before(tgt.EndTime) {
			return krb5.Credential{}, fmt.Errorf("%w: the ticket of %v ended at %v", ErrIdentity, tgt.Client, tgt.EndTime)
		}
		return tgt, nil
	}
	res, err := s.d.kerberos.AS(ctx, kclient.ASRequest{Client: s.id.principal(s.d.Name()), Secret: s.id.secret})
	if err != nil {
		if errors.Is(err, kclient.ErrUnreachable) || errors.Is(err, kclient.ErrReply) || ctx.Err() != nil {
			return krb5.Credential{}, err
		}
		return krb5.Credential{}, fmt.Errorf("%w: %w", ErrIdentity, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.epoch == epoch {
		s.tgt = res.Credential
	}
	s.ends = res.PasswordExpires
	return res.Credential, nil
}

// PasswordExpires is when the identity's own password expires, as the KDC said with
// the last ticket; zero if it said nothing.
func (s *Session) PasswordExpires() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends
}

// Held is the identity's ticket-granting ticket if there is one. It asks nobody.
func (s *Session) Held() (tgt krb5.Credential, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.tgt, len(s.tgt.Ticket) > 0
}

// conn returns the connection to a controller, opening it where there is none
// that will do; the caller gives it back with [Session.release]. kept says that
// it was there before.
func (s *Session) conn(ctx context.Context, c locate.Controller) (cn *conn, kept bool, err error) {
	s.mu.Lock()
	sl := s.slots[c.Endpoint(locate.LDAP)]
	if sl == nil {
		sl = &slot{lock: make(lock, 1)}
		s.slots[c.Endpoint(locate.LDAP)] = sl
	}
	s.mu.Unlock()
	if err := sl.lock.acquire(ctx); err != nil {
		return nil, false, err
	}
	defer sl.lock.release()

	s.mu.Lock()
	cn, epoch := sl.conn, s.epoch
	if cn != nil && cn.epoch == epoch && s.usable(cn) {
		cn.users++
		s.mu.Unlock()
		return cn, true, nil
	}
	s.mu.Unlock()
	lc, err := s.connect(ctx, c)
	if err != nil {
		return nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = lc.Close()
		return nil, false, errClosed
	}
	s.retire(sl.conn)
	cn = &conn{Conn: lc, epoch: epoch, users: 1}
	sl.conn, s.open[cn] = cn, true
	return cn, false, nil
}

// errClosed is a request on a session that was closed.
var errClosed = errors.New("ad: session is closed")

// release gives a connection back.
func (s *Session) release(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.users--; c.retired && c.users == 0 {
		delete(s.open, c)
		_ = c.Close()
	}
}

// retire lets a connection, if there is one, end with its last request. The
// caller holds mu.
func (s *Session) retire(c *conn) {
	if c == nil {
		return
	}
	if c.retired = true; c.users == 0 {
		delete(s.open, c)
		_ = c.Close()
	}
}

// usable reports whether a kept connection can carry another request.
func (s *Session) usable(c *conn) bool {
	expires := c.Info().Expires
	return c.Alive() && (expires.IsZero() || s.d.kerberos.Now().Add(ticketMargin).Before(expires))
}

// connect connects and binds.
func (s *Session) connect(ctx context.Context, c locate.Controller) (*ldapc.Conn, error) {
	cfg := ldapc.Config{
		ServerName: c.Name, Protection: s.d.cfg.Protection, Mechanism: s.d.cfg.Mechanism, RootCAs: s.d.cfg.RootCAs,
		Timeout: s.d.cfg.Timeout, Now: s.d.kerberos.Now, Rand: s.d.cfg.Rand,
	}
	if s.d.cfg.SimpleBind {
		cfg.Simple = &ldapc.Simple{Name: s.bindName(), Password: s.id.password}
	} else {
		ticket, err := s.ldapTicket(ctx, c)
		if err != nil {
			return nil, err
		}
		cfg.Kerberos = &ticket
	}
	service := locate.LDAP
	if cfg.Protection == ldapc.LDAPS {
		service = locate.LDAPS
	}
	nc, _, err := s.d.locator.Dial(ctx, service, []locate.Controller{c})
	if err != nil {
		return nil, err
	}
	return ldapc.Open(ctx, nc, cfg)
}

// bindName is the name for a simple bind: with a domain, since a bare one would
// be taken for a distinguished name.
func (s *Session) bindName() string {
	if strings.ContainsAny(s.id.name, `\@`) {
		return s.id.name
	}
	return s.id.name + "@" + s.d.Name()
}

// ldapTicket gets a ticket for a controller's directory. Its name has three
// parts, ldap/HOST/DOMAIN: any host may register ldap/ITSELF, but only a domain
// controller has the domain as the third part ([MS-DRSR] 2.2.3.2), so that a
// forged answer of DNS cannot lead to some other host of the domain.
func (s *Session) ldapTicket(ctx context.Context, c locate.Controller) (krb5.Credential, error) {
	for try := 0; ; try++ {
		tgt, err := s.TGT(ctx)
		if err != nil {
			return krb5.Credential{}, err
		}
		res, err := s.d.kerberos.TGS(ctx, kclient.TGSRequest{TGT: tgt, Server: krb5.NewName(krb5.NameSrvInst, "ldap", c.Name, s.d.Name())})
		if errors.Is(err, kclient.ErrTicket) && s.discard(tgt) && try == 0 {
			continue
		}
		if err != nil {
			return krb5.Credential{}, fmt.Errorf("ticket for the directory of %v: %w", c, err)
		}
		return res.Credential, nil
	}
}

// discard forgets a ticket-granting ticket that the KDC does not take: its own
// key is a new one, or somebody changed the ticket on its way to us, which no
// client can see. It reports whether another can be had.
func (s *Session) discard(tgt krb5.Credential) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.id.tgt != nil {
		return false
	}
	if bytes.Equal(s.tgt.Ticket, tgt.Ticket) {
		s.tgt = krb5.Credential{}
	}
	return true
}

// drop closes the connection to a controller at once, whoever uses it.
func (s *Session) drop(c locate.Controller) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sl := s.slots[c.Endpoint(locate.LDAP)]; sl != nil && sl.conn != nil {
		_ = sl.conn.Close()
		s.retire(sl.conn)
		sl.conn = nil
	}
}
