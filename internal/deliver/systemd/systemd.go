// Package systemd gives a service of this host the identity of a gMSA. It writes
// two small files: a unit of its own that asks the agent for a lease, and a
// drop-in beside the service that needs that unit and points the Kerberos
// libraries at the lease.
//
// The lease has a unit of its own because the agent refuses callers in foreign
// namespaces: even a command with full privileges (the "+" of
// systemd.service(5)) runs in the mount namespace of a service that has one. It
// starts before the service, survives its restarts, and stops with it
// (StopWhenUnneeded=). The agent knows the unit by its control group and its
// invocation by the link that systemd keeps below /run/systemd/units, so that a
// lease ends with its unit even if the stop command never ran.
//
// Nothing here talks to the agent or holds a secret: read [Service.LeaseUnit]
// and [Service.DropIn] first, they are the whole idea.
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
	"slices"
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

	// LeaseUnitPrefix begins the name of the unit that holds a service's lease:
	// gmsa-lease-nginx.service for nginx.service. The agent relies on it.
	LeaseUnitPrefix = "gmsa-lease-"

	// dropInName sorts after a distribution's own drop-ins (10-, 20-) and before
	// an administrator's last word (90-).
	dropInName = "50-gmsa.conf"
	// marker is the first line of what this package writes; a file without it
	// is somebody else's and is neither replaced nor removed.
	marker = "# Written by gmsa account install; gmsa account uninstall removes it."
)

var (
	// ErrForeign: a file of our name exists, and somebody else wrote it.
	ErrForeign = errors.New("the file was not written by gmsa")
	// ErrDynamicUser: the service's user exists only while it runs, so that
	// nothing can be given to it beforehand but through a group.
	ErrDynamicUser = errors.New("the service has DynamicUser=yes")
)

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
	if len(LeaseUnitPrefix)+len(s) > maxUnitName || strings.HasPrefix(s, LeaseUnitPrefix) || !unitName.MatchString(s) {
		return "", fmt.Errorf("unit name %q: want a service such as nginx.service, letters, digits and : _ . - @ only", s)
	}
	return s, nil
}

// Service is a service and the identity it gets. The zero value of each optional
// field says what is left out.
type Service struct {
	// Unit is the full name of the service; a template ("app@.service") stands
	// for all its instances.
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

	// dynamic: the service has no user before it runs, and reads its lease by
	// its group.
	dynamic bool
}

// LeaseUnit is the unit that holds the lease for as long as the service needs
// it.
func (s Service) LeaseUnit() string {
	create := []string{s.Program}
	if s.Socket != "" {
		create = append(create, "--socket", s.Socket)
	}
	release := append(slices.Clone(create), "lease", "remove", "--unit", "%n")
	create = append(create, "lease", "create", "--unit", "%n")
	for _, o := range []struct{ name, value string }{
		{"--account", s.Account}, {"--credspec", s.CredentialSpec},
		{"--user", s.User}, {"--group", s.Group}, {"--on-rotate", s.OnRotate},
	} {
		if o.value != "" {
			create = append(create, o.name, o.value)
		}
	}
	if s.dynamic {
		create = append(create, "--mode", "0440")
	}
	if s.Keytab {
		create = append(create, "--keytab")
	}
	return marker + `
[Unit]
Description=Lease of a group managed service account for ` + strings.ReplaceAll(s.Unit, "@.", "@%i.") + `
Wants=gmsa-agent.service
After=gmsa-agent.service
StopWhenUnneeded=yes

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=` + quoteAll(create) + `
ExecStop=-` + quoteAll(release) + "\n"
}

