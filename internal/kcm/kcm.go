// Package kcm reads credential caches from a Kerberos cache manager: Heimdal's kcm, or
// sssd-kcm. It speaks the protocol that MIT krb5's src/include/kcm.h documents, version
// 2.0, over a unix socket: a length, then a request or reply, numbers in big endian. It
// only reads; a cache comes back in the form of a file, which ccache.Parse takes.
//
// Read [Dial] and [Client.Read] first.
package kcm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/opengmsa/opengmsa/krb5/ccache"
)

// DefaultSocket is where managers listen unless they are told otherwise.
const DefaultSocket = "/var/run/.heim_org.h5l.kcm-socket"

// Limits on what a manager says. A ticket with a large PAC has 64 KiB; sssd-kcm keeps 64
// caches of a user unless it is told otherwise.
const (
	maxReply   = 10 << 20 // bytes, as MIT's client has it
	maxEntries = 4096     // caches, or tickets of one
	maxName    = 4096     // bytes
)

// timeout bounds a whole conversation: a manager answers from memory.
const timeout = 10 * time.Second

// opcode is an operation of the protocol.
type opcode uint16

const (
	opGetPrincipal     opcode = 8  // (name) -> (principal)
	opGetCredUUIDList  opcode = 9  // (name) -> (uuid, ...)
	opGetCredByUUID    opcode = 10 // (name, uuid) -> (credential)
	opGetCacheUUIDList opcode = 18 // () -> (uuid, ...)
	opGetCacheByUUID   opcode = 19 // (uuid) -> (name)
	opGetDefaultCache  opcode = 20 // () -> (name)
	opGetKDCOffset     opcode = 22 // (name) -> (offset in seconds)
)

const (
	uuidSize = 16
	codeSize = 4
)

// ErrNotFound: the manager has no such cache.
var ErrNotFound = errors.New("no such cache")

// ErrProtocol is wrapped where the manager's answer is none.
var ErrProtocol = errors.New("not an answer of a Kerberos cache manager")

// Codes of com_err's table krb5 that say that there is no cache: KRB5_FCC_NOFILE, and
// KRB5_CC_NOTFOUND, which is what there is no ticket for.
const (
	codeNoFile   = -1765328189
	codeNotFound = -1765328243
)

// codeError is a reply code.
type codeError int32

// Error is the code, in com_err's spelling.
func (e codeError) Error() string { return fmt.Sprintf("reply code %d", int32(e)) }

// Is finds ErrNotFound.
func (e codeError) Is(target error) bool {
	return target == ErrNotFound && (e == codeNoFile || e == codeNotFound)
}

// Client is a connection to a manager, which shows it the caches of the process's user.
// It is for one goroutine.
type Client struct{ conn net.Conn }

