package domaintest_test

import (
	"fmt"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/domaintest"
)

// t is the test's own.
var t *testing.T

// A web server's host may read the password of the account that the web server runs as, and
// a user finds who she is.
func Example() {
	d := domaintest.New(t)
	web1 := d.Computer("web1")
	d.GMSA("webapp01", d.Group("WebHosts", web1))
	alice := d.User("alice")

	conn, err := ldap.DialURL(d.LDAPSURL(), ldap.DialWithTLSConfig(d.TLSConfig()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Bind(alice.Principal(), alice.Password); err != nil {
		t.Fatal(err)
	}
	who, err := conn.WhoAmI(nil)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(who.AuthzID)
	fmt.Println(d.Keytab(web1, "HOST/web1.contoso.com") != "", d.KDC() != "")
}

// TestExample runs the example, which needs a test.
func TestExample(test *testing.T) {
	t = test
	Example()
}
