// Package systemd gives a service of this host the identity of a gMSA: a
// drop-in beside the unit that asks the agent for a lease when the unit starts
// and points the Kerberos libraries at it.
//
// The agent ties such a lease to the unit's control group, so that it ends with
// the unit; the drop-in's ExecStopPost only hastens the end. Nothing here talks
// to the agent or holds a secret: read [DropIn.Render] first, it is the whole
// idea.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

const (
	// DefaultUnitDir is where an administrator's own units and drop-ins lie:
	// systemd.unit(5).
	DefaultUnitDir = "/etc/systemd/system"
	// DefaultLeaseDir holds one link for each unit with a lease. The agent makes
	// the link and names it after the unit's control group.
	DefaultLeaseDir = "/run/gmsa/units"

	// dropInName sorts after a distribution's own drop-ins (10-, 20-) and before
	// an administrator's last word (90-).
	dropInName = "50-gmsa.conf"
	// marker is the first line of what this package writes; a file without it
	// is somebody else's and is neither replaced nor removed.
	marker = "# Written by gmsa account install; gmsa account uninstall removes it."
)

// ErrForeign means that a drop-in of our name exists and that somebody else
// wrote it.
var ErrForeign = errors.New("the drop-in was not written by gmsa")

// unitName is what systemd allows in the name of a unit, systemd.unit(5), less
// the backslash of its escapes, and only services: they alone have processes
// that could use a ticket.
var unitName = regexp.MustCompile(`^[A-Za-z0-9:_.-]+(@[A-Za-z0-9:_.-]*)?\.service$`)

// maxUnitName is systemd's own limit (UNIT_NAME_MAX), in bytes.
const maxUnitName = 255

// ParseUnit returns the full name of a service: "nginx" and "nginx.service" are
// the same.
func ParseUnit(s string) (string, error) {
	if !strings.Contains(s, ".") {
		s += ".service"
	}
	if len(s) > maxUnitName || !unitName.MatchString(s) {
		return "", fmt.Errorf("unit name %q: want a service such as nginx.service, letters, digits and : _ . - @ only", s)
	}
	return s, nil
}

// DropIn is what a service gets. The zero value of each optional field says
// what is left out.
type DropIn struct {
	// Unit is the full name of the service.
	Unit string
	// Account is the gMSA, in any form that the agent takes; CredentialSpec
	// names a spec instead. Exactly one is set.
	Account, CredentialSpec string
	// User and Group own the lease. Empty: the unit's own User= and Group=.
	User, Group string
	// Keytab asks for the keytabs too: for a service that accepts connections.
	Keytab bool
	// OnRotate names a command of the agent's configuration that runs after each
	// change of the keys; empty for none.
	OnRotate string
	// Program is the path of gmsa, absolute.
	Program string
	// Socket is the agent's socket; empty for the default.
	Socket string
	// LeaseDir is [DefaultLeaseDir] when empty.
	LeaseDir string
}

// Render writes the drop-in. The commands run with full privileges and outside
// of the unit's sandbox (the "+" of systemd.service(5)): the agent refuses
// callers in foreign namespaces. They are in the unit's control group all the
// same, which is how the agent knows the unit.
func (d DropIn) Render() string {
	lease := filepath.Join(orDefault(d.LeaseDir, DefaultLeaseDir), "%n")
	create := []string{d.Program}
	remove := []string{d.Program}
	if d.Socket != "" {
		create, remove = append(create, "--socket", d.Socket), append(remove, "--socket", d.Socket)
	}
	create = append(create, "lease", "create", "--unit", "%n")
	remove = append(remove, "lease", "remove", "--unit", "%n")
	for _, o := range []struct{ name, value string }{
		{"--account", d.Account}, {"--credspec", d.CredentialSpec},
		{"--user", d.User}, {"--group", d.Group}, {"--on-rotate", d.OnRotate},
	} {
		if o.value != "" {
			create = append(create, o.name, o.value)
		}
	}
	env := []string{"KRB5CCNAME=FILE:" + lease + "/ccache", "KRB5_CONFIG=" + lease + "/krb5.conf"}
	if d.Keytab {
		create = append(create, "--keytab")
		env = append(env, "KRB5_KTNAME=FILE:"+lease+"/keytab", "KRB5_CLIENT_KTNAME=FILE:"+lease+"/client.keytab")
	}

	var b strings.Builder
	line := func(format string, a ...any) { fmt.Fprintf(&b, format+"\n", a...) }
	line("%s", marker)
	line("[Unit]")
	line("Wants=gmsa-agent.service")
	line("After=gmsa-agent.service")
	line("")
	line("[Service]")
	line("ExecStartPre=+%s", quoteAll(create))
	line("ExecStopPost=+-%s", quoteAll(remove))
	for _, e := range env {
		line("Environment=%s", quote(e))
	}
	return b.String()
}

