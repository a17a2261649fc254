// Package domaintest runs an Active Directory domain inside of a Go test: a KDC, LDAP,
// DNS, password changes and group Managed Service Accounts on loopback, with accounts,
// keytabs and a clock that the test moves. It needs no other program, no root and no
// network, and a domain is there within milliseconds.
//
//	func TestLogon(t *testing.T) {
//		d := domaintest.New(t)
//		alice := d.User("alice")
//		web := d.Computer("web1")
//		d.AddSPN(web, "HTTP/web1.contoso.com")
//
//		// A program under test finds the domain by its environment …
//		cmd := exec.Command("kinit", alice.Principal())
//		cmd.Env, cmd.Stdin = d.Env(), strings.NewReader(alice.Password+"\n")
//
//		// … and Go code by addresses, files and certificates.
//		service := d.Keytab(web, "HTTP/web1.contoso.com")
//		conn, err := ldap.DialURL(d.LDAPSURL(), ldap.DialWithTLSConfig(d.TLSConfig()))
//	}
//
// What fails in making a domain or an account fails the test. Each domain has SIDs, keys
// and ports of its own, so that tests can run in parallel. It is gone when the test ends.
//
// Two rules of a new Active Directory domain do not hold here, because tests are impatient:
// a password may be changed before it is a day old, and there is a KDS root key that can be
// used at once. All others do: passwords must be complex, for one.
//
// Read [New] first.
package domaintest
