package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

func TestSambaCmdlets(t *testing.T) {
	dc := lab.Samba(t, lab.SambaConfig{Private: true})
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
