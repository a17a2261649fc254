package credspec

import (
	"errors"
	"path"
	"strings"
	"testing"
)

func TestSecurityOptions(t *testing.T) {
	for name, c := range map[string]struct {
		opts  []string
		swarm bool
		want  Ref
		err   string
	}{
		"a file":              {[]string{"credentialspec=file://contoso_webapp01.json"}, false, Ref{SchemeFile, "contoso_webapp01.json"}, ""},
		"in any case":         {[]string{"CredentialSpec=FILE://A.json"}, false, Ref{SchemeFile, "A.json"}, ""},
		"the registry":        {[]string{"credentialspec=registry://My Spec"}, false, Ref{SchemeRegistry, "My Spec"}, ""},
		"raw, with = and ://": {[]string{`credentialspec=raw://{"a":"b=c://d"}`}, false, Ref{SchemeRaw, `{"a":"b=c://d"}`}, ""},
		"a config in swarm":   {[]string{"credentialspec=config://abc"}, true, Ref{SchemeConfig, "abc"}, ""},
		"a config elsewhere":  {[]string{"credentialspec=config://abc"}, false, Ref{}, ErrRef.Error()},
		"the last wins":       {[]string{"credentialspec=file://a.json", "credentialspec=raw://{}"}, false, Ref{SchemeRaw, "{}"}, ""},
		"each must be valid":  {[]string{"credentialspec=nonsense", "credentialspec=raw://{}"}, false, Ref{}, ErrRef.Error()},
		"no option":           {nil, false, Ref{}, ""},
		"no value":            {[]string{"credentialspec=file://"}, false, Ref{}, ErrRef.Error()},
		"no scheme":           {[]string{"credentialspec=a.json"}, false, Ref{}, ErrRef.Error()},
		"another scheme":      {[]string{"credentialspec=https://x"}, false, Ref{}, ErrRef.Error()},
		"no equals sign":      {[]string{"credentialspec"}, false, Ref{}, "invalid security option: no equals sign in supplied value credentialspec"},
		"an option of Linux":  {[]string{"seccomp=unconfined"}, false, Ref{}, "security option not supported: seccomp"},
	} {
		got, err := ParseSecurityOpts(c.opts, c.swarm)
		if got != c.want || c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
			t.Errorf("%s: got %v, %v; want %v, %q", name, got, err, c.want, c.err)
		}
	}
	if want := "invalid credential spec security option - value must be prefixed by 'file://', 'registry://', or 'raw://' followed by a non-empty value"; ErrRef.Error() != want {
		t.Errorf("Docker says %q", want)
	}
}

func TestPathsOfFileReferences(t *testing.T) {
	for value, want := range map[string]string{
		"a.json": "a.json", "./a.json": "a.json", "team/a.json": "team/a.json", `team\a.json`: "team/a.json",
		"team/../a.json": "a.json", "..a.json": "..a.json",
	} {
		if got, err := (Ref{SchemeFile, value}).Path("base"); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", value, got, err, want)
		}
	}
	for value, want := range map[string]string{
		"/etc/passwd":       ErrAbsolute.Error(),
		`\Windows\a.json`:   ErrAbsolute.Error(),
		`C:\a.json`:         ErrAbsolute.Error(),
		"c:a.json":          ErrAbsolute.Error(),
		"../a.json":         "invalid credential spec - file:// path must be under base",
		`..\a.json`:         "invalid credential spec - file:// path must be under base",
		"team/../../a.json": "invalid credential spec - file:// path must be under base",
		"..":                "invalid credential spec - file:// path must be under base",
		".":                 "invalid credential spec - file:// path must be under base",
		"a\x00.json":        "invalid credential spec - file:// path must be under base",
	} {
		if got, err := (Ref{SchemeFile, value}).Path("base"); err == nil || err.Error() != want {
			t.Errorf("%q: got %q, %v; want %q", value, got, err, want)
		}
	}
	if _, err := (Ref{SchemeRaw, "{}"}).Path("base"); !errors.Is(err, ErrRef) {
		t.Errorf("path of a raw reference: %v", err)
	}
}

func TestNames(t *testing.T) {
	for _, name := range []string{"a", "contoso_webapp01", "A.b-c", strings.Repeat("x", 128)} {
		if err := CheckName(name); err != nil {
			t.Error(err)
		}
		if got, err := NameOfFile(name + ".JSON"); err != nil || got != name {
			t.Errorf("%s.JSON: got %q, %v", name, got, err)
		}
	}
	for _, name := range []string{"", ".", "..", "-a", "a-", "_a", "a:keytab", "a/b", `a\b`, "a b", "é", "a\x00", strings.Repeat("x", 129)} {
		if err := CheckName(name); !errors.Is(err, ErrName) {
			t.Errorf("%q: got error %v", name, err)
		}
	}
	for base, want := range map[string]string{
		"contoso web.json": "contosox-20web", "é.json": "x-c3x-a9", "_a-.json": "x-5fax-2d", "a:keytab.json": "ax-3akeytab", "a_b-c.d.json": "a_b-c.d",
	} {
		if got, err := NameOfFile(base); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", base, got, err, want)
		}
	}
	for _, base := range []string{"", "json", ".json", "a.json~", "a.yaml", "..json", ".a.json", strings.Repeat(" ", 40) + ".json"} {
		if got, err := NameOfFile(base); !errors.Is(err, ErrName) {
			t.Errorf("%q: got %q, %v", base, got, err)
		}
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"file://a.json", "raw://{}", "registry://x", "config://y", `file://..\a`, "file://C:x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s, true)
		if err != nil {
			return
		}
		again, err := ParseRef(string(r.Scheme)+"://"+r.Value, true)
		if err != nil || again != r {
			t.Errorf("%q: %v, then %v, %v", s, r, again, err)
		}
		if p, err := r.Path("base"); err == nil {
			if joined := path.Join("/base", p); !strings.HasPrefix(joined, "/base/") {
				t.Errorf("%q leaves its directory: %s", s, joined)
			}
		}
	})
}
