// Package lab is test support: real peers from Debian's packages (a Samba domain
// controller, PostgreSQL, Apache, runc), started for a test and ended with it.
//
// It is not part of the product, and it imports nothing of it: what is tested here
// is tested against programs that nobody of this project wrote.
//
// A peer listens on an address of 127.0.0.0/8 of its own, keeps everything in a
// temporary directory, and ends with the test process however that ends, because a
// small shell between the two waits for the closing of a pipe. Nothing that the lab
// did not start is ever signalled.
//
// Read [Samba] first.
package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// Environment variables that say how the lab behaves.
const (
	// NoSkip set to 1 makes a missing peer a failure. CI sets it.
	NoSkip = "GMSA_NO_SKIP"
	// Off set to 1 skips every test that needs a peer, whether or not it is
	// installed: make test-quick sets it.
	Off = "GMSA_LAB_OFF"
	// Cache names the directory for what is slow to make (a provisioned domain, a
	// container's root file system). The default is opengmsa-lab in the user's
	// cache directory.
	Cache = "GMSA_LAB_CACHE"
)

// packages gives the Debian package of each program that tests ask for.
var packages = map[string]string{
	"apache2":         "apache2",
	"conmon":          "conmon",
	"curl":            "curl",
	"dig":             "bind9-dnsutils",
	"dockerd":         "docker.io",
	"faketime":        "faketime",
	"fish":            "fish",
	"getent":          "libc-bin",
	"groff":           "groff-base",
	"host":            "bind9-host",
	"initdb":          "postgresql",
	"ip":              "iproute2",
	"iptables":        "iptables",
	"kadmin.local":    "krb5-admin-server",
	"kdb5_util":       "krb5-kdc",
	"kinit":           "krb5-user",
	"klist":           "krb5-user",
	"krb5kdc":         "krb5-kdc",
	"ktutil":          "krb5-user",
	"kvno":            "krb5-user",
	"ldapsearch":      "ldap-utils",
	"ldapwhoami":      "ldap-utils",
	"ldbedit":         "ldb-tools",
	"ldbmodify":       "ldb-tools",
	"ldbsearch":       "ldb-tools",
	"mmdebstrap":      "mmdebstrap",
	"newuidmap":       "uidmap",
	"nsenter":         "util-linux",
	"net":             "samba-common-bin",
	"nslookup":        "bind9-dnsutils",
	"nsupdate":        "bind9-dnsutils",
	"openssl":         "openssl",
	"podman":          "podman",
	"postgres":        "postgresql",
	"protoc":          "protobuf-compiler",
	"psql":            "postgresql",
	"python3":         "python3",
	"ldd":             "libc-bin",
	"runc":            "runc",
	"samba":           "samba-ad-dc (4.22; bookworm-backports on Debian 12)",
	"samba_spnupdate": "samba-ad-dc (4.22; bookworm-backports on Debian 12)",
	"samba-tool":      "samba-ad-provision (4.22; bookworm-backports on Debian 12)",
	"setpriv":         "util-linux",
	"slapadd":         "slapd",
	"slapd":           "slapd",
	"slappasswd":      "slapd",
	"script":          "bsdutils",
	"setsid":          "util-linux",
	"ssh":             "openssh-client",
	"strace":          "strace",
	"smbclient":       "smbclient",
	"smbd":            "samba",
	"systemd-nspawn":  "systemd-container",
	"taskset":         "util-linux",
	"unshare":         "util-linux",
	"winbindd":        "winbind",
	"zsh":             "zsh",
}

