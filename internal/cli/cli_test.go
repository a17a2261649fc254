package cli

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/opengmsa/opengmsa/internal/ad"
	"github.com/opengmsa/opengmsa/internal/agentapi"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/internal/locate"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

func TestCodes(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want Code
	}{
		"nothing":                           {nil, OK},
		"anything":                          {errors.New("x"), Failed},
		"a missing file":                    {fmt.Errorf("read: %w", fs.ErrNotExist), NotFound},
		"an unreadable file":                {fmt.Errorf("read: %w", fs.ErrPermission), Denied},
		"no controller":                     {fmt.Errorf("x: %w", &locate.NoControllerError{Domain: "contoso.com"}), NoController},
		"an unreachable KDC":                {&kclient.Error{Kind: kclient.ErrUnreachable, Err: errors.New("x")}, NoController},
		"own credentials, no controller":    {fmt.Errorf("%w: %w", ad.ErrIdentity, kclient.ErrUnreachable), NoController},
		"a wrong password":                  {fmt.Errorf("%w: %w", ad.ErrIdentity, kclient.ErrWrongKey), Denied},
		"a withheld password":               {&ad.WithheldError{}, Denied},
		"an unknown service":                {&kclient.Error{Kind: kclient.ErrUnknownServer, Err: errors.New("x")}, NotFound},
		"a right that is missing":           {fmt.Errorf("x: %w", ldapc.ErrAccess), Denied},
		"the agent's refusal":               {fmt.Errorf("x: %w", &agentapi.Failure{Kind: agentapi.Kind_KIND_DENIED}), Denied},
		"the agent's negative":              {&agentapi.Failure{Kind: agentapi.Kind_KIND_NEGATIVE}, Negative},
		"the agent's failure":               {&agentapi.Failure{}, Failed},
		"what a command decides goes first": {failure(Negative, fs.ErrNotExist), Negative},
	} {
		if got := codeOf(c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", name, got, c.want)
		}
	}
	if len(codeMeanings) != int(Negative)+1 || slices.Contains(codeMeanings, "") {
		t.Error("an exit code has no meaning")
	}
}

func TestHints(t *testing.T) {
	err := failure(Failed, fmt.Errorf("a: %w", errors.Join(
		failure(Failed, errors.New("b")).hint("inner"),
		&agentapi.Failure{Hints: []string{"agent's", "outer"}},
		&locate.NoControllerError{Domain: "contoso.com"},
	))).hint("outer")
	got := hintsOf(err)
	if len(got) != 4 || got[0] != "outer" || got[1] != "inner" || got[2] != "agent's" || !strings.Contains(got[3], "contoso.com") {
		t.Errorf("hints %q", got)
	}
}

// commandIn finds what a text tells a person to type.
var commandIn = regexp.MustCompile(`\bgmsa ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?`)

// missing says which command of a text the program does not have, empty for none.
func missing(root *cobra.Command, text string) string {
	for _, m := range commandIn.FindAllStringSubmatch(text, -1) {
		c, _, err := root.Find(m[1:2])
		switch {
		case m[1] == "administers", m[1] == "credentials": // prose, and Windows' event texts
		case err != nil:
			return m[0]
		case c.HasSubCommands() && m[2] != "":
			if _, rest, err := c.Find(m[2:3]); err != nil || len(rest) > 0 {
				return m[0]
			}
		}
	}
	return ""
}

// A hint is the next thing that somebody types: every command that a text of the
// program or a manual's line of code names is there.
func TestCommandsThatAreNamedExist(t *testing.T) {
	root := (&app{}).root()
	err := filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "/lab/") {
			return err
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if m := missing(root, lit.Value); m != "" {
					t.Errorf("%v: there is no command %q", set.Position(lit.Pos()), m)
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	manuals, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(manuals) == 0 {
		t.Fatalf("manuals: %v, %v", manuals, err)
	}
	for _, path := range append(manuals, "../../README.md") {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			// Code: an indented line, or what stands between backquotes.
			code := line
			if !strings.HasPrefix(line, "    ") {
				code = strings.Join(regexp.MustCompile("`[^`]*`").FindAllString(line, -1), "\n")
			}
			if m := missing(root, code); m != "" {
				t.Errorf("%s:%d: there is no command %q", path, i+1, m)
			}
		}
	}
}

// Every command explains itself, with an example that its own parser takes.
func TestEveryCommandHasExamples(t *testing.T) {
	for _, c := range commands((&app{}).root()) {
		if c.Name() == "help" || c.Hidden || c.HasSubCommands() {
			continue
		}
		if c.Short == "" || c.Example == "" {
			t.Errorf("%s: no description or no example", c.CommandPath())
		}
		for line := range strings.SplitSeq(c.Example, "\n") {
			path, err := parseExample(line)
			if err != nil {
				t.Errorf("%s: example %q: %v", c.CommandPath(), line, err)
			} else if path != c.CommandPath() && !strings.Contains(line, " -- gmsa "+c.Name()) {
				t.Errorf("%s: example %q is one of %s", c.CommandPath(), line, path)
			}
		}
	}
}

