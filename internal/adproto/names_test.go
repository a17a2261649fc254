package adproto

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/opengmsa/opengmsa/krb5/crypto"
)

func TestDNsAsRFC4514WritesThem(t *testing.T) {
	for text, want := range map[string]DN{
		"":                                    nil,
		"UID=jsmith,DC=example,DC=net":        {{{"UID", "jsmith"}}, {{"DC", "example"}}, {{"DC", "net"}}},
		"OU=Sales+CN=J.  Smith,DC=net":        {{{"OU", "Sales"}, {"CN", "J.  Smith"}}, {{"DC", "net"}}},
		`CN=James \"Jim\" Smith\, III,DC=net`: {{{"CN", `James "Jim" Smith, III`}}, {{"DC", "net"}}},
		`CN=Before\0dAfter,DC=net`:            {{{"CN", "Before\rAfter"}}, {{"DC", "net"}}},
		`1.3.6.1.4.1.1466.0=#04024869`:        {{{"1.3.6.1.4.1.1466.0", "Hi"}}},
		`CN=Lu\C4\8Di\C4\87`:                  {{{"CN", "Lučić"}}},
		`CN=\ a\ ,DC=x`:                       {{{"CN", " a "}}, {{"DC", "x"}}},
		`CN = web 1 , DC = x `:                {{{"CN", "web 1"}}, {{"DC", "x"}}},
		`CN=a\0ACNF:b,DC=x`:                   {{{"CN", "a\nCNF:b"}}, {{"DC", "x"}}},
		`CN=,DC=x`:                            {{{"CN", ""}}, {{"DC", "x"}}},
	} {
		got, err := ParseDN(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", text, d)
		}
		if again, err := ParseDN(got.String()); err != nil || !cmp.Equal(again, got) {
			t.Errorf("%s: written as %s, read as %v, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"x", "=x", "CN=a,", ",CN=a", "CN=a,,DC=x", `CN=a\`, `CN=a\x`, `CN="a"`, "CN=a;DC=b", "CN=#zz", "CN=#0402", "CN=#300100", "CN=a\x00", "C N=a", "CN=a<b"} {
		if got, err := ParseDN(text); err == nil {
			t.Errorf("%q: accepted as %#v", text, got)
		}
	}
}

func TestDNsCompareAsActiveDirectoryDoes(t *testing.T) {
	parse := func(s string) DN {
		dn, err := ParseDN(s)
		if err != nil {
			t.Fatal(err)
		}
		return dn
	}
	a := parse("CN=WebApp01,CN=Managed Service Accounts,DC=contoso,DC=com")
	if !a.EqualFold(parse("cn=webapp01, cn=managed service accounts, dc=CONTOSO, dc=COM")) {
		t.Error("case or spaces matter")
	}
	if a.EqualFold(a.Parent()) || !a.Within(a) || !a.Within(DomainDN("Contoso.com.")) || a.Within(DomainDN("fabrikam.com")) || a.Parent().Within(a) {
		t.Error("ancestors misjudged")
	}
	if a.Name() != "WebApp01" || a.DNSDomain() != "contoso.com" || DN(nil).Name() != "" || DN(nil).Parent() != nil {
		t.Error("parts misread")
	}
	if !parse("A=1+B=2").EqualFold(parse("b=2+a=1")) || parse("A=1+B=2").EqualFold(parse("A=1+A=1")) {
		t.Error("multi-valued RDNs misjudged")
	}
	if s := NewDN("CN", "a,b", DomainDN("x.y")).String(); s != `CN=a\,b,DC=x,DC=y` {
		t.Error(s)
	}
}

func TestSPNs(t *testing.T) {
	for text, want := range map[string]SPN{
		"http/webapp01":                                {Class: "http", Host: "webapp01"},
		"HTTP/web.contoso.com:8080":                    {Class: "HTTP", Host: "web.contoso.com", Port: 8080},
		"MSSQLSvc/db.contoso.com:SQLEXPRESS":           {Class: "MSSQLSvc", Host: "db.contoso.com", Instance: "SQLEXPRESS"},
		"ldap/dc1.contoso.com/contoso.com":             {Class: "ldap", Host: "dc1.contoso.com", Service: "contoso.com"},
		"ldap/dc1.contoso.com:3268/contoso.com":        {Class: "ldap", Host: "dc1.contoso.com", Port: 3268, Service: "contoso.com"},
		"http/[fd00::1]:80":                            {Class: "http", Host: "fd00::1", Port: 80},
		"http/[fd00::1]":                               {Class: "http", Host: "fd00::1"},
		"MSSQLSvc/h:0":                                 {Class: "MSSQLSvc", Host: "h", Instance: "0"},
		"MSSQLSvc/h:70000":                             {Class: "MSSQLSvc", Host: "h", Instance: "70000"},
		"E3514235-4B06-11D1-AB04-00C04FC2DCD2/g/c.com": {Class: "E3514235-4B06-11D1-AB04-00C04FC2DCD2", Host: "g", Service: "c.com"},
	} {
		got, err := ParseSPN(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %+v, %v, written as %s", text, got, err, got)
		}
		if up, err := ParseSPN(strings.ToUpper(text)); err != nil || !up.EqualFold(got) {
			t.Errorf("%s: case matters", text)
		}
	}
	for _, text := range []string{"", "http", "http/", "/h", "a/b/c/d", "a//c", "a/b/", "a/:1", "a/b:", "a/b:1:2", "a/[b]:1", "a/[::1", "a/[::1]x", "a b/c", "a/b@C", "a/b\\c", "a/b\x00", "a/b\n"} {
		if got, err := ParseSPN(text); err == nil {
			t.Errorf("%q: accepted as %+v", text, got)
		}
	}
	a, _ := ParseSPN("http/web.contoso.com.")
	if b, _ := ParseSPN("HTTP/WEB.contoso.com"); !a.EqualFold(b) || a == b {
		t.Error("the root's dot matters")
	}
}

func TestAccountNames(t *testing.T) {
	for text, want := range map[string]struct {
		form                AccountForm
		sam, domain, filter string
		in                  bool
	}{
		"WebApp01":                {FormSAM, "WebApp01$", "", "(sAMAccountName=WebApp01$)", true},
		"WebApp01$":               {FormSAM, "WebApp01$", "", "(sAMAccountName=WebApp01$)", true},
		`CONTOSO\WebApp01$`:       {FormNetBIOS, "WebApp01$", "CONTOSO", "(sAMAccountName=WebApp01$)", true},
		`contoso.com\web1`:        {FormNetBIOS, "web1$", "contoso.com", "(sAMAccountName=web1$)", true},
		`OTHER\web1`:              {FormNetBIOS, "web1$", "OTHER", "(sAMAccountName=web1$)", false},
		"WebApp01$@CONTOSO.COM":   {FormUPN, "WebApp01$", "CONTOSO.COM", "(|(userPrincipalName=WebApp01$@CONTOSO.COM)(sAMAccountName=WebApp01$))", true},
		"svc@corp.example":        {FormUPN, "svc$", "corp.example", "(userPrincipalName=svc@corp.example)", true},
		"a b":                     {FormSAM, "a b$", "", "(sAMAccountName=a b$)", true},
		"CN=w,DC=contoso,DC=com":  {FormDN, "w$", "contoso.com", "(sAMAccountName=w$)", true},
		"CN=w,DC=fabrikam,DC=com": {FormDN, "w$", "fabrikam.com", "(sAMAccountName=w$)", false},
	} {
		a, err := ParseAccountName(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if a.Form != want.form || a.SAM() != want.sam || a.Domain != want.domain || a.String() != text || a.InDomain("contoso.com", "CONTOSO") != want.in {
			t.Errorf("%s: %+v", text, a)
		}
		if f := a.ServiceFilter("contoso.com").String(); f != want.filter {
			t.Errorf("%s: %s", text, f)
		}
	}
	for _, text := range []string{"", "$", `\x`, `D\`, "x@", "@d", "a@b@", "a*", "a(b", "a\x00", "CN=a,", "a,b", "a/b", `A\B\C`, "\xff", strings.Repeat("a", 1025), "a)(cn=*"} {
		if a, err := ParseAccountName(text); err == nil && !strings.ContainsAny(text, "()") {
			t.Errorf("%q: accepted as %+v", text, a)
		} else if err == nil && strings.Count(a.ServiceFilter("d").String(), "(") != 1 {
			t.Errorf("%q: becomes the filter %s", text, a.ServiceFilter("d"))
		}
	}
	a, _ := ParseAccountName("alice")
	if f := a.Filter("contoso.com").String(); f != "(|(sAMAccountName=alice)(sAMAccountName=alice$))" {
		t.Error(f)
	}
}

func TestFlagsNameThemselves(t *testing.T) {
	for got, want := range map[string]string{
		UserAccountControl(4130).String():    "ACCOUNTDISABLE|PASSWD_NOTREQD|WORKSTATION_TRUST_ACCOUNT",
		UserAccountControl(0).String():       "0x0",
		EncryptionTypes(28).String():         "RC4-HMAC|AES128-CTS-HMAC-SHA1-96|AES256-CTS-HMAC-SHA1-96",
		GroupType(0x80000004).String():       "DOMAIN_LOCAL|SECURITY",
		DSFlags(0x4101).String():             "PDC|WRITABLE|DS_8",
		DSFlags(0x80).String():               "CLOSE_SITE",
		Level2016.String():                   "Windows Server 2016",
		FunctionalLevel(8).String():          "unknown functional level 8",
		SASLLayers(7).String():               "none|sign|seal",
		UserAccountControl(1 << 30).String(): "0x40000000",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := EncryptionTypes(28).ETypes(); !slices.Equal(got, []crypto.EType{crypto.AES256SHA1, crypto.AES128SHA1, crypto.RC4HMAC}) {
		t.Error(got)
	}
	if got := EncryptionTypesOf(crypto.AES128SHA1, crypto.AES256SHA1, 1); got != EncDefaultAccounts {
		t.Error(got)
	}
}

func FuzzParseDN(f *testing.F) {
	f.Add(`CN=a\,b+OU=x,DC=\C4\8D,O=#0401ff`)
	f.Fuzz(func(t *testing.T, s string) {
		dn, err := ParseDN(s)
		if err != nil {
			return
		}
		again, err := ParseDN(dn.String())
		if len(dn.String()) <= MaxDNSize && (err != nil || !cmp.Equal(dn, again)) {
			t.Fatalf("%#v became %#v, %v", dn, again, err)
		}
	})
}

func FuzzParseSPN(f *testing.F) {
	f.Add("http/[::1]:80/x")
	f.Fuzz(func(t *testing.T, s string) {
		if p, err := ParseSPN(s); err == nil && p.String() != s {
			t.Fatalf("%q became %q", s, p.String())
		}
	})
}

func FuzzParseAccountName(f *testing.F) {
	f.Add(`CONTOSO\WebApp01$`)
	f.Add("CN=w,DC=x")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAccountName(s)
		if err != nil {
			return
		}
		if fl, err := ParseFilter(a.Filter("contoso.com").String()); err != nil || fl.Kind > FilterEqual {
			t.Fatalf("%q becomes the filter %v, %v", s, fl, err)
		}
	})
}
