package cmdlet

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func testHost(out *bytes.Buffer) Host {
	return Host{
		Getenv: func(name string) string { return map[string]string{"COMPUTERNAME": "HOST1"}[name] }, Hostname: func() string { return "host1" },
		Now: func() time.Time { return time.Date(2026, 12, 1, 12, 0, 0, 0, time.Local) }, Out: out, Warn: func(string) {}, Fail: func(error) {},
	}
}

func TestLanguage(t *testing.T) {
	for script, want := range map[string]string{
		"'a' + 'b'": "ab\n",
		"$x = 3; $x + 4 # seven\n<# not\nthis #> 'end'": "7\nend\n",
		"(0x1000 -band 0x1000) -eq 0x1000":              "True\n",
		"(4128 -band 0x7FFFC5FF) -bor 0x1000":           "4128\n",
		"'WebApp01$' -like 'webapp*'":                   "True\n",
		"'a/b' -like 'a*'":                              "True\n",
		"-not ($null -eq '')":                           "True\n",
		"\"$env:computername has ${x}\"":                "",
		"$env:computername":                             "HOST1\n",
		"(Get-Date).AddHours(-10)":                      "12/01/2026 02:00:00\n",
		"@{A = 1; B = 'x'}.B":                           "x\n",
		"@('a', 'b').Count":                             "2\n",
		"'a', 'b' + 'c'":                                "a\nb\nc\n", // a comma binds closer than +
		"(1, 2, 3)[1]":                                  "2\n",
		"@().Count":                                     "0\n",
		"'ABC' -EQ 'abc'":                               "True\n",
		"'abc' -Like 'A?C'":                             "True\n",
		"'abc' -notlike 'b*'":                           "True\n",
		"1 -ne 2":                                       "True\n",
		"(1 -eq 1) -and -not ($false)":                  "True\n",
		"'it''s ' + \"a `\"b`\"\"":                      "it's a \"b\"\n",
		"'no $x here'":                                  "no $x here\n",
		"$x = 5; \"x is $x, twice $($x + 5)\"":          "x is 5, twice 10\n",
		"(Get-Date).AddDays(1)":                         "12/02/2026 12:00:00\n",
		"$null":                                         "",
		"$true; $FALSE":                                 "True\nFalse\n",
		"$h = @{Name = 'n'\n  Domain = \"d\"}; $h['domain']":              "d\n",
		"Get-Date |\n Select-Object -First 0":                             "",
		"PS C:\\> 1 + 1":                                                  "2\n",
		"Select-Object `\n  -First 1":                                     "",
		"Install-WindowsFeature RSAT-AD-PowerShell -IncludeAllSubFeature": "install-windowsfeature: there is nothing to install: here are the cmdlets of the Active Directory module (Get-Help)\n",
	} {
		var out bytes.Buffer
		err := Run(t.Context(), testHost(&out), script)
		if strings.Contains(script, "${x}") {
			if err == nil || !strings.Contains(err.Error(), "$x has no value") {
				t.Errorf("%s: %v", script, err)
			}
			continue
		}
		if err != nil || out.String() != want {
			t.Errorf("%s: %q, %v; want %q", script, out.String(), err, want)
		}
	}
}

func TestSyntaxErrorsNameTheLine(t *testing.T) {
	for script, want := range map[string]string{
		"Get-Date\n'open":        "line 2",
		"@{a = ":                 "line 1",
		"(1":                     "is missing",
		"\n\n$x = ":              "line 3",
		"No-Such -Thing":         "No-Such is not known",
		"Get-Date -Nothing 3":    "no parameter -Nothing",
		"Select-Object -Fir":     "wants a value",
		"New-ADGroup -Group x y": "may mean -GroupScope or -GroupCategory",
		"Get-Date a b":           "no time",
	} {
		err := Run(t.Context(), testHost(new(bytes.Buffer)), script)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", script, err, want)
		}
	}
	if err := Run(t.Context(), testHost(new(bytes.Buffer)), strings.Repeat("(", 10_000)); !errors.Is(err, ErrSyntax) {
		t.Error("deep nesting:", err)
	}
}

// A probe shows what a cmdlet's parameters get.
func bound(t *testing.T, name string, args []argument) map[string]any {
	t.Helper()
	in := &interpreter{host: testHost(new(bytes.Buffer)), vars: map[string]any{}}
	c, err := in.bind(t.Context(), find(name), args)
	if err != nil {
		t.Fatal(err)
	}
	return c.values
}

