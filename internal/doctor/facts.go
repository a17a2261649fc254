package doctor

import (
	"context"
	"crypto/x509"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/lint"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/secret"
)

// Config says what to look at, and from where.
type Config struct {
	// Domain is the DNS name of the domain. Required.
	Domain string
	// Servers are controllers to look at in place of those that DNS names, as
	// [locate.Config.Servers]; the checks of DNS are left out then.
	Servers []string
	// Accounts are managed service accounts, by sAMAccountName or anything else that
	// names one; those of the specs are looked at too.
	Accounts []string
	// URLs are addresses at which clients reach what runs as the first account.
	URLs []string
	// Specs are credential spec files.
	Specs []SpecFile
	// Host is this machine as a member of the domain; nil where the question is an
	// administrator's or a container's.
	Host *Host
	// HostAccount is the computer that is to retrieve the passwords, where this is not
	// the machine itself; empty for this one.
	HostAccount string
	// Asker asks the directory; nil means the host.
	Asker *ad.Identity
	// RootCAs sign the controllers' certificates; nil means the system's. TLS says
	// that connections to the directory use TLS here, so that it must be in order.
	RootCAs *x509.CertPool
	TLS     bool
	// Places are the networks to look from, the host's own first. Empty means
	// this process's.
	Places []Place
	// Agent looks at the credential guard of the host; nil where there is none to be.
	Agent Agent
	// Lease is the lease of a workload to look at; nil for none.
	Lease *Lease
	// Windows is how a Windows container is to be run; the zero value looks at nothing.
	Windows lint.Windows
	// Files are Dockerfiles and manifests that the containers are made of and started by.
	Files []lint.File
	// Seen says from where: host, container or desk.
	Seen string
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// Timeout bounds the run; 0 means [DefaultTimeout].
	Timeout time.Duration
}

// joined reports whether the host is to have an account of its own in the domain.
func (c Config) joined() bool { return c.Host != nil && c.Host.Keytab != "" }

// Host is this machine as a member of the domain.
type Host struct {
	// Keytab is its file of keys, and Principal whose keys in it; empty for the first
	// computer's. A host without a keytab is one that is not joined and has
	// credential specs with a plug-in.
	Keytab    string
	Principal string
	// ConfigPath is the agent's configuration, ConfigErr what is wrong with it.
	ConfigPath string
	ConfigErr  error
}

// SpecFile is a credential spec as it lies on the disk.
type SpecFile struct {
	Path string
	// Content is empty where Err says why it could not be read.
	Content []byte
	Err     error
	// Directories are where consumers look for specs; empty where the place of the
	// file does not matter.
	Directories []string
}

// Place is a network to look from.
type Place struct {
	// Name is "host", or what a container is called.
	Name string
	// Dial connects from there; nil means from here.
	Dial locate.DialFunc
	// Root is the root directory whose /etc/resolv.conf and /etc/hosts count there.
	Root string
}

// Agent is the credential guard of the host, as the doctor sees it.
type Agent interface {
	// Status asks it how it is. An error means that it does not answer.
	Status(ctx context.Context) (AgentStatus, error)
	// Plugin names the plug-in that the configuration registers for a GUID. The error
	// says that there is none.
	Plugin(id credspec.PluginID) (name string, err error)
	// Portable asks that plug-in's store for the identity that it holds. The caller
	// destroys the password.
	Portable(ctx context.Context, id credspec.PluginID, input secret.Bytes) (PortableIdentity, error)
}

// PortableIdentity is whom a plug-in makes of a host.
type PortableIdentity struct {
	Domain, User string
	Password     secret.Bytes
}

// AgentStatus is what the agent says of itself.
type AgentStatus struct {
	Version string
	Storage string
	// Identities, Specs and Accounts have the faults that it knows; those without any
	// are not listed.
	Identities, Specs, Accounts []AgentFault
	Leases                      int
}

// AgentFault is something that the agent reports.
type AgentFault struct {
	Of       string // an identity, spec or account
	Problem  string
	Remedies []string
	Warning  bool
}

// Lease is a workload's lease.
type Lease struct {
	Name      string // its ID
	Directory string // as this process sees it
	UID, GID  uint32
	Mode      uint32
	// PID is the workload's process; 0 where it has none.
	PID int
	// Environ is the workload's environment; nil where it cannot be read. Values may be
	// left out.
	Environ []string
	// ProcessUID and ProcessGIDs are whose rights the workload has.
	ProcessUID  uint32
	ProcessGIDs []uint32
}

