package demo

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/gss"
	"github.com/opengmsa/opengmsa/krb5/keytab"
	"github.com/opengmsa/opengmsa/krb5/replay"
)

// Site is a web site that lets in whoever proves by Kerberos who they are (RFC 4559), and
// tells them whom it saw. A page that a browser of this machine has from elsewhere does
// not get to it: neither by a name that points here, nor by a request across sites.
type Site struct {
	// Name is the host name that it answers to.
	Name string
	// Keytab has the site's keys. It is read for every visit, because it changes with the
	// account's password.
	Keytab string
	// Now is the clock.
	Now func() time.Time

	seen *replay.Cache
}

// NewSite makes a site.
func NewSite(name, keytab string, now func() time.Time) *Site {
	return &Site{Name: name, Keytab: keytab, Now: now, seen: replay.New(0, 0)}
}

// Listen listens for a site, on an address of the loopback alone.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if at, err := netip.ParseAddrPort(address); err != nil || !at.Addr().IsLoopback() {
		return nil, fmt.Errorf("%q: %w", address, ErrNotLoopback)
	}
	return new(net.ListenConfig).Listen(ctx, "tcp", address)
}

// ErrNotLoopback says where a site does not listen.
var ErrNotLoopback = errors.New("not an address and port of the loopback, as 127.0.0.1:0 is")

// negotiate is the scheme of RFC 4559, Section 4.
const negotiate = "Negotiate"

// Serve serves until ctx ends, and closes l.
func (s *Site) Serve(ctx context.Context, l net.Listener) error {
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 2 * gss.MaxToken}
	stopped := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stopped()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP answers one request.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.addressed(r); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	scheme, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, negotiate) {
		w.Header().Set("WWW-Authenticate", negotiate)
		http.Error(w, "this site knows its visitors by Kerberos alone", http.StatusUnauthorized)
		return
	}
	token, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		http.Error(w, "the token is no base64", http.StatusBadRequest)
		return
	}
	out, c, err := s.accept(token)
	if len(out) > 0 {
		w.Header().Set("WWW-Authenticate", negotiate+" "+base64.StdEncoding.EncodeToString(out))
	}
	if err != nil {
		// The visitor is the demo's own, and is told why: a real site would tell its log.
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	_, _ = fmt.Fprintln(w, c)
}

// addressed refuses a request for another host, as a page sends it whose own name has
// been made to point here, and one that another site's page makes.
func (s *Site) addressed(r *http.Request) error {
	host := (&url.URL{Host: r.Host}).Hostname()
	if !strings.EqualFold(host, s.Name) {
		return fmt.Errorf("this is %s, not %q", s.Name, host)
	}
	for _, origin := range r.Header.Values("Origin") {
		if !strings.EqualFold(origin, "http://"+r.Host) {
			return fmt.Errorf("%q has no business with this site", origin)
		}
	}
	return nil
}

// accept steps an acceptor once, which is enough for a visitor that likes Kerberos best.
func (s *Site) accept(token []byte) (out []byte, welcome string, err error) {
	b, err := os.ReadFile(s.Keytab)
	if err != nil {
		return nil, "", err
	}
	kt, err := keytab.Parse(b)
	if err != nil {
		return nil, "", err
	}
	mech, err := gss.NewAcceptor(gss.AcceptorConfig{Keys: gss.KeytabKeys(kt), Now: s.Now, Replay: s.seen, Rand: rand.Reader})
	if err != nil {
		return nil, "", err
	}
	a := gss.NewSPNEGOAcceptor(mech)
	out, finished, err := a.Step(token)
	switch {
	case err != nil:
		return out, "", err
	case !finished:
		return out, "", errors.New("the visitor wants another mechanism than Kerberos first")
	}
	c := a.Context()
	return out, fmt.Sprintf("200 OK: %v let in %v; the keys in its keytab: %s", c.Server(), c.Client(), versions(kt)), nil
}

// versions lists the key version numbers of a keytab.
func versions(kt keytab.Keytab) string {
	var list []string
	seen := map[uint32]bool{}
	for _, e := range kt.Entries {
		if !seen[e.KVNO] {
			seen[e.KVNO] = true
			list = append(list, fmt.Sprint(e.KVNO))
		}
	}
	return "kvno " + strings.Join(list, ", ")
}

// Visit is one visit to a site.
type Visit struct {
	// URL of the site, and Address where it is, as host:port.
	URL, Address string
	// Ticket for the site.
	Ticket krb5.Credential
	// Now is the clock.
	Now func() time.Time
}

// maxAnswer bounds what a site says, in bytes.
const maxAnswer = 4096

// Do makes the visit: one request, with the token that SPNEGO begins with, and an answer
// that proves that the site is the one that the ticket is for.
func (v Visit) Do(ctx context.Context) (answer string, err error) {
	mech, err := gss.NewInitiator(gss.InitiatorConfig{Credential: v.Ticket, Now: v.Now, Rand: rand.Reader})
	if err != nil {
		return "", err
	}
	i := gss.NewSPNEGOInitiator(mech)
	token, _, err := i.Step(nil)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, v.URL, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", negotiate+" "+base64.StdEncoding.EncodeToString(token))
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, v.Address)
	}}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return "", err
	}
	answer = strings.TrimSpace(string(b))
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", res.Status, answer)
	}
	_, text, _ := strings.Cut(res.Header.Get("WWW-Authenticate"), " ")
	proof, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", fmt.Errorf("the site's token: %w", err)
	}
	_, finished, err := i.Step(proof)
	if err == nil && !finished {
		err = errors.New("its token does not end the negotiation")
	}
	if err != nil {
		return "", fmt.Errorf("the site has not proved who it is: %w", err)
	}
	return answer, nil
}
