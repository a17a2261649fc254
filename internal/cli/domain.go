package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/adproto"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// hostKeytab is the keytab of a computer that is joined to a domain.
const hostKeytab = "/etc/krb5.keytab"

// domainOptions are the flags of every command that asks a domain: which one,
// where, and as whom.
type domainOptions struct {
	domain       string
	controllers  []string
	user         string
	passwordFile string
	keytab       string
	ccache       string
}

// isZero reports whether no option is given.
func (o *domainOptions) isZero() bool {
	return o.domain == "" && len(o.controllers) == 0 && o.user == "" && o.passwordFile == "" && o.keytab == "" && o.ccache == ""
}

// addFlags gives c the options.
func (o *domainOptions) addFlags(c *cobra.Command) {
	o.addHostFlags(c)
	c.Flags().StringVar(&o.ccache, "ccache", "", "ask with the tickets of this credential cache")
	c.MarkFlagsMutuallyExclusive("password-file", "keytab", "ccache")
	c.MarkFlagsMutuallyExclusive("login", "ccache")
}

// addAdminFlags gives c the options of who administers, where others say who the host
// is: --keytab is another thing there.
func (o *domainOptions) addAdminFlags(c *cobra.Command) {
	o.addWhereFlags(c)
	c.Flags().StringVar(&o.ccache, "ccache", "", "ask with the tickets of this credential cache")
	c.MarkFlagsMutuallyExclusive("password-file", "ccache")
	c.MarkFlagsMutuallyExclusive("login", "ccache")
}

// addWhereFlags gives c the options of the domain and of a user.
func (o *domainOptions) addWhereFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.domain, "domain", "", "the domain's DNS name (default: that of the credentials)")
	f.StringSliceVar(&o.controllers, "dc", nil, "a domain controller, HOST or HOST:PORT of its LDAP (default: found by DNS)")
	f.StringVarP(&o.user, "login", "U", "", "ask as this user: NAME, NAME@DOMAIN or DOMAIN\\NAME")
	f.StringVar(&o.passwordFile, "password-file", "", "the user's password is the first line of this file (- for standard input)")
}

// addHostFlags gives c the options but that of a cache: for those who need keys
// to get tickets again and again.
func (o *domainOptions) addHostFlags(c *cobra.Command) {
	o.addWhereFlags(c)
	c.Flags().StringVar(&o.keytab, "keytab", "", "ask with the keys of this keytab, as -U or its first computer")
	c.MarkFlagsMutuallyExclusive("password-file", "keytab")
}

// credentials are whose they are, and where they came from.
type credentials struct {
	identity ad.Identity
	// domain is the DNS name that the credentials belong to; empty if they do
	// not tell.
	domain string
	// cache and its file, where the identity is a ticket.
	cache     ccache.Cache
	cachePath string
	// ntHash is the RC4 key of a computer's account, by which Netlogon knows it, where the
	// password or such a key is at hand; nothing is encrypted with it.
	ntHash  *crypto.Key
	account string // sAMAccountName that ntHash belongs to
}

// credentials are those that the options name; without any, the tickets of the
// caller's credential cache, else the keys of the host.
func (a *app) credentials(o *domainOptions) (credentials, error) {
	switch {
	case o.keytab != "":
		return a.fromKeytab(o.keytab, o.user)
	case o.user != "":
		return a.fromPassword(o.user, o.passwordFile)
	case o.passwordFile != "":
		return credentials{}, failure(Usage, errors.New("--password-file says nothing about whose password it is")).hint("add -U NAME")
	case o.ccache != "":
		return a.fromCache(o.ccache)
	}
	c, err := a.fromCache(a.cacheName(""))
	if err == nil {
		return c, nil
	}
	if k, keytabErr := a.fromKeytab(hostKeytab, ""); keytabErr == nil {
		return k, nil
	} else if !errors.Is(keytabErr, fs.ErrNotExist) && !errors.Is(keytabErr, fs.ErrPermission) {
		return credentials{}, keytabErr
	}
	return credentials{}, failure(codeOf(err), fmt.Errorf("no credentials: %w; and %s cannot be read", err, hostKeytab)).
		hint("name a user: -U NAME@DOMAIN")
}

// fromCache is the ticket-granting ticket of a credential cache.
func (a *app) fromCache(name string) (credentials, error) {
	cache, path, err := a.openCache(name)
	if err != nil {
		return credentials{}, err
	}
	tgt, ok := cache.TGT()
	if !ok {
		return credentials{}, failure(NotFound, fmt.Errorf("%s has no ticket-granting ticket", path)).hint("gmsa klist --ccache %s", path)
	}
	if !a.env.Now().Before(tgt.EndTime) {
		return credentials{}, failure(Denied, fmt.Errorf("the ticket-granting ticket in %s ended at %s", path, tgt.EndTime.Local().Format(time.DateTime))).
			hint("get a new one, or name other credentials: -U NAME@DOMAIN")
	}
	return credentials{identity: ad.WithTicket(tgt), domain: strings.ToLower(tgt.Client.Realm), cache: cache, cachePath: path}, nil
}

