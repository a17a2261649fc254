package ldapd

import (
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// What clients ask of the rootDSE before they bind, with each client's own selection.
func TestRootDSEAsClientsAskForIt(t *testing.T) {
	lab.Need(t, "ldapsearch")
	f := start(t)
	for name, c := range map[string]struct {
		args string
		want []string
	}{
		"OpenLDAP": {"supportedSASLMechanisms", []string{"supportedSASLMechanisms: GSSAPI", "supportedSASLMechanisms: GSS-SPNEGO"}},
		"ldb": {"rootDomainNamingContext configurationNamingContext schemaNamingContext defaultNamingContext", []string{
			"rootDomainNamingContext: DC=contoso,DC=com", "configurationNamingContext: CN=Configuration,DC=contoso,DC=com",
			"schemaNamingContext: CN=Schema,CN=Configuration,DC=contoso,DC=com", "defaultNamingContext: DC=contoso,DC=com"}},
		"samba-tool": {"dsServiceName", []string{"dsServiceName: CN=NTDS Settings,CN=DC1,CN=Servers,CN=Default-First-Site-Name,CN=Sites,CN=Configuration,DC=contoso,DC=com"}},
		"realmd":     {"defaultNamingContext supportedCapabilities", []string{"supportedCapabilities: 1.2.840.113556.1.4.800"}},
		"SSSD": {"* altServer namingContexts supportedControl supportedExtension supportedFeatures supportedLDAPVersion supportedSASLMechanisms domainControllerFunctionality defaultNamingContext lastUSN highestCommittedUSN", []string{
			"namingContexts: CN=Configuration,DC=contoso,DC=com", "supportedControl: 1.2.840.113556.1.4.319", "supportedExtension: 1.3.6.1.4.1.1466.20037",
			"supportedLDAPVersion: 3", "domainControllerFunctionality: 7", "highestCommittedUSN: "}},
		"ldap3":     {"* +", []string{"subschemaSubentry: CN=Aggregate,CN=Schema,CN=Configuration,DC=contoso,DC=com", "vendorName: ", "isSynchronized: TRUE"}},
		"net ads":   {"currentTime", []string{"currentTime: 20"}},
		"all of it": {"", []string{"serverName: CN=DC1,CN=Servers", "dnsHostName: dc1.contoso.com", "ldapServiceName: contoso.com:dc1$@CONTOSO.COM", "isGlobalCatalogReady: TRUE", "forestFunctionality: 7"}},
	} {
		for port, url := range map[string]string{"389": "ldap://" + f.plain, "636": "ldaps://" + f.tls, "3268": "ldap://" + f.gc} {
			args := append([]string{"-LLL", "-o", "ldif_wrap=no", "-x", "-H", url, "-s", "base", "-b", "", "(objectClass=*)"}, strings.Fields(c.args)...)
			out := lab.Run(t, f.env(), "", "ldapsearch", args...)
			for _, want := range c.want {
				if !strings.Contains(out, "\n"+want) {
					t.Errorf("%s on %s: no %q in\n%s", name, port, want, out)
				}
			}
		}
	}
	out := lab.Run(t, f.env(), "", "ldapsearch", "-LLL", "-x", "-ZZ", "-H", "ldap://"+f.plain, "-s", "base", "-b", "", "1.1")
	if strings.TrimSpace(out) != "dn:" {
		t.Errorf("no attribute, by StartTLS: %q", out)
	}
	out = lab.Run(t, f.env(), "", "ldapsearch", "-LLL", "-x", "-A", "-H", "ldap://"+f.plain, "-s", "base", "-b", "", "(!(objectClass=person))", "dnshostname")
	if strings.TrimSpace(out) != "dn:\ndnsHostName:" {
		t.Errorf("types only: %q", out)
	}
	out = lab.Run(t, f.env(), "", "ldapsearch", "-LLL", "-x", "-H", "ldap://"+f.plain, "-s", "base", "-b", "", "(&(objectClass=top)(vendorName=somebody))")
	if strings.TrimSpace(out) != "" {
		t.Errorf("a filter that does not fit: %q", out)
	}
}

// reference/clients.md (e): the forms of the ping that clients send over TCP.
func TestNetlogonPing(t *testing.T) {
	lab.Need(t, "ldapsearch")
	f := start(t)
	for name, filter := range map[string]string{
		"adcli":       `(&(DnsDomain=contoso.com)(NtVer=\06\00\00\00))`,
		"realmd":      `(&(NtVer=\06\00\00\00)(AAC=\00\00\00\00))`,
		"SSSD":        `(&(DnsDomain=contoso.com)(NtVer=\14\00\00\00))`,
		"net ads":     `(NtVer=0x00000006)`,
		"without dot": `(&(NtVer=6)(DnsDomain=CONTOSO.COM))`,
	} {
		out := lab.Run(t, f.env(), "", "ldapsearch", "-LLL", "-o", "ldif_wrap=no", "-x", "-H", "ldap://"+f.plain, "-s", "base", "-b", "", filter, "NetLogon")
		if !strings.Contains(out, "NetLogon:: ") {
			t.Errorf("%s: %s", name, out)
		}
	}
	for name, filter := range map[string]string{"another domain": `(&(DnsDomain=fabrikam.com)(NtVer=6))`, "no ping": "(cn=x)"} {
		out := lab.Run(t, f.env(), "", "ldapsearch", "-LLL", "-x", "-H", "ldap://"+f.plain, "-s", "base", "-b", "", filter, "netlogon")
		if strings.TrimSpace(out) != "" {
			t.Errorf("%s: %s", name, out)
		}
	}
}

func TestAnonymousClientsSeeNothingElse(t *testing.T) {
	lab.Need(t, "ldapsearch", "ldapwhoami")
	f := start(t)
	out, err := lab.Try(f.env(), "", "ldapsearch", "-x", "-H", "ldap://"+f.plain, "-b", "DC=contoso,DC=com", "-s", "base")
	if err == nil || !strings.Contains(out, "00002020: Operation unavailable without authentication") {
		t.Errorf("search: %v\n%s", err, out)
	}
	if out := lab.Run(t, f.env(), "", "ldapwhoami", "-x", "-H", "ldap://"+f.plain); !strings.Contains(out, "anonymous") {
		t.Errorf("whoami: %s", out)
	}
	out, err = lab.Try(f.env(), "dn: CN=x,DC=contoso,DC=com\nchangetype: delete\n", "ldapmodify", "-x", "-H", "ldap://"+f.plain)
	if err == nil || !strings.Contains(out, "without authentication") {
		t.Errorf("delete: %v\n%s", err, out)
	}
}
