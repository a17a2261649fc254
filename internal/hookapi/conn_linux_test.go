package hookapi

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// listen answers each call with answer, which may be nil for none.
func listen(t *testing.T, answer func(*net.UnixConn)) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix(Network, &net.UnixAddr{Name: path, Net: Network})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			answer(c)
			c.Close()
		}
	}()
	return path
}

func TestACallCarriesDescriptorsBothWays(t *testing.T) {
	path := listen(t, func(c *net.UnixConn) {
		var r Request
		files, err := Receive(c, &r)
		if err != nil || len(files) != 1 || r.UID != 1000 || r.CredentialSpec != "webapp01" {
			t.Errorf("request %+v with %d files: %v", r, len(files), err)
			return
		}
		_ = Send(c, Reply{Lease: "x", Mounts: []Mount{{Target: "/run/gmsa", Directory: true}}}, files...)
		closeAll(files)
	})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	reply, files, err := Call(t.Context(), path, Request{Op: Attach, UID: 1000, CredentialSpec: "webapp01"}, w)
	w.Close()
	if err != nil || len(files) != 1 || reply.Mounts[0].Target != "/run/gmsa" {
		t.Fatalf("reply %+v with %d files: %v", reply, len(files), err)
	}
	if _, err := files[0].WriteString("through"); err != nil {
		t.Fatal(err)
	}
	files[0].Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != "through" {
		t.Errorf("the descriptor that came back leads to %q, %v", b, err)
	}
}

func TestWhatAHookSaysWhenThereIsNoLease(t *testing.T) {
	// after answers when the request has been read.
	after := func(answer func(*net.UnixConn)) string {
		return listen(t, func(c *net.UnixConn) {
			if _, err := Receive(c, new(Request)); err == nil {
				answer(c)
			}
		})
	}
	silent := make(chan struct{})
	t.Cleanup(func() { close(silent) })
	for name, c := range map[string]struct{ socket, want string }{
		"nobody listens":   {filepath.Join(t.TempDir(), "none"), "no agent answers on "},
		"the agent hangs":  {after(func(*net.UnixConn) { <-silent }), "does not answer in time\nhint: gmsa agent status"},
		"it refuses":       {after(func(c *net.UnixConn) { _ = Send(c, Reply{Failure: &Failure{Message: "no", Hints: []string{"yes"}}}) }), "no\nhint: yes"},
		"it ends":          {after(func(*net.UnixConn) {}), "answer of the agent"},
		"it sends no JSON": {after(func(c *net.UnixConn) { _, _ = c.Write([]byte("?")) }), "answer of the agent"},
		"a mount is missing": {after(func(c *net.UnixConn) { _ = Send(c, Reply{Mounts: []Mount{{Target: "/x"}}}) }),
			"1 mounts and 0 descriptors"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, files, err := Call(ctx, c.socket, Request{Op: End})
		cancel()
		if err == nil || !strings.Contains(err.Error(), c.want) || files != nil {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// A message that does not fit is refused whole, and its descriptors are closed.
func TestMessagesHaveALimit(t *testing.T) {
	if err := Send(nil, Request{Container: strings.Repeat("x", MaxMessage)}); err == nil {
		t.Error("a message above the limit was sent")
	}
	got := make(chan error, 1)
	path := listen(t, func(c *net.UnixConn) {
		_, err := Receive(c, new(Request))
		got <- err
	})
	c, err := net.Dial(Network, path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(`{"container":"` + strings.Repeat("x", MaxMessage) + `"}`)); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a message above the limit: %v", err)
	}
}
