//go:build unix

package plugin

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opengmsa/opengmsa/secret"
)

// vaultServer is a Vault with engines kv1 and kv2 of those versions. Each has
// gmsa/host (contoso.com, gmsaccg, s3cret) and other/host, and kv2 also
// gmsa/deleted; token and the AppRole may read gmsa/ alone.
type vaultServer struct {
	address          string
	ca               string // PEM file; empty for http
	token            string
	roleID, secretID string
	revoke           func(t testing.TB, token string)
}

// vaults are the servers that the tests run against: a strict double of the
// HTTP API always, and Vault itself if GMSA_TEST_VAULT names a program that
// runs one and prints its address and root token (testdata/vault is such a
// program).
func vaults(t *testing.T, test func(t *testing.T, v vaultServer)) {
	t.Run("double", func(t *testing.T) { test(t, doubleVault(t)) })
	if program := os.Getenv("GMSA_TEST_VAULT"); program != "" {
		t.Run("vault", func(t *testing.T) { test(t, realVault(t, program)) })
	}
}

// config is the configuration of a plug-in for v.
func (v vaultServer) config(t testing.TB, version int, approle bool) Config {
	t.Helper()
	dir := t.TempDir()
	c := Config{Kind: Vault, Address: v.address, Mount: fmt.Sprintf("kv%d", version), KVVersion: version, CA: v.ca}
	if approle {
		c.AppRole = &AppRole{
			RoleIDFile:   write(t, dir+"/role", v.roleID+"\n", 0o600),
			SecretIDFile: write(t, dir+"/secret", v.secretID, 0o600),
		}
	} else {
		c.TokenFile = write(t, dir+"/token", v.token+"\n", 0o600)
	}
	return c
}

func (v vaultServer) plugin(t testing.TB, version int, approle bool) *Registered {
	t.Helper()
	return registered(t, v.config(t, version, approle), Host{})
}

func TestVault(t *testing.T) {
	vaults(t, func(t *testing.T, v vaultServer) {
		for _, version := range []int{1, 2} {
			for _, approle := range []bool{false, true} {
				t.Run(fmt.Sprintf("KV version %d, AppRole %t", version, approle), func(t *testing.T) {
					p := v.plugin(t, version, approle)
					for input, want := range map[string]string{
						"gmsa/host":      "contoso.com|gmsaccg|s3cret",
						"/gmsa/host/":    "contoso.com|gmsaccg|s3cret",
						"gmsa/absent":    "!404",
						"other/host":     "!permission denied",
						"gmsa/empty":     "!there is no user name",
						"gmsa/../gmsa/x": "!not the path of a secret",
						"gmsa/host?x=1":  "!not the path of a secret",
						"gmsa/host%2f":   "!not the path of a secret",
						"":               "!not the path of a secret",
					} {
						expect(t, p, input, want)
					}
				})
			}
		}
	})
}

