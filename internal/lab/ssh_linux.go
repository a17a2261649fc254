package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

// An SSH is a login server that lets in by Kerberos alone.
type SSH struct {
	Host string // its name, ssh.contoso.com: the service principal is host/Host
	IP   netip.Addr
}

// runSSHD runs the server of the lab's Debian, which sees nothing else of this machine
// than the directories at the end. $1 and $2 are those of mountRoot, $3 the keytab, $4 the
// user, $5 the address.
const runSSHD = mountRoot + ` &&
install -m 600 "$3" etc/krb5.keytab && mkdir -p run/sshd home/login &&
echo "$4:*:1500:1500::/home/login:/bin/sh" >>etc/passwd && echo "$4:*:19000::::::" >>etc/shadow || exit
address=$5; shift 5
for d; do mkdir -p ".$d" && mount --bind "$d" ".$d" || exit; done
exec chroot . /usr/sbin/sshd -D -e -o ListenAddress="$address" -o UsePAM=no -o PasswordAuthentication=no \
	-o GSSAPIAuthentication=yes -o GSSAPIStrictAcceptorCheck=no`

// SSHServer starts a login server of the domain for the test, with one user, whose name
// is that of a ticket's client without its realm: WebApp01$. Its service account is the
// computer ssh$, which it makes where the domain has none.
func SSHServer(t testing.TB, dc *DC, user string) *SSH {
	t.Helper()
	Need(t, "users", "mmdebstrap", "unshare", "ssh")
	suite, err := release()
	dc.must(t, err)
	root, err := cachedRoot(suite, rootPackages)
	dc.must(t, err)
	s := &SSH{Host: "ssh." + dc.DNSDomain}
	keytab := dc.serviceKeytab(t, "ssh", "host/"+s.Host)
	dir, addr := serviceDir(t)
	s.IP = addr.ip
	moved := filepath.Join(dir, "keytab")
	dc.must(t, copyFile(moved, keytab, 0o600))
	mount := filepath.Join(dir, "root")
	dc.must(t, os.Mkdir(mount, 0o755))
	argv := []string{
		find("unshare"), "--mount", "--propagation", "private", "sh", "-c", runSSHD, "sshd",
		root, mount, moved, user, s.IP.String(), dc.Dir,
	}
	if dc.clock != "" {
		argv = append(argv, filepath.Dir(find("libfaketime")))
	}
	proc, err := spawn{dir: dir, log: filepath.Join(dir, "log"), lock: addr.lock, env: dc.Env(), argv: argv}.start()
	dc.must(t, err)
	endWithTest(t, proc, dir, addr)
	dc.must(t, await(netip.AddrPortFrom(s.IP, 22).String(), proc))
	return s
}

// Args are ssh's arguments that run a command as the user, who has no file and no name
// server to find the host by.
func (s *SSH) Args(user, command string) []string {
	args := []string{"-F", "none", "-o", "GSSAPIServerIdentity=" + s.Host}
	for _, o := range []string{
		"BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR",
		"GSSAPIAuthentication=yes", "PreferredAuthentications=gssapi-with-mic",
	} {
		args = append(args, "-o", o)
	}
	return append(args, fmt.Sprintf("%s@%s", user, s.IP), command)
}
