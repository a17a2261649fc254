package lab

import (
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// A Postgres is a PostgreSQL server that lets in whoever has a Kerberos ticket of the
// domain, as the role with the name of the ticket's client without its realm.
type Postgres struct {
	Host string // its name, db.contoso.com: the service principal is postgres/Host
	IP   netip.Addr

	dir string // also of its Unix socket
}

// postgresUser runs the server, which refuses to run as root.
const postgresUser = "postgres"

// PostgresServer starts a PostgreSQL server of the domain for the test. Its service
// account is the computer db$, which it makes where the domain has none.
func PostgresServer(t testing.TB, dc *DC) *Postgres {
	t.Helper()
	Need(t, "root", "postgres", "psql", "initdb", "setpriv")
	account, err := user.Lookup(postgresUser)
	if err != nil {
		skip(t, "the user "+postgresUser, "postgresql")
	}
	uid, err := strconv.Atoi(account.Uid)
	dc.must(t, err)
	gid, err := strconv.Atoi(account.Gid)
	dc.must(t, err)

	p := &Postgres{Host: "db." + dc.DNSDomain}
	keytab := dc.serviceKeytab(t, "db", "postgres/"+p.Host)
	dir, addr := serviceDir(t)
	p.dir, p.IP = dir, addr.ip
	moved := filepath.Join(dir, "keytab")
	dc.must(t, copyFile(moved, keytab, 0o600))
	for _, name := range []string{dir, moved} {
		dc.must(t, os.Chown(name, uid, gid))
	}

	data := filepath.Join(dir, "data")
	_, err = run([]string{"LC_ALL=C.UTF-8"}, "", "setpriv", initdb(data)...)
	dc.must(t, err)
	dc.must(t, os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(hba(dc.Realm)), 0o644))
	proc, err := spawn{dir: dir, log: filepath.Join(dir, "log"), lock: addr.lock, sig: "INT", env: dc.Env(),
		argv: append([]string{find("setpriv")}, p.serve(data, moved)...)}.start()
	dc.must(t, err)
	endWithTest(t, proc, dir, addr)
	dc.must(t, await(netip.AddrPortFrom(p.IP, 5432).String(), proc))
	return p
}

// initdb are setpriv's arguments that make a cluster.
func initdb(data string) []string {
	return asPostgres(find("initdb"), "-D", data, "-A", "trust", "--no-sync", "-E", "UTF8")
}

// hba lets in whoever has a ticket of the realm, and the superuser on this machine.
func hba(realm string) string {
	return "local all postgres trust\n" +
		"hostgssenc all all all gss include_realm=0 krb_realm=" + realm + "\n" +
		"hostnogssenc all all all gss include_realm=0 krb_realm=" + realm + "\n"
}

// serve are setpriv's arguments that run the server.
func (p *Postgres) serve(data, keytab string) []string {
	return asPostgres(find("postgres"), "-D", data, "-k", p.dir, "-c", "listen_addresses="+p.IP.String(),
		"-c", "krb_server_keyfile="+keytab, "-c", "fsync=off", "-c", "shared_buffers=16MB", "-c", "max_connections=20")
}

// asPostgres gives setpriv's arguments that run the program as PostgreSQL's user.
func asPostgres(argv ...string) []string {
	return append([]string{"--reuid=" + postgresUser, "--regid=" + postgresUser, "--init-groups", "--"}, argv...)
}

// SQL runs statements as the superuser and gives what they print, unaligned.
func (p *Postgres) SQL(t testing.TB, sql string) string {
	t.Helper()
	out, err := run(nil, "", "psql", "-h", p.dir, "-U", postgresUser, "-AtX", "-v", "ON_ERROR_STOP=1", "-c", sql)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return strings.TrimSpace(out)
}

// Role lets a client in: its name is that of its ticket, such as webapp01$.
func (p *Postgres) Role(t testing.TB, name string) {
	t.Helper()
	p.SQL(t, fmt.Sprintf(`create role "%s" login`, strings.ReplaceAll(name, `"`, `""`)))
}

// ConnInfo is libpq's connection string for a role: psql takes it as an argument.
func (p *Postgres) ConnInfo(role string) string {
	return fmt.Sprintf("host=%s hostaddr=%s dbname=postgres user=%s", p.Host, p.IP, role)
}

// GSSQuery shows how the client of its own connection has authenticated.
const GSSQuery = `select gss_authenticated, principal, encrypted, current_user from pg_stat_gssapi where pid = pg_backend_pid()`