// shellWords splits a command line at spaces outside of quotes.
func shellWords(line string) []string {
	var words []string
	for _, m := range regexp.MustCompile(`(?:[^\s'"]|'[^']*'|"[^"]*")+`).FindAllString(line, -1) {
		words = append(words, regexp.MustCompile(`'([^']*)'|"([^"]*)"`).ReplaceAllString(m, "$1$2"))
	}
	return words
}

// parseExample has the program's own parser take a command line, and says which
// command it is.
func parseExample(line string) (string, error) {
	line, _, _ = strings.Cut(strings.TrimSpace(line), " >")
	line, _, _ = strings.Cut(line, "  #")
	if _, last, ok := strings.Cut(line, "| "); ok {
		line = last
	}
	words := shellWords(strings.ReplaceAll(line, "$$", "1"))
	if len(words) < 2 || words[0] != "gmsa" {
		return "", errors.New("no command of gmsa")
	}
	c, rest, err := (&app{}).root().Find(words[1:])
	if err != nil {
		return "", err
	}
	if err := c.ParseFlags(rest); err != nil {
		return "", err
	}
	return c.CommandPath(), errors.Join(c.ValidateArgs(c.Flags().Args()), c.ValidateRequiredFlags(), c.ValidateFlagGroups())
}

// The command lines of the manuals are ones that the program takes.
func TestTheManualsCommandsParse(t *testing.T) {
	manuals, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, path := range manuals {
		if filepath.Base(path) == "commands.md" {
			continue // made of the commands: synopses, and examples that have a test of their own
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(b), "\n") {
			if !strings.HasPrefix(line, "    gmsa ") {
				continue
			}
			n++
			if _, err := parseExample(line); err != nil {
				t.Errorf("%s:%d: %v", path, i+1, err)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d command lines in the manuals", n)
	}
}

// What lists, shows or reports can be read by programs.
func TestEveryReportCanBeJSON(t *testing.T) {
	quiet := []string{
		"gmsa agent serve", "gmsa agent reload", "gmsa lease remove", "gmsa run", "gmsa completion", "gmsa help",
		"gmsa account install", "gmsa account uninstall", "gmsa cmdlet", "gmsa man", "gmsa oci-runtime",
		"gmsa demo idle", "gmsa demo site", "gmsa demo visit", "gmsa docker", "gmsa runtime install", "gmsa runtime uninstall",
		"gmsa dc export-keytab", "gmsa dc rekey", "gmsa dc rotate-keys", "gmsa dc serve",
	}
	for _, c := range commands((&app{}).root()) {
		if c.HasSubCommands() || slices.Contains(quiet, c.CommandPath()) {
			continue
		}
		if c.Flags().Lookup("output") == nil {
			t.Errorf("%s has no --output", c.CommandPath())
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                     "plain",
		"\x1b[2Jgone\r\nhint: sudo": " [2Jgone  hint: sudo",
		"Grüße \u0085x":             "Grüße  x",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
	if got := oneLine("a\nhint: forged\x07\n"); got != "a\n      hint: forged " {
		t.Errorf("got %q", got)
	}
}

func TestParseMoment(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"":                     {},
		"90s":                  now.Add(-90 * time.Second),
		"7d":                   now.AddDate(0, 0, -7),
		"2026-11-19T00:00:00Z": time.Date(2026, 11, 19, 0, 0, 0, 0, time.UTC),
		"2026-11-19":           time.Date(2026, 11, 19, 0, 0, 0, 0, time.Local),
		"2026-11-19 08:30":     time.Date(2026, 11, 19, 8, 30, 0, 0, time.Local),
	} {
		if got, err := parseMoment(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q = %v, error %v, want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"soon", "-5m", "d", "-1d", "1.5d", "2026-13-01"} {
		if got, err := parseMoment(in, now); err == nil {
			t.Errorf("%q = %v", in, got)
		}
	}
}

func TestKDCsOf(t *testing.T) {
	const conf = `[libdefaults]
    kdc = not.this.one
[realms]
    FABRIKAM.COM = {
        kdc = dc.fabrikam.com
    }
    CONTOSO.COM = {
        kdc = dc1.contoso.com:88
        kdc = [2001:db8::1]:8888
        admin_server = other.contoso.com
        kdc=192.0.2.1
    }
[domain_realm]
    .contoso.com = CONTOSO.COM
`
	got := kdcsOf(conf, "CONTOSO.COM")
	if want := []string{"dc1.contoso.com", "[2001:db8::1]:9189", "192.0.2.1"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := kdcsOf(conf, "OTHER.COM"); len(got) != 0 {
		t.Errorf("got %q for another realm", got)
	}
}

func TestServerName(t *testing.T) {
	for in, want := range map[string]string{
		"krbtgt":                           "krbtgt/CONTOSO.COM",
		"KRBTGT@contoso.com":               "krbtgt/CONTOSO.COM",
		"ldap/dc1.contoso.com/contoso.com": "ldap/dc1.contoso.com/contoso.com",
		"MSSQLSvc/db1:1433@CONTOSO.COM":    "MSSQLSvc/db1:1433",
		"webapp01$":                        "webapp01$",
	} {
		if got, err := serverName(in, "CONTOSO.COM"); err != nil || got.String() != want {
			t.Errorf("%q is %v, error %v, want %s", in, got, err, want)
		}
	}
	for _, in := range []string{"", "/", "HTTP/", "/host", "a//b", "x@FABRIKAM.COM"} {
		if got, err := serverName(in, "CONTOSO.COM"); codeOf(err) != Usage {
			t.Errorf("%q is %v, error %v, want one of usage", in, got, err)
		}
	}
}

func TestPickPrincipal(t *testing.T) {
	var kt keytab.Keytab
	for _, name := range []string{"host/web1.contoso.com", "WEB1$", "svc"} {
		kt.Entries = append(kt.Entries, keytab.Entry{Principal: krb5.Principal{Realm: "CONTOSO.COM", Name: krb5.NewName(krb5.NamePrincipal, strings.Split(name, "/")...)}})
	}
	for in, want := range map[string]string{
		"": "WEB1$@CONTOSO.COM", "web1": "WEB1$@CONTOSO.COM", `CONTOSO\web1$`: "WEB1$@CONTOSO.COM", "svc@contoso.com": "svc@CONTOSO.COM",
		"svc@other.com": "", "web2": "",
	} {
		got, err := pickPrincipal(kt, in)
		if want == "" {
			if err == nil {
				t.Errorf("%q is %v", in, got)
			}
		} else if err != nil || got.String() != want {
			t.Errorf("%q is %v, error %v, want %s", in, got, err, want)
		}
	}
	if _, err := pickPrincipal(keytab.Keytab{}, ""); err == nil {
		t.Error("an empty keytab has no principal")
	}
}

func TestStatusOf(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no records in DNS":    {&locate.NoControllerError{Domain: "x", Causes: []error{fmt.Errorf("%w: no _ldap", locate.ErrNoRecords)}}, "1355 0x54b ERROR_NO_SUCH_DOMAIN"},
		"silent controllers":   {&locate.NoControllerError{Domain: "x"}, "1311 0x51f ERROR_NO_LOGON_SERVERS"},
		"an unknown account":   {kclient.ErrUnknownClient, "1787 0x6fb ERROR_NO_TRUST_SAM_ACCOUNT"},
		"a wrong key":          {fmt.Errorf("%w: %w", ad.ErrIdentity, kclient.ErrWrongKey), "5 0x5 ERROR_ACCESS_DENIED"},
		"clocks apart":         {kclient.ErrSkew, "1398 0x576 ERROR_TIME_SKEW"},
		"a refused bind":       {ldapc.ErrCredentials, "1326 0x52e ERROR_LOGON_FAILURE"},
		"no encryption":        {ldapc.ErrNotEncrypted, "1790 0x6fe ERROR_TRUST_FAILURE"},
		"out of time":          {context.DeadlineExceeded, "1460 0x5b4 ERROR_TIMEOUT"},
		"something unheard of": {errors.New("x"), "1790 0x6fe ERROR_TRUST_FAILURE"},
	} {
		if got := statusOf(c.err).String(); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// TestSeedOutput compares with the listing of Microsoft's guide, whose flags
// are b0: an address, a time server, a verified status.
func TestSeedOutput(t *testing.T) {
	v := verification{Flags: netlogonVerifyReturned | netlogonHasIP | netlogonHasTimeServ, Controller: "dc01.contoso.com", located: true, Connection: statusSuccess, Trust: statusSuccess}
	var b strings.Builder
	if err := v.write(&b); err != nil {
		t.Fatal(err)
	}
	const want = `
Flags: b0 HAS_IP  HAS_TIMESERV
Trusted DC Name \\dc01.contoso.com
Trusted DC Connection Status Status = 0 0x0 NERR_Success
Trust Verification Status = 0 0x0 NERR_Success
The command completed successfully
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
}

func TestPasswords(t *testing.T) {
	typed := Env{Prompt: func(string) ([]byte, error) { return []byte("typed"), nil }}
	a := &app{env: typed}
	if p, err := a.passwordFrom("", "?"); err != nil || string(p.Reveal()) != "typed" {
		t.Errorf("typed: error %v", err)
	}
	for in, want := range map[string]string{"one\n": "one", "one\r\ntwo\n": "one", "no newline": "no newline", " spaces \n": " spaces "} {
		a := &app{env: Env{Stdin: strings.NewReader(in)}}
		if p, err := a.passwordFrom("-", ""); err != nil || string(p.Reveal()) != want {
			t.Errorf("%q: %q, error %v", in, p.Reveal(), err)
		}
	}
	for name, in := range map[string]string{"an empty line": "\nx", "nothing": "", "too much": strings.Repeat("x", maxPassword+1)} {
		a := &app{env: Env{Stdin: strings.NewReader(in)}}
		if _, err := a.passwordFrom("-", ""); err == nil {
			t.Errorf("%s is taken for a password", name)
		}
	}
	if _, err := (&app{}).passwordFrom("", "?"); codeOf(err) != Usage {
		t.Errorf("without a terminal: error %v", err)
	}
}
