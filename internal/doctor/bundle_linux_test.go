package doctor_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5/ccache"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// Secrets that an administrator wrote where they do not belong.
const (
	commentSecret = "Comment-Secret!7"
	commandSecret = "Command-Secret!7"
	inlineInput   = "contoso.com:portable1:Inline-Secret!7"
)

// testBundle makes bundles of a host that is full of secrets, and looks for each of them.
func testBundle(t *testing.T, s *site) {
	own := new(copies).of(t, s)
	own.write(agentFile, []byte("# "+commentSecret+"\n"+strings.Replace(own.agentYAML(), "kind: file\n    path: "+own.dir+"/portable", "kind: inline", 1)+
		"on_rotate:\n  tell:\n    command: [/usr/bin/true, "+commandSecret+"] # "+commentSecret+"\n"), 0o644)
	spec := strings.Replace(portableSpec, `"PluginInput": "reader"`, `"PluginInput": "`+inlineInput+`"`, 1)
	own.write(specFile, []byte(spec), 0o644)
	own.write("specs/broken.json", []byte(`{"CmsPlugins": ["`+commentSecret+`" "HostAccountConfig": {"PluginInput": "`+inlineInput+`"}}`), 0o644)
	lease := strings.TrimSpace(s.net.Run(s.gmsa, "lease", "create", "--account", "webapp01", "--until-removed", "--keytab"))
	secrets := own.secrets(t, lease)

	own.net.Run("rm", "-f", "/run/bundle.tar.gz")
	own.examine(t, "--ccache", adminCache, "--bundle", "/run/bundle.tar.gz")
	files := unpack(t, read(t, s.net.Path("/run/bundle.tar.gz")))
	for _, name := range []string{
		"gmsa/report.json", "gmsa/report.txt", "gmsa/version.json", "gmsa/agent.yaml", "gmsa/specs/1-broken.json.txt",
		"gmsa/specs/2-contoso_webapp01.json", "gmsa/keytab.txt", "gmsa/tickets.txt", "gmsa/events.jsonl", "gmsa/agent-status.json", "gmsa/leases.json", "gmsa/system/etc/resolv.conf",
	} {
		if len(files[name]) == 0 {
			t.Errorf("no %s", name)
		}
	}
	for name, want := range map[string]string{
		"gmsa/agent.yaml": "kind: inline", "gmsa/keytab.txt": "web1$@CONTOSO.COM version", "gmsa/tickets.txt": "Administrator@CONTOSO.COM for krbtgt",
		"gmsa/events.jsonl": "fetched gmsa credentials for webapp01", "gmsa/specs/2-contoso_webapp01.json": `"PluginInput": "[left out]"`, "gmsa/leases.json": "webapp01$",
	} {
		if !strings.Contains(string(files[name]), want) {
			t.Errorf("%s has no %q:\n%s", name, want, files[name])
		}
	}
	search(t, files, secrets)

	// A configuration that is no YAML: its error quotes what it does not understand.
	own.write(agentFile, []byte("domains: {contoso.com: {host: {input: "+commandSecret+"}}}\nquotas: "+commentSecret+"\n"), 0o644)
	own.examine(t, "--ccache", adminCache, "--bundle", "/run/bundle.tar.gz")
	search(t, unpack(t, read(t, s.net.Path("/run/bundle.tar.gz"))), secrets)
}

