package cli

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestEveryOptionOfAdministration looks in the directory for what each option is to do.
func TestEveryOptionOfAdministration(t *testing.T) { onEach(t, testOptions) }

func testOptions(t *testing.T, dc *lab.DC, own bool) {
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	unit := "OU=Farm," + lab.BaseDN
	dc.Modify(t, "dn: "+unit+"\nobjectClass: organizationalUnit\n")
	for _, c := range []struct {
		args  []string
		entry string            // whose attributes are looked at
		want  map[string]string // values, sorted, with commas between them; - for none
	}{
		{[]string{"account", "create", "Full One", "--sam", "FullOne", "--dns", "full.contoso.com", "--path", unit, "--display-name", "Full", "--description", "all of it",
			"--interval", "7", "--enctypes", "AES256", "--spn", "http/full,MSSQLSvc/full:1433", "--disabled", "--trusted-for-delegation", "--hosts", "web1", "--delegates", "web2$"},
			"FullOne$", map[string]string{"distinguishedName": "CN=Full One," + unit, "dNSHostName": "full.contoso.com", "displayName": "Full", "description": "all of it",
				"msDS-ManagedPasswordInterval": "7", "msDS-SupportedEncryptionTypes": "16", "servicePrincipalName": "MSSQLSvc/full:1433,http/full", "userAccountControl": "528386"}},
		{[]string{"account", "create", "none1", "--outbound-only", "--enctypes", "None"}, "none1$", map[string]string{"msDS-SupportedEncryptionTypes": "0", "userAccountControl": "4096", "dNSHostName": "-"}},
		{[]string{"account", "set", "FullOne", "--enable", "--not-trusted-for-delegation", "--dns", "two.contoso.com", "--description", "", "--display-name", "Two"}, "FullOne$",
			map[string]string{"userAccountControl": "4096", "dNSHostName": "two.contoso.com", "description": "-", "displayName": "Two"}},
		{[]string{"account", "set", "FullOne", "--disable", "--trusted-for-delegation", "--enctypes", "AES128,AES256"}, "FullOne$",
			map[string]string{"userAccountControl": "528386", "msDS-SupportedEncryptionTypes": "24"}},
		{[]string{"account", "set", "FullOne", "--spn-add", "http/more", "--spn-remove", "http/full"}, "FullOne$", map[string]string{"servicePrincipalName": "MSSQLSvc/full:1433,http/more"}},
		{[]string{"account", "set", "FullOne", "--spn", "http/only"}, "FullOne$", map[string]string{"servicePrincipalName": "http/only"}},
		{[]string{"account", "set", "FullOne", "--add", "otherTelephone=1", "--add", "otherTelephone=2", "--replace", "info=i"}, "FullOne$", map[string]string{"otherTelephone": "1,2", "info": "i"}},
		{[]string{"account", "set", "FullOne", "--remove", "otherTelephone=1", "--clear", "info"}, "FullOne$", map[string]string{"otherTelephone": "2", "info": "-"}},
		{[]string{"account", "set", "FullOne", "--delegates", ""}, "FullOne$", map[string]string{"msDS-AllowedToActOnBehalfOfOtherIdentity": "-"}},
		{[]string{"group", "create", "Local Group", "--sam", "LocalG", "--scope", "DomainLocal", "--description", "d", "--path", unit, "--member", "web1,web2"}, "LocalG",
			map[string]string{"groupType": "-2147483644", "description": "d", "distinguishedName": "CN=Local Group," + unit, "member": "CN=web1,CN=Computers," + lab.BaseDN + ",CN=web2,CN=Computers," + lab.BaseDN}},
		{[]string{"group", "create", "GlobalG"}, "GlobalG", map[string]string{"groupType": "-2147483646"}},
		{[]string{"group", "create", "UniG", "--scope", "universal"}, "UniG", map[string]string{"groupType": "-2147483640"}},
		{[]string{"group", "create", "MailG", "--category", "Distribution"}, "MailG", map[string]string{"groupType": "2"}},
		{[]string{"group", "add-member", "GlobalG", "web1", "evil1$"}, "GlobalG", map[string]string{"member": "CN=evil1,CN=Computers," + lab.BaseDN + ",CN=web1,CN=Computers," + lab.BaseDN}},
		{[]string{"group", "remove-member", "GlobalG", "web1"}, "GlobalG", map[string]string{"member": "CN=evil1,CN=Computers," + lab.BaseDN}},
		{[]string{"computer", "join", "opthost", "--out", filepath.Join(t.TempDir(), "k"), "--dns", "other.contoso.com", "--path", unit, "--description", "h", "--spn", "HOST/other"}, "opthost$",
			map[string]string{"dNSHostName": "other.contoso.com", "description": "h", "servicePrincipalName": "HOST/other", "distinguishedName": "CN=opthost," + unit, "userAccountControl": "4096"}},
		{[]string{"object", "set", "opthost$", "--replace", "location=here", "--add", "otherTelephone=5", "--clear", "description"}, "opthost$",
			map[string]string{"location": "here", "otherTelephone": "5", "description": "-"}},
		{[]string{"account", "link", "opthost", "smsa01"}, "opthost$", map[string]string{"msDS-HostServiceAccount": "CN=smsa01,CN=Managed Service Accounts," + lab.BaseDN}},
		{[]string{"account", "unlink", "opthost", "smsa01"}, "opthost$", map[string]string{"msDS-HostServiceAccount": "-"}},
	} {
		if !own && slices.Contains(c.args, "--delegates") && c.args[1] == "set" {
			continue // Samba 4.22 lets nobody but itself change that attribute once it is there
		}
		a.run(0, c.args...)
		for attr, want := range c.want {
			got := slices.Clone(dc.Entry(t, c.entry, attr).Values(attr))
			if slices.Sort(got); len(got) == 0 {
				got = []string{"-"}
			}
			if strings.Join(got, ",") != want {
				t.Errorf("gmsa %s: %s is %q, want %q", strings.Join(c.args, " "), attr, got, want)
			}
		}
	}
	testListings(t, a)
	testRootKeyOptions(t, a)
	testSpecOptions(t, a)
	a.run(0, "group", "remove", "MailG")
	a.run(3, "group", "show", "MailG")
	a.run(0, "computer", "remove", "opthost")
	a.run(3, "computer", "show", "opthost")
}

