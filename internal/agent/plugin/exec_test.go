//go:build unix

package plugin

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program registers a shell script as a plug-in, run as nobody where the test
// is root.
func program(t testing.TB, script string) *Registered {
	t.Helper()
	path := write(t, t.TempDir()+"/plugin", "#!/bin/sh\n"+script, 0o755)
	return command(t, path)
}

func command(t testing.TB, argv ...string) *Registered {
	t.Helper()
	user := strconv.Itoa(os.Geteuid())
	if user == "0" {
		user = "65534"
		opened(t, argv[0])
	}
	return registered(t, Config{Kind: Exec, Timeout: 5 * time.Second, Command: argv, User: user}, Host{})
}

// opened lets nobody reach a file below the test's directory.
func opened(t testing.TB, path string) {
	t.Helper()
	for dir := path; dir != "/" && dir != os.TempDir(); {
		dir = dir[:max(1, strings.LastIndexByte(dir, '/'))]
		if info, err := os.Stat(dir); err == nil && info.Mode()&0o011 == 0 {
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
}

const answer = `echo '{"version":1,"username":"u","password":"p:1","domainName":"contoso.com","more":[1]}'` + "\n"

func TestExecGetsTheRequestOnStandardInput(t *testing.T) {
	want := `{"version":1,"plugin":"test","pluginGuid":"` + testGUID + `","pluginInput":"a \"b\" c"}`
	p := program(t, `[ "$(cat)" = '`+want+`' ] || { echo "got another request" >&2; exit 1; }`+"\n"+answer)
	expect(t, p, `a "b" c`, "contoso.com|u|p:1")
}

func TestExecNeedNotReadTheRequest(t *testing.T) {
	expect(t, program(t, answer), strings.Repeat("x", 1<<20), "contoso.com|u|p:1")
}

func TestExecFailures(t *testing.T) {
	for name, c := range map[string]struct {
		script, says string
		event        error
	}{
		"an error of the contract": {`echo '{"version":1,"error":"no such \u0007 secret"}'`, "no such secret", ErrFetch},
		"an exit code":             {`echo "store is down" >&2; exit 3`, "exit status 3: store is down", ErrFetch},
		"no output":                {`exit 0`, "not one JSON object", ErrFetch},
		"two objects":              {answer + answer, "not one JSON object", ErrFetch},
		"another version":          {`echo '{"version":2,"username":"u","password":"s3cret"}'`, "in version 2 of the contract, want 1", ErrLoad},
		"no version":               {`echo '{"username":"u","password":"s3cret"}'`, "in version 0", ErrLoad},
		"a number as password":     {`echo '{"version":1,"username":"u","password":12345}'`, "not one JSON object", ErrFetch},
		"no password":              {`echo '{"version":1,"username":"u"}'`, "there is no password", ErrFetch},
		"endless output":           {`while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done`, "more output than the contract allows", ErrFetch},
		"endless errors":           {`i=0; while [ $i -lt 2000 ]; do echo xxxxxxxxxxxxxxxxx >&2; i=$((i+1)); done; exit 1`, "exit status 1: xxxx", ErrFetch},
		"killed":                   {`kill -9 $$`, "signal: killed", ErrFetch},
	} {
		t.Run(name, func(t *testing.T) {
			p := program(t, c.script+"\n")
			_, err := fetch(t, p, "")
			if !errors.Is(err, c.event) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("got error %v, want %q", err, c.says)
			}
			if len(err.Error()) > 600 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// TestExecIsKilledWithItsChildren starts a program that waits for a child, and
// looks whether the child is gone after the timeout.
func TestExecIsKilledWithItsChildren(t *testing.T) {
	path := write(t, t.TempDir()+"/plugin", "#!/bin/sh\nsleep 300 & echo $! >&2; wait\n", 0o755)
	p := command(t, path)
	p.timeout = 300 * time.Millisecond
	start := time.Now()
	_, err := fetch(t, p, "")
	if err == nil || !strings.Contains(err.Error(), "no answer within 300ms") {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %v", d)
	}
	_, text, _ := strings.Cut(err.Error(), "killed: ")
	text, _, _ = strings.Cut(text, " ")
	pid, perr := strconv.Atoi(text)
	if perr != nil {
		t.Fatalf("no pid in %q", err)
	}
	for range 100 {
		if stat, err := os.ReadFile("/proc/" + text + "/stat"); err == nil && strings.Contains(string(stat), ") Z ") {
			return // dead, and nobody reaps it here
		}
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("the child %d is alive", pid)
}

// TestExecRunsInACleanPlace lets the program report what it finds.
// security 10.
func TestExecRunsInACleanPlace(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	t.Setenv("GMSA_TEST_LEAK", "s3cret")
	// A descriptor without close-on-exec, as systemd hands them over.
	file, err := os.Open(write(t, t.TempDir()+"/descriptor-of-the-agent", "s3cret", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	leak, err := syscall.Dup(int(file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(leak)
	p := program(t, `
bad=
[ "$(pwd)" = / ] || bad="$bad cwd"
[ "$(env | grep -v -e ^PATH= -e ^LANG= -e ^PWD= -e ^SHLVL= -e ^_= | wc -l)" = 0 ] || bad="$bad env"
ls -l /proc/self/fd | grep -q descriptor-of-the-agent && bad="$bad descriptor"
ls -l /proc/self/fd | grep -q pipe || bad="$bad nopipe"
[ "$(cut -d' ' -f6 /proc/$$/stat)" = "$$" ] || bad="$bad session"
[ -z "$bad" ] || { echo "$bad" >&2; exit 1; }
printf '{"version":1,"username":"%s-%s","password":"p"}\n' "$(id -u)" "$(id -G)"
`)
	want := "|" + strconv.Itoa(os.Geteuid()) + "-"
	if os.Geteuid() == 0 {
		want = "|65534-65534|p"
	}
	got, err := fetch(t, p, "")
	if err != nil || !strings.HasPrefix(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestProgramsThatOthersCanWriteAreRefused(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"group": 0o775, "others": 0o757} {
		path := write(t, dir+"/"+name, "#!/bin/sh\n"+answer, mode)
		p := command(t, path)
		expect(t, p, "", "!hint: chmod go-w")
		if _, err := fetch(t, p, ""); !errors.Is(err, ErrLoad) {
			t.Errorf("%v is not an event 4", err)
		}
	}
	expect(t, command(t, write(t, dir+"/data", answer, 0o644)), "", "!not an executable file")
	expect(t, command(t, dir+"/absent"), "", "!no such file")
	expect(t, command(t, dir), "", "!not an executable file")
	if os.Geteuid() == 0 {
		path := write(t, dir+"/foreign", "#!/bin/sh\n"+answer, 0o755)
		if err := os.Chown(path, 65534, -1); err != nil {
			t.Fatal(err)
		}
		expect(t, command(t, path), "", "!owned by uid 65534")
	}
}

func TestUsersOfPrograms(t *testing.T) {
	path := write(t, t.TempDir()+"/plugin", "#!/bin/sh\n"+answer, 0o755)
	run := func(user string) *execPlugin {
		return &execPlugin{command: []string{path}, user: user}
	}
	if _, err := run("no-such-user-here").credential(); !errors.Is(err, ErrLoad) {
		t.Errorf("an unknown user: %v", err)
	}
	if os.Geteuid() != 0 {
		if c, err := run(strconv.Itoa(os.Geteuid())).credential(); c != nil || err != nil {
			t.Errorf("the agent's own user: %v, %v", c, err)
		}
		if _, err := run("0").credential(); !errors.Is(err, ErrLoad) {
			t.Errorf("another user without being root: %v", err)
		}
		return
	}
	for _, user := range []string{"0", "root"} {
		if _, err := run(user).credential(); !errors.Is(err, ErrLoad) {
			t.Errorf("user %q under root: %v", user, err)
		}
	}
	if c, err := run("nobody").credential(); err != nil || c.Uid == 0 || len(c.Groups) != 0 || c.NoSetGroups {
		t.Errorf("nobody: %+v, %v", c, err)
	}
}
