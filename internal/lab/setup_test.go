package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// goDir is where setup.sh looks for Go besides PATH.
const goDir = "/usr/local/go/bin"

// TestSetUpSaysWhichGoItNeeds runs the set-up without Go and with old ones: it ends
// before it installs anything, and says what to do.
func TestSetUpSaysWhichGoItNeeds(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	needed := regexp.MustCompile(`(?m)^go ([0-9.]+)$`).FindSubmatch(mod)
	if needed == nil {
		t.Fatal("go.mod names no version of Go")
	}
	want := string(needed[1])
	for version, says := range map[string]string{
		"":           "this needs Go " + want + ", and there is none; ",
		"go1.9.7":    "is go1.9.7; ",
		"go1.25.12":  "is go1.25.12; ",
		"go1.26rc1":  "is go1.26; ",
		"go1.3 X:ab": "is go1.3; ",
	} {
		out, err := setUpWith(t, version)
		if e, ok := errors.AsType[*exec.ExitError](err); !ok || e.ExitCode() != 1 {
			t.Errorf("%q: %v", version, err)
		}
		if !strings.Contains(out, says) || !strings.Contains(out, "hint: unpack go"+want+" or newer from https://go.dev/dl/ to /usr/local/go") || strings.Count(out, "\n") != 1 {
			t.Errorf("%q: %s", version, out)
		}
	}
}

// setUpWith runs setup.sh where Go is of that version; empty means that there is none. In
// its PATH are the programs that it runs to look for Go, and no others.
func setUpWith(t *testing.T, version string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"bash", "dirname", "head", "sed", "sort"} {
		if err := os.Symlink(find(name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	argv := []string{find("bash"), "../../scripts/setup.sh"}
	if version != "" {
		// Without GOTOOLCHAIN=local a Go says what it would download.
		script := "#!" + find("sh") + "\n[ \"$GOTOOLCHAIN\" = local ] && echo '" + version + "' || echo go1.999\n"
		if err := os.WriteFile(filepath.Join(dir, "go"), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	} else if _, err := os.Stat(goDir); err == nil {
		Need(t, "root", "unshare", "mount")
		hide := `"$1" -t tmpfs none ` + goDir + ` && shift && exec "$@"`
		argv = append([]string{find("unshare"), "--mount", "--propagation", "private", find("sh"), "-c", hide, "sh", find("mount")}, argv...)
	}
	cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=" + dir}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
