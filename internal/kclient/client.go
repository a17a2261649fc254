package kclient

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

// DialFunc connects to a controller, as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Config says how to reach a realm.
type Config struct {
	// Realm is the realm, in upper case in Active Directory. Required.
	Realm string
	// KDCs names the controllers. Required.
	KDCs KDCs
	// Dial connects to them; nil means a [net.Dialer].
	Dial DialFunc
	// Now is the local clock; nil means [time.Now].
	Now func() time.Time
	// Rand gives nonces, confounders and subkeys; nil means [rand.Reader].
	Rand io.Reader
	// ETypes are the encryption types to offer, best first; nil means 18, 17, 20
	// and 19.
	ETypes []crypto.EType
	// Allow admits RC4 if it is among ETypes.
	Allow []crypto.Allowance
	// UDP asks by datagram first where the request fits into one. By default TCP
	// is used from the start, because an answer with a PAC does not fit and the
	// connection is kept.
	UDP bool
	// Timeout bounds one request with all its attempts; 0 means 10 seconds.
	Timeout time.Duration
	// HedgeAfter is how long a controller may be silent before the next one is
	// asked beside it; 0 means 400 milliseconds.
	HedgeAfter time.Duration
	// IdleTimeout is how long a connection is kept without use; 0 means 30
	// seconds, negative that none is kept.
	IdleTimeout time.Duration
	// Skew is how far the clocks may differ; 0 means 5 minutes.
	Skew time.Duration
}

// The defaults of [Config].
const (
	defaultTimeout     = 10 * time.Second
	defaultHedgeAfter  = 400 * time.Millisecond
	defaultIdleTimeout = 30 * time.Second
	defaultSkew        = 5 * time.Minute
)

// Client asks the KDCs of one realm. It is safe for concurrent use, and starts
// no goroutine that outlives a call.
type Client struct {
	cfg   Config
	conns pool
	clock clock
	// buffers are of replies that were read wholly: *[firstRead]byte.
	buffers sync.Pool
}

// New checks the configuration. It sends nothing.
func New(cfg Config) (*Client, error) {
	switch {
	case cfg.Realm == "":
		return nil, errors.New("kclient: no realm is configured")
	case strings.ContainsAny(cfg.Realm, "@/\x00"):
		return nil, fmt.Errorf("kclient: %q is not the name of a realm", cfg.Realm)
	case cfg.KDCs == nil:
		return nil, errors.New("kclient: no source of controllers is configured")
	}
	if cfg.ETypes == nil {
		cfg.ETypes = []crypto.EType{crypto.AES256SHA1, crypto.AES128SHA1, crypto.AES256SHA2, crypto.AES128SHA2}
	}
	cfg.ETypes = slices.Clone(cfg.ETypes)
	for _, e := range cfg.ETypes {
		if !e.Allowed(cfg.Allow...) {
			return nil, fmt.Errorf("kclient: offer %v: %w", e, crypto.ErrEType)
		}
	}
	if len(cfg.ETypes) == 0 {
		return nil, errors.New("kclient: no encryption type is offered")
	}
	cfg.setDefaults()
	c := &Client{cfg: cfg}
	c.conns.keep = cfg.IdleTimeout
	return c, nil
}

func (cfg *Config) setDefaults() {
	if cfg.Dial == nil {
		cfg.Dial = new(net.Dialer).DialContext
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Rand == nil {
		cfg.Rand = rand.Reader
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&cfg.Timeout, defaultTimeout},
		{&cfg.HedgeAfter, defaultHedgeAfter},
		{&cfg.IdleTimeout, defaultIdleTimeout},
		{&cfg.Skew, defaultSkew},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
}

// Realm is the configured realm.
func (c *Client) Realm() string { return c.cfg.Realm }

// Close closes the connections that are kept. The client stays usable, without
// keeping any.
func (c *Client) Close() error {
	c.conns.close()
	return nil
}
