package lab

import (
	"errors"
	"net"
	"syscall"
)

// QuickAck is a connection to a Samba that acknowledges at once what arrives. Samba writes
// an answer in two pieces and holds the second back until the first is acknowledged, for
// which Linux otherwise takes its time: 40 ms a search.
func QuickAck(conn *net.TCPConn) net.Conn { return quickAck{conn} }

type quickAck struct{ *net.TCPConn }

// Write asks for quick acknowledgements anew each time: with what it sends, the kernel goes
// back to its own ways.
func (c quickAck) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	return n, errors.Join(err, c.quick())
}

func (c quickAck) quick() error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_QUICKACK, 1)
	})
	return errors.Join(err, set)
}
