package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opengmsa/opengmsa/credspec"
	"github.com/opengmsa/opengmsa/secret"
)

const testGUID = "{859E1386-BDB4-49E8-85C7-3070B13920E2}"

// registered registers one plug-in and looks it up. Name, GUID and, if empty,
// an allow pattern for everything are added.
func registered(t testing.TB, c Config, host Host) *Registered {
	t.Helper()
	c.Name, c.GUID = "test", testGUID
	if c.Allow == "" {
		c.Allow = `[\s\S]*`
	}
	r, err := NewRegistry([]Config{c}, host)
	if err != nil {
		t.Fatal(err)
	}
	id, err := credspec.ParsePluginGUID(testGUID)
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Lookup(id)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fetch asks a plug-in and writes its answer as domain|user|password.
func fetch(t testing.TB, p *Registered, input string) (string, error) {
	t.Helper()
	c, err := p.Fetch(t.Context(), secret.Copy([]byte(input)))
	if err != nil {
		if !errors.Is(err, ErrFetch) && !errors.Is(err, ErrLoad) {
			t.Errorf("an error of neither event: %v", err)
		}
		if !c.Password.IsZero() {
			t.Error("an error came with a password")
		}
		return "", err
	}
	return fmt.Sprintf("%s|%s|%s", c.Domain, c.Username, c.Password.Reveal()), nil
}

// expect fetches and compares; want is the answer, or what the error says if
// it begins with "!".
func expect(t testing.TB, p *Registered, input, want string) {
	t.Helper()
	got, err := fetch(t, p, input)
	says, fails := strings.CutPrefix(want, "!")
	switch {
	case fails && (err == nil || !strings.Contains(err.Error(), says)):
		t.Errorf("input %q: got %q, error %v; want error %q", input, got, err, says)
	case !fails && (err != nil || got != want):
		t.Errorf("input %q: got %q, error %v; want %q", input, got, err, want)
	}
	if err != nil && strings.Contains(err.Error(), "s3cret") {
		t.Errorf("the error tells a secret: %v", err)
	}
}

func TestInline(t *testing.T) {
	p := registered(t, Config{Kind: Inline}, Host{})
	for input, want := range map[string]string{
		"contoso.com:gmsaccg:pass":                             "contoso.com|gmsaccg|pass",
		"contoso.com:gmsaccg:a:b::":                            "contoso.com|gmsaccg|a:b::",
		"contoso.com:CONTOSO\\gmsaccg:p":                       "contoso.com|gmsaccg|p",
		":gmsaccg@contoso.com:p":                               "contoso.com|gmsaccg|p",
		":gmsaccg:p":                                           "|gmsaccg|p",
		"contoso.com:gmsaccg: p\u00e4ss w ":                    "contoso.com|gmsaccg| p\u00e4ss w ",
		"contoso.com:s3cret":                                   "!has not the form domain:user:password",
		"contoso.com:gmsaccg:":                                 "!there is no password",
		"contoso.com::s3cret":                                  "!there is no user name",
		"contoso.com:gms\naccg:s3cret":                         "!control characters",
		"contoso.com:gmsaccg:s3cret\x00":                       "!has a zero in it",
		"contoso.com:gmsaccg:" + strings.Repeat("s3cret", 700): "!more than 4096 bytes",
		strings.Repeat("x", 300) + ":gmsaccg:s3cret":           "!more than 256 bytes",
	} {
		expect(t, p, input, want)
	}
	if p.Warning() == "" || p.Name() != "test" {
		t.Errorf("name %q, warning %q", p.Name(), p.Warning())
	}
}

func TestTheAllowPatternMatchesTheWholeInput(t *testing.T) {
	p := registered(t, Config{Kind: Inline, Allow: `contoso\.com:gmsaccg:.+|fabrikam\.com:x:y`}, Host{})
	expect(t, p, "contoso.com:gmsaccg:p", "contoso.com|gmsaccg|p")
	expect(t, p, "fabrikam.com:x:y", "fabrikam.com|x|y")
	for _, input := range []string{
		"", "contosoXcom:gmsaccg:s3cret", "xcontoso.com:gmsaccg:s3cret", "fabrikam.com:x:ys3cret",
		"fabrikam.com:x:y\n", "\ncontoso.com:gmsaccg:s3cret", "contoso.com:gmsaccg:\xffs3cret",
	} {
		expect(t, p, input, "!allow pattern does not admit")
		if _, err := fetch(t, p, input); !errors.Is(err, ErrFetch) {
			t.Errorf("%q: %v is not an event 6", input, err)
		}
	}
}

func TestWithoutAllowPatternTheInputMustBeEmpty(t *testing.T) {
	r, err := NewRegistry([]Config{{Name: "test", GUID: testGUID, Kind: Systemd, Systemd: &SystemdConfig{Credential: "x"}}}, Host{})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range r.plugins {
		expect(t, p, "x", "!allow pattern does not admit")
		expect(t, p, "", "!systemd gave no credentials")
	}
}

// slow is a plug-in whose store does not answer.
type slow struct{}

func (slow) Fetch(ctx context.Context, _ secret.Bytes) (Credentials, error) {
	<-ctx.Done()
	return Credentials{}, storeError(ctx.Err())
}

func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Registered{name: "slow", timeout: DefaultTimeout, plugin: slow{}}
		start := time.Now()
		expect(t, p, "", "!plug-in slow: plug-in yields no credentials: context deadline exceeded (no answer within 10s)")
		if d := time.Since(start); d != DefaultTimeout {
			t.Errorf("took %v", d)
		}
	})
}

