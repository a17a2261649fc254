//go:build linux

package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"github.com/opengmsa/opengmsa/domaintest"
	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/internal/ldapc"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/secret"
)

// A server is an LDAP server and who asks it. Every connection is encrypted: a directory
// of ours answers nothing else that is worth measuring.
type server struct {
	name, host string
	pid        int
	plain, tls string // addresses of LDAP and LDAPS
	roots      *x509.CertPool
	// user is the DN that binds, password its password.
	user, password string
	// realm gives tickets for ticket, the service of this server.
	realm  kdc
	ticket krb5.PrincipalName
	// entry is what is read, attributes are five of it.
	entry      string
	attributes []string
}

// directories measures what requests cost the domain controller and other directories.
func directories(r *run) {
	apart(r)
	c := newController(r)
	ours, slapd, samba := c.server(r), startSlapd(r), sambaServer(r)
	moveToFirst(r, slapd.pid)
	moveToFirst(r, samba.pid)
	const n = 2000
	seldom := func(c contender, share int) contender { c.share = share; return c }

	overTLS := duel(r, n, ours.search(r, ldapc.LDAPS), slapd.search(r, ldapc.LDAPS), seldom(samba.search(r, ldapc.LDAPS), 4))
	r.add(against("  gmsa beside slapd", overTLS[0], overTLS[1]).with(atMost(1.5)))
	sealed := duel(r, n, ours.search(r, ldapc.Sealed), slapd.search(r, ldapc.Sealed), seldom(samba.search(r, ldapc.Sealed), 4))
	r.add(against("  gmsa beside slapd", sealed[0], sealed[1]).with(atMost(1.5)))

	bind := ours.bind(r)
	bind.aim = atMost(40)
	duel(r, n, bind, slapd.bind(r), seldom(samba.bind(r), 20))

	c.addManaged(r)
	host := ours
	host.user, host.password = "web1$@"+lab.DNSDomain, accountPassword
	managed := host.managedPassword(r)
	managed.aim = atMost(40)
	usual := duel(r, n, managed, seldom(samba.managedPassword(r), 8))
	r.add(firstAfterKeyChange(r, usual[0]).with(atMost(150)))
}

// server is the controller as a directory.
func (c *controller) server(r *run) server {
	return server{
		name: "gmsa", host: lab.DCHost, pid: c.pid, plain: c.ip + ":389", tls: c.ip + ":636", roots: c.roots(r),
		user: "CN=load00000,CN=Users," + lab.BaseDN, password: accountPassword,
		realm: c.kdc, ticket: krb5.NewName(krb5.NameSrvInst, "ldap", lab.DCHost),
		entry: "CN=load00001,CN=Users," + lab.BaseDN, attributes: attributesOfAD(),
	}
}

func attributesOfAD() []string {
	return []string{"cn", "objectClass", "sAMAccountName", "objectGUID", "whenCreated"}
}

// sambaServer is the lab's domain controller as a directory.
func sambaServer(r *run) server {
	dc := domain(r)
	k := kdc{realm: lab.Realm, address: dc.IP.String() + ":88", accounts: readAccounts(r, dc.Keytab(r, "web1"))}
	return server{
		name: "Samba", host: lab.DCHost, pid: sambaPID(r, dc), plain: dc.IP.String() + ":389", tls: dc.IP.String() + ":636",
		roots: readRoots(r, dc.CAFile), user: "CN=web1,CN=Computers," + lab.BaseDN, password: lab.ComputerPassword("web1"),
		realm: k, ticket: krb5.NewName(krb5.NameSrvInst, "ldap", lab.DCHost),
		entry: "CN=WebHosts,CN=Users," + lab.BaseDN, attributes: attributesOfAD(),
	}
}

const slapdHost = "slapd.bench.example"

// startSlapd starts OpenLDAP's server with its own database, mdb, and few entries. Its
// Kerberos realm is that of an MIT KDC.
func startSlapd(r *run) server {
	lab.Need(r, "slapd", "slapadd", "slappasswd", "openssl", "sasl-gssapi")
	dir := r.tmpfs()
	k := mitKDC(r, workers, "ldap/"+slapdHost)
	r.must(os.Mkdir(dir+"/db", 0o700))
	tool(r, nil, "", "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN="+slapdHost, "-addext", "subjectAltName=DNS:"+slapdHost, "-keyout", dir+"/key.pem", "-out", dir+"/cert.pem")
	r.must(os.WriteFile(dir+"/slapd.conf", fmt.Appendf(nil, `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/pid
TLSCertificateFile %[1]s/cert.pem
TLSCertificateKeyFile %[1]s/key.pem
sasl-host %[2]s
sasl-realm %[3]s
loglevel 0
database mdb
suffix "dc=bench"
directory %[1]s/db
index objectClass,uid eq
access to attrs=userPassword by anonymous auth
access to * by users read
`, dir, slapdHost, k.realm), 0o644))
	hash := output(r, nil, "", "slappasswd", "-h", "{SSHA}", "-s", accountPassword)
	tool(r, nil, `dn: dc=bench
objectClass: dcObject
objectClass: organization
dc: bench
o: bench

dn: cn=user,dc=bench
objectClass: inetOrgPerson
cn: user
sn: user
uid: user
userPassword: `+hash+`
`, "slapadd", "-f", dir+"/slapd.conf")
	s := server{
		name: "slapd", host: slapdHost, plain: freeAddress(r), tls: freeAddress(r), user: "cn=user,dc=bench", password: accountPassword,
		realm: k, ticket: krb5.NewName(krb5.NameSrvInst, "ldap", slapdHost),
		entry: "cn=user,dc=bench", attributes: []string{"cn", "objectClass", "uid", "entryUUID", "createTimestamp"},
	}
	s.pid = lab.StartDaemon(r, []string{"KRB5_KTNAME=" + k.services(), "KRB5_CONFIG=" + k.conf}, "slapd", "-d", "0",
		"-f", dir+"/slapd.conf", "-h", "ldap://"+s.plain+" ldaps://"+s.tls).PID()
	awaitTCP(r, s.tls)
	s.roots = readRoots(r, dir+"/cert.pem")
	return s
}

