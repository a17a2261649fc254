package lab

import (
	"net/netip"
)

// The services of a Net have names that its name server knows, so that clients find them
// as they would anywhere, and end with it.

// Apache starts a web server at an address of the Net.
func (n *Net) Apache(at netip.Addr, cfg ApacheConfig) {
	n.t.Helper()
	Need(n.t, "apache2", "mod_auth_gssapi")
	if cfg.User == "" {
		cfg.User = "www-data"
	}
	const dir = "/run/apache"
	n.WriteFile(dir+"/www/index.html", []byte("served\n"), 0o644)
	n.WriteFile(dir+"/apache2.conf", []byte(apacheConf(dir, &Apache{Host: cfg.Host, IP: at}, cfg)), 0o644)
	n.Start(dir+"/log", "env", append(cfg.Env, find("apache2"), "-D", "FOREGROUND", "-f", dir+"/apache2.conf")...)
	n.Await(netip.AddrPortFrom(at, 80))
}

// Postgres starts a PostgreSQL server at an address of the Net, with roles for clients of
// the realm. The keytab is a file of the Net.
func (n *Net) Postgres(at netip.Addr, realm, keytab string, roles ...string) {
	n.t.Helper()
	Need(n.t, "users", "postgres", "psql", "initdb", "setpriv")
	p := &Postgres{IP: at, dir: "/run/postgres"}
	data := p.dir + "/data"
	n.Run("install", "-d", "-o", postgresUser, p.dir)
	n.Run("install", "-o", postgresUser, "-m", "600", keytab, p.dir+"/keytab")
	n.Run("setpriv", initdb(data)...)
	n.WriteFile(data+"/pg_hba.conf", []byte(hba(realm)), 0o644)
	n.Start(p.dir+"/log", "setpriv", p.serve(data, p.dir+"/keytab")...)
	n.Await(netip.AddrPortFrom(at, 5432))
	for _, r := range roles {
		n.Run("psql", "-h", p.dir, "-U", postgresUser, "-c", `create role "`+r+`" login`)
	}
}
