package lab

import (
	"errors"
	"fmt"
	"os"
	"testing"
)

// Join adds a second controller of that name (dc2) to the domain, on an address of
// its own, as samba-tool's domain join makes it: it has all of the domain replicated
// when it starts, which takes about 8 s. What is changed at one of the two later does
// not reach the other: nobody computes a topology in the lab. d must run.
func (d *DC) Join(t testing.TB, host string) *DC {
	t.Helper()
	Need(t, "libnss_wrapper")
	j, err := newDC(SambaConfig{Private: true, Realm: d.Realm}, d.Realm, host)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	if err := j.join(d, d.HostsEnv(t)); err != nil {
		t.Fatalf("lab: join a second controller: %v", errors.Join(err, j.close()))
	}
	j.closeAfter(t)
	return j
}

// join makes the controller's database from first's, and starts the controller. hosts
// lets the tool find first by its name.
func (d *DC) join(first *DC, hosts []string) error {
	host := d.Host[:len(d.Host)-len(d.DNSDomain)-1]
	_, err := run(append(first.Env(), hosts...), "", "samba-tool", "domain", "join", d.DNSDomain, "DC", "--server="+first.Host,
		"-U"+Administrator+"%"+AdminPassword, "--realm="+d.Realm, "--dns-backend=SAMBA_INTERNAL", "--targetdir="+d.Dir,
		"--option=netbios name="+host, "--option=interfaces="+d.IP.String()+"/8", "--option=bind interfaces only=yes",
		"--option=ldb:nosync=true", "--option=ad dc functional level=2016")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(d.Dir+"/tls", 0o755); err != nil {
		return err
	}
	// One CA signs for both; the script takes a CA that is there.
	for _, f := range []string{"/tls/ca.pem", "/tls/ca.key"} {
		if err := copyFile(d.Dir+f, first.Dir+f, 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(d.Dir+"/.provisioned", nil, 0o644); err != nil {
		return err
	}
	if err := d.writeConf(); err != nil {
		return err
	}
	if _, err := run(nil, "", "samba_spnupdate", "--configfile="+d.Dir+"/etc/smb.conf"); err != nil {
		return fmt.Errorf("names of the controller: %w", err)
	}
	return d.start()
}