// testListings asks with filters of LDAP and of PowerShell.
func testListings(t *testing.T, a *administrator) {
	names := func(args ...string) string {
		t.Helper()
		var list []struct {
			Name string `json:"sAMAccountName"`
		}
		a.json(&list, args...)
		var names []string
		for _, x := range list {
			names = append(names, x.Name)
		}
		slices.Sort(names)
		return strings.Join(names, " ")
	}
	for want, args := range map[string][]string{
		"FullOne$":         {"account", "list", "(displayName=Two)"},
		"FullOne$ none1$":  {"account", "list", "sAMAccountName -like 'full*' -or name -eq 'none1'"},
		"smsa01$":          {"account", "list", "objectClass -eq 'msDS-ManagedServiceAccount' -and name -like 'smsa*'"},
		"evil1$":           {"computer", "list", "name -eq 'evil1'"},
		"LocalG":           {"group", "list", "(description=d)"},
		"UniG":             {"object", "find", "sAMAccountName -eq 'UniG'"},
		"none1$ webapp02$": {"object", "find", "(|(sAMAccountName=webapp02$)(sAMAccountName=none1$))"},
	} {
		if got := names(args...); got != want {
			t.Errorf("gmsa %s: %q, want %q", strings.Join(args, " "), got, want)
		}
	}
	contains(t, a.run(0, "group", "show", "LocalG").stdout, "web1$", "web2$", "DomainLocal")
	contains(t, a.run(0, "computer", "show", "evil1").stdout, "GlobalG")
	contains(t, a.run(0, "account", "show", "FullOne", "-o", "yaml").stdout, "sAMAccountName: FullOne$\n")
}

func testRootKeyOptions(t *testing.T, a *administrator) {
	var before, after []rootKeyView
	a.json(&before, "kds", "list")
	contains(t, a.run(0, "Add-KdsRootKey", "-LocalTestOnly").stdout, "")
	a.run(0, "kds", "add", "--local-test-only")
	a.json(&after, "kds", "list")
	if len(after) != len(before) {
		t.Errorf("%d root keys, then %d", len(before), len(after))
	}
	var key rootKeyView
	a.json(&key, "kds", "show", before[0].ID)
	if key.KeyValue != "" {
		t.Error("the secret is shown unasked")
	}
	a.json(&key, "kds", "show", before[0].ID, "--show-secret")
	if len(key.KeyValue) != 128 {
		t.Errorf("the secret asked for: %d digits", len(key.KeyValue))
	}
}

func testSpecOptions(t *testing.T, a *administrator) {
	dir := t.TempDir()
	a.env = []string{"GMSA_CREDENTIALSPECS=" + dir}
	const plugin = "{CCC2A336-D7F3-4818-A213-272B7924213E}"
	a.run(0, "credspec", "create", "webapp01", "--plugin", plugin, "--plugin-input", "ObjectId=x;SecretUri=y", "--additional", "none1", "--additional", "Other@child.contoso.com")
	b, err := os.ReadFile(filepath.Join(dir, "contoso_webapp01.json"))
	if err != nil {
		t.Fatal(err)
	}
	contains(t, string(b), `"PluginGUID": "`+plugin+`"`, `"PluginInput": "ObjectId=x;SecretUri=y"`, `"PortableCcgVersion": "1"`, `"Scope": "child.contoso.com"`, `"Name": "none1"`)
	contains(t, a.run(1, "New-CredentialSpec", "webapp01", "-NoClobber").stderr, "exist")
	contains(t, a.run(0, "credspec", "create", "webapp01", "--out", "-").stdout, `"MachineAccountName": "webapp01"`)
	contains(t, gmsa(t, a.env, "credspec", "list").stdout, "contoso_webapp01")
}