func TestConfigurationFaultsAllAtOnce(t *testing.T) {
	_, err := NewRegistry([]Config{
		{Name: "a b", GUID: "{x}", Kind: "magic", Timeout: -1, Allow: "("},
		{Name: "ok", GUID: testGUID, Kind: Inline, Allow: "x", File: &FileConfig{}},
		{Name: "ok", GUID: strings.ToLower(testGUID), Kind: Inline, Timeout: time.Hour},
		{Name: "f", GUID: "{00000000-0000-0000-0000-000000000001}", Kind: File},
		{Name: "g", GUID: "{00000000-0000-0000-0000-000000000002}", Kind: File, File: &FileConfig{Path: "x", Directory: "/a/../b"}},
		{Name: "s", GUID: "{00000000-0000-0000-0000-000000000003}", Kind: Systemd, Systemd: &SystemdConfig{Credential: "a/b"}},
		{Name: "k", GUID: "{00000000-0000-0000-0000-000000000004}", Kind: KubernetesSecret},
		{Name: "e", GUID: "{00000000-0000-0000-0000-000000000005}", Kind: Exec},
		{Name: "e2", GUID: "{00000000-0000-0000-0000-000000000006}", Kind: Exec, Exec: &ExecConfig{Command: []string{"sh"}, User: "root"}},
		{Name: "v", GUID: "{00000000-0000-0000-0000-000000000007}", Kind: Vault},
		{Name: "v2", GUID: "{00000000-0000-0000-0000-000000000008}", Kind: Vault, Vault: &VaultConfig{
			Address: "http://vault.example:8200", Mount: "a//b", KVVersion: 3, CAFile: "ca.pem", Namespace: "a\nb",
			AppRole: &AppRoleConfig{Mount: ".."},
		}},
	}, Host{UID: 0})
	if err == nil {
		t.Fatal("no fault")
	}
	want := []string{
		"plugins[0].name", "plugins[0].guid", "plugins[0].kind", "plugins[0].timeout", "plugins[0].allow",
		"plugins[1].file: settings of kind file in a plug-in of kind",
		"plugins[2].name: \"ok\" is taken", "plugins[2].guid", "plugins[2].allow: missing", "plugins[2].timeout",
		"plugins[3].file: want either path or directory",
		"plugins[4].file: want either", "plugins[4].file.path", "plugins[4].file.directory",
		"plugins[5].systemd.credential", "plugins[6].kubernetes-secret.directory",
		"plugins[7].exec.command: missing", "plugins[7].exec.user: \"\", want a user of its own",
		"plugins[8].exec.command[0]", "plugins[8].exec.user: \"root\"",
		"plugins[9].vault.address", "plugins[9].vault: want either token_file or approle",
		"plugins[10].vault.address: \"http://vault.example:8200\", want https", "plugins[10].vault.mount",
		"plugins[10].vault.kv_version", "plugins[10].vault.ca_file", "plugins[10].vault.namespace",
		"plugins[10].vault.approle.mount", "plugins[10].vault.approle.role_id_file", "plugins[10].vault.approle.secret_id_file",
	}
	lines := strings.Split(err.Error(), "\n")
	for _, w := range want {
		found := false
		for _, l := range lines {
			found = found || strings.HasPrefix(l, w)
		}
		if !found {
			t.Errorf("no fault %q", w)
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d faults, want %d:\n%v", len(lines), len(want), err)
	}
}

func TestVaultAddresses(t *testing.T) {
	for address, good := range map[string]bool{
		"https://vault.example:8200": true, "https://vault.example/": true, "http://127.0.0.1:8200": true,
		"http://[::1]:8200": true, "http://localhost:8200": true, "http://10.0.0.1:8200": false,
		"https://user:pw@vault.example": false, "https://vault.example/x": false, "https://vault.example?x": false,
		"vault.example:8200": false, "": false, "ftp://localhost": false,
	} {
		_, err := NewRegistry([]Config{{Name: "v", GUID: testGUID, Kind: Vault, Vault: &VaultConfig{Address: address, TokenFile: "/t"}}}, Host{})
		if (err == nil) != good {
			t.Errorf("%q: %v", address, err)
		}
		if err != nil && strings.Contains(err.Error(), "user:pw") {
			t.Errorf("the fault tells a password: %v", err)
		}
	}
}

func TestLookupKnowsThePluginsOfWindows(t *testing.T) {
	r, err := NewRegistry(nil, Host{})
	if err != nil {
		t.Fatal(err)
	}
	for guid, says := range map[string]string{
		"{CCC2A336-D7F3-4818-A213-272B7924213E}": "Azure Key Vault; register its GUID with kind exec",
		"{859E1386-BDB4-49E8-85C7-3070B13920E1}": "AWS Secrets Manager and SSM; register its GUID with kind exec",
		"{e4781092-f116-4b79-b55e-28eb6a224e26}": "Rancher's plug-in; register its GUID with kind kubernetes-secret",
		credspec.SamplePluginGUID:                "Microsoft's example; register its GUID with kind inline",
		testGUID:                                 "add it to plugins in the agent's configuration",
	} {
		id, err := credspec.ParsePluginGUID(guid)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Lookup(id); !errors.Is(err, ErrLoad) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got error %v, want %q", guid, err, says)
		}
	}
}

