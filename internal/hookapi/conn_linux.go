package hookapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Network is the kind of the agent's socket for hooks: it keeps messages apart.
const Network = "unixpacket"

// Call sends a request and waits for the reply, no longer than ctx. The files of the
// reply are the caller's to close. An agent's refusal is a [*Failure].
func Call(ctx context.Context, socket string, r Request, files ...*os.File) (Reply, []*os.File, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, Network, socket)
	if err != nil {
		return Reply{}, nil, &Failure{
			Message: fmt.Sprintf("no agent answers on %s: %v", socket, cause(err)),
			Hints:   []string{"systemctl start gmsa-agent, and look at: gmsa agent status"},
		}
	}
	defer c.Close()
	conn := c.(*net.UnixConn)
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return Reply{}, nil, err
		}
	}
	if err := Send(conn, r, files...); err != nil {
		return Reply{}, nil, fmt.Errorf("ask the agent: %w", cause(err))
	}
	var reply Reply
	got, err := Receive(conn, &reply)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Reply{}, nil, &Failure{
			Message: "the agent does not answer in time",
			Hints:   []string{"gmsa agent status says what it waits for"},
		}
	}
	if err != nil {
		return Reply{}, nil, fmt.Errorf("answer of the agent: %w", cause(err))
	}
	switch {
	case reply.Failure != nil:
		closeAll(got)
		return Reply{}, nil, reply.Failure
	case len(got) != len(reply.Mounts):
		closeAll(got)
		return Reply{}, nil, fmt.Errorf("answer of the agent: %d mounts and %d descriptors", len(reply.Mounts), len(got))
	}
	return reply, got, nil
}

// cause is what went wrong, without the addresses that package net puts before it.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// Send sends a message with files.
func Send(conn *net.UnixConn, message any, files ...*os.File) error {
	b, err := json.Marshal(message)
	if err != nil {
		return err
	}
	if len(b) > MaxMessage || len(files) > maxFiles {
		return fmt.Errorf("a message of %d bytes and %d files: at most %d and %d", len(b), len(files), MaxMessage, maxFiles)
	}
	var oob []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		oob = unix.UnixRights(fds...)
	}
	_, _, err = conn.WriteMsgUnix(b, oob, nil)
	return err
}

// Receive reads one message. Its files are the caller's to close; with an error there
// are none.
func Receive(conn *net.UnixConn, message any) ([]*os.File, error) {
	b := make([]byte, MaxMessage)
	oob := make([]byte, unix.CmsgSpace(4*maxFiles))
	n, m, flags, _, err := conn.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	files, err := rights(oob[:m])
	switch {
	case err != nil:
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = errors.New("message is too long")
	case n == 0:
		err = io.ErrUnexpectedEOF
	default:
		d := json.NewDecoder(bytes.NewReader(b[:n]))
		err = d.Decode(message)
	}
	if err != nil {
		closeAll(files)
		return nil, err
	}
	return files, nil
}

// rights takes the descriptors out of a control message; all that the kernel put
// into this process are in the result.
func rights(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // credentials or the like: no descriptor
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
