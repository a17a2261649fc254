package plugin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/opengmsa/opengmsa/secret"
)

// maxAnswer bounds an answer of Vault in bytes.
const maxAnswer = 1 << 20

// vaultPlugin reads secrets of a KV engine of HashiCorp Vault or OpenBao over
// their HTTP API, version 1. The input is the path of a secret below the
// mount; its data has username, password and domainName (or domain).
type vaultPlugin struct {
	cfg  Config   // immutable, defaults filled in
	base *url.URL // immutable

	mu     sync.Mutex   // guards the rest
	client *http.Client // nil until the CA file was read
	token  secret.Bytes // of the AppRole login; empty for none
	until  time.Time    // when the token is to be replaced
}

func newVault(cfg Config, fault fault) Plugin {
	p := &vaultPlugin{cfg: cfg}
	p.base = checkVaultAddress(cfg.Address, fault)
	if p.cfg.Mount == "" {
		p.cfg.Mount = "secret"
	}
	if _, err := vaultPath(p.cfg.Mount); err != nil {
		fault(".mount", "%q is not a path", cfg.Mount)
	}
	switch cfg.KVVersion {
	case 0:
		p.cfg.KVVersion = 2
	case 1, 2:
	default:
		fault(".kv_version", "%d: want 1 or 2", cfg.KVVersion)
	}
	if strings.ContainsFunc(cfg.Namespace, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		fault(".namespace", "%q has characters that an HTTP header cannot have", cfg.Namespace)
	}
	if cfg.CA != "" {
		checkAbsolute(".ca", cfg.CA, fault)
	}
	switch {
	case (cfg.TokenFile == "") == (cfg.AppRole == nil):
		fault("", "want either token_file or approle")
	case cfg.TokenFile != "":
		checkAbsolute(".token_file", cfg.TokenFile, fault)
	default:
		role := *cfg.AppRole
		if role.Mount == "" {
			role.Mount = "approle"
		}
		p.cfg.AppRole = &role
		if _, err := vaultPath(role.Mount); err != nil {
			fault(".approle.mount", "%q is not a path", role.Mount)
		}
		checkAbsolute(".approle.role_id_file", role.RoleIDFile, fault)
		checkAbsolute(".approle.secret_id_file", role.SecretIDFile, fault)
	}
	return p
}

// checkVaultAddress wants a URL of scheme, host and port alone. A token sent
// without TLS would be anybody's, so http is for the loopback interface, where
// Vault Agent listens.
func checkVaultAddress(address string, fault fault) *url.URL {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		fault(".address", "want an https URL, https://HOST:PORT and nothing more")
		return &url.URL{}
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		fault(".address", "%q: want an https URL (http for a loopback address only)", address)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host, Path: "/"}
}

// vaultPath reads a path that somebody wrote: segments of letters, digits and
// a few marks, so that none of them can mean something else in a URL.
func vaultPath(s string) ([]string, error) {
	segments := strings.Split(strings.Trim(s, "/"), "/")
	for _, segment := range segments {
		plain := segment != "" && segment != "." && segment != ".." && !strings.ContainsFunc(segment, func(c rune) bool {
			return !strings.ContainsRune("-_.@ ", c) && (c > unicode.MaxASCII || !unicode.IsLetter(c) && !unicode.IsDigit(c))
		})
		if !plain {
			return nil, fmt.Errorf("%w: the input is not the path of a secret", ErrFetch)
		}
	}
	return segments, nil
}

func (p *vaultPlugin) Fetch(ctx context.Context, input secret.Bytes) (Credentials, error) {
	path, err := vaultPath(string(input.Reveal()))
	if err != nil {
		return Credentials{}, err
	}
	mount, err := vaultPath(p.cfg.Mount)
	if err != nil {
		return Credentials{}, err
	}
	if p.cfg.KVVersion == 2 {
		mount = append(mount, "data")
	}
	where := append(mount, path...)
	token, fresh, err := p.login(ctx)
	if err != nil {
		return Credentials{}, err
	}
	answer, err := p.call(ctx, http.MethodGet, where, token, nil)
	// A token of ours may have been revoked, or have expired with Vault's
	// clock: it is worth one login more.
	if status, ok := errors.AsType[*vaultError](err); ok && status.code == http.StatusForbidden && !fresh && p.cfg.AppRole != nil {
		p.forget(token)
		if token, _, err = p.login(ctx); err != nil {
			return Credentials{}, err
		}
		answer, err = p.call(ctx, http.MethodGet, where, token, nil)
	}
	if err != nil {
		return Credentials{}, err
	}
	defer clear(answer)
	return p.parseSecret(answer)
}

