package kdc_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/dtyp"
	"github.com/opengmsa/opengmsa/internal/dc/dctest"
	"github.com/opengmsa/opengmsa/internal/lab"
)

// TestMIT lets MIT's programs log on in every way that the options of kinit and kvno
// have.
func TestMIT(t *testing.T) {
	lab.Need(t, "kinit", "kvno", "klist", "ktutil")
	r := newRealm(t, nil)
	long := time.Now().Add(-50 * 24 * time.Hour)
	r.Insert(t, dctest.Object{Class: "user", Name: "late", Password: alicePassword})
	r.Put(t, "late", "pwdLastSet", strconv.FormatInt(int64(dtyp.FiletimeOf(long)), 10))
	r.Insert(t, dctest.Object{Class: "user", Name: "off", Password: alicePassword, Values: map[string][]string{"userAccountControl": {"514"}}})
	r.Insert(t, dctest.Object{Class: "user", Name: "new", Password: alicePassword})
	r.Put(t, "new", "pwdLastSet", "0")
	env := r.env(t)
	// Each script is run by sh with -e; "!" turns a command's failure into success.
	for _, c := range []struct {
		what, script string
		want         []string // what the output has in it
	}{
		{"a password", "echo '" + alicePassword + "' | kinit alice; klist -e",
			[]string{"Default principal: alice@CONTOSO.COM", "krbtgt/CONTOSO.COM@CONTOSO.COM", "aes256-cts-hmac-sha1-96, aes256-cts-hmac-sha1-96"}},
		{"a wrong password", "! echo wrong | kinit alice", []string{"Password incorrect"}},
		{"nobody", "! echo x | kinit mallory", []string{"not found in Kerberos database"}},
		{"canonicalised", "echo '" + alicePassword + "' | kinit -C ALICE; klist", []string{"Default principal: alice@CONTOSO.COM"}},
		{"in capitals", "echo '" + alicePassword + "' | kinit ALICE; klist; kvno host/web1", []string{"Default principal: ALICE@CONTOSO.COM"}},
		{"an enterprise name", "echo '" + alicePassword + "' | kinit -C -E alice@contoso.com; klist; kvno host/web1", []string{"Default principal: alice@CONTOSO.COM"}},
		{"an enterprise name as it is", "echo '" + alicePassword + "' | kinit -E alice@contoso.com; klist; kvno host/web1", []string{`alice\@contoso.com@CONTOSO.COM`}},
		{"a service ticket", "echo '" + alicePassword + "' | kinit alice; kvno HTTP/web1.contoso.com ldap/dc1.contoso.com http/app.contoso.com; klist -e",
			[]string{"HTTP/web1.contoso.com@CONTOSO.COM: kvno = 1", "ldap/dc1.contoso.com@CONTOSO.COM: kvno = 1", "http/app.contoso.com@CONTOSO.COM: kvno = 1"}},
		{"no such service", "! kvno http/nowhere.contoso.com", []string{"Server not found in Kerberos database"}},
		{"a user who is no service", "! kvno bob", []string{"Server not found in Kerberos database"}},
		{"by account name", "kvno 'web1$' 'WEB1$'", []string{"web1$@CONTOSO.COM: kvno = 1"}},
		{"flags", "echo '" + alicePassword + "' | kinit -f -p -r 2d alice; klist -f", []string{"Flags: FPRIA"}},
		{"renewed", "kinit -R; klist -f; kvno host/web1", []string{"Flags: FPRIA"}},
		{"not renewable", "echo '" + alicePassword + "' | kinit -l 1h alice; ! kinit -R", []string{"KDC can't fulfill requested option"}},
		{"a life", "echo '" + alicePassword + "' | kinit -l 1h alice; klist", []string{"krbtgt/CONTOSO.COM@CONTOSO.COM"}},
		{"a keytab", `printf 'addent -password -p web1$@CONTOSO.COM -k 1 -e aes256-cts-hmac-sha1-96 -f\n` + webPassword + `\nwkt %s/kt\nquit\n' "$DIR" | ktutil; kinit -k -t "$DIR/kt" 'web1$'; klist`,
			[]string{"Default principal: web1$@CONTOSO.COM"}},
		{"with AES128 alone", `printf 'addent -password -p web1$@CONTOSO.COM -k 1 -e aes128-cts-hmac-sha1-96 -f\n` + webPassword + `\nwkt %s/kt2\nquit\n' "$DIR" | ktutil; kinit -k -t "$DIR/kt2" 'web1$'; klist -e`,
			[]string{"Default principal: web1$@CONTOSO.COM"}},
		{"user-to-user", `cp "$DIR/ccache" "$DIR/web"; echo '` + alicePassword + `' | kinit bob; cp "$DIR/ccache" "$DIR/bob"; echo '` + alicePassword + `' | kinit alice; kvno --u2u "$DIR/bob" bob`,
			[]string{"bob@CONTOSO.COM: kvno = 0"}},
		{"user-to-user with the TGT of another", `! kvno --u2u "$DIR/web" bob`, []string{"Ticket/authenticator don't match"}},
		{"a ticket to change a password, of a TGT", "kvno kadmin/changepw", []string{"kadmin/changepw@CONTOSO.COM: kvno = 1"}},
		{"a ticket to change a password, with the password", "echo '" + alicePassword + "' | kinit -S kadmin/changepw alice; klist", []string{"kadmin/changepw@CONTOSO.COM"}},
		{"an expired password", "! echo '" + alicePassword + "' | kinit late", []string{"Password expired"}},
		{"which is good to change it", "echo '" + alicePassword + "' | kinit -S kadmin/changepw late; klist", []string{"kadmin/changepw@CONTOSO.COM"}},
		{"a password to change", "! echo '" + alicePassword + "' | kinit new", []string{"Password expired"}},
		{"a disabled account", "! echo '" + alicePassword + "' | kinit off", []string{"credentials have been revoked"}},
		{"anonymous", "! kinit -n", []string{"kinit:"}},
		{"without addresses and with", "echo '" + alicePassword + "' | kinit -a alice; klist -a", []string{"Addresses:"}},
		{"the krbtgt of another realm", "echo '" + alicePassword + "' | kinit alice; ! kvno krbtgt/FABRIKAM.COM", []string{"not found in Kerberos database"}},
		{"S4U2Self", "! kvno -U bob 'alice'", []string{"kvno:"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			out, err := lab.Try(env, "", "sh", "-ec", c.script)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range c.want {
				if !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
}
