package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// member is one identity of the set: a domain, and who this host is there. It is
// the account.Domain of the accounts that are read with it.
type member struct {
	domain *ad.Domain
	source source
	opt    Options

	standalone standaloneStore // none for a reader
	// changing is held while the password of a standalone account is read, changed or
	// adopted, and the domain is asked about it: two changes at once would lose one.
	changing sync.Mutex

	// mu guards the fields below; no request runs while it is held, apart from
	// what the source asks of its store, so that a hundred callers ask it once.
	mu      sync.Mutex
	session *ad.Session
	// rejected counts the sets of credentials that the KDC refused since one was
	// accepted: the source's next choice is taken then.
	rejected int
	expires  time.Time // of the host's ticket
	err      error     // of the last request that failed for the identity's sake
	noticed  time.Time // the end of the password that was warned of
}

var _ account.Domain = (*member)(nil)

// ReadPassword implements account.Domain.
func (m *member) ReadPassword(ctx context.Context, name string, hint account.ReadHint) (account.Reading, error) {
	parsed, err := adproto.ParseAccountName(name)
	if err != nil {
		return account.Reading{}, explain(err, "")
	}
	var p ad.ManagedPassword
	err = m.with(ctx, hint.FreshTicket, func(s *ad.Session) (err error) {
		p, err = s.ManagedPassword(ctx, parsed, ad.Hint{Avoid: hint.Avoid})
		return err
	})
	if errors.Is(err, ad.ErrNotGMSA) && m.standalone.dir != "" {
		r, err := m.readStandalone(ctx, name, parsed)
		if err != nil {
			return account.Reading{}, explain(err, "")
		}
		return r, nil
	}
	if err != nil {
		return account.Reading{}, explain(err, "")
	}
	r := account.Reading{
		Blob: p.Blob, KVNO: p.Account.KVNO, Name: p.Account.Name, SID: p.Account.SID,
		DNSHostName: p.Account.DNSHostName, SPNs: p.Account.SPNs, EncTypes: uint32(p.Account.EncTypes), Controller: p.Controller,
	}
	if p.Account.MSA != nil {
		r.ID = p.Account.MSA.ID
	}
	return r, nil
}

// Authenticate implements account.Domain. It needs nothing of the host's own
// identity.
func (m *member) Authenticate(ctx context.Context, req account.AuthRequest) (account.Authentication, error) {
	as := kclient.ASRequest{
		Client: req.Client.Name, Secret: kclient.SaltedKeys(req.Salt, req.Proven, req.Keys...),
		Lifetime: req.Lifetime, Prefer: req.Controller,
	}
	if req.Forwardable {
		as.Options |= krb5.OptForwardable
	}
	res, err := m.domain.Kerberos().AS(ctx, as)
	if err != nil {
		return account.Authentication{}, explain(err, controllerOf(err))
	}
	return account.Authentication{Credential: res.Credential, KVNO: res.KVNO, Controller: res.KDC.Host, Offset: res.Offset}, nil
}

var _ account.Salter = (*member)(nil)

// Salt implements account.Salter.
func (m *member) Salt(ctx context.Context, client krb5.Principal, controller string, etypes ...crypto.EType) (string, error) {
	return m.domain.Kerberos().Salt(ctx, client.Name, controller, etypes...)
}

// ServiceTicket implements account.Domain.
func (m *member) ServiceTicket(ctx context.Context, tgt krb5.Credential, service krb5.PrincipalName) (krb5.Credential, string, error) {
	res, err := m.domain.Kerberos().TGS(ctx, kclient.TGSRequest{TGT: tgt, Server: service})
	if err != nil {
		return krb5.Credential{}, "", explain(err, controllerOf(err))
	}
	return res.Credential, res.KDC.Host, nil
}

func controllerOf(err error) string {
	if e, ok := errors.AsType[*kclient.Error](err); ok {
		return e.KDC.Host
	}
	return ""
}

// maxCredentials bounds how many sets of a source's credentials one request
// tries: the ones in use, those that the store has now, and the key before them
// in a keytab that another program or another controller is ahead of.
const maxCredentials = 3

