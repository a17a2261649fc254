package credspec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/secret"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// joined is what testdata/joined.json says, the example of Microsoft's guide.
func joined() Spec {
	return Spec{
		CmsPlugins: []string{"ActiveDirectory"},
		DomainJoinConfig: DomainJoinConfig{
			Sid:                "S-1-5-21-702590844-1001920913-2680819671",
			MachineAccountName: "webapp01",
			Guid:               "56d9b66c-d746-4f87-bd26-26760cfdca2e",
			DnsTreeName:        "contoso.com",
			DnsName:            "contoso.com",
			NetBiosName:        "CONTOSO",
		},
		ActiveDirectoryConfig: ActiveDirectoryConfig{
			GroupManagedServiceAccounts: []GroupManagedServiceAccount{
				{"webapp01", "contoso.com"}, {"webapp01", "CONTOSO"},
			},
		},
	}
}

func portable() Spec {
	s := joined()
	s.ActiveDirectoryConfig.HostAccountConfig = &HostAccountConfig{
		PortableCcgVersion: "1",
		PluginGUID:         SamplePluginGUID,
		PluginInput:        secret.Copy([]byte("contoso.com:gmsaccg:<password>")),
	}
	return s
}

var sameSecret = cmp.Comparer(func(a, b secret.Bytes) bool { return a.Equal(b) })

func TestExamplesOfTheGuides(t *testing.T) {
	for name, c := range map[string]struct {
		file   string
		want   Spec
		golden string
		says   string
	}{
		"a joined host":       {"joined.json", joined(), "joined.json", ""},
		"a portable one":      {"portable.json", portable(), "portable.json", "not a valid one"},
		"as the guide has it": {"portable_guide.json", portable(), "portable.json", "not a valid one"},
	} {
		t.Run(name, func(t *testing.T) {
			got, findings, err := Parse(read(t, c.file))
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(c.want, got, sameSecret); d != "" {
				t.Error(d)
			}
			if text := fmt.Sprint(findings); c.says == "" && len(findings) > 0 || !strings.Contains(text, c.says) || len(findings) > 1 {
				t.Errorf("findings: %v, want one with %q", findings, c.says)
			}
			if got := got.Render(); !bytes.Equal(got, read(t, c.golden)) {
				t.Errorf("renders as\n%s", got)
			}
		})
	}
}

