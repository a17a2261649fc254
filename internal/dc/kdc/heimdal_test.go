package kdc_test

import (
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestHeimdal lets Heimdal's programs log on, which begin over UDP.
func TestHeimdal(t *testing.T) {
	lab.Need(t, "kinit.heimdal", "kgetcred", "heimtools")
	r := newRealm(t, nil)
	env := r.env(t)
	const kinit = "echo '" + alicePassword + "' | kinit.heimdal --password-file=STDIN "
	for _, c := range []struct{ what, script, want string }{
		{"a password", kinit + "alice; heimtools klist -v", "aes256-cts-hmac-sha1-96"},
		{"a service ticket", "for s in HTTP/web1.contoso.com http/app.contoso.com ldap/dc1.contoso.com; do kgetcred $s; done; heimtools klist", "HTTP/web1.contoso.com@CONTOSO.COM"},
		{"a wrong password", "! echo wrong | kinit.heimdal --password-file=STDIN alice", "Password incorrect"},
		{"renewed", kinit + "-r 2d -f alice; kinit.heimdal -R; heimtools klist -f", "FR"},
		{"canonicalised", kinit + "--canonicalize ALICE; heimtools klist", "Principal: alice@CONTOSO.COM"},
		{"an enterprise name", kinit + "--enterprise alice@contoso.com; heimtools klist; kgetcred host/web1", "Principal: alice@CONTOSO.COM"},
		{"nobody", "! echo x | kinit.heimdal --password-file=STDIN mallory", "Client (mallory@CONTOSO.COM) unknown"},
		{"a ticket to change a password", kinit + "-S kadmin/changepw alice; heimtools klist", "kadmin/changepw@CONTOSO.COM"},
	} {
		t.Run(c.what, func(t *testing.T) {
			out, err := lab.Try(env, "", "sh", "-ec", c.script)
			if err != nil || !strings.Contains(out, c.want) {
				t.Errorf("%v, want %q in\n%s", err, c.want, out)
			}
		})
	}
}