func TestArgumentsOfAShellAndOfAScriptAgree(t *testing.T) {
	script := `New-ADServiceAccount ITFarm1 -DNSHostName ITFarm1.contoso.com -PrincipalsAllowedToR 'CN=a,DC=b',Host1$,Host2$ -kerb RC4, AES128, AES256 -ServicePrincipalNames http/ITFarm1/contoso.com, MSSQLSvc/x:1433 -Enabled $true -OtherAttributes @{info='x'}`
	argv := []string{
		"ITFarm1", "-DNSHostName", "ITFarm1.contoso.com", "-PrincipalsAllowedToR", "CN=a,DC=b", ",Host1$,Host2$", "-kerb", "RC4,", "AES128,", "AES256",
		"-ServicePrincipalNames", "http/ITFarm1/contoso.com,", "MSSQLSvc/x:1433", "-Enabled:$true", "-OtherAttributes", "@{info='x'}",
	}
	list, err := parseScript(script)
	if err != nil {
		t.Fatal(err)
	}
	a := bound(t, "new-adserviceaccount", list[0].pipeline.commands[0].args)
	b := bound(t, "New-ADServiceAccount", argvArguments(argv))
	for _, v := range []map[string]any{a, b} {
		for name, want := range map[string]string{
			"name": "ITFarm1", "dnshostname": "ITFarm1.contoso.com", "kerberosencryptiontype": "RC4 AES128 AES256",
			"principalsallowedtoretrievemanagedpassword": "CN=a,DC=b Host1$ Host2$", "serviceprincipalnames": "http/ITFarm1/contoso.com MSSQLSvc/x:1433", "enabled": "True",
		} {
			if got := str(v[name]); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	}
}

func TestListFormat(t *testing.T) {
	var out bytes.Buffer
	o := newObject("x").set("Name", "a").set("LongerName", []any{"b", "c"}).set("Empty", nil)
	if err := write(&out, []any{o, o, "text"}); err != nil {
		t.Fatal(err)
	}
	const one = "Name       : a\nLongerName : {b, c}\nEmpty      :\n\n"
	if want := "\n" + one + one + "text\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestFilters(t *testing.T) {
	for text, want := range map[string]string{
		"": "(objectClass=*)", "*": "(objectClass=*)", "(cn=x)": "(cn=x)", "(&(cn=x)(sn=y))": "(&(cn=x)(sn=y))",
		`sAMAccountName -like "X*"`:                             "(sAMAccountName=X*)",
		`name -eq 'a''b' -and -not (sn -ne "c")`:                "(&(name=a'b)(!(!(sn=c))))",
		`a -eq 1 -or b -eq 2 -and c -eq 3`:                      "(|(a=1)(&(b=2)(c=3)))",
		`(userAccountControl -band 0x1000) -and name -like "*"`: "(&(userAccountControl:1.2.840.113556.1.4.803:=4096)(name=*))",
		`Enabled -eq $false`:                                    "(userAccountControl:1.2.840.113556.1.4.803:=2)",
		`name -like "a*b*c"`:                                    "(name=a*b*c)",
		`name -eq "(*)"`:                                        `(name=\28\2a\29)`,
	} {
		f, err := ParseFilter(text)
		if err != nil || f.String() != want {
			t.Errorf("%s: %s, %v; want %s", text, f, err, want)
		}
	}
	for _, text := range []string{"name", "name -like", `name -like "x`, "name -foo 3", "(name -eq x", "name -eq x y", "(cn=x", "-and", `"x" -eq y`, "u -band x"} {
		if f, err := ParseFilter(text); !errors.Is(err, ErrFilter) {
			t.Errorf("%s: %s, %v", text, f, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(`New-ADGroup -Name "a $(1 + 2)" -X @{a=1;b='c'} | Select-Object *`)
	f.Add("$x = (Get-Date).AddHours(-10)\n# c")
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 4096 {
			return
		}
		_, _ = parseScript(src)
		_, _ = ParseFilter(src)
	})
}

func TestEveryCmdletHasHelpAndAnExampleThatParses(t *testing.T) {
	for _, d := range definitions() {
		if d.synopsis == "" || !strings.Contains(d.help(), "SYNTAX") {
			t.Errorf("%s has no help", d.name)
		}
		if _, err := parseScript(d.example); err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
	}
}

// A script goes on after an error as PowerShell's does, and says at the end that there
// was one.
func TestScriptsGoOnAfterAnError(t *testing.T) {
	for script, want := range map[string]struct {
		out    string
		failed int
		err    error
	}{
		"1; No-Thing; 2; No-Other; 3":                                      {"1\n2\n3\n", 2, ErrContinued},
		"$ErrorActionPreference = 'Stop'; 1; No-Thing; 2":                  {"1\n", 0, ErrParameter},
		"$ErrorActionPreference = 'SilentlyContinue'; 1; No-Thing; 2":      {"1\n2\n", 0, nil},
		"Get-Help No-Such -ErrorAction Stop; 2":                            {"", 0, ErrParameter},
		"Get-Help No-Such -ErrorAction SilentlyContinue; 2; No-Thing -x 1": {"2\n", 1, ErrContinued},
		"$x = No-Thing; 'after'":                                           {"after\n", 1, ErrContinued},
		"1; (":                                                             {"", 0, ErrSyntax},
	} {
		var out bytes.Buffer
		failed := 0
		h := testHost(&out)
		h.Fail = func(error) { failed++ }
		err := Run(t.Context(), h, script)
		if out.String() != want.out || failed != want.failed || !errors.Is(err, want.err) || errors.Is(err, ErrContinued) != (want.err == ErrContinued) { //nolint:errorlint // of the table
			t.Errorf("%s: %q, %d shown, %v", script, out.String(), failed, err)
		}
	}
}