// edit parses testdata/portable.json with one text replaced by another.
func edit(t *testing.T, old, replacement string) (Spec, []Finding, error) {
	t.Helper()
	b := read(t, "portable.json")
	if old != "" {
		if !bytes.Contains(b, []byte(old)) {
			t.Fatalf("the file has no %q", old)
		}
		b = bytes.Replace(b, []byte(old), []byte(replacement), 1)
	}
	return Parse(b)
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		old, replacement string
		path, says       string
	}{
		"an account's SID":         {`2680819671"`, `2680819671-1104"`, "$.DomainJoinConfig.Sid", "write S-1-5-21-702590844-1001920913-2680819671)"},
		"a built-in SID":           {`S-1-5-21-702590844-1001920913-2680819671`, `S-1-5-32-544`, "$.DomainJoinConfig.Sid", "not the SID of a domain"},
		"no SID at all":            {`S-1-5-21-702590844-1001920913-2680819671`, `contoso`, "$.DomainJoinConfig.Sid", "not a SID"},
		"an empty SID":             {`S-1-5-21-702590844-1001920913-2680819671`, ``, "$.DomainJoinConfig.Sid", "missing"},
		"a malformed domain GUID":  {`56d9b66c-`, `56d9b66x-`, "$.DomainJoinConfig.Guid", "not a GUID"},
		"a dollar sign":            {`"MachineAccountName": "webapp01"`, `"MachineAccountName": "webapp01$"`, "$.DomainJoinConfig.MachineAccountName", `write "webapp01"`},
		"a UPN":                    {`"Name": "webapp01"`, `"Name": "webapp01@contoso.com"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[0].Name", `write "webapp01"`},
		"a domain before it":       {`"Name": "webapp01"`, `"Name": "CONTOSO\\webapp01$"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[0].Name", `write "webapp01"`},
		"a bad account name":       {`"Name": "webapp01"`, `"Name": "web/app"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[0].Name", "cannot have"},
		"no name":                  {`"Name": "webapp01",`, ``, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[0].Name", "missing"},
		"no scope":                 {`"Scope": "CONTOSO"`, `"Scope": ""`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[1].Scope", "missing"},
		"a bad scope":              {`"Scope": "CONTOSO"`, `"Scope": "a b"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[1].Scope", "neither"},
		"a bad DNS name":           {`"DnsName": "contoso.com"`, `"DnsName": "contoso..com"`, "$.DomainJoinConfig.DnsName", "an empty label"},
		"a bad forest":             {`"DnsTreeName": "contoso.com"`, `"DnsTreeName": "-x.com"`, "$.DomainJoinConfig.DnsTreeName", "begins or ends with -"},
		"a long NetBIOS name":      {`"NetBiosName": "CONTOSO"`, `"NetBiosName": "CONTOSOCONTOSO16"`, "$.DomainJoinConfig.NetBiosName", "more than 15"},
		"a bad NetBIOS name":       {`"NetBiosName": "CONTOSO"`, `"NetBiosName": "CON|TOSO"`, "$.DomainJoinConfig.NetBiosName", "cannot have"},
		"another version":          {`"PortableCcgVersion": "1"`, `"PortableCcgVersion": "2"`, "$.ActiveDirectoryConfig.HostAccountConfig.PortableCcgVersion", `write "1"`},
		"a malformed plug-in":      {`{GDMA0342-`, `{GDMA0343-`, "$.ActiveDirectoryConfig.HostAccountConfig.PluginGUID", "not a GUID"},
		"no plug-in":               {SamplePluginGUID, ``, "$.ActiveDirectoryConfig.HostAccountConfig.PluginGUID", "missing"},
		"a number for a string":    {`"CONTOSO"`, `7`, "$.DomainJoinConfig.NetBiosName", "a number, want a string"},
		"a list as plug-in input":  {`"contoso.com:gmsaccg:<password>"`, `[1]`, "$.ActiveDirectoryConfig.HostAccountConfig.PluginInput", "a list, want a string"},
		"a string for a list":      {"[\n        \"ActiveDirectory\"\n    ]", `"ActiveDirectory"`, "$.CmsPlugins", `write "CmsPlugins": ["ActiveDirectory"]`},
		"another CMS plug-in":      {`"ActiveDirectory"`, `"Other"`, "$.CmsPlugins", "ActiveDirectory is not among them"},
		"a key twice":              {`"DnsName":`, `"DnsName": "x.com", "DnsName":`, "$.DomainJoinConfig.DnsName", "there twice"},
		"a key twice, in disguise": {`"DnsName":`, `"dnsname": "x.com", "DnsName":`, "$.DomainJoinConfig.DnsName", "twice, in different spelling"},
		"an unknown key twice":     {`"DnsName":`, `"X": 1, "X": 2, "DnsName":`, "$.DomainJoinConfig.X", "there twice"},
		"twice inside an object":   {`"contoso.com:gmsaccg:<password>"`, `{"a": {"b": 1, "b": 2}}`, "$.ActiveDirectoryConfig.HostAccountConfig.PluginInput.a.b", "there twice"},
		"trailing data":            {"\n}\n", "\n}\n{}", "$", "line 31, column 1"},
		"a comment":                {"\n    \"DomainJoin", "\n    // mine\n    \"DomainJoin", "$", "line 5, column 5: invalid character '/'"},
		"a comma too many":         {`"CONTOSO"`, `"CONTOSO",`, "$", "a comma before the end"},
		"nothing of the domain":    {`"DomainJoinConfig"`, `"Other"`, "$.DomainJoinConfig", "missing"},
		"nothing of accounts":      {`"GroupManagedServiceAccounts"`, `"Other"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts", "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, findings, err := edit(t, c.old, c.replacement)
			e, ok := errors.AsType[*Error](err)
			if !ok {
				t.Fatalf("got error %v, findings %v", err, findings)
			}
			if len(e.Faults) != 1 || e.Faults[0].Path != c.path || !strings.Contains(e.Faults[0].String(), c.says) {
				t.Errorf("got %v, want one fault at %s with %q", e.Faults, c.path, c.says)
			}
			if !slices.Contains(findings, e.Faults[0]) {
				t.Error("the fault is not among the findings")
			}
		})
	}
}

func TestWarnings(t *testing.T) {
	for name, c := range map[string]struct {
		old, replacement string
		path, says       string
	}{
		"another spelling":         {`"DnsName"`, `"dnsName"`, "$.DomainJoinConfig.dnsName", "spelled otherwise than DnsName"},
		"an unknown field":         {`"DnsName":`, `"Port": 3, "DnsName":`, "$.DomainJoinConfig.Port", "ignored"},
		"an odd unknown field":     {`"DnsName":`, `"a b": {"x": [null, true]}, "DnsName":`, `$.DomainJoinConfig["a b"]`, "ignored"},
		"no CmsPlugins":            {`"CmsPlugins"`, `"x-was-CmsPlugins"`, "$.CmsPlugins", "Windows wants"},
		"no domain GUID":           {`56d9b66c-d746-4f87-bd26-26760cfdca2e`, ``, "$.DomainJoinConfig.Guid", "missing"},
		"a null GUID":              {`56d9b66c-d746-4f87-bd26-26760cfdca2e`, `{00000000-0000-0000-0000-000000000000}`, "$.DomainJoinConfig.Guid", "all zeros"},
		"an extra CMS plug-in":     {`"ActiveDirectory"`, `"ActiveDirectory", "Other"`, "$.CmsPlugins[1]", "not known"},
		"a long name":              {`"Name": "webapp01"`, `"Name": "sixteencharacter"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[0].Name", "more than 15"},
		"a single label":           {`"DnsTreeName": "contoso.com"`, `"DnsTreeName": "contoso"`, "$.DomainJoinConfig.DnsTreeName", "single label"},
		"another flat domain":      {`"Scope": "CONTOSO"`, `"Scope": "FABRIKAM"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[1].Scope", "not a name of this domain"},
		"the same entry again":     {`"Scope": "CONTOSO"`, `"Scope": "Contoso.COM"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts[1]", "an entry before"},
		"no NetBIOS entry":         {`"Scope": "CONTOSO"`, `"Scope": "other.com"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts", `add {"Name": "webapp01", "Scope": "CONTOSO"}`},
		"no DNS entry":             {`"Scope": "contoso.com"`, `"Scope": "other.com"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts", `add {"Name": "webapp01", "Scope": "contoso.com"}`},
		"the machine's own absent": {`"MachineAccountName": "webapp01"`, `"MachineAccountName": "other"`, "$.ActiveDirectoryConfig.GroupManagedServiceAccounts", "not among the accounts"},
		"a number as version":      {`"PortableCcgVersion": "1"`, `"PortableCcgVersion": 1`, "$.ActiveDirectoryConfig.HostAccountConfig.PortableCcgVersion", `write "1"`},
		"a GUID without braces":    {SamplePluginGUID, `ccc2a336-d7f3-4818-a213-272b7924213e`, "$.ActiveDirectoryConfig.HostAccountConfig.PluginGUID", "without braces"},
		"the sample":               {"", "", "$.ActiveDirectoryConfig.HostAccountConfig.PluginGUID", "Microsoft's example"},
		"no input":                 {`contoso.com:gmsaccg:<password>`, ``, "$.ActiveDirectoryConfig.HostAccountConfig.PluginInput", "missing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, findings, err := edit(t, c.old, c.replacement)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(findings, func(f Finding) bool {
				return f.Path == c.path && f.Warning && strings.Contains(f.String(), c.says)
			}) {
				t.Errorf("got %v, want a warning at %s with %q", findings, c.path, c.says)
			}
		})
	}
}

func TestAllFaultsAtOnce(t *testing.T) {
	_, findings, err := Parse(read(t, "faulty.json"))
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatal(err)
	}
	var got []string
	for _, f := range e.Faults {
		got = append(got, f.Path)
	}
	want := []string{
		"$.DomainJoinConfig.NetBiosName",
		"$.ActiveDirectoryConfig.GroupManagedServiceAccounts[1]",
		"$.CmsPlugins",
		"$.DomainJoinConfig.Sid",
		"$.DomainJoinConfig.MachineAccountName",
		"$.DomainJoinConfig.DnsTreeName",
		"$.DomainJoinConfig.DnsName",
		"$.ActiveDirectoryConfig.GroupManagedServiceAccounts[0].Name",
		"$.ActiveDirectoryConfig.HostAccountConfig.PortableCcgVersion",
		"$.ActiveDirectoryConfig.HostAccountConfig.PluginGUID",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for _, f := range e.Faults {
		if !strings.Contains(err.Error(), f.String()) {
			t.Errorf("the error leaves out %v", f)
		}
	}
	if strings.Contains(err.Error(), "hunter2") || strings.Contains(fmt.Sprint(findings), "hunter2") {
		t.Error("plug-in input in a message")
	}
}

func TestWhatIsNoJSONObject(t *testing.T) {
	for name, c := range map[string]struct{ in, says string }{
		"nothing":          {"", "the file is empty"},
		"null":             {"null", "null is not a credential spec"},
		"a string":         {`"x"`, "a string, want an object"},
		"a list":           {`[]`, "a list, want an object"},
		"UTF-16":           {"\xff\xfe{\x00}\x00", "UTF-16"},
		"Latin 1":          {"{\"a\": \"\xe9\"}", "not UTF-8"},
		"the half of it":   {`{"CmsPlugins": [`, "the end of the file is missing"},
		"too much":         {strings.Repeat(" ", MaxSize+1), "more than 65536"},
		"too deep":         {`{"a":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "nested deeper than 32"},
		"accounts a map":   {`{"ActiveDirectoryConfig": {"GroupManagedServiceAccounts": {"Name": "a"}}}`, `write "GroupManagedServiceAccounts": [{"Name": …`},
		"too many entries": {`{"ActiveDirectoryConfig": {"GroupManagedServiceAccounts": [` + strings.Repeat("{},", 128) + `{}]}}`, "129 entries, more than 128"},
	} {
		_, _, err := Parse([]byte(c.in))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got error %v, want %q", name, err, c.says)
		}
	}
}

func TestStrictPrefixesAreRefused(t *testing.T) {
	b := bytes.TrimSpace(read(t, "portable.json"))
	for n := range b {
		if _, _, err := Parse(b[:n:n]); err == nil {
			t.Errorf("the first %d bytes pass", n)
		}
	}
}

func TestByteOrderMark(t *testing.T) {
	s, findings, err := Parse(append([]byte("\xef\xbb\xbf"), read(t, "joined.json")...))
	if err != nil || len(findings) > 0 {
		t.Fatal(err, findings)
	}
	if d := cmp.Diff(joined(), s, sameSecret); d != "" {
		t.Error(d)
	}
}

func TestPluginInputAsAnObject(t *testing.T) {
	s, _, err := edit(t, `"contoso.com:gmsaccg:<password>"`, `{ "CredentialArn" : "arn:aws:secretsmanager:x",
		"n": [1, 2] }`)
	if err != nil {
		t.Fatal(err)
	}
	input := s.ActiveDirectoryConfig.HostAccountConfig.PluginInput
	if got, want := string(input.Reveal()), `{"CredentialArn":"arn:aws:secretsmanager:x","n":[1,2]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	again, _, err := Parse(s.Render())
	if err != nil {
		t.Fatal(err)
	}
	if !again.ActiveDirectoryConfig.HostAccountConfig.PluginInput.Equal(input) {
		t.Error("the input as a string is another")
	}
}

func TestPluginInputDoesNotPrint(t *testing.T) {
	s := portable()
	if out := fmt.Sprintf("%v %+v %#v", s, s, *s.ActiveDirectoryConfig.HostAccountConfig); strings.Contains(out, "password") {
		t.Error(out)
	}
	if b, err := json.Marshal(s); err == nil || bytes.Contains(b, []byte("password")) {
		t.Errorf("%s, %v", b, err)
	}
	raw, err := ParseRef(`raw://{"PluginInput":"password"}`, false)
	if err != nil || strings.Contains(raw.String(), "password") {
		t.Error(raw, err)
	}
}

func TestAccounts(t *testing.T) {
	entries := func(pairs ...string) Spec {
		s := joined()
		s.ActiveDirectoryConfig.GroupManagedServiceAccounts = nil
		for i := 0; i < len(pairs); i += 2 {
			s.ActiveDirectoryConfig.GroupManagedServiceAccounts = append(s.ActiveDirectoryConfig.GroupManagedServiceAccounts,
				GroupManagedServiceAccount{pairs[i], pairs[i+1]})
		}
		return s
	}
	own := Account{"webapp01", "contoso.com", "CONTOSO"}
	for name, c := range map[string]struct {
		spec Spec
		want []Account
	}{
		"one account, two scopes": {joined(), []Account{own}},
		"a single scope":          {entries("webapp01", "contoso"), []Account{own}},
		"case does not matter":    {entries("webapp01", "Contoso.com", "WebApp01", "contoso"), []Account{own}},
		"the primary comes first": {
			entries("logs", "contoso.com", "webapp01", "contoso.com", "mail", "CONTOSO"),
			[]Account{own, {"logs", "contoso.com", "CONTOSO"}, {"mail", "contoso.com", "CONTOSO"}},
		},
		"the same name in another domain": {
			entries("webapp01", "dev.contoso.com", "webapp01", "contoso.com"),
			[]Account{own, {"webapp01", "dev.contoso.com", ""}},
		},
		"both names of another domain": {
			entries("a", "dev.contoso.com", "a", "DEV", "b", "DEV", "b", "dev.contoso.com"),
			[]Account{{"a", "dev.contoso.com", "DEV"}, {"b", "dev.contoso.com", "DEV"}},
		},
		"a flat name that fits no domain": {
			entries("a", "dev.contoso.com", "a", "OTHER", "a", "other"),
			[]Account{{"a", "dev.contoso.com", ""}, {"a", "", "OTHER"}},
		},
		"nothing": {entries(), nil},
	} {
		if d := cmp.Diff(c.want, c.spec.Accounts()); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

func TestNewIsWhatTheModuleWrites(t *testing.T) {
	sid, err := dtyp.ParseSID("S-1-5-21-702590844-1001920913-2680819671")
	if err != nil {
		t.Fatal(err)
	}
	guid, err := dtyp.ParseGUID("56d9b66c-d746-4f87-bd26-26760cfdca2e")
	if err != nil {
		t.Fatal(err)
	}
	d := Domain{SID: sid, GUID: guid, DNS: "contoso.com", Forest: "contoso.com", NetBIOS: "CONTOSO"}
	if got := New(d, "webapp01$").Render(); !bytes.Equal(got, read(t, "joined.json")) {
		t.Errorf("got\n%s", got)
	}
	s := New(d, "webapp01", Account{Name: "LogAgentSvc$"}, Account{Name: "gMSA3", Domain: "dev.contoso.com"})
	want := []GroupManagedServiceAccount{
		{"webapp01", "contoso.com"}, {"webapp01", "CONTOSO"}, {"LogAgentSvc", "contoso.com"}, {"gMSA3", "dev.contoso.com"},
	}
	if d := cmp.Diff(want, s.ActiveDirectoryConfig.GroupManagedServiceAccounts); d != "" {
		t.Error(d)
	}
	if findings, err := s.Check(); err != nil || len(findings) > 0 {
		t.Error(findings, err)
	}
	if got, want := FileName("CONTOSO", "WebApp01$"), "contoso_webapp01.json"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRenderIsJSONInASCII(t *testing.T) {
	s := joined()
	s.DomainJoinConfig.DnsName = "b\u00fccher\u2028\U0001d54f\x00\x7f\"\\<&>.example"
	out := s.Render()
	for i, c := range out {
		if c >= 0x7f || c < 0x20 && c != '\n' {
			t.Fatalf("byte %#x at %d", c, i)
		}
	}
	var got Spec
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if got.DomainJoinConfig != s.DomainJoinConfig {
		t.Errorf("got %+v, want %+v", got.DomainJoinConfig, s.DomainJoinConfig)
	}
	s.CmsPlugins = nil
	if !bytes.Contains(s.Render(), []byte(`"CmsPlugins": [],`)) {
		t.Errorf("an empty list renders as\n%s", s.Render())
	}
}

func TestPluginGUIDs(t *testing.T) {
	for in, want := range map[string]PluginID{
		"{CCC2A336-D7F3-4818-A213-272B7924213E}":              "ccc2a336-d7f3-4818-a213-272b7924213e",
		"ccc2a336-d7f3-4818-a213-272b7924213e":                "ccc2a336-d7f3-4818-a213-272b7924213e",
		SamplePluginGUID:                                      SamplePlugin,
		strings.ToLower(strings.Trim(SamplePluginGUID, "{}")): SamplePlugin,
	} {
		if got, err := ParsePluginGUID(in); err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "{}", "{GDMA0342}", "{CCC2A336-D7F3-4818-A213-272B7924213E", "contoso"} {
		if got, err := ParsePluginGUID(in); err == nil {
			t.Errorf("%q: got %q", in, got)
		}
	}
}

func TestBareName(t *testing.T) {
	for in, want := range map[string]string{
		"webapp01": "webapp01", "WebApp01$": "WebApp01", `CONTOSO\webapp01$`: "webapp01",
		"webapp01@contoso.com": "webapp01", "webapp01$@contoso.com": "webapp01", `a\b\c`: "", "": "", "$": "",
		" x": "", "x.": "", "a,b": "", "a\x00": "", strings.Repeat("x", 257): "",
	} {
		if got, err := BareName(in); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, name := range []string{"joined.json", "portable.json", "faulty.json"} {
		f.Add(read(f, name))
	}
	f.Add([]byte(`{"CmsPlugins":["ActiveDirectory"],"domainjoinconfig":{},"ActiveDirectoryConfig":{"HostAccountConfig":{"PluginInput":{"a":[{}]}}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, findings, err := Parse(b)
		if (err == nil) != !slices.ContainsFunc(findings, func(f Finding) bool { return !f.Warning }) {
			t.Fatalf("error %v, findings %v", err, findings)
		}
		if err != nil {
			return
		}
		again, _, err := Parse(s.Render())
		if err != nil {
			t.Fatalf("%s renders to what is refused: %v", b, err)
		}
		if d := cmp.Diff(s, again, sameSecret); d != "" && len(s.CmsPlugins) > 0 {
			t.Error(d)
		}
		if len(s.Accounts()) == 0 {
			t.Error("a spec without account passed")
		}
	})
}
