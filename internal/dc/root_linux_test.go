package dc

import (
	_ "embed"
	"path"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// newRoot gives the office the programs that are not this machine's, configured as it is.
func newRoot(o *office) *lab.Root {
	r := o.Root()
	o.configure(r)
	return r
}

// TestHeimdal lets Heimdal's programs log on, which begin over UDP, and change passwords,
// which they do over UDP alone: first as an administrator would, then as oneself.
func TestHeimdal(t *testing.T) {
	o := newOffice(t)
	addUser(t, o.c, "late", alicePassword)
	replace(t, o.c, userDN(o.c, "late"), "pwdLastSet", "0")
	o.addGMSA("webapp01", "HTTP/webapp01.contoso.com")
	r := newRoot(o)
	r.WriteFile("/run/web.keytab", o.keytab("webapp01$"), 0o600)
	const kinit = `echo "$ALICE" | kinit --password-file=STDIN `
	o.play(r, []script{
		{"a password", kinit + "alice; heimtools klist -v", "Client: alice@CONTOSO.COM\naes256-cts-hmac-sha1-96"},
		{"a service ticket", "for s in HTTP/webapp01.contoso.com ldap/dc1.contoso.com cifs/dc1 host/dc1.contoso.com; do kgetcred $s; done; heimtools klist",
			"HTTP/webapp01.contoso.com@CONTOSO.COM\ncifs/dc1@CONTOSO.COM"},
		{"a wrong password", "! echo wrong | kinit --password-file=STDIN alice", "Password incorrect"},
		{"renewed", kinit + "-r 2d -f alice; kinit -R; heimtools klist -f", "FR"},
		{"canonicalised", kinit + "--canonicalize ALICE; heimtools klist", "Principal: alice@CONTOSO.COM"},
		{"an enterprise name", kinit + "--enterprise alice@contoso.com; heimtools klist; kgetcred host/dc1", "Principal: alice@CONTOSO.COM"},
		{"nobody", "! echo x | kinit --password-file=STDIN mallory", "Client (mallory@CONTOSO.COM) unknown"},
		{"a keytab", "kinit -k -t /run/web.keytab 'webapp01$'; heimtools klist", "Principal: webapp01$@CONTOSO.COM"},
		{"a ticket to change a password", kinit + "-S kadmin/changepw alice; heimtools klist", "kadmin/changepw@CONTOSO.COM"},
		{"a password that must be changed", "! " + kinit + "late", "expired"},
		{"which is", `printf '%s\n' "$ALICE" N3w!Secret-1 N3w!Secret-1 | kpasswd late; echo N3w!Secret-1 | kinit --password-file=STDIN late`, "Password changed"},
		{"a password that is no good", `printf '%s\n' N3w!Secret-1 Sh0rt! Sh0rt! | kpasswd late || true`, "Password too short, password must be at least 7 characters long."},
	})
}

// TestHostsJoin: realm, adcli and msktutil join hosts to the domain and keep their
// keytabs, passwords and names. What they wrote, Heimdal logs on with.
func TestHostsJoin(t *testing.T) {
	o := newOffice(t)
	const (
		adcli = `adcli() { verb=$1; shift; echo "$ADMIN" | command adcli $verb --stdin-password -U Administrator --domain=contoso.com "$@"; }; `
		logon = `echo "$ADMIN" | kinit --password-file=STDIN Administrator; `
	)
	o.play(newRoot(o), []script{
		{"realm discover", "realm --install=/ discover --verbose contoso.com", "realm-name: CONTOSO.COM\nserver-software: active-directory"},
		{"realm join", `echo "$ADMIN" | realm --install=/ join --membership-software=adcli --client-software=sssd -U Administrator contoso.com; realm --install=/ list; adcli testjoin`,
			"configured: kerberos-member\nvalidated join to domain contoso.com"},
		{"realm leave", `echo "$ADMIN" | realm --install=/ leave --verbose --client-software=sssd --remove -U Administrator contoso.com`, "Deleted computer account at: CN=CLIENT1,CN=Computers,DC=contoso,DC=com"},
		{"adcli info", "adcli info contoso.com", "domain-short = CONTOSO\ndomain-controller-flags = pdc gc ldap ds kdc closest writable full-secret\n" +
			"domain-controller-usable = yes\ncomputer-site = Default-First-Site-Name"},
		{"adcli join", adcli + "adcli join --show-details; kinit -k 'CLIENT1$'; kgetcred host/client1.contoso.com",
			"computer-dn = CN=CLIENT1,CN=Computers,DC=contoso,DC=com\nkvno = 1"},
		{"adcli join, over LDAPS and by address", adcli + "adcli join --use-ldaps -S 10.77.0.10 --show-details", "kvno = 2"},
		{"adcli testjoin", "adcli testjoin", "validated join to domain contoso.com"},
		{"adcli update", "adcli update --service-name=HTTP --add-service-principal=nfs/client1.contoso.com --computer-password-lifetime=0; ktutil list; kgetcred nfs/client1.contoso.com",
			"3  aes256-cts-hmac-sha1-96  HTTP/client1.contoso.com@CONTOSO.COM\nnfs/client1.contoso.com@CONTOSO.COM"},
		{"adcli show-computer", adcli + "adcli show-computer client1", "msDS-KeyVersionNumber:\n3\nnfs/client1.contoso.com"},
		{"adcli create-msa", adcli + "adcli create-msa --show-details; ktutil -k /etc/krb5.keytab.contoso.com list", "CLIENT1!\nCN=Managed Service Accounts,DC=contoso,DC=com"},
		{"adcli and users", adcli + `adcli create-user carl --mail=carl@contoso.com --display-name=Carl; adcli create-group operators --description=Operators
			adcli add-member operators carl alice; adcli remove-member operators carl; adcli delete-group operators; adcli delete-user carl`, ""},
		{"adcli with a password for once", adcli + `adcli preset-computer --one-time-password=0ne!Time-pw pre1
			command adcli join --one-time-password=0ne!Time-pw -N pre1 --host-fqdn=pre1.contoso.com -K /run/pre1.keytab --domain=contoso.com --show-details
			adcli reset-computer pre1; adcli delete-computer pre1`, "computer-name: pre1\ncomputer-dn = CN=pre1,CN=Computers,DC=contoso,DC=com"},
		{"msktutil create", logon + `msktutil create --computer-name web2 --hostname web2.contoso.com --service HTTP --enctypes 0x18 -k /run/web2.keytab
			kinit -k -t /run/web2.keytab 'web2$'; kgetcred HTTP/web2.contoso.com; heimtools klist`, "Principal: web2$@CONTOSO.COM\nHTTP/web2.contoso.com"},
		{"msktutil update", `msktutil update --computer-name web2 --hostname web2.contoso.com --service HTTP --service nfs -k /run/web2.keytab
			msktutil auto-update --computer-name web2 --hostname web2.contoso.com --auto-update-interval 0 -k /run/web2.keytab
			ktutil -k /run/web2.keytab list; kinit -k -t /run/web2.keytab 'web2$'`, "2  aes256-cts-hmac-sha1-96\nnfs/web2.contoso.com@CONTOSO.COM"},
		{"msktutil with a service account", logon + `msktutil create --use-service-account --account-name svcapp --service HTTP/app.contoso.com --enctypes 0x18 -k /run/svc.keytab --dont-expire-password
			msktutil update --use-service-account --account-name svcapp --enctypes 0x18 -k /run/svc.keytab
			kinit -k -t /run/svc.keytab svcapp; kgetcred HTTP/app.contoso.com; heimtools klist`, "Principal: svcapp@CONTOSO.COM\nHTTP/app.contoso.com"},
		{"msktutil reset and delete", logon + "msktutil reset --computer-name web2; msktutil delete --computer-name web2; ! kgetcred HTTP/web2.contoso.com", ""},
	})
}

// TestSSSD: a host of the domain knows its users and lets them in. SSSD reads users and
// groups in the global catalog, checks its own ticket's PAC, and looks for policies,
// which must be none: it would read them over SMB.
func TestSSSD(t *testing.T) {
	o := newOffice(t)
	addUser(t, o.c, "off", alicePassword)
	addUser(t, o.c, "late", alicePassword)
	replace(t, o.c, userDN(o.c, "late"), "pwdLastSet", "0")
	r := newRoot(o)
	o.play(r, []script{{"join", `echo "$ADMIN" | adcli join --stdin-password -U Administrator contoso.com
		echo "$ADMIN" | adcli create-group --stdin-password -U Administrator --domain=contoso.com linuxadmins
		echo "$ADMIN" | adcli add-member --stdin-password -U Administrator --domain=contoso.com linuxadmins alice`, ""}})
	r.WriteFile("/etc/sssd/sssd.conf", []byte("[sssd]\nservices = nss, pam\ndomains = contoso.com\n[domain/contoso.com]\nid_provider = ad\naccess_provider = ad\n"), 0o600)
	// SSSD's part of what Debian has there. The name of the service says which right it needs.
	r.WriteFile("/etc/pam.d/sshd", []byte("auth required pam_sss.so\naccount required pam_sss.so\npassword required pam_sss.so\n"), 0o644)
	r.Start("/var/log/sssd.out", "sssd", "-i")
	o.play(r, []script{
		{"getent", "for i in $(seq 100); do getent passwd alice && break; sleep 0.1; done; getent group linuxadmins", "/home/contoso.com/alice\n:alice"},
		{"id", "id alice", "(domain users)\n(linuxadmins)"},
		{"PAM lets in", `echo "$ALICE" | pamtester sshd alice authenticate acct_mgmt`, "successfully authenticated\naccount management done"},
		{"PAM keeps out", `! echo wrong | pamtester sshd alice authenticate`, "Authentication failure"},
		{"PAM changes a password", `printf '%s\n' "$ALICE" N3w!Secret-1 N3w!Secret-1 | runuser -u alice -- pamtester sshd alice chauthtok
			echo N3w!Secret-1 | pamtester sshd alice authenticate`, "successfully authenticated"},
		{"a password that must be changed", `printf '%s\n' "$ALICE" | pamtester sshd late authenticate acct_mgmt || true`, "Authentication token is no longer valid; new one required"},
	})
	replace(t, o.c, userDN(o.c, "off"), "userAccountControl", "514")
	o.play(r, []script{{"a disabled account", `! echo "$ALICE" | pamtester sshd off authenticate acct_mgmt`, "pamtester: "}})
}

//go:embed testdata/Peer.java
var javaPeer []byte

// TestJava logs on by JAAS, searches by JNDI, and accepts with the keytab of a gMSA.
func TestJava(t *testing.T) {
	o := newOffice(t)
	o.addGMSA("webapp01", "HTTP/webapp01.contoso.com")
	r := newRoot(o)
	r.WriteFile("/run/Peer.java", javaPeer, 0o644)
	r.WriteFile("/run/web.keytab", o.keytab("HTTP/webapp01.contoso.com"), 0o600)
	o.play(r, []script{{"JAAS, JNDI and JGSS", `java -XX:TieredStopAtLevel=1 /run/Peer.java "$ALICE" /run/web.keytab HTTP/webapp01.contoso.com`,
		"ticket krbtgt/CONTOSO.COM@CONTOSO.COM for alice@CONTOSO.COM\nfound CN=alice,CN=Users,DC=contoso,DC=com\n" +
			"accepted alice@CONTOSO.COM at HTTP/webapp01.contoso.com@CONTOSO.COM: hello\nrefused: Pre-authentication information was invalid (24)"}})
}

//go:embed testdata/get_tgt.py
var getTGT []byte

// TestImpacket logs on with a client that takes optional fields of a reply for granted.
func TestImpacket(t *testing.T) {
	o := newOffice(t)
	r := newRoot(o)
	const program = "/run/get_tgt.py"
	r.WriteFile(program, getTGT, 0o644)
	o.play(r, []script{{path.Base(program), "umask 077; python3 " + program + ` alice "$ALICE" /run/ccache; heimtools klist; kgetcred ldap/dc1.contoso.com`,
		"key of type 18\nPrincipal: alice@CONTOSO.COM"}})
}
