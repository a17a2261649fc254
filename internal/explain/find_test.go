package explain

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestLines reads testdata/lines.txt: what somebody pastes, and under it what is found in
// it; GMSA_UPDATE=1 writes the answers anew.
func TestLines(t *testing.T) {
	const file = "testdata/lines.txt"
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, "= ") {
			continue
		}
		got.WriteString(line)
		text := strings.TrimSuffix(line, "\n")
		for _, e := range Find(text) {
			fmt.Fprintf(&got, "= %s %s %s\n", e.Kind, e.Code, e.Name)
		}
		if len(Find(text)) == 0 {
			for _, e := range Nearest(text) {
				fmt.Fprintf(&got, "= nearest: %s %s %s\n", e.Kind, e.Code, e.Name)
			}
		}
	}
	if os.Getenv("GMSA_UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want := string(b); got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestKindsNarrow(t *testing.T) {
	for text, want := range map[string]struct {
		kinds []Kind
		name  string
	}{
		"24":       {[]Kind{Kerberos}, "KDC_ERR_PREAUTH_FAILED"},
		"1331":     {[]Kind{Win32}, "ERROR_ACCOUNT_DISABLED"},
		"533":      {[]Kind{AD}, "ERROR_ACCOUNT_DISABLED"},
		"0x102":    {[]Kind{NTStatus}, "STATUS_TIMEOUT"},
		"4":        {[]Kind{Event}, "Microsoft-Windows-Containers-CCG/Admin"},
		"error 50": {[]Kind{LDAP}, "insufficientAccessRights"},
		"5":        {[]Kind{Kpasswd}, "KRB5_KPASSWD_ACCESSDENIED"},
	} {
		got := Find(text, want.kinds...)
		if len(got) != 1 || got[0].Name != want.name || got[0].Kind != want.kinds[0] {
			t.Errorf("%q of %v: %+v, want %s", text, want.kinds, got, want.name)
		}
	}
	if got := Find("52e", Kerberos); len(got) != 0 {
		t.Errorf("52e is no code of Kerberos: %+v", got)
	}
}

// What is found in a long text has a limit, as the text has.
func TestLimits(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "win32 %d, ", i)
	}
	if got := len(Find(b.String())); got != maxEntries {
		t.Errorf("%d entries, want %d", got, maxEntries)
	}
	if got := Find(strings.Repeat("x ", MaxText) + "0xc000006d"); len(got) != 0 {
		t.Errorf("found %+v behind the end", got)
	}
}

func FuzzFind(f *testing.F) {
	b, err := os.ReadFile("testdata/lines.txt")
	if err != nil {
		f.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		entries := Find(text)
		if len(entries) > maxEntries {
			t.Fatalf("%d entries", len(entries))
		}
		for i, e := range entries {
			if e.Name == "" || e.Meaning == "" || e.Code == "" || e.Source == "" || !slices.Contains(Kinds(), e.Kind) {
				t.Errorf("%q: %+v lacks something", text, e)
			}
			if slices.ContainsFunc(entries[:i], func(o Entry) bool { return o.Kind == e.Kind && o.Code == e.Code }) {
				t.Errorf("%q: %s %s twice", text, e.Kind, e.Code)
			}
		}
		Nearest(text)
	})
}