// Facts is what is known when a check runs: what is common to all, and its subject.
// Each field is written by the one check that is named with it, and read by checks
// that need that one, so that no lock is needed.
type Facts struct {
	*shared
	place   *placeFacts
	spec    *specFacts
	account *accountFacts
}

// shared is what all checks have in common.
type shared struct {
	cfg    Config
	domain *ad.Domain

	host    hostFacts
	asker   *ad.Session // credentials
	info    ad.Info     // directory
	rootKey []ad.RootKey
	home    *placeFacts // the network of the host
	specs   []*specFacts
	agent   AgentStatus // agent
}

// hostFacts are the host's own.
type hostFacts struct {
	principal krb5.Principal // host-keytab
	keys      []*crypto.Key  // host-keytab
	kvno      uint32         // host-keytab
	session   *ad.Session    // host-logon
}

// specFacts is one credential spec.
type specFacts struct {
	file     SpecFile
	spec     credspec.Spec // spec-file
	parsed   bool          // spec-file
	portable string        // plugin-store: the account that it holds
	password secret.Bytes  // plugin-store
	reader   *ad.Session   // plugin-logon
}

// accountFacts is one account.
type accountFacts struct {
	name string
	spec *specFacts // that names it; nil for none
	// primary says that the URLs are of what runs as it.
	primary bool

	account  ad.Account          // account
	password *ad.ManagedPassword // account-ticket
	readErr  error               // account-ticket
}

// subject names what the facts are of, for results.
func (f *Facts) subject(of Scope) string {
	switch {
	case of == OfPlace && f.place != f.home:
		return f.place.Name
	case of == OfSpec:
		return f.spec.file.Path
	case of == OfAccount:
		return f.account.name
	case of == OfLease:
		return f.cfg.Lease.Name
	}
	return ""
}

// concerns reports whether a check for other facts, of a scope, is about the same
// thing as one for these: the same place, spec or account, or what this one rests on.
func (f *Facts) concerns(other *Facts, of Scope) bool {
	switch of {
	case OfPlace:
		if f.place != nil {
			return other.place == f.place
		}
		return other.place == f.home
	case OfSpec:
		return f.spec == other.spec || f.spec == nil && f.account == nil
	case OfAccount:
		return f.account == other.account || f.account == nil
	}
	return true
}

// reader is who retrieves the passwords of an account: the identity of the spec's
// plug-in, the host, or a ticket of the host that the asker has. It is nil for an
// administrator, who may not and need not.
func (f *Facts) reader() *ad.Session {
	switch {
	case f.account.spec != nil && f.account.spec.reader != nil:
		return f.account.spec.reader
	case f.cfg.HostAccount != "":
		return nil
	case f.cfg.Asker != nil && f.askerIsHost():
		return f.asker
	}
	return f.host.session
}

// askerIsHost reports whether the asker is a computer: this host, by a ticket that it
// has held for a while.
func (f *Facts) askerIsHost() bool {
	name := f.cfg.Asker.Client().String()
	if f.cfg.Host != nil && f.host.principal.Realm != "" {
		return strings.EqualFold(name, f.host.principal.Name.String())
	}
	return f.cfg.Seen == SeenHost && strings.HasSuffix(name, "$")
}

// The values of [Config.Seen].
const (
	SeenHost      = "host"
	SeenContainer = "container"
	SeenDesk      = "desk"
)

// now is the time by this machine's clock.
func (s *shared) now() time.Time { return s.cfg.Now() }

// realmNow is the time by the domain's clock.
func (s *shared) realmNow() time.Time { return s.domain.Kerberos().Now() }

// hintOf is what an error itself advises.
func hintOf(err error) string {
	for err != nil {
		if h, ok := err.(interface{ Hint() string }); ok && h.Hint() != "" {
			return h.Hint()
		}
		switch x := err.(type) { //nolint:errorlint // each error of the chain is visited by itself
		case interface{ Unwrap() error }:
			err = x.Unwrap()
		case interface{ Unwrap() []error }:
			for _, inner := range x.Unwrap() {
				if h := hintOf(inner); h != "" {
					return h
				}
			}
			return ""
		default:
			return ""
		}
	}
	return ""
}

// failed is the finding of an error that the check did not foresee.
func failed(err error, format string, args ...any) Finding {
	f := wrong(format, args...).because(err.Error())
	if h := hintOf(err); h != "" {
		f = f.mend("%s", h)
	}
	return f
}
