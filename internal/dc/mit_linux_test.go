package dc

import (
	"testing"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/secdesc"
)

// anyReader is the descriptor that lets all who have authenticated read a password.
func anyReader(t *testing.T) string {
	t.Helper()
	b, err := secdesc.GroupMSAMembership(dtyp.AuthenticatedUsers).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestMITAndOpenLDAP is a day of a host and its user who know their name server alone:
// tickets of every kind, a directory found by the name of the domain, and the calls by
// which credentials-fetcher gets the password of a gMSA. What else kinit, kvno and
// OpenLDAP's tools can ask is tested in packages kdc and ldapd.
func TestMITAndOpenLDAP(t *testing.T) {
	lab.Need(t, "kvno", "klist", "kpasswd", "ldapsearch", "ldapwhoami", "sasl-gssapi", "dig", "nslookup")
	o := newOffice(t)
	addUser(t, o.c, "bob", alicePassword)
	o.addGMSA("webapp01", "HTTP/webapp01.contoso.com")
	replace(t, o.c, "CN=webapp01,CN=Managed Service Accounts,"+o.c.Directory().Domain().DN().String(), "msDS-GroupMSAMembership", anyReader(t))
	o.WriteFile("/run/web.keytab", o.keytab("webapp01$"), 0o600)
	const logon = `echo "$ALICE" | kinit `
	o.play(o, []script{
		{"a password", logon + "-f -r 2d alice; kinit -R; klist -f", "Default principal: alice@CONTOSO.COM\nFlags: FRIA"},
		{"canonicalised", logon + "-C ALICE; klist", "Default principal: alice@CONTOSO.COM"},
		{"an enterprise name", logon + "-E -C alice@contoso.com; klist; kvno HTTP/webapp01.contoso.com cifs/dc1", "Default principal: alice@CONTOSO.COM\nHTTP/webapp01.contoso.com@CONTOSO.COM: kvno = 1"},
		{"user-to-user", logon + `-c /run/bob bob; kvno --u2u /run/bob bob`, "bob@CONTOSO.COM: kvno = 0"},
		{"LDAP, found by the domain", `ldapsearch -LLL -Q -Y GSSAPI -H 'ldap:///dc%3Dcontoso%2Cdc%3Dcom' -b dc=contoso,dc=com '(sAMAccountName=alice)' dn; ldapwhoami -Q -H ldap://dc1.contoso.com`,
			"dn: CN=alice,CN=Users,DC=contoso,DC=com\n" + `u:CONTOSO\alice`},
		{"LDAP, without the controller's name", "ldapwhoami -Q -Y GSSAPI -H ldap://10.77.0.10; ldapwhoami -Q -O maxssf=0 -Y GSS-SPNEGO -H ldaps://dc1.contoso.com", `u:CONTOSO\alice`},
		{"LDAP, with a password", `ldapwhoami -ZZ -x -D 'CONTOSO\alice' -w "$ALICE" -H ldap://dc1.contoso.com; ! ldapwhoami -x -D alice@contoso.com -w "$ALICE" -H ldap://dc1.contoso.com`,
			`u:CONTOSO\alice` + "\nrequires binds to turn on integrity checking"},
		// With a ticket at hand kpasswd would protect its request by FAST, were it offered.
		{"a password changed beside a ticket", logon + `alice; printf '%s\n' "$ALICE" N3w!Secret-1 N3w!Secret-1 | kpasswd`, "Password changed"},
		{"credentials-fetcher", `nslookup -type=srv _ldap._tcp.dc._msdcs.contoso.com; dig +short @10.77.0.10 _ldap._tcp.dc._msdcs.contoso.com -t any; kinit -k -t /run/web.keytab 'webapp01$'
			ldapsearch -o ldif_wrap=no -LLL -Q -Y GSSAPI -H ldap://dc1.contoso.com -b 'CN=webapp01,CN=Managed Service Accounts,DC=contoso,DC=com' -s sub '(objectClass=msDs-GroupManagedServiceAccount)' msDS-ManagedPassword`,
			"service = 0 100 389 dc1.contoso.com.\n0 100 389 dc1.contoso.com.\nmsDS-ManagedPassword:: "},
	})
}
