package lab

import (
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
)

func TestANetHasItsOwnPortsAndFiles(t *testing.T) {
	Need(t, "curl")
	n := Netns(t, "client1.contoso.com")
	if out := n.Run("hostname"); strings.TrimSpace(out) != "client1.contoso.com" {
		t.Errorf("the host is called %q", out)
	}
	if out := n.Run("cat", "/etc/resolv.conf"); !strings.Contains(out, NetServer.String()) {
		t.Errorf("resolv.conf: %s", out)
	}
	l, err := n.Listen("tcp", ":88")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "from the net") })}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	if out := n.Run("curl", "-sS", "http://"+NetServer.String()+":88/"); out != "from the net" {
		t.Errorf("curl in the net: %q", out)
	}
	conn, err := n.Dial(t.Context(), "tcp", NetServer.String()+":88")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	// Outside of it the port is nobody's, and files are as they were.
	if conn, err := net.Dial("tcp", "127.0.0.1:88"); err == nil {
		conn.Close()
		t.Error("the port can be reached from outside")
	}
	n.Run("sh", "-c", "echo secret >/etc/opengmsa-lab-net; mkdir /var/lib/opengmsa-lab-net")
	for _, f := range []string{"/etc/opengmsa-lab-net", "/var/lib/opengmsa-lab-net"} {
		if _, err := os.Stat(n.Path(f)); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(f); err == nil {
			t.Errorf("%s is this machine's", f)
		}
	}
	if out, err := n.Try([]string{"GREETING=hello"}, "there", "sh", "-c", `echo "$GREETING $(cat)"`); err != nil || out != "hello there\n" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestARootHasItsOwnPrograms(t *testing.T) {
	n := Netns(t, "client1.contoso.com")
	r := n.Root()
	if out := r.Run("kinit", "--version"); !strings.Contains(out, "Heimdal") {
		t.Errorf("kinit in the root: %s", out)
	}
	r.WriteFile("/etc/opengmsa-lab-root", []byte("secret"), 0o600)
	if out := r.Run("cat", "/etc/opengmsa-lab-root", "/etc/hostname"); out != "secretclient1.contoso.com\n" {
		t.Errorf("files of the root: %q", out)
	}
	for where, path := range map[string]string{"the Net": n.Path("/etc/opengmsa-lab-root"), "this machine": "/etc/opengmsa-lab-root"} {
		if _, err := os.Stat(path); err == nil {
			t.Errorf("what was written to the root is in %s", where)
		}
	}
	again := Netns(t, "client1.contoso.com").Root()
	if _, err := os.Stat(again.Path("/etc/opengmsa-lab-root")); err == nil {
		t.Error("what was written to one root is in another")
	}
}
