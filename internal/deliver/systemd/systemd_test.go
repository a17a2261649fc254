package systemd

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hostSystemd answers as systemctl does on a host with one unit. What systemd
// itself makes of a drop-in is proven on a booted systemd, in the test of the
// whole installation.
func hostSystemd(calls *[]string) func(context.Context, ...string) (string, error) {
	return func(_ context.Context, args ...string) (string, error) {
		*calls = append(*calls, strings.Join(args, " "))
		switch {
		case args[0] != "show":
			return "", nil
		case args[len(args)-1] == "dyn.service":
			return "LoadState=loaded\nUser=\nGroup=\nDynamicUser=yes\n", nil
		case args[len(args)-1] == "nginx.service":
			return "LoadState=loaded\nUser=www-data\nGroup=\n", nil
		}
		return "LoadState=not-found\nUser=\nGroup=\n", nil
	}
}

func TestFilesOfAServiceThatAcceptsConnections(t *testing.T) {
	s := Service{
		Unit: "nginx.service", Account: "webapp01", User: "www-data",
		Keytab: true, OnRotate: "reload nginx", Program: "/usr/bin/gmsa",
	}
	wantUnit := `# Written by gmsa account install; gmsa account uninstall removes it.
[Unit]
Description=Lease of a group managed service account for nginx.service
Wants=gmsa-agent.service
After=gmsa-agent.service
StopWhenUnneeded=yes

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/gmsa lease create --unit %n --account webapp01 --user www-data --on-rotate "reload nginx" --keytab
ExecStop=-/usr/bin/gmsa lease remove --unit %n
`
	if d := cmp.Diff(wantUnit, s.LeaseUnit()); d != "" {
		t.Error(d)
	}
	wantDropIn := `# Written by gmsa account install; gmsa account uninstall removes it.
[Unit]
Requires=gmsa-lease-%N.service
After=gmsa-lease-%N.service

[Service]
Environment=KRB5CCNAME=FILE:/run/gmsa/units/%n/..data/ccache
Environment=KRB5_CONFIG=/run/gmsa/units/%n/krb5.conf
Environment=KRB5_KTNAME=FILE:/run/gmsa/units/%n/keytab
Environment=KRB5_CLIENT_KTNAME=FILE:/run/gmsa/units/%n/client.keytab
`
	if d := cmp.Diff(wantDropIn, s.DropIn()); d != "" {
		t.Error(d)
	}
}

func TestADynamicUserReadsItsLeaseByAGroup(t *testing.T) {
	var calls []string
	u := Units{Dir: t.TempDir(), Systemctl: hostSystemd(&calls)}
	s := Service{Unit: "dyn.service", Account: "webapp01", Program: "/usr/bin/gmsa"}
	if _, err := u.Install(t.Context(), s); !errors.Is(err, ErrDynamicUser) {
		t.Errorf("without a group: %v", err)
	}
	s.Group = "webapp"
	written, err := u.Install(t.Context(), s)
	if err != nil || len(written) != 2 {
		t.Fatalf("%v, %v", written, err)
	}
	for i, want := range []string{"--group webapp --mode 0440", "SupplementaryGroups=webapp"} {
		if b, err := os.ReadFile(written[i]); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("no %q in %s: %v", want, b, err)
		}
	}
}

func TestQuotingKeepsSystemdFromExpanding(t *testing.T) {
	for in, want := range map[string]string{
		"webapp01$":  "webapp01$$",
		"100%":       "100%%",
		"a b":        `"a b"`,
		"":           `""`,
		"%n":         "%n",
		`say "hi"`:   `"say \"hi\""`,
		"/run/%n/cc": "/run/%n/cc",
	} {
		if got := quoteArg(in); got != want {
			t.Errorf("quoteArg(%q) = %s, want %s", in, got, want)
		}
	}
}

func TestParseUnit(t *testing.T) {
	for in, want := range map[string]string{
		"nginx": "nginx.service", "nginx.service": "nginx.service", "getty@tty1.service": "getty@tty1.service",
		"app@.service": "app@.service", "gmsa-lease-nginx.service": "",
		"../../etc/x": "", "nginx.timer": "", "": "", "a/b.service": "", "x\ny.service": "", strings.Repeat("a", 260) + ".service": "",
	} {
		got, err := ParseUnit(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("ParseUnit(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
}

func TestInstallThenUninstallLeavesNoTrace(t *testing.T) {
	var calls []string
	u := Units{Dir: t.TempDir(), Systemctl: hostSystemd(&calls)}
	d := Service{Unit: "nginx.service", Account: "webapp01", Program: "/usr/bin/gmsa"}
	for range 2 { // Installing again is safe.
		written, err := u.Install(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(written[0])
		if err != nil || !strings.Contains(string(b), "--user www-data") {
			t.Fatalf("the unit's own user is not in the lease unit: %s, %v", b, err)
		}
	}
	if got, err := u.Installed("webapp01"); err != nil || len(got) != 1 || got[0] != "nginx.service" {
		t.Errorf("Installed = %q, %v", got, err)
	}
	if got, _ := u.Installed("webapp0"); len(got) != 0 {
		t.Errorf("Installed(another account) = %q", got)
	}
	for range 2 {
		if err := u.Uninstall(t.Context(), "nginx.service"); err != nil {
			t.Fatal(err)
		}
	}
	left, err := os.ReadDir(u.Dir)
	if err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if last := calls[len(calls)-1]; last != "daemon-reload" {
		t.Errorf("systemd was not told: last call %q", last)
	}
}

func TestForeignDropInsAreLeftAlone(t *testing.T) {
	var calls []string
	u := Units{Dir: t.TempDir(), Systemctl: hostSystemd(&calls)}
	_, path := u.paths("nginx.service")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("[Service]\nNice=5\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := u.Install(t.Context(), Service{Unit: "nginx.service", Account: "a", Program: "/usr/bin/gmsa"}); !errors.Is(err, ErrForeign) {
		t.Errorf("install: %v", err)
	}
	if err := u.Uninstall(t.Context(), "nginx.service"); !errors.Is(err, ErrForeign) {
		t.Errorf("uninstall: %v", err)
	}
}

func TestInstallRefusesAUnitThatDoesNotExist(t *testing.T) {
	var calls []string
	u := Units{Dir: t.TempDir(), Systemctl: hostSystemd(&calls)}
	_, err := u.Install(t.Context(), Service{Unit: "nosuch.service", Account: "a", Program: "/usr/bin/gmsa"})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
	if left, _ := os.ReadDir(u.Dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