func TestNames(t *testing.T) {
	r, err := NewRegistry([]Config{
		{Name: "zeta", GUID: credspec.SamplePluginGUID, Kind: Inline, Allow: ".*"},
		{Name: "alpha", GUID: testGUID, Kind: Systemd},
	}, Host{})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(r.Names(), " "); got != "alpha zeta" {
		t.Error(got)
	}
}

func TestStoredForms(t *testing.T) {
	for in, want := range map[string]string{
		"contoso.com\\gmsaccg:a:b":        "contoso.com|gmsaccg|a:b",
		"contoso.com\\gmsaccg:pass\r\n":   "contoso.com|gmsaccg|pass",
		"contoso.com\\gmsaccg: pass \n\n": "contoso.com|gmsaccg| pass \n",
		"gmsaccg@contoso.com:pass":        "contoso.com|gmsaccg|pass",
		`{"username":"u","password":"p"}`: "|u|p",
		` {"username":"u","password":"{}","domainName":"d.com","distinguishedName":"CN=x"} ` + "\n": "d.com|u|{}",
		`{"username":"D\\u","password":"p\n","domain":"d.com"}`:                                     "d.com|u|p\n",
	} {
		c, err := parseStored([]byte(in))
		if got := fmt.Sprintf("%s|%s|%s", c.Domain, c.Username, c.Password.Reveal()); err != nil || got != want {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "s3cret", "user:s3cret", `{"username":"u","password":7}`, `{"password":"s3cret"`, `{"password":"s3cret"} x`, "[]"} {
		if c, err := parseStored([]byte(in)); !errors.Is(err, ErrFetch) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: got %+v, %v", in, c, err)
		}
	}
}

func FuzzParseStored(f *testing.F) {
	f.Add([]byte("contoso.com\\gmsaccg:a:b\n"))
	f.Add([]byte(`{"username":"u","password":"p","domainName":"d"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseStored(b)
		if err == nil && c.check() == nil && (c.Username == "" || c.Password.IsZero()) {
			t.Errorf("%q: %+v", b, c)
		}
	})
}

func FuzzParseAnswer(f *testing.F) {
	f.Add([]byte(`{"version":1,"username":"u","password":"p","domainName":"d"}`))
	f.Add([]byte(`{"version":1,"error":"no"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseAnswer(b)
		if err != nil {
			return
		}
		var a struct{ Version int }
		if json.Unmarshal(b, &a) != nil || a.Version != ExecVersion {
			t.Errorf("%q: %+v", b, c)
		}
	})
}

func FuzzVaultPath(f *testing.F) {
	for _, s := range []string{"gmsa/host1", "../sys/x", "a//b", "a%2fb", "a/./b"} {
		f.Add(s)
	}
	p := newVault(VaultConfig{Address: "https://v", TokenFile: "/t"}, func(_, format string, args ...any) {
		f.Fatalf(format, args...)
	}).(*vaultPlugin)
	f.Fuzz(func(t *testing.T, s string) {
		path, err := vaultPath(s)
		if err != nil {
			return
		}
		u := p.base.JoinPath(append([]string{"v1", "secret"}, escapeAll(path)...)...)
		if u.RawQuery != "" || u.Fragment != "" || u.Host != "v" || !strings.HasPrefix(u.Path, "/v1/secret/") ||
			strings.Contains(u.Path, "..") && !strings.Contains(s, "..") || strings.Count(u.EscapedPath(), "/") != 2+len(path) {
			t.Errorf("%q becomes %s", s, u)
		}
	})
}
