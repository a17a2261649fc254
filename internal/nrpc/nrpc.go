// Package nrpc proves a computer's trust to a domain controller as Netlogon does, and no
// more: NetrServerReqChallenge and NetrServerAuthenticate3 of [MS-NRPC] 3.5.4.4, by AES, on
// a connection that carries nothing secret. It opens no secure channel, and has of RPC
// ([MS-RPCE], C706) only what these two calls and the endpoint mapper need.
//
// Read [Verify] first.
package nrpc

import (
	"context"
	"crypto/aes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"github.com/opengmsa/opengmsa/secret"
)

// ErrNotOffered: nothing answers at the controller's endpoint mapper, or it has no Netlogon.
var ErrNotOffered = errors.New("the controller offers no NETLOGON")

// ErrServer: the controller took the computer's proof and has not given one of its own.
var ErrServer = errors.New("the controller does not prove that it knows the computer's password")

// StatusAccessDenied is the NTSTATUS for a proof that is wrong.
const StatusAccessDenied = 0xc0000022

// StatusError is the NTSTATUS of a call that was refused, [MS-ERREF] 2.3.
type StatusError struct {
	Call   string
	Status uint32
}

// Error names the call and the code.
func (e *StatusError) Error() string { return fmt.Sprintf("%s: NTSTATUS 0x%08x", e.Call, e.Status) }

// timeout bounds the whole exchange.
const timeout = 3 * time.Second

// epmapPort is the endpoint mapper's.
const epmapPort = 135

// Computer is whose trust is verified.
type Computer struct {
	Account string // sAMAccountName, with its $
	Name    string // NetBIOS name
	NTHash  secret.Bytes
}

const (
	// workstationChannel is the SecureChannelType of a member, [MS-NRPC] 2.2.1.3.13.
	workstationChannel = 2
	// negotiateFlags are those that Windows sends, AES (0x01000000) among them; without
	// that the exchange is refused here: [MS-NRPC] 3.1.4.2.
	negotiateFlags = 0x612fffff
	negotiateAES   = 0x01000000
)

// Verify makes both calls with the controller of the address. Nil means that each side has
// proved to the other that it knows the computer's password. As every such exchange it
// begins the computer's session at the controller anew: a secure channel that the host's
// own Netlogon has there is set up again at its next use.
func Verify(ctx context.Context, controller netip.Addr, name string, c Computer) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	port, err := endpoint(ctx, controller)
	if err != nil {
		return err
	}
	conn, err := bind(ctx, netip.AddrPortFrom(controller, port), netlogonInterface)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	var client, server [8]byte
	_, _ = rand.Read(client[:]) // never fails
	if server, err = conn.reqChallenge(`\\`+name, c.Name, client); err != nil {
		return err
	}
	key := sessionKey(c.NTHash.Reveal(), client, server)
	answer, flags, err := conn.authenticate3(`\\`+name, c, credential(key, client))
	switch {
	case err != nil:
		return err
	case flags&negotiateAES == 0:
		return fmt.Errorf("%w: it does without AES", ErrServer)
	}
	want := credential(key, server)
	if subtle.ConstantTimeCompare(answer[:], want[:]) != 1 {
		return ErrServer
	}
	return nil
}

// sessionKey is ComputeSessionKey of [MS-NRPC] 3.1.4.3.1, AES.
func sessionKey(ntHash []byte, client, server [8]byte) []byte {
	m := hmac.New(sha256.New, ntHash)
	m.Write(client[:])
	m.Write(server[:])
	return m.Sum(nil)[:16]
}

// credential is ComputeNetlogonCredential of [MS-NRPC] 3.1.4.4.1: AES-128 in CFB8. That
// the initialization vector is zero is the specification's; both challenges are random, of
// 8 bytes, and the server's is not chosen here.
func credential(key []byte, challenge [8]byte) (out [8]byte) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("nrpc: " + err.Error()) // the key has 16 bytes
	}
	var register, pad [aes.BlockSize]byte
	for i, b := range challenge {
		block.Encrypt(pad[:], register[:])
		out[i] = b ^ pad[0]
		copy(register[:], register[1:])
		register[aes.BlockSize-1] = out[i]
	}
	return out
}