// secrets are all that the host has, by what they are.
func (s *site) secrets(t *testing.T, lease string) map[string][]byte {
	secrets := map[string][]byte{
		"a comment": []byte(commentSecret), "a command's argument": []byte(commandSecret), "the plug-in's input": []byte(inlineInput),
		"the plug-in's password": []byte("Inline-Secret!7"), "the host's password": []byte(lab.ComputerPassword("web1")), "the administrator's": []byte(lab.AdminPassword),
	}
	addKeys := func(what string, content []byte) {
		kt, err := keytab.Parse(content)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range kt.Entries {
			secrets[what+" "+e.Principal.String()+" "+e.Key.EType().String()] = e.Key.Secret().Reveal()
		}
	}
	addKeys("keytab", read(t, s.net.Path(s.path(keytabFile))))
	addKeys("lease's keytab", []byte(s.net.Run("cat", lease+"/keytab")))
	for what, path := range map[string]string{"administrator's": adminCache, "lease's": lease + "/ccache"} {
		cache, err := ccache.Parse([]byte(s.net.Run("cat", path)))
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range cache.Credentials {
			secrets[what+" session key for "+c.Server.String()] = c.SessionKey.Secret().Reveal()
			secrets[what+" ticket for "+c.Server.String()] = c.Ticket
		}
	}
	return secrets
}

// unpack reads a bundle.
func unpack(t *testing.T, b []byte) map[string][]byte {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Mode != 0o600 {
			t.Errorf("%s has the mode %o", h.Name, h.Mode)
		}
		if files[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

// search looks for secrets in files. It undoes encodings where the doctor makes them, so
// that the two have nothing in common.
func search(t *testing.T, files map[string][]byte, secrets map[string][]byte) {
	t.Helper()
	for name, content := range files {
		for _, text := range decoded(content) {
			for what, s := range secrets {
				if bytes.Contains(text, s) {
					t.Errorf("%s has %s", name, what)
				}
			}
		}
	}
}

var (
	inHex    = regexp.MustCompile(`[0-9A-Fa-f]{8,}`)
	inBase64 = regexp.MustCompile(`[A-Za-z0-9+/_-]{6,}`)
)

// standard are the digits of base64 for those of its form for URLs.
func standard(r rune) rune {
	switch r {
	case '-':
		return '+'
	case '_':
		return '/'
	}
	return r
}

// decoded is a text, and what can be read out of it.
func decoded(text []byte) [][]byte {
	list := [][]byte{text, bytes.ReplaceAll(text, []byte{0}, nil)} // UTF-16 of ASCII is that with zeros
	for _, run := range inHex.FindAll(text, -1) {
		for shift := range 2 {
			part := run[shift:]
			b := make([]byte, len(part)/2)
			if _, err := hex.Decode(b, part[:len(part)/2*2]); err == nil {
				list = append(list, b, bytes.ReplaceAll(b, []byte{0}, nil))
			}
		}
	}
	for _, run := range inBase64.FindAll(text, -1) {
		run = bytes.Map(standard, run)
		for shift := range 4 {
			if shift >= len(run) {
				break
			}
			part := run[shift:]
			b := make([]byte, base64.RawStdEncoding.DecodedLen(len(part)))
			n, _ := base64.RawStdEncoding.Decode(b, part)
			list = append(list, b[:n], bytes.ReplaceAll(b[:n], []byte{0}, nil))
		}
	}
	return list
}

func TestTheSearchFindsASecretInEveryEncoding(t *testing.T) {
	const secret = "Some-Pass+word/7"
	var wide []byte
	for _, u := range utf16.Encode([]rune(secret)) {
		wide = append(wide, byte(u), byte(u>>8))
	}
	for name, text := range map[string]string{
		"raw": "x" + secret, "hex": hex.EncodeToString([]byte(secret)), "HEX": "A" + strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"UTF-16": string(wide), "hex of UTF-16": hex.EncodeToString(wide), "base64": base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 in a longer text":    base64.StdEncoding.EncodeToString([]byte("ab" + secret + "c")),
		"base64 for URLs":            base64.URLEncoding.EncodeToString([]byte("a" + secret + "~~")),
		"base64 of UTF-16":           base64.StdEncoding.EncodeToString(append([]byte("a"), wide...)),
		"base64 behind other digits": "key=AAA" + base64.StdEncoding.EncodeToString([]byte(secret)),
	} {
		found := false
		for _, d := range decoded([]byte(text)) {
			found = found || bytes.Contains(d, []byte(secret))
		}
		if !found {
			t.Errorf("%s: not found", name)
		}
	}
}
