package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestSambaFailures has what can go wrong on the way to an identity: each has its
// exit code, its cause with the protocol's own code where there is one, and a hint.
func TestSambaFailures(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{})
	dc.AddGMSA(t, lab.GMSA{Name: "failing1", Readers: []string{"web1$"}})
	dc.Replace(t, "failing1$", "userAccountControl", "4098") // WORKSTATION_TRUST_ACCOUNT, ACCOUNTDISABLE
	dc.AddUser(t, "mustchange", "Old-Pass1!")
	dc.Replace(t, "mustchange", "userAccountControl", "512")
	dc.Replace(t, "mustchange", "pwdLastSet", "0")
	dir, base := t.TempDir(), runDir(t)
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	spec := func(domain, extra string) string {
		return file(domain+".json", fmt.Sprintf(`{"CmsPlugins":["ActiveDirectory"],
"DomainJoinConfig":{"Sid":%q,"MachineAccountName":"webapp01","Guid":%q,"DnsTreeName":%[3]q,"DnsName":%[3]q,"NetBiosName":"X"},
"ActiveDirectoryConfig":{"GroupManagedServiceAccounts":[{"Name":"webapp01","Scope":%[3]q}]%[4]s}}`, lab.DomainSID, lab.DomainGUID, domain, extra))
	}
	host := []string{"--keytab", dc.Keytab(t, "web1"), "--dc", dc.IP.String(), "--domain", "contoso.com"}
	as := func(user, password string) []string {
		return []string{"-U", user, "--password-file", file(user, password), "--dc", dc.IP.String(), "--domain", "contoso.com"}
	}
	for name, c := range map[string]struct {
		args []string
		code int
		want string // in the message
	}{
		"a malformed credential spec":       {append(host, "--credspec", file("bad.json", `{"CmsPlugins":`)), 2, "credential spec"},
		"a credential spec that is missing": {append(host, "--credspec", dir+"/none.json"), 3, "none.json"},
		"a domain that is not configured":   {append(host, "--credspec", spec("fabrikam.com", "")), 2, `"fabrikam.com" is not configured`},
		"a plug-in that is not registered": {append(host, "--credspec", spec("contoso.com",
			`,"HostAccountConfig":{"PortableCcgVersion":"1","PluginGUID":"{00000000-0000-4000-8000-000000000009}","PluginInput":"x"}`)), 1, "00000000-0000-4000-8000-000000000009"},
		"a wrong password":          {append(as("web2$", "not it"), "--account", "webapp01"), 4, "KDC_ERR_PREAUTH_FAILED"},
		"an unknown host":           {append(as("nobody1", "x"), "--account", "webapp01"), 4, "KDC_ERR_C_PRINCIPAL_UNKNOWN"},
		"an expired password":       {append(as("mustchange", "Old-Pass1!"), "--account", "webapp01"), 4, "KDC_ERR_KEY_EXPIRED"},
		"a disabled account":        {append(host, "--account", "failing1"), 4, "KDC_ERR_CLIENT_REVOKED"},
		"no controller":             {[]string{"--keytab", dc.Keytab(t, "web1"), "--dc", "127.0.0.1:1", "--domain", "contoso.com", "--account", "webapp01"}, 5, "no domain controller"},
		"a command that is missing": {append(host, "--account", "webapp01", "--", "/nonexistent/program"), 3, "no command"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"run", "--lease-dir", base, "--allow-swap"}, c.args...)
			if name != "a command that is missing" {
				args = append(args, "--", "true")
			}
			r := gmsa(t, append(dc.Env(), "PATH="+os.Getenv("PATH")), args...)
			if r.code != c.code || !strings.HasPrefix(r.stderr, "gmsa: ") || !strings.Contains(r.stderr, c.want) {
				t.Errorf("exit code %d, want %d and %q", r.code, c.code, c.want)
			}
			if !strings.Contains(r.stderr, "hint: ") && c.code != 3 {
				t.Error("no hint")
			}
			for _, secret := range []string{"not it", "Old-Pass1!"} {
				if strings.Contains(r.stdout+r.stderr, secret) {
					t.Errorf("the output has the password %q", secret)
				}
			}
		})
	}
	if left := leftovers(t, base); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
