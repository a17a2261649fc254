package lab

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// kcmScript starts sssd-kcm of the package's files, $1, in mounts of its own: with them
// beside this machine's libraries, with a database of its own, and with a /run, $2, that
// only its socket is in. It is started without SSSD, and has its defaults.
const kcmScript = `
mount -t overlay overlay -o "lowerdir=$1/usr/lib:/usr/lib" /usr/lib &&
mount -t tmpfs tmpfs /var/lib && mkdir -p /var/lib/sss/db /var/lib/sss/secrets &&
mount -t tmpfs tmpfs /var/log && mkdir /var/log/sssd && mount --bind "$2" /run &&
exec "$1/usr/libexec/sssd/sssd_kcm" --uid 0 --gid 0 --logger=stderr`

// KCM starts sssd-kcm, which is not installed here because it would bring SSSD's modules
// for logons along, and returns its socket.
func KCM(t testing.TB) string {
	t.Helper()
	Need(t, "root", "unshare")
	u := Unpack(t, "sssd-kcm", `sss\|libdhash\|libbasicobjects\|libcollection\|libpath-utils\|libref-array\|libini-config`)
	run, err := os.MkdirTemp("", "gmsa-kcm-")
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run) })
	env := []string{"LD_LIBRARY_PATH=" + u.Libraries() + ":" + filepath.Join(u.Libraries(), "sssd")}
	daemon := StartDaemon(t, env, "unshare", "-m", "sh", "-c", kcmScript, "sh", u.Dir, run)
	socket := filepath.Join(run, ".heim_org.h5l.kcm-socket")
	Eventually(t, 10*time.Second, func() error {
		if !daemon.Alive() {
			t.Fatalf("lab: sssd_kcm ended:\n%s", daemon.Log())
		}
		_, err := os.Stat(socket)
		return err
	})
	return socket
}