// parseSecret reads the answer to a read: data of KV version 1, data.data of
// version 2, which is null for a version that was deleted.
func (p *vaultPlugin) parseSecret(answer []byte) (Credentials, error) {
	var v1 struct {
		Data fields `json:"data"`
	}
	var v2 struct {
		Data struct {
			Data *fields `json:"data"`
		} `json:"data"`
	}
	if p.cfg.KVVersion == 1 {
		if json.Unmarshal(answer, &v1) != nil {
			return Credentials{}, fmt.Errorf("%w: Vault's answer is not a secret of strings", ErrFetch)
		}
		return v1.Data.credentials(), nil
	}
	if json.Unmarshal(answer, &v2) != nil {
		return Credentials{}, fmt.Errorf("%w: Vault's answer is not a secret of strings", ErrFetch)
	}
	if v2.Data.Data == nil {
		return Credentials{}, fmt.Errorf("%w: the secret has no data; hint: it may have been deleted, or the engine is of version 1", ErrFetch)
	}
	return v2.Data.Data.credentials(), nil
}

// login returns a token, and whether it is new.
func (p *vaultPlugin) login(ctx context.Context) (token secret.Bytes, fresh bool, err error) {
	if p.cfg.AppRole == nil {
		token, err = readToken(p.cfg.TokenFile)
		return token, true, err
	}
	p.mu.Lock()
	token = p.token
	valid := !token.IsZero() && time.Now().Before(p.until)
	p.mu.Unlock()
	if valid {
		return token, false, nil
	}
	token, life, err := p.appRole(ctx)
	if err != nil {
		return secret.Bytes{}, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.token, p.until = token, time.Now().Add(life*3/4)
	return token, true, nil
}

// forget drops a token that Vault refused, unless another one took its place.
func (p *vaultPlugin) forget(token secret.Bytes) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.token.Equal(token) {
		p.token = secret.Bytes{}
	}
}

// appRole logs in and returns a token and its life.
func (p *vaultPlugin) appRole(ctx context.Context) (secret.Bytes, time.Duration, error) {
	role, err := readToken(p.cfg.AppRole.RoleIDFile)
	if err != nil {
		return secret.Bytes{}, 0, err
	}
	id, err := readToken(p.cfg.AppRole.SecretIDFile)
	if err != nil {
		return secret.Bytes{}, 0, err
	}
	body, err := json.Marshal(map[string]string{"role_id": string(role.Reveal()), "secret_id": string(id.Reveal())})
	if err != nil {
		return secret.Bytes{}, 0, storeError(err)
	}
	defer clear(body)
	mount, err := vaultPath(p.cfg.AppRole.Mount)
	if err != nil {
		return secret.Bytes{}, 0, err
	}
	where := append(append([]string{"auth"}, mount...), "login")
	answer, err := p.call(ctx, http.MethodPost, where, secret.Bytes{}, body)
	if err != nil {
		return secret.Bytes{}, 0, fmt.Errorf("AppRole login: %w", err)
	}
	defer clear(answer)
	var login struct {
		Auth struct {
			Token string `json:"client_token"`
			Life  int64  `json:"lease_duration"` // seconds; 0 for ever
		} `json:"auth"`
	}
	if json.Unmarshal(answer, &login) != nil || login.Auth.Token == "" {
		return secret.Bytes{}, 0, fmt.Errorf("%w: AppRole login: Vault's answer has no token", ErrFetch)
	}
	const longest = 24 * 60 * 60
	if login.Auth.Life <= 0 || login.Auth.Life > longest {
		login.Auth.Life = longest
	}
	return secret.New([]byte(login.Auth.Token)), time.Duration(login.Auth.Life) * time.Second, nil
}

