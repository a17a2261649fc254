package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agent"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
)

// Options are what a [Set] needs beside the agent's configuration. The zero value
// of each field is its default.
type Options struct {
	// Log gets what an operator may want to know; the default discards.
	Log *slog.Logger
	// Now is the clock; the default is time.Now.
	Now func() time.Time
	// Dial connects to controllers; the default is a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Ports override those of DNS and of the standards.
	Ports locate.Ports
}

// Set is all identities of this host: agent.Identities. An identity that a new
// configuration leaves as it was stays the same value, so that accounts go on
// with their keys and connections.
type Set struct {
	opt Options

	// mu guards the fields below. It is not held while a server is asked.
	mu       sync.Mutex
	cfg      config.Config
	registry *plugin.Registry
	domains  map[string]*ad.Domain
	members  map[memberKey]*member
}

var _ agent.Identities = (*Set)(nil)

// memberKey names an identity: the host's own in a domain, a plug-in's with one
// input, or a reader's. The input may be a password, so only its hash is kept.
type memberKey struct {
	domain, plugin, reader string
	input                  [sha256.Size]byte
}

// New makes an empty set.
func New(opt Options) *Set {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	return &Set{opt: opt, domains: map[string]*ad.Domain{}, members: map[memberKey]*member{}}
}

// Configure implements agent.Identities. When it fails, everything stays as it
// was.
func (s *Set) Configure(cfg config.Config) error {
	registry, err := plugin.NewRegistry(cfg.Plugins, plugin.ThisHost())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	domains := map[string]*ad.Domain{}
	for name, d := range cfg.Domains {
		if old := s.domains[name]; old != nil && sameWay(s.cfg.Domains[name], d) {
			domains[name] = old
			continue
		}
		if domains[name], err = s.opt.domain(name, d); err != nil {
			return fmt.Errorf("domains.%s: %w", name, err)
		}
	}
	changedPlugins := !reflect.DeepEqual(s.cfg.Plugins, cfg.Plugins)
	for key, m := range s.members {
		if to := domains[key.domain]; key.reader != "" && to != nil {
			if to != m.domain {
				s.members[key] = s.moveReader(m, to)
			}
			continue
		}
		sameHost := reflect.DeepEqual(s.cfg.Domains[key.domain].Host, cfg.Domains[key.domain].Host)
		if domains[key.domain] != m.domain || key.plugin == "" && !sameHost || key.plugin != "" && changedPlugins {
			// Accounts that still hold it go on with it until they are asked again.
			delete(s.members, key)
		}
	}
	s.cfg, s.registry, s.domains = cfg, registry, domains
	return nil
}

// sameWay reports whether a domain is reached as before.
func sameWay(a, b config.Domain) bool {
	a.Host, b.Host = nil, nil
	a.PrefetchSPNs, b.PrefetchSPNs = nil, nil
	return reflect.DeepEqual(a, b)
}

// domain makes the way to one domain. It sends nothing.
func (o Options) domain(name string, d config.Domain) (*ad.Domain, error) {
	cfg := ad.Config{
		Locate: locate.Config{Domain: name, Servers: d.Servers, Site: d.Site, Ports: o.Ports, Dial: o.Dial, Now: o.Now},
	}
	switch d.Protection {
	case config.ProtectionGSSAPI:
		cfg.Mechanism = ldapc.GSSAPI
	case config.ProtectionLDAPS:
		cfg.Protection = ldapc.LDAPS
	case config.ProtectionStartTLS:
		cfg.Protection = ldapc.StartTLS
	}
	if d.CA != "" {
		pem, err := os.ReadFile(d.CA)
		if err != nil {
			return nil, fmt.Errorf("ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca: %s has no certificate in PEM", d.CA)
		}
	}
	return ad.NewDomain(cfg)
}

// Identity implements agent.Identities.
func (s *Set) Identity(domain string, portable *credspec.HostAccountConfig) (agent.Identity, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, known := s.cfg.Domains[domain]
	if !known {
		return agent.Identity{}, notConfigured(domain)
	}
	key := memberKey{domain: domain}
	if portable != nil {
		key.plugin = "{" + strings.ToLower(portable.PluginGUID) + "}"
		key.input = sha256.Sum256(portable.PluginInput.Reveal())
	}
	m := s.members[key]
	if m == nil {
		src, err := s.source(d, domain, portable)
		if err != nil {
			return agent.Identity{}, err
		}
		m = &member{
			domain: s.domains[domain], source: src, opt: s.opt,
			standalone: standaloneStore{dir: filepath.Join(s.cfg.StateDirectory, "standalone")},
		}
		s.members[key] = m
	}
	return m.identity(), nil
}

