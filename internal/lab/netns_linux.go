package lab

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cable is the first process of a Net. /etc and /var are this machine's, with changes
// that nobody else sees, so that programs can join a domain as they do on a host of
// their own; /run is empty. $1 is a directory, $2 the host's name, then addresses.
const cable = `
dir=$1; hostname "$2"; shift 2
ip link set lo up
for a; do ip addr add "$a" dev lo; done
mount -t tmpfs -o mode=0755 tmpfs /run &&
mount -t tmpfs -o mode=0755 tmpfs "$dir" || exit
for d in etc var; do
	mkdir -p "$dir/$d/up" "$dir/$d/work" &&
	mount -t overlay overlay -o "lowerdir=/$d,upperdir=$dir/$d/up,workdir=$dir/$d/work" "/$d" || exit
done
: >/run/ready
exec sleep infinity`

// Net is a host with a network of its own, in which the test serves on the ports that
// clients expect and their programs find it by DNS, with this machine's files. What
// runs in it ends with the test.
type Net struct {
	*Machine
}

// Netns makes a Net whose host has that name: client1.contoso.com. Its programs ask
// the name server at [NetServer].
func Netns(t testing.TB, host string) *Net {
	t.Helper()
	Need(t, "root", "unshare", "nsenter", "ip")
	dir := t.TempDir()
	p, err := spawn{
		dir: dir, log: filepath.Join(dir, "console"),
		argv: []string{find("unshare"), "--net", "--mount", "--uts", "--ipc", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc",
			"/bin/sh", "-c", cable, "cable", dir, host, NetServer.String() + "/24", NetClient.String() + "/24"},
	}.start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.kill(); err != nil {
			t.Error(err)
		}
	})
	n := &Net{Machine: &Machine{t: t}}
	Eventually(t, 10*time.Second, func() error {
		if n.leader, err = onlyChild(p.pid); err != nil {
			return fmt.Errorf("%w\n%s", err, tail(filepath.Join(dir, "console"), 2000))
		}
		_, err := os.Stat(n.Path("/run/ready"))
		return err
	})
	n.WriteFile("/etc/hosts", fmt.Appendf(nil, "127.0.0.1 localhost\n%s %s\n", NetClient, host), 0o644)
	// A name server that does not answer is noticed within a second.
	n.WriteFile("/etc/resolv.conf", fmt.Appendf(nil, "nameserver %s\noptions timeout:1 attempts:2\n", NetServer), 0o644)
	return n
}

// Start starts a program in the Net that ends with it. What it prints goes to the file log.
func (n *Net) Start(log, name string, args ...string) {
	n.t.Helper()
	n.Run("sh", append([]string{"-c", `log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 &`, "sh", log, name}, args...)...)
}

// AddAddress gives the host one more address.
func (n *Net) AddAddress(ip netip.Addr) {
	n.t.Helper()
	n.Run("ip", "addr", "add", ip.String()+"/24", "dev", "lo")
}

// Await waits until an address of the Net accepts connections.
func (n *Net) Await(address netip.AddrPort) {
	n.t.Helper()
	Eventually(n.t, 30*time.Second, func() error {
		c, err := n.Dial(context.Background(), "tcp", address.String())
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// Listen listens on an address of the Net.
func (n *Net) Listen(network, address string) (l net.Listener, err error) {
	err = n.Within(func() error {
		l, err = net.Listen(network, address)
		return err
	})
	return l, err
}

// ListenPacket listens for datagrams on an address of the Net.
func (n *Net) ListenPacket(network, address string) (c net.PacketConn, err error) {
	err = n.Within(func() error {
		c, err = net.ListenPacket(network, address)
		return err
	})
	return c, err
}

// Dial connects to an address of the Net, for clients of the test's own.
func (n *Net) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.Within(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// join is the command that starts a program in the network, with this machine's files.
func (n *Net) join() []string {
	return []string{find("nsenter"), fmt.Sprintf("--net=/proc/%d/ns/net", n.leader), "--"}
}

// Within calls f on a thread that is in the Net. A socket stays where it was made; the
// thread is given up with its goroutine.
func (n *Net) Within(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- func() error {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", n.leader))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return fmt.Errorf("enter the network of process %d: %w", n.leader, err)
			}
			return f()
		}()
	}()
	return <-done
}