// quoteAll writes an argument vector as systemd.service(5), "Command lines",
// reads it.
func quoteAll(argv []string) string {
	out := make([]string, len(argv))
	for i, a := range argv {
		out[i] = quoteArg(a)
	}
	return strings.Join(out, " ")
}

// quoteArg is quote for a command line, where systemd expands variables, inside
// quotes too.
func quoteArg(s string) string { return quote(strings.ReplaceAll(s, "$", "$$")) }

// quote leaves "%n" to systemd, doubles every other percent sign, and quotes
// what is not plain.
func quote(s string) string {
	const unit = "%n"
	parts := strings.Split(s, unit)
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(p, "%", "%%")
	}
	s = strings.Join(parts, unit)
	if s != "" && !strings.ContainsAny(s, " \t\n\"'\\;") {
		return s
	}
	return strconv.Quote(s)
}

// Units is systemd on this host. The zero value works on the host's own files.
type Units struct {
	// Dir is [DefaultUnitDir] when empty.
	Dir string
	// Systemctl runs systemctl with the arguments and returns what it printed;
	// nil runs the program of that name.
	Systemctl func(ctx context.Context, args ...string) (string, error)
}

// Path is the drop-in of a unit.
func (u Units) Path(unit string) string {
	return filepath.Join(orDefault(u.Dir, DefaultUnitDir), unit+".d", dropInName)
}

// Install writes the drop-in and has systemd read it. The unit must exist; it is
// not restarted, so what runs goes on as it was. Installing again replaces the
// drop-in.
func (u Units) Install(ctx context.Context, d DropIn) (path string, err error) {
	state, err := u.show(ctx, d.Unit)
	if err != nil {
		return "", err
	}
	if state["LoadState"] != "loaded" {
		return "", fmt.Errorf("unit %s: %s: %w", d.Unit, orDefault(state["LoadState"], "unknown"), fs.ErrNotExist)
	}
	d.User, d.Group = orDefault(d.User, state["User"]), orDefault(d.Group, state["Group"])

	path = u.Path(d.Unit)
	if err := refuseForeign(path); err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("drop-in directory: %w", err)
	}
	if err := replaceFile(path, []byte(d.Render())); err != nil {
		return "", fmt.Errorf("write drop-in: %w", err)
	}
	return path, u.reload(ctx)
}

// Uninstall removes the drop-in, and its directory when nothing else is in it.
// That there was none is no error.
func (u Units) Uninstall(ctx context.Context, unit string) error {
	path := u.Path(unit)
	if err := refuseForeign(path); err != nil {
		return err
	}
	switch err := os.Remove(path); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("remove drop-in: %w", err)
	}
	// The directory stays when somebody else's drop-ins are in it: Remove
	// refuses then, and that is right.
	_ = os.Remove(filepath.Dir(path))
	return u.reload(ctx)
}

// Installed lists the units that have a drop-in of ours which names the account.
func (u Units) Installed(account string) ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(orDefault(u.Dir, DefaultUnitDir), "*.d", dropInName))
	if err != nil {
		return nil, err
	}
	var units []string
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		if text, ours := strings.CutPrefix(string(b), marker); ours && namesAccount(text, account) {
			units = append(units, strings.TrimSuffix(filepath.Base(filepath.Dir(p)), ".d"))
		}
	}
	return units, nil
}

// namesAccount looks for the option in the drop-in's command line, where a
// space or the end of the line follows its value.
func namesAccount(dropIn, account string) bool {
	option := " --account " + quoteArg(account)
	return strings.Contains(dropIn, option+" ") || strings.Contains(dropIn, option+"\n")
}

// refuseForeign reports ErrForeign for a drop-in that lacks our marker.
func refuseForeign(path string) error {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read drop-in: %w", err)
	case !strings.HasPrefix(string(b), marker):
		return fmt.Errorf("%s: %w", path, ErrForeign)
	}
	return nil
}

// replaceFile writes a file that others read: all of it or nothing.
func replaceFile(path string, b []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".gmsa-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // Fails after the rename, as it should.
	err = errors.Join(f.Chmod(0o644), write(f, b), f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func write(f *os.File, b []byte) error {
	_, err := f.Write(b)
	return err
}

// show asks systemd for the properties of a unit that matter here.
func (u Units) show(ctx context.Context, unit string) (map[string]string, error) {
	out, err := u.systemctl(ctx, "show", "--property=LoadState,User,Group", "--", unit)
	if err != nil {
		return nil, err
	}
	props := map[string]string{}
	for l := range strings.Lines(out) {
		if k, v, ok := strings.Cut(strings.TrimSpace(l), "="); ok {
			props[k] = v
		}
	}
	return props, nil
}

func (u Units) reload(ctx context.Context) error {
	_, err := u.systemctl(ctx, "daemon-reload")
	return err
}

func (u Units) systemctl(ctx context.Context, args ...string) (string, error) {
	if u.Systemctl != nil {
		return u.Systemctl(ctx, args...)
	}
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

func orDefault(s, def string) string {
	if s == "" {
		return def
	}
	return s
}