// DropIn makes the service need its lease and tells its Kerberos libraries where
// it is.
func (s Service) DropIn() string {
	lease := filepath.Join(orDefault(s.LeaseDir, DefaultLeaseDir), "%n")
	env := []string{"KRB5CCNAME=FILE:" + lease + "/..data/ccache", "KRB5_CONFIG=" + lease + "/krb5.conf"}
	if s.Keytab {
		env = append(env, "KRB5_KTNAME=FILE:"+lease+"/keytab", "KRB5_CLIENT_KTNAME=FILE:"+lease+"/client.keytab")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n[Unit]\nRequires=%s%%N.service\nAfter=%[2]s%%N.service\n\n[Service]\n", marker, LeaseUnitPrefix)
	for _, e := range env {
		fmt.Fprintf(&b, "Environment=%s\n", quote(e))
	}
	if s.dynamic {
		fmt.Fprintf(&b, "SupplementaryGroups=%s\n", quote(s.Group))
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

// quote leaves "%n", the unit's name, to systemd, doubles every other percent
// sign, and quotes what is not plain.
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

// paths are the two files of a service.
func (u Units) paths(unit string) (leaseUnit, dropIn string) {
	dir := orDefault(u.Dir, DefaultUnitDir)
	return filepath.Join(dir, LeaseUnitPrefix+unit), filepath.Join(dir, unit+".d", dropInName)
}

// Install writes the two files, has systemd read them, and returns their paths.
// The unit must exist; it is not restarted, so what runs goes on as it was.
// Installing again replaces the files.
func (u Units) Install(ctx context.Context, s Service) (written []string, err error) {
	state, err := u.show(ctx, s.Unit)
	if err != nil {
		return nil, err
	}
	if state["LoadState"] != "loaded" {
		return nil, fmt.Errorf("unit %s: %s: %w", s.Unit, orDefault(state["LoadState"], "unknown"), fs.ErrNotExist)
	}
	if s.dynamic = state["DynamicUser"] == "yes"; s.dynamic && s.Group == "" {
		return nil, fmt.Errorf("unit %s: %w: name a group that may read the lease", s.Unit, ErrDynamicUser)
	}
	if !s.dynamic {
		s.User, s.Group = orDefault(s.User, state["User"]), orDefault(s.Group, state["Group"])
	}
	leaseUnit, dropIn := u.paths(s.Unit)
	if err := errors.Join(refuseForeign(leaseUnit), refuseForeign(dropIn)); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(dropIn), 0o755); err != nil {
		return nil, fmt.Errorf("drop-in directory: %w", err)
	}
	// The lease unit first: a drop-in that needs a missing unit keeps the service
	// from starting.
	for _, f := range []struct{ path, text string }{{leaseUnit, s.LeaseUnit()}, {dropIn, s.DropIn()}} {
		if err := replaceFile(f.path, []byte(f.text)); err != nil {
			return written, fmt.Errorf("write unit: %w", err)
		}
		written = append(written, f.path)
	}
	return written, u.reload(ctx)
}

// Uninstall takes the identity from the service at once: it removes the drop-in,
// ends the lease, and removes its unit. The service itself goes on. That there
// was nothing to undo is no error.
func (u Units) Uninstall(ctx context.Context, unit string) error {
	leaseUnit, dropIn := u.paths(unit)
	if err := errors.Join(refuseForeign(leaseUnit), refuseForeign(dropIn)); err != nil {
		return err
	}
	// In this order: a unit that the service still requires would take the
	// service along when it stops, and one whose file is gone never stops by
	// itself.
	if removed, err := remove(dropIn); err != nil {
		return err
	} else if removed {
		// The directory stays when somebody else's drop-ins are in it: Remove
		// refuses then, and that is right.
		_ = os.Remove(filepath.Dir(dropIn))
		if err := u.reload(ctx); err != nil {
			return err
		}
	}
	if _, err := os.Stat(leaseUnit); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	instances := strings.ReplaceAll(filepath.Base(leaseUnit), "@.", "@*.")
	if _, err := u.systemctl(ctx, "stop", "--", instances); err != nil {
		return err
	}
	if _, err := remove(leaseUnit); err != nil {
		return err
	}
	return u.reload(ctx)
}

// remove removes a file and reports whether there was one.
func remove(path string) (bool, error) {
	switch err := os.Remove(path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("remove unit: %w", err)
	}
}

// Installed lists the services that were given the account, by the name that
// Install was given.
func (u Units) Installed(account string) ([]string, error) {
	dir := orDefault(u.Dir, DefaultUnitDir)
	paths, err := filepath.Glob(filepath.Join(dir, LeaseUnitPrefix+"*.service"))
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
			units = append(units, strings.TrimPrefix(filepath.Base(p), LeaseUnitPrefix))
		}
	}
	return units, nil
}

// namesAccount looks for the option in the lease unit's command line, where a
// space or the end of the line follows its value.
func namesAccount(unit, account string) bool {
	option := " --account " + quoteArg(account)
	return strings.Contains(unit, option+" ") || strings.Contains(unit, option+"\n")
}

// refuseForeign reports ErrForeign for a file that lacks our marker.
func refuseForeign(path string) error {
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read unit: %w", err)
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
	out, err := u.systemctl(ctx, "show", "--property=LoadState,User,Group,DynamicUser", "--", unit)
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