// TestVaultRefusals holds the double to what Vault refuses: a request that Vault would
// not serve must not pass in continuous integration either. None of them comes from the
// plug-in, so they are sent as they are, with the plug-in's own token.
func TestVaultRefusals(t *testing.T) {
	vaults(t, func(t *testing.T, v vaultServer) {
		client := v.client(t)
		for name, c := range map[string]struct {
			method, path, token, body string
			code                      int
		}{
			"as the plug-in asks":         {"GET", "kv2/data/gmsa/host", v.token, "", 200},
			"without a token":             {"GET", "kv2/data/gmsa/host", "", "", 403},
			"with an unknown token":       {"GET", "kv2/data/gmsa/host", "hvs.unknown", "", 403},
			"with a token cut short":      {"GET", "kv2/data/gmsa/host", v.token[:len(v.token)-1], "", 403},
			"version 2 without data":      {"GET", "kv2/gmsa/host", v.token, "", 403},
			"version 1 with data":         {"GET", "kv1/data/gmsa/host", v.token, "", 403},
			"the metadata":                {"GET", "kv2/metadata/gmsa/host", v.token, "", 403},
			"another spelling":            {"GET", "kv2/data/gmsa/Host", v.token, "", 404},
			"another mount":               {"GET", "kv3/data/gmsa/host", v.token, "", 403},
			"what the policy leaves out":  {"GET", "kv2/data/other/host", v.token, "", 403},
			"a write":                     {"POST", "kv2/data/gmsa/host", v.token, `{"data":{"username":"x"}}`, 403},
			"a removal":                   {"DELETE", "kv2/data/gmsa/host", v.token, "", 403},
			"a login by GET":              {"GET", "auth/approle/login", "", "", 500},
			"a login that says nothing":   {"POST", "auth/approle/login", "", "{}", 500},
			"a login that is not JSON":    {"POST", "auth/approle/login", "", "role_id", 400},
			"a login with half a secret":  {"POST", "auth/approle/login", "", `{"role_id":"` + v.roleID + `"}`, 400},
			"a login of an unknown role":  {"POST", "auth/approle/login", "", `{"role_id":"x","secret_id":"` + v.secretID + `"}`, 400},
			"a login at another mount":    {"POST", "auth/other/login", "", `{"role_id":"` + v.roleID + `","secret_id":"` + v.secretID + `"}`, 403},
			"an empty last path segment":  {"GET", "kv2/data/gmsa/", v.token, "", 404},
			"the login, as it should be ": {"POST", "auth/approle/login", "", `{"role_id":"` + v.roleID + `","secret_id":"` + v.secretID + `"}`, 200},
		} {
			t.Run(name, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), c.method, v.address+"/v1/"+c.path, strings.NewReader(c.body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("X-Vault-Request", "true")
				if c.token != "" {
					req.Header.Set("X-Vault-Token", c.token)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if err != nil || resp.StatusCode != c.code {
					t.Errorf("%d %s, %v, want %d", resp.StatusCode, body, err, c.code)
				}
				if c.code != 200 && !bytes.Contains(body, []byte(`"errors":[`)) && !bytes.Contains(body, []byte(`"warnings":[`)) {
					t.Errorf("a refusal without a reason: %s", body)
				}
			})
		}
	})
}

// client trusts v.
func (v vaultServer) client(t testing.TB) *http.Client {
	t.Helper()
	if v.ca == "" {
		return http.DefaultClient
	}
	pem, err := os.ReadFile(v.ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func TestVaultDeletedVersion(t *testing.T) {
	vaults(t, func(t *testing.T, v vaultServer) { expect(t, v.plugin(t, 2, false), "gmsa/deleted", "!404") })
}

func TestVaultWrongEngineVersion(t *testing.T) {
	vaults(t, func(t *testing.T, v vaultServer) {
		c := v.config(t, 2, false)
		c.Mount = "kv1"
		expect(t, registered(t, c, Host{}), "gmsa/host", "!Vault answers 40")
		c = v.config(t, 1, false)
		c.Mount = "kv2"
		expect(t, registered(t, c, Host{}), "gmsa/host", "!Vault answers 40")
	})
}

func TestVaultRefusesTheCredentials(t *testing.T) {
	vaults(t, func(t *testing.T, v vaultServer) {
		v.token, v.secretID = "hvs.wrong", "wrong"
		expect(t, v.plugin(t, 2, false), "gmsa/host", "!403")
		expect(t, v.plugin(t, 2, true), "gmsa/host", "!AppRole login")
	})
}

func TestVaultLogsInAgainWhenItsTokenIsRevoked(t *testing.T) {
	vaults(t, func(t *testing.T, v vaultServer) {
		p := v.plugin(t, 2, true)
		expect(t, p, "gmsa/host", "contoso.com|gmsaccg|s3cret")
		inner := p.plugin.(*vaultPlugin)
		first := string(inner.token.Reveal())
		expect(t, p, "gmsa/host", "contoso.com|gmsaccg|s3cret")
		if string(inner.token.Reveal()) != first {
			t.Error("it logged in for each fetch")
		}
		v.revoke(t, first)
		expect(t, p, "gmsa/host", "contoso.com|gmsaccg|s3cret")
		if string(inner.token.Reveal()) == first {
			t.Error("the token is still that which was revoked")
		}
	})
}

func TestVaultIsDown(t *testing.T) {
	s := httptest.NewServer(nil)
	s.Close()
	v := vaultServer{address: s.URL, token: "t"}
	expect(t, v.plugin(t, 2, false), "gmsa/host", "!connection refused")
}

func TestVaultOfAnUnknownCertificate(t *testing.T) {
	v := doubleVault(t)
	v.ca = ""
	expect(t, v.plugin(t, 2, false), "gmsa/host", "!certificate")
	v.ca = write(t, t.TempDir()+"/ca.pem", "nothing", 0o644)
	p := v.plugin(t, 2, false)
	expect(t, p, "gmsa/host", "!has no certificate")
	if _, err := fetch(t, p, "gmsa/host"); !errors.Is(err, ErrLoad) {
		t.Errorf("%v is not an event 4", err)
	}
}

// TestVaultTokenGoesNowhereElse lets a hostile Vault redirect to another
// server, which must not be asked.
func TestVaultTokenGoesNowhereElse(t *testing.T) {
	var asked atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	defer thief.Close()
	s := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusTemporaryRedirect))
	defer s.Close()
	v := vaultServer{address: s.URL, token: "t", roleID: "r", secretID: "s"}
	for _, approle := range []bool{false, true} {
		expect(t, v.plugin(t, 2, approle), "gmsa/host", "!sends us to another address")
	}
	if asked.Load() {
		t.Error("the redirect was followed")
	}
}

func TestVaultHostileAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		code int
		body string
		says string
	}{
		"too much":           {200, strings.Repeat(" ", maxAnswer+1), "more than 1048576 bytes"},
		"no JSON":            {200, "s3cret", "not a secret of strings"},
		"numbers":            {200, `{"data":{"data":{"username":"u","password":7}}}`, "not a secret of strings"},
		"no data":            {200, `{"data":{"data":null}}`, "the secret has no data"},
		"a sealed Vault":     {503, `{"errors":["Vault is sealed"]}`, "503 Service Unavailable: Vault is sealed; hint: Vault is sealed or down"},
		"an error for logs":  {500, `{"errors":["a\nforged \u001b[31mline","` + strings.Repeat("x", 5000) + `"]}`, "a forged [31mline; xxx"},
		"nothing to read in": {502, "<html>", "502 Bad Gateway"},
		"success, not OK":    {204, "", "204"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.code)
				_, _ = io.WriteString(w, c.body)
			}))
			defer s.Close()
			v := vaultServer{address: s.URL, token: "t"}
			p := v.plugin(t, 2, false)
			expect(t, p, "gmsa/host", "!"+c.says)
			if _, err := fetch(t, p, "gmsa/host"); len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("unfit for a log: %q", err)
			}
		})
	}
}

func TestVaultFilesMustBePrivate(t *testing.T) {
	v := doubleVault(t)
	c := v.config(t, 2, false)
	write(t, c.TokenFile, v.token, 0o644)
	expect(t, registered(t, c, Host{}), "gmsa/host", "!hint: chmod 0600")
	write(t, c.TokenFile, "a\r\nX-Header: s3cret", 0o600)
	expect(t, registered(t, c, Host{}), "gmsa/host", "!one line of printable ASCII")
	c = v.config(t, 2, true)
	write(t, c.AppRole.SecretIDFile, v.secretID, 0o640)
	expect(t, registered(t, c, Host{}), "gmsa/host", "!hint: chmod 0600")
}

func TestVaultTokenIsReplacedBeforeItExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &vaultPlugin{cfg: Config{AppRole: &AppRole{}}}
		p.token, p.until = secret.Copy([]byte("one")), time.Now().Add(45*time.Second)
		time.Sleep(44 * time.Second)
		if _, fresh, err := p.login(t.Context()); err != nil || fresh {
			t.Errorf("within its time: fresh %t, %v", fresh, err)
		}
		time.Sleep(time.Second)
		if _, _, err := p.login(t.Context()); err == nil {
			t.Error("after its time the token is still used")
		}
	})
}

func TestVaultNamespace(t *testing.T) {
	var got atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Store(r.Header.Get("X-Vault-Namespace"))
		_, _ = io.WriteString(w, `{"data":{"data":{"username":"u","password":"p"}}}`)
	}))
	defer s.Close()
	c := vaultServer{address: s.URL, token: "t"}.config(t, 2, false)
	c.Namespace = "team/a"
	expect(t, registered(t, c, Host{}), "x", "|u|p")
	if got.Load() != "team/a" {
		t.Errorf("X-Vault-Namespace: %v", got.Load())
	}
}

// doubleVault is a test double of Vault's HTTP API over TLS. It knows what
// TestVault needs and answers 400 to a request that no client of Vault sends, so
// that a sloppy request fails here too; [TestVaultRefusals] compares the rest.
func doubleVault(t *testing.T) vaultServer {
	t.Helper()
	const root, role, id = "hvs.double-token", "0d6e9a1c-role", "5b2f-secret-id"
	var mu sync.Mutex
	tokens, logins := map[string]bool{root: true}, 0
	secrets := map[string]string{
		"gmsa/host":  `{"username":"gmsaccg","password":"s3cret","domainName":"contoso.com"}`,
		"gmsa/empty": `{"other":"x"}`,
	}
	fail := func(w http.ResponseWriter, code int, text string) {
		w.WriteHeader(code)
		list := "[]"
		if text != "" {
			list = fmt.Sprintf("[%q]", text)
		}
		fmt.Fprintf(w, `{"errors":%s}`, list)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if r.Header.Get("X-Vault-Request") != "true" || r.URL.RawQuery != "" || strings.Contains(r.URL.Path, "//") {
			fail(w, http.StatusBadRequest, "double: not a clean request")
			return
		}
		if r.URL.Path == "/v1/auth/approle/login" {
			var login struct {
				Role string `json:"role_id"`
				ID   string `json:"secret_id"`
			}
			body, err := io.ReadAll(r.Body)
			if len(body) > 0 && json.Unmarshal(body, &login) != nil {
				fail(w, http.StatusBadRequest, "error parsing JSON")
				return
			}
			if login.Role == "" { // as Vault 1.14 answers, whatever the method
				fail(w, http.StatusInternalServerError, "failed to determine alias name from login request")
				return
			}
			if err != nil || r.Method != http.MethodPost || r.Header.Get("X-Vault-Token") != "" || login.Role != role || login.ID != id {
				fail(w, http.StatusBadRequest, "invalid role or secret ID")
				return
			}
			logins++
			token := fmt.Sprintf("hvs.approle-%d", logins)
			tokens[token] = true
			fmt.Fprintf(w, `{"auth":{"client_token":%q,"lease_duration":60,"renewable":true},"data":null}`, token)
			return
		}
		if r.Method != http.MethodGet || !tokens[r.Header.Get("X-Vault-Token")] { // the policy is to read
			fail(w, http.StatusForbidden, "permission denied")
			return
		}
		path, isV2 := strings.CutPrefix(r.URL.Path, "/v1/kv2/data/")
		path, isV1 := strings.CutPrefix(path, "/v1/kv1/")
		switch data, ok := secrets[path]; {
		case !isV1 && !isV2 || !strings.HasPrefix(path, "gmsa/"):
			fail(w, http.StatusForbidden, "permission denied")
		case isV2 && path == "gmsa/deleted":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"data":{"data":null,"metadata":{"deletion_time":"2026-01-01T00:00:00Z","destroyed":false,"version":1}}}`)
		case isV2 && path == "gmsa/":
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"data":null,"warnings":["Invalid path for a versioned K/V secrets engine."]}`)
		case !ok:
			fail(w, http.StatusNotFound, "")
		case isV1:
			fmt.Fprintf(w, `{"data":%s,"lease_duration":2764800}`, data)
		default:
			fmt.Fprintf(w, `{"data":{"data":%s,"metadata":{"version":1}}}`, data)
		}
	})
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(t.Output(), "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return vaultServer{
		address: s.URL, ca: write(t, t.TempDir()+"/ca.pem", string(ca), 0o644),
		token: root, roleID: role, secretID: id,
		revoke: func(_ testing.TB, token string) {
			mu.Lock()
			defer mu.Unlock()
			delete(tokens, token)
		},
	}
}

