package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// A spec of a child domain names that domain, and the forest by its root: DnsTreeName. The
// domain is one by the word of its controller, whose forest has no other controller.
func TestCredentialSpecOfAChildDomain(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Realm: "CHILD.CONTOSO.COM",
		LDIF: "dn: @ROOTDSE\nchangetype: modify\nreplace: rootDomainNamingContext\nrootDomainNamingContext: " + lab.BaseDN + "\n-\n"})
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	a.args[3] = "Administrator@" + dc.DNSDomain
	a.env = []string{"GMSA_CREDENTIALSPECS=" + t.TempDir()}
	a.run(0, "credspec", "create", "webapp01", "--name", "child")
	file := filepath.Join(a.env[0][len("GMSA_CREDENTIALSPECS="):], "child.json")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(b), `"DnsTreeName": "contoso.com"`, `"DnsName": "child.contoso.com"`, `"NetBiosName": "CHILD"`,
		`"Scope": "child.contoso.com"`, `"Scope": "CHILD"`, `"Sid": "`+dc.Attr(t, "webapp01$", "objectSid")[:len("S-1-5-21-")])
	a.run(0, "credspec", "check", file, "--online")
}
