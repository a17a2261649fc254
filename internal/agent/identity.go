package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agent/account"
	"github.com/opengmsa/opengmsa/internal/agent/config"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/internal/lease"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/secret"
)

// Identities are who this host is to its domains: its computer accounts, and
// what plug-ins yield.
type Identities interface {
	// Configure takes the domains and plug-ins of a configuration. An identity
	// that is as before stays the same value, so that its accounts go on.
	Configure(config.Config) error
	// Identity is the host's own in a configured domain or, for a credential
	// spec that names a plug-in, the one that it yields. It asks no server.
	// Its errors are for the caller: [*agentapi.Failure].
	Identity(domain string, portable *credspec.HostAccountConfig) (Identity, error)
	// Status tells how the identities are.
	Status() []*agentapi.HostIdentity
	// Run keeps them: the tickets, and the computer's password where that is
	// the agent's to change.
	Run(context.Context) error
}

// Identity is one of them.
type Identity struct {
	// Domain reads passwords and authenticates accounts with it.
	Domain account.Domain
	// Host names the identity: WEB1$@CONTOSO.COM.
	Host string
	// Plugin is its source, for the event log.
	Plugin event.Plugin
	// Realm is the domain for a krb5.conf, with the controllers of the moment.
	Realm func() lease.Realm
}

// StandaloneKeeper is an [account.Domain] that keeps the passwords of standalone
// accounts, which the domain gives to nobody. Names are as in account.Key.
type StandaloneKeeper interface {
	// Adopt takes over a password that somebody has just set, in UTF-16, if the
	// domain accepts it and the account is linked to this host.
	Adopt(ctx context.Context, name string, password secret.Bytes) error
	// Abandon destroys what is kept of an account, if anything is.
	Abandon(name string) error
}

// Readers are [Identities] that also use a user whose password somebody brings.
type Readers interface {
	// Admit tries the password, and makes the user an identity of its domain. A later
	// password of the same user takes the place of the one before.
	Admit(context.Context, lease.Reader) (Identity, error)
	// Reader is a user that was admitted.
	Reader(user, domain string) (Identity, error)
	// Dismiss forgets a user and its password.
	Dismiss(user, domain string)
}

// maxSPNs bounds the services whose tickets a caller may ask for ahead of use.
const maxSPNs = 16

// target is one account of a lease, with the identity that gets it.
type target struct {
	account  lease.Account
	key      account.Key
	identity Identity
	plugin   string               // PluginGUID of the identity; empty for the host's own
	services []krb5.PrincipalName // of the configuration
}

// pluginOf is the plug-in of a lease's accounts, of which a credential spec has one
// at most; empty for none.
func pluginOf(targets []target) string {
	for _, t := range targets {
		if t.plugin != "" {
			return t.plugin
		}
	}
	return ""
}

// resolver turns names into targets under one configuration.
type resolver struct {
	cfg        config.Config
	identities Identities
}

// spec resolves the accounts of a credential spec. The spec is untrusted: its
// domains must be configured, and a plug-in's identity is used in the spec's own
// domain alone.
func (r resolver) spec(s credspec.Spec) ([]target, error) {
	portable := s.ActiveDirectoryConfig.HostAccountConfig
	var targets []target
	for _, a := range s.Accounts() {
		domain, err := r.domain(a.Domain, a.NetBIOS)
		if err != nil {
			return nil, err
		}
		host := portable
		if portable != nil && !strings.EqualFold(domain, s.DomainJoinConfig.DnsName) {
			host = nil
		}
		t, err := r.target(a.Name, domain, host)
		if err != nil {
			return nil, err
		}
		targets = append(targets, t)
	}
	if len(targets) == 0 {
		return nil, usage("the credential spec names no account")
	}
	return targets, nil
}

// account resolves a name in any of its forms.
func (r resolver) account(s string) (target, error) {
	name, err := adproto.ParseAccountName(s)
	if err != nil {
		return target{}, usage("account: %v", err)
	}
	var domain string
	switch {
	case name.Domain != "":
		domain, err = r.domain(name.Domain, name.Domain)
	case len(r.cfg.Domains) == 1:
		for d := range r.cfg.Domains {
			domain = d
		}
	default:
		err = usage("account %q: the agent has %d domains; name one, such as NAME@contoso.com", s, len(r.cfg.Domains))
	}
	if err != nil {
		return target{}, err
	}
	return r.target(name.Bare(), domain, nil)
}

// domain finds a configured domain by its DNS name, or by its NetBIOS name where there is
// no other: two domains may have the same short one.
func (r resolver) domain(dns, netbios string) (string, error) {
	if _, ok := r.cfg.Domains[strings.ToLower(dns)]; ok {
		return strings.ToLower(dns), nil
	}
	for name, d := range r.cfg.Domains {
		if strings.Contains(dns, ".") {
			break
		}
		if netbios != "" && strings.EqualFold(d.NetBIOS, netbios) {
			return name, nil
		}
	}
	return "", &agentapi.Failure{
		Kind: agentapi.Kind_KIND_USAGE, Message: fmt.Sprintf("domain %q is not configured on this host", cmp.Or(dns, netbios)),
		Hints: []string{"name it under domains in /etc/gmsa/agent.yaml, then gmsa agent reload"},
	}
}

func (r resolver) target(name, domain string, portable *credspec.HostAccountConfig) (target, error) {
	id, err := r.identities.Identity(domain, portable)
	if err != nil {
		return target{}, err
	}
	t, err := r.read(name, domain, id)
	if portable != nil {
		t.plugin = portable.PluginGUID
	}
	return t, err
}

// read is an account that an identity reads.
func (r resolver) read(name, domain string, id Identity) (target, error) {
	bare, err := credspec.BareName(name)
	if err != nil {
		return target{}, usage("account %q: %v", name, err)
	}
	d := r.cfg.Domains[domain]
	services, err := serviceNames(d.PrefetchSPNs)
	if err != nil {
		return target{}, err
	}
	return target{
		account:  lease.Account{Name: bare, Domain: domain},
		key:      account.Key{Realm: d.Realm, Name: strings.ToLower(bare) + "$", Host: id.Host},
		identity: id,
		services: services,
	}, nil
}

// serviceNames reads service principal names as Kerberos names.
func serviceNames(spns []string) ([]krb5.PrincipalName, error) {
	names := make([]krb5.PrincipalName, 0, len(spns))
	for _, s := range spns {
		if _, err := adproto.ParseSPN(s); err != nil {
			return nil, usage("service principal name %q: %v", s, err)
		}
		name := krb5.NewName(krb5.NameSrvInst, strings.Split(s, "/")...)
		if !slices.ContainsFunc(names, name.Equal) {
			names = append(names, name)
		}
	}
	return names, nil
}

// directoryNames are the names of the accounts' directories in a lease: the
// account's, with its domain where two have one name.
func directoryNames(accounts []lease.Account) []string {
	names := make([]string, len(accounts))
	for i, a := range accounts {
		names[i] = a.Name
		for j, b := range accounts {
			if i != j && strings.EqualFold(a.Name, b.Name) {
				names[i] = a.String()
			}
		}
	}
	return names
}

// errGone is a lease whose workload ended before the lease was complete.
var errGone = errors.New("the workload has ended")