// libraries are the peers that are files rather than programs.
var libraries = map[string]struct{ pattern, pkg string }{
	"bash-completion": {"/usr/share/bash-completion/bash_completion", "bash-completion"},
	"libfaketime":     {"/usr/lib/*/faketime/libfaketime.so.1", "libfaketime"},
	"libnss_wrapper":  {"/usr/lib/*/libnss_wrapper.so", "libnss-wrapper"},
	"mod_auth_gssapi": {"/usr/lib/apache2/modules/mod_auth_gssapi.so", "libapache2-mod-auth-gssapi"},
	"python3-grpcio":  {"/usr/lib/python3/dist-packages/grpc/__init__.py", "python3-grpcio and python3-protobuf"},
	"python3-ldap3":   {"/usr/lib/python3/dist-packages/ldap3/__init__.py", "python3-ldap3"},
	"python3-gssapi":  {"/usr/lib/python3/dist-packages/gssapi/__init__.py", "python3-gssapi"},
	"sasl-gssapi":     {"/usr/lib/*/sasl2/libgssapiv2.so", "libsasl2-modules-gssapi-mit"},
	"samba-provision": {"/usr/share/samba/setup/provision.ldif", "samba-ad-provision"},
}

// Need skips the test unless every one of the programs is installed, and says which
// Debian package brings the missing ones. A name is a program or a key of libraries,
// such as "libfaketime"; "root" means that the test must run as root, if only of its
// own user namespace, and "users" as root that can become other users. With GMSA_NO_SKIP=1 it fails the test instead.
func Need(t testing.TB, programs ...string) {
	t.Helper()
	if os.Getenv(Off) == "1" {
		t.Skip("tests with real peers are switched off by " + Off)
	}
	if runtime.GOOS != "linux" {
		skip(t, "Linux", "a Debian machine")
	}
	for _, p := range programs {
		switch {
		case p == "root":
			if os.Geteuid() != 0 {
				skip(t, "root", "sudo, or: unshare -Urnm sh -c 'ip link set lo up; make test'")
			}
		case p == "users":
			if os.Geteuid() != 0 || !allUsers() {
				skip(t, "root that can become any user", "sudo; root of a user namespace is not enough")
			}
		case find(p) == "":
			skip(t, p, packageOf(p))
		}
	}
}

// allUsers reports whether this user namespace has a wide range of users: root of
// an own one has itself alone.
func allUsers() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	var inside, outside, count uint64
	_, err = fmt.Sscan(string(b), &inside, &outside, &count)
	return err == nil && inside == 0 && count > 60000
}

// skip ends the test: skipped with a text that testreport lists, or failed where
// nothing may skip.
func skip(t testing.TB, what, pkg string) {
	t.Helper()
	text := fmt.Sprintf("needs %s; hint: install %s", what, pkg)
	if os.Getenv(NoSkip) == "1" {
		t.Fatal(text)
	}
	t.Skip(text)
}

// find gives the path of a program or library, or nothing. Daemons live in
// directories that a user's PATH often lacks, and PostgreSQL's in one with its version.
func find(name string) string {
	if lib, ok := libraries[name]; ok {
		return lastMatch(lib.pattern)
	}
	for _, dir := range []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin"} {
		if p := filepath.Join(dir, name); executable(p) {
			return p
		}
	}
	if p, err := exec.LookPath(name); err == nil {
		return p
	}
	return lastMatch("/usr/lib/postgresql/*/bin/" + name)
}

func lastMatch(pattern string) string {
	m, err := filepath.Glob(pattern)
	if err != nil || len(m) == 0 {
		return ""
	}
	return m[len(m)-1]
}

func executable(path string) bool {
	fi, err := os.Stat(path)
	return err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
}

func packageOf(name string) string {
	if lib, ok := libraries[name]; ok {
		return lib.pkg
	}
	if p, ok := packages[name]; ok {
		return p
	}
	return name
}

// cacheDir is where provisioned domains and root file systems are kept between runs.
func cacheDir() (string, error) {
	dir := os.Getenv(Cache)
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil { // no HOME, as in many CI jobs
			base = os.TempDir()
		}
		dir = filepath.Join(base, "opengmsa-lab")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the lab's cache: %w", err)
	}
	return dir, nil
}

// runTimeout bounds one run of a program: none of those that the lab runs to their
// end takes a tenth of it on two slow cores.
const runTimeout = 2 * time.Minute

// run runs a program and gives its output, both streams; an error carries them too.
func run(env []string, stdin, name string, args ...string) (string, error) {
	path := find(name)
	if path == "" {
		return "", fmt.Errorf("%s is not installed; hint: install %s", name, packageOf(name))
	}
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