// Dial connects to a manager's socket. The connection ends by itself after ten seconds.
func Dial(ctx context.Context, socket string) (*Client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("credential cache manager: %w", err)
	}
	deadline, ok := ctx.Deadline()
	if limit := time.Now().Add(timeout); !ok || limit.Before(deadline) {
		deadline = limit
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &Client{conn}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// call sends one request and returns what follows the reply's code.
func (c *Client) call(op opcode, args ...[]byte) ([]byte, error) {
	body := bytes.Join(args, nil)
	request := binary.BigEndian.AppendUint32(make([]byte, 0, 8+len(body)), uint32(4+len(body)))
	request = append(request, 2, 0) // the protocol's version
	request = binary.BigEndian.AppendUint16(request, uint16(op))
	if _, err := c.conn.Write(append(request, body...)); err != nil {
		return nil, fmt.Errorf("credential cache manager: %w", err)
	}
	return readReply(c.conn)
}

// readReply reads a reply: its length and the transport's code, neither of which the length
// counts, then the reply's own code and what follows. Both codes are 0 where all is well.
func readReply(r io.Reader) ([]byte, error) {
	var head [4 + 2*codeSize]byte
	if _, err := io.ReadFull(r, head[:4+codeSize]); err != nil {
		return nil, fmt.Errorf("credential cache manager: %w", err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if code := codeError(binary.BigEndian.Uint32(head[4:])); code != 0 {
		return nil, code
	}
	if n < codeSize || n > maxReply {
		return nil, fmt.Errorf("%w: a reply of %d bytes, want %d to %d", ErrProtocol, n, codeSize, maxReply)
	}
	if _, err := io.ReadFull(r, head[4+codeSize:]); err != nil {
		return nil, fmt.Errorf("credential cache manager: %w", err)
	}
	// What was promised is only allotted as it comes.
	b, err := io.ReadAll(io.LimitReader(r, int64(n-codeSize)))
	if err == nil && len(b) < int(n-codeSize) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("credential cache manager: %w", err)
	}
	if code := codeError(binary.BigEndian.Uint32(head[4+codeSize:])); code != 0 {
		return nil, code
	}
	return b, nil
}

// Default is the name of the user's default cache, without KCM: before it.
func (c *Client) Default() (string, error) {
	b, err := c.call(opGetDefaultCache)
	if err != nil {
		return "", fmt.Errorf("default cache: %w", err)
	}
	return parseName(b)
}

// Names are the names of the user's caches.
func (c *Client) Names() ([]string, error) {
	b, err := c.call(opGetCacheUUIDList)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list of caches: %w", err)
	}
	ids, err := parseUUIDs(b)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, id := range ids {
		b, err := c.call(opGetCacheByUUID, id)
		if errors.Is(err, ErrNotFound) {
			continue // destroyed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("name of a cache: %w", err)
		}
		name, err := parseName(b)
		if err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}

// Read is the cache of a name in the form of a file of version 4, because principals and
// credentials have that form in the protocol too. What they say is not looked at here.
func (c *Client) Read(name string) ([]byte, error) {
	arg, err := appendName(name)
	if err != nil {
		return nil, err
	}
	principal, err := c.call(opGetPrincipal, arg)
	if err == nil && len(principal) == 0 {
		err = ErrNotFound // Heimdal's way to say it
	}
	if err != nil {
		return nil, fmt.Errorf("cache %s: %w", name, err)
	}
	file := append(c.header(arg), principal...)
	credentials, err := c.credentials(arg)
	if err != nil {
		return nil, fmt.Errorf("tickets of cache %s: %w", name, err)
	}
	return append(file, bytes.Join(credentials, nil)...), nil
}

// header begins the file, with the offset of the KDC's clock where the manager has one.
func (c *Client) header(name []byte) []byte {
	b, err := c.call(opGetKDCOffset, name)
	if err != nil || len(b) != 4 || bytes.Equal(b, make([]byte, 4)) {
		return []byte{5, 4, 0, 0}
	}
	// Tag 1, of 8 bytes: seconds and microseconds.
	return append(append([]byte{5, 4, 0, 12, 0, 1, 0, 8}, b...), 0, 0, 0, 0)
}

// credentials are the tickets of a cache, one by one: MIT's operation that gives all at
// once, GET_CRED_LIST, ends the connection with managers that do not know it.
func (c *Client) credentials(name []byte) ([][]byte, error) {
	b, err := c.call(opGetCredUUIDList, name)
	if err != nil {
		return nil, err
	}
	ids, err := parseUUIDs(b)
	if err != nil {
		return nil, err
	}
	var list [][]byte
	size := 0
	for _, id := range ids {
		b, err := c.call(opGetCredByUUID, name, id)
		if errors.Is(err, ErrNotFound) {
			continue // replaced meanwhile
		}
		if err != nil {
			return nil, err
		}
		if size += len(b); size > ccache.MaxSize {
			return nil, fmt.Errorf("%w: tickets of more than %d bytes", ErrProtocol, ccache.MaxSize)
		}
		list = append(list, b)
	}
	return list, nil
}

// appendName is a name as a request has it, zero-terminated.
func appendName(name string) ([]byte, error) {
	if len(name) > maxName || strings.ContainsRune(name, 0) {
		return nil, fmt.Errorf("name of a cache: %d bytes, or a zero byte in it; want at most %d without", len(name), maxName)
	}
	return append([]byte(name), 0), nil
}

// parseName reads a zero-terminated name that ends the reply.
func parseName(b []byte) (string, error) {
	if end := bytes.IndexByte(b, 0); end < 0 || end != len(b)-1 || end > maxName {
		return "", fmt.Errorf("%w: a name that is not zero-terminated, or has more than %d bytes", ErrProtocol, maxName)
	}
	return string(b[:len(b)-1]), nil
}

// parseUUIDs cuts a list of UUIDs, which fills the rest of the reply.
func parseUUIDs(b []byte) ([][]byte, error) {
	if n := len(b); n%uuidSize != 0 || n/uuidSize > maxEntries {
		return nil, fmt.Errorf("%w: a list of UUIDs of %d bytes, want a multiple of %d and at most %d of them", ErrProtocol, n, uuidSize, maxEntries)
	}
	var ids [][]byte
	for len(b) > 0 {
		ids, b = append(ids, b[:uuidSize]), b[uuidSize:]
	}
	return ids, nil
}
