package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/agent/plugin"
	"github.com/opengmsa/opengmsa/internal/event"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/secret"
)

// A source yields the credentials of an identity. It is asked again when the
// domain refused what it gave.
type source interface {
	// credentials fetches what is there now. rejected is how many times in a row
	// the domain refused this source's credentials; a source that has several
	// gives another one then.
	credentials(ctx context.Context, rejected int) (ad.Identity, error)
	// principal names the identity in logs and keys: NAME@REALM.
	principal() string
	// plugin is the source in the event log, kind in the agent's status.
	plugin() event.Plugin
	kind() string
}

// keytabSource is the host's computer account, as package manager, sssd, adcli
// or this agent left it in a keytab.
type keytabSource struct {
	path  string
	name  string // of the configuration; empty for the first computer account
	realm string

	named atomic.Pointer[namedKeytab]
}

// namedKeytab is whom a state of the file names.
type namedKeytab struct {
	file      os.FileInfo
	principal string
}

func newKeytabSource(path, name, realm string) *keytabSource {
	return &keytabSource{path: path, name: name, realm: realm}
}

func (s *keytabSource) credentials(_ context.Context, rejected int) (ad.Identity, error) {
	kt, err := s.read()
	if err != nil {
		return ad.Identity{}, err
	}
	client, versions, err := s.choose(kt)
	if err != nil {
		return ad.Identity{}, err
	}
	// The newest first. The one before it is in force where a change has not
	// reached the controller, or did not go through.
	return ad.WithKeys(client.Name, versions[rejected%len(versions)].keys...), nil
}

func (s *keytabSource) read() (keytab.Keytab, error) {
	b, err := os.ReadFile(s.path)
	if err != nil {
		return keytab.Keytab{}, fmt.Errorf("keytab: %w", err)
	}
	defer clear(b)
	kt, err := keytab.Parse(b)
	if err != nil {
		return keytab.Keytab{}, fmt.Errorf("keytab %s: %w", s.path, err)
	}
	return kt, nil
}

// version is the keys of one key version number.
type version struct {
	kvno uint32
	keys []*crypto.Key
}

// errNoEntry: the keytab has no entry that could be the host's.
var errNoEntry = errors.New("no entry for a computer account")

// choose picks the principal and its keys, the newest version first, within it
// the strongest key first.
func (s *keytabSource) choose(kt keytab.Keytab) (krb5.Principal, []version, error) {
	var client krb5.Principal
	var versions []version
	for _, e := range kt.Entries {
		switch {
		case e.Key == nil, !strings.EqualFold(e.Principal.Realm, s.realm), len(e.Principal.Name.Components) != 1:
			continue
		case len(client.Name.Components) > 0:
			if !e.Principal.Name.EqualFold(client.Name) {
				continue
			}
		case s.name != "" && !sameAccount(s.name, e.Principal.Name.Components[0]):
			continue
		case s.name == "" && !strings.HasSuffix(e.Principal.Name.Components[0], "$"):
			continue
		}
		client = e.Principal
		i := slices.IndexFunc(versions, func(v version) bool { return v.kvno == e.KVNO })
		if i < 0 {
			i = len(versions)
			versions = append(versions, version{kvno: e.KVNO})
		}
		versions[i].keys = append(versions[i].keys, e.Key)
	}
	if len(versions) == 0 {
		return krb5.Principal{}, nil, fmt.Errorf("keytab %s: %w in realm %s", s.path, errNoEntry, s.realm)
	}
	slices.SortFunc(versions, func(a, b version) int { return cmp.Compare(b.kvno, a.kvno) })
	for _, v := range versions {
		slices.SortFunc(v.keys, func(a, b *crypto.Key) int { return cmp.Compare(strength(b), strength(a)) })
	}
	return client, versions, nil
}

// strength orders keys as the domain prefers them.
func strength(k *crypto.Key) int {
	return slices.Index([]crypto.EType{crypto.AES128SHA2, crypto.AES256SHA2, crypto.AES128SHA1, crypto.AES256SHA1}, k.EType())
}