// fromKeytab is a principal of a keytab: the one that is named, else the first
// that is an account rather than a service.
func (a *app) fromKeytab(path, name string) (credentials, error) {
	b, err := readLimited(path, keytab.MaxSize)
	if err != nil {
		return credentials{}, fmt.Errorf("keytab: %w", err)
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		return credentials{}, fmt.Errorf("%s: %w", path, err)
	}
	p, err := pickPrincipal(kt, name)
	if err != nil {
		return credentials{}, failure(NotFound, fmt.Errorf("%s: %w", path, err))
	}
	var keys []*crypto.Key
	for _, e := range kt.Newest(p) {
		keys = append(keys, e.Key)
	}
	if len(keys) == 0 {
		return credentials{}, fmt.Errorf("%s has no key of a type that is allowed for %v", path, p)
	}
	c := credentials{identity: ad.WithKeys(p.Name, keys...), domain: strings.ToLower(p.Realm)}
	if strings.HasSuffix(p.Name.String(), "$") {
		c.account, c.ntHash = p.Name.String(), rc4Key(b, p)
	}
	return c, nil
}

// rc4Key is the newest RC4 key that a keytab has of a principal; nil where it has none.
func rc4Key(file []byte, p krb5.Principal) *crypto.Key {
	kt, err := keytab.Parse(file, crypto.AllowRC4)
	if err != nil {
		return nil
	}
	for _, e := range kt.Newest(p) {
		if e.Key != nil && e.Key.EType() == crypto.RC4HMAC {
			return e.Key
		}
	}
	return nil
}

func pickPrincipal(kt keytab.Keytab, name string) (krb5.Principal, error) {
	want, realm, _ := strings.Cut(name, "@")
	if _, after, ok := strings.Cut(want, `\`); ok {
		want = after
	}
	var first krb5.Principal
	for _, p := range kt.Principals() {
		own := p.Name.String()
		switch {
		case name == "" && strings.HasSuffix(own, "$"):
			return p, nil
		case name == "" && first.Realm == "":
			first = p
		case name != "" && (strings.EqualFold(own, want) || strings.EqualFold(own, want+"$")) && (realm == "" || strings.EqualFold(realm, p.Realm)):
			return p, nil
		}
	}
	if first.Realm == "" {
		return first, fmt.Errorf("there is no key of %s", orElse(name, "anybody"))
	}
	return first, nil
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// fromPassword is a user and a password that is typed or read from a file.
func (a *app) fromPassword(user, file string) (credentials, error) {
	name, err := adproto.ParseAccountName(user)
	if err != nil {
		return credentials{}, failure(Usage, fmt.Errorf("-U: %w", err))
	}
	password, err := a.passwordFrom(file, fmt.Sprintf("Password of %s: ", printable(user)))
	if err != nil {
		return credentials{}, err
	}
	var c credentials
	if strings.HasSuffix(name.Name, "$") {
		c.account = name.SAM()
		if c.ntHash, err = crypto.StringToKey(crypto.RC4HMAC, password.Reveal(), "", nil, crypto.AllowRC4); err != nil {
			return credentials{}, err
		}
	}
	if c.identity, err = ad.WithPassword(name, password); err != nil {
		return credentials{}, failure(Usage, fmt.Errorf("-U: %w", err))
	}
	if _, suffix, ok := strings.Cut(user, "@"); ok {
		c.domain = strings.ToLower(suffix)
	}
	return c, nil
}

// openDomain is the domain of the options or else of the credentials. Where
// DNS is not to be asked, or KRB5_CONFIG names controllers because whoever gave
// the credentials knew better than this host's DNS, those are asked.
func (a *app) openDomain(o *domainOptions, c credentials) (*ad.Domain, error) {
	name := orElse(o.domain, c.domain)
	if name == "" {
		return nil, failure(Usage, errors.New("which domain?")).hint("add --domain NAME, or the domain to the user: -U NAME@DOMAIN")
	}
	d, err := ad.NewDomain(ad.Config{Locate: locate.Config{Domain: name, Servers: a.controllers(o, name), Now: a.env.Now}})
	if err != nil {
		return nil, failure(Usage, err)
	}
	return d, nil
}

// controllers are those of --dc, else those that the krb5.conf of a lease lists.
func (a *app) controllers(o *domainOptions, domain string) []string {
	if len(o.controllers) > 0 {
		return o.controllers
	}
	path := a.kerberosEnv("KRB5_CONFIG")
	if path == "" {
		return nil
	}
	b, err := readLimited(path, maxKrb5Conf)
	if err != nil {
		return nil // then DNS is asked, as without the variable
	}
	return kdcsOf(string(b), strings.ToUpper(domain))
}