// with runs ask in the identity's session. When the domain does not accept the
// identity's own credentials they are fetched again, because they may have been
// changed since: a portable account rotates without an outage.
func (m *member) with(ctx context.Context, fresh bool, ask func(*ad.Session) error) error {
	var err error
	for try := range maxCredentials {
		var s *ad.Session
		if s, err = m.open(ctx); err != nil {
			m.note(time.Time{}, err)
			return err
		}
		if fresh && try == 0 {
			s.Refresh()
		}
		err = ask(s)
		if !errors.Is(err, ad.ErrIdentity) || !errors.Is(err, kclient.ErrWrongKey) {
			m.accepted(s, err)
			return err
		}
		m.reject(s)
	}
	m.note(time.Time{}, err)
	return err
}

// errStore: the source has no credentials to give.
var errStore = errors.New("no credentials")

// open returns the session, made anew with the source's credentials if there is
// none.
func (m *member) open(ctx context.Context) (*ad.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session != nil {
		return m.session, nil
	}
	id, err := m.source.credentials(ctx, m.rejected)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStore, err)
	}
	m.session, err = ad.Open(m.domain, id)
	return m.session, err
}

// reject drops a session whose credentials were refused, unless another caller
// has done so already.
func (m *member) reject(s *ad.Session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.session != s {
		return
	}
	m.session = nil
	m.rejected++
	// A session that others still use ends their requests with it; they are
	// refused for the same reason.
	_ = s.Close()
}

// accepted notes how the identity stands after a request that was not refused
// for its sake.
func (m *member) accepted(s *ad.Session, err error) {
	if err != nil && errors.Is(err, ad.ErrIdentity) {
		m.note(time.Time{}, err)
		return
	}
	tgt, ok := s.Held()
	if !ok {
		return // nobody answered, so nothing was accepted
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rejected, m.expires, m.err = 0, tgt.EndTime, nil
	m.notice(s.PasswordExpires())
}

// expiryNotice is how long ahead the end of an identity's own password is told: 14
// days, as Windows warns its users.
const expiryNotice = 14 * 24 * time.Hour

// notice warns once of a password that is about to expire; mu is held. It is no
// failure: until then everything works.
func (m *member) notice(ends time.Time) {
	if ends.IsZero() || ends.Equal(m.noticed) || ends.Sub(m.opt.Now()) > expiryNotice {
		return
	}
	m.noticed = ends
	m.opt.Log.Warn("the password of the identity that reads managed passwords expires; set a new one, and store it where the agent reads it",
		slog.String("identity", m.source.principal()), slog.Time("expires", ends))
}

func (m *member) note(expires time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expires, m.err = expires, err
}

func (m *member) state() (expires time.Time, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.expires, m.err
}

// realmTimeout bounds the look-up of controllers for a krb5.conf. The locator
// has them in memory after the account was read.
const realmTimeout = 2 * time.Second

// realm is the domain for a krb5.conf. Addresses are written instead of names, so
// that a container needs no DNS of the domain to get service tickets.
func (m *member) realm() lease.Realm {
	r := lease.Realm{Name: m.domain.Realm(), Domain: m.domain.Name()}
	ctx, cancel := context.WithTimeout(context.Background(), realmTimeout)
	defer cancel()
	controllers, err := m.domain.Locator().Controllers(ctx, locate.Any)
	if err != nil {
		return r // Clients ask DNS then.
	}
	for _, c := range controllers {
		r.KDCs = append(r.KDCs, withoutPort(c.Endpoint(locate.Kerberos), "88"))
		r.Kpasswd = append(r.Kpasswd, withoutPort(c.Endpoint(locate.Kpasswd), "464"))
	}
	return r
}

// withoutPort drops the standard port from an IPv4 endpoint; an IPv6 one keeps
// its brackets and its port.
func withoutPort(endpoint, standard string) string {
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || port != standard || net.ParseIP(host).To4() == nil {
		return endpoint
	}
	return host
}