func (c *conn) reqChallenge(server, computer string, client [8]byte) (challenge [8]byte, err error) {
	const call = "NetrServerReqChallenge"
	s := stub{}
	s.uniqueString(server)
	s.string(computer)
	s.b = append(s.b, client[:]...)
	out, err := c.call(operation{call, 4}, s.b)
	if err != nil {
		return challenge, err
	}
	r := reader{b: out}
	copy(challenge[:], r.take(8))
	return challenge, r.status(call)
}

func (c *conn) authenticate3(server string, who Computer, proof [8]byte) (answer [8]byte, flags uint32, err error) {
	const call = "NetrServerAuthenticate3"
	s := stub{}
	s.uniqueString(server)
	s.string(who.Account)
	s.uint16(workstationChannel)
	s.string(who.Name)
	s.b = append(s.b, proof[:]...)
	s.uint32(negotiateFlags)
	out, err := c.call(operation{call, 26}, s.b)
	if err != nil {
		return answer, 0, err
	}
	r := reader{b: out}
	copy(answer[:], r.take(8))
	flags = r.uint32()
	r.uint32() // the account's RID
	return answer, flags, r.status(call)
}

// endpoint asks the endpoint mapper for Netlogon's port: ept_map, C706 appendix O.
func endpoint(ctx context.Context, controller netip.Addr) (uint16, error) {
	conn, err := bind(ctx, netip.AddrPortFrom(controller, epmapPort), mapperInterface)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return 0, fmt.Errorf("%w: %w", ErrNotOffered, err)
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	t := tower()
	s := stub{}
	s.uint32(0) // no object
	s.uint32(1) // a pointer to the tower
	s.uint32(uint32(len(t)))
	s.uint32(uint32(len(t)))
	s.b = append(s.b, t...)
	s.align(4)
	s.b = append(s.b, make([]byte, 20)...) // no entry handle
	s.uint32(1)                            // one tower is enough
	out, err := conn.call(operation{"ept_map", 3}, s.b)
	if err != nil {
		return 0, err
	}
	return parseMapped(out)
}

// tower describes Netlogon over TCP and IPv4, C706 appendix L; the port and the address
// are what is asked for.
func tower() []byte {
	b := []byte{5, 0}
	for _, i := range []syntax{netlogonInterface, ndr} {
		b = append(b, 19, 0, 0x0d)
		b = append(b, i.uuid[:]...)
		b = binary.LittleEndian.AppendUint16(b, uint16(i.version))
		b = append(b, 2, 0, 0, 0)
	}
	b = append(b, 1, 0, 0x0b, 2, 0, 0, 0)          // connection-oriented RPC
	b = append(b, 1, 0, 0x07, 2, 0, 0, epmapPort)  // TCP
	return append(b, 1, 0, 0x09, 4, 0, 0, 0, 0, 0) // IP
}

// parseMapped finds the TCP port in the first tower of ept_map's answer.
func parseMapped(b []byte) (uint16, error) {
	r := reader{b: b}
	r.take(20) // entry handle
	count := r.uint32()
	r.take(12) // counts of the array
	if r.short || count == 0 {
		return 0, fmt.Errorf("%w: its endpoint mapper has none", ErrNotOffered)
	}
	r.take(4) // pointer
	r.take(4) // count
	length := r.uint32()
	t := reader{b: r.take(int(min(length, uint32(len(b)))))}
	for range min(int(t.uint16raw()), 8) {
		lhs := t.take(int(t.uint16raw()))
		rhs := t.take(int(t.uint16raw()))
		if len(lhs) == 1 && lhs[0] == 0x07 && len(rhs) == 2 {
			if port := binary.BigEndian.Uint16(rhs); port != 0 {
				return port, nil
			}
		}
	}
	return 0, fmt.Errorf("%w: its endpoint mapper names no TCP port", ErrNotOffered)
}

// dial connects, with the context's deadline on the connection.
func dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(to.Addr().String(), strconv.Itoa(int(to.Port()))))
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		if err := nc.SetDeadline(deadline); err != nil {
			return nil, errors.Join(err, nc.Close())
		}
	}
	return nc, nil
}
