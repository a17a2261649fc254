package identity

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/secret"
)

var _ agent.Readers = (*Set)(nil)

// readerSource is a user whose password somebody has brought.
type readerSource struct {
	name     adproto.AccountName
	realm    string
	password atomic.Pointer[secret.Bytes]
}

func (s *readerSource) credentials(context.Context, int) (ad.Identity, error) {
	return ad.WithPassword(s.name, *s.password.Load())
}

func (s *readerSource) principal() string  { return s.name.Name + "@" + s.realm }
func (*readerSource) plugin() event.Plugin { return "credentials-fetcher" }
func (*readerSource) kind() string         { return "brought by a caller" }

// Admit implements agent.Readers. The password is tried before it takes the place of
// another one, so that a wrong one breaks nothing.
func (s *Set) Admit(ctx context.Context, r lease.Reader) (agent.Identity, error) {
	name, err := adproto.ParseAccountName(r.User)
	if err != nil {
		return agent.Identity{}, failure(agentapi.Kind_KIND_USAGE, 0, err)
	}
	s.mu.Lock()
	domain, d := s.domains[r.Domain], s.cfg.Domains[r.Domain]
	s.mu.Unlock()
	if domain == nil {
		return agent.Identity{}, notConfigured(r.Domain)
	}
	password := r.Password.Clone()
	id, err := ad.WithPassword(name, password)
	if err != nil {
		return agent.Identity{}, failure(agentapi.Kind_KIND_USAGE, 0, err)
	}
	session, err := ad.Open(domain, id)
	if err != nil {
		return agent.Identity{}, err
	}
	defer session.Close()
	if _, err := session.TGT(ctx); err != nil {
		return agent.Identity{}, explain(err, "")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[readerKey(r.User, r.Domain)]
	if m == nil {
		m = &member{domain: domain, source: &readerSource{name: name, realm: d.Realm}, opt: s.opt}
		s.members[readerKey(r.User, r.Domain)] = m
	}
	m.source.(*readerSource).password.Store(&password)
	return m.identity(), nil
}

// Reader implements agent.Readers.
func (s *Set) Reader(user, domain string) (agent.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.members[readerKey(user, domain)]
	if m == nil {
		return agent.Identity{}, &agentapi.Failure{
			Kind: agentapi.Kind_KIND_DENIED, Message: fmt.Sprintf("the password of %s@%s is not known until somebody brings it again", user, domain),
		}
	}
	return m.identity(), nil
}

// Dismiss implements agent.Readers.
func (s *Set) Dismiss(user, domain string) {
	s.mu.Lock()
	m := s.members[readerKey(user, domain)]
	delete(s.members, readerKey(user, domain))
	s.mu.Unlock()
	if m != nil {
		m.forget()
	}
}

func readerKey(user, domain string) memberKey { return memberKey{domain: domain, reader: user} }

// moveReader goes on with a reader under a new configuration of its domain.
func (s *Set) moveReader(m *member, to *ad.Domain) *member {
	return &member{domain: to, source: m.source, opt: s.opt}
}
