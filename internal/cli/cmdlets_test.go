package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

func TestCmdlets(t *testing.T) { onEach(t, testCmdlets) }

func testCmdlets(t *testing.T, dc *lab.DC, _ bool) {
	dc.AddComputer(t, "server")
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	dir := t.TempDir()
	a.env = []string{"GMSA_CREDENTIALSPECS=" + dir, "COMPUTERNAME=web1"}
	a.run(0, "New-ADServiceAccount", "-Name", "Cmd01", "-dns", "cmd01.contoso.com", "-ServicePrincipalNames", "host/Cmd01,", "host/cmd01.contoso.com",
		"-PrincipalsAllowedToRetrieveManagedPassword", "WebHosts$")
	r := a.run(0, "get-adserviceaccount", "Cmd01", "-Properties", "PrincipalsAllowedToRetrieveManagedPassword,ServicePrincipalNames")
	contains(t, r.stdout, "DistinguishedName                          : CN=Cmd01,CN=Managed Service Accounts,DC=contoso,DC=com\n",
		"PrincipalsAllowedToRetrieveManagedPassword : {CN=WebHosts,CN=Users,DC=contoso,DC=com}\n", "{host/Cmd01, host/cmd01.contoso.com}")
	r = a.run(0, "pwsh", "-c", `
# the steps of the troubleshooting guide
Get-ADComputer $env:computername | Get-ADPrincipalGroupMembership | Select-Object DistinguishedName
(Get-ADServiceAccount Cmd01 -Properties PrincipalsAllowedToRetrieveManagedPassword).PrincipalsAllowedToRetrieveManagedPassword
Get-ADObject -Filter 'sAMAccountName -like "Cmd0*"'
$gMSA = Get-ADServiceAccount -Identity 'Cmd01' -Properties UserAccountControl
($gMSA.UserAccountControl -band 0x1000) -eq 0x1000
Set-ADObject -Identity $gMSA -Replace @{ userAccountControl = ($gmsa.userAccountControl -band 0x7FFFC5FF) -bor 0x1000 }
Set-ADServiceAccount Cmd01 -ServicePrincipalNames @{Add='http/x.contoso.com'; Remove='host/Cmd01'} -Description 'new' -Enabled $false
Get-ADServiceAccount Cmd01 -Properties * | Select-Object Description, Enabled, ServicePrincipalNames
New-CredentialSpec -AccountName Cmd01 -AdditionalAccounts webapp01, @{AccountName='Other'; Domain='child.contoso.com'}
Get-CredentialSpec
New-ADServiceAccount -Name Service-sMSA -RestrictToSingleComputer
Add-ADComputerServiceAccount -Identity server -ServiceAccount Service-sMSA
Get-ADComputerServiceAccount server | Select-Object Name
Remove-ADServiceAccount Cmd01 -WhatIf
Remove-ADServiceAccount Cmd01 -Confirm:$false
nltest /sc_verify:contoso.com`)
	contains(t, r.stdout, "CN=WebHosts,CN=Users,DC=contoso,DC=com\n", "True\n", "Enabled               : False\n",
		"ServicePrincipalNames : {host/cmd01.contoso.com, http/x.contoso.com}\n", "Path : "+filepath.Join(dir, "contoso_cmd01.json"),
		"Name : Service-sMSA\n", `What if: Performing the operation "Remove-ADServiceAccount" on target "Cmd01".`, "NERR_Success")
	if found := dc.Search(t, lab.BaseDN, "(sAMAccountName=Cmd01$)", "dn"); len(found) > 0 {
		t.Error("it was not removed")
	}
	r = a.run(6, "Test-ADServiceAccount", "Service-sMSA")
	contains(t, r.stderr, "WARNING: Test failed for Managed Service Account Service-sMSA.")
	a.run(0, "Remove-ADComputerServiceAccount", "server", "Service-sMSA")
	r = a.run(6, "Test-ADServiceAccount", "Service-sMSA")
	contains(t, r.stderr, "WARNING: The Managed Service Account Service-sMSA is not linked with any computer object in the directory.")
	if b, err := os.ReadFile(filepath.Join(dir, "contoso_cmd01.json")); err != nil {
		t.Error(err)
	} else {
		contains(t, string(b), `"Scope": "child.contoso.com"`)
	}
	a.run(2, "New-ADServiceAccount", "-Nam", "x", "-Nope")
	r = a.run(2, "pwsh", "-c", "Get-Date\nNo-Thing")
	contains(t, r.stderr, "line 2", "No-Thing")
}

// Every way that the cmdlets have to change a property, and what PowerShell's own words
// mean for it: $null and -Clear take away, hash tables add, remove and replace.
func TestSetADServiceAccount(t *testing.T) { onEach(t, testSetADServiceAccount) }

