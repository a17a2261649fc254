package dc

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// client runs programs that nobody here wrote as clients of a controller.
type client struct {
	t   *testing.T
	env []string
}

func newClient(t *testing.T, d Data) client {
	return client{t, append(os.Environ(), "KRB5_CONFIG="+d.Krb5ConfPath(), "KRB5CCNAME="+filepath.Join(t.TempDir(), "ccache"),
		"LDAPTLS_CACERT="+d.CAPath(), "LC_ALL=C")}
}

// run runs a program with its input and returns what it prints.
func (c client) run(input string, args ...string) (string, error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env, cmd.Stdin = c.env, strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must is run that succeeds and prints want.
func (c client) must(want, input string, args ...string) {
	c.t.Helper()
	if out, err := c.run(input, args...); err != nil || !strings.Contains(out, want) {
		c.t.Errorf("%s: %v, want %q in\n%s", strings.Join(args, " "), err, want, out)
	}
}

// TestClientsOfDebian: MIT's and OpenLDAP's programs against all services at once.
func TestClientsOfDebian(t *testing.T) {
	lab.Need(t, "kinit", "kpasswd", "kvno", "ldapsearch", "ldapmodify", "dig")
	d := newData(t)
	cfg := domainConfig(t)
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Aliases = []string{"localhost", machine}
	if _, err := d.Init(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	s := run(t, d)
	c := newClient(t, d)
	at := func(scheme string, port uint16) string {
		return scheme + "://" + netip.AddrPortFrom(s.Addresses[0], port).String()
	}
	c.must("", adminPassword+"\n", "kinit", "Administrator")
	c.must("kvno = 1", "", "kvno", "ldap/dc1.contoso.com")
	base := []string{"-LLL", "-b", "DC=contoso,DC=com", "-s", "base", "objectSid"}
	bind := []string{"-x", "-D", "Administrator@contoso.com", "-w", adminPassword}
	c.must("objectSid:: ", "", append(append([]string{"ldapsearch", "-H", at("ldaps", s.Ports.LDAPS)}, bind...), base...)...)
	c.must("objectSid:: ", "", append(append([]string{"ldapsearch", "-ZZ", "-H", at("ldap", s.Ports.LDAP)}, bind...), base...)...)
	c.must("objectSid:: ", "", append([]string{"ldapsearch", "-Q", "-Y", "GSSAPI", "-H", at("ldap", s.Ports.LDAP)}, base...)...)
	c.must("objectSid:: ", "", append([]string{"ldapsearch", "-Q", "-Y", "GSS-SPNEGO", "-H", at("ldap", s.Ports.GC)}, base...)...)
	c.must(fmt.Sprintf("0 100 %d dc1.contoso.com.", s.Ports.Kerberos), "", "dig", "+short", "@127.0.0.1", "-p", fmt.Sprint(s.Ports.DNS), "SRV", "_kerberos._tcp.contoso.com")
	// Nobody may change a password that is younger than a day, as in AD.
	c.must("modifying entry", "dn: DC=contoso,DC=com\nchangetype: modify\nreplace: minPwdAge\nminPwdAge: 0\n",
		"ldapmodify", "-Q", "-Y", "GSSAPI", "-H", at("ldap", s.Ports.LDAP))
	const next = "An0ther!Admin"
	c.must("Password changed", adminPassword+"\n"+next+"\n"+next+"\n", "kpasswd", "Administrator")
	if out, err := c.run(adminPassword+"\n", "kinit", "Administrator"); err == nil {
		t.Errorf("the old password is accepted\n%s", out)
	}
	c.must("", next+"\n", "kinit", "Administrator")
}