// sameAccount compares account names with or without '$' and realm.
func sameAccount(configured, name string) bool {
	configured, _, _ = strings.Cut(configured, "@")
	return strings.EqualFold(strings.TrimSuffix(configured, "$"), strings.TrimSuffix(name, "$"))
}

// principal names the account if the keytab can be read now, and the file if it
// cannot. Every lease asks, so the file is read only when it has changed.
func (s *keytabSource) principal() string {
	file, err := os.Stat(s.path)
	if err != nil {
		return s.unnamed()
	}
	if n := s.named.Load(); n != nil && os.SameFile(n.file, file) && n.file.ModTime().Equal(file.ModTime()) && n.file.Size() == file.Size() {
		return n.principal
	}
	kt, err := s.read()
	if err != nil {
		return s.unnamed()
	}
	p, _, err := s.choose(kt)
	if err != nil {
		return s.unnamed()
	}
	s.named.Store(&namedKeytab{file, p.String()})
	return p.String()
}

func (s *keytabSource) unnamed() string { return cmp.Or(s.name, s.path) + "@" + s.realm }

func (*keytabSource) plugin() event.Plugin { return event.Keytab }
func (*keytabSource) kind() string         { return "keytab" }

// passwordSource is an ordinary account with its password in a file.
type passwordSource struct {
	name  adproto.AccountName
	file  string
	realm string
}

func (s *passwordSource) credentials(context.Context, int) (ad.Identity, error) {
	b, err := os.ReadFile(s.file)
	if err != nil {
		return ad.Identity{}, fmt.Errorf("password file: %w", err)
	}
	password := secret.Copy([]byte(strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")))
	clear(b)
	if password.IsZero() {
		return ad.Identity{}, fmt.Errorf("password file %s is empty", s.file)
	}
	return ad.WithPassword(s.name, password)
}

func (s *passwordSource) principal() string  { return s.name.Name + "@" + s.realm }
func (*passwordSource) plugin() event.Plugin { return "password" }
func (*passwordSource) kind() string         { return "password" }

// pluginSource is an account that a plug-in yields.
type pluginSource struct {
	p     *plugin.Registered
	input secret.Bytes
	// configured: the input is the agent's configuration's, not a credential
	// spec's, and the allow pattern does not apply to it.
	configured             bool
	domain, netbios, realm string
}

// errRealm: a plug-in's account is of another domain than the one it is used in.
var errRealm = errors.New("the plug-in's account is of another domain")

func (s *pluginSource) credentials(ctx context.Context, _ int) (ad.Identity, error) {
	fetch := s.p.Fetch
	if s.configured {
		fetch = s.p.FetchConfigured
	}
	c, err := fetch(ctx, s.input)
	if err != nil {
		return ad.Identity{}, err
	}
	// A password must not be shown to a domain that it is not of: security 11.
	if c.Domain != "" && !strings.EqualFold(c.Domain, s.domain) && !strings.EqualFold(c.Domain, s.netbios) {
		c.Password.Destroy()
		return ad.Identity{}, fmt.Errorf("plug-in %s: %w: %w: %q, not %q", s.p.Name(), plugin.ErrFetch, errRealm, c.Domain, s.domain)
	}
	name, err := adproto.ParseAccountName(c.Username)
	if err != nil {
		c.Password.Destroy()
		return ad.Identity{}, fmt.Errorf("plug-in %s: %w: user name: %w", s.p.Name(), plugin.ErrFetch, err)
	}
	return ad.WithPassword(name, c.Password)
}

func (s *pluginSource) principal() string    { return s.p.Name() + "@" + s.realm }
func (s *pluginSource) plugin() event.Plugin { return event.Plugin(s.p.Name()) }
func (s *pluginSource) kind() string         { return s.p.Name() }

func secretOf(s string) secret.Bytes { return secret.Copy([]byte(s)) }