func testSetADServiceAccount(t *testing.T, dc *lab.DC, _ bool) {
	a := newAdministrator(t, dc.IP.String(), lab.AdminPassword)
	values := func(attr string) []string {
		t.Helper()
		v := slices.Clone(dc.Entry(t, "Set01$", attr).Values(attr))
		slices.Sort(v)
		return v
	}
	a.run(0, "pwsh", "-c", `New-ADServiceAccount Set01 -DNSHostName set01.contoso.com -PrincipalsAllowedToRetrieveManagedPassword WebHosts, web2$ -Description 'first' -DisplayName 'Set'`)
	for _, c := range []struct {
		script, attr string
		want         []string
	}{
		{"Set-ADServiceAccount Set01 -ServicePrincipalNames @{Add='http/a','http/b'}", "servicePrincipalName", []string{"http/a", "http/b"}},
		{"Set-ADServiceAccount Set01 -ServicePrincipalNames @{Remove='http/a'; Add='http/c'}", "servicePrincipalName", []string{"http/b", "http/c"}},
		{"Set-ADServiceAccount Set01 -ServicePrincipalNames @{Replace='http/d'}", "servicePrincipalName", []string{"http/d"}},
		{"Set-ADServiceAccount Set01 -ServicePrincipalNames $null", "servicePrincipalName", nil},
		{"Set-ADServiceAccount Set01 -Description $null", "description", nil},
		{"Set-ADServiceAccount Set01 -Replace @{description='second'; info='i'}", "description", []string{"second"}},
		{"Set-ADServiceAccount Set01 -Add @{otherTelephone='1','2'}", "otherTelephone", []string{"1", "2"}},
		{"Set-ADServiceAccount Set01 -Remove @{otherTelephone='1'}", "otherTelephone", []string{"2"}},
		{"Set-ADServiceAccount Set01 -Clear otherTelephone, info", "info", nil},
		{"Set-ADServiceAccount Set01 -Clear displayName", "displayName", nil},
		{"Set-ADServiceAccount Set01 -ENABLED:$false", "userAccountControl", []string{"4098"}},
		{"Get-ADServiceAccount Set01 | Set-ADServiceAccount -Enabled $true", "userAccountControl", []string{"4096"}},
		{"Set-ADServiceAccount Set01 -TrustedForDelegation $true", "userAccountControl", []string{"528384"}},
		{"Set-ADServiceAccount Set01 -TrustedForDelegation $false", "userAccountControl", []string{"4096"}},
		{"Set-ADServiceAccount Set01 -KerberosEncryptionType AES256", "msDS-SupportedEncryptionTypes", []string{"16"}},
		{"Set-ADServiceAccount Set01 -KerberosEncryptionType None", "msDS-SupportedEncryptionTypes", []string{"0"}},
		{"Set-ADServiceAccount Set01 -DNSHostName other.contoso.com", "dNSHostName", []string{"other.contoso.com"}},
	} {
		a.run(0, "pwsh", "-c", c.script)
		if got := values(c.attr); !slices.Equal(got, c.want) {
			t.Errorf("%s: %s is %q, want %q", c.script, c.attr, got, c.want)
		}
	}
	readers := func(script string) (names []string) {
		t.Helper()
		a.run(0, "pwsh", "-c", script)
		var shown map[string]any
		r := a.run(0, "Get-ADServiceAccount", "Set01", "-Properties", "PrincipalsAllowedToRetrieveManagedPassword", "-o", "json")
		if err := json.Unmarshal([]byte(r.stdout), &shown); err != nil {
			t.Fatalf("%v in %s", err, r.stdout)
		}
		list, _ := shown["PrincipalsAllowedToRetrieveManagedPassword"].([]any)
		for _, v := range list {
			names = append(names, v.(string))
		}
		return names
	}
	if got := readers("Set-ADServiceAccount Set01 -PrincipalsAllowedToRetrieveManagedPassword @('web1$', 'evil1$')"); len(got) != 2 {
		t.Errorf("readers: %q", got)
	}
	if got := readers("Set-ADServiceAccount Set01 -PrincipalsAllowedToRetrieveManagedPassword $null"); len(got) != 0 {
		t.Errorf("readers after $null: %q", got)
	}
	contains(t, a.run(2, "pwsh", "-c", "Set-ADServiceAccount Set01 -ManagedPasswordIntervalInDays 7").stderr, "cannot be changed")
	if got := values("msDS-ManagedPasswordInterval"); !slices.Equal(got, []string{"30"}) {
		t.Errorf("interval %q", got)
	}
	contains(t, a.run(0, "pwsh", "-c", `
$names = @('Set01', ("we" + 'bapp01'))
$names.Count
(Get-ADServiceAccount $names[0]).ObjectClass
$h = @{Identity = 'x'}; $h.Identity
Get-ADServiceAccount -Filter 'Name -like "SET0*" -and (Enabled -eq $true)' | Select-Object Name
(Get-ADServiceAccount -Filter * | Select-Object -First 2).Count`).stdout, "2\n", "msDS-GroupManagedServiceAccount\n", "x\n", "Name : Set01\n")
	a.run(0, "pwsh", "-c", "Get-ADServiceAccount Set01 | Remove-ADServiceAccount -Confirm:$false")
	a.run(3, "account", "show", "Set01")
}
