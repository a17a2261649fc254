//go:build linux

package demo

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/opengmsa/opengmsa/internal/lab"
)

// A narrator tells what is done, shows each command with what it printed, and checks
// that the evidence is there.
type narrator struct {
	t       *testing.T
	out     io.Writer
	steps   int
	started time.Time
}

// newNarrator writes to the terminal for make demo-samba and to the test's log otherwise.
func newNarrator(t *testing.T) *narrator {
	n := &narrator{t: t, out: t.Output(), started: time.Now()}
	if os.Getenv("GMSA_DEMO") == "1" {
		n.out = os.Stdout
	}
	return n
}

func (n *narrator) step(title string) {
	n.steps++
	fmt.Fprintf(n.out, "\n%d. %s\n", n.steps, title)
}

func (n *narrator) say(format string, args ...any) {
	fmt.Fprintf(n.out, "   "+format+"\n", args...)
}

// file shows a file that was written.
func (n *narrator) file(path, text string) {
	fmt.Fprintf(n.out, "   %s:\n", path)
	n.indent(text)
}

func (n *narrator) indent(text string) {
	for line := range strings.Lines(strings.TrimRight(text, "\n")) {
		fmt.Fprintf(n.out, "       %s\n", strings.TrimRight(line, "\r\n"))
	}
}

// try runs a command and shows it with its output.
func (n *narrator) try(env []string, argv ...string) (string, error) {
	n.t.Helper()
	n.command(argv)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	n.indent(string(out))
	return string(out), err
}

// run is try for a command that must succeed.
func (n *narrator) run(env []string, argv ...string) string {
	n.t.Helper()
	out, err := n.try(env, argv...)
	if err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return out
}

// podman runs a command of podman, which must succeed, and shows it without the options
// that keep this engine apart from the machine's.
func (n *narrator) podman(p *lab.Podman, args ...string) string {
	n.t.Helper()
	n.command(append([]string{"podman"}, args...))
	out, err := p.Run(args...)
	n.indent(out)
	if err != nil {
		n.t.Fatal(err)
	}
	return out
}

// command shows a command as one would type it.
func (n *narrator) command(argv []string) {
	words := make([]string, len(argv))
	for i, a := range argv {
		if strings.HasSuffix(a, "/gmsa") && i == 0 {
			a = "gmsa"
		}
		if strings.ContainsAny(a, " $;*\\") {
			a = "'" + a + "'"
		}
		words[i] = a
	}
	fmt.Fprintf(n.out, "   $ %s\n", strings.Join(words, " "))
}

// want fails the test unless the output has each of the texts.
func (n *narrator) want(out string, texts ...string) {
	n.t.Helper()
	for _, text := range texts {
		if !strings.Contains(out, text) {
			n.t.Fatalf("no %q in:\n%s", text, out)
		}
	}
}

func (n *narrator) end() {
	fmt.Fprintf(n.out, "\nAll %d steps were made and checked in %.1f s. Everything that was started has been told to end.\n",
		n.steps, time.Since(n.started).Seconds())
}