// realVault starts a Vault and sets it up.
func realVault(t *testing.T, program string) vaultServer {
	t.Helper()
	cmd := exec.Command(program)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var v vaultServer
	var host, root string
	if _, err := fmt.Sscan(line, &host, &root); err != nil {
		t.Fatal(err)
	}
	v.address = "http://" + host
	call := func(t testing.TB, method, path, body string) map[string]any {
		t.Helper()
		return vaultAdmin(t, v.address, root, method, path, body)
	}
	const host1 = `{"username":"gmsaccg","password":"s3cret","domainName":"contoso.com"}`
	call(t, "POST", "sys/mounts/kv1", `{"type":"kv","options":{"version":"1"}}`)
	call(t, "POST", "sys/mounts/kv2", `{"type":"kv","options":{"version":"2"}}`)
	call(t, "POST", "kv1/gmsa/host", host1)
	call(t, "POST", "kv1/gmsa/empty", `{"other":"x"}`)
	call(t, "POST", "kv2/data/gmsa/host", `{"data":`+host1+`}`)
	call(t, "POST", "kv2/data/gmsa/empty", `{"data":{"other":"x"}}`)
	call(t, "POST", "kv2/data/gmsa/deleted", `{"data":`+host1+`}`)
	call(t, "DELETE", "kv2/data/gmsa/deleted", "")
	policy := `path "kv1/gmsa/*" { capabilities = ["read"] } path "kv2/data/gmsa/*" { capabilities = ["read"] }`
	body, err := json.Marshal(map[string]string{"policy": policy})
	if err != nil {
		t.Fatal(err)
	}
	call(t, "PUT", "sys/policies/acl/guard", string(body))
	call(t, "POST", "sys/auth/approle", `{"type":"approle"}`)
	call(t, "POST", "auth/approle/role/guard", `{"token_policies":["guard"],"token_ttl":"60s"}`)
	v.roleID = call(t, "GET", "auth/approle/role/guard/role-id", "")["data"].(map[string]any)["role_id"].(string)
	v.secretID = call(t, "POST", "auth/approle/role/guard/secret-id", "{}")["data"].(map[string]any)["secret_id"].(string)
	v.token = call(t, "POST", "auth/token/create", `{"policies":["guard"]}`)["auth"].(map[string]any)["client_token"].(string)
	v.revoke = func(t testing.TB, token string) {
		call(t, "POST", "auth/token/revoke", `{"token":"`+token+`"}`)
	}
	return v
}

// vaultAdmin sends one request as root. Right after it was mounted, an engine
// of version 2 refuses for a moment; so a refusal is tried again.
func vaultAdmin(t testing.TB, address, token, method, path, body string) map[string]any {
	t.Helper()
	var last string
	for range 50 {
		req, err := http.NewRequestWithContext(t.Context(), method, address+"/v1/"+path, bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Vault-Token", token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode < 300 {
			var v map[string]any
			if len(b) > 0 {
				if err := json.Unmarshal(b, &v); err != nil {
					t.Fatal(err)
				}
			}
			return v
		}
		last = fmt.Sprintf("%d %s", resp.StatusCode, b)
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s %s: %s", method, path, last)
	return nil
}
