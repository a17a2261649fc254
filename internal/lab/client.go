package lab

import (
	"net/netip"
	"testing"
)

// Address gives the test a loopback address on which nothing else of this machine's
// labs listens, for a service of the test's own on the ports that clients expect.
func Address(t testing.TB) netip.Addr {
	t.Helper()
	addr, err := allotAddress()
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	t.Cleanup(addr.release)
	return addr.ip
}

// NameHosts are the variables by which programs that resolve names with libc read them
// from a file in the form of /etc/hosts. It needs libnss_wrapper.
func NameHosts(t testing.TB, file string) []string {
	t.Helper()
	Need(t, "libnss_wrapper")
	return []string{"NSS_WRAPPER_HOSTS=" + file, "LD_PRELOAD=" + find("libnss_wrapper")}
}

// Run runs a client program with more variables in its environment and text on its
// input, and gives its output, both streams; it fails the test when the program fails.
func Run(t testing.TB, env []string, stdin, name string, args ...string) string {
	t.Helper()
	out, err := run(env, stdin, name, args...)
	if err != nil {
		t.Fatalf("lab: %v", err)
	}
	return out
}

// Try is Run for a program that may fail.
func Try(env []string, stdin, name string, args ...string) (string, error) {
	return run(env, stdin, name, args...)
}
