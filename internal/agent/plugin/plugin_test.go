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

// registered registers one plug-in and looks it up. The GUID and, if empty, an
// allow pattern for everything are added.
func registered(t testing.TB, c Config, host Host) *Registered {
	t.Helper()
	c.GUID = testGUID
	if c.AllowInput == "" {
		c.AllowInput = `[\s\S]*`
	}
	r, err := NewRegistry(map[string]Config{"test": c}, host)
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
	p := registered(t, Config{Kind: Inline, AllowInput: `contoso\.com:gmsaccg:.+|fabrikam\.com:x:y`}, Host{})
	expect(t, p, "contoso.com:gmsaccg:p", "contoso.com|gmsaccg|p")
	expect(t, p, "fabrikam.com:x:y", "fabrikam.com|x|y")
	for _, input := range []string{
		"", "contosoXcom:gmsaccg:s3cret", "xcontoso.com:gmsaccg:s3cret", "fabrikam.com:x:ys3cret",
		"fabrikam.com:x:y\n", "\ncontoso.com:gmsaccg:s3cret", "contoso.com:gmsaccg:\xffs3cret",
	} {
		expect(t, p, input, "!allow_input does not admit")
		if _, err := fetch(t, p, input); !errors.Is(err, ErrFetch) {
			t.Errorf("%q: %v is not an event 6", input, err)
		}
	}
}

func TestWithoutAllowPatternTheInputMustBeEmpty(t *testing.T) {
	r, err := NewRegistry(map[string]Config{"x": {Kind: Systemd}}, Host{})
	if err != nil {
		t.Fatal(err)
	}
	p, err := r.Named("x")
	if err != nil {
		t.Fatal(err)
	}
	expect(t, p, "x", "!allow_input does not admit")
	expect(t, p, "", "!systemd gave no credentials")
	if _, err := p.FetchConfigured(t.Context(), secret.Copy([]byte("x"))); !errors.Is(err, ErrLoad) {
		t.Errorf("an input of the configuration: %v", err)
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
	configs := map[string]Config{
		"a b": {GUID: "{x}", Kind: "magic", Timeout: -1, AllowInput: "("},
		"c":   {GUID: testGUID, Kind: Inline, AllowInput: "x", Path: "/x"},
		"d":   {GUID: strings.ToLower(testGUID), Kind: Inline, Timeout: time.Hour},
		"e":   {Kind: File},
		"f":   {Kind: File, Path: "x", User: "u", Command: []string{"x"}, Credential: "c"},
		"g":   {Kind: File, Directory: "/a/../b", Address: "x", Mount: "x", Namespace: "x", KVVersion: 1, CA: "x", TokenFile: "x", AppRole: &AppRole{}},
		"h":   {Kind: Systemd, Credential: "a/b", Directory: "/x"},
		"i":   {Kind: Kubernetes},
		"j":   {Kind: Exec},
		"k":   {Kind: Exec, Command: []string{"sh"}, User: "root"},
		"l":   {Kind: Vault},
		"m": {
			Kind: Vault, Address: "http://vault.example:8200", Mount: "a//b", KVVersion: 3, CA: "ca.pem", Namespace: "a\nb",
			AppRole: &AppRole{Mount: ".."},
		},
	}
	want := []string{
		"plugins.a b: want letters", "plugins.a b.allow_input: ", "plugins.a b.timeout: ", "plugins.a b.kind: ", "plugins.a b.guid: ",
		"plugins.c.path: is not a key of kind \"inline\"",
		"plugins.d.timeout: ", "plugins.d.allow_input: is missing", "plugins.d.guid: ",
		"plugins.e: want either path or directory",
		"plugins.f.credential: ", "plugins.f.command: ", "plugins.f.user: ", "plugins.f.path: \"x\" is not an absolute path",
		"plugins.g.address: ", "plugins.g.namespace: ", "plugins.g.mount: ", "plugins.g.kv_version: ", "plugins.g.ca: ",
		"plugins.g.token_file: ", "plugins.g.approle: ", "plugins.g.directory: ",
		"plugins.h.directory: ", "plugins.h.credential: ",
		"plugins.i.directory: ",
		"plugins.j.command: is missing", "plugins.j.user: is missing",
		"plugins.k.command[0]: ", "plugins.k.user: \"root\": the program must not run as root",
		"plugins.l.address: ", "plugins.l: want either token_file or approle",
		"plugins.m.address: \"http://vault.example:8200\": want an https URL", "plugins.m.mount: ", "plugins.m.kv_version: ",
		"plugins.m.namespace: ", "plugins.m.ca: ", "plugins.m.approle.mount: ", "plugins.m.approle.role_id_file: ", "plugins.m.approle.secret_id_file: ",
	}
	faults := Check(configs)
	for i, err := range faults {
		if i >= len(want) || !strings.HasPrefix(err.Error(), want[i]) {
			t.Errorf("fault %d: %v", i, err)
		}
	}
	if len(faults) != len(want) {
		t.Errorf("%d faults, want %d", len(faults), len(want))
	}
	r, err := NewRegistry(configs, Host{})
	if r != nil || err == nil || strings.Count(err.Error(), "plugins.") != len(want) {
		t.Errorf("NewRegistry: %v", err)
	}
}

func TestVaultAddresses(t *testing.T) {
	for address, good := range map[string]bool{
		"https://vault.example:8200": true, "https://vault.example/": true, "http://127.0.0.1:8200": true,
		"http://[::1]:8200": true, "http://localhost:8200": true, "http://10.0.0.1:8200": false,
		"https://user:pw@vault.example": false, "https://vault.example/x": false, "https://vault.example?x": false,
		"vault.example:8200": false, "": false, "ftp://localhost": false,
	} {
		_, err := NewRegistry(map[string]Config{"v": {Kind: Vault, Address: address, TokenFile: "/t"}}, Host{})
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

func TestNamed(t *testing.T) {
	r, err := NewRegistry(map[string]Config{"own": {Kind: Systemd}}, Host{})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := r.Named("own"); err != nil || p.Name() != "own" || p.Warning() != "" {
		t.Errorf("got %v, %v", p, err)
	}
	if _, err := r.Named("other"); !errors.Is(err, ErrLoad) {
		t.Errorf("got error %v", err)
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
	p := newVault(Config{Address: "https://v", TokenFile: "/t"}, func(_, format string, args ...any) {
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