// readToken reads a file of one line that only its owner may access.
func readToken(path string) (secret.Bytes, error) {
	if err := unixOnly("owners and modes of files"); err != nil {
		return secret.Bytes{}, err
	}
	f, err := os.OpenFile(path, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return secret.Bytes{}, storeError(err)
	}
	if err := checkPrivate(f); err != nil {
		f.Close()
		return secret.Bytes{}, err
	}
	b, err := readFile(f)
	if err != nil {
		return secret.Bytes{}, storeError(err)
	}
	b = bytes.TrimSpace(b)
	// A line end inside would end up in an HTTP header.
	if len(b) == 0 || bytes.ContainsFunc(b, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		clear(b)
		return secret.Bytes{}, fmt.Errorf("%w: %s does not hold one line of printable ASCII", ErrFetch, path)
	}
	return secret.New(b), nil
}

// vaultError is an answer of Vault that is not a success.
type vaultError struct {
	code int
	text string
}

func (e *vaultError) Error() string {
	s := fmt.Sprintf("Vault answers %d %s", e.code, http.StatusText(e.code))
	if e.text != "" {
		s += ": " + e.text
	}
	switch e.code {
	case http.StatusForbidden:
		s += "; hint: the token has expired, or its policy does not allow to read this path"
	case http.StatusNotFound:
		s += "; hint: no secret at this path: look at mount and kv_version"
	case http.StatusServiceUnavailable:
		s += "; hint: Vault is sealed or down"
	}
	return s
}

// call sends one request and returns the body of a success. The path holds no
// secret; token and body do, and travel as header and body.
func (p *vaultPlugin) call(ctx context.Context, method string, path []string, token secret.Bytes, body []byte) ([]byte, error) {
	client, err := p.http()
	if err != nil {
		return nil, err
	}
	u := p.base.JoinPath(append([]string{"v1"}, escapeAll(path)...)...)
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, storeError(err)
	}
	req.Header.Set("X-Vault-Request", "true")
	req.Header.Set("Accept", "application/json")
	if p.cfg.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", p.cfg.Namespace)
	}
	if !token.IsZero() {
		req.Header.Set("X-Vault-Token", string(token.Reveal()))
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, storeError(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, storeError(err)
	case len(answer) > maxAnswer:
		return nil, fmt.Errorf("%w: Vault's answer has more than %d bytes", ErrFetch, maxAnswer)
	case resp.StatusCode == http.StatusOK:
		return answer, nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return nil, fmt.Errorf("%w: Vault sends us to another address; hint: give that of the active node, or let standby nodes forward", ErrFetch)
	}
	return nil, storeError(&vaultError{resp.StatusCode, errorText(answer)})
}

func escapeAll(path []string) []string {
	out := make([]string, len(path))
	for i, segment := range path {
		out[i] = url.PathEscape(segment)
	}
	return out
}

// errorText is what Vault says in errors and warnings, on one line.
func errorText(answer []byte) string {
	var body struct {
		Errors   []string `json:"errors"`
		Warnings []string `json:"warnings"`
	}
	if json.Unmarshal(answer, &body) != nil {
		return ""
	}
	return oneLine(strings.Join(append(body.Errors, body.Warnings...), "; "))
}

// oneLine makes what somebody else wrote fit for an error: printable, one
// line, at most 300 bytes.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) || unicode.IsSpace(c) }), " ")
	if len(s) > 300 {
		s = strings.ToValidUTF8(s[:300], "") + "…"
	}
	return s
}

// http makes the client at its first use. It follows no redirect, because the
// token would go along, and takes no proxy from the environment.
func (p *vaultPlugin) http() (*http.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil {
		return p.client, nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if p.cfg.CA != "" {
		pem, err := os.ReadFile(p.cfg.CA)
		if err != nil {
			return nil, fmt.Errorf("%w: ca: %w", ErrLoad, err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: ca: %s has no certificate", ErrLoad, p.cfg.CA)
		}
	}
	p.client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			TLSClientConfig: cfg, ForceAttemptHTTP2: true, MaxIdleConns: 2, IdleConnTimeout: time.Minute,
		},
	}
	return p.client, nil
}
