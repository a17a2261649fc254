//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// heimdalKDC starts Heimdal's KDC with n principals.
func heimdalKDC(r *run, n int) kdc {
	files := lab.Unpack(r, "heimdal-kdc", "heimdal")
	dir := r.tmpfs()
	k := kdc{name: "Heimdal", realm: "HEIMDAL.EXAMPLE", keytab: dir + "/keytab", conf: dir + "/krb5.conf", address: freeAddress(r)}
	host, port, _ := strings.Cut(k.address, ":")
	r.must(os.WriteFile(k.conf, fmt.Appendf(nil, `[libdefaults]
  default_realm = %[1]s
[kdc]
  database = {
    dbname = %[2]s/heimdal
    realm = %[1]s
    mkey_file = %[2]s/m-key
    log_file = %[2]s/log
  }
  require-preauth = true
[kadmin]
  default_keys = aes256-cts-hmac-sha1-96:pw-salt
[logging]
  kdc = FILE:%[2]s/kdc.log
  default = FILE:%[2]s/default.log
`, k.realm, dir), 0o644))
	var script strings.Builder
	fmt.Fprintf(&script, "init --realm-max-ticket-life=10h --realm-max-renewable-life=7d %s\nadd -r --use-defaults %s\n", k.realm, benchService)
	for i := range n {
		fmt.Fprintf(&script, "add -r --use-defaults svc%05d\next_keytab -k %s svc%05d\n", i, k.keytab, i)
	}
	env := []string{"KRB5_CONFIG=" + k.conf, "LD_LIBRARY_PATH=" + files.Libraries()}
	tool(r, env, "", filepath.Join(files.Dir, "usr/sbin/kstash"), "--random-key", "--key-file="+dir+"/m-key")
	tool(r, env, script.String(), filepath.Join(files.Dir, "usr/bin/kadmin.heimdal"), "-l")
	k.pid = lab.StartDaemon(r, env, filepath.Join(files.Dir, "usr/lib/heimdal-servers/kdc"), "--config-file="+k.conf,
		"--addresses="+host, "--ports="+port, "--no-kdc-request-log").PID()
	awaitTCP(r, k.address)
	k.accounts = readAccounts(r, k.keytab)
	return k
}
