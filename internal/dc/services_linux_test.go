package dc

import (
	"net/netip"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestServicesOfAGMSA: a web server, a database and a login server that have nothing but
// the keytab of a gMSA let in who has a ticket, each by the client that it has.
func TestServicesOfAGMSA(t *testing.T) {
	lab.Need(t, "curl", "psql", "klist")
	o := newOffice(t, "webapp01", "db", "ssh")
	for host, service := range map[string]string{"webapp01": "HTTP", "db": "postgres", "ssh": "host"} {
		spn := service + "/" + host + ".contoso.com"
		o.addGMSA(host+"svc", spn)
		o.WriteFile("/run/"+host+".keytab", o.keytab(spn), 0o644)
	}
	o.Apache(o.addresses["webapp01"][0], lab.ApacheConfig{Host: "webapp01.contoso.com", Keytab: "/run/webapp01.keytab"})
	o.Postgres(o.addresses["db"][0], "CONTOSO.COM", "/run/db.keytab", "alice")
	r := newRoot(o)
	r.WriteFile("/etc/krb5.keytab", o.keytab("host/ssh.contoso.com"), 0o600)
	r.Run("useradd", "--create-home", "--shell", "/bin/sh", "--password", "*", "alice")
	r.Run("install", "-d", "/run/sshd")
	r.Start("/var/log/sshd", "/usr/sbin/sshd", "-D", "-e", "-o", "ListenAddress="+o.addresses["ssh"][0].String(),
		"-o", "GSSAPIAuthentication=yes", "-o", "GSSAPIStrictAcceptorCheck=no", "-o", "PasswordAuthentication=no", "-o", "UsePAM=no")
	o.Await(netip.AddrPortFrom(o.addresses["ssh"][0], 22))

	const curl = "curl -sS -i --fail --noproxy '*' --negotiate -u : http://webapp01.contoso.com/; "
	o.play(o, []script{
		{"no ticket", "! " + curl, "401"},
		{"curl and Apache", `echo "$ALICE" | kinit -f alice; ` + curl + "klist", "X-Remote-User: alice@CONTOSO.COM\nserved\nHTTP/webapp01.contoso.com@CONTOSO.COM"},
		{"psql and PostgreSQL", `psql -At -d 'host=db.contoso.com dbname=postgres user=alice gssencmode=require' -c '` + lab.GSSQuery + `'; klist`,
			"t|alice@CONTOSO.COM|t|alice\npostgres/db.contoso.com@CONTOSO.COM"},
	})
	const ssh = "ssh -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o PreferredAuthentications=gssapi-with-mic -o GSSAPIAuthentication=yes "
	o.play(r, []script{
		{"ssh, with a ticket to take along", `echo "$ALICE" | kinit --forwardable --password-file=STDIN alice
			` + ssh + "-o GSSAPIDelegateCredentials=yes alice@ssh.contoso.com 'id -un; heimtools klist -f'; heimtools klist",
			"alice\nkrbtgt/CONTOSO.COM@CONTOSO.COM\nhost/ssh.contoso.com@"},
		{"ssh as another", "! " + ssh + "root@ssh.contoso.com true", "Permission denied"},
	})
}
