package dc

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/opengmsa/opengmsa/internal/dc/directory"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// serveIn serves a domain in a Net on the standard ports until the test ends. DNS knows
// the hosts too.
func serveIn(t *testing.T, n *lab.Net, d Data, hosts map[string][]netip.Addr) *Controller {
	t.Helper()
	cfg := config(t)
	cfg.Hosts = hosts
	c, err := d.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	var s *Sockets
	err = n.Within(func() error {
		s, err = Listen(t.Context(), []netip.Addr{lab.NetServer}, StandardPorts())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, c.Close()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// addUser makes a user with a password.
func addUser(t *testing.T, c *Controller, name, password string) {
	t.Helper()
	quoted, err := managedpassword.UTF16(secret.New([]byte(`"` + password + `"`)))
	if err != nil {
		t.Fatal(err)
	}
	q := directory.AddRequest{DN: userDN(c, name)}
	for attribute, value := range map[string]string{"objectClass": "user", "sAMAccountName": name, "userAccountControl": "512", "unicodePwd": string(quoted.Reveal())} {
		q.Attributes = append(q.Attributes, directory.Attribute{Name: attribute, Values: [][]byte{[]byte(value)}})
	}
	if err := c.Directory().Add(t.Context(), directory.Caller{Controller: true}, q); err != nil {
		t.Fatalf("add %s: %v", name, err)
	}
}

func userDN(c *Controller, name string) string {
	return "CN=" + name + ",CN=Users," + c.Directory().Domain().DN().String()
}

// replace gives an attribute of an object another value.
func replace(t *testing.T, c *Controller, dn, attribute, value string) {
	t.Helper()
	change := directory.Change{Op: directory.ChangeReplace, Attribute: directory.Attribute{Name: attribute, Values: [][]byte{[]byte(value)}}}
	if err := c.Directory().Modify(t.Context(), directory.Caller{Controller: true}, directory.ModifyRequest{DN: dn, Changes: []directory.Change{change}}); err != nil {
		t.Fatalf("%s of %s: %v", attribute, dn, err)
	}
}

// TestPasswordsAreChangedByClientsThatKnowTheirNameServerAlone: KDC and password
// service are found by DNS, and the texts of refusals reach the user.
func TestPasswordsAreChangedByClientsThatKnowTheirNameServerAlone(t *testing.T) {
	lab.Need(t, "kinit", "kpasswd")
	n := lab.Netns(t, "client1.contoso.com")
	n.WriteFile("/etc/krb5.conf", []byte("[libdefaults]\ndefault_realm = CONTOSO.COM\ndns_lookup_kdc = true\n"), 0o644)
	d := initialized(t)
	c := serveIn(t, n, d, map[string][]netip.Addr{"client1": {lab.NetClient}})
	env := []string{"KRB5CCNAME=FILE:" + t.TempDir() + "/ccache", "LC_ALL=C"}
	const old, next = "0ld!Passw0rd", "N3w!Secret-1"
	addUser(t, c, "alice", old)
	addUser(t, c, "bob", old)
	replace(t, c, userDN(c, "alice"), "pwdLastSet", "0")
	try := func(want string, ok bool, input []string, program string, args ...string) {
		t.Helper()
		out, err := n.Try(env, strings.Join(input, "\n")+"\n", program, args...)
		if ok != (err == nil) || !strings.Contains(out, want) {
			t.Errorf("%s %s: %v, want %q:\n%s", program, strings.Join(args, " "), err, want, out)
		}
	}
	// Whoever must change their password is led to it by kinit.
	try("Password expired", true, []string{old, next, next}, "kinit", "alice")
	try("", true, []string{next}, "kinit", "alice")
	try("too young", false, []string{next, "An0ther!Secret", "An0ther!Secret"}, "kpasswd", "alice")
	replace(t, c, c.Directory().Domain().DN().String(), "minPwdAge", "0")
	try("Password too short, password must be at least 7 characters long.", false, []string{old, "Sh0rt!", "Sh0rt!"}, "kpasswd", "bob")
	try("complexity", false, []string{old, "aaaaaaaaaa", "aaaaaaaaaa"}, "kpasswd", "bob")
	try("password history", false, []string{old, old, old}, "kpasswd", "bob")
	try("Password changed", true, []string{old, next, next}, "kpasswd", "bob")
	try("Preauthentication failed", false, []string{old}, "kpasswd", "bob")
}
