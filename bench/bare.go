//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/opengmsa/opengmsa/krb5"
	"github.com/opengmsa/opengmsa/krb5/crypto"
	"golang.org/x/sys/unix"
)

// bareRefresh is the floor: the system calls of a refresh and nothing else, with
// messages of the same kind to the same KDC, which refuses them because they carry
// no pre-authentication; or only those that write a file. It says how slow the
// machine is at the moment.
func bareRefresh(r *run, k kdc, n int, network bool) figure {
	f := figure{name: "floor: the system calls of a refresh alone", unit: "us"}
	if !network {
		f.name = "floor: a file written and renamed on tmpfs"
	}
	request := framed(krb5.KDCReq{Type: krb5.MsgASReq, Body: krb5.KDCReqBody{
		Options: krb5.OptCanonicalize, CName: k.accounts[0].name, Realm: k.realm,
		SName: krb5.NewName(krb5.NameSrvInst, "krbtgt", k.realm),
		Till:  time.Now().Add(time.Hour), Nonce: 1, ETypes: []crypto.EType{crypto.AES256SHA1},
	}}.Append(nil))
	dir, err := unix.Open(r.tmpfs(), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	r.must(err)
	defer unix.Close(dir)
	idle := make(chan *bare, workers)
	for i := range workers {
		conn, err := net.Dial("tcp", k.address)
		r.must(err)
		defer conn.Close()
		idle <- &bare{conn: conn, dir: dir, network: network, name: fmt.Sprintf("cache%d", i), reply: make([]byte, 4096)}
	}
	round := func() {
		atATime(r, n, func(int) error {
			b := <-idle
			defer func() { idle <- b }()
			return b.refresh(request)
		})
	}
	round()
	f.fiveRounds(n, round)
	return f
}

// framed puts a message's length before it.
func framed(b []byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...) }

// bare is one connection and one file.
type bare struct {
	conn    net.Conn
	network bool
	dir     int
	name    string
	reply   []byte
}

func (b *bare) refresh(request []byte) error {
	if b.network {
		if err := b.exchange(request); err != nil {
			return err
		}
	}
	return b.write()
}

func (b *bare) exchange(request []byte) error {
	if _, err := b.conn.Write(request); err != nil {
		return err
	}
	if n, err := io.ReadAtLeast(b.conn, b.reply, 4); err != nil || n != 4+int(binary.BigEndian.Uint32(b.reply)) {
		return fmt.Errorf("an answer of %d bytes: %w", n, err)
	}
	return nil
}

func (b *bare) write() error {
	const size = 800 // of a credential cache with a ticket without PAC
	temporary := b.name + ".new"
	fd, err := unix.Openat(b.dir, temporary, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if _, err := unix.Write(fd, b.reply[:size]); err != nil {
		return err
	}
	if err := unix.Fchown(fd, 1000, 1000); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, 0o400); err != nil {
		return err
	}
	if err := unix.Close(fd); err != nil {
		return err
	}
	return unix.Renameat(b.dir, temporary, b.dir, b.name)
}
