package cli

import (
	"os"
	"path/filepath"
	"testing"
)

// Each format leads back to the file that it was made of.
func TestConversionsRoundTrip(t *testing.T) {
	const spec = `{
    "CmsPlugins": [
        "ActiveDirectory"
    ],
    "DomainJoinConfig": {
        "Sid": "S-1-5-21-702590844-1001920913-2680819671",
        "MachineAccountName": "webapp01",
        "Guid": "56d9b66c-d746-4f87-bd26-26760cfdca2e",
        "DnsTreeName": "contoso.com",
        "DnsName": "contoso.com",
        "NetBiosName": "CONTOSO"
    },
    "ActiveDirectoryConfig": {
        "GroupManagedServiceAccounts": [
            {
                "Name": "webapp01",
                "Scope": "contoso.com"
            },
            {
                "Name": "webapp01",
                "Scope": "CONTOSO"
            }
        ],
        "HostAccountConfig": {
            "PortableCcgVersion": "1",
            "PluginGUID": "{CCC2A336-D7F3-4818-A213-272B7924213E}",
            "PluginInput": "ObjectId=x: \"y\""
        }
    }
}
`
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "contoso_webapp01.json"), []byte(spec), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"GMSA_CREDENTIALSPECS=" + dir}
	for format := range converters {
		r := gmsa(t, env, "credspec", "convert", "contoso_webapp01", "--to", format)
		file := filepath.Join(t.TempDir(), "converted.yaml")
		if err := os.WriteFile(file, []byte(r.stdout), 0o600); err != nil {
			t.Fatal(err)
		}
		back := gmsa(t, env, "credspec", "convert", file, "--to", "json")
		if r.code != 0 || back.code != 0 || back.stdout != spec {
			t.Errorf("%s: %d, %d, %s", format, r.code, back.code, back.stdout)
		}
	}
	if r := gmsa(t, env, "credspec", "convert", "contoso_webapp01", "--to", "kubernetes"); r.code == 0 {
		contains(t, r.stdout, "kind: GMSACredentialSpec\nmetadata:\n  name: gmsa-webapp01\ncredspec:\n", "verbs:\n      - use\n")
	}
	if r := gmsa(t, env, "credspec", "convert", "contoso_webapp01", "--to", "oci"); r.code != 2 {
		t.Errorf("an unknown format: %d", r.code)
	}
}
