package ocihook

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheBundleInARuntimesArguments(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"--root /r --log /l --log-format json create --bundle /b --pid-file /p ID": "/b",
		"--root /r --systemd-cgroup create --bundle=/b ID":                         "/b",
		"--root=/r create -b /b ID":                                                "/b",
		"run --bundle /b ID":                                                       "/b",
		"create ID":                                                                here,
		"--root create --log /l start ID":                                          "",
		"--root /r start create":                                                   "",
		"--root /r kill ID 9":                                                      "",
		"":                                                                         "",
		"--root":                                                                   "",
	} {
		got, ok, err := bundleOf(strings.Fields(line))
		if err != nil || ok != (want != "") || ok && got != want {
			t.Errorf("%q: %q, %v, %v; want %q", line, got, ok, err, want)
		}
	}
}

func TestTheWrapperEditsABundle(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.json")
	const config = `{"ociVersion":"1.0.2","process":{"user":{"uid":5},"env":["A=b"]},"linux":{"x":[1]},
"mounts":[{"destination":"/proc","type":"proc","source":"proc"},{"destination":"/run/gmsa","type":"bind","source":"/etc/gmsa/credentialspecs/contoso_webapp01.json"}],
"hooks":{"prestart":[{"path":"/libnetwork"}]}}`
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	w := Wrapper{Hook: "/usr/libexec/gmsa/gmsa-hook", Socket: "/run/gmsa/hook.sock"}
	if err := w.Prepare([]string{"create", "--bundle", dir, "ID"}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Process struct {
			User struct{ UID int }
			Env  []string
		}
		Linux  struct{ X []int }
		Mounts []mount
		Hooks  map[string][]struct{ Args []string }
	}
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Mounts) != 1 || got.Process.User.UID != 5 || got.Linux.X[0] != 1 || len(got.Hooks["prestart"]) != 1 {
		t.Errorf("what was there before: %s", b)
	}
	if args := strings.Join(got.Hooks["createRuntime"][0].Args, " "); args != "gmsa-hook createRuntime --socket /run/gmsa/hook.sock --spec contoso_webapp01" {
		t.Errorf("hook %s", args)
	}
	if env := strings.Join(got.Process.Env, " "); !strings.HasPrefix(env, "A=b KRB5CCNAME=FILE:/run/gmsa/") || len(got.Hooks["poststop"]) != 1 {
		t.Errorf("environment %s, hooks %v", env, got.Hooks)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// A container that does not say which identity it wants does not start.
func TestTheWrapperWantsOneCredentialSpec(t *testing.T) {
	for mounts, want := range map[string]string{
		``: "names no credential spec",
		`{"destination":"/tmp","source":"/a/x.json"}`: "names no credential spec",
		// What an image can bring: a volume.
		`{"destination":"/run/gmsa","source":"/var/lib/docker/volumes/x/_data"}`:                                   "mount at /run/gmsa",
		`{"destination":"/run/gmsa","source":"/a/x.json"},{"destination":"/run/gmsa/keytab","source":"/a/y.json"}`: "names two",
	} {
		err := Wrapper{}.edit(map[string]json.RawMessage{"mounts": json.RawMessage("[" + mounts + "]")})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", mounts, err, want)
		}
	}
	if err := (Wrapper{}).edit(map[string]json.RawMessage{}); !errors.Is(err, ErrUnnamed) {
		t.Error(err)
	}
}

// A default runtime leaves other containers as they are, but a service's config names a
// credential spec of this host, or fails the start.
func TestTheWrapperAsADefaultRuntime(t *testing.T) {
	dir := t.TempDir()
	bundle, file := filepath.Join(dir, "config.json"), filepath.Join(dir, "config")
	w := Wrapper{Hook: "/gmsa-hook", Optional: true, Same: func(name, path string) error {
		if name != "contoso_webapp01" || path != file {
			return errors.New("another")
		}
		return nil
	}}
	if err := os.WriteFile(file, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mount, want := range map[string]struct{ spec, fails string }{
		`{"destination":"/etc/hosts","source":"/h"}`:                                       {},
		`{"destination":"/run/gmsa/contoso_webapp01.json","source":"` + file + `"}`:        {spec: `"contoso_webapp01"`},
		`{"destination":"/run/gmsa/keytab/contoso_webapp01.json","source":"` + file + `"}`: {spec: `"contoso_webapp01:keytab"`},
		`{"destination":"/run/gmsa/contoso_webapp02.json","source":"` + file + `"}`:        {fails: "another"},
		`{"destination":"/run/gmsa/contoso_webapp01.json","source":"` + dir + `"}`:         {fails: "no config of a swarm"},
		`{"destination":"/run/gmsa/x","source":"` + file + `"}`:                            {fails: "extension"},
	} {
		text := `{"mounts":[` + mount + `]}`
		if err := os.WriteFile(bundle, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := w.Prepare([]string{"create", "--bundle", dir, "ID"})
		b, _ := os.ReadFile(bundle)
		switch {
		case want.fails != "":
			if err == nil || !strings.Contains(err.Error(), want.fails) {
				t.Errorf("%s: %v, want %q", mount, err, want.fails)
			}
		case err != nil, want.spec == "" && string(b) != text, !strings.Contains(string(b), want.spec):
			t.Errorf("%s: %v\n%s", mount, err, b)
		}
	}
}

// The engine shows what its runtime's log says.
func TestTheCauseIsInTheRuntimesLog(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log.json")
	args := []string{"--root", "/r", "--log", log, "--log-format", "json", "create", "--bundle", "/b", "ID"}
	if err := Report(args, ErrUnnamed); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(log)
	if err != nil || string(b) != `{"level":"error","msg":"the container names no credential spec"}`+"\n" {
		t.Errorf("%q, %v", b, err)
	}
	if err := Report([]string{"create", "ID"}, ErrUnnamed); err != nil {
		t.Errorf("without a log: %v", err)
	}
}
