// Package plugin gives a host that is not joined to the domain an identity to
// read gMSA passwords with: user name and password, out of a store that the
// host can reach. It is what Windows calls a CCG plug-in
// (ICcgDomainAuthCredentials), without COM.
//
// A credential spec selects a plug-in by GUID and hands it PluginInput. Both
// are the word of whoever wrote the spec, so the agent's configuration has the
// last one: a GUID counts if it is registered there, and an input if it
// matches the allow pattern of that registration.
//
// The package judges no account and speaks to no domain, and it keeps no
// password: the agent asks again when it needs one.
//
// Read [Registry] first, then [Plugin]; docs/plugins.md is the manual.
package plugin

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/opengmsa/opengmsa/secret"
)

var (
	// ErrLoad is wrapped where a plug-in is not registered or cannot be set up:
	// event 4 of the CCG log.
	ErrLoad = errors.New("plug-in cannot be loaded")
	// ErrFetch is wrapped where a plug-in is there but yields no credentials:
	// the input is refused, or the store does not answer or has none: event 6.
	ErrFetch = errors.New("plug-in yields no credentials")
)

// Credentials identify a host to its domain.
type Credentials struct {
	Domain   string       // DNS or NetBIOS name; empty for the spec's own domain
	Username string       // sAMAccountName, without domain
	Password secret.Bytes // UTF-8
}

// Plugin fetches credentials. It is called from many goroutines. input is what
// the credential spec says, already admitted by the allow pattern, and may be
// a secret itself. Errors wrap ErrLoad or ErrFetch and contain neither input
// nor password. The context has a deadline.
type Plugin interface {
	Fetch(ctx context.Context, input secret.Bytes) (Credentials, error)
}

// Registered is a plug-in as the configuration has it.
type Registered struct {
	name    string
	allow   *regexp.Regexp // nil admits the empty input alone
	timeout time.Duration
	warning string
	plugin  Plugin
}

// Name is the plug-in's name in the configuration and in events.
func (r *Registered) Name() string { return r.name }

// Warning is what an operator should know about using this plug-in at all;
// empty for most.
func (r *Registered) Warning() string { return r.warning }

// Fetch checks the input of a credential spec against the allow pattern and
// asks the plug-in. Errors begin with the plug-in's name and wrap ErrLoad or
// ErrFetch.
func (r *Registered) Fetch(ctx context.Context, input secret.Bytes) (Credentials, error) {
	if !r.admits(input) {
		return Credentials{}, fmt.Errorf("plug-in %s: %w: allow_input does not admit the PluginInput of the credential spec", r.name, ErrFetch)
	}
	return r.FetchConfigured(ctx, input)
}

// FetchConfigured is Fetch for an input that the agent's own configuration
// gives: the allow pattern does not apply to it.
func (r *Registered) FetchConfigured(ctx context.Context, input secret.Bytes) (Credentials, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, r.timeout, fmt.Errorf("no answer within %v", r.timeout))
	defer cancel()
	c, err := r.plugin.Fetch(ctx, input)
	if err == nil {
		err = c.check()
	}
	if err == nil {
		return c, nil
	}
	c.Password.Destroy()
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return Credentials{}, fmt.Errorf("plug-in %s: %w", r.name, err)
}

// admits reports whether the allow pattern matches the whole input.
func (r *Registered) admits(input secret.Bytes) bool {
	if r.allow == nil {
		return input.IsZero()
	}
	return utf8.Valid(input.Reveal()) && r.allow.Match(input.Reveal())
}

// Limits in bytes of what a store may say.
const (
	maxName     = 256
	maxPassword = 4096
)

// check reports what no domain would accept.
func (c Credentials) check() error {
	switch {
	case c.Username == "":
		return fmt.Errorf("%w: there is no user name", ErrFetch)
	case c.Password.IsZero():
		return fmt.Errorf("%w: there is no password", ErrFetch)
	case len(c.Username) > maxName || len(c.Domain) > maxName:
		return fmt.Errorf("%w: user or domain name of more than %d bytes", ErrFetch, maxName)
	case c.Password.Len() > maxPassword:
		return fmt.Errorf("%w: password of more than %d bytes", ErrFetch, maxPassword)
	case !utf8.Valid(c.Password.Reveal()) || slices.Contains(c.Password.Reveal(), 0):
		return fmt.Errorf("%w: the password is not UTF-8, or has a zero in it", ErrFetch)
	case strings.ContainsFunc(c.Username+c.Domain, func(r rune) bool { return r < ' ' || r == 0x7f || r == utf8.RuneError }):
		return fmt.Errorf("%w: control characters in the user or domain name", ErrFetch)
	}
	return nil
}

// credentials makes credentials of what a store says apart. A user name may
// bring its domain along, as DOMAIN\user or user@domain; a domain that is
// given beside it counts.
func credentials(domain, username string, password secret.Bytes) Credentials {
	if before, after, ok := strings.Cut(username, `\`); ok {
		username = after
		if domain == "" {
			domain = before
		}
	} else if i := strings.LastIndexByte(username, '@'); i > 0 {
		if domain == "" {
			domain = username[i+1:]
		}
		username = username[:i]
	}
	return Credentials{Domain: strings.TrimSpace(domain), Username: strings.TrimSpace(username), Password: password}
}