func notConfigured(domain string) error {
	return &agentapi.Failure{Kind: agentapi.Kind_KIND_USAGE, Message: fmt.Sprintf("domain %q is not configured on this host", domain)}
}

func (m *member) identity() agent.Identity {
	return agent.Identity{Domain: m, Host: m.source.principal(), Plugin: m.source.plugin(), Realm: m.realm}
}

// source is what a credential spec names, or the host's own.
func (s *Set) source(d config.Domain, domain string, portable *credspec.HostAccountConfig) (source, error) {
	switch {
	case portable != nil:
		return s.portable(d, domain, portable)
	case d.Host == nil:
		return nil, &agentapi.Failure{
			Kind:    agentapi.Kind_KIND_DENIED,
			Message: fmt.Sprintf("this host has no identity of its own in %s", domain),
			Hints:   []string{"join the host and name its keytab under domains." + domain + ".host", "or use a credential spec with a HostAccountConfig"},
		}
	}
	return s.own(d, domain)
}

// portable is the source that a credential spec names.
func (s *Set) portable(d config.Domain, domain string, h *credspec.HostAccountConfig) (source, error) {
	id, err := credspec.ParsePluginGUID(h.PluginGUID)
	if err != nil {
		return nil, failure(agentapi.Kind_KIND_USAGE, event.IDSpecUnparsable, err)
	}
	p, err := s.registry.Lookup(id)
	if err != nil {
		return nil, failure(agentapi.Kind_KIND_FAILED, event.IDPluginFailed, err)
	}
	return &pluginSource{p: p, input: h.PluginInput, domain: domain, netbios: d.NetBIOS, realm: d.Realm}, nil
}

// own is the source of the host's own identity.
func (s *Set) own(d config.Domain, domain string) (source, error) {
	h := d.Host
	switch {
	case h.Keytab != "":
		return newKeytabSource(h.Keytab, h.Principal, d.Realm), nil
	case h.Plugin != "":
		p, err := s.registry.Named(h.Plugin)
		if err != nil {
			return nil, failure(agentapi.Kind_KIND_FAILED, event.IDPluginFailed, err)
		}
		return &pluginSource{p: p, input: secretOf(h.Input), configured: true, domain: domain, netbios: d.NetBIOS, realm: d.Realm}, nil
	default:
		name, err := adproto.ParseAccountName(h.User)
		if err != nil {
			return nil, failure(agentapi.Kind_KIND_USAGE, 0, err)
		}
		return &passwordSource{name: name, file: h.PasswordFile, realm: d.Realm}, nil
	}
}

// failure is an error for the caller of the agent.
func failure(kind agentapi.Kind, id event.ID, err error) error {
	f := &agentapi.Failure{Kind: kind, Message: err.Error(), EventID: uint32(id), Err: err}
	if message, hint, ok := strings.Cut(f.Message, "; hint: "); ok {
		f.Message, f.Hints = message, []string{hint}
	}
	return f
}

// Status implements agent.Identities.
func (s *Set) Status() []*agentapi.HostIdentity {
	s.mu.Lock()
	members := maps.Clone(s.members)
	s.mu.Unlock()
	var list []*agentapi.HostIdentity
	for key, m := range members {
		h := &agentapi.HostIdentity{Domain: key.domain, Principal: m.source.principal(), Source: m.source.kind()}
		expires, err := m.state()
		if !expires.IsZero() {
			h.TicketExpires = timestamppb.New(expires)
		}
		if err != nil {
			h.Error = &agentapi.Error{Kind: agentapi.Kind_KIND_FAILED, Message: err.Error()}
			if f, ok := errors.AsType[*agentapi.Failure](err); ok {
				h.Error = f.Proto()
			}
		}
		list = append(list, h)
	}
	slices.SortFunc(list, func(a, b *agentapi.HostIdentity) int {
		return cmp.Or(strings.Compare(a.GetDomain(), b.GetDomain()), strings.Compare(a.GetPrincipal(), b.GetPrincipal()))
	})
	return list
}
