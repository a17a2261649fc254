package ldapd

import (
	"crypto/rand"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/provision"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// OpenLDAP's tools find another domain's objects in the global catalog, and are referred
// to the domain itself elsewhere.
func TestOpenLDAPInAForest(t *testing.T) {
	lab.Need(t, "ldapsearch")
	f := start(t)
	err := provision.Replica(t.Context(), f.Directory, `dn: DC=child,DC=contoso,DC=com
objectClass: domainDNS
objectSid: S-1-5-21-1-2-3

dn: CN=web9,DC=child,DC=contoso,DC=com
objectClass: computer
sAMAccountName: web9$
objectSid: S-1-5-21-1-2-3-1101
`, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	env := f.kerberosEnv(t, "alice", alicePassword)
	search := func(at, base string) string {
		out, err := lab.Try(env, "", "ldapsearch", "-H", url("ldap", at), "-Q", "-LLL", "-b", base, "(sAMAccountName=web9$)", "cn")
		if err != nil {
			return out + err.Error()
		}
		return out
	}
	const child = "DC=child,DC=contoso,DC=com"
	for _, base := range []string{"", "DC=contoso,DC=com", child} {
		if out := search(f.gc, base); !strings.Contains(out, "dn: CN=web9,"+child) {
			t.Errorf("the global catalog below %q:\n%s", base, out)
		}
	}
	if out := search(f.plain, "DC=contoso,DC=com"); strings.Contains(out, "web9") {
		t.Errorf("found in the domain:\n%s", out)
	}
	if out := search(f.plain, child); !strings.Contains(out, "Referral (10)") || !strings.Contains(out, "ldap://child.contoso.com/"+child) {
		t.Errorf("the other domain:\n%s", out)
	}
}
