package lab

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// The addresses of a Net: of whatever the test serves in it, and of the client that its
// programs believe to run on.
var (
	NetServer = netip.MustParseAddr("10.77.0.10")
	NetClient = netip.MustParseAddr("10.77.0.20")
)

// An address is one of 127.77.0.0/16, which no other process of this machine that
// uses the lab has at the same time.
type address struct {
	ip   netip.Addr
	lock *os.File // locked as long as the address is in use, by us or by what we started
}

func (a *address) release() { a.lock.Close() }

// allotAddress takes a free loopback address. Processes agree by file locks, which
// the kernel drops with the last process that holds the file.
func allotAddress() (*address, error) {
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("opengmsa-lab-%d", os.Getuid()))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("allot a loopback address: %w", err)
	}
	// Starting at a number of this process's own spares most of the collisions.
	start := os.Getpid() % 250
	for i := range 250 * 4 {
		n := start + i
		ip := netip.AddrFrom4([4]byte{127, 77, byte(n / 250 % 256), byte(n%250 + 2)})
		lock, err := lockFile(filepath.Join(dir, ip.String()), false)
		if err == nil {
			return &address{ip: ip, lock: lock}, nil
		}
	}
	return nil, fmt.Errorf("allot a loopback address: all are taken (locks in %s)", dir)
}
