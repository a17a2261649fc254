//go:build linux

package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// keeperEnv makes this program a keeper instead: it names the address to listen on
// and the KDC.
const keeperEnv = "GMSA_BENCH_KEEPER"

// startKeeper puts a process before an MIT KDC that keeps its clients' connections,
// which krb5kdc closes after each answer (Active Directory's and Samba's KDCs keep
// them). It asks the KDC by datagram. Its processor time is not the client's.
func startKeeper(r *run, k kdc) kdc {
	self, err := os.Executable()
	r.must(err)
	behind := k.address
	k.address = freeAddress(r)
	lab.StartDaemon(r, []string{keeperEnv + "=" + k.address + " " + behind}, self)
	awaitTCP(r, k.address)
	return k
}

// keeper serves until the process ends.
func keeper(orders string) error {
	var listen, kdc string
	if _, err := fmt.Sscan(orders, &listen, &kdc); err != nil {
		return fmt.Errorf("read %s: %w", keeperEnv, err)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			_ = keep(conn, kdc) // the client sees the connection end
		}()
	}
}

// keep answers one client: each message with its length before it, RFC 4120,
// Section 7.2.2.
func keep(client net.Conn, kdc string) error {
	server, err := net.Dial("udp", kdc)
	if err != nil {
		return err
	}
	defer server.Close()
	in, buf := bufio.NewReader(client), make([]byte, 1<<16)
	for {
		if _, err := io.ReadFull(in, buf[:4]); err != nil {
			return err
		}
		size := binary.BigEndian.Uint32(buf)
		if size > 1<<15 {
			return fmt.Errorf("a request of %d bytes", size)
		}
		if _, err := io.ReadFull(in, buf[:size]); err != nil {
			return err
		}
		if _, err := server.Write(buf[:size]); err != nil {
			return err
		}
		n, err := server.Read(buf[4:])
		if err != nil {
			return err
		}
		binary.BigEndian.PutUint32(buf, uint32(n))
		if _, err := client.Write(buf[:4+n]); err != nil {
			return err
		}
	}
}