// connect opens a connection that is protected and bound.
func (s server) connect(r *run, how ldapc.Protection) *ldapc.Conn {
	cfg := ldapc.Config{ServerName: s.host, Protection: how, Mechanism: ldapc.GSSAPI, RootCAs: s.roots, Now: time.Now, Rand: rand.Reader}
	address := s.plain
	if how == ldapc.LDAPS {
		address, cfg.Simple = s.tls, &ldapc.Simple{Name: s.user, Password: secret.Copy([]byte(s.password))}
	} else {
		cfg.Kerberos = s.credential(r)
	}
	ctx, cancel := context.WithTimeout(r.ctx, 10*time.Second)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	r.must(err)
	c, err := ldapc.Open(ctx, conn, cfg)
	r.must(err)
	r.Cleanup(func() { _ = c.Close() })
	return c
}

// credential is a ticket for the server.
func (s server) credential(r *run) *krb5.Credential {
	client, account := s.realm.client(r, keptTCP), s.realm.accounts[0]
	tgt, err := client.AS(r.ctx, kclient.ASRequest{Client: account.name, Secret: kclient.Keys(account.key)})
	r.must(err)
	res, err := client.TGS(r.ctx, kclient.TGSRequest{TGT: tgt.Credential, Server: s.ticket})
	r.must(err)
	return &res.Credential
}

// search reads the attributes of one entry.
func (s server) search(r *run, how ldapc.Protection) contender {
	return s.read(r, how, "base search, 5 attributes", s.entry, s.attributes...)
}

// managedPassword reads the password of a gMSA.
func (s server) managedPassword(r *run) contender {
	return s.read(r, ldapc.LDAPS, "managed password", "CN=webapp01,CN=Managed Service Accounts,"+lab.BaseDN, "msDS-ManagedPassword")
}

func (s server) read(r *run, how ldapc.Protection, what, dn string, attributes ...string) contender {
	conns := perWorker(func() *ldapc.Conn { return s.connect(r, how) })
	return contender{name: fmt.Sprintf("%s: %s, kept, %v", s.name, what, how), pid: s.pid, do: eachWith(conns, func(c *ldapc.Conn, _ int) error {
		e, err := c.Read(r.ctx, dn, attributes...)
		if err == nil && len(e.Attributes) != len(attributes) {
			err = fmt.Errorf("%s has %d of %s", dn, len(e.Attributes), strings.Join(attributes, ", "))
		}
		return err
	})}
}

// firstAfterKeyChange is what a read of a managed password costs when nobody has asked
// since the key changed. Only the clock of a domain inside of this process can be moved
// there: what the first read takes more than the second, both ends of it, is added to
// what a read usually costs the server.
func firstAfterKeyChange(r *run, usual figure) figure {
	f := figure{name: "gmsa: managed password, the first after a key change", unit: "us", note: "by a domain whose clock is moved by 30 days"}
	d := domaintest.New(r)
	host := d.Computer("web1")
	account := d.GMSA("webapp01", host)
	conn, err := ldap.DialURL(d.LDAPSURL(), ldap.DialWithTLSConfig(d.TLSConfig()))
	r.must(err)
	defer conn.Close()
	r.must(conn.Bind(host.DN, host.Password))
	read := func() float64 {
		before := cpuOfPID(r, os.Getpid())
		e, err := conn.Search(ldap.NewSearchRequest(account.DN, ldap.ScopeBaseObject, ldap.NeverDerefAliases, 0, 0, false, "(objectClass=*)",
			[]string{"msDS-ManagedPassword"}, nil))
		r.must(err)
		if len(e.Entries) != 1 || len(e.Entries[0].Attributes) != 1 {
			r.Fatalf("%s has no password to read", account.DN)
		}
		return us(cpuOfPID(r, os.Getpid()) - before)
	}
	for range 20 {
		d.Advance(30 * 24 * time.Hour)
		first := read()
		f.rounds = append(f.rounds, usual.rounds.median()+first-read())
	}
	return f
}

// bind binds with a password, again and again on the same connection.
func (s server) bind(r *run) contender {
	conns := perWorker(func() *ldap.Conn { return dialTLS(r, s.tls, &tls.Config{ServerName: s.host, RootCAs: s.roots}) })
	return contender{name: s.name + ": simple bind, kept TLS connections", pid: s.pid, do: eachWith(conns, func(c *ldap.Conn, _ int) error {
		return c.Bind(s.user, s.password)
	})}
}

// addManaged makes the host web1 and the gMSA webapp01, whose password it may read.
func (c *controller) addManaged(r *run) {
	c.addComputer(r, "web1")
	tool(r, nil, "", c.program, "account", "create", "webapp01", "--dns", "webapp01."+lab.DNSDomain, "--hosts", "web1$",
		"--domain", lab.DNSDomain, "--dc", c.ip, "-U", lab.Administrator, "--password-file", c.data+"/../password")
}
