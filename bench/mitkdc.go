//go:build linux

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/internal/kclient"
	"github.com/opengmsa/opengmsa/internal/lab"
	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"github.com/opengmsa/opengmsa/krb5/keytab"
)

// mitRealm is the realm of the MIT KDC.
const mitRealm = "BENCH.EXAMPLE"

// A kdc is what the refresh is measured against.
type kdc struct {
	name    string
	realm   string
	address string // Kerberos over TCP
	// accounts have a key of AES256 each; the keytab has all of them.
	accounts []principal
	keytab   string
	conf     string // krb5.conf for MIT's programs
	pid      int    // of the server
}

// A principal is an account and its key.
type principal struct {
	name krb5.PrincipalName
	key  *crypto.Key
}

// mitKDC starts an MIT KDC with n principals. Services are more principals, with a keytab
// of their own, see kdc.services.
func mitKDC(r *run, n int, services ...string) kdc {
	lab.Need(r, "krb5kdc", "kdb5_util", "kadmin.local")
	m := mitFiles{dir: r.tmpfs(), address: freeAddress(r)}
	m.write(r)
	k := kdc{name: "MIT krb5kdc", realm: mitRealm, address: m.address, keytab: m.dir + "/keytab", conf: m.conf()}
	var script strings.Builder
	for i := range n {
		fmt.Fprintf(&script, "addprinc -randkey svc%05d$\n", i)
	}
	for i := range n {
		fmt.Fprintf(&script, "ktadd -q -norandkey -k %s svc%05d$\n", k.keytab, i)
	}
	for _, s := range services {
		fmt.Fprintf(&script, "addprinc -randkey %[1]s\nktadd -q -norandkey -k %[2]s %[1]s\n", s, k.services())
	}
	m.create(r, script.String())
	k.pid = m.serve(r).PID()
	awaitTCP(r, k.address)
	k.accounts = readAccounts(r, k.keytab)
	return k
}

// mitFiles are the files of an MIT KDC: one process without any write to its database in
// an AS exchange, the cheapest KDC there is.
type mitFiles struct{ dir, address string }

func (m mitFiles) conf() string { return m.dir + "/krb5.conf" }

func (m mitFiles) env() []string {
	return []string{"KRB5_CONFIG=" + m.conf(), "KRB5_KDC_PROFILE=" + m.dir + "/kdc.conf"}
}

func (m mitFiles) write(r *run) {
	r.must(os.WriteFile(m.conf(), fmt.Appendf(nil, `[libdefaults]
  default_realm = %[1]s
  dns_lookup_kdc = false
  dns_lookup_realm = false
  rdns = false
  dns_canonicalize_hostname = false
  udp_preference_limit = 1
[realms]
  %[1]s = {
    kdc = %[2]s
  }
`, mitRealm, m.address), 0o644))
	r.must(os.WriteFile(m.dir+"/kdc.conf", fmt.Appendf(nil, `[kdcdefaults]
  kdc_listen = %[2]s
  kdc_tcp_listen = %[2]s
[realms]
  %[1]s = {
    database_module = db
    max_life = 10h
    supported_enctypes = aes256-cts-hmac-sha1-96:normal
    default_principal_flags = +preauth
    key_stash_file = %[3]s/stash
  }
[dbmodules]
  db = {
    db_library = db2
    database_name = %[3]s/principal
    disable_last_success = true
    disable_lockout = true
  }
`, mitRealm, m.address, m.dir), 0o644))
}

// create makes the realm, and what the commands of kadmin say.
func (m mitFiles) create(r *run, commands string) {
	tool(r, m.env(), "", "kdb5_util", "create", "-s", "-P", "master", "-r", mitRealm)
	tool(r, m.env(), commands, "kadmin.local")
}

func (m mitFiles) serve(r *run) *lab.Daemon {
	return lab.StartDaemon(r, m.env(), "krb5kdc", "-n", "-r", mitRealm)
}

// services is the keytab of the KDC's services.
func (k kdc) services() string { return filepath.Join(filepath.Dir(k.conf), "services.keytab") }

// tool runs a program to its end.
func tool(r *run, env []string, stdin, name string, args ...string) {
	output(r, env, stdin, name, args...)
}

// output runs a program to its end and gives what it printed, on both streams.
func output(r *run, env []string, stdin, name string, args ...string) string {
	path, err := exec.LookPath(name)
	if err != nil {
		path = filepath.Join("/usr/sbin", name)
	}
	cmd := exec.CommandContext(r.ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// readAccounts reads the principals of a keytab that have an AES256 key.
func readAccounts(r *run, file string) (list []principal) {
	b, err := os.ReadFile(file)
	r.must(err)
	kt, err := keytab.Parse(b)
	r.must(err)
	for _, e := range kt.Entries {
		if e.Key != nil && e.Key.EType() == crypto.AES256SHA1 {
			list = append(list, principal{e.Principal.Name, e.Key})
		}
	}
	return list
}

// kdcs names the KDC for the client.
func (k kdc) kdcs() kclient.KDCs {
	return kclient.Static{{Host: k.name, Kerberos: k.address}}
}

// freeAddress is an address of this machine on which nobody listens.
func freeAddress(r *run) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	defer l.Close()
	return l.Addr().String()
}

// awaitTCP waits until somebody listens.
func awaitTCP(r *run, address string) {
	for range 500 {
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			c.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	r.Fatalf("nobody listens on %s", address)
}
