package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// An Apache is a web server whose pages need a Kerberos ticket (SPNEGO, by
// mod_auth_gssapi), and which answers with the name of the ticket's client in the
// header X-Remote-User.
type Apache struct {
	Host string // its name: clients ask for HTTP/Host
	IP   netip.Addr
}

// ApacheConfig describes a server for [ApacheNegotiate].
type ApacheConfig struct {
	Host   string   // such as webapp01.contoso.com
	Keytab string   // of the service; the user below must be able to read it
	User   string   // runs the server's children, www-data by default
	Env    []string // of the server, such as KRB5_CONFIG
}

// WebServer starts a web server of the domain for the test. Its service account is the
// computer www$, which it makes where the domain has none.
func WebServer(t testing.TB, dc *DC) *Apache {
	t.Helper()
	Need(t, "root", "apache2", "mod_auth_gssapi")
	host := "www." + dc.DNSDomain
	account, err := user.Lookup("www-data")
	dc.must(t, err)
	uid, err := strconv.Atoi(account.Uid)
	dc.must(t, err)
	b, err := os.ReadFile(dc.serviceKeytab(t, "www", "HTTP/"+host))
	dc.must(t, err)
	keytab := filepath.Join(dc.Dir, "www.keytab") // where every user comes to
	dc.must(t, errors.Join(os.WriteFile(keytab, b, 0o600), os.Chown(keytab, uid, -1)))
	return ApacheNegotiate(t, ApacheConfig{Host: host, Keytab: keytab, User: account.Username, Env: dc.Env()})
}

// ApacheNegotiate starts a web server for the test.
func ApacheNegotiate(t testing.TB, cfg ApacheConfig) *Apache {
	t.Helper()
	Need(t, "root", "apache2", "mod_auth_gssapi")
	if cfg.User == "" {
		cfg.User = "www-data"
	}
	dir, addr := serviceDir(t)
	a := &Apache{Host: cfg.Host, IP: addr.ip}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("lab: start Apache: %v", err)
		}
	}
	must(os.Mkdir(filepath.Join(dir, "www"), 0o755))
	must(os.WriteFile(filepath.Join(dir, "www", "index.html"), []byte("served\n"), 0o644))
	conf := filepath.Join(dir, "apache2.conf")
	must(os.WriteFile(conf, []byte(apacheConf(dir, a, cfg)), 0o644))
	proc, err := spawn{dir: dir, log: filepath.Join(dir, "log"), lock: addr.lock, env: cfg.Env,
		argv: []string{find("apache2"), "-D", "FOREGROUND", "-f", conf}}.start()
	must(err)
	endWithTest(t, proc, dir, addr)
	must(await(netip.AddrPortFrom(a.IP, 80).String(), proc))
	return a
}

func apacheConf(dir string, a *Apache, cfg ApacheConfig) string {
	var b strings.Builder
	for _, m := range []string{"mpm_event", "authn_core", "authz_core", "authz_user", "auth_gssapi", "headers", "dir"} {
		fmt.Fprintf(&b, "LoadModule %s_module /usr/lib/apache2/modules/mod_%s.so\n", m, m)
	}
	fmt.Fprintf(&b, `ServerName %[2]s
Listen %[3]s:80
PidFile %[1]s/apache2.pid
DefaultRuntimeDir %[1]s
User %[4]s
Group %[4]s
ErrorLog %[1]s/error.log
DocumentRoot %[1]s/www
ServerLimit 1
StartServers 1
ThreadsPerChild 8
MaxRequestWorkers 8
MinSpareThreads 1
MaxSpareThreads 8
DirectoryIndex index.html
<Location />
	AuthType GSSAPI
	AuthName "%[2]s"
	GssapiCredStore keytab:%[5]s
	GssapiAllowedMech krb5
	Require valid-user
	Header always set X-Remote-User "expr=%%{REMOTE_USER}"
</Location>
`, dir, a.Host, a.IP, cfg.User, cfg.Keytab)
	return b.String()
}

// Curl fetches the server's page with the environment's credentials and gives the
// answer's headers and body, and curl's fault if any.
func (a *Apache) Curl(t testing.TB, env []string) (string, error) {
	t.Helper()
	Need(t, "curl")
	return run(env, "", "curl", a.CurlArgs()...)
}

// CurlArgs are curl's arguments for that.
func (a *Apache) CurlArgs() []string {
	return []string{"-sS", "-i", "--fail", "--max-time", "20", "--negotiate", "-u", ":",
		"--noproxy", "*", "--resolve", a.Host + ":80:" + a.IP.String(), "http://" + a.Host + "/"}
}
