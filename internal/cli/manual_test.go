package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestTheLinesOfTheManualsWork runs each command line of docs/controller.md and then of
// docs/administration.md in order, in a domain that those of the first make. What a test
// has elsewhere is put in the place of what the manuals name: directories, ports, the
// host's keytab, and who asks.
func TestTheLinesOfTheManualsWork(t *testing.T) {
	m := newManual(t)
	for _, line := range manualLines(t, "controller.md") {
		m.controller(line)
	}
	// What a reader of the second has: a joined host.
	m.run(m.asAdministrator("computer", "join", "ContainerHost01", "--out", m.keytab)...)
	for _, line := range manualLines(t, "administration.md") {
		m.administration(line)
	}
}

// manualLines are the command lines of a manual: of its indented blocks what begins with
// gmsa, without comments.
func manualLines(t *testing.T, name string) (lines [][]string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("../../docs", name))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if command, ok := strings.CutPrefix(line, "    gmsa "); ok {
			command, _, _ = strings.Cut(command, " #")
			lines = append(lines, strings.Fields(command))
		}
	}
	if len(lines) < 5 {
		t.Fatalf("docs/%s has %d command lines", name, len(lines))
	}
	return lines
}

// manual is somebody who does what the manuals say.
type manual struct {
	t   *testing.T
	env []string
	// dir has what the manuals leave to the default, standard the data directory.
	dir, standard, keytab, password string
	offset                          int
}

func newManual(t *testing.T) *manual {
	dir := t.TempDir()
	m := &manual{t: t, dir: dir, standard: filepath.Join(dir, "standard"), keytab: filepath.Join(dir, "krb5.keytab"),
		password: filepath.Join(dir, "password"), offset: 10_000 + os.Getpid()%18_000} // below the ports that the system gives away
	socket := filepath.Join(dir, "agent.sock")
	stop, err := serveFakeAgent(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	m.env = []string{"KRB5_CONFIG=" + filepath.Join(dir, "dc", "krb5.conf"), "GMSA_CREDENTIALSPECS=" + dir, socketVariable + "=" + socket}
	return m
}

// controller does a line of docs/controller.md.
func (m *manual) controller(line []string) {
	data := m.standard
	if i := slices.Index(line, "--data"); i >= 0 {
		data = filepath.Join(m.dir, line[i+1])
		line = slices.Delete(line, i, i+2)
	} else if line[1] == "rotate-keys" {
		data = filepath.Join(m.dir, "dc") // the one that serves
	}
	for flag, value := range map[string]string{"--listen": "127.0.0.1", "--port-offset": strconv.Itoa(m.offset)} {
		if i := slices.Index(line, flag); i >= 0 {
			line[i+1] = value
		}
	}
	line = append(line, "--data", data)
	if line[1] != "serve" {
		m.learn(m.run(line...))
		return
	}
	if data == m.standard { // beside the other: at ports of its own
		stop := m.serve(data, append(line, "--port-offset", strconv.Itoa(m.offset+700)))
		stop()
		return
	}
	m.t.Cleanup(m.serve(data, line))
}

// administration does a line of docs/administration.md.
func (m *manual) administration(line []string) {
	for i := range line {
		switch line[i] {
		case "/etc/krb5.keytab":
			line[i] = m.keytab
		case "dc1.contoso.com":
			line[i] = "127.0.0.1:" + strconv.Itoa(m.offset+389)
		}
	}
	if line[0] == "computer" && line[1] == "join" {
		line = append(line, "--out", filepath.Join(m.dir, strings.ToLower(line[2])+".keytab"))
		if line[2] == "ContainerHost01" {
			line[len(line)-1] = m.keytab
		}
	}
	if !slices.Contains(line, "--keytab") {
		line = m.asAdministrator(line...)
	}
	m.run(line...)
}

// asAdministrator adds who asks, unless the line says it, and the password.
func (m *manual) asAdministrator(line ...string) []string {
	if !slices.Contains(line, "-U") {
		line = append(line, "-U", "Administrator@contoso.com")
	}
	return append(line, "--password-file", m.password)
}

func (m *manual) run(line ...string) result {
	m.t.Helper()
	r := gmsa(m.t, m.env, line...)
	if r.code != 0 {
		m.t.Errorf("gmsa %s: exit code %d", strings.Join(line, " "), r.code)
	}
	return r
}

// learn keeps the password that init prints.
func (m *manual) learn(r result) {
	if found := regexp.MustCompile(`shown this once: (\S+)`).FindStringSubmatch(r.stdout); found != nil {
		if err := os.WriteFile(m.password, []byte(found[1]), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
}

// serve starts a controller, waits until it answers, and returns what ends it.
func (m *manual) serve(data string, line []string) (stop func()) {
	m.t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(m.t.Context()))
	var stdout, stderr bytes.Buffer // to be read when it has ended
	ended := make(chan int, 1)
	go func() {
		ended <- Run(ctx, line, Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Environ: m.env, Now: time.Now})
	}()
	stop = func() {
		cancel()
		if code := <-ended; code != 0 {
			m.t.Errorf("gmsa %s: exit code %d\n%s%s", strings.Join(line, " "), code, &stdout, &stderr)
		}
	}
	for gmsa(m.t, m.env, "dc", "status", "--data", data).code != 0 {
		select {
		case code := <-ended:
			m.t.Fatalf("gmsa %s: exit code %d\n%s%s", strings.Join(line, " "), code, &stdout, &stderr)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return stop
}
