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
