//go:build unix

package cdi

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tags.cncf.io/container-device-interface/specs-go"
)

func testFile(t *testing.T) File {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the hook must be root's")
	}
	dir := t.TempDir()
	hook := filepath.Join(dir, "gmsa-hook")
	if err := os.WriteFile(hook, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	return File{Directory: filepath.Join(dir, "etc", "cdi"), Hook: hook, Socket: "/run/gmsa/hook.sock"}
}

func read(t *testing.T, f File) specs.Spec {
	t.Helper()
	b, err := os.ReadFile(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	var s specs.Spec
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDevicesArePublishedAndWithdrawn(t *testing.T) {
	f := testFile(t)
	if err := f.Write([]Device{{CredentialSpec: "contoso_webapp01"}, {CredentialSpec: "contoso_webapp01", Keytab: true}}); err != nil {
		t.Fatal(err)
	}
	s := read(t, f)
	if s.Kind != "gmsa.dev/credentialspec" || len(s.Devices) != 2 || s.Devices[0].Name != "contoso_webapp01" || s.Devices[1].Name != "contoso_webapp01:keytab" {
		t.Fatalf("published %+v", s)
	}
	// The library's own idea of which version has what a spec uses.
	if least, err := specs.MinimumRequiredVersion(&s); err != nil || strings.TrimPrefix(least, "v") > s.Version {
		t.Errorf("the spec says version %s and needs %s, %v", s.Version, least, err)
	}
	edits := s.Devices[1].ContainerEdits
	if got := strings.Join(edits.Hooks[0].Args, " "); got != "gmsa-hook createRuntime --socket /run/gmsa/hook.sock --spec contoso_webapp01:keytab" {
		t.Errorf("arguments %q", got)
	}
	for _, h := range edits.Hooks {
		if len(h.Env) == 0 || h.Timeout == nil || *h.Timeout > 10 {
			t.Errorf("hook %+v; want an environment of its own, and a timeout", h)
		}
	}
	if got := strings.Join(edits.Env, " "); !strings.Contains(got, "KRB5CCNAME=FILE:/run/gmsa/..data/ccache") {
		t.Errorf("environment %s", got)
	}
	if info, err := os.Stat(f.Path()); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("file: %v, %v", info, err)
	}
	if err := f.Write(nil); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(f.Directory); err != nil || len(left) != 0 {
		t.Errorf("after nothing is published: %v, %v", left, err)
	}
	if err := f.Write(nil); err != nil {
		t.Errorf("once more: %v", err)
	}
}

func TestTheSameDevicesAreNotWrittenAgain(t *testing.T) {
	f := testFile(t)
	devices := []Device{{CredentialSpec: "a"}}
	if err := f.Write(devices); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(f.Path())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Write(devices); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(f.Path()); err != nil || !os.SameFile(before, after) {
		t.Errorf("another file: %v", err)
	}
}

// security 7: engines run the hook as root.
func TestAHookThatOthersCanChangeIsNotPublished(t *testing.T) {
	f := testFile(t)
	for name, spoil := range map[string]func() error{
		"writable by all":              func() error { return os.Chmod(f.Hook, 0o777) },
		"somebody else's":              func() error { return os.Chown(f.Hook, 1000, 1000) },
		"in a directory others write":  func() error { return os.Chmod(filepath.Dir(f.Hook), 0o775) },
		"in somebody else's directory": func() error { return os.Chown(filepath.Dir(f.Hook), 1000, 0) },
		"a link":                       func() error { return os.Rename(f.Hook, f.Hook+"2") },
	} {
		t.Run(name, func(t *testing.T) {
			f = testFile(t)
			if err := f.Write([]Device{{CredentialSpec: "a"}}); err != nil {
				t.Fatal(err)
			}
			if err := spoil(); err != nil {
				t.Fatal(err)
			}
			if name == "a link" {
				if err := os.Symlink(f.Hook+"2", f.Hook); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Write([]Device{{CredentialSpec: "a"}}); err == nil {
				t.Error("published")
			}
			if _, err := os.Stat(f.Path()); err == nil {
				t.Error("the devices of before are still there")
			}
		})
	}
}
