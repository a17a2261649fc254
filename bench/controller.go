//go:build linux

package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/managedpassword"
	"github.com/opengmsa/opengmsa/secret"
)

// accountPassword is the password of every account that the sections make.
const accountPassword = "Passw0rd!Bench"

// A controller is a domain controller under test: the program itself, as a process of its
// own on the first processor, with its data on a tmpfs as its peers have theirs.
type controller struct {
	kdc
	ip      string
	data    string
	program string
	daemon  *lab.Daemon
	admin   *ldap.Conn // Administrator in TLS
}

// newController makes a domain, serves it, and gives it users to measure with.
func newController(r *run) *controller {
	c := initController(r)
	c.serve(r)
	return c
}

// initController makes a domain that is not served yet.
func initController(r *run) *controller {
	program, err := r.program.build()
	r.must(err)
	dir := r.tmpfs()
	c := &controller{ip: lab.Address(r).String(), data: dir + "/dc", program: program}
	r.must(os.WriteFile(dir+"/password", []byte(accountPassword+"\n"), 0o600))
	tool(r, nil, "", program, "dc", "init", "--domain", lab.DNSDomain, "--data", c.data, "--admin-password-file", dir+"/password")
	return c
}

// serve starts the controller and gives it users to measure with.
func (c *controller) serve(r *run) {
	c.daemon = lab.StartDaemon(r, nil, onFirst(c.program, "dc", "serve", "--data", c.data, "--listen", c.ip)...)
	c.kdc = kdc{name: "gmsa", realm: lab.Realm, address: c.ip + ":88", conf: filepath.Join(c.data, "krb5.conf"), pid: c.daemon.PID()}
	awaitTCP(r, c.ip+":636")
	c.admin = c.dialTLS(r)
	r.must(c.admin.Bind(lab.Administrator+"@"+lab.DNSDomain, accountPassword))
	for i := range workers {
		c.accounts = append(c.accounts, c.addUser(r, fmt.Sprintf("load%05d", i)))
	}
}

// roots are the certificates that clients of the domain trust.
func (c *controller) roots(r *run) *x509.CertPool {
	return readRoots(r, filepath.Join(c.data, "ca.pem"))
}

// dialTLS opens a connection to the directory that ends with the section.
func (c *controller) dialTLS(r *run) *ldap.Conn {
	return dialTLS(r, c.ip+":636", &tls.Config{ServerName: lab.DCHost, RootCAs: c.roots(r)})
}

func dialTLS(r *run, address string, cfg *tls.Config) *ldap.Conn {
	conn, err := ldap.DialURL("ldaps://"+address, ldap.DialWithTLSConfig(cfg))
	r.must(err)
	r.Cleanup(func() { _ = conn.Close() })
	return conn
}

func readRoots(r *run, file string) *x509.CertPool {
	pem, err := os.ReadFile(file)
	r.must(err)
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		r.Fatalf("%s has no certificate", file)
	}
	return pool
}

// addUser makes a user with a password, and its key.
func (c *controller) addUser(r *run, name string) principal {
	c.addAccount(r, name, "user", 512)
	key, err := crypto.StringToKey(crypto.AES256SHA1, []byte(accountPassword), lab.Realm+name, nil)
	r.must(err)
	return principal{krb5.NewName(krb5.NamePrincipal, name), key}
}

// addComputer makes a computer with a password.
func (c *controller) addComputer(r *run, name string) {
	c.addAccount(r, name+"$", "computer", 4096)
}

func (c *controller) addAccount(r *run, account, class string, control int) {
	password, err := managedpassword.UTF16(secret.Copy([]byte(`"` + accountPassword + `"`)))
	r.must(err)
	req := ldap.NewAddRequest("CN="+account+",CN=Users,"+lab.BaseDN, nil)
	req.Attribute("objectClass", []string{class})
	req.Attribute("sAMAccountName", []string{account})
	req.Attribute("userAccountControl", []string{fmt.Sprint(control)})
	req.Attribute("unicodePwd", []string{string(password.Reveal())})
	r.must(c.admin.Add(req))
}
